//! What a version says of itself and of the table, apart from its superfiles.
//!
//! Owns these values. Does not own their encoding (`wire`).
//!
//! Invariant: none of its own; [`super::check`] states what must hold between versions.

use std::sync::Arc;

use super::entry::Totals;
use super::metadata::TableMetadata;
use super::skips::skip_versions;
use crate::format::ids::{ContentHash, WalId};
use crate::format::keys::{AddedKeys, DroppedRows};
use crate::format::state_doc::OpKind;

/// The most bytes of a statement's text that a commit record keeps.
pub(crate) const MAX_STATEMENT_LEN: usize = 1024;

/// One mutation that a version committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRecord {
    /// The mutation.
    pub wal_id: WalId,
    /// What kind of statement it was.
    pub op: OpKind,
    /// The version that committed it.
    pub version: u64,
    /// Rows that came in.
    pub rows_inserted: u64,
    /// Rows that went.
    pub rows_deleted: u64,
    /// Rows that changed.
    pub rows_updated: u64,
    /// The statement's text, at most [`MAX_STATEMENT_LEN`] bytes of it.
    pub statement: String,
    /// When the statement began, by its process's clock: milliseconds since the Unix epoch.
    pub started_at_ms: i64,
}

impl CommitRecord {
    /// The count that the statement reports to its caller.
    pub fn rows_affected(&self) -> u64 {
        match self.op {
            // The rows that went are not what the statement is about.
            OpKind::Overwrite => self.rows_inserted,
            // Rows moved; none changed.
            OpKind::Compact => 0,
            _ => self
                .rows_inserted
                .saturating_add(self.rows_deleted)
                .saturating_add(self.rows_updated),
        }
    }
}

/// What a version says of itself and of the table, apart from its superfiles.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestHeader {
    /// The version, from 1, one more in each commit.
    pub version: u64,
    /// The root of the version before; `None` in version 1 only.
    pub parent: Option<ContentHash>,
    /// The roots of the versions that [`skip_versions`] names.
    pub skips: Vec<ContentHash>,
    /// When the version was made, by its committer's clock: milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// The table's metadata.
    pub metadata: Arc<TableMetadata>,
    /// The version in which the metadata last changed.
    pub metadata_changed_at: u64,
    /// The version in which the schema last changed.
    pub schema_changed_at: u64,
    /// The last version in which rows moved: a change set removed rows and added some. 0: never.
    /// As long as nothing moved since a statement's base, a superfile that is gone held only rows
    /// that are gone.
    pub moved_at: u64,
    /// The last version in which the table's rows changed: any came, went or changed, other than by
    /// being moved to other superfiles in a compaction.
    pub rows_changed_at: u64,
    /// The last version that a RESTORE made. 0: never. What conflicts must conflict for ever, but a
    /// restore brings back rows that a statement of an older base lost: so no such statement that
    /// removes rows is committed after it.
    pub restored_at: u64,
    /// What is known of the rows of dropped superfiles, those with the youngest rows last. A key that came and went since
    /// a statement's base must go on to conflict with that statement.
    pub dropped: Vec<DroppedRows>,
    /// Keys that versions have added lately, the youngest last: as much as is worth keeping.
    pub added_keys: Vec<Arc<AddedKeys>>,
    /// The mutations that this version committed.
    pub commits: Vec<CommitRecord>,
    /// Mutations of earlier versions whose WAL documents are not yet known to be gone.
    pub pending: Vec<CommitRecord>,
    /// Sums over the version's superfiles. Set by the tree; what is given is not looked at.
    pub totals: Totals,
}

impl ManifestHeader {
    /// The header of a new table's first version.
    pub fn first(metadata: Arc<TableMetadata>, created_at_ms: i64) -> Self {
        Self {
            version: 1,
            parent: None,
            skips: Vec::new(),
            created_at_ms,
            metadata,
            metadata_changed_at: 1,
            schema_changed_at: 1,
            moved_at: 0,
            rows_changed_at: 1,
            restored_at: 0,
            dropped: Vec::new(),
            added_keys: Vec::new(),
            commits: Vec::new(),
            pending: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// The record of a mutation in `commits` or `pending`.
    pub fn commit_record(&self, wal_id: &WalId) -> Option<&CommitRecord> {
        self.commits
            .iter()
            .chain(&self.pending)
            .find(|record| record.wal_id == *wal_id)
    }

    /// The skip pointers of the version after this one, whose root is `root`. `None` if its own are not what its
    /// number says.
    pub fn skips_after(&self, root: ContentHash) -> Option<Vec<ContentHash>> {
        if self.skips.len() != skip_versions(self.version).count() {
            return None;
        }
        skip_versions(self.version.checked_add(1)?)
            .enumerate()
            .map(|(i, version)| match version == self.version {
                true => Some(root),
                false => self.skips.get(i).copied(),
            })
            .collect()
    }

    /// The older versions that this one names, with their roots: the oldest first, its parent last.
    pub fn ancestors(&self) -> Vec<(u64, ContentHash)> {
        let skips = skip_versions(self.version).zip(self.skips.iter().copied());
        let mut ancestors: Vec<_> = skips.collect();
        ancestors.reverse();
        let parent = self
            .parent
            .map(|root| (self.version.saturating_sub(1), root));
        ancestors.extend(parent);
        ancestors.dedup_by_key(|(version, _)| *version);
        ancestors
    }
}

/// At most [`MAX_STATEMENT_LEN`] bytes of a statement's text, cut between characters.
pub(crate) fn shorten_statement(statement: &str) -> String {
    let mut end = statement.len().min(MAX_STATEMENT_LEN);
    while !statement.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    statement.get(..end).unwrap_or_default().to_owned()
}
