//! Parquet readers of superfiles: what differs from DataFusion's own.
//!
//! - **Names.** The metadata that a reader hands out has the table's names for the file's columns;
//!   see [`columns`](super::columns). It is made once for the pieces of a file, and not at all for a
//!   file whose names are the table's.
//! - **Page indexes are kept as footers are.** DataFusion's opener asks for the footer alone, which
//!   its session cache serves, and then reads the page index of every file that a predicate may
//!   prune, each time anew. Asked for both at once, the cache holds both, and a statement on a
//!   superfile that the session knows reads nothing but data: one round trip less for every point
//!   `DELETE`. Without a predicate nobody needs a page index, except in an adopted file: the part of
//!   it that cannot be trusted has to be taken out before anybody else reads it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use crate::scan::columns::{Adopted, renamed};

/// So many files' renamed metadata are kept for their other pieces.
const KEPT: usize = 64;

/// Readers of one scan.
#[derive(Debug)]
pub(crate) struct SuperfileReaders<F> {
    inner: F,
    /// The table's columns with the ids of all fields.
    stored: SchemaRef,
    /// Whether page indexes are asked for together with the footer.
    indexed: bool,
    /// Metadata of files whose names differ from the table's.
    renamed: Arc<Mutex<HashMap<Path, Arc<ParquetMetaData>>>>,
}

impl<F> SuperfileReaders<F> {
    pub(crate) fn new(inner: F, stored: SchemaRef, indexed: bool) -> Self {
        Self {
            inner,
            stored,
            indexed,
            renamed: Arc::default(),
        }
    }
}

impl<F: ParquetFileReaderFactory> ParquetFileReaderFactory for SuperfileReaders<F> {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.clone();
        let adopted = file.extension::<Arc<Adopted>>().cloned();
        let inner = self
            .inner
            .create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(SuperfileReader {
            inner,
            indexed: self.indexed || adopted.is_some(),
            path,
            adopted,
            stored: Arc::clone(&self.stored),
            renamed: Arc::clone(&self.renamed),
        }))
    }
}

struct SuperfileReader {
    inner: Box<dyn AsyncFileReader + Send>,
    indexed: bool,
    path: Path,
    adopted: Option<Arc<Adopted>>,
    stored: SchemaRef,
    renamed: Arc<Mutex<HashMap<Path, Arc<ParquetMetaData>>>>,
}

impl SuperfileReader {
    fn known(&self) -> Option<Arc<ParquetMetaData>> {
        self.renamed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&self.path)
            .cloned()
    }

    fn rename(&self, raw: Arc<ParquetMetaData>) -> ParquetResult<Arc<ParquetMetaData>> {
        let named = renamed(Arc::clone(&raw), &self.stored, self.adopted.as_deref())?;
        // One whose page index is yet to come would be in the way of the one that has it.
        if !Arc::ptr_eq(&raw, &named) && (!self.indexed || named.offset_index().is_some()) {
            let mut kept = self.renamed.lock().unwrap_or_else(PoisonError::into_inner);
            // The pieces of a file are read at about the same time: older ones are done with.
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(self.path.clone(), Arc::clone(&named));
        }
        Ok(named)
    }
}

impl AsyncFileReader for SuperfileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        Box::pin(async move {
            if let Some(known) = self.known() {
                return Ok(known);
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
            let raw = self.inner.get_metadata(options).await?;
            self.rename(raw)
        })
    }
}
