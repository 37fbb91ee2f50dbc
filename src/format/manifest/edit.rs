//! Editing a manifest: a new tree that shares every node the edit does not touch.
//!
//! Owns how leaves and groups fill, split and merge. Does not own what an edit is for
//! (`table::apply`).
//!
//! | after the edit a leaf has | it becomes |
//! | --- | --- |
//! | no entries | nothing |
//! | more than 64, and is the last of the tree | full leaves of 64, and a last one with the rest |
//! | more than 64 elsewhere | as few leaves as it takes, evenly filled |
//! | fewer than 16, and a neighbour in its group leaves the two at 48 or fewer | one leaf with it |
//!
//! The same holds for groups and their leaves. So appends leave full nodes behind, and a table
//! from which most superfiles were dropped does not keep a tree of crumbs.
//!
//! Invariant: the result is either a valid tree that differs from the old one by exactly the
//! edit, or an error; the old tree is never changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use uuid::Uuid;

use super::entry::{MAX_ENTRIES_PER_LEAF, MAX_LEAVES_PER_GROUP, SuperfileEntry, TombstoneRef};
use super::error::{EditError, ManifestError};
use super::header::ManifestHeader;
use super::shape;
use super::tree::{Group, Leaf, Manifest};
use crate::format::ids::SuperfileId;

/// Nodes with fewer children than this look for a neighbour to join.
const MIN_FILL: usize = 16;
/// Two nodes are joined only when the result has room left.
const MAX_JOINED: usize = 48;

/// New tombstones for one superfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TombstoneUpdate {
    /// The superfile.
    pub superfile: SuperfileId,
    /// The sidecar that is in force from now on.
    pub tombstones: TombstoneRef,
    /// See [`SuperfileEntry::moved_at`].
    pub moved_at: u64,
}

/// What is to change from one version to the next. No superfile may be named twice.
#[derive(Clone, Debug, Default)]
pub struct ManifestEdit {
    /// Superfiles to add.
    pub add: Vec<SuperfileEntry>,
    /// Superfiles of the manifest whose entries become these.
    pub replace: Vec<SuperfileEntry>,
    /// Superfiles to give other tombstones.
    pub set_tombstones: Vec<TombstoneUpdate>,
    /// Superfiles to drop.
    pub drop: Vec<SuperfileId>,
    /// Sets the names of new nodes apart from those of any other edit; nil: equal nodes are named alike.
    pub salt: Uuid,
}

impl ManifestEdit {
    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty()
            && self.replace.is_empty()
            && self.set_tombstones.is_empty()
            && self.drop.is_empty()
    }

    /// The version that follows from `manifest` by this edit, with `header` (whose totals are
    /// computed).
    ///
    /// # Errors
    /// [`EditError`] when the edit contradicts the manifest; nothing is changed then.
    pub fn apply(self, manifest: &Manifest, header: ManifestHeader) -> Result<Manifest, EditError> {
        let salt = self.salt;
        let changes = collect(self)?;
        let parts = route(&changes, manifest.groups(), |g| g.first())?;
        let mut groups = Vec::with_capacity(manifest.groups().len() + 1);
        let mut touched = Vec::new();
        let last = parts.len().saturating_sub(1);
        for (i, (group, changes)) in parts.into_iter().enumerate() {
            match group {
                Some(group) if changes.is_empty() => {
                    groups.push(Arc::clone(group));
                    touched.push(false);
                }
                _ => {
                    let leaves = edit_group(group.map(Arc::as_ref), changes, i == last, salt)?;
                    for chunk in split(leaves, MAX_LEAVES_PER_GROUP, i == last) {
                        if let Some(group) = Group::new(chunk, salt)? {
                            groups.push(group);
                            touched.push(true);
                        }
                    }
                }
            }
        }
        let groups = join_small(
            groups,
            touched,
            |g| g.leaves(),
            |leaves| Group::new(leaves, salt),
        )?;
        Ok(Manifest::new(header, groups, salt)?)
    }
}

/// One change of one entry.
enum Change {
    Add(Arc<SuperfileEntry>),
    Replace(Arc<SuperfileEntry>),
    Tombstones(TombstoneUpdate),
    Drop,
}

type Changes = [(SuperfileId, Change)];
/// A node, if there is one yet, and the changes that fall into its range.
type Part<'n, 'a, T> = (Option<&'n Arc<T>>, &'a Changes);

/// The changes by ascending id, each valid on its own.
fn collect(edit: ManifestEdit) -> Result<Vec<(SuperfileId, Change)>, EditError> {
    let mut changes = BTreeMap::new();
    let mut insert = |id, change, twice: fn(SuperfileId) -> EditError| match changes.entry(id) {
        Entry::Vacant(slot) => {
            slot.insert(change);
            Ok(())
        }
        Entry::Occupied(_) => Err(twice(id)),
    };
    for entry in edit.add {
        shape::check_entry(&entry)?;
        let id = entry.id;
        insert(id, Change::Add(Arc::new(entry)), |superfile| {
            EditError::AlreadyThere { superfile }
        })?;
    }
    for entry in edit.replace {
        shape::check_entry(&entry)?;
        let id = entry.id;
        insert(id, Change::Replace(Arc::new(entry)), |superfile| {
            EditError::NamedTwice { superfile }
        })?;
    }
    for update in edit.set_tombstones {
        insert(update.superfile, Change::Tombstones(update), |superfile| {
            EditError::NamedTwice { superfile }
        })?;
    }
    for id in edit.drop {
        insert(id, Change::Drop, |superfile| EditError::NamedTwice {
            superfile,
        })?;
    }
    Ok(changes.into_iter().collect())
}

/// Gives each node the changes that fall into its range. The first node's range begins at the
/// smallest id; without any node, all changes go to one that is yet to be made.
fn route<'a, 'n, T>(
    changes: &'a Changes,
    nodes: &'n [Arc<T>],
    first: impl Fn(&T) -> SuperfileId,
) -> Result<Vec<Part<'n, 'a, T>>, EditError> {
    if nodes.is_empty() {
        return Ok(vec![(None, changes)]);
    }
    let mut rest = changes;
    let mut parts = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let until = match nodes.get(i + 1) {
            Some(next) => {
                let bound = first(next);
                rest.partition_point(|(id, _)| *id < bound)
            }
            None => rest.len(),
        };
        let (mine, others) = rest.split_at_checked(until).unwrap_or((rest, &[]));
        parts.push((Some(node), mine));
        rest = others;
    }
    Ok(parts)
}

/// The leaves of a group after `changes`.
fn edit_group(
    group: Option<&Group>,
    changes: &Changes,
    is_last: bool,
    salt: Uuid,
) -> Result<Vec<Arc<Leaf>>, EditError> {
    let parts = route(changes, group.map_or(&[], Group::leaves), |l| l.first())?;
    let mut leaves = Vec::with_capacity(parts.len() + 1);
    let mut touched = Vec::new();
    let last = parts.len().saturating_sub(1);
    for (i, (leaf, changes)) in parts.into_iter().enumerate() {
        match leaf {
            Some(leaf) if changes.is_empty() => {
                leaves.push(Arc::clone(leaf));
                touched.push(false);
            }
            _ => {
                let entries = edit_entries(leaf.map_or(&[], |l| l.entries()), changes)?;
                for chunk in split(entries, MAX_ENTRIES_PER_LEAF, is_last && i == last) {
                    if let Some(leaf) = Leaf::new(chunk, salt)? {
                        leaves.push(leaf);
                        touched.push(true);
                    }
                }
            }
        }
    }
    Ok(join_small(
        leaves,
        touched,
        |l| l.entries(),
        |entries| Leaf::new(entries, salt),
    )?)
}

/// The entries of a leaf after `changes`: a merge of two ascending sequences.
fn edit_entries(
    entries: &[Arc<SuperfileEntry>],
    changes: &Changes,
) -> Result<Vec<Arc<SuperfileEntry>>, EditError> {
    let mut out = Vec::with_capacity(entries.len() + changes.len());
    let mut entries = entries.iter().peekable();
    for (id, change) in changes {
        while let Some(entry) = entries.next_if(|e| e.id < *id) {
            out.push(Arc::clone(entry));
        }
        let existing = entries.next_if(|e| e.id == *id);
        match (change, existing) {
            (Change::Add(entry), None) => out.push(Arc::clone(entry)),
            (Change::Add(_), Some(_)) => {
                return Err(EditError::AlreadyThere { superfile: *id });
            }
            (_, None) => return Err(EditError::NotThere { superfile: *id }),
            (Change::Drop, Some(_)) => {}
            (Change::Replace(entry), Some(_)) => out.push(Arc::clone(entry)),
            (Change::Tombstones(update), Some(entry)) => {
                let entry = SuperfileEntry {
                    tombstones: Some(update.tombstones),
                    moved_at: update.moved_at,
                    delete_count: entry.delete_count.saturating_add(1),
                    ..entry.as_ref().clone()
                };
                shape::check_entry(&entry)?;
                out.push(Arc::new(entry));
            }
        }
    }
    out.extend(entries.cloned());
    Ok(out)
}

/// `items` in chunks of at most `max`: filled one after the other if `appending`, else evenly.
fn split<T>(items: Vec<T>, max: usize, appending: bool) -> Vec<Vec<T>> {
    let len = items.len();
    let size = if appending || len <= max {
        max
    } else {
        len.div_ceil(len.div_ceil(max))
    };
    let mut chunks = Vec::with_capacity(len.div_ceil(size));
    let mut items = items.into_iter();
    loop {
        let chunk: Vec<T> = items.by_ref().take(size).collect();
        if chunk.is_empty() {
            return chunks;
        }
        chunks.push(chunk);
    }
}

/// Joins each touched node of few children with the node before or after it, if the two leave
/// room together.
fn join_small<N, C: Clone>(
    nodes: Vec<Arc<N>>,
    touched: Vec<bool>,
    children: impl Fn(&N) -> &[C],
    make: impl Fn(Vec<C>) -> Result<Option<Arc<N>>, ManifestError>,
) -> Result<Vec<Arc<N>>, ManifestError> {
    let mut out: Vec<(Arc<N>, bool)> = Vec::with_capacity(nodes.len());
    for (node, touched) in nodes.into_iter().zip(touched) {
        let len = children(&node).len();
        if let Some((previous, previous_touched)) = out.last_mut() {
            let previous_len = children(previous).len();
            let small =
                (touched && len < MIN_FILL) || (*previous_touched && previous_len < MIN_FILL);
            if small && previous_len + len <= MAX_JOINED {
                let joined = [children(previous), children(&node)].concat();
                if let Some(joined) = make(joined)? {
                    *previous = joined;
                    *previous_touched = true;
                }
                continue;
            }
        }
        out.push((node, touched));
    }
    Ok(out.into_iter().map(|(node, _)| node).collect())
}
