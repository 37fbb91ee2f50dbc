//! Batches in, superfiles out.
//!
//! Owns when a superfile begins and ends, and the collection of its statistics. Does not own its encoding (`encoder`),
//! nor what makes a superfile part of the table: that is the mutation's commit.
//!
//! The first rows of a superfile are held until they tell how its columns are best written; a writer that is one of
//! several may hold more of them, and hand them to another one if no more come.
//!
//! Invariant: rows are stored in the order in which they were given, file after file in the order of the
//! entries; a compaction records where rows are by counting them. An entry is handed out only after the
//! store acknowledged the whole file. A crash
//! leaves objects that no manifest names; they lie in the mutation's id block and are removed when
//! the mutation is undone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};

use super::bloom::filter_columns;
use super::capture::EndCapture;
use super::encoder::{Encoder, encoding, private_context};
use super::encoding::{Free, choose_columns};
use super::floats::{FloatBounds, without_float_statistics};
use super::key_order::{KeyOrder, KeyOrders};
use super::renamed::in_the_file;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ids::{MAX_SUPERFILE_ROWS, RowId};
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

/// A superfile's first rows are held until they are so many, or take so many bytes: the choice of encodings looks at
/// several places of them.
const HELD_ROWS: u64 = 65_536;
const HELD_BYTES: u64 = 8 << 20;

/// How superfiles are written.
#[derive(Debug, Clone)]
pub(crate) struct WriterOptions {
    /// The writer's columns as a file has them: with physical names and field ids.
    pub file_schema: SchemaRef,
    /// Parquet settings: row group and page sizes, compression, dictionary, bloom filters.
    pub parquet: TableParquetOptions,
    /// Columns by which rows are looked up, as a file calls them: they get Bloom filters where statistics will not do.
    pub looked_up: Vec<String>,
    /// What of those settings nobody made, so that the rows decide.
    pub free: Free,
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
    /// Bytes of rows that are held though they are enough to choose encodings by.
    hold: u64,
    open: Option<OpenSuperfile>,
    finished: Vec<SuperfileEntry>,
    rows: u64,
    progress: Arc<WriteProgress>,
    orders: Arc<KeyOrders>,
}

struct OpenSuperfile {
    held: HeldRows,
    /// None while rows are held.
    encoder: Option<Encoder>,
    rows: u64,
    bytes: u64,
    floats: FloatBounds,
    order: KeyOrder,
}

/// Rows that no encoder has got yet.
pub(crate) struct HeldRows {
    batches: Vec<RecordBatch>,
    memory: MemoryReservation,
}

impl HeldRows {
    /// The rows, in order.
    pub(crate) fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }
}

/// How far the writers of one statement are.
#[derive(Debug, Default)]
pub(crate) struct WriteProgress {
    rows: AtomicU64,
    bytes: AtomicU64,
    quiet: bool,
}

impl WriteProgress {
    fn add(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.tell(0);
    }

    /// All is written.
    pub(crate) fn end(&self) {
        self.tell(self.rows.load(Ordering::Relaxed));
    }

    /// Tells the listener how many rows are written; how many there will be is known at the end.
    fn tell(&self, total: u64) {
        if !self.quiet {
            let done = self.rows.load(Ordering::Relaxed);
            let bytes = self.bytes.load(Ordering::Relaxed);
            tracing::info!(target: PROGRESS, operation = "write", done, total, bytes);
        }
    }
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
            hold: 0,
            open: None,
            finished: Vec::new(),
            rows: 0,
            progress: Arc::default(),
            orders: Arc::default(),
        })
    }

    /// Finds out whether the rows of its superfiles ascend by keys.
    #[must_use]
    pub(crate) fn comparing(mut self, orders: &Arc<KeyOrders>) -> Self {
        self.orders = Arc::clone(orders);
        self
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
        self.progress = Arc::new(WriteProgress {
            quiet: true,
            ..WriteProgress::default()
        });
        self
    }

    /// One of several writers, which count together; it holds rows that take up to so many bytes before it begins a
    /// superfile of its own.
    #[must_use]
    pub(crate) fn among(mut self, progress: &Arc<WriteProgress>, hold: u64) -> Self {
        self.progress = Arc::clone(progress);
        self.hold = hold;
        self
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
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.open_superfile(),
            };
            let room = usize::try_from(max_rows - open.rows).unwrap_or(usize::MAX);
            let length = room.min(batch.num_rows() - offset);
            let piece = batch.slice(offset, length);
            offset += length;
            let taken = share(bytes, length, batch.num_rows());
            open.rows += length as u64;
            open.bytes += taken;
            self.rows += length as u64;
            open.floats.add(&piece);
            open.order.add(&piece);
            let full = open.rows >= max_rows || open.bytes >= self.options.max_bytes;
            let open = self.open.insert(open);
            let stopped = match &open.encoder {
                Some(encoder) => encoder.send(piece).await.is_err(),
                None => {
                    let fits = open.held.add(piece, taken);
                    match fits && !open.is_held_enough(self.hold) {
                        true => false,
                        false => self.start_encoder(false).await?,
                    }
                }
            };
            if full || stopped {
                self.close_superfile().await?;
            }
        }
        self.progress.add(batch.num_rows() as u64);
        Ok(())
    }

    /// Completes the last superfile and returns the entries of all of them, in writing order.
    ///
    /// # Errors
    /// The encoder's or the store's failure.
    pub(crate) async fn finish(mut self) -> Result<Vec<SuperfileEntry>> {
        self.close_superfile().await?;
        self.progress.end();
        Ok(self.finished)
    }

    /// As [`finish`](Self::finish), but rows that are still held are returned instead of written.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub(crate) async fn finish_without_held(
        mut self,
    ) -> Result<(Vec<SuperfileEntry>, Option<HeldRows>)> {
        let held = match self.open.take() {
            Some(open) if open.encoder.is_none() => {
                self.progress.rows.fetch_sub(open.rows, Ordering::Relaxed);
                Some(open.held)
            }
            open => {
                self.open = open;
                self.close_superfile().await?;
                None
            }
        };
        Ok((self.finished, held))
    }

    /// Gives up what is not complete, and returns once nothing of it goes on.
    pub(crate) async fn abandon(mut self) {
        if let Some(OpenSuperfile {
            encoder: Some(encoder),
            ..
        }) = self.open.take()
        {
            encoder.abandon().await;
        }
    }

    fn open_superfile(&self) -> OpenSuperfile {
        let memory = MemoryConsumer::new("supertable writer").register(self.task.memory_pool());
        OpenSuperfile {
            held: HeldRows {
                batches: Vec::new(),
                memory,
            },
            encoder: None,
            rows: 0,
            bytes: 0,
            floats: FloatBounds::new(&self.schema, MAX_STATISTICS_COLUMNS),
            order: self.orders.begin(),
        }
    }

    /// Begins to encode the open superfile, with the rows that are held; `whole` if no more will come. Returns
    /// whether the encoder stopped already.
    async fn start_encoder(&mut self, whole: bool) -> Result<bool> {
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        let options = &self.options;
        let mut parquet = options.parquet.clone();
        let group = parquet.global.max_row_group_size;
        let rows = match whole {
            true => group.min(usize::try_from(open.rows).unwrap_or(usize::MAX)),
            false => group,
        };
        choose_columns(
            &mut parquet,
            options.free,
            &options.file_schema,
            &open.held.batches,
            rows,
        );
        filter_columns(
            &mut parquet,
            &options.looked_up,
            &options.file_schema,
            &open.held.batches,
            rows,
        );
        let id = self.ids.superfile()?;
        let sorting = options.sorting_columns.clone();
        let encoder = Encoder::start(id, &options.file_schema, parquet, sorting, &self.task)?;
        let encoder = open.encoder.insert(encoder);
        let mut stopped = false;
        for batch in std::mem::take(&mut open.held.batches) {
            stopped = stopped || encoder.send(batch).await.is_err();
        }
        open.held.memory.free();
        Ok(stopped)
    }

    async fn close_superfile(&mut self) -> Result<()> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.encoder.is_none())
        {
            self.start_encoder(true).await?;
        }
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let Some(encoder) = open.encoder else {
            return Ok(());
        };
        let id = encoder.id();
        // A closed channel means that the encoder stopped: its end tells why.
        let metadata = encoder.finish().await?;
        let path = paths::superfile(&id);
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
            .map_err(|e| encoding(&id, e))?;
        let row_ids = match &mut self.row_ids {
            RowIdSource::Minted(mint) => RowIds::Span(mint()),
            RowIdSource::Stored => RowIds::Stored,
        };
        self.progress.bytes.fetch_add(size, Ordering::Relaxed);
        self.orders.end(id, &open.order);
        self.finished.push(SuperfileEntry {
            footer_checksum: Some(checksum),
            stats,
            ..SuperfileEntry::new(id, open.rows, size, self.created_at_ms, row_ids)
        });
        Ok(())
    }
}

impl OpenSuperfile {
    /// Whether the rows that are held tell how they are best written, and take more than `hold` bytes.
    fn is_held_enough(&self, hold: u64) -> bool {
        (self.rows >= HELD_ROWS || self.bytes >= HELD_BYTES) && self.bytes >= hold
    }
}

impl HeldRows {
    /// Holds a batch; whether there is memory to hold more.
    fn add(&mut self, batch: RecordBatch, bytes: u64) -> bool {
        self.batches.push(batch);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.memory.try_grow(bytes).is_ok()
    }
}

/// The part of `bytes` that `length` of `rows` rows take.
fn share(bytes: u64, length: usize, rows: usize) -> u64 {
    let part = u128::from(bytes) * length as u128 / rows.max(1) as u128;
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Bytes that the rows of `batch` take, shared buffers counted once for each slice of them.
fn memory_of(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(memory_of_column).sum()
}

fn memory_of_column(column: &ArrayRef) -> u64 {
    let data = column.to_data();
    let slice = data.get_slice_memory_size();
    // Of views that counts the views alone.
    let viewed = match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    (slice.unwrap_or_else(|_| column.get_array_memory_size()) + viewed) as u64
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
