//! The end of a superfile, seen as it is uploaded.
//!
//! The encoder writes a file from front to back and hands its bytes to the store; nobody sees the footer
//! as a whole. Reading it back would cost a request for each superfile, and would seal what the store
//! answers instead of what was written.
//!
//! Owns: a store wrapper that keeps a copy of the last bytes of what passes through it. Does not own what they say
//! (`footer`).
//! Invariant: at most [`KEPT`] bytes of each file are held. A file whose end is longer than that is read
//! back. A crash leaves nothing: the copies are memory only.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parquet::file::metadata::ParquetMetaData;

use super::footer::{LONGEST_END, end_of, seal_of};
use crate::format::footer::FooterSeal;

/// Bytes of a file's end that are held while it is written.
const KEPT: usize = 2 << 20;

/// The last bytes of a file that is written from front to back.
#[derive(Debug, Default)]
struct End {
    bytes: Vec<u8>,
    size: u64,
}

impl End {
    fn extend(&mut self, payload: &PutPayload) {
        for piece in payload {
            self.size += piece.len() as u64;
            let start = piece.len().saturating_sub(KEPT);
            let last = piece.get(start..).unwrap_or_default();
            // Moves what is held only when it is twice as long as it has to be.
            if self.bytes.len() + last.len() > 2 * KEPT {
                let surplus = self
                    .bytes
                    .len()
                    .saturating_sub(KEPT.saturating_sub(last.len()));
                self.bytes.drain(..surplus);
            }
            self.bytes.extend_from_slice(last);
        }
    }
}

type Ends = Arc<Mutex<HashMap<Path, End>>>;

/// A store that remembers the ends of files until they are asked for.
#[derive(Debug, Clone)]
pub(crate) struct EndCapture {
    inner: Arc<dyn ObjectStore>,
    ends: Ends,
}

impl EndCapture {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            ends: Ends::default(),
        }
    }

    /// The size of the file at `path`, which passed through here as a whole, and its seal if it can be
    /// had. The end of the file is forgotten.
    pub(crate) async fn take(
        &self,
        path: &Path,
        metadata: &ParquetMetaData,
    ) -> Option<(u64, Option<FooterSeal>)> {
        let end = self
            .ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(path)?;
        Some((end.size, self.seal(path, metadata, &end).await))
    }

    async fn seal(&self, path: &Path, metadata: &ParquetMetaData, end: &End) -> Option<FooterSeal> {
        let start = end_of(metadata, &end.bytes, end.size)?;
        let length = end.size - start;
        let at = usize::try_from(length)
            .ok()
            .and_then(|length| end.bytes.len().checked_sub(length));
        match at {
            Some(at) => seal_of(end.bytes.get(at..)?),
            None if length > LONGEST_END => None,
            None => {
                let bytes = self.inner.get_range(path, start..end.size).await.ok()?;
                seal_of(&bytes)
            }
        }
    }
}

impl fmt::Display for EndCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for EndCapture {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let mut end = End::default();
        end.extend(&payload);
        let done = self.inner.put_opts(location, payload, opts).await?;
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.insert(location.clone(), end);
        Ok(done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(CapturedUpload {
            inner: self.inner.put_multipart_opts(location, opts).await?,
            location: location.clone(),
            end: End::default(),
            ends: Arc::clone(&self.ends),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
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

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct CapturedUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    end: End,
    ends: Ends,
}

#[async_trait]
impl MultipartUpload for CapturedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Parts are numbered in the order of these calls, however they overlap.
        self.end.extend(&data);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.inner.complete().await?;
        let end = std::mem::take(&mut self.end);
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.insert(self.location.clone(), end);
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
