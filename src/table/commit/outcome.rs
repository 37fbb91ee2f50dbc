//! How a mutation ends.
//!
//! Owns: what the committer found ([`Resolution`]), what the statement is told ([`CommitOutcome`]), and the errors that say
//! that the one is not known. Does not own how it comes about (`committer`), nor which callers are told (`complete`).
//! Invariant: what is told is in the table's history, or is said to be unknown. No I/O.

use crate::error::{Error, ErrorKind, Result};
use crate::format::WalId;
use crate::format::manifest::CommitRecord;
use crate::table::apply::conflict::Conflict;
use crate::table::version::history::Lookup;

/// The rows that a committed statement changed: those that were still there to be removed, and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows that came in.
    pub inserted: u64,
    /// Rows that went.
    pub deleted: u64,
    /// Rows that changed.
    pub updated: u64,
}

impl From<&CommitRecord> for RowCounts {
    fn from(record: &CommitRecord) -> Self {
        Self {
            inserted: record.rows_inserted,
            deleted: record.rows_deleted,
            updated: record.rows_updated,
        }
    }
}

/// How a statement ended.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a conflicting statement was not committed"]
pub enum CommitOutcome {
    /// Its effect is visible from this version on.
    Committed {
        /// The version.
        version: u64,
        /// The count that the statement reports.
        rows_affected: u64,
        /// The rows that it changed.
        rows: RowCounts,
    },
    /// The effect is empty; no version was made.
    NothingToCommit,
    /// A version that was committed since the snapshot is in the way. Nothing of the statement is visible;
    /// it may be run again on a new snapshot.
    Conflict(Conflict),
}

/// What became of a mutation at the pointer.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// It is in the table's history.
    Committed(CommitRecord),
    /// It conflicts with a committed version, and will not be committed.
    Conflict(Conflict),
    /// All rows that it removes are gone already and it adds none: there is nothing to commit.
    NothingLeft,
    /// Another process found that it cannot be committed, and undid it.
    Undone,
}

impl Resolution {
    /// That of a mutation that is known to have ended, by what the history says of it.
    ///
    /// # Errors
    /// `OutcomeUnknown` if the history does not reach that far.
    pub(crate) fn of_ended(id: &WalId, lookup: Lookup) -> Result<Self> {
        match lookup {
            Lookup::Recorded(record) => Ok(Self::Committed(record)),
            Lookup::NotCommitted => Ok(Self::Undone),
            Lookup::OutOfReach => Err(out_of_reach(id)),
        }
    }
}

/// The versions that a lookup takes are gone.
pub(crate) fn out_of_reach(id: &WalId) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        id.to_string(),
        "the versions that would tell how this mutation ended are gone",
    )
}

/// The committer's task ended without an answer: the runtime is being shut down.
pub(crate) fn interrupted(id: &WalId) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        id.to_string(),
        "the commit was interrupted; this mutation is durable, and recovery will end it",
    )
}
