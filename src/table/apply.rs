//! `apply`: a manifest and change sets become the next manifest, or conflicts. The whole decision
//! of a commit, as a function without I/O, clock or randomness.
//!
//! Owns what each statement means against a version that it did not read. Does not own fetching
//! the bitmaps it needs ([`needed_sidecars`] names them), uploading, or swinging the pointer.
//!
//! # What counts as a conflict
//!
//! First committer wins, row by row. *Base* is the version that the statement read; the *sidecar
//! in force* is the one of the manifest that is applied to (or what earlier change sets of the
//! same call made of it).
//!
//! | the change set | and since its base | result |
//! | --- | --- | --- |
//! | adds superfiles | other rows came or went | added |
//! | adds superfiles | the schema changed, or a key was declared | conflict: its rows have the old schema, or may break the key |
//! | DELETE, TRUNCATE remove rows | other rows of the superfile went | the tombstones are united |
//! | same | some of its rows were *deleted* | those drop out of the count |
//! | same | some of its rows were *changed* (moved) | conflict |
//! | same | the superfile is gone, and nothing moved in the table | its rows drop out of the count |
//! | same | the superfile is gone, and something moved | conflict: its rows may live on elsewhere |
//! | UPDATE, MERGE, and whatever else removes and adds rows | other rows of the superfile went | the tombstones are united |
//! | same | any of its target rows, or its superfile, is gone | conflict |
//! | COMPACT | rows of a source were deleted or changed | carried over: they are deleted where it put them |
//! | same | a source is gone, and nothing moved in the table | all its rows are carried over so |
//! | same | a source is gone, and something moved | conflict: another one copied its rows too |
//! | same | a source has rows back that the compaction did not copy | conflict |
//! | same, if it does not say where it put the rows | anything happened to a source | conflict |
//! | OVERWRITE | anything moved, or another OVERWRITE committed | conflict |
//! | changes the metadata | the metadata changed | conflict |
//! | adds a `NOT NULL` column without a value for old rows | anything was committed | conflict |
//! | makes a column `NOT NULL`, or declares a key, without having read the rows (it is not serializable) | same | conflict |
//! | removes rows | the table was restored | conflict, because what conflicts must do so for ever |
//! | adds files of others | the table was restored | conflict: they may be in the version that came back |
//! | RESTORE | anything at all was committed | conflict: it says what the table is, not what changes |
//! | any, behind a RESTORE in one call | | conflict, and judged again against the restored version |
//! | found keys absent (a MERGE that inserts; whatever adds rows to a table with declared keys) | rows came that may have one of them, other than by COMPACT | conflict |
//! | same | superfiles were dropped that had such rows, or the table was restored | conflict |
//! | is serializable, whatever else it does | any row of the table changed, other than by COMPACT | conflict |
//!
//! "Moved": a change set that removes rows and adds some may have copied what it removed. Its
//! tombstones do not prove that a row is gone, only that it is no longer *there*. A DELETE that
//! let such a row drop out would leave the row's new version alive, although in whichever order
//! one thinks the two statements, the row should be deleted. `moved_at` of superfile and table
//! keep the last version in which that happened, so only statements whose base is older are
//! affected. The price: a DELETE also runs again when an UPDATE touched *other* rows of a
//! superfile in which a DELETE removed one of its targets meanwhile. It is right all the same.
//!
//! A superfile all of whose rows are deleted leaves the manifest, or does not come in.
//!
//! A compaction asks nothing of the rows it copied, since it changes none: whatever took a row out of its
//! source (a DELETE, or an UPDATE whose new version is elsewhere) takes the copy out too.
//!
//! A RESTORE is the one change set that takes tombstones back. All superfiles that it touches, and the
//! table, are marked as moved in its version: what is deleted there may live elsewhere, or again.
//!
//! # Invariant
//!
//! The rows of the new version are the rows of the old one, without those that committed change
//! sets removed and with those they added; each committed change set is applied whole or not at
//! all; the same input gives the same output.

mod absence;
mod carry;
pub(crate) mod conflict;
mod next;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;

use self::conflict::Conflict;
use self::next::{Judgement, Next, finish};
use crate::error::{Error, ErrorKind};
use crate::format::change_set::ChangeSet;
use crate::format::ids::{ContentHash, IdBlock, SidecarId, SuperfileId, WalId};
use crate::format::manifest::{CommitRecord, EditError, Manifest, TombstoneRef, shorten_statement};
use crate::format::paths;
use crate::format::tombstones::SidecarCodecError;

/// What `apply` needs to know beside its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApplyContext<'a> {
    /// The time, for the header: milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Mutations whose documents are known to be gone: their records are no longer kept pending.
    pub gone_wal_ids: &'a [WalId],
    /// Where the ids of new sidecars come from. Each call needs a block of its own: an id that an earlier call used may
    /// be in the store, with other bytes, and the first bytes stand.
    pub fresh: IdBlock,
}

/// What became of one change set.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the new version, as recorded.
    Committed(CommitRecord),
    /// An earlier version committed it.
    AlreadyCommitted(CommitRecord),
    /// It can never be committed.
    Conflict(Conflict),
    /// Every row it removes is gone already and it adds none: done, without a commit.
    NothingLeft,
    /// It was made from a later version than this manifest: read the pointer again. Nothing can
    /// be said about it here.
    AheadOfManifest,
}

/// The result of [`apply`].
#[derive(Debug)]
pub(crate) struct Applied {
    /// The next version; `None` if no change set is in it.
    pub manifest: Option<Manifest>,
    /// Sidecars to upload before the pointer names the manifest: unions that no statement staged, each
    /// with the superfile whose rows it deletes.
    pub sidecars: Vec<(TombstoneRef, SuperfileId, Bytes)>,
    /// What became of each change set, in the order given.
    pub outcomes: Vec<(WalId, Outcome)>,
}

/// Why `apply` cannot judge at all. Never a conflict: something stored is wrong, or the caller is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A sidecar that [`needed_sidecars`] names was not given.
    #[error("the sidecar {sidecar} of superfile {superfile} is needed but was not loaded")]
    MissingSidecar {
        /// The superfile.
        superfile: SuperfileId,
        /// Its sidecar in force.
        sidecar: SidecarId,
    },
    /// A sidecar has not the number of positions that the manifest says.
    #[error(
        "the sidecar {sidecar} of superfile {superfile} has {actual} positions, the manifest says {recorded}"
    )]
    WrongSidecar {
        /// The superfile.
        superfile: SuperfileId,
        /// Its sidecar in force.
        sidecar: SidecarId,
        /// The manifest's number.
        recorded: u64,
        /// The sidecar's number.
        actual: u64,
    },
    /// A change set contradicts the manifest it was made from.
    #[error("the change set of mutation {wal_id} contradicts the manifest: {what} ({superfile:?})")]
    Inconsistent {
        /// The mutation.
        wal_id: WalId,
        /// The superfile, if it is about one.
        superfile: Option<SuperfileId>,
        /// What is wrong.
        what: &'static str,
    },
    /// The block of fresh ids is used up.
    #[error("no fresh ids are left")]
    OutOfIds,
    /// A sidecar cannot be encoded.
    #[error(transparent)]
    Sidecar(#[from] SidecarCodecError),
    /// The new manifest cannot be made.
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl From<ApplyError> for Error {
    fn from(error: ApplyError) -> Self {
        let (kind, subject) = match &error {
            ApplyError::MissingSidecar { sidecar, .. }
            | ApplyError::WrongSidecar { sidecar, .. } => {
                (ErrorKind::Corrupt, paths::sidecar(sidecar))
            }
            ApplyError::Inconsistent { wal_id, .. } => {
                (ErrorKind::Corrupt, paths::wal_arrow(wal_id))
            }
            ApplyError::OutOfIds => (ErrorKind::Unsupported, paths::superfile_prefix()),
            ApplyError::Sidecar(_) | ApplyError::Edit(_) => (ErrorKind::Corrupt, paths::pointer()),
        };
        Error::new(kind, subject.as_ref(), "the commit cannot be judged").with_source(error)
    }
}

/// The sidecars in force whose bitmaps [`apply`] must be given to judge `change_sets`: those of superfiles that a statement
/// else changed since, or that two of them change. Otherwise the staged unions are used unread.
pub(crate) fn needed_sidecars(
    manifest: &Manifest,
    change_sets: &[&ChangeSet],
) -> Vec<(SuperfileId, TombstoneRef)> {
    let mut touched = HashSet::new();
    let mut needed = BTreeMap::new();
    for (superfile, base) in change_sets.iter().flat_map(|cs| judged_by_rows(cs)) {
        let first_touch = touched.insert(superfile);
        let Some(in_force) = manifest.get(&superfile).and_then(|entry| entry.tombstones) else {
            continue;
        };
        if !first_touch || base != Some(in_force.sidecar) {
            needed.insert(superfile, in_force);
        }
    }
    needed.into_iter().collect()
}

/// The superfiles of whose rows a change set tells, each with its sidecar at the base.
pub(super) fn judged_by_rows(
    change_set: &ChangeSet,
) -> impl Iterator<Item = (SuperfileId, Option<SidecarId>)> {
    let tombstones = change_set.tombstone.iter().map(|c| (c.superfile, c.base));
    let moved = change_set.drop.iter().filter(|c| c.moved.is_some());
    tombstones.chain(moved.map(|c| (c.superfile, c.base)))
}

/// Applies `changes` in order to `manifest` (whose root hashes to `manifest_hash`), in one new
/// version. A later change set sees the effect of the earlier ones.
///
/// `current` holds the bitmaps that [`needed_sidecars`] asks for; more do no harm.
///
/// # Errors
/// [`ApplyError`] when a change set or sidecar contradicts the manifest; nothing is decided then.
/// [`ApplyError::Inconsistent`] names the mutation, so that the others can be applied without it.
pub(crate) fn apply(
    manifest: &Manifest,
    manifest_hash: &ContentHash,
    changes: &[(WalId, &ChangeSet)],
    current: &HashMap<SidecarId, Arc<RoaringBitmap>>,
    ctx: ApplyContext<'_>,
) -> Result<Applied, ApplyError> {
    let mut next = Next::new(manifest, current);
    let mut commits: Vec<CommitRecord> = Vec::new();
    let mut outcomes = Vec::with_capacity(changes.len());
    for (wal_id, change_set) in changes {
        let known = commits
            .iter()
            .find(|record| record.wal_id == *wal_id)
            .or_else(|| manifest.header().commit_record(wal_id));
        let outcome = if let Some(record) = known {
            Outcome::AlreadyCommitted(record.clone())
        } else if change_set.base_version > manifest.version() {
            Outcome::AheadOfManifest
        } else {
            match next.judge(*wal_id, change_set)? {
                Judgement::Conflict(conflict) => Outcome::Conflict(conflict),
                Judgement::Effect(effect) if effect.is_empty() => Outcome::NothingLeft,
                Judgement::Effect(effect) => {
                    let record = record(*wal_id, change_set, next.version, effect.lost);
                    next.take(change_set, effect);
                    commits.push(record.clone());
                    Outcome::Committed(record)
                }
            }
        };
        outcomes.push((*wal_id, outcome));
    }
    if commits.is_empty() {
        return Ok(Applied {
            manifest: None,
            sidecars: Vec::new(),
            outcomes,
        });
    }
    finish(next, manifest_hash, commits, outcomes, ctx)
}

/// The record of a change set that is committed although `lost` of its rows were gone.
fn record(wal_id: WalId, change_set: &ChangeSet, version: u64, lost: u64) -> CommitRecord {
    CommitRecord {
        wal_id,
        op: change_set.op,
        version,
        rows_inserted: change_set.rows_inserted,
        rows_deleted: change_set.rows_deleted.saturating_sub(lost),
        rows_updated: change_set.rows_updated,
        statement: shorten_statement(&change_set.statement),
        started_at_ms: change_set.started_at_ms,
    }
}
