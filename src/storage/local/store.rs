//! [`LocalStore`]: the `ObjectStore` implementation.
//!
//! Owns when an operation runs: on tokio's blocking threads; a caller that stops waiting does not stop a step
//! that has begun. Does not own its steps (`directory.rs`).
//!
//! Invariant and crash behaviour: see the module.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use super::blocking::blocking;
use super::directory::Directory;
use super::durable::SyncCounts;
use super::list;
use super::paths::{generic, io_error, resolve};
use super::publish::Condition;
use super::upload::LocalUpload;
use crate::storage::error::StorageError;

/// Deletes under way at once in a bulk delete; they share directory syncs.
const PARALLEL_DELETES: usize = 64;

/// The objects in one directory, with conditional replace and durable writes. Cheap to clone.
///
/// An object is a plain file named by its key. Keys that leave the directory, and keys that pass a
/// symbolic link below it, are refused.
#[derive(Clone, Debug)]
pub struct LocalStore {
    directory: Arc<Directory>,
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalStore({})", self.directory.root.display())
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
            directory: Arc::new(Directory::new(root)),
        })
    }

    /// How many syncs this store and its clones made.
    pub fn sync_counts(&self) -> SyncCounts {
        self.directory.durable.counts()
    }

    /// Waits until the present state of `key`, its absence included, is durable.
    pub(crate) async fn sync_parent(&self, key: &Path) -> Result<()> {
        let (directory, key) = (Arc::clone(&self.directory), key.clone());
        blocking(move || {
            let path = resolve(&directory.root, &key)?;
            let synced = directory.durable.sync_name(&path);
            synced.map_err(|e| io_error(&key, "sync its directory", e))
        })
        .await
    }

    /// Whether `key` names something inside the directory that no symbolic link leads to.
    pub(crate) fn check(&self, key: &Path) -> Result<()> {
        resolve(&self.directory.root, key).map(drop)
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
        let (directory, key) = (Arc::clone(&self.directory), location.clone());
        blocking(move || directory.put(&key, &payload, &condition)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        no_attributes(&opts.attributes)?;
        let (directory, key) = (Arc::clone(&self.directory), location.clone());
        let staged = blocking({
            let (directory, key) = (Arc::clone(&directory), key.clone());
            move || {
                resolve(&directory.root, &key)?;
                directory.stage(&key)
            }
        })
        .await?;
        Ok(Box::new(LocalUpload::new(directory, key, staged)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (directory, key) = (Arc::clone(&self.directory), location.clone());
        blocking(move || directory.get(&key, &options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (directory, key, ranges) = (
            Arc::clone(&self.directory),
            location.clone(),
            ranges.to_vec(),
        );
        blocking(move || directory.get_ranges(&key, &ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let directory = Arc::clone(&self.directory);
        locations
            .map(move |location| {
                let directory = Arc::clone(&directory);
                blocking(move || {
                    let location = location?;
                    directory.delete(&location)?;
                    Ok(location)
                })
            })
            .buffered(PARALLEL_DELETES)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        list::walk(self.directory.root.clone(), prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        list::walk(
            self.directory.root.clone(),
            prefix.cloned(),
            Some(offset.clone()),
        )
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (directory, prefix) = (
            Arc::clone(&self.directory),
            prefix.cloned().unwrap_or_default(),
        );
        blocking(move || list::one_level(&directory.root, &prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let condition = match options.mode {
            CopyMode::Overwrite => Condition::Anything,
            CopyMode::Create => Condition::Nothing,
        };
        let (directory, from, to) = (Arc::clone(&self.directory), from.clone(), to.clone());
        blocking(move || {
            resolve(&directory.root, &to)?;
            // A link would be cheaper, but an object's inode and times are its version.
            let (mut source, _, _) = directory.open(&from)?;
            let mut staged = directory.stage(&to)?;
            io::copy(&mut source, &mut staged.file).map_err(|e| io_error(&to, "copy", e))?;
            directory.finish(&to, &mut staged, &condition)?;
            Ok(())
        })
        .await
    }
}
