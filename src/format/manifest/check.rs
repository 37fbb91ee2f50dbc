//! What must hold between a version and the one that is to follow it.
//!
//! Owns the predicate that is called right before each swing of the pointer. Does not own
//! conflicts (`table::apply`): what is found here is a defect of ours, and the swing must not
//! happen.
//!
//! Invariant: it reads both manifests and changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use super::entry::Totals;
use super::error::ManifestError;
use super::shape;
use super::tree::{Group, Leaf, Manifest};
use crate::format::ids::{ContentHash, SuperfileId, WalId};
use crate::format::state_doc::OpKind;

/// Why a manifest must not follow another one.
#[derive(Debug, thiserror::Error)]
pub enum InvariantViolation {
    /// The version is not one more than the current one's.
    #[error("version {proposed} cannot follow version {current}")]
    Version {
        /// The current version.
        current: u64,
        /// The version proposed.
        proposed: u64,
    },
    /// The parent is not the current manifest.
    #[error("the parent is {proposed:?}, not the current manifest {current:?}")]
    Parent {
        /// The current manifest's hash, if it is known.
        current: Option<ContentHash>,
        /// The parent that the proposal names.
        proposed: Option<ContentHash>,
    },
    /// The skip pointers do not lead where those of the current version and its root say.
    #[error("the skip pointers of version {version} do not follow from the version before")]
    Skips {
        /// The version proposed.
        version: u64,
    },
    /// The table is another one.
    #[error("the table's id changes")]
    TableId,
    /// Field ids would be given out twice.
    #[error("the next field id goes back from {current} to {proposed}")]
    FieldIds {
        /// The current one.
        current: i32,
        /// The one proposed.
        proposed: i32,
    },
    /// Physical names would be given out twice.
    #[error("a physical name is forgotten, or becomes another field's")]
    PhysicalNames,
    /// The version in which rows last changed goes back, or lies ahead.
    #[error(
        "rows last changed in version {proposed}, which is before version {current} or yet to come"
    )]
    RowsChangedAt {
        /// As the current version says.
        current: u64,
        /// As the proposed one says.
        proposed: u64,
    },
    /// The version that was last restored goes back, or lies ahead.
    #[error(
        "last restored in version {proposed}, which is before version {current} or yet to come"
    )]
    RestoredAt {
        /// As the current version says.
        current: u64,
        /// As the proposed one says.
        proposed: u64,
    },
    /// The totals are not the sums of the entries.
    #[error("the totals {recorded:?} are not the sums {actual:?}")]
    Totals {
        /// What the header says.
        recorded: Totals,
        /// What the entries add up to.
        actual: Totals,
    },
    /// A superfile's rows, size or row ids change, or its tombstones become fewer without a restore.
    #[error("superfile {superfile} changes in a way that an immutable file cannot")]
    Superfile {
        /// The superfile.
        superfile: SuperfileId,
    },
    /// A mutation would be committed a second time.
    #[error("mutation {wal_id} is committed twice")]
    CommittedTwice {
        /// The mutation.
        wal_id: WalId,
    },
    /// The records do not say that this version committed them.
    #[error("the record of mutation {wal_id} names version {recorded}")]
    RecordVersion {
        /// The mutation.
        wal_id: WalId,
        /// The version that its record names.
        recorded: u64,
    },
    /// The tree is malformed.
    #[error(transparent)]
    Tree(#[from] ManifestError),
}

/// Checks a table's first version.
///
/// # Errors
/// [`InvariantViolation`], the first one found.
pub(crate) fn check_first(proposed: &Manifest) -> Result<(), InvariantViolation> {
    if proposed.version() != 1 {
        return Err(InvariantViolation::Version {
            current: 0,
            proposed: proposed.version(),
        });
    }
    if proposed.header().parent.is_some() {
        return Err(InvariantViolation::Parent {
            current: None,
            proposed: proposed.header().parent,
        });
    }
    check_tree(proposed, &Shared::default())
}

/// Checks that `proposed` may follow `current`. To be called right before the pointer is swung.
///
/// Nodes that the two versions share are not looked into, so the cost follows the change.
///
/// # Errors
/// [`InvariantViolation`], the first one found.
pub fn check_successor(current: &Manifest, proposed: &Manifest) -> Result<(), InvariantViolation> {
    let (old, new) = (current.header(), proposed.header());
    if Some(new.version) != old.version.checked_add(1) {
        return Err(InvariantViolation::Version {
            current: old.version,
            proposed: new.version,
        });
    }
    if new.parent.is_none() || new.parent != current.hash() {
        return Err(InvariantViolation::Parent {
            current: current.hash(),
            proposed: new.parent,
        });
    }
    let skips = current.hash().and_then(|root| old.skips_after(root));
    if skips.as_ref() != Some(&new.skips) {
        return Err(InvariantViolation::Skips {
            version: new.version,
        });
    }
    if new.metadata.table_id != old.metadata.table_id {
        return Err(InvariantViolation::TableId);
    }
    if new.metadata.next_field_id < old.metadata.next_field_id {
        return Err(InvariantViolation::FieldIds {
            current: old.metadata.next_field_id,
            proposed: new.metadata.next_field_id,
        });
    }
    let same = Arc::ptr_eq(&old.metadata, &new.metadata);
    if !same && !new.metadata.remembers_names_of(&old.metadata) {
        return Err(InvariantViolation::PhysicalNames);
    }
    if !(old.rows_changed_at..=new.version).contains(&new.rows_changed_at) {
        return Err(InvariantViolation::RowsChangedAt {
            current: old.rows_changed_at,
            proposed: new.rows_changed_at,
        });
    }
    if !(old.restored_at..=new.version).contains(&new.restored_at) {
        return Err(InvariantViolation::RestoredAt {
            current: old.restored_at,
            proposed: new.restored_at,
        });
    }
    check_records(current, proposed)?;
    check_entries(current, proposed)?;
    check_tree(proposed, &Shared::of(current))
}

/// Each mutation is committed once, and recorded as of this version.
fn check_records(current: &Manifest, proposed: &Manifest) -> Result<(), InvariantViolation> {
    let (old, new) = (current.header(), proposed.header());
    let mut seen = HashSet::new();
    for record in &new.commits {
        let wal_id = record.wal_id;
        if record.version != new.version {
            return Err(InvariantViolation::RecordVersion {
                wal_id,
                recorded: record.version,
            });
        }
        if !seen.insert(wal_id) || old.commit_record(&wal_id).is_some() {
            return Err(InvariantViolation::CommittedTwice { wal_id });
        }
    }
    for record in &new.pending {
        // Kept, not made up: only what the version before recorded can be pending.
        if old.commit_record(&record.wal_id) != Some(record) || !seen.insert(record.wal_id) {
            return Err(InvariantViolation::CommittedTwice {
                wal_id: record.wal_id,
            });
        }
    }
    Ok(())
}

/// Superfiles that stay are the files they were.
fn check_entries(current: &Manifest, proposed: &Manifest) -> Result<(), InvariantViolation> {
    let shared = Shared::of(current);
    let restores = (proposed.header().commits.iter()).any(|c| c.op == OpKind::Restore);
    let changed = shared
        .new_groups(proposed)
        .flat_map(|g| shared.new_leaves(g))
        .flat_map(|leaf| leaf.entries());
    for new in changed {
        shape::check_entry(new)?;
        let Some(old) = current.get(&new.id) else {
            continue;
        };
        let same_file = old.rows == new.rows
            && old.size == new.size
            && old.row_ids == new.row_ids
            && old.created_at_ms == new.created_at_ms
            && old.in_place == new.in_place;
        if !same_file
            || new.added_at < old.added_at
            || (new.deleted_rows() < old.deleted_rows() && !restores)
        {
            return Err(InvariantViolation::Superfile { superfile: new.id });
        }
    }
    Ok(())
}

/// The nodes of a version that has been checked, which need no second look.
#[derive(Default)]
struct Shared {
    groups: HashSet<*const Group>,
    leaves: HashSet<*const Leaf>,
}

impl Shared {
    fn of(manifest: &Manifest) -> Self {
        Self {
            groups: manifest.groups().iter().map(Arc::as_ptr).collect(),
            leaves: manifest
                .groups()
                .iter()
                .flat_map(|g| g.leaves())
                .map(Arc::as_ptr)
                .collect(),
        }
    }

    fn new_groups<'m>(&self, manifest: &'m Manifest) -> impl Iterator<Item = &'m Arc<Group>> {
        let is_new = |g: &&Arc<Group>| !self.groups.contains(&Arc::as_ptr(g));
        manifest.groups().iter().filter(is_new)
    }

    fn new_leaves<'m>(&self, group: &'m Group) -> impl Iterator<Item = &'m Arc<Leaf>> {
        let is_new = |l: &&Arc<Leaf>| !self.leaves.contains(&Arc::as_ptr(l));
        group.leaves().iter().filter(is_new)
    }
}

/// The tree is sorted and its totals add up, at each level.
fn check_tree(proposed: &Manifest, shared: &Shared) -> Result<(), InvariantViolation> {
    let check = |recorded: Totals, parts: &mut dyn Iterator<Item = Totals>| {
        let actual = Totals::sum(parts).ok_or(ManifestError::TotalsOverflow)?;
        if recorded == actual {
            Ok(())
        } else {
            Err(InvariantViolation::Totals { recorded, actual })
        }
    };
    // Within a shared node the order is known; its two ends must fit between its neighbours.
    shape::check_order(proposed.groups().iter().flat_map(|g| ends(g)))?;
    for group in shared.new_groups(proposed) {
        shape::check_order(group.leaves().iter().flat_map(|l| leaf_ends(l)))?;
        for leaf in shared.new_leaves(group) {
            shape::check_order(leaf.entries().iter().map(|e| e.id))?;
            check(
                leaf.totals(),
                &mut leaf.entries().iter().map(|e| Totals::of(e)),
            )?;
        }
        check(
            group.totals(),
            &mut group.leaves().iter().map(|l| l.totals()),
        )?;
    }
    check(
        proposed.totals(),
        &mut proposed.groups().iter().map(|g| g.totals()),
    )
}

/// The first and the last id, if they differ.
fn ends(group: &Group) -> impl Iterator<Item = SuperfileId> {
    let first = group.leaves().first().map(|l| l.first());
    let last = group
        .leaves()
        .last()
        .and_then(|l| l.entries().last())
        .map(|e| e.id);
    first.into_iter().chain(last.filter(|l| Some(*l) != first))
}

/// The first and the last id, if they differ.
fn leaf_ends(leaf: &Leaf) -> impl Iterator<Item = SuperfileId> {
    let first = leaf.entries().first().map(|e| e.id);
    let last = leaf.entries().last().map(|e| e.id);
    first.into_iter().chain(last.filter(|l| Some(*l) != first))
}
