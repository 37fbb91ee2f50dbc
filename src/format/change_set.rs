//! The change set: the whole effect of one statement on a snapshot, as a stored object.
//!
//! Owns the values and their codec. Does not own what a commit makes of them (`table::apply`).
//!
//! A change set is complete: with the manifest it was made for, any process can commit it. It is
//! an Arrow IPC stream, readable with any Arrow library. Its blake3 is in the WAL document.
//!
//! Schema metadata, all of it text:
//!
//! | key | value |
//! | --- | --- |
//! | `supertable.format_version` | `1` |
//! | `supertable.op` | as in the WAL document |
//! | `supertable.base_version` | the version that the statement read |
//! | `supertable.rows_inserted`, `.rows_deleted`, `.rows_updated` | counts, if nothing else happens |
//! | `supertable.started_at_ms` | milliseconds since the Unix epoch |
//! | `supertable.statement` | at most 1 KiB of the statement |
//! | `supertable.changes` | how many rows the stream has |
//! | `supertable.metadata` | hex of the new table metadata, if the statement changes it |
//! | `supertable.absent_keys` | hex of the keys that it inserts because it found none with them, by the columns that make them (see `format::keys`); if it does |
//! | `supertable.isolation` | `serializable`, if it must not be committed after rows that it read changed; else `snapshot` |
//!
//! One row for each superfile that is added, gets tombstones, or is dropped:
//!
//! | column | type | ADD | TOMBSTONE | DROP |
//! | --- | --- | --- | --- | --- |
//! | `kind` | Utf8 | `ADD` | `TOMBSTONE` | `DROP` |
//! | `superfile` | FixedSizeBinary(16) | its id | its id | its id |
//! | `rows` | UInt64 | physical rows | positions that it removes | live rows that the statement saw |
//! | `entry` | Binary? | its entry, as in a leaf | | |
//! | `base` | FixedSizeBinary(16)? | | sidecar that the statement saw | sidecar that it saw |
//! | `sidecar` | FixedSizeBinary(16)? | | the staged union | |
//! | `sidecar_hash` | FixedSizeBinary(32)? | | its blake3 | |
//! | `sidecar_cardinality` | UInt64? | | its positions | |
//! | `sidecar_size` | UInt64? | | its bytes | |
//! | `delta` | Binary? | | roaring bitmap of the positions that the statement removes | |
//! | `moves` | Binary? | | | where a compaction put its rows (see [`moves`]) |
//!
//! A `RESTORE` also ADDs superfiles that its base has already: they get the tombstones of the entry in
//! place of those they have (which may be more). It holds for its base version alone.
//!
//! Invariant: no superfile is named twice; a delta is not empty; a staged union holds at least
//! its delta, and exactly it where there was no sidecar before. If one source says where its rows are, all
//! do, and together they fill every place of the added superfiles exactly once.

mod columns;
pub(crate) mod moves;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use datafusion::arrow::datatypes::Schema;
use roaring::RoaringBitmap;

use self::columns::Columns;
use self::moves::{MovesError, RowMoves};
use super::hex;
use super::ids::{ContentHash, SidecarId, SuperfileId};
use super::ipc::{self, IpcError};
use super::keys::AbsentKeys;
use super::manifest::ManifestError;
use super::manifest::header::MAX_STATEMENT_LEN;
use super::manifest::{SuperfileEntry, TableMetadata, TombstoneRef, shorten_statement};
use super::manifest::{decode_absent_keys, encode_absent_keys};
use super::manifest::{shape, wire};
use super::state_doc::OpKind;
use super::tombstones::SidecarCodecError;

/// The version that this code writes and reads.
pub(crate) const CHANGE_SET_VERSION: u32 = 1;

/// Tombstones to add to one superfile.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TombstoneChange {
    /// The superfile.
    pub superfile: SuperfileId,
    /// The sidecar in force when the change was computed.
    pub base: Option<SidecarId>,
    /// The staged sidecar: `base` and `delta` together. Used as it is if `base` is still in force.
    pub union: TombstoneRef,
    /// The positions that the statement removes; none of them was in `base`.
    pub delta: RoaringBitmap,
}

/// A superfile to drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DropChange {
    /// The superfile.
    pub superfile: SuperfileId,
    /// The sidecar in force when the change was computed.
    pub base: Option<SidecarId>,
    /// The rows that were live then.
    pub live_rows: u64,
    /// Where a compaction put them, so that tombstones which come meanwhile can be carried over.
    pub moved: Option<Arc<RowMoves>>,
}

/// The whole effect of one statement on a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChangeSet {
    /// What kind of statement it is.
    pub op: OpKind,
    /// The version that the statement read.
    pub base_version: u64,
    /// Superfiles to add; uploaded already.
    pub add: Vec<SuperfileEntry>,
    /// Superfiles to give more tombstones.
    pub tombstone: Vec<TombstoneChange>,
    /// Superfiles to drop.
    pub drop: Vec<DropChange>,
    /// The table's new metadata, if the statement changes it.
    pub metadata: Option<TableMetadata>,
    /// The statement's text; [`MAX_STATEMENT_LEN`] bytes of it are stored.
    pub statement: String,
    /// Rows that come in.
    pub rows_inserted: u64,
    /// Rows that go, if none of them has gone meanwhile.
    pub rows_deleted: u64,
    /// Rows that change.
    pub rows_updated: u64,
    /// When the statement began, by its process's clock: milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// Whether it conflicts with every change of the table's rows since `base_version`: it read
    /// them, and must take effect as if alone.
    pub serializable: bool,
    /// The keys that it inserts because it found none with them: those that a `MERGE` looks for, and those of each
    /// declared key.
    pub absent_keys: Vec<AbsentKeys>,
}

/// How the bytes of a change set are malformed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeSetError {
    /// The bytes are not those that the WAL document promises.
    #[error("the bytes hash to {actual}, expected {expected}")]
    HashMismatch {
        /// The promised hash.
        expected: ContentHash,
        /// The hash of the bytes.
        actual: ContentHash,
    },
    /// Not a readable Arrow stream.
    #[error("not a readable change set")]
    Ipc(#[from] IpcError),
    /// Written by a newer version of this format.
    #[error(
        "change set version {found:?} is not supported (this version reads {CHANGE_SET_VERSION})"
    )]
    UnsupportedVersion {
        /// The version found.
        found: String,
    },
    /// A key of the schema's metadata is missing or malformed.
    #[error("{key} is {found:?}")]
    BadHeader {
        /// The key.
        key: &'static str,
        /// What it says.
        found: Option<String>,
    },
    /// The columns are not those of a change set.
    #[error("the columns are not those of a change set")]
    BadColumns,
    /// There are more or fewer rows than announced.
    #[error("{actual} changes where {announced} are announced")]
    WrongCount {
        /// As announced.
        announced: u64,
        /// As found.
        actual: u64,
    },
    /// A row is of an unknown kind.
    #[error("unknown kind of change {kind:?}")]
    UnknownKind {
        /// The kind.
        kind: String,
    },
    /// A row lacks a value that its kind needs.
    #[error("a {kind} of a superfile lacks its {column}")]
    MissingValue {
        /// The kind of change.
        kind: &'static str,
        /// The column.
        column: &'static str,
    },
    /// The row of an added superfile and the entry in it are not about the same file.
    #[error("the entry of superfile {superfile} is another's")]
    InconsistentEntry {
        /// The superfile.
        superfile: SuperfileId,
    },
    /// A superfile is named twice.
    #[error("superfile {superfile} is named twice")]
    NamedTwice {
        /// The superfile.
        superfile: SuperfileId,
    },
    /// The positions to remove are malformed.
    #[error("the positions to remove from superfile {superfile} are malformed")]
    BadDelta {
        /// The superfile.
        superfile: SuperfileId,
        /// Why.
        source: SidecarCodecError,
    },
    /// Delta, base and staged union contradict each other.
    #[error("the tombstones of superfile {superfile} contradict each other")]
    InconsistentTombstones {
        /// The superfile.
        superfile: SuperfileId,
    },
    /// What a source says of its moved rows is malformed.
    #[error("the moves of superfile {superfile} are malformed")]
    BadMoves {
        /// The superfile.
        superfile: SuperfileId,
        /// Why.
        source: MovesError,
    },
    /// The sources' moves do not fill the added superfiles.
    #[error("the moved rows are not those of the added superfiles")]
    InconsistentMoves,
    /// An entry or the metadata is malformed.
    #[error("an entry is malformed")]
    Entry(#[from] ManifestError),
}

impl ChangeSetError {
    /// Whether a newer version of the format is the reason.
    pub(crate) fn is_unsupported_version(&self) -> bool {
        match self {
            Self::UnsupportedVersion { .. } => true,
            Self::Entry(e) => e.is_unsupported_version(),
            _ => false,
        }
    }
}

const VERSION: &str = "supertable.format_version";
const OP: &str = "supertable.op";
const BASE_VERSION: &str = "supertable.base_version";
const INSERTED: &str = "supertable.rows_inserted";
const DELETED: &str = "supertable.rows_deleted";
const UPDATED: &str = "supertable.rows_updated";
const STARTED: &str = "supertable.started_at_ms";
const STATEMENT: &str = "supertable.statement";
const CHANGES: &str = "supertable.changes";
const METADATA: &str = "supertable.metadata";
const ISOLATION: &str = "supertable.isolation";
const SERIALIZABLE: &str = "serializable";
const ABSENT_KEYS: &str = "supertable.absent_keys";
const SNAPSHOT: &str = "snapshot";

impl ChangeSet {
    /// How many superfiles it changes.
    pub(crate) fn len(&self) -> usize {
        self.add.len() + self.tombstone.len() + self.drop.len()
    }

    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && self.metadata.is_none()
    }

    /// Whether it moves rows: removes some and adds some, which may be the same rows in other
    /// superfiles.
    pub(crate) fn moves_rows(&self) -> bool {
        let removes = !self.tombstone.is_empty() || !self.drop.is_empty();
        removes && !self.add.is_empty()
    }

    /// Checks the invariant that the module states.
    ///
    /// # Errors
    /// [`ChangeSetError`], naming the superfile that breaks it.
    pub(crate) fn check(&self) -> Result<(), ChangeSetError> {
        let mut seen = HashSet::with_capacity(self.len());
        let ids = (self.add.iter().map(|e| e.id))
            .chain(self.tombstone.iter().map(|t| t.superfile))
            .chain(self.drop.iter().map(|d| d.superfile));
        for superfile in ids {
            if !seen.insert(superfile) {
                return Err(ChangeSetError::NamedTwice { superfile });
            }
        }
        for entry in &self.add {
            shape::check_entry(entry)?;
        }
        for change in &self.tombstone {
            let (union, delta) = (change.union.cardinality, change.delta.len());
            let fits = match change.base {
                None => union == delta,
                Some(base) => union > delta && base != change.union.sidecar,
            };
            if delta == 0 || !fits {
                return Err(ChangeSetError::InconsistentTombstones {
                    superfile: change.superfile,
                });
            }
        }
        if let Some(metadata) = &self.metadata {
            metadata.check().map_err(ManifestError::from)?;
        }
        self.check_moves()
    }

    /// Whether it says where the rows of its sources are.
    pub(crate) fn has_moves(&self) -> bool {
        self.drop.iter().any(|change| change.moved.is_some())
    }

    fn check_moves(&self) -> Result<(), ChangeSetError> {
        if !self.has_moves() {
            return Ok(());
        }
        let mut places = RoaringBitmap::new();
        for change in &self.drop {
            let moved = change
                .moved
                .as_ref()
                .filter(|moved| moved.rows() == change.live_rows)
                .ok_or(ChangeSetError::InconsistentMoves)?;
            for run in moved.ranges() {
                let last = run.to + (run.rows - 1);
                if places.insert_range(run.to..=last) != u64::from(run.rows) {
                    return Err(ChangeSetError::BadMoves {
                        superfile: change.superfile,
                        source: MovesError::Overlap,
                    });
                }
            }
        }
        let rows: u64 = self.add.iter().map(|entry| entry.rows).sum();
        let filled = places.len() == rows && places.max().is_none_or(|max| u64::from(max) < rows);
        if filled && self.tombstone.is_empty() {
            Ok(())
        } else {
            Err(ChangeSetError::InconsistentMoves)
        }
    }

    /// The change set's bytes, and their hash for the WAL document.
    ///
    /// # Errors
    /// [`ChangeSetError`] when the change set breaks its invariant.
    pub(crate) fn encode(&self) -> Result<(ContentHash, Bytes), ChangeSetError> {
        self.check()?;
        let fields = columns::schema().fields().clone();
        let schema = Arc::new(Schema::new_with_metadata(fields, self.header()?));
        let mut out = Vec::new();
        let mut writer = StreamWriter::try_new(&mut out, &schema).map_err(IpcError::from)?;
        let mut rows = Columns::new();
        for entry in &self.add {
            rows.push_add(entry)?;
            rows.flush_full(&schema, &mut writer)?;
        }
        for change in &self.tombstone {
            rows.push_tombstone(change)?;
            rows.flush_full(&schema, &mut writer)?;
        }
        for change in &self.drop {
            rows.push_drop(change)?;
            rows.flush_full(&schema, &mut writer)?;
        }
        rows.flush(&schema, &mut writer)?;
        writer.finish().map_err(IpcError::from)?;
        drop(writer);
        Ok((ContentHash::of(&out), out.into()))
    }

    /// The change set that `bytes` hold, which must hash to `expected`.
    ///
    /// # Errors
    /// [`ChangeSetError`]: one variant for each way the bytes can be malformed.
    pub(crate) fn decode(bytes: &[u8], expected: &ContentHash) -> Result<Self, ChangeSetError> {
        let actual = ContentHash::of(bytes);
        if actual != *expected {
            return Err(ChangeSetError::HashMismatch {
                expected: *expected,
                actual,
            });
        }
        Self::decode_unverified(bytes)
    }

    /// [`decode`](Self::decode) where no hash is known. Never for a commit: the stream has no
    /// checksum of its own, so damage may go unnoticed.
    ///
    /// # Errors
    /// As `decode`.
    pub(crate) fn decode_unverified(bytes: &[u8]) -> Result<Self, ChangeSetError> {
        let (schema, batches) = ipc::read_stream(bytes)?;
        let header = Header(schema.metadata());
        let version = header.text(VERSION)?;
        if version != CHANGE_SET_VERSION.to_string() {
            return Err(ChangeSetError::UnsupportedVersion {
                found: version.to_owned(),
            });
        }
        if schema.fields() != columns::schema().fields() {
            return Err(ChangeSetError::BadColumns);
        }
        let op = header.text(OP)?;
        let mut change_set = Self {
            op: OpKind::from_name(op).ok_or_else(|| header.bad(OP))?,
            base_version: header.number(BASE_VERSION)?,
            add: Vec::new(),
            tombstone: Vec::new(),
            drop: Vec::new(),
            metadata: match header.0.get(METADATA) {
                None => None,
                Some(hex) => {
                    let bytes = hex::decode(hex).ok_or_else(|| header.bad(METADATA))?;
                    Some(wire::decode_metadata(&bytes)?)
                }
            },
            statement: header.text(STATEMENT)?.to_owned(),
            rows_inserted: header.number(INSERTED)?,
            rows_deleted: header.number(DELETED)?,
            rows_updated: header.number(UPDATED)?,
            started_at_ms: header.number(STARTED)?,
            serializable: match header.text(ISOLATION)? {
                SNAPSHOT => false,
                SERIALIZABLE => true,
                // A level that is not known may promise more than this version keeps.
                _ => return Err(header.bad(ISOLATION)),
            },
            absent_keys: match header.0.get(ABSENT_KEYS) {
                None => Vec::new(),
                Some(hex) => {
                    let bytes = hex::decode(hex).ok_or_else(|| header.bad(ABSENT_KEYS))?;
                    decode_absent_keys(&bytes)?
                }
            },
        };
        if change_set.statement.len() > MAX_STATEMENT_LEN {
            return Err(header.bad(STATEMENT));
        }
        for batch in &batches {
            columns::read_batch(batch, &mut change_set)?;
        }
        let (announced, actual) = (header.number(CHANGES)?, change_set.len() as u64);
        if announced != actual {
            return Err(ChangeSetError::WrongCount { announced, actual });
        }
        change_set.check()?;
        Ok(change_set)
    }

    fn header(&self) -> Result<HashMap<String, String>, ChangeSetError> {
        let isolation = match self.serializable {
            true => SERIALIZABLE,
            false => SNAPSHOT,
        };
        let mut header = HashMap::from([
            (VERSION, CHANGE_SET_VERSION.to_string()),
            (OP, self.op.to_string()),
            (BASE_VERSION, self.base_version.to_string()),
            (INSERTED, self.rows_inserted.to_string()),
            (DELETED, self.rows_deleted.to_string()),
            (UPDATED, self.rows_updated.to_string()),
            (STARTED, self.started_at_ms.to_string()),
            (STATEMENT, shorten_statement(&self.statement)),
            (CHANGES, self.len().to_string()),
            (ISOLATION, isolation.to_owned()),
        ]);
        if let Some(metadata) = &self.metadata {
            header.insert(METADATA, hex::encode(&wire::encode_metadata(metadata)?));
        }
        if !self.absent_keys.is_empty() {
            let keys = encode_absent_keys(&self.absent_keys)?;
            header.insert(ABSENT_KEYS, hex::encode(&keys));
        }
        Ok(header
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect())
    }
}

/// The schema's metadata.
struct Header<'a>(&'a HashMap<String, String>);

impl Header<'_> {
    fn bad(&self, key: &'static str) -> ChangeSetError {
        ChangeSetError::BadHeader {
            key,
            found: self.0.get(key).cloned(),
        }
    }

    fn text(&self, key: &'static str) -> Result<&str, ChangeSetError> {
        self.0
            .get(key)
            .map(String::as_str)
            .ok_or_else(|| self.bad(key))
    }

    fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, ChangeSetError> {
        self.text(key)?.parse().map_err(|_| self.bad(key))
    }
}
