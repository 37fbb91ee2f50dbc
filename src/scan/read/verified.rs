//! Reading bytes of a superfile and comparing them with its checksums.
//!
//! Owns how the ranges that a decoder asks for become whole blocks and back, and the error of a block that is not
//! what was written. Does not own the checksums ([`BlockChecksums`]), nor the verification of footers (`reader`).
//!
//! Invariant: no caller gets a byte of a block that was not compared; no byte is read twice for one call; and nothing is
//! read but the blocks in which the caller wants a byte.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::HashMap;
use datafusion::datasource::physical_plan::parquet::CachedParquetMetaData;
use datafusion::execution::cache::cache_manager::FileMetadata;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;

use crate::error::{Error, ErrorKind};
use crate::format::checksums::BlockChecksums;

/// A verified footer, and the checksums in it if it has some, as the session's cache keeps them.
#[derive(Clone, Debug)]
pub(super) struct VerifiedEnd {
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) checksums: Option<Arc<BlockChecksums>>,
}

impl FileMetadata for VerifiedEnd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn memory_size(&self) -> usize {
        let checksums = self.checksums.as_ref().map_or(0, |c| c.memory());
        self.metadata.memory_size() + checksums
    }

    fn extra_info(&self) -> HashMap<String, String> {
        CachedParquetMetaData::new(Arc::clone(&self.metadata)).extra_info()
    }
}

/// A reader of a superfile whose bytes are compared with `checksums`.
pub(super) struct Verified {
    pub(super) inner: Box<dyn AsyncFileReader + Send>,
    pub(super) path: Path,
    pub(super) checksums: Arc<BlockChecksums>,
}

impl AsyncFileReader for Verified {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let ranges = self.get_byte_ranges(vec![range]);
        ranges
            .map(|bytes| Ok(bytes?.pop().unwrap_or_default()))
            .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        read(self.inner.as_mut(), &self.checksums, &self.path, ranges).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        self.inner.get_metadata(options)
    }
}

/// The bytes at `ranges` of the file at `path`, which `inner` reads.
pub(super) async fn read(
    inner: &mut (dyn AsyncFileReader + Send),
    checksums: &BlockChecksums,
    path: &Path,
    ranges: Vec<Range<u64>>,
) -> ParquetResult<Vec<Bytes>> {
    let whole = whole_blocks(checksums, path, &ranges).map_err(as_parquet)?;
    let read = match whole.as_slice() {
        [] => Vec::new(),
        _ => inner.get_byte_ranges(whole.clone()).await?,
    };
    for (range, bytes) in whole.iter().zip(&read) {
        if let Some(damaged) = checksums.first_damaged(range, bytes) {
            // DataFusion goes on without a Bloom filter that cannot be read: no user would hear of it.
            let (start, end) = (damaged.start, damaged.end);
            tracing::warn!(%path, start, end, "a superfile is damaged");
            return Err(as_parquet(damaged_block(path, &damaged)));
        }
    }
    let slice = |range: &Range<u64>| {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let index = whole.partition_point(|whole| whole.end <= range.start);
        let start = range.start.checked_sub(whole.get(index)?.start)?;
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(range.end - range.start).ok()?)?;
        let bytes = read.get(index)?;
        (end <= bytes.len()).then(|| bytes.slice(start..end))
    };
    let sliced: Option<Vec<Bytes>> = ranges.iter().map(slice).collect();
    sliced.ok_or_else(|| as_parquet(corrupt(path, "is shorter than the manifest says")))
}

/// The blocks in which `ranges` lie, ascending, those that several lie in once.
fn whole_blocks(
    checksums: &BlockChecksums,
    path: &Path,
    ranges: &[Range<u64>],
) -> Result<Vec<Range<u64>>, Error> {
    let wanted = ranges.iter().filter(|range| range.start != range.end);
    let whole: Option<Vec<Range<u64>>> = wanted.map(|range| checksums.around(range)).collect();
    let mut whole = whole.ok_or_else(|| {
        corrupt(
            path,
            "its footer points outside of the bytes that it has checksums of",
        )
    })?;
    whole.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(whole.len());
    for range in whole {
        match merged.last_mut() {
            // Those that only touch stay apart: a buffer lives as long as any part of it is used.
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    Ok(merged)
}

fn damaged_block(path: &Path, damaged: &Range<u64>) -> Error {
    let (start, end) = (damaged.start, damaged.end);
    corrupt(
        path,
        format!(
            "the bytes from {start} to {end} are not those that were written: they have another checksum than the \
             file's footer says. If they have it again when the statement is run again, put the file back from a copy of \
             the table, or delete its rows by a condition that by its bounds holds for all of them (supertable_files \
             shows those), which does not read it"
        ),
    )
}

fn corrupt(path: &Path, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, path.as_ref(), why)
}

/// A superfile's error on its way through Parquet's reader.
pub(super) fn as_parquet(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
    use super::*;
    use crate::format::checksums::Checksummer;
    use crate::scan::read::disk::Disk;

    const BLOCK: u64 = 16 << 10;

    /// A file of ten blocks and a bit, a reader of it, and what was read.
    fn file() -> (Vec<u8>, Verified, Disk) {
        let bytes = (0..10 * BLOCK + 500).map(|i| (i * i / 1000) as u8);
        let end = b"\0\0\0\0\0PAR1";
        let mut bytes: Vec<u8> = bytes.chain(*end).collect();
        let mut summing = Checksummer::default();
        summing.add(&bytes);
        bytes.truncate(bytes.len() - end.len());
        bytes.extend(summing.finish().unwrap());
        let checksums = BlockChecksums::of_footer(&bytes, bytes.len() as u64);
        let disk = Disk::of(bytes.clone());
        let verified = Verified {
            inner: Box::new(disk.clone()),
            path: Path::from("superfiles/f.parquet"),
            checksums: Arc::new(checksums.unwrap().unwrap()),
        };
        (bytes, verified, disk)
    }

    async fn asked(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let (bytes, mut verified, disk) = file();
        let got = verified.get_byte_ranges(ranges.to_vec()).await.unwrap();
        let expected = ranges
            .iter()
            .map(|r| &bytes[r.start as usize..r.end as usize]);
        assert!(got.iter().eq(expected), "{ranges:?}");
        let read = disk.requests().concat();
        for (range, next) in read.iter().zip(read.iter().skip(1)) {
            assert!(range.end <= next.start, "{read:?}");
        }
        read
    }

    #[tokio::test]
    async fn who_asks_for_bytes_gets_those_and_whole_blocks_are_read_once() {
        let last = 10 * BLOCK..10 * BLOCK + 500;
        assert_eq!(asked(&[5..6]).await, [0..BLOCK]);
        assert_eq!(
            asked(&[0..BLOCK, BLOCK..2 * BLOCK]).await,
            [0..BLOCK, BLOCK..2 * BLOCK]
        );
        assert_eq!(
            asked(&[0..BLOCK + 1, BLOCK + 1..2 * BLOCK]).await,
            [0..2 * BLOCK]
        );
        assert_eq!(
            asked(&[3 * BLOCK + 7..3 * BLOCK + 9, 4..9, 7..8]).await,
            [0..BLOCK, 3 * BLOCK..4 * BLOCK]
        );
        assert_eq!(asked(std::slice::from_ref(&last)).await, [last]);
        assert_eq!(asked(&[7..7]).await, []);
        assert_eq!(asked(&[]).await, []);
    }

    #[tokio::test]
    async fn a_flipped_bit_in_any_block_is_an_error_that_names_the_file_and_the_block() {
        let (bytes, _, _) = file();
        for at in (0..10 * BLOCK + 500).step_by(1021) {
            let (_, mut verified, _) = file();
            let mut damaged = bytes.clone();
            damaged[at as usize] ^= 1 << (at % 8);
            verified.inner = Box::new(Disk::of(damaged));
            let block = at - at % BLOCK;
            let error = verified.get_bytes(block + 1..block + 2).await.unwrap_err();
            let ParquetError::External(error) = error else {
                panic!("{error}")
            };
            let error = error.downcast::<Error>().unwrap();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert_eq!(error.subject(), "superfiles/f.parquet");
            assert!(error.detail().contains(&format!("from {block} to ")));
            // The others are as before.
            let other = if block == 0 { BLOCK } else { 0 };
            assert!(verified.get_bytes(other..other + 1).await.is_ok());
        }
    }

    #[tokio::test]
    async fn what_lies_beyond_the_checksums_is_an_error() {
        let (_, mut verified, _) = file();
        let end = 10 * BLOCK + 500;
        assert!(verified.get_bytes(end - 1..end + 1).await.is_err());
        assert!(verified.get_bytes(end + 1..end + 2).await.is_err());
    }
}
