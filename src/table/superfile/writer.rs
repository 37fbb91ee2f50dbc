//! Batches in, superfiles out.
//!
//! Owns the writing of immutable Parquet files and the collection of their statistics. Encoding is
//! DataFusion's own `ParquetSink`, which encodes the columns of one file in parallel and accounts
//! for its buffers in the session's memory pool. Does not own what makes a superfile part of the
//! table: that is the mutation's commit.
//!
//! Invariant: rows are stored in the order in which they were given, file after file in the order of the
//! entries; a compaction records where rows are by counting them. An entry is handed out only after the
//! store acknowledged the whole file. A crash
//! leaves objects that no manifest names; they lie in the mutation's id block and are removed when
//! the mutation is undone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::physical_plan::parquet::ParquetSink;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileGroup, FileOutputMode, FileSinkConfig};
use datafusion::datasource::sink::DataSink;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::{
    DefaultObjectStoreRegistry, ObjectStoreRegistry, ObjectStoreUrl,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use tokio::sync::mpsc;

use super::capture::EndCapture;
use super::floats::{FloatBounds, without_float_statistics};
use super::renamed::in_the_file;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ids::{MAX_SUPERFILE_ROWS, RowId, SuperfileId};
use crate::format::manifest::{ROW_ID_FIELD_ID, RowIds, SuperfileEntry, field_id};
use crate::format::paths;
use crate::format::stats::{ColumnStats, StatValue, SuperfileStats};
use crate::table::commit::StagedIds;
use crate::table::limits::PROGRESS;

/// Statistics are recorded for the first so many top-level columns, which bounds a manifest
/// entry's size for very wide tables.
pub(crate) const MAX_STATISTICS_COLUMNS: usize = 32;

/// Longest string or binary bound that is recorded, in bytes; longer ones are shortened.
const MAX_BOUND_BYTES: usize = 128;

/// Batches buffered between the producer and the encoder.
const BUFFERED_BATCHES: usize = 4;

/// How superfiles are written.
#[derive(Debug, Clone)]
pub(crate) struct WriterOptions {
    /// The writer's columns as a file has them: with physical names and field ids.
    pub file_schema: SchemaRef,
    /// Parquet settings: row group and page sizes, compression, dictionary, bloom filters.
    pub parquet: TableParquetOptions,
    /// A superfile is closed once it holds so many rows; at most [`MAX_SUPERFILE_ROWS`].
    pub max_rows: u64,
    /// A superfile is closed once the batches given to it took so many bytes of memory.
    pub max_bytes: u64,
    /// The order that the rows already have, recorded in the file's metadata.
    pub sorting_columns: Option<Vec<SortingColumn>>,
}

/// Where the rows' ids come from.
pub(crate) enum RowIdSource {
    /// The superfile stores none: each new file takes a fresh span from this function.
    Minted(Box<dyn FnMut() -> RowId + Send>),
    /// The last column of every batch, `_id`, is stored.
    Stored,
}

/// Writes a stream of batches into as many superfiles as their size asks for.
pub(crate) struct SuperfileWriter {
    store: EndCapture,
    task: Arc<TaskContext>,
    schema: SchemaRef,
    options: WriterOptions,
    row_ids: RowIdSource,
    ids: StagedIds,
    created_at_ms: i64,
    open: Option<OpenSuperfile>,
    finished: Vec<SuperfileEntry>,
    rows: u64,
    quiet: bool,
}

struct OpenSuperfile {
    id: SuperfileId,
    batches: mpsc::Sender<Result<RecordBatch, DataFusionError>>,
    encoder: SpawnedTask<Result<ParquetMetaData, DataFusionError>>,
    rows: u64,
    bytes: u64,
    floats: FloatBounds,
}

impl SuperfileWriter {
    /// A writer of superfiles with the columns of `schema` into `store`, which is rooted at the
    /// table. `task` provides the memory pool and the batch settings.
    ///
    /// # Errors
    /// Fails if a private runtime for the store cannot be built.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        task: &TaskContext,
        schema: SchemaRef,
        mut options: WriterOptions,
        row_ids: RowIdSource,
        ids: StagedIds,
        created_at_ms: i64,
    ) -> Result<Self> {
        options.parquet = without_float_statistics(options.parquet, &options.file_schema);
        let store = EndCapture::new(store);
        let task = private_context(task, Arc::new(store.clone()))?;
        Ok(Self {
            store,
            task,
            schema,
            options,
            row_ids,
            ids,
            created_at_ms,
            open: None,
            finished: Vec::new(),
            rows: 0,
            quiet: false,
        })
    }

    /// Closes each superfile at so many rows already, if that is less than the options say.
    #[must_use]
    pub(crate) fn at_most(mut self, rows: u64) -> Self {
        self.options.max_rows = self.options.max_rows.min(rows);
        self
    }

    /// Does not say how far it is: no user waits for it.
    #[must_use]
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Tells the listener how many rows are written; how many there will be is known at the end.
    fn report(&self, total: u64) {
        if !self.quiet {
            let bytes: u64 = self.finished.iter().map(|entry| entry.size).sum();
            tracing::info!(target: PROGRESS, operation = "write", done = self.rows, total, bytes);
        }
    }

    /// Rows written so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds the rows of `batch`, whose columns have the types of the writer's schema.
    ///
    /// # Errors
    /// [`ErrorKind::Constraint`] if a column that may not be null holds a null; otherwise the
    /// encoder's or the store's failure.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        check_not_null(&self.schema, batch.columns())?;
        let batch = &in_the_file(batch, &self.options.file_schema)?;
        // Once for the batch, not for each of the files that it is spread over.
        let bytes = memory_of(batch);
        let mut offset = 0;
        while offset < batch.num_rows() {
            let max_rows = self.options.max_rows.clamp(1, MAX_SUPERFILE_ROWS);
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let opened = self.open_superfile()?;
                    self.open.insert(opened)
                }
            };
            let room = usize::try_from(max_rows - open.rows).unwrap_or(usize::MAX);
            let length = room.min(batch.num_rows() - offset);
            let piece = batch.slice(offset, length);
            offset += length;
            open.rows += length as u64;
            open.bytes += share(bytes, length, batch.num_rows());
            self.rows += length as u64;
            open.floats.add(&piece);
            let full = open.rows >= max_rows || open.bytes >= self.options.max_bytes;
            // A closed channel means that the encoder stopped: closing tells why.
            let stopped = open.batches.send(Ok(piece)).await.is_err();
            if full || stopped {
                self.close_superfile().await?;
            }
        }
        self.report(0);
        Ok(())
    }

    /// Completes the last superfile and returns the entries of all of them, in writing order.
    ///
    /// # Errors
    /// The encoder's or the store's failure.
    pub(crate) async fn finish(mut self) -> Result<Vec<SuperfileEntry>> {
        self.close_superfile().await?;
        self.report(self.rows);
        Ok(std::mem::take(&mut self.finished))
    }

    fn open_superfile(&mut self) -> Result<OpenSuperfile> {
        let id = self.ids.superfile()?;
        let url = private_url()?;
        let target = format!("{}{}", url.as_str(), paths::superfile(&id));
        let config = FileSinkConfig {
            original_url: target.clone(),
            object_store_url: url,
            file_group: FileGroup::default(),
            table_paths: vec![ListingTableUrl::parse(&target).map_err(|e| encoding(&id, e))?],
            output_schema: Arc::clone(&self.options.file_schema),
            table_partition_cols: vec![],
            insert_op: InsertOp::Append,
            keep_partition_by_columns: false,
            file_extension: "parquet".to_owned(),
            file_output_mode: FileOutputMode::SingleFile,
        };
        let sink = ParquetSink::new(config, self.options.parquet.clone())
            .with_sorting_columns(self.options.sorting_columns.clone());
        let (batches, receiver) = mpsc::channel(BUFFERED_BATCHES);
        let stream = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|batch| (batch, receiver))
        });
        let stream = Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.options.file_schema),
            stream,
        ));
        let task = Arc::clone(&self.task);
        let encoder = SpawnedTask::spawn(async move {
            DataSink::write_all(&sink, stream, &task).await?;
            sink.written().into_values().next().ok_or_else(|| {
                DataFusionError::Internal("the Parquet sink wrote no file".to_owned())
            })
        });
        Ok(OpenSuperfile {
            id,
            batches,
            encoder,
            rows: 0,
            bytes: 0,
            floats: FloatBounds::new(&self.schema, MAX_STATISTICS_COLUMNS),
        })
    }

    async fn close_superfile(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        drop(open.batches);
        let metadata = open
            .encoder
            .join()
            .await
            .map_err(|e| encoding(&open.id, e))?
            .map_err(|e| encoding(&open.id, e))?;
        let path = paths::superfile(&open.id);
        let written = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        if written != open.rows {
            return Err(Error::new(
                ErrorKind::Storage,
                path.to_string(),
                format!("{written} rows were written instead of {}", open.rows),
            ));
        }
        let (size, checksum) = self.store.take(&path, &metadata).await?;
        let stats = superfile_stats(&metadata, &self.options.file_schema, &open.floats)
            .map_err(|e| encoding(&open.id, e))?;
        let row_ids = match &mut self.row_ids {
            RowIdSource::Minted(mint) => RowIds::Span(mint()),
            RowIdSource::Stored => RowIds::Stored,
        };
        self.finished.push(SuperfileEntry {
            footer_checksum: Some(checksum),
            stats,
            ..SuperfileEntry::new(open.id, open.rows, size, self.created_at_ms, row_ids)
        });
        Ok(())
    }
}

impl Drop for SuperfileWriter {
    fn drop(&mut self) {
        // An abandoned file must not look complete: the stream ends in an error, not at its end.
        if let Some(open) = self.open.take() {
            let _ = open.batches.try_send(Err(DataFusionError::Execution(
                "the statement was abandoned".to_owned(),
            )));
            drop(open.encoder);
        }
    }
}

/// A task context whose only store is the table's own, so that the sink cannot reach another.
fn private_context(task: &TaskContext, store: Arc<dyn ObjectStore>) -> Result<Arc<TaskContext>> {
    let registry = DefaultObjectStoreRegistry::new();
    registry.register_store(private_url()?.as_ref(), store);
    let runtime: RuntimeEnv = RuntimeEnvBuilder::from_runtime_env(&task.runtime_env())
        .with_object_store_registry(Arc::new(registry))
        .build()
        .map_err(|e| {
            Error::new(ErrorKind::Storage, "writer", "cannot build its runtime").with_source(e)
        })?;
    Ok(Arc::new(TaskContext::new(
        task.task_id(),
        task.session_id(),
        task.session_config().clone(),
        task.scalar_functions().clone(),
        Default::default(),
        task.aggregate_functions().clone(),
        task.window_functions().clone(),
        Arc::new(runtime),
    )))
}

fn private_url() -> Result<ObjectStoreUrl> {
    ObjectStoreUrl::parse("supertable://root/").map_err(|e| {
        Error::new(ErrorKind::InvalidArgument, "writer", "private store name").with_source(e)
    })
}

fn encoding(id: &SuperfileId, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(
        ErrorKind::Storage,
        paths::superfile(id).to_string(),
        "writing the superfile failed",
    )
    .with_source(e)
}

/// The part of `bytes` that `length` of `rows` rows take.
fn share(bytes: u64, length: usize, rows: usize) -> u64 {
    let part = u128::from(bytes) * length as u128 / rows.max(1) as u128;
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Bytes that the rows of `batch` take, shared buffers counted once for each slice of them.
fn memory_of(batch: &RecordBatch) -> u64 {
    batch
        .columns()
        .iter()
        .map(|c| {
            c.to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| c.get_array_memory_size()) as u64
        })
        .sum()
}

/// Refuses a null in a column that may not hold one.
pub(crate) fn check_not_null(schema: &SchemaRef, columns: &[ArrayRef]) -> Result<()> {
    for (field, column) in schema.fields().iter().zip(columns) {
        if !field.is_nullable() && column.logical_null_count() > 0 {
            return Err(Error::new(
                ErrorKind::Constraint,
                field.name(),
                "the column is NOT NULL, but a row has no value for it; nothing was changed",
            ));
        }
    }
    Ok(())
}

/// What the footer of a file that others wrote says of its columns, by the field ids of `schema`;
/// floats are left out, whose bounds do not hold for NaNs.
pub(crate) fn footer_stats(
    metadata: &ParquetMetaData,
    schema: &SchemaRef,
) -> Result<SuperfileStats, DataFusionError> {
    superfile_stats(metadata, schema, &FloatBounds::default())
}

fn superfile_stats(
    metadata: &ParquetMetaData,
    schema: &SchemaRef,
    floats: &FloatBounds,
) -> Result<SuperfileStats, DataFusionError> {
    let statistics: Statistics =
        DFParquetMetadata::statistics_from_parquet_metadata(metadata, schema)?;
    let mut columns = BTreeMap::new();
    for (index, (field, column)) in schema
        .fields()
        .iter()
        .zip(&statistics.column_statistics)
        .enumerate()
        .take(MAX_STATISTICS_COLUMNS)
    {
        let Some(id) = field_id(field).filter(|id| *id != ROW_ID_FIELD_ID) else {
            continue;
        };
        let (min, min_exact) = bound(&column.min_value);
        let (max, max_exact) = bound(&column.max_value);
        let stats = floats.stats(index, MAX_BOUND_BYTES).unwrap_or_else(|| {
            let nulls = null_count(metadata, schema, field);
            let mut stats = ColumnStats::new(min, max, nulls, MAX_BOUND_BYTES);
            // A bound that Parquet shortened is not a value of the data.
            stats.min_exact &= min_exact;
            stats.max_exact &= max_exact;
            stats
        });
        if stats.min.is_some() || stats.max.is_some() || stats.null_count.is_some() {
            columns.insert(id, stats);
        }
    }
    Ok(SuperfileStats { columns })
}

/// Nulls in a flat column, if every row group recorded them.
///
/// DataFusion's own summary is no use here: it reports all rows as null where nothing was recorded,
/// and its Parquet opener would then replace the column by NULL.
pub(crate) fn null_count(
    metadata: &ParquetMetaData,
    schema: &SchemaRef,
    field: &Field,
) -> Option<u64> {
    if field.data_type().is_nested() {
        return None;
    }
    let parquet_schema = metadata.file_metadata().schema_descr();
    let counts = StatisticsConverter::try_new(field.name(), schema, parquet_schema)
        .ok()?
        .with_missing_null_counts_as_zero(false)
        .row_group_null_counts(metadata.row_groups())
        .ok()?;
    counts.iter().sum::<Option<u64>>()
}

fn bound(value: &Precision<datafusion::common::ScalarValue>) -> (Option<StatValue>, bool) {
    let (scalar, exact) = match value {
        Precision::Exact(scalar) => (scalar, true),
        Precision::Inexact(scalar) => (scalar, false),
        Precision::Absent => return (None, false),
    };
    (StatValue::from_scalar(scalar), exact)
}
