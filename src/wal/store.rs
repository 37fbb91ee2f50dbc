//! The WAL store: the only code that reads or writes WAL documents, change sets and sidecars.
//!
//! Owns: their keys, their codecs' errors with the object's name, and compare-and-swap on documents.
//! Does not own which transition is legal (`machine`), nor when one is made (`driver`, `table::commit`).
//! Invariants: every write of a document carries a fresh nonce, so its etag always changes and an
//! uncertain outcome can be settled by reading back; change sets and sidecars are immutable in
//! the protocol. A crash leaves at most one object written and unheard of.
//!
//! | operation | behaviour |
//! | --- | --- |
//! | [`create`](WalStore::create) | create-only; an existing document is [`WalError::AlreadyExists`] |
//! | [`read`](WalStore::read) | missing is [`WalError::NotFound`]; bad JSON is [`WalError::Serde`], naming the path |
//! | [`update_with_etag`](WalStore::update_with_etag) | stale etag or vanished document is [`WalError::CasFailed`]; an empty etag means create-only |
//! | [`delete_state`](WalStore::delete_state), [`delete_arrow`](WalStore::delete_arrow) | idempotent |
//! | [`put_arrow`](WalStore::put_arrow) | writing again is legal: the first bytes stand |
//! | [`get_arrow`](WalStore::get_arrow) | a mismatch is [`WalError::SidecarContentHashMismatch`] |
//! | [`get_tombstones`](WalStore::get_tombstones) | absent is `None`; undecodable is [`WalError::SidecarCodec`] |
//! | [`put_tombstones`](WalStore::put_tombstones) | none or empty etag means create-only; a lost race is [`WalError::CasFailed`] |
//! | [`list_wal_ids`](WalStore::list_wal_ids) | documents only, oldest first; foreign names are skipped |
//! | [`list_tombstone_ids`](WalStore::list_tombstone_ids) | foreign names are skipped |

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use uuid::Uuid;

use crate::error::{Error, ErrorKind};
use crate::format::paths::{self, ObjectName};
use crate::format::{
    ContentHash, IdBlock, Sidecar, SidecarCodecError, SidecarId, StateDoc, StateDocError, WalId,
};
use crate::storage::{CasOutcome, ObjectVersion, Storage, StorageError};
use crate::wal::env::IdSource;

/// Requests of one clean-up that are under way at once.
const CONCURRENT_DELETES: usize = 16;

/// Names one state of one document or sidecar; empty where none is expected to exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Etag(String);

impl Etag {
    /// The etag of "no object": a write that expects it creates.
    pub const NONE: Etag = Etag(String::new());

    /// Whether this is the etag of "no object".
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The token's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Etag {
    fn from(token: &str) -> Self {
        Self(token.to_owned())
    }
}

impl From<ObjectVersion> for Etag {
    fn from(version: ObjectVersion) -> Self {
        Self(version.token())
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an operation of the WAL store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// A document of this id exists.
    #[error("{path}: exists already")]
    AlreadyExists {
        /// The object.
        path: Path,
    },
    /// There is no such document or change set.
    #[error("{path}: does not exist")]
    NotFound {
        /// The object.
        path: Path,
    },
    /// The document cannot be written as JSON, or its bytes are no document that this version reads.
    #[error("{path}: not a WAL document that can be read")]
    Serde {
        /// The document.
        path: Path,
        /// What is wrong with it.
        source: StateDocError,
    },
    /// The document under this name is that of another mutation.
    #[error("{path}: holds the document of mutation {found}")]
    WrongId {
        /// The document.
        path: Path,
        /// The id that it says it has.
        found: WalId,
    },
    /// The object is no longer in the state that the etag names.
    #[error("{path}: changed or deleted by another process")]
    CasFailed {
        /// The object.
        path: Path,
    },
    /// A change set's bytes are not those that its document names.
    #[error("{path}: content hash is {got}, expected {expected}")]
    SidecarContentHashMismatch {
        /// The change set or sidecar.
        path: Path,
        /// blake3 of the bytes that were written, hex.
        expected: String,
        /// blake3 of the bytes that were read, hex.
        got: String,
    },
    /// A tombstone sidecar cannot be decoded.
    #[error("{path}: not a tombstone sidecar")]
    SidecarCodec {
        /// The sidecar.
        path: Path,
        /// What is wrong with it.
        source: SidecarCodecError,
    },
    /// The object store failed.
    #[error("the object store failed")]
    Storage(#[from] StorageError),
}

impl WalError {
    /// Whether a write may have taken effect, or may still, although it failed.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Storage(error) if error.outcome_unknown())
    }

    fn path(&self) -> String {
        match self {
            Self::AlreadyExists { path }
            | Self::NotFound { path }
            | Self::Serde { path, .. }
            | Self::WrongId { path, .. }
            | Self::CasFailed { path }
            | Self::SidecarContentHashMismatch { path, .. }
            | Self::SidecarCodec { path, .. } => path.to_string(),
            Self::Storage(error) => error.path().to_owned(),
        }
    }
}

impl From<WalError> for Error {
    fn from(error: WalError) -> Self {
        let path = error.path();
        match error {
            WalError::AlreadyExists { .. } => {
                Error::new(ErrorKind::AlreadyExists, path, "exists already")
            }
            WalError::NotFound { .. } => Error::new(ErrorKind::NotFound, path, "does not exist"),
            WalError::Serde { source, .. } => {
                let kind = match source {
                    StateDocError::UnsupportedVersion { .. } => ErrorKind::UnsupportedVersion,
                    _ => ErrorKind::Corrupt,
                };
                Error::new(kind, path, "not a WAL document that can be read").with_source(source)
            }
            WalError::WrongId { found, .. } => Error::new(
                ErrorKind::Corrupt,
                path,
                format!("holds the document of mutation {found}"),
            ),
            WalError::CasFailed { .. } => Error::new(
                ErrorKind::Conflict,
                path,
                "changed or deleted by another process",
            ),
            WalError::SidecarContentHashMismatch { expected, got, .. } => Error::new(
                ErrorKind::Corrupt,
                path,
                format!("content hash is {got}, expected {expected}"),
            ),
            WalError::SidecarCodec { source, .. } => {
                Error::new(ErrorKind::Corrupt, path, "not a tombstone sidecar").with_source(source)
            }
            WalError::Storage(source) => source.into(),
        }
    }
}

/// `Result` of the WAL store.
pub(crate) type WalResult<T> = Result<T, WalError>;

/// What lies under the WAL prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalListing {
    /// Ids that have a document, ascending: oldest first.
    pub documents: Vec<WalId>,
    /// Ids that have a change set and no document, ascending.
    pub orphan_arrows: Vec<WalId>,
}

/// Documents, change sets and sidecars of one table.
#[derive(Clone, Debug)]
pub struct WalStore {
    storage: Storage,
    ids: Arc<dyn IdSource>,
}

impl WalStore {
    /// The WAL store of the table that `storage` is rooted at; `ids` mints the nonces.
    pub fn new(storage: Storage, ids: Arc<dyn IdSource>) -> Self {
        Self { storage, ids }
    }

    /// Creates the document.
    ///
    /// # Errors
    /// [`WalError::AlreadyExists`] if there is one of this id.
    pub async fn create(&self, doc: &StateDoc) -> WalResult<Etag> {
        let path = paths::wal_doc(&doc.wal_id);
        let first = self.encode(&path, doc)?;
        // A document is deleted in the end: a try that lands after that must not be taken for this one.
        let mut next = Some(first.clone());
        let mut bodies = || {
            let again = || self.encode(&path, doc).unwrap_or_else(|_| first.clone());
            next.take().unwrap_or_else(again)
        };
        match self.storage.create_with(&path, &mut bodies).await? {
            CasOutcome::Committed(version) => Ok(version.into()),
            CasOutcome::Lost => Err(WalError::AlreadyExists { path }),
        }
    }

    /// Reads the document and the etag of its present state.
    ///
    /// # Errors
    /// [`WalError::NotFound`], or [`WalError::Serde`] for bytes that are no document.
    pub async fn read(&self, id: &WalId) -> WalResult<(StateDoc, Etag)> {
        let path = paths::wal_doc(id);
        let Some((bytes, version)) = self.storage.get(&path).await? else {
            return Err(WalError::NotFound { path });
        };
        match StateDoc::decode(&bytes) {
            Ok(doc) if doc.wal_id == *id => Ok((doc, version.into())),
            Ok(doc) => Err(WalError::WrongId {
                path,
                found: doc.wal_id,
            }),
            Err(source) => Err(WalError::Serde { path, source }),
        }
    }

    /// Replaces the document if it is still in the state that `etag` names; [`Etag::NONE`] creates it.
    ///
    /// # Errors
    /// [`WalError::CasFailed`] if it changed, vanished, or (with an empty etag) exists.
    pub async fn update_with_etag(
        &self,
        id: &WalId,
        etag: &Etag,
        doc: &StateDoc,
    ) -> WalResult<Etag> {
        self.update_signed(id, etag, doc, self.ids.nonce()).await
    }

    /// The same, under a nonce that the caller knows, and has not used before.
    ///
    /// # Errors
    /// As [`update_with_etag`](Self::update_with_etag).
    pub async fn update_signed(
        &self,
        id: &WalId,
        etag: &Etag,
        doc: &StateDoc,
        nonce: Uuid,
    ) -> WalResult<Etag> {
        let path = paths::wal_doc(id);
        if doc.wal_id != *id {
            return Err(WalError::WrongId {
                path,
                found: doc.wal_id,
            });
        }
        let body = encode(&path, doc, nonce)?;
        self.swap(path, etag, body).await
    }

    /// Deletes the document; a missing one is fine.
    ///
    /// # Errors
    /// Only the store's.
    pub async fn delete_state(&self, id: &WalId) -> WalResult<()> {
        Ok(self.storage.delete(&paths::wal_doc(id)).await?)
    }

    /// Whether the document is gone, durably: it will not be there again after a crash.
    ///
    /// # Errors
    /// Only the store's.
    pub async fn is_gone(&self, id: &WalId) -> WalResult<bool> {
        let path = paths::wal_doc(id);
        if self.storage.get(&path).await?.is_some() {
            return Ok(false);
        }
        self.storage.make_durable(&path).await?;
        Ok(true)
    }

    /// Writes the change set; if there is one its bytes stand.
    ///
    /// # Errors
    /// Only the store's.
    pub async fn put_arrow(&self, id: &WalId, bytes: Bytes) -> WalResult<()> {
        Ok(self
            .storage
            .put_immutable(&paths::wal_arrow(id), bytes)
            .await?)
    }

    /// Reads the change set, and checks it against the blake3 (hex) that its document names.
    ///
    /// # Errors
    /// [`WalError::NotFound`], [`WalError::SidecarContentHashMismatch`].
    pub async fn get_arrow(&self, id: &WalId, expected: Option<&str>) -> WalResult<Bytes> {
        let path = paths::wal_arrow(id);
        let Some((bytes, _)) = self.storage.get(&path).await? else {
            return Err(WalError::NotFound { path });
        };
        if let Some(expected) = expected {
            verify(path, &bytes, expected)?;
        }
        Ok(bytes)
    }

    /// Deletes the change set; a missing one is fine.
    ///
    /// # Errors
    /// Only the store's.
    pub async fn delete_arrow(&self, id: &WalId) -> WalResult<()> {
        Ok(self.storage.delete(&paths::wal_arrow(id)).await?)
    }

    /// Reads a sidecar and the etag of its present state.
    ///
    /// # Errors
    /// [`WalError::SidecarCodec`] if its bytes are no sidecar.
    pub async fn get_tombstones(&self, id: &SidecarId) -> WalResult<Option<(Sidecar, Etag)>> {
        let path = paths::sidecar(id);
        let Some((bytes, version)) = self.storage.get(&path).await? else {
            return Ok(None);
        };
        match Sidecar::decode(&bytes) {
            Ok(sidecar) => Ok(Some((sidecar, version.into()))),
            Err(source) => Err(WalError::SidecarCodec { path, source }),
        }
    }

    /// Creates the sidecar (no or empty etag), or replaces the state that the etag names.
    ///
    /// The layout has no room for a nonce: two racers that write *equal* bytes may both be told that they
    /// won. The table's protocol never replaces a sidecar.
    ///
    /// # Errors
    /// [`WalError::CasFailed`] for a lost race.
    pub async fn put_tombstones(
        &self,
        id: &SidecarId,
        expected: Option<&Etag>,
        sidecar: &Sidecar,
    ) -> WalResult<Etag> {
        let path = paths::sidecar(id);
        let body = match sidecar.encode() {
            Ok(body) => body,
            Err(source) => return Err(WalError::SidecarCodec { path, source }),
        };
        self.swap(path, expected.unwrap_or(&Etag::NONE), body).await
    }

    /// Reads a sidecar that must exist, and checks its bytes against the hash that a manifest recorded.
    ///
    /// # Errors
    /// [`WalError::NotFound`], [`WalError::SidecarContentHashMismatch`], [`WalError::SidecarCodec`].
    pub async fn load_sidecar(&self, id: &SidecarId, hash: &ContentHash) -> WalResult<Sidecar> {
        let path = paths::sidecar(id);
        let Some((bytes, _)) = self.storage.get(&path).await? else {
            return Err(WalError::NotFound { path });
        };
        verify(path.clone(), &bytes, &hash.to_string())?;
        Sidecar::decode(&bytes).map_err(|source| WalError::SidecarCodec { path, source })
    }

    /// Writes an encoded sidecar under a fresh id.
    ///
    /// # Errors
    /// Only the store's.
    pub async fn stage_sidecar(&self, id: &SidecarId, bytes: Bytes) -> WalResult<()> {
        Ok(self
            .storage
            .put_immutable(&paths::sidecar(id), bytes)
            .await?)
    }

    /// Deletes a sidecar; a missing one is fine.
    ///
    /// # Errors
    /// Only the store's.
    pub async fn delete_sidecar(&self, id: &SidecarId) -> WalResult<()> {
        Ok(self.storage.delete(&paths::sidecar(id)).await?)
    }

    /// The ids that have a document, oldest first.
    ///
    /// # Errors
    /// Only the store's.
    pub async fn list_wal_ids(&self) -> WalResult<Vec<WalId>> {
        Ok(self.list_wal().await?.documents)
    }

    /// Documents, and change sets that have none.
    ///
    /// # Errors
    /// Only the store's.
    pub async fn list_wal(&self) -> WalResult<WalListing> {
        let mut documents = Vec::new();
        let mut arrows = Vec::new();
        let mut objects = self.storage.list(Some(&paths::wal_prefix()));
        while let Some(meta) = objects.try_next().await? {
            match paths::parse(&meta.location) {
                Some(ObjectName::WalDoc(id)) => documents.push(id),
                Some(ObjectName::WalArrow(id)) => arrows.push(id),
                _ => {}
            }
        }
        documents.sort_unstable();
        arrows.retain(|id| documents.binary_search(id).is_err());
        arrows.sort_unstable();
        Ok(WalListing {
            documents,
            orphan_arrows: arrows,
        })
    }

    /// The ids of all sidecars.
    ///
    /// # Errors
    /// Only the store's.
    pub async fn list_tombstone_ids(&self) -> WalResult<Vec<SidecarId>> {
        let mut ids = Vec::new();
        let mut objects = self.storage.list(Some(&paths::superfile_prefix()));
        while let Some(meta) = objects.try_next().await? {
            if let Some(ObjectName::Sidecar(id)) = paths::parse(&meta.location) {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Deletes the superfiles and sidecars whose ids lie in `block`; returns how many there were.
    ///
    /// # Errors
    /// Only the store's; what was deleted stays deleted.
    pub async fn delete_staged(&self, block: &IdBlock) -> WalResult<usize> {
        let prefix = paths::superfile_prefix();
        // Names sort as ids do, so everything of the block lies after its base's bare uuid.
        let offset = prefix.clone().join(block.base().to_string());
        let mut objects = self.storage.list_from(&prefix, &offset);
        let mut staged = Vec::new();
        while let Some(meta) = objects.try_next().await? {
            let id = match paths::parse(&meta.location) {
                Some(ObjectName::Superfile(id)) => id.as_uuid(),
                Some(ObjectName::Sidecar(id)) => id.as_uuid(),
                _ => continue,
            };
            if block.contains(id) {
                staged.push(meta.location);
            }
        }
        let count = staged.len();
        futures::stream::iter(staged)
            .map(|path| async move { self.storage.delete(&path).await })
            .buffer_unordered(CONCURRENT_DELETES)
            .try_collect::<()>()
            .await?;
        Ok(count)
    }

    /// A document's bytes, under a nonce that no other write of it has.
    fn encode(&self, path: &Path, doc: &StateDoc) -> WalResult<Bytes> {
        encode(path, doc, self.ids.nonce())
    }

    async fn swap(&self, path: Path, etag: &Etag, body: Bytes) -> WalResult<Etag> {
        let outcome = if etag.is_none() {
            self.storage.create(&path, body).await?
        } else {
            match ObjectVersion::parse_token(etag.as_str()) {
                Some(version) => self.storage.replace(&path, &version, body).await?,
                // No object can be in a state that no store named.
                None => CasOutcome::Lost,
            }
        };
        match outcome {
            CasOutcome::Committed(version) => Ok(version.into()),
            CasOutcome::Lost => Err(WalError::CasFailed { path }),
        }
    }
}

fn encode(path: &Path, doc: &StateDoc, nonce: Uuid) -> WalResult<Bytes> {
    let mut doc = doc.clone();
    doc.nonce = nonce;
    doc.encode().map_err(|source| WalError::Serde {
        path: path.clone(),
        source,
    })
}

fn verify(path: Path, bytes: &[u8], expected: &str) -> WalResult<()> {
    let got = ContentHash::of(bytes).to_string();
    if got == expected {
        Ok(())
    } else {
        Err(WalError::SidecarContentHashMismatch {
            path,
            expected: expected.to_owned(),
            got,
        })
    }
}
