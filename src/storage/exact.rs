//! A store whose answers are as long as they claim to be.
//!
//! Owns the comparison of a read's bytes with the range that it is said to hold. Does not own what is done
//! about an answer that is cut off: it is an error like a broken connection, so what is read through
//! [`Storage`](super::Storage) is read again.
//!
//! Why: a length that a server or a proxy gets wrong reaches us as an answer that ends early without an error, and
//! `object_store` hands it on. Where it joins ranges it even panics: so ranges are joined here, above the check,
//! and a store's own way to read several at once is not used.
//!
//! Invariant: a stream that ends without an error has all bytes of its range, and no more.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};

/// `inner`, whose reads are checked.
#[derive(Debug)]
pub(crate) struct ExactStore {
    inner: Arc<dyn ObjectStore>,
}

impl ExactStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner }
    }
}

impl fmt::Display for ExactStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// An answer has other bytes than it said it would.
#[derive(Debug, thiserror::Error)]
#[error("{path}: an answer of {claimed} bytes has {found}")]
struct WrongLength {
    path: Path,
    claimed: u64,
    found: u64,
}

fn wrong(path: &Path, claimed: u64, found: u64) -> Error {
    let path = path.clone();
    Error::Generic {
        store: "ExactStore",
        source: Box::new(WrongLength {
            path,
            claimed,
            found,
        }),
    }
}

fn check(
    path: Path,
    claimed: u64,
    bytes: BoxStream<'static, Result<Bytes>>,
) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((bytes, 0_u64), move |(mut bytes, before)| {
        let path = path.clone();
        async move {
            let Some(next) = bytes.next().await.transpose()? else {
                return match before == claimed {
                    true => Ok(None),
                    false => Err(wrong(&path, claimed, before)),
                };
            };
            let found = before.saturating_add(next.len() as u64);
            match found > claimed {
                true => Err(wrong(&path, claimed, found)),
                false => Ok(Some((next, (bytes, found)))),
            }
        }
    })
    .boxed()
}

#[async_trait]
impl ObjectStore for ExactStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let mut found = self.inner.get_opts(location, options).await?;
        if !head && let GetResultPayload::Stream(bytes) = found.payload {
            let claimed = found.range.end.saturating_sub(found.range.start);
            let checked = check(location.clone(), claimed, bytes);
            found.payload = GetResultPayload::Stream(checked);
        }
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
