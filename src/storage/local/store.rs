//! [`LocalStore`]: the `ObjectStore` implementation, which puts the parts together.
//!
//! Owns the order of steps: stage, publish, sync. Does not own any of them. All file I/O runs on
//! tokio's blocking threads; a caller that stops waiting does not stop a step that has begun.
//!
//! Invariant and crash behaviour: see the module.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use tokio::runtime::Handle;
use tracing::info;

use super::durable::{Durable, SyncCounts, locked};
use super::list;
use super::paths::{generic, io_error, is_absence, resolve};
use super::publish::{Condition, Published, current, e_tag, publish, remove};
use super::stage::{Staged, remove_abandoned};
use super::upload::LocalUpload;
use crate::storage::error::StorageError;

/// Ranges up to this size are read at once rather than streamed from the file.
const READ_AT_ONCE: u64 = 256 * 1024;
/// How often a process that keeps writing looks for what dead ones left behind.
const CLEANING_INTERVAL: Duration = Duration::from_secs(600);
/// Deletes under way at once in a bulk delete; they share directory syncs.
const PARALLEL_DELETES: usize = 64;

/// The objects in one directory, with conditional replace and durable writes. Cheap to clone.
///
/// An object is a plain file named by its key. Keys that leave the directory, and keys that pass a
/// symbolic link below it, are refused.
#[derive(Clone, Debug)]
pub struct LocalStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    durable: Durable,
    last_cleaning: Mutex<Option<Instant>>,
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalStore({})", self.inner.root.display())
    }
}

impl LocalStore {
    /// The store in the directory `dir`, which need not exist: the first write creates it. All
    /// processes that write to a table must name the same directory (by whatever path).
    ///
    /// # Errors
    /// [`StorageError::InvalidRoot`] if `dir` is something else than a directory.
    pub fn new(dir: impl AsRef<FsPath>) -> std::result::Result<Self, StorageError> {
        let dir = dir.as_ref();
        let invalid = |reason: String| StorageError::InvalidRoot {
            path: dir.display().to_string(),
            reason,
        };
        let root = std::path::absolute(dir).map_err(|e| invalid(e.to_string()))?;
        match root.metadata() {
            Ok(found) if !found.is_dir() => return Err(invalid("not a directory".into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(invalid(error.to_string())),
        }
        Ok(Self {
            inner: Arc::new(Inner {
                durable: Durable::new(root.clone()),
                root,
                last_cleaning: Mutex::default(),
            }),
        })
    }

    /// How many syncs this store and its clones made.
    pub fn sync_counts(&self) -> SyncCounts {
        self.inner.durable.counts()
    }

    /// Waits until the present state of `key`, its absence included, is durable.
    pub(crate) async fn sync_parent(&self, key: &Path) -> Result<()> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        blocking(move || {
            let path = resolve(&inner.root, &key)?;
            let synced = inner.durable.sync_name(&path);
            synced.map_err(|e| io_error(&key, "sync its directory", e))
        })
        .await
    }

    /// Whether `key` names something inside the directory that no symbolic link leads to.
    pub(crate) fn check(&self, key: &Path) -> Result<()> {
        resolve(&self.inner.root, key).map(drop)
    }

    /// An empty temporary file.
    fn stage(&self, key: &Path) -> Result<Staged> {
        let inner = &self.inner;
        let tmp = inner.durable.private("tmp");
        inner
            .again_if_directories_vanished(|| {
                inner.durable.prepare()?;
                inner.clean_now_and_then(&tmp);
                Staged::create(&tmp)
            })
            .map_err(|e| io_error(key, "create a temporary file", e))
    }

    /// Makes the content durable, gives it its name, makes the name durable.
    pub(super) fn finish(
        &self,
        key: &Path,
        staged: &mut Staged,
        condition: &Condition,
    ) -> Result<PutResult> {
        let inner = &self.inner;
        let durable = &inner.durable;
        let target = resolve(&inner.root, key)?;
        let dir = target.parent().unwrap_or(&inner.root);
        durable.file_syncs.fetch_add(1, Ordering::Relaxed);
        staged.seal().map_err(|e| io_error(key, "write", e))?;
        let published = inner
            .again_if_directories_vanished(|| {
                durable.ensure_dir(dir)?;
                publish(durable, staged, &target, condition)
            })
            .map_err(|e| io_error(key, "publish", e))?;
        inner.outcome(key, &target, condition, published)
    }

    fn put_blocking(
        &self,
        key: &Path,
        payload: &PutPayload,
        condition: &Condition,
    ) -> Result<PutResult> {
        let inner = &self.inner;
        let target = resolve(&inner.root, key)?;
        // No proof of anything, but it spares the loser of a race its file sync.
        let found = current(&target).map_err(|e| io_error(key, "look up", e))?;
        match (condition, found.as_ref().map(e_tag)) {
            (Condition::Nothing, Some(_)) => {
                return inner.outcome(key, &target, condition, Published::Exists);
            }
            (Condition::ETag(expected), found) if found.as_ref() != Some(expected) => {
                return inner.outcome(key, &target, condition, Published::Differs { found });
            }
            _ => {}
        }
        let mut staged = self.stage(key)?;
        staged
            .write_at(0, payload)
            .map_err(|e| io_error(key, "write", e))?;
        self.finish(key, &mut staged, condition)
    }
}

impl Inner {
    fn outcome(
        &self,
        key: &Path,
        target: &FsPath,
        condition: &Condition,
        published: Published,
    ) -> Result<PutResult> {
        let path = key.to_string();
        let sync = || {
            let synced = self.durable.sync_name(target);
            synced.map_err(|e| io_error(key, "sync its directory", e))
        };
        match published {
            Published::Done { e_tag, replaced } => {
                sync()?;
                replaced.close_later();
                Ok(PutResult {
                    e_tag: Some(e_tag),
                    version: None,
                })
            }
            Published::Exists => {
                // The caller may rely on the object that exists, whose writer may not have synced.
                sync()?;
                Err(Error::AlreadyExists {
                    path,
                    source: "the object exists".into(),
                })
            }
            Published::Differs { found } => Err(Error::Precondition {
                path,
                source: format!("{found:?} does not match {condition:?}").into(),
            }),
        }
    }

    /// Runs a step again, once, if a directory that was there is gone: someone deleted the table's
    /// directory, or the private one in it, while the table was open.
    fn again_if_directories_vanished<T>(
        &self,
        mut step: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        match step() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.durable.forget();
                step()
            }
            other => other,
        }
    }

    fn clean_now_and_then(&self, tmp: &FsPath) {
        let mut last = locked(&self.last_cleaning);
        if last.is_some_and(|last| last.elapsed() < CLEANING_INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        drop(last);
        let removed = remove_abandoned(tmp);
        if removed > 0 {
            info!(
                removed,
                "removed temporary files of processes that are gone"
            );
        }
    }

    fn open(&self, key: &Path) -> Result<(File, ObjectMeta, PathBuf)> {
        let path = resolve(&self.root, key)?;
        let absent = || Error::NotFound {
            path: key.to_string(),
            source: "no such object".into(),
        };
        let failed = |error: io::Error| match is_absence(&error) {
            true => absent(),
            false => io_error(key, "open", error),
        };
        // Opening a pipe would block.
        if !path.symlink_metadata().map_err(failed)?.is_file() {
            return Err(absent());
        }
        let file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok((file, list::object_meta(key.clone(), &metadata), path))
    }

    fn get(&self, key: &Path, options: &GetOptions) -> Result<GetResult> {
        if options.version.is_some() {
            return Err(generic("there are no object versions on a local disk"));
        }
        let (mut file, meta, path) = self.open(key)?;
        if options.range.is_none() && !options.head {
            self.wait_until_durable(&file, &path)
                .map_err(|e| io_error(key, "sync its directory", e))?;
        }
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(generic)?,
            None => 0..meta.size,
        };
        let payload = if options.head {
            GetResultPayload::Stream(futures::stream::empty().boxed())
        } else if range.end - range.start <= READ_AT_ONCE {
            let bytes = read_range(&mut file, &range).map_err(|e| io_error(key, "read", e))?;
            GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed())
        } else {
            GetResultPayload::File(file, path)
        };
        Ok(GetResult {
            payload,
            meta,
            range,
            attributes: Attributes::default(),
        })
    }

    /// A published file stays locked until its directory is synced. If the writer has not got
    /// there, the reader does it: what a read returns must not be undone by a power failure.
    fn wait_until_durable(&self, file: &File, path: &FsPath) -> io::Result<()> {
        match file.try_lock_shared() {
            Ok(()) => file.unlock(),
            Err(TryLockError::WouldBlock) => self.durable.sync_name(path),
            // No locks here, so no writers either.
            Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (mut file, meta, _) = self.open(key)?;
        ranges
            .iter()
            .map(|range| {
                let range = GetRange::Bounded(range.clone())
                    .as_range(meta.size)
                    .map_err(generic)?;
                read_range(&mut file, &range).map_err(|e| io_error(key, "read", e))
            })
            .collect()
    }

    fn delete(&self, key: &Path) -> Result<()> {
        let target = resolve(&self.root, key)?;
        let removed = remove(&self.durable, &target).map_err(|e| io_error(key, "delete", e))?;
        // Also if it was gone already: whoever removed it may not have synced.
        self.durable
            .sync_name(&target)
            .map_err(|e| io_error(key, "sync its directory", e))?;
        if let Some(removed) = removed {
            removed.close_later();
            return Ok(());
        }
        Err(Error::NotFound {
            path: key.to_string(),
            source: "no such object".into(),
        })
    }
}

fn read_range(file: &mut File, range: &Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut buffer = vec![0; length];
    #[cfg(unix)]
    std::os::unix::fs::FileExt::read_exact_at(file, &mut buffer, range.start)?;
    #[cfg(not(unix))]
    {
        use std::io::{Read, Seek, SeekFrom};
        file.seek(SeekFrom::Start(range.start))?;
        file.read_exact(&mut buffer)?;
    }
    Ok(buffer.into())
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

fn no_attributes(attributes: &Attributes) -> Result<()> {
    if attributes.is_empty() {
        return Ok(());
    }
    Err(Error::NotImplemented {
        operation: "attributes of objects".into(),
        implementer: "LocalStore".into(),
    })
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        no_attributes(&opts.attributes)?;
        let condition = match opts.mode {
            PutMode::Overwrite => Condition::Anything,
            PutMode::Create => Condition::Nothing,
            PutMode::Update(version) => {
                let missing = || generic("a conditional put needs an ETag");
                Condition::ETag(version.e_tag.ok_or_else(missing)?)
            }
        };
        let (store, key) = (self.clone(), location.clone());
        blocking(move || store.put_blocking(&key, &payload, &condition)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        no_attributes(&opts.attributes)?;
        let (store, key) = (self.clone(), location.clone());
        let staged = blocking({
            let (store, key) = (store.clone(), key.clone());
            move || {
                resolve(&store.inner.root, &key)?;
                store.stage(&key)
            }
        })
        .await?;
        Ok(Box::new(LocalUpload::new(store, key, staged)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (inner, key) = (Arc::clone(&self.inner), location.clone());
        blocking(move || inner.get(&key, &options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (inner, key, ranges) = (Arc::clone(&self.inner), location.clone(), ranges.to_vec());
        blocking(move || inner.get_ranges(&key, &ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let inner = Arc::clone(&self.inner);
        locations
            .map(move |location| {
                let inner = Arc::clone(&inner);
                blocking(move || {
                    let location = location?;
                    inner.delete(&location)?;
                    Ok(location)
                })
            })
            .buffered(PARALLEL_DELETES)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        list::walk(self.inner.root.clone(), prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        list::walk(
            self.inner.root.clone(),
            prefix.cloned(),
            Some(offset.clone()),
        )
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.cloned().unwrap_or_default());
        blocking(move || list::one_level(&inner.root, &prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let condition = match options.mode {
            CopyMode::Overwrite => Condition::Anything,
            CopyMode::Create => Condition::Nothing,
        };
        let (store, from, to) = (self.clone(), from.clone(), to.clone());
        blocking(move || {
            resolve(&store.inner.root, &to)?;
            // A link would be cheaper, but an object's inode and times are its version.
            let (mut source, _, _) = store.inner.open(&from)?;
            let mut staged = store.stage(&to)?;
            io::copy(&mut source, &mut staged.file).map_err(|e| io_error(&to, "copy", e))?;
            store.finish(&to, &mut staged, &condition)?;
            Ok(())
        })
        .await
    }
}
