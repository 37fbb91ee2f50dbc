//! Superfiles as a manifest names them, and what is known of many at once.
//!
//! Owns these values. Does not own their encoding (`wire`) or the tree.
//!
//! Invariant: none of its own; `shape` states what each must satisfy.

use crate::format::clustering::Clustering;
use crate::format::external::ExternalFile;
use crate::format::footer::FooterChecksum;
use crate::format::ids::{ContentHash, RowId, SidecarId, SuperfileId};
use crate::format::in_place::InPlace;
use crate::format::stats::{RowStats, SuperfileStats};

/// The most entries in one leaf.
pub(crate) const MAX_ENTRIES_PER_LEAF: usize = 64;
/// The most leaves in one group.
pub(crate) const MAX_LEAVES_PER_GROUP: usize = 64;

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
    /// What its end hashes to. `None` if the end is too long to have one.
    pub footer_checksum: Option<FooterChecksum>,
    /// Where it is, if it is not the table's own but read where its owner has it.
    pub in_place: Option<InPlace>,
    /// What it was, if others wrote it.
    pub external: Option<ExternalFile>,
    /// Along what it was written, and with which others; `None` for what statements write.
    pub clustering: Option<Clustering>,
    /// What is known of its columns; holds for all physical rows.
    pub stats: SuperfileStats,
    /// The sidecar in force; `None` while no row is deleted.
    pub tombstones: Option<TombstoneRef>,
    /// The version in which rows of this superfile were last *moved*: tombstoned by a change set
    /// that also added rows (UPDATE, MERGE). 0: never. A tombstone younger than that may stand
    /// for a row that lives on elsewhere, so a reader that finds one must look again before believing that
    /// the row is gone. Writers set 0.
    pub moved_at: u64,
    /// The last version in which a row came into it, other than by a compaction: a row of it that is younger than a
    /// statement's base came in a version after that. Writers set 0.
    pub added_at: u64,
    /// How many versions have deleted rows of it: what its tombstones have cost to write, which says
    /// when it pays to write it anew. Starts at 0; counted where the manifest is edited.
    pub delete_count: u32,
}

impl SuperfileEntry {
    /// A new superfile of which nothing else is known yet.
    pub fn new(id: SuperfileId, rows: u64, size: u64, created_at_ms: i64, row_ids: RowIds) -> Self {
        Self {
            id,
            rows,
            size,
            created_at_ms,
            row_ids,
            footer_checksum: None,
            in_place: None,
            external: None,
            clustering: None,
            stats: SuperfileStats::default(),
            tombstones: None,
            moved_at: 0,
            added_at: 0,
            delete_count: 0,
        }
    }

    /// What is known of its physical rows.
    pub(crate) fn row_stats(&self) -> RowStats<'_> {
        RowStats {
            columns: &self.stats,
            rows: self.rows,
        }
    }

    /// Rows that are not deleted.
    pub fn live_rows(&self) -> u64 {
        self.rows.saturating_sub(self.deleted_rows())
    }

    /// Rows that are deleted.
    pub fn deleted_rows(&self) -> u64 {
        self.tombstones.as_ref().map_or(0, |t| t.cardinality)
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

/// A reference to a node, with what can be known of it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeRef {
    /// The blake3 of the node's bytes, which is its name.
    pub hash: ContentHash,
    /// The smallest superfile id below it.
    pub first: SuperfileId,
    /// Sums over what is below it.
    pub totals: Totals,
}
