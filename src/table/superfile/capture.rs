//! A superfile as it is uploaded: it gets its checksums, and its end is remembered.
//!
//! The encoder writes a file from front to back and hands its bytes to the store; no one else sees the footer
//! as a whole. Reading it back would cost a request for each superfile, and would hash what the store
//! answers instead of what was written.
//!
//! Owns: a store wrapper that computes the checksums of the Parquet files that pass through it, puts them into
//! their footers, and keeps a copy of the last bytes. Does not own what checksums are
//! ([`crate::format::checksums`]), nor what a footer says (`footer`).
//! Invariant: at most [`KEPT`] bytes of each file are held, and of one that is uploaded in parts the last part, or
//! the last two if the last is shorter than what the checksums replace. All parts but the last have the length that they
//! came with, which some stores ask for. A file whose end is longer than what is held is read back. A crash leaves
//! nothing: all this is memory only.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use futures::{FutureExt, TryFutureExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parquet::file::metadata::ParquetMetaData;

use super::footer::{LONGEST_END, checksum_of, end_of};
use crate::error::{Error, ErrorKind};
use crate::format::checksums::{Checksummer, END_LEN};
use crate::format::footer::FooterChecksum;

/// Bytes of a file's end that are held while it is written.
const KEPT: usize = 2 << 20;

/// The last bytes of a file that is written from front to back.
#[derive(Debug, Default)]
struct LastBytes {
    bytes: Vec<u8>,
    size: u64,
}

impl LastBytes {
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

type Ends = Arc<Mutex<HashMap<Path, LastBytes>>>;

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

    /// The size of the file at `path`, which passed through here as a whole, and the checksum of its end, which is
    /// forgotten.
    ///
    /// # Errors
    /// The file did not pass through here, or its end is too long for a checksum: then a flipped bit in it would go unnoticed.
    pub(crate) async fn take(
        &self,
        path: &Path,
        metadata: &ParquetMetaData,
    ) -> std::result::Result<(u64, FooterChecksum), Error> {
        let end = self
            .ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(path);
        let failed = |kind, why| Error::new(kind, path.as_ref(), why);
        let storage = |why| failed(ErrorKind::Storage, why);
        let end =
            end.ok_or_else(|| storage("it was not uploaded as a whole; run the statement again"))?;
        let no_footer = || storage("it does not end as a Parquet file; nothing was changed");
        let start = end_of(metadata, &end.bytes, end.size).ok_or_else(no_footer)?;
        let length = end.size - start;
        if length > LONGEST_END {
            return Err(failed(
                ErrorKind::Unsupported,
                "its page indexes and its footer take more than 256 MB; nothing was changed. Write fewer rows into a \
                 superfile (supertable.write.target_file_rows) or larger row groups (supertable.write.row_group_rows)",
            ));
        }
        let at = usize::try_from(length)
            .ok()
            .and_then(|length| end.bytes.len().checked_sub(length));
        let checksum = match at {
            Some(at) => checksum_of(end.bytes.get(at..).unwrap_or_default()),
            None => {
                let bytes = self.inner.get_range(path, start..end.size).await;
                checksum_of(&bytes.map_err(|e| {
                    storage("its end cannot be read back to be checked; nothing was changed")
                        .with_source(e)
                })?)
            }
        };
        Ok((end.size, checksum.ok_or_else(no_footer)?))
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
        let mut checksums = Checksummer::default();
        payload.iter().for_each(|piece| checksums.add(piece));
        let pieces = with_checksums(payload.into_iter().collect(), checksums, location)?;
        let payload = PutPayload::from_iter(pieces);
        let mut end = LastBytes::default();
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
            checksums: Checksummer::default(),
            held: VecDeque::new(),
            part_len: None,
            end: LastBytes::default(),
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
    checksums: Checksummer,
    /// The last parts, which are not uploaded yet.
    held: VecDeque<PutPayload>,
    /// The length of the first part, if there are others.
    part_len: Option<usize>,
    end: LastBytes,
    ends: Ends,
}

impl CapturedUpload {
    fn upload(&mut self, part: PutPayload) -> UploadPart {
        // Parts are numbered in the order of these calls, however they overlap.
        self.end.extend(&part);
        self.inner.put_part(part)
    }

    /// What is held, with the checksums, as the last parts.
    fn last_parts(&mut self) -> Result<Vec<PutPayload>> {
        let held = self.held.drain(..).flatten().collect();
        let checksums = std::mem::take(&mut self.checksums);
        let pieces = with_checksums(held, checksums, &self.location)?;
        Ok(match self.part_len {
            Some(length) => cut(pieces, length),
            None => vec![PutPayload::from_iter(pieces)],
        })
    }
}

#[async_trait]
impl MultipartUpload for CapturedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        data.iter().for_each(|piece| self.checksums.add(piece));
        if let Some(first) = self.held.front() {
            self.part_len.get_or_insert(first.content_length());
        }
        self.held.push_back(data);
        let mut uploads = Vec::new();
        // What comes after the first of these is long enough for all that may be replaced.
        while self
            .held
            .iter()
            .skip(1)
            .map(PutPayload::content_length)
            .sum::<usize>()
            >= END_LEN
            && let Some(part) = self.held.pop_front()
        {
            uploads.push(self.upload(part));
        }
        try_join_all(uploads).map_ok(drop).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = self.last_parts()?;
        let uploads: Vec<UploadPart> = parts.into_iter().map(|part| self.upload(part)).collect();
        try_join_all(uploads).await?;
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

/// The last bytes of a file, with the checksums of all of it.
fn with_checksums(
    mut pieces: Vec<Bytes>,
    checksums: Checksummer,
    location: &Path,
) -> Result<Vec<Bytes>> {
    let end = checksums
        .finish()
        .ok_or_else(|| object_store::Error::Generic {
            store: "EndCapture",
            source: format!("{location} does not end as a Parquet file does").into(),
        })?;
    let mut replaced = END_LEN;
    while let Some(mut last) = pieces.pop() {
        if last.len() > replaced {
            last.truncate(last.len() - replaced);
            pieces.push(last);
            break;
        }
        replaced -= last.len();
    }
    pieces.push(end.into());
    Ok(pieces)
}

/// The same bytes in payloads of `length` bytes, of which the last may be shorter.
fn cut(pieces: Vec<Bytes>, length: usize) -> Vec<PutPayload> {
    let length = length.max(1);
    let mut payloads = Vec::new();
    let mut payload = Vec::new();
    let mut room = length;
    for mut piece in pieces {
        while piece.len() > room {
            payload.push(piece.split_to(room));
            payloads.push(PutPayload::from_iter(std::mem::take(&mut payload)));
            room = length;
        }
        room -= piece.len();
        payload.push(piece);
    }
    payloads.push(PutPayload::from_iter(payload));
    payloads
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Int64Array, RecordBatch};
    use object_store::memory::InMemory;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use crate::format::checksums::BlockChecksums;

    use super::*;

    /// A store in memory that remembers the lengths of the parts that it gets.
    #[derive(Debug)]
    struct Parts {
        inner: Box<dyn MultipartUpload>,
        lengths: Arc<Mutex<Vec<usize>>>,
    }

    #[async_trait]
    impl MultipartUpload for Parts {
        fn put_part(&mut self, data: PutPayload) -> UploadPart {
            self.lengths.lock().unwrap().push(data.content_length());
            self.inner.put_part(data)
        }

        async fn complete(&mut self) -> Result<PutResult> {
            self.inner.complete().await
        }

        async fn abort(&mut self) -> Result<()> {
            self.inner.abort().await
        }
    }

    /// A Parquet file, and what its writer says of it.
    fn file() -> (Bytes, ParquetMetaData) {
        let ids = Int64Array::from_iter_values((0..20_000).map(|i| i * i));
        let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let metadata = writer.close().unwrap();
        (bytes.into(), metadata)
    }

    /// What is stored of a file that is uploaded in parts of these lengths, and the lengths that reach the store.
    async fn uploaded(
        file: &Bytes,
        metadata: &ParquetMetaData,
        parts: &[usize],
    ) -> (Bytes, Vec<usize>) {
        let store = Arc::new(InMemory::new());
        let path = Path::from("superfiles/f.parquet");
        let capture = EndCapture::new(Arc::clone(&store) as _);
        let lengths: Arc<Mutex<Vec<usize>>> = Arc::default();
        let mut upload = CapturedUpload {
            inner: Box::new(Parts {
                inner: store.put_multipart(&path).await.unwrap(),
                lengths: Arc::clone(&lengths),
            }),
            location: path.clone(),
            checksums: Checksummer::default(),
            held: VecDeque::new(),
            part_len: None,
            end: LastBytes::default(),
            ends: Arc::clone(&capture.ends),
        };
        let mut rest = file.clone();
        for part in parts {
            upload.put_part(rest.split_to(*part).into()).await.unwrap();
        }
        assert!(rest.is_empty());
        upload.complete().await.unwrap();
        let stored = store.get(&path).await.unwrap().bytes().await.unwrap();
        let (size, checksum) = capture.take(&path, metadata).await.unwrap();
        assert_eq!(size, stored.len() as u64);
        let footer = stored.len() - checksum.footer_len() as usize;
        assert!(checksum.is_footer(&stored[footer..]));
        assert!(checksum.is_index(&stored[footer - checksum.index_len() as usize..footer]));
        let lengths = lengths.lock().unwrap().clone();
        (stored, lengths)
    }

    #[tokio::test]
    async fn a_file_gets_the_same_checksums_in_whatever_parts_it_is_uploaded() {
        let (file, metadata) = file();
        let store = Arc::new(InMemory::new());
        let path = Path::from("superfiles/f.parquet");
        let capture = EndCapture::new(Arc::clone(&store) as _);
        capture.put(&path, file.clone().into()).await.unwrap();
        let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
        let size = whole.len() as u64;
        assert_eq!(capture.take(&path, &metadata).await.unwrap().0, size);
        let checksums = BlockChecksums::of_footer(&whole, size).unwrap().unwrap();
        let covered = 0..(file.len() - END_LEN) as u64;
        assert_eq!(checksums.around(&covered), Some(covered.clone()));
        assert_eq!(
            checksums.first_damaged(&covered, &whole[..covered.end as usize]),
            None
        );

        let n = file.len();
        let (stored, lengths) = uploaded(&file, &metadata, &[n]).await;
        assert_eq!((stored, lengths), (whole.clone(), vec![whole.len()]));
        for part in [
            n / 2,
            n / 3,
            5000,
            n - 1,
            n - END_LEN,
            n - END_LEN - 1,
            n - END_LEN + 1,
        ] {
            let mut parts = vec![part; n / part];
            parts.extend((n % part > 0).then_some(n % part));
            let (stored, lengths) = uploaded(&file, &metadata, &parts).await;
            assert_eq!(stored, whole, "{part}");
            let (last, others) = lengths.split_last().unwrap();
            assert!(
                others.iter().all(|length| *length == part) && *last <= part,
                "{lengths:?}"
            );
        }
        // An end in many small parts.
        let parts: Vec<usize> = [n - 20].into_iter().chain([1; 20]).collect();
        assert_eq!(uploaded(&file, &metadata, &parts).await.0, whole);
    }

    #[tokio::test]
    async fn others_read_a_file_with_checksums_as_the_one_without() {
        let (file, metadata) = file();
        let (stored, _) = uploaded(&file, &metadata, &[file.len()]).await;
        let rows = |bytes: Bytes| -> Vec<RecordBatch> {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            reader
                .build()
                .unwrap()
                .map(|batch| batch.unwrap())
                .collect()
        };
        assert_eq!(rows(stored), rows(file));
    }

    #[tokio::test]
    async fn what_is_no_parquet_file_is_not_uploaded() {
        let store = Arc::new(InMemory::new());
        let path = Path::from("superfiles/f.parquet");
        let capture = EndCapture::new(Arc::clone(&store) as _);
        assert!(capture.put(&path, "rows".into()).await.is_err());
        let mut upload = capture.put_multipart(&path).await.unwrap();
        upload.put_part("more rows".into()).await.unwrap();
        assert!(upload.complete().await.is_err());
        assert!(store.head(&path).await.is_err());
        let (_, metadata) = file();
        let error = capture.take(&path, &metadata).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
    }
}
