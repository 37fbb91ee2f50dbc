//! What a manifest says: the values, apart from the tree that holds them and its encoding.
//!
//! Owns the domain types of a manifest. Does not own their encoding (`wire`) or the tree.
//!
//! Invariant: none of its own; [`super::check`] states what must hold between versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;

use crate::format::ids::{ContentHash, RowId, SidecarId, SuperfileId, TableId, WalId};
use crate::format::state_doc::OpKind;
use crate::format::stats::SuperfileStats;

/// The most bytes of a statement's text that a commit record keeps.
pub const MAX_STATEMENT_LEN: usize = 1024;

/// A sidecar, as a manifest entry names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TombstoneRef {
    /// The sidecar.
    pub sidecar: SidecarId,
    /// The blake3 of its bytes; the reader verifies it.
    pub hash: ContentHash,
    /// How many rows it deletes.
    pub cardinality: u64,
    /// The length of its bytes.
    pub size: u64,
}

/// Where the ids of a superfile's rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowIds {
    /// A row's id is this first id plus the row's position; the file stores none.
    Span(RowId),
    /// The file stores them, in its `_id` column.
    Stored,
}

/// One superfile of a version.
#[derive(Clone, Debug, PartialEq)]
pub struct SuperfileEntry {
    /// The superfile.
    pub id: SuperfileId,
    /// Its physical rows, deleted ones included.
    pub rows: u64,
    /// The length of its bytes.
    pub size: u64,
    /// When it was written, by its writer's clock: milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// Where the ids of its rows come from.
    pub row_ids: RowIds,
    /// What is known of its columns; holds for all physical rows.
    pub stats: SuperfileStats,
    /// The sidecar in force; `None` while no row is deleted.
    pub tombstones: Option<TombstoneRef>,
    /// The version in which rows of this superfile were last *moved*: tombstoned by a change set
    /// that also added rows (UPDATE, MERGE). 0: never. A tombstone younger than that may stand
    /// for a row that lives on elsewhere, so who finds one must look again before believing that
    /// the row is gone. Writers set 0.
    pub moved_at: u64,
    /// How many versions have deleted rows of it: what its tombstones have cost to write, which says
    /// when it pays to write it anew. Starts at 0; counted where the manifest is edited.
    pub touched: u32,
}

impl SuperfileEntry {
    /// Rows that are not deleted.
    pub fn live_rows(&self) -> u64 {
        self.rows.saturating_sub(self.deleted_rows())
    }

    /// Rows that are deleted.
    pub fn deleted_rows(&self) -> u64 {
        self.tombstones.as_ref().map_or(0, |t| t.cardinality)
    }
}

/// One column of the order in which writers sort rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortColumn {
    /// The column's name.
    pub name: String,
    /// Greatest first.
    pub descending: bool,
    /// NULLs before values.
    pub nulls_first: bool,
}

/// What a table is, apart from its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMetadata {
    /// The table.
    pub table_id: TableId,
    /// Its columns. Each field, nested ones included, carries its field id in the metadata key
    /// `PARQUET:field_id`.
    pub schema: SchemaRef,
    /// Table properties (`supertable.*` options and others).
    pub properties: BTreeMap<String, String>,
    /// The order in which writers sort rows; empty: none.
    pub sort_order: Vec<SortColumn>,
    /// The id that the next new field gets. Ids are never used twice.
    pub next_field_id: i32,
}

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

/// Sums over superfiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Superfiles.
    pub superfiles: u64,
    /// Physical rows, deleted ones included.
    pub rows: u64,
    /// Rows that are not deleted.
    pub live_rows: u64,
    /// Bytes of superfiles, sidecars not included.
    pub bytes: u64,
}

impl Totals {
    /// The totals of one superfile.
    pub fn of(entry: &SuperfileEntry) -> Self {
        Self {
            superfiles: 1,
            rows: entry.rows,
            live_rows: entry.live_rows(),
            bytes: entry.size,
        }
    }

    /// The sum; `None` when one of the counts exceeds 64 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            superfiles: self.superfiles.checked_add(other.superfiles)?,
            rows: self.rows.checked_add(other.rows)?,
            live_rows: self.live_rows.checked_add(other.live_rows)?,
            bytes: self.bytes.checked_add(other.bytes)?,
        })
    }

    /// The sum over all; `None` when one of the counts exceeds 64 bits.
    pub fn sum(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        parts
            .into_iter()
            .try_fold(Self::default(), Self::checked_add)
    }
}

/// What a version says of itself and of the table, apart from its superfiles.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestHeader {
    /// The version, from 1, one more in each commit.
    pub version: u64,
    /// The root of the version before; `None` in version 1 only.
    pub parent: Option<ContentHash>,
    /// The roots of the versions that [`skip_versions`](super::skip_versions) names.
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
}

/// At most [`MAX_STATEMENT_LEN`] bytes of a statement's text, cut between characters.
pub fn shorten_statement(statement: &str) -> String {
    let mut end = statement.len().min(MAX_STATEMENT_LEN);
    while !statement.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    statement.get(..end).unwrap_or_default().to_owned()
}
