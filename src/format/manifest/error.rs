//! How a manifest can be malformed, and how an edit of one can be refused.
//!
//! Owns the typed errors of the manifest codec and tree. Does not own the paths of objects:
//! [`crate::format::FormatError`] joins the two.

use crate::format::envelope::EnvelopeError;
use crate::format::ids::{ContentHash, SuperfileId};
use crate::format::ipc::IpcError;

use super::schema::SchemaError;

/// How a manifest node is malformed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The frame is broken, or of a newer version.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The schema's bytes are not an Arrow schema.
    #[error("the table's schema is malformed")]
    Schema(#[from] IpcError),
    /// The schema's field ids are wrong.
    #[error("the table's schema is invalid")]
    FieldIds(#[from] SchemaError),
    /// A node is empty or overfull.
    #[error("a node has {len} children, which is not between 1 and {max}")]
    BadNodeSize {
        /// Its children.
        len: usize,
        /// The most it may have.
        max: usize,
    },
    /// What is recorded of a file that is read in place is none of a file that may be, or its footer checksum is missing.
    #[error(
        "superfile {superfile} is said to be read in place, but not where, in which state, or with which footer checksum"
    )]
    BadPlace {
        /// The superfile.
        superfile: SuperfileId,
    },
    /// The checksum of a superfile's footer is none.
    #[error("the footer checksum of superfile {superfile} is malformed")]
    BadFooterChecksum {
        /// The superfile.
        superfile: SuperfileId,
    },
    /// Superfile ids do not ascend strictly.
    #[error("superfile {superfile} is out of order or listed twice")]
    OutOfOrder {
        /// The id that does not follow the one before.
        superfile: SuperfileId,
    },
    /// A superfile claims more rows than positions can count.
    #[error("superfile {superfile} claims {rows} rows, more than 2^32")]
    TooManyRows {
        /// The superfile.
        superfile: SuperfileId,
        /// The rows it claims.
        rows: u64,
    },
    /// A superfile has more tombstones than rows.
    #[error("superfile {superfile} has {tombstones} tombstones but {rows} rows")]
    MoreTombstonesThanRows {
        /// The superfile.
        superfile: SuperfileId,
        /// Its tombstones.
        tombstones: u64,
        /// Its rows.
        rows: u64,
    },
    /// What a reference says of a node (its first id or its totals) is not true.
    #[error("manifest node {node} is not what its parent says")]
    RefMismatch {
        /// The node.
        node: ContentHash,
    },
    /// A root's skip pointers are more or fewer than its number says.
    #[error("version {version} has {found} skip pointers, which does not fit its number")]
    BadSkips {
        /// The version.
        version: u64,
        /// Its skip pointers.
        found: usize,
    },
    /// A count exceeds 64 bits.
    #[error("the totals exceed 64 bits")]
    TotalsOverflow,
    /// A bound of a column is not a number.
    #[error("a column bound is NaN")]
    NanBound,
    /// A superfile lists statistics of one column twice.
    #[error("statistics of field {field_id} stand twice")]
    DuplicateColumn {
        /// The column.
        field_id: i32,
    },
    /// The keys that a change set found absent are none that a writer writes.
    #[error("the absent keys are malformed")]
    BadKeys,
    /// A commit record names an operation that this version does not know.
    #[error("unknown operation {name:?}")]
    UnknownOperation {
        /// Its name.
        name: String,
    },
    /// Bytes were supplied for a node that the loader did not ask for.
    #[error("manifest node {node} was not asked for")]
    NotAskedFor {
        /// The node.
        node: ContentHash,
    },
    /// The loader was finished before all nodes were supplied.
    #[error("{count} manifest nodes are missing")]
    Incomplete {
        /// How many.
        count: usize,
    },
}

impl ManifestError {
    /// Whether a newer version of the format is the reason.
    pub fn is_unsupported_version(&self) -> bool {
        matches!(
            self,
            Self::Envelope(EnvelopeError::UnsupportedVersion { .. })
        )
    }
}

/// Why a manifest cannot be edited as asked. The edit is then not made at all.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The superfile to add is in the manifest already, or is added twice.
    #[error("superfile {superfile} is in the manifest already")]
    AlreadyThere {
        /// The superfile.
        superfile: SuperfileId,
    },
    /// The superfile to change or drop is not in the manifest.
    #[error("superfile {superfile} is not in the manifest")]
    NotThere {
        /// The superfile.
        superfile: SuperfileId,
    },
    /// One superfile is to be changed in two ways at once.
    #[error("superfile {superfile} is named twice in one edit")]
    NamedTwice {
        /// The superfile.
        superfile: SuperfileId,
    },
    /// An entry would be invalid.
    #[error(transparent)]
    Invalid(#[from] ManifestError),
}
