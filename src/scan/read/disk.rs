//! A file in memory that knows what was read of it, for the tests of this folder.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;

#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) bytes: Bytes,
    /// The ranges of each request.
    requests: Arc<Mutex<Vec<Vec<Range<u64>>>>>,
    /// So many requests fail.
    pub(super) failures: Arc<AtomicUsize>,
}

impl Disk {
    pub(super) fn of(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            ..Self::default()
        }
    }

    pub(super) fn requests(&self) -> Vec<Vec<Range<u64>>> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AsyncFileReader for Disk {
    fn get_bytes(&mut self, _: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        unreachable!()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        let requests = self.requests.lock();
        let mut requests = requests.unwrap_or_else(PoisonError::into_inner);
        requests.push(ranges.clone());
        drop(requests);
        let left = self.failures.load(Ordering::Relaxed);
        self.failures
            .store(left.saturating_sub(1), Ordering::Relaxed);
        let slice = |r: &Range<u64>| self.bytes.slice(r.start as usize..r.end as usize);
        let bytes = match left {
            0 => Ok(ranges.iter().map(slice).collect()),
            _ => Err(ParquetError::General("not now".into())),
        };
        async move {
            tokio::task::yield_now().await;
            bytes
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        unreachable!()
    }
}
