//! Parquet readers of superfiles: what differs from DataFusion's own.
//!
//! - **Footers are verified.** A superfile whose manifest entry has a checksum ([`FooterChecksum`]) is decoded only
//!   after its footer's bytes, and those of its page indexes, hash to what the checksum says. So no decoder
//!   sees a damaged one, and lengths being known, one request of the right size fetches it. What was
//!   verified is kept in the session's cache of metadata.
//! - **All other bytes are verified**, too: the footer of a superfile that this crate wrote holds checksums of them;
//!   see [`verified`](super::verified). Files of others have none, and are read without.
//! - **Names.** The metadata that a reader hands out has the table's names for the file's columns;
//!   see [`columns`](super::columns). It is made once for the pieces of a file, and not at all for a
//!   file whose names are the table's.
//! - **Page indexes are kept as footers are.** DataFusion's opener asks for the footer alone, which
//!   its session cache serves, and then reads the page index of every file that a predicate may
//!   prune, each time anew. Asked for both at once, the cache holds both, and a statement on a
//!   superfile that the session knows reads nothing but data: one round trip less for every point
//!   `DELETE`. Without a predicate no reader needs a page index, except in an external file: the part of
//!   it that cannot be trusted has to be taken out before DataFusion reads it.
//! - **The next row group is read ahead**; see [`read_ahead`](super::read_ahead).

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::DecodeResult;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder};

use crate::error::{Error, ErrorKind};
use crate::format::checksums::BlockChecksums;
use crate::format::{ExternalColumns, FooterChecksum};
use crate::scan::read::columns::renamed;
use crate::scan::read::in_place::own;
use crate::scan::read::read_ahead::{Piece, ReadAhead, Reader};
use crate::scan::read::verified::{self, Verified, VerifiedEnd, as_parquet};

/// So many files' renamed metadata are kept for their other pieces.
const KEPT: usize = 64;

/// Readers of one scan.
#[derive(Debug)]
pub(crate) struct SuperfileReaders {
    inner: Arc<CachedParquetFileReaderFactory>,
    store: Arc<dyn ObjectStore>,
    cache: Arc<FileMetadataCache>,
    /// The table's columns with the ids of all fields.
    stored: SchemaRef,
    /// Whether page indexes are asked for together with the footer.
    indexed: bool,
    ahead: Arc<ReadAhead>,
    /// Metadata of files whose names differ from the table's.
    renamed: Arc<Mutex<HashMap<Path, VerifiedEnd>>>,
}

impl SuperfileReaders {
    /// Readers of files in `store`, whose verified metadata `cache` keeps.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        cache: Arc<FileMetadataCache>,
        stored: SchemaRef,
        indexed: bool,
    ) -> Self {
        let inner = CachedParquetFileReaderFactory::new(Arc::clone(&store), Arc::clone(&cache));
        Self {
            inner: Arc::new(inner),
            store,
            cache,
            stored,
            indexed,
            ahead: Arc::default(),
            renamed: Arc::default(),
        }
    }

    /// What is read ahead.
    pub(crate) fn ahead(&self) -> &ReadAhead {
        &self.ahead
    }
}

impl ParquetFileReaderFactory for SuperfileReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.clone();
        let external = file.extension::<Arc<ExternalColumns>>().cloned();
        let checked = file
            .extension::<FooterChecksum>()
            .map(|checksum| CheckedFooter {
                checksum: *checksum,
                meta: file.object_meta.clone(),
                store: Arc::clone(&self.store),
                cache: Arc::clone(&self.cache),
            });
        let inner =
            self.inner
                .create_reader(partition_index, file.clone(), metadata_size_hint, metrics)?;
        let checksums: Arc<OnceLock<Option<Arc<BlockChecksums>>>> = Arc::default();
        let ahead = {
            let (readers, metrics) = (Arc::clone(&self.inner), metrics.clone());
            let (checksums, path) = (Arc::clone(&checksums), path.clone());
            let is_checked = checked.is_some();
            Piece::new(&self.ahead, file.clone(), move || {
                let inner = readers.create_reader(
                    partition_index,
                    file.clone(),
                    metadata_size_hint,
                    &metrics,
                )?;
                Ok(match checksums.get() {
                    Some(Some(checksums)) => Box::new(Verified {
                        inner,
                        path: path.clone(),
                        checksums: Arc::clone(checksums),
                    }),
                    Some(None) => inner,
                    None if !is_checked => inner,
                    None => return internal_err!("a superfile is read ahead of its footer"),
                })
            })
        };
        Ok(Box::new(SuperfileReader {
            inner,
            ahead,
            checked,
            checksums,
            indexed: self.indexed || external.is_some(),
            path,
            external,
            stored: Arc::clone(&self.stored),
            renamed: Arc::clone(&self.renamed),
        }))
    }
}

struct SuperfileReader {
    inner: Reader,
    ahead: Piece,
    checked: Option<CheckedFooter>,
    /// What the file's bytes are compared with, as soon as its footer is known; nothing, if it has no checksums.
    checksums: Arc<OnceLock<Option<Arc<BlockChecksums>>>>,
    indexed: bool,
    path: Path,
    external: Option<Arc<ExternalColumns>>,
    stored: SchemaRef,
    renamed: Arc<Mutex<HashMap<Path, VerifiedEnd>>>,
}

impl SuperfileReader {
    fn known(&self) -> Option<VerifiedEnd> {
        self.renamed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&self.path)
            .cloned()
    }

    fn rename(&self, end: VerifiedEnd) -> ParquetResult<Arc<ParquetMetaData>> {
        let raw = end.metadata;
        let named = renamed(Arc::clone(&raw), &self.stored, self.external.as_deref())?;
        // One whose page index is yet to come would be in the way of the one that has it.
        if !Arc::ptr_eq(&raw, &named) && (!self.indexed || named.offset_index().is_some()) {
            let mut kept = self.renamed.lock().unwrap_or_else(PoisonError::into_inner);
            // The pieces of a file are read at about the same time: older ones are done with.
            if kept.len() >= KEPT {
                kept.clear();
            }
            let end = VerifiedEnd {
                metadata: Arc::clone(&named),
                checksums: end.checksums,
            };
            kept.insert(self.path.clone(), end);
        }
        Ok(named)
    }

    /// Verified metadata with the table's names.
    async fn metadata(
        &mut self,
        options: Option<&ArrowReaderOptions>,
    ) -> ParquetResult<Arc<ParquetMetaData>> {
        if let Some(known) = self.known() {
            self.checksums.get_or_init(|| known.checksums);
            return Ok(known.metadata);
        }
        if let Some(checked) = &self.checked {
            let end = checked.end(self.indexed).await.map_err(as_parquet)?;
            self.checksums.get_or_init(|| end.checksums.clone());
            return self.rename(end);
        }
        let indexed = options
            .cloned()
            .unwrap_or_default()
            .with_page_index_policy(PageIndexPolicy::Optional);
        let options = if self.indexed {
            Some(&indexed)
        } else {
            options
        };
        let raw = self.inner.get_metadata(options).await;
        let raw = raw.map_err(|e| about(&self.path, e))?;
        self.rename(VerifiedEnd {
            metadata: raw,
            checksums: None,
        })
    }

    /// What the file's bytes are compared with. A reader may be asked for bytes that was never asked for metadata:
    /// DataFusion reads pages with another one than Bloom filters.
    async fn checksums(&mut self) -> Result<Option<Arc<BlockChecksums>>, Error> {
        let Some(checked) = &self.checked else {
            return Ok(None);
        };
        if let Some(known) = self.checksums.get() {
            return Ok(known.clone());
        }
        let end = checked.end(false).await?;
        Ok(self.checksums.get_or_init(|| end.checksums).clone())
    }

    async fn read(&mut self, ranges: Vec<Range<u64>>) -> ParquetResult<Vec<Bytes>> {
        let bytes = match self.checksums().await.map_err(as_parquet)? {
            Some(checksums) => {
                verified::read(self.inner.as_mut(), &checksums, &self.path, ranges).await
            }
            None => self.inner.get_byte_ranges(ranges).await,
        };
        bytes.map_err(|e| about(&self.path, e))
    }
}

impl AsyncFileReader for SuperfileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        Box::pin(async move {
            if self.checksums().await.map_err(as_parquet)?.is_some() {
                let bytes = self.read(vec![range]).await?;
                return Ok(bytes.into_iter().next().unwrap_or_default());
            }
            // DataFusion may load page indexes on its own, for a filter that it learnt at run time.
            match &self.checked {
                Some(checked) if checked.is_in_index(&range) => {
                    checked.part_of_index(range).await.map_err(as_parquet)
                }
                _ => {
                    let bytes = self.inner.get_bytes(range).await;
                    bytes.map_err(|e| about(&self.path, e))
                }
            }
        })
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        Box::pin(async move {
            let bytes = match self.ahead.take(&ranges).await {
                Some(bytes) => bytes,
                None => self.read(ranges).await?,
            };
            self.ahead.follow();
            Ok(bytes)
        })
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        Box::pin(async move {
            let metadata = self.metadata(options).await?;
            self.ahead.learn(&metadata);
            Ok(metadata)
        })
    }
}

/// A file whose end is known by its hashes.
struct CheckedFooter {
    checksum: FooterChecksum,
    meta: ObjectMeta,
    store: Arc<dyn ObjectStore>,
    cache: Arc<FileMetadataCache>,
}

impl fmt::Debug for CheckedFooter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedFooter")
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

impl CheckedFooter {
    /// Where the page indexes begin and the footer does.
    fn bounds(&self) -> Option<(u64, u64)> {
        let footer = self.meta.size.checked_sub(self.checksum.footer_len())?;
        Some((footer.checked_sub(self.checksum.index_len())?, footer))
    }

    fn is_in_index(&self, range: &Range<u64>) -> bool {
        self.bounds()
            .is_some_and(|(index, footer)| index <= range.start && range.end <= footer)
    }

    /// The verified footer, with page indexes if they are asked for and there are any.
    async fn end(&self, with_index: bool) -> Result<VerifiedEnd, Error> {
        let (index, footer) = self
            .bounds()
            .ok_or_else(|| self.corrupt("is shorter than its footer"))?;
        let with_index = with_index && self.checksum.index_len() > 0;
        let known = self.cached();
        let end = match known {
            Some(known) if !with_index || has_index(&known.metadata) => return Ok(known),
            Some(known) => {
                let bytes = self.index(index..footer).await?;
                let decoder = ParquetMetaDataPushDecoder::try_new_with_metadata(
                    self.meta.size,
                    known.metadata.as_ref().clone(),
                );
                VerifiedEnd {
                    metadata: self.decode(decoder, true, index..footer, bytes)?,
                    checksums: known.checksums,
                }
            }
            None => {
                let start = if with_index { index } else { footer };
                let bytes = self.read(start..self.meta.size).await?;
                let length = usize::try_from(footer - start).unwrap_or(usize::MAX);
                let (indexes, end) = bytes
                    .split_at_checked(length)
                    .ok_or_else(|| self.corrupt("is shorter than its footer"))?;
                if !self.checksum.is_footer(end) {
                    return Err(self.corrupt("its footer does not hash to what the manifest says"));
                }
                if with_index && !self.checksum.is_index(indexes) {
                    return Err(self.bad_index());
                }
                let checksums = BlockChecksums::of_footer(end, self.meta.size)
                    .map_err(|e| self.corrupt("its checksums cannot be read").with_source(e))?;
                let decoder = ParquetMetaDataPushDecoder::try_new(self.meta.size);
                VerifiedEnd {
                    metadata: self.decode(decoder, with_index, start..self.meta.size, bytes)?,
                    checksums: checksums.map(Arc::new),
                }
            }
        };
        let entry = CachedFileMetadataEntry::new(self.meta.clone(), Arc::new(end.clone()));
        self.cache.put(&self.meta.location, entry);
        Ok(end)
    }

    fn cached(&self) -> Option<VerifiedEnd> {
        let known = self.cache.get(&self.meta.location)?;
        let end: &VerifiedEnd = known
            .is_valid_for(&self.meta)
            .then(|| known.file_metadata.as_any().downcast_ref())??;
        Some(end.clone())
    }

    /// Decodes verified bytes, which are all that is needed.
    fn decode(
        &self,
        decoder: ParquetResult<ParquetMetaDataPushDecoder>,
        with_index: bool,
        range: Range<u64>,
        bytes: Bytes,
    ) -> Result<Arc<ParquetMetaData>, Error> {
        let policy = match with_index {
            true => PageIndexPolicy::Optional,
            false => PageIndexPolicy::Skip,
        };
        let decoded = decoder.and_then(|decoder| {
            let mut decoder = decoder.with_page_index_policy(policy);
            decoder.push_range(range, bytes)?;
            decoder.try_decode()
        });
        match decoded {
            Ok(DecodeResult::Data(metadata)) => Ok(Arc::new(metadata)),
            Ok(_) => Err(self.corrupt("its footer points outside of what the manifest says")),
            Err(e) => Err(self.corrupt("its footer cannot be decoded").with_source(e)),
        }
    }

    /// A part of the page indexes, all of which are verified.
    async fn part_of_index(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let (index, footer) = self
            .bounds()
            .ok_or_else(|| self.corrupt("is shorter than its footer"))?;
        let bytes = self.index(index..footer).await?;
        let at = |offset: u64| usize::try_from(offset - index).unwrap_or(usize::MAX);
        let part = at(range.start)..at(range.end);
        match bytes.get(part.clone()) {
            Some(_) => Ok(bytes.slice(part)),
            None => Err(self.bad_index()),
        }
    }

    async fn index(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let bytes = self.read(range).await?;
        match self.checksum.is_index(&bytes) {
            true => Ok(bytes),
            false => Err(self.bad_index()),
        }
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let path = &self.meta.location;
        let wanted = range.end - range.start;
        match self.store.get_range(path, range).await {
            Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
            Ok(_) => Err(self.corrupt("is shorter than the manifest says")),
            Err(e) => match own(e) {
                Ok(own) => Err(own),
                Err(e) => Err(self.unread(e).await),
            },
        }
    }

    /// Why the end of the file could not be read.
    async fn unread(&self, e: object_store::Error) -> Error {
        let path = &self.meta.location;
        if matches!(e, object_store::Error::NotFound { .. }) {
            return missing(path);
        }
        let error = match self.store.head(path).await {
            Ok(found) if found.size < self.meta.size => {
                self.corrupt("is shorter than the manifest says")
            }
            _ => Error::new(
                ErrorKind::Storage,
                path.as_ref(),
                "its footer cannot be read",
            ),
        };
        error.with_source(e)
    }

    fn bad_index(&self) -> Error {
        self.corrupt("its page indexes do not hash to what the manifest says")
    }

    fn corrupt(&self, why: &str) -> Error {
        Error::new(ErrorKind::Corrupt, self.meta.location.as_ref(), why)
    }
}

fn missing(path: &Path) -> Error {
    Error::new(
        ErrorKind::NotFound,
        path.as_ref(),
        "a superfile is missing; vacuum may have removed the version it belongs to",
    )
}

/// A failure of the store says which superfile it is about; what is wrong with its bytes says Parquet's reader.
fn about(path: &Path, e: ParquetError) -> ParquetError {
    let chain = || {
        let first: &(dyn std::error::Error + 'static) = &e;
        std::iter::successors(Some(first), |cause| cause.source())
    };
    // A file that is read in place says itself what became of it.
    if chain().any(|cause| cause.is::<Error>()) {
        return e;
    }
    let error = match chain().find_map(|cause| cause.downcast_ref()) {
        Some(object_store::Error::NotFound { .. }) => missing(path),
        Some(_) => Error::new(ErrorKind::Storage, path.as_ref(), "it cannot be read"),
        None => return e,
    };
    as_parquet(error.with_source(e))
}

/// Whether page indexes were asked for before; a file can lack one of the two.
fn has_index(metadata: &ParquetMetaData) -> bool {
    metadata.column_index().is_some() || metadata.offset_index().is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Int64Array, RecordBatch};
    use datafusion::execution::runtime_env::RuntimeEnv;
    use object_store::memory::InMemory;
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// A file, and its end's checksum.
    fn file() -> (Vec<u8>, FooterChecksum) {
        let ids = Int64Array::from_iter_values(0..50);
        let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let end = crate::table::read_end(&bytes, bytes.len() as u64).unwrap();
        (bytes, end.checksum.unwrap())
    }

    /// Reads the metadata of `bytes` as those of a file that was `size` bytes long.
    async fn read(
        bytes: Vec<u8>,
        size: usize,
        checksum: FooterChecksum,
        with_index: bool,
    ) -> Result<Arc<ParquetMetaData>, Error> {
        let store = InMemory::new();
        let path = Path::from("superfiles/f.parquet");
        store.put(&path, bytes.into()).await.unwrap();
        let meta = ObjectMeta {
            location: path,
            last_modified: Default::default(),
            size: size as u64,
            e_tag: None,
            version: None,
        };
        let cache = RuntimeEnv::default()
            .cache_manager
            .get_file_metadata_cache();
        let store = Arc::new(store);
        let checked = CheckedFooter {
            checksum,
            meta,
            store,
            cache,
        };
        Ok(checked.end(with_index).await?.metadata)
    }

    #[tokio::test]
    async fn every_flipped_bit_of_footer_and_page_indexes_is_an_error_that_names_the_file() {
        let (bytes, checksum) = file();
        let size = bytes.len();
        let sound = read(bytes.clone(), size, checksum, true).await.unwrap();
        assert!(has_index(&sound));
        assert!(checksum.index_len() > 0 && checksum.footer_len() > 100);
        let end = (checksum.index_len() + checksum.footer_len()) as usize;
        for bit in (size - end) * 8..size * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = read(damaged, size, checksum, true).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error}");
            assert_eq!(error.subject(), "superfiles/f.parquet");
        }
    }

    #[tokio::test]
    async fn every_truncation_is_an_error_and_what_is_appended_does_no_harm() {
        let (bytes, checksum) = file();
        let size = bytes.len();
        for end in 0..size {
            for with_index in [false, true] {
                let cut = bytes[..end].to_vec();
                let error = read(cut, size, checksum, with_index).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{end} bytes: {error}");
            }
        }
        let longer = [bytes.as_slice(), b"more"].concat();
        let read = read(longer, size, checksum, true).await.unwrap();
        assert_eq!(read.file_metadata().num_rows(), 50);
    }

    #[tokio::test]
    async fn a_damaged_page_index_harms_only_those_who_read_it() {
        let (bytes, checksum) = file();
        let size = bytes.len();
        let mut damaged = bytes.clone();
        damaged[size - (checksum.footer_len() + checksum.index_len()) as usize] ^= 1;
        let read_without = read(damaged.clone(), size, checksum, false).await.unwrap();
        assert!(!has_index(&read_without));
        assert!(read(damaged, size, checksum, true).await.is_err());
    }
}
