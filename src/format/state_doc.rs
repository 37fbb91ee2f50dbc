//! The WAL document: the JSON record of one mutation on its way `INTENT → APPENDED → COMPLETE`.
//!
//! Owns the document's fields and its codec. Does not own the transitions between states
//! (`wal::machine`), the lease's rules (`wal::lease`) or where the document lives.
//!
//! The document is for people and for coordination; what a commit does is in the change set,
//! whose hash stands here. So the per-row lists are kept only for small mutations
//! ([`MAX_LISTED_ROWS`]) and a mutation of any size has a document of a few kilobytes.
//!
//! | key | value |
//! | --- | --- |
//! | `wal_id` | 32 lowercase hex digits |
//! | `schema_version` | 1 |
//! | `op_kind` | `"UPDATE"`, `"DELETE"`, `"INSERT"`, `"MERGE"`, `"TRUNCATE"`, `"OVERWRITE"`, `"COMPACT"`, `"ALTER"`, `"RESTORE"` |
//! | `state` | `"INTENT"`, `"APPENDED"`, `"COMPLETE"` |
//! | `created_at` | RFC 3339 |
//! | `lease` | `{owner, acquired_at, expires_at}` or null |
//! | `predicate_repr` | the statement or its predicate, for people |
//! | `target_ids` | row ids, 32 hex digits each |
//! | `new_row_count` | rows in added superfiles, or null |
//! | `new_row_content_hash` | blake3 hex of the `.arrow` object, or null |
//! | `preallocated_superfile_id` | the base of the id block in which everything staged lies, or null |
//! | `minted_id_spans` | `[{first, last}]`, both inclusive |
//! | `tombstone_progress` | `[{target_id, outcome, tombstoned_in_superfile}]` |
//! | `nonce` | a uuid, fresh in every write, so that no two writes have equal bytes (default: nil) |
//! | `base_version` | the table version that the statement read (default: 0) |
//! | `checksum` | blake3 hex of the document without this key (default: none, and not verified) |
//!
//! The checksum is taken over the compact JSON of the keys above in this order, `checksum` left
//! out. It makes damage a typed error although unknown keys and other spacing are tolerated; a
//! document without it (written by another implementation) is read all the same.
//!
//! Invariant: `decode(encode(d)) == d`; a document with a newer `schema_version` is refused
//! before any other key is looked at.

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::{ContentHash, IdBlock, RowId, SuperfileId, WalId};

/// The `schema_version` that this code writes, and the newest that it reads.
pub(crate) const STATE_DOC_VERSION: u32 = 1;

/// Mutations of more rows than this leave the per-row lists empty.
pub(crate) const MAX_LISTED_ROWS: usize = 1_000;

/// What kind of statement a mutation carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum OpKind {
    /// `INSERT INTO`, `COPY` and their like: rows come in, none go.
    Insert,
    /// `DELETE`: rows go.
    Delete,
    /// `UPDATE`: rows are replaced by changed ones that keep their ids.
    Update,
    /// `MERGE`: any of the above, row by row.
    Merge,
    /// `TRUNCATE`: all rows go.
    Truncate,
    /// `INSERT OVERWRITE`: all rows go and others come in.
    Overwrite,
    /// Compaction: rows move to other superfiles; none changes.
    Compact,
    /// A change of the table's schema or properties.
    Alter,
    /// An earlier version becomes the current one again: rows come and go, and superfiles of that version
    /// come back as they were.
    Restore,
}

impl OpKind {
    /// The name used in documents and change sets.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Delete => "DELETE",
            Self::Update => "UPDATE",
            Self::Merge => "MERGE",
            Self::Truncate => "TRUNCATE",
            Self::Overwrite => "OVERWRITE",
            Self::Compact => "COMPACT",
            Self::Alter => "ALTER",
            Self::Restore => "RESTORE",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Insert,
            Self::Delete,
            Self::Update,
            Self::Merge,
            Self::Truncate,
            Self::Overwrite,
            Self::Compact,
            Self::Alter,
            Self::Restore,
        ]
        .into_iter()
        .find(|op| op.as_str() == name)
    }
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a mutation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WalState {
    /// Work may be going on; nothing is visible.
    Intent,
    /// Everything the commit needs is durable; anyone may commit it.
    Appended,
    /// The outcome is decided; what is left is cleaning up.
    Complete,
}

impl fmt::Display for WalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intent => "INTENT",
            Self::Appended => "APPENDED",
            Self::Complete => "COMPLETE",
        })
    }
}

/// Who works on a mutation, and until when others should leave it to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The process that holds the lease.
    pub owner: String,
    /// When it took the lease, by its own clock.
    pub acquired_at: DateTime<Utc>,
    /// When others may take over. Decides which process acts, never which is right.
    pub expires_at: DateTime<Utc>,
}

/// A range of row ids minted by a mutation, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdSpan {
    /// The first id.
    pub first: RowId,
    /// The last id.
    pub last: RowId,
}

/// What became of one target row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetOutcome {
    /// Not yet decided.
    #[serde(rename = "PENDING")]
    Pending,
    /// The row is tombstoned.
    #[serde(rename = "TOMBSTONED")]
    Tombstoned,
    /// The row was gone already.
    #[serde(rename = "NOT_FOUND")]
    NotFound,
}

/// The progress on one target row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneProgress {
    /// The row.
    pub target_id: RowId,
    /// What became of it.
    pub outcome: TargetOutcome,
    /// The superfile that held it, once it is tombstoned.
    #[serde(default)]
    pub tombstoned_in_superfile: Option<SuperfileId>,
}

/// A WAL document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDoc {
    /// The mutation.
    pub wal_id: WalId,
    /// What kind of statement it is.
    pub op_kind: OpKind,
    /// How far it is.
    pub state: WalState,
    /// When the document was created, by its owner's clock.
    pub created_at: DateTime<Utc>,
    /// Who works on it.
    pub lease: Option<Lease>,
    /// The statement or its predicate, for people.
    pub predicate_repr: String,
    /// The target rows of a small mutation.
    pub target_ids: Vec<RowId>,
    /// Rows in the superfiles that the mutation adds.
    pub new_row_count: Option<u64>,
    /// The blake3 of the change set, once there is one.
    pub new_row_content_hash: Option<ContentHash>,
    /// The base of the id block in which everything that the mutation stages lies.
    pub preallocated_superfile_id: Option<SuperfileId>,
    /// Row ids that the mutation minted.
    pub minted_id_spans: Vec<IdSpan>,
    /// The progress per target row of a small mutation.
    pub tombstone_progress: Vec<TombstoneProgress>,
    /// Fresh in every write.
    pub nonce: Uuid,
    /// The table version that the statement read.
    pub base_version: u64,
}

/// How the bytes of a WAL document are malformed.
#[derive(Debug, thiserror::Error)]
pub enum StateDocError {
    /// Not JSON, or a key is missing or has a value of the wrong kind.
    #[error("not a WAL document")]
    Json(#[from] serde_json::Error),
    /// Written by a newer version of this format.
    #[error(
        "WAL document version {found} is not supported (this version reads {STATE_DOC_VERSION})"
    )]
    UnsupportedVersion {
        /// The version found.
        found: u64,
    },
    /// The content does not hash to the document's own checksum.
    #[error("the content's checksum is {actual}, the document says {recorded}")]
    ChecksumMismatch {
        /// What the document says.
        recorded: ContentHash,
        /// What its content hashes to.
        actual: ContentHash,
    },
}

impl StateDoc {
    /// A new mutation's document: state `INTENT`, no lease, nothing staged.
    pub fn intent(
        wal_id: WalId,
        op_kind: OpKind,
        created_at: DateTime<Utc>,
        base_version: u64,
        nonce: Uuid,
    ) -> Self {
        Self {
            wal_id,
            op_kind,
            state: WalState::Intent,
            created_at,
            lease: None,
            predicate_repr: String::new(),
            target_ids: Vec::new(),
            new_row_count: None,
            new_row_content_hash: None,
            preallocated_superfile_id: None,
            minted_id_spans: Vec::new(),
            tombstone_progress: Vec::new(),
            nonce,
            base_version,
        }
    }

    /// The block in which everything that the mutation stages lies; `None` if none is recorded,
    /// or if another implementation recorded a single superfile there.
    pub fn id_block(&self) -> Option<IdBlock> {
        self.preallocated_superfile_id
            .and_then(|id| IdBlock::from_uuid(id.as_uuid()))
    }

    /// The document's bytes: JSON, indented, because people read it when something went wrong.
    ///
    /// # Errors
    /// [`StateDocError::Json`], which serde_json gives for timestamps that RFC 3339 cannot hold.
    pub fn encode(&self) -> Result<Bytes, StateDocError> {
        let mut wire = WireDoc::from(self);
        wire.checksum = Some(wire.content_hash()?);
        Ok(serde_json::to_vec_pretty(&wire)?.into())
    }

    /// The document that `bytes` hold.
    ///
    /// # Errors
    /// [`StateDocError`]: bad JSON, a newer version, or a checksum that does not match.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateDocError> {
        // The version first: a newer document may differ in every other key.
        let version: WireVersion = serde_json::from_slice(bytes)?;
        if version.schema_version != u64::from(STATE_DOC_VERSION) {
            return Err(StateDocError::UnsupportedVersion {
                found: version.schema_version,
            });
        }
        let mut wire: WireDoc = serde_json::from_slice(bytes)?;
        if let Some(recorded) = wire.checksum.take() {
            let actual = wire.content_hash()?;
            if actual != recorded {
                return Err(StateDocError::ChecksumMismatch { recorded, actual });
            }
        }
        Ok(wire.into())
    }
}

#[derive(Deserialize)]
struct WireVersion {
    schema_version: u64,
}

/// The document as it is spelled. The order of the fields is the order of the keys.
#[derive(Serialize, Deserialize)]
struct WireDoc {
    wal_id: WalId,
    schema_version: u32,
    op_kind: OpKind,
    state: WalState,
    created_at: DateTime<Utc>,
    #[serde(default)]
    lease: Option<Lease>,
    #[serde(default)]
    predicate_repr: String,
    #[serde(default)]
    target_ids: Vec<RowId>,
    #[serde(default)]
    new_row_count: Option<u64>,
    #[serde(default)]
    new_row_content_hash: Option<ContentHash>,
    #[serde(default)]
    preallocated_superfile_id: Option<SuperfileId>,
    #[serde(default)]
    minted_id_spans: Vec<IdSpan>,
    #[serde(default)]
    tombstone_progress: Vec<TombstoneProgress>,
    #[serde(default)]
    nonce: Uuid,
    #[serde(default)]
    base_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<ContentHash>,
}

impl WireDoc {
    /// The hash of the content; to be called while `checksum` is `None`.
    fn content_hash(&self) -> Result<ContentHash, serde_json::Error> {
        Ok(ContentHash::of(&serde_json::to_vec(self)?))
    }
}

impl From<&StateDoc> for WireDoc {
    fn from(doc: &StateDoc) -> Self {
        Self {
            wal_id: doc.wal_id,
            schema_version: STATE_DOC_VERSION,
            op_kind: doc.op_kind,
            state: doc.state,
            created_at: doc.created_at,
            lease: doc.lease.clone(),
            predicate_repr: doc.predicate_repr.clone(),
            target_ids: doc.target_ids.clone(),
            new_row_count: doc.new_row_count,
            new_row_content_hash: doc.new_row_content_hash,
            preallocated_superfile_id: doc.preallocated_superfile_id,
            minted_id_spans: doc.minted_id_spans.clone(),
            tombstone_progress: doc.tombstone_progress.clone(),
            nonce: doc.nonce,
            base_version: doc.base_version,
            checksum: None,
        }
    }
}

impl From<WireDoc> for StateDoc {
    fn from(wire: WireDoc) -> Self {
        Self {
            wal_id: wire.wal_id,
            op_kind: wire.op_kind,
            state: wire.state,
            created_at: wire.created_at,
            lease: wire.lease,
            predicate_repr: wire.predicate_repr,
            target_ids: wire.target_ids,
            new_row_count: wire.new_row_count,
            new_row_content_hash: wire.new_row_content_hash,
            preallocated_superfile_id: wire.preallocated_superfile_id,
            minted_id_spans: wire.minted_id_spans,
            tombstone_progress: wire.tombstone_progress,
            nonce: wire.nonce,
            base_version: wire.base_version,
        }
    }
}
