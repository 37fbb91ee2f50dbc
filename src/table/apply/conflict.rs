//! Conflicts: what a statement learns when another one committed first.
//!
//! Owns the type and its words. Does not own the judgement (`apply`) or running a statement
//! again (the caller).
//!
//! Invariant: a conflict is final for its change set. What it reports (a row changed, a superfile
//! gone, a newer schema) no later version takes back, but for a restore; so the caller is told only when
//! the document has been taken, and a mutation found in conflict is never committed afterwards.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::format::ids::SuperfileId;

/// Why a change set cannot be committed any more. The statement can be run again on the current
/// version.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The superfile about which it is, if it is about one.
    pub superfile: Option<SuperfileId>,
    /// What has happened since the statement read the table.
    pub reason: ConflictReason,
}

/// What has happened since a statement read the table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConflictReason {
    /// Rows that an UPDATE, MERGE or rewrite is about were changed or deleted.
    RowsChanged {
        /// How many.
        rows: u64,
    },
    /// Rows that the statement removes were changed; their new versions are elsewhere.
    RowsMoved,
    /// The superfile was dropped, and its rows may live on in another.
    SuperfileGone,
    /// The rows of a compaction's source are no longer those that it copied.
    CompactionSourceChanged,
    /// Rows were rewritten since an INSERT OVERWRITE decided which ones it replaces.
    Rewritten,
    /// Rows of a table that a serializable statement read were changed.
    ReadChanged,
    /// A row came that may have a key which the statement inserts because it found none with it.
    KeyAdded,
    /// The table's properties or schema were changed, and the statement changes them too.
    MetadataChanged,
    /// The table's schema was changed, and the statement adds rows of the old one.
    SchemaChanged,
    /// Something was committed, and the statement's new schema fits only the empty table that it
    /// saw.
    NoLongerEmpty,
    /// The table was restored since: rows that were lost to the statement may be there again.
    Restored,
    /// A restore replaces one version, and that is no longer the current one; or a restore came before
    /// in the same draft.
    NotCurrent,
}

impl Conflict {
    /// A conflict about one superfile.
    pub fn of(superfile: SuperfileId, reason: ConflictReason) -> Self {
        Self {
            superfile: Some(superfile),
            reason,
        }
    }

    /// A conflict about the whole table.
    pub fn of_table(reason: ConflictReason) -> Self {
        Self {
            superfile: None,
            reason,
        }
    }

    /// The public error of a statement that gives up on `table`.
    pub fn into_error(self, table: impl Into<String>) -> Error {
        Error::new(ErrorKind::Conflict, table, self.to_string())
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another statement committed first: ")?;
        match &self.reason {
            ConflictReason::RowsChanged { rows: 1 } => f.write_str("1 row has changed since"),
            ConflictReason::RowsChanged { rows } => write!(f, "{rows} rows have changed since"),
            ConflictReason::Restored => f.write_str("the table has been restored since"),
            ConflictReason::RowsMoved => f.write_str("rows to be removed have changed since"),
            ConflictReason::SuperfileGone => f.write_str("rows have been rewritten since"),
            ConflictReason::CompactionSourceChanged => {
                f.write_str("rows that were compacted have changed since")
            }
            ConflictReason::Rewritten => {
                f.write_str("rows to be replaced have been rewritten since")
            }
            ConflictReason::ReadChanged => {
                f.write_str("rows of the table, which was read as serializable, have changed since")
            }
            ConflictReason::KeyAdded => {
                f.write_str("rows that may have the keys of new ones have come since")
            }
            ConflictReason::MetadataChanged => {
                f.write_str("the table's schema or properties have changed since")
            }
            ConflictReason::SchemaChanged => f.write_str("the table's schema has changed since"),
            ConflictReason::NoLongerEmpty => f.write_str("the table may no longer be empty"),
            ConflictReason::NotCurrent => f.write_str("the table has changed since"),
        }?;
        if let Some(superfile) = &self.superfile {
            write!(f, " (superfile {superfile})")?;
        }
        f.write_str("; the statement can be run again")
    }
}

impl std::error::Error for Conflict {}
