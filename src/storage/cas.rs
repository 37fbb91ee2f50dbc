//! Compare-and-swap on the objects of one table, with outcomes as values.
//!
//! Owns [`Storage`]: create-only, replace-if-version, conditional get, idempotent delete, listing.
//! Does not own what the bytes mean, nor the local disk ([`LocalStore`]).
//!
//! Vocabulary: a conditional write is *committed* (its bytes came into force, exactly once),
//! *lost* (something else is there), or its outcome is *unknown*. Two kinds of answer prove
//! nothing: one that never arrives, and a refusal, because the HTTP clients below repeat requests
//! and can report the success of the first try as the failure of the second. Both are settled the
//! same way, by reading back:
//!
//! | read back | verdict |
//! | --- | --- |
//! | our bytes | committed, with the version just read |
//! | the expected old state (for a create: nothing) | tried again: same bytes, same condition, bounded |
//! | anything else | lost |
//!
//! A first try that lands late is harmless: it carries the same bytes and the same condition as
//! the later ones, so one of them takes effect, and the read back recognises it as ours.
//!
//! Invariant: `Committed` is never said of bytes that did not come into force. `Lost` is never said
//! while our bytes are in force. It does **not** prove that they never were: another writer may
//! have replaced them between the lost answer and the read back. A protocol that needs to know asks
//! its history. For a create the same holds if another process deletes the object in between: it may then
//! be created again.
//!
//! A crash leaves behind either the old or the new object, never a mixture.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::ready;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    Error as StoreError, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};
use tracing::{debug, warn};

use super::error::StorageError;
use super::exact::ExactStore;
use super::local::{LocalStore, SyncCounts};
use super::outcome::{CasOutcome, Fetched, Replaced};
use super::read_only::ReadOnlyStore;
use super::retry::{Answer, RetryPolicy, classify};
use super::version::ObjectVersion;

/// Deletes that are under way at once where a bulk delete failed.
const DELETES_AT_ONCE: usize = 16;

/// The objects of one table. Cheap to clone; all paths are relative to the table's root.
#[derive(Clone, Debug)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    local: Option<LocalStore>,
    policy: Arc<RetryPolicy>,
    read_only: bool,
}

/// What the read back after an uncertain write found.
enum Settled {
    Ours(ObjectVersion),
    StillOld(Option<ObjectVersion>),
    Other(Option<(Bytes, ObjectVersion)>),
}

impl Storage {
    /// The table whose root is the prefix `root` of `store`: an object store or memory. For a
    /// directory use [`local`](Self::local): `object_store`'s `LocalFileSystem` can neither replace
    /// conditionally nor make anything durable.
    pub fn new(store: Arc<dyn ObjectStore>, root: &Path, policy: RetryPolicy) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(ExactStore::new(store));
        let store = if root.is_root() {
            store
        } else {
            Arc::new(PrefixStore::new(store, root.clone()))
        };
        Self {
            store,
            local: None,
            policy: Arc::new(policy),
            read_only: false,
        }
    }

    /// The table in the directory `dir`, which need not exist: the first write creates it.
    ///
    /// # Errors
    /// [`StorageError::InvalidRoot`] if `dir` is something else than a directory.
    pub fn local(
        dir: impl AsRef<std::path::Path>,
        policy: RetryPolicy,
    ) -> Result<Self, StorageError> {
        let local = LocalStore::new(dir)?;
        Ok(Self {
            store: Arc::new(local.clone()),
            local: Some(local),
            policy: Arc::new(policy),
            read_only: false,
        })
    }

    /// The same objects, of which none can be changed through this.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self {
            store: Arc::new(ReadOnlyStore(self.store)),
            read_only: true,
            ..self
        }
    }

    /// Checks what the store itself would when it reads the object, for those who read it by other
    /// ways: on a local disk, that no symbolic link leads to it.
    ///
    /// # Errors
    /// [`StorageError::Store`] if one does.
    pub fn check_inside(&self, path: &Path) -> Result<(), StorageError> {
        let Some(local) = &self.local else {
            return Ok(());
        };
        local.check(path).map_err(|source| StorageError::Store {
            path: path.to_string(),
            operation: "get",
            attempts: 1,
            source,
        })
    }

    /// Whether this only reads.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The object's bytes and version; `None` if there is none.
    ///
    /// # Errors
    /// [`StorageError::Store`] once the retries are used up.
    pub async fn get(&self, path: &Path) -> Result<Option<(Bytes, ObjectVersion)>, StorageError> {
        match self.fetch(path, None).await? {
            Fetched::Changed(bytes, version) => Ok(Some((bytes, version))),
            Fetched::Missing | Fetched::Unchanged => Ok(None),
        }
    }

    /// One conditional read: the bytes only if the object is no longer in the state `known`.
    ///
    /// # Errors
    /// [`StorageError::Store`] once the retries are used up.
    pub async fn get_if_changed(
        &self,
        path: &Path,
        known: &ObjectVersion,
    ) -> Result<Fetched, StorageError> {
        self.fetch(path, Some(known)).await
    }

    /// Creates the object if there is none. `body` must differ from every other body that is ever
    /// written here: it carries a nonce.
    ///
    /// # Errors
    /// [`StorageError::Store`] if it is known not to exist because of this call,
    /// [`StorageError::OutcomeUnknown`] if it may.
    pub async fn create(&self, path: &Path, body: Bytes) -> Result<CasOutcome, StorageError> {
        let mut same = || body.clone();
        self.create_with(path, &mut same).await
    }

    /// As [`create`](Self::create), for an object that may be deleted again: each try has another body, of which
    /// one comes into force. So a try that lands after the object was deleted makes an object whose
    /// version nobody was told, also where versions are hashes of contents.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_with(
        &self,
        path: &Path,
        bodies: &mut (dyn FnMut() -> Bytes + Send),
    ) -> Result<CasOutcome, StorageError> {
        let created = self.compare_and_swap("create", path, None, bodies).await?;
        Ok(created.into())
    }

    /// Replaces the object if it is in the state `expected`. `body` must differ from every other
    /// body that is ever written here: it carries a nonce. A vanished object is a lost race.
    ///
    /// # Errors
    /// [`StorageError::Store`] if the body is known not to be in force, now or later,
    /// [`StorageError::OutcomeUnknown`] if it may be, [`StorageError::Unversioned`] if `expected`
    /// names no state because the store names none.
    pub async fn replace(
        &self,
        path: &Path,
        expected: &ObjectVersion,
        body: Bytes,
    ) -> Result<CasOutcome, StorageError> {
        Ok(self.replace_or_read(path, expected, body).await?.into())
    }

    /// As [`replace`](Self::replace). A loser is spared the read of what won, if settling took one.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub async fn replace_or_read(
        &self,
        path: &Path,
        expected: &ObjectVersion,
        body: Bytes,
    ) -> Result<Replaced, StorageError> {
        if !expected.names_a_state() {
            return Err(StorageError::Unversioned {
                path: path.to_string(),
            });
        }
        let mut same = || body.clone();
        self.compare_and_swap("replace", path, Some(expected.clone()), &mut same)
            .await
    }

    /// Writes an object that never changes. If there is one already its bytes stand, and that is a
    /// success: immutable objects are named by their content or by a fresh id.
    ///
    /// # Errors
    /// [`StorageError::Store`] once the retries are used up; the object may exist then.
    pub async fn put_immutable(&self, path: &Path, body: Bytes) -> Result<(), StorageError> {
        let mut delays = self.policy.delays();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let source = match self.put(path, &body, PutMode::Create).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let answer = classify(&source);
            debug!(%path, attempts, operation = "put", ?answer, error = %source, "retry");
            let failed = |source| StorageError::Store {
                path: path.to_string(),
                operation: "put",
                attempts,
                source,
            };
            if answer == Answer::Definite {
                return Err(failed(source));
            }
            self.make_durable(path).await?;
            if self.exists(path).await? {
                return Ok(());
            }
            match delays.next() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(failed(source)),
            }
        }
    }

    /// Deletes the object; a missing one is a success. When this returns the object is durably
    /// gone, whichever process deleted it: on a local disk an absence that was merely *observed* (by a read or
    /// a listing) may not have reached the disk yet.
    ///
    /// # Errors
    /// [`StorageError::Store`] once the retries are used up; the object may be gone then.
    pub async fn delete(&self, path: &Path) -> Result<(), StorageError> {
        self.retrying("delete", path, || async {
            match self.store.delete(path).await {
                Err(StoreError::NotFound { .. }) => Ok(()),
                other => other,
            }
        })
        .await
    }

    /// Deletes objects in bulk, as many in one request as the store takes; missing ones are a
    /// success. When this returns they are durably gone.
    ///
    /// # Errors
    /// [`StorageError::Store`] for one that cannot be deleted; others may be gone then.
    pub async fn delete_all(&self, paths: Vec<Path>) -> Result<(), StorageError> {
        let stream = futures::stream::iter(paths.clone().into_iter().map(Ok)).boxed();
        let mut answers = self.store.delete_stream(stream);
        let mut failed = false;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => {
                    debug!(%error, "a bulk delete was not acknowledged");
                    failed = true;
                }
            }
        }
        if !failed {
            return Ok(());
        }
        // An answer does not always say which object it is about: each one again, on its own.
        futures::stream::iter(paths)
            .map(|path| async move { self.delete(&path).await })
            .buffer_unordered(DELETES_AT_ONCE)
            .try_collect()
            .await
    }

    /// The objects below `prefix` (by whole path segments), at any depth, in no promised order. An
    /// absent prefix is empty. A stream that has ended may be asked again, which some stores' own do
    /// not bear.
    pub fn list(
        &self,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta, StorageError>> {
        let about = prefix.map(ToString::to_string).unwrap_or_default();
        self.store
            .list(prefix)
            .map(move |item| item.map_err(|e| StorageError::of_list(&about, e)))
            .fuse()
            .boxed()
    }

    /// Those objects below `prefix` whose paths sort after `offset`, in no promised order. Complete
    /// where the objects lie at one level below `prefix`; deeper ones some S3 servers sort by
    /// directory rather than by bytes when they skip to the offset.
    pub fn list_from(
        &self,
        prefix: &Path,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta, StorageError>> {
        let (about, offset) = (prefix.to_string(), offset.clone());
        self.store
            .list_with_offset(Some(prefix), &offset)
            .try_filter(move |object| ready(object.location > offset))
            .map(move |item| item.map_err(|e| StorageError::of_list(&about, e)))
            .boxed()
    }

    /// The store below, rooted at the table's root, for streaming immutable objects. A put or a
    /// completed multipart upload through it is durable; its conditional writes are not settled.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Waits until the present state of the object, its absence included, is durable. Nothing to do
    /// on object stores, whose visible states are durable; one directory sync on a local disk.
    ///
    /// # Errors
    /// [`StorageError::Store`] if the disk refuses.
    pub async fn make_durable(&self, path: &Path) -> Result<(), StorageError> {
        match &self.local {
            None => Ok(()),
            Some(local) => local
                .sync_parent(path)
                .await
                .map_err(|source| StorageError::Store {
                    path: path.to_string(),
                    operation: "sync",
                    attempts: 1,
                    source,
                }),
        }
    }

    /// How many file and directory syncs this storage and its clones made; `None` unless local.
    pub fn sync_counts(&self) -> Option<SyncCounts> {
        self.local.as_ref().map(LocalStore::sync_counts)
    }

    async fn fetch(
        &self,
        path: &Path,
        known: Option<&ObjectVersion>,
    ) -> Result<Fetched, StorageError> {
        self.retrying("get", path, || async {
            let condition = known.and_then(ObjectVersion::e_tag);
            let options = GetOptions::new().with_if_none_match(condition);
            match self.store.get_opts(path, options).await {
                Ok(found) => {
                    let version = ObjectVersion::from_meta(&found.meta);
                    if known.is_some_and(|known| known.same_state(&version)) {
                        return Ok(Fetched::Unchanged);
                    }
                    Ok(Fetched::Changed(found.bytes().await?, version))
                }
                Err(StoreError::NotFound { .. }) => Ok(Fetched::Missing),
                Err(StoreError::NotModified { .. }) if condition.is_some() => {
                    Ok(Fetched::Unchanged)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn exists(&self, path: &Path) -> Result<bool, StorageError> {
        self.retrying("head", path, || async {
            match self.store.head(path).await {
                Ok(_) => Ok(true),
                Err(StoreError::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn put(
        &self,
        path: &Path,
        body: &Bytes,
        mode: PutMode,
    ) -> object_store::Result<ObjectVersion> {
        let payload = PutPayload::from_bytes(body.clone());
        let put = self
            .store
            .put_opts(path, payload, PutOptions::from(mode))
            .await?;
        Ok(ObjectVersion::from_put(&put))
    }

    async fn compare_and_swap(
        &self,
        operation: &'static str,
        path: &Path,
        mut expected: Option<ObjectVersion>,
        bodies: &mut (dyn FnMut() -> Bytes + Send),
    ) -> Result<Replaced, StorageError> {
        let mut delays = self.policy.delays();
        let mut tried: Vec<Bytes> = Vec::new();
        let mut attempts = 0;
        // Whether a request may still be under way, so that it can take effect later.
        let mut in_flight = false;
        loop {
            attempts += 1;
            let body = bodies();
            tried.push(body.clone());
            let mode = match &expected {
                None => PutMode::Create,
                Some(version) => PutMode::Update(version.to_update()),
            };
            let source = match self.put(path, &body, mode).await {
                Ok(version) if version.names_a_state() => {
                    debug!(%path, attempts, operation, outcome = "committed", "compare-and-swap");
                    return Ok(Replaced::Committed(version));
                }
                Ok(_) => return self.version_of_committed(path, &body).await,
                Err(error) => error,
            };
            let answer = classify(&source);
            if self.local.is_some() && answer == Answer::Refused && !in_flight {
                // No client in between that could have tried before: the refusal is the truth.
                debug!(%path, attempts, operation, outcome = "lost", "compare-and-swap");
                return Ok(Replaced::Lost(None));
            }
            in_flight |= answer == Answer::Unclear;
            match self.settle(path, expected.as_ref(), &tried).await {
                Ok(Settled::Ours(version)) => {
                    debug!(
                        %path, attempts, operation, ?answer, error = %source,
                        outcome = "committed", settled = true, "compare-and-swap"
                    );
                    return Ok(Replaced::Committed(version));
                }
                Ok(Settled::Other(found)) => {
                    debug!(
                        %path, attempts, operation, ?answer,
                        outcome = "lost", settled = true, "compare-and-swap"
                    );
                    return Ok(Replaced::Lost(found));
                }
                Ok(Settled::StillOld(_)) if answer == Answer::Definite => {
                    return Err(StorageError::of_write(
                        path, operation, attempts, in_flight, source,
                    ));
                }
                Ok(Settled::StillOld(version)) => {
                    debug!(%path, attempts, operation, ?answer, error = %source, "retry");
                    // A listed version may lack what the store compares; the read has all of it.
                    expected = version;
                    match delays.next() {
                        Some(delay) => tokio::time::sleep(delay).await,
                        None => {
                            // A refusal while the old state is there contradicts itself.
                            return Err(StorageError::of_write(
                                path, operation, attempts, true, source,
                            ));
                        }
                    }
                }
                Err(unsettled) => {
                    warn!(
                        %path, attempts, operation, error = %unsettled,
                        outcome = "unknown", "compare-and-swap"
                    );
                    // A refusal that cannot be checked may hide a success.
                    in_flight |= answer == Answer::Refused;
                    return Err(StorageError::of_write(
                        path, operation, attempts, in_flight, source,
                    ));
                }
            }
        }
    }

    async fn settle(
        &self,
        path: &Path,
        expected: Option<&ObjectVersion>,
        tried: &[Bytes],
    ) -> Result<Settled, StorageError> {
        // Locally a write can be visible although making it durable failed.
        self.make_durable(path).await?;
        let found = self.get(path).await?;
        Ok(match (found, expected) {
            (Some((bytes, version)), _) if tried.contains(&bytes) => Settled::Ours(version),
            (None, None) => Settled::StillOld(None),
            (Some((_, version)), Some(old)) if version.same_state(old) => {
                Settled::StillOld(Some(version))
            }
            (found, _) => Settled::Other(found),
        })
    }

    /// The version of a write that the store acknowledged without naming one.
    async fn version_of_committed(
        &self,
        path: &Path,
        body: &Bytes,
    ) -> Result<Replaced, StorageError> {
        // If this read fails, saying so would deny a write that took effect. The state it left then
        // counts as superseded: a replace from it loses, and its caller reads again.
        let version = match self.get(path).await {
            Ok(Some((bytes, version))) if bytes == *body => version,
            Ok(_) | Err(_) => ObjectVersion::superseded(),
        };
        if !version.names_a_state() {
            return Err(StorageError::Unversioned {
                path: path.to_string(),
            });
        }
        Ok(Replaced::Committed(version))
    }

    async fn retrying<T, F, Fut>(
        &self,
        operation: &'static str,
        path: &Path,
        mut attempt: F,
    ) -> Result<T, StorageError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = object_store::Result<T>>,
    {
        let mut delays = self.policy.delays();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let source = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let next = match classify(&source) {
                Answer::Definite => None,
                Answer::Refused | Answer::Unclear => delays.next(),
            };
            match next {
                Some(delay) => {
                    debug!(%path, attempts, operation, error = %source, "retry");
                    tokio::time::sleep(delay).await;
                }
                None => {
                    return Err(StorageError::Store {
                        path: path.to_string(),
                        operation,
                        attempts,
                        source,
                    });
                }
            }
        }
    }
}
