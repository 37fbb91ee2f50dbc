//! What a superfile ends with, seen as it is uploaded.
//!
//! Owns a store wrapper that keeps a copy of the last bytes of what passes through it, and the seal that
//! follows from them. Does not own what a seal is ([`crate::format::footer`]).
//!
//! The encoder writes a file from front to back and hands its bytes to the store; nobody sees the footer
//! as a whole. Reading it back would cost a request for each superfile, and would seal what the store
//! answers instead of what was written.
//!
//! Invariant: at most [`KEPT`] bytes of each file are held. A file whose end is longer than that is read
//! back.

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

use crate::format::footer::{FooterSeal, footer_len};

/// Bytes of a file's end that are held while it is written.
const KEPT: usize = 2 << 20;
/// Longest page indexes and footer that are read back to be sealed.
const LONGEST_END: u64 = 256 << 20;

/// The last bytes of a file that is written from front to back.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    size: u64,
}

impl Tail {
    fn extend(&mut self, payload: &PutPayload) {
        for piece in payload {
            self.size += piece.len() as u64;
            let start = piece.len().saturating_sub(KEPT);
            let end = piece.get(start..).unwrap_or_default();
            // Moves what is held only when it is twice as long as it has to be.
            if self.bytes.len() + end.len() > 2 * KEPT {
                let surplus = self
                    .bytes
                    .len()
                    .saturating_sub(KEPT.saturating_sub(end.len()));
                self.bytes.drain(..surplus);
            }
            self.bytes.extend_from_slice(end);
        }
    }
}

type Tails = Arc<Mutex<HashMap<Path, Tail>>>;

/// A store that remembers the ends of files until they are asked for.
#[derive(Debug, Clone)]
pub(crate) struct TailStore {
    inner: Arc<dyn ObjectStore>,
    tails: Tails,
}

impl TailStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            tails: Tails::default(),
        }
    }

    /// The size of the file at `path`, which passed through here as a whole, and its seal if it can be
    /// had. The end of the file is forgotten.
    pub(crate) async fn take(
        &self,
        path: &Path,
        metadata: &ParquetMetaData,
    ) -> Option<(u64, Option<FooterSeal>)> {
        let tail = self
            .tails
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(path)?;
        Some((tail.size, self.seal(path, metadata, &tail).await))
    }

    async fn seal(
        &self,
        path: &Path,
        metadata: &ParquetMetaData,
        tail: &Tail,
    ) -> Option<FooterSeal> {
        let start = end_of(metadata, &tail.bytes, tail.size)?;
        let length = tail.size - start;
        let at = usize::try_from(length)
            .ok()
            .and_then(|length| tail.bytes.len().checked_sub(length));
        match at {
            Some(at) => seal_of(tail.bytes.get(at..)?),
            None if length > LONGEST_END => None,
            None => {
                let bytes = self.inner.get_range(path, start..tail.size).await.ok()?;
                seal_of(&bytes)
            }
        }
    }
}

/// The seal of a file whose page indexes and footer are `end`.
fn seal_of(end: &[u8]) -> Option<FooterSeal> {
    let footer = usize::try_from(footer_len(end)?).ok()?;
    let (index, footer) = end.split_at_checked(end.len().checked_sub(footer)?)?;
    FooterSeal::of(index, footer)
}

/// Where the page indexes begin in a file of `size` bytes that ends in `tail`, or its footer if it has none.
fn end_of(metadata: &ParquetMetaData, tail: &[u8], size: u64) -> Option<u64> {
    let footer = size.checked_sub(footer_len(tail)?)?;
    let first = metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
        .flat_map(|column| [column.column_index_offset(), column.offset_index_offset()])
        .flatten()
        .filter_map(|offset| u64::try_from(offset).ok())
        .min();
    Some(first.unwrap_or(footer).min(footer))
}

/// The metadata of the Parquet file of `size` bytes whose last ones are `tail`, and the seal of its end.
///
/// # Errors
/// It is none, or `tail` is too short: then as many bytes are needed as the error says.
pub(crate) fn judge_end(tail: &[u8], size: u64) -> std::result::Result<SealedEnd, EndError> {
    use parquet::file::metadata::ParquetMetaDataReader;
    let length = footer_len(tail).ok_or(EndError::NotParquet)?;
    if length > size {
        return Err(EndError::NotParquet);
    }
    let enough = |length: u64| match usize::try_from(length) {
        Ok(length) if length <= tail.len() => Ok(length),
        _ if length > LONGEST_END => Err(EndError::TooLong(length)),
        _ => Err(EndError::Needs(length)),
    };
    let length = enough(length)?;
    let footer = tail.get(tail.len() - length..).unwrap_or_default();
    let thrift = footer
        .get(..length.saturating_sub(crate::format::footer::TRAILER_LEN))
        .unwrap_or_default();
    if !crate::format::thrift::is_plausible(thrift) {
        return Err(EndError::Damaged(None));
    }
    // Thrift that can be walked may still say what no decoder thought of.
    let decoded = std::panic::catch_unwind(|| ParquetMetaDataReader::decode_metadata(thrift));
    let metadata = match decoded {
        Ok(Ok(metadata)) => Arc::new(metadata),
        Ok(Err(e)) => return Err(EndError::Damaged(Some(e))),
        Err(_) => return Err(EndError::Damaged(None)),
    };
    let start = end_of(&metadata, tail, size).ok_or(EndError::NotParquet)?;
    let length = match enough(size - start) {
        // Page indexes that are all over a file are not used; see the scan's reader.
        Err(EndError::TooLong(_)) => {
            return Ok(SealedEnd {
                metadata,
                seal: None,
            });
        }
        length => length?,
    };
    let seal = seal_of(tail.get(tail.len() - length..).unwrap_or_default());
    Ok(SealedEnd { metadata, seal })
}

/// What is known of a file from its end.
#[derive(Debug)]
pub(crate) struct SealedEnd {
    /// The footer, without page indexes.
    pub(crate) metadata: Arc<ParquetMetaData>,
    /// The seal, if the end is short enough for one.
    pub(crate) seal: Option<FooterSeal>,
}

/// Why the end of a file cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndError {
    /// So many of the file's last bytes are needed.
    #[error("its footer takes {0} bytes")]
    Needs(u64),
    /// Longer than any footer should be.
    #[error("its footer takes {0} bytes, too many to be one")]
    TooLong(u64),
    /// Does not end as a Parquet file does.
    #[error("it does not end as a Parquet file does")]
    NotParquet,
    /// The footer cannot be decoded.
    #[error("its footer is damaged")]
    Damaged(#[source] Option<parquet::errors::ParquetError>),
}

impl fmt::Display for TailStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for TailStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let mut tail = Tail::default();
        tail.extend(&payload);
        let done = self.inner.put_opts(location, payload, opts).await?;
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.insert(location.clone(), tail);
        Ok(done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(TailUpload {
            inner: self.inner.put_multipart_opts(location, opts).await?,
            location: location.clone(),
            tail: Tail::default(),
            tails: Arc::clone(&self.tails),
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
struct TailUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    tail: Tail,
    tails: Tails,
}

#[async_trait]
impl MultipartUpload for TailUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Parts are numbered in the order of these calls, however they overlap.
        self.tail.extend(&data);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.inner.complete().await?;
        let tail = std::mem::take(&mut self.tail);
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.insert(self.location.clone(), tail);
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
