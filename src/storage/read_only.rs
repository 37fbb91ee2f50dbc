//! A store through which nothing can be changed, and what else [`Storage`] has for those who only read.
//!
//! Owns the refusal of every request that writes, before it is sent. Does not own who is refused: a
//! session's option decides, and refuses its statements with a sentence of their own; this is what
//! keeps everything else from writing (recovery on open, background work), whatever was overlooked.
//!
//! Invariant: no request but reads and listings reaches the inner store.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::cas::Storage;
use super::error::StorageError;

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this session only reads (supertable.read_only); nothing was changed")]
pub struct ReadOnly;

/// See the module.
#[derive(Debug)]
struct ReadOnlyStore(Arc<dyn ObjectStore>);

impl Storage {
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
    pub fn check_inside(&self, path: &Path) -> std::result::Result<(), StorageError> {
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
}

impl fmt::Display for ReadOnlyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadOnly({})", self.0)
    }
}

fn refused(path: &Path) -> Error {
    Error::PermissionDenied {
        path: path.to_string(),
        source: Box::new(ReadOnly),
    }
}

#[async_trait]
impl ObjectStore for ReadOnlyStore {
    async fn put_opts(&self, location: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(refused(location))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(refused(location))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        locations.map(|location| Err(refused(&location?))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, to: &Path, _: CopyOptions) -> Result<()> {
        Err(refused(to))
    }
}
