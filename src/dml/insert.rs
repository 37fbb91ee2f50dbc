//! `INSERT INTO`, `INSERT OVERWRITE` and `TRUNCATE`: changes that address no row.
//!
//! Owns the sinks behind DataFusion's hooks for them, which receive complete inputs and are safe to
//! use, and the writer settings that every statement shares.
//!
//! Invariant: nothing becomes visible before the whole input was read and checked.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, SortOptions, cast_with_options};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result, SchemaExt};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexRequirement, PhysicalSortRequirement};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::StreamExt;
use parquet::file::metadata::SortingColumn;
use tracing::Instrument;

use crate::config::SupertableOptions;
use crate::dml::check::Checks;
use crate::dml::opaque::Opaque;
use crate::dml::optimize::compact_after_write;
use crate::dml::provider::{SupertableProvider, TableAccess};
use crate::dml::rerun::{Attempt, Rerun, Run, statement_span};
use crate::dml::returning::KeptRows;
use crate::dml::sort::sorted_in_part;
use crate::error::{Error, ErrorKind};
use crate::format::state_doc::OpKind;
use crate::scan::Pin;
use crate::scan::schema::{numbered, session_schema};
use crate::table::{
    Effect, Mutation, Reruns, RowIdSource, RunEnd, SuperfileWriter, WriterOptions, check_not_null,
};

/// What the planning rule knows of an `INSERT`.
#[derive(Debug, Clone)]
pub struct InsertStatement {
    /// The table's name in the statement.
    pub table: String,
    /// The plan of its rows; all scans of supertables are pinned.
    pub rows: Opaque<LogicalPlan>,
    /// The statement in words.
    pub text: String,
    /// Whether it conflicts with every change of the table's rows since it read them.
    pub serializable: bool,
}

/// The physical plan of an `INSERT`. Without what the planning rule knows of it, it cannot run again
/// after a conflict.
///
/// # Errors
/// Refuses `REPLACE INTO`, and an input whose columns are not the table's.
pub fn plan_insert(
    state: &dyn Session,
    provider: &SupertableProvider,
    pin: Arc<Pin>,
    statement: Option<&InsertStatement>,
    input: Arc<dyn ExecutionPlan>,
    op: InsertOp,
) -> Result<Arc<dyn ExecutionPlan>> {
    if op == InsertOp::Replace {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "REPLACE INTO",
            "a supertable has no primary key to replace by; use MERGE INTO, or DELETE and INSERT",
        )
        .into());
    }
    let access = provider.access();
    access
        .schema
        .logically_equivalent_names_and_types(&input.schema())?;
    let order = write_order(access, &input.schema())?;
    let pool = &state.runtime_env().memory_pool;
    let input = sorted_in_part(pool, input, order.as_ref())?;
    let overwrite = op == InsertOp::Overwrite;
    let words = match overwrite {
        true => "INSERT OVERWRITE",
        false => "INSERT INTO",
    };
    let sink = InsertSink {
        access: Arc::clone(access),
        input: nullable(&access.schema),
        table: match statement {
            Some(statement) => statement.table.clone(),
            None => access.location.root.to_string(),
        },
        pin,
        overwrite,
        serializable: statement.is_some_and(|s| s.serializable),
        checks: access.conditions.plan(state, &access.schema)?,
        words,
        text: statement.map_or_else(|| words.to_owned(), |statement| statement.text.clone()),
        rerun: statement.map(|statement| {
            Rerun::new(
                provider.clone(),
                statement.text.clone(),
                statement.rows.clone(),
                state,
                order.clone(),
            )
        }),
        metrics: ExecutionPlanMetricsSet::new(),
    };
    Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
}

/// The physical plan of a `TRUNCATE`.
///
/// # Errors
/// None today; the signature leaves room for a refusal.
pub fn plan_truncate(access: &Arc<TableAccess>) -> Result<Arc<dyn ExecutionPlan>> {
    let input = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
    let sink = TruncateSink {
        access: Arc::clone(access),
        schema: input.schema(),
    };
    Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
}

/// The order in which rows are written, if the table declares one: a requirement on the sink's
/// input, which DataFusion meets by a sort where the input does not have it already.
pub(crate) fn write_order(
    access: &TableAccess,
    input: &SchemaRef,
) -> Result<Option<LexRequirement>> {
    let requirements = access
        .table
        .metadata()
        .sort_order
        .iter()
        .map(|column| {
            Ok(PhysicalSortRequirement::new(
                Arc::new(Column::new_with_schema(&column.name, input)?),
                Some(SortOptions {
                    descending: column.descending,
                    nulls_first: column.nulls_first,
                }),
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(LexRequirement::new(requirements))
}

/// A writer of superfiles with the session's Parquet settings and the table's options.
pub(crate) fn superfile_writer(
    access: &TableAccess,
    mutation: &Mutation,
    context: &TaskContext,
    schema: SchemaRef,
    row_ids: RowIdSource,
) -> Result<SuperfileWriter> {
    let session = SupertableOptions::of(context.session_config().options());
    let metadata = access.table.metadata();
    let write = session.write_options(&metadata.properties);
    let mut parquet = datafusion::config::TableOptions::default_from_session_config(
        context.session_config().options(),
    )
    .parquet;
    write.apply(&mut parquet);
    let sorting_columns = metadata
        .sort_order
        .iter()
        .map(|column| {
            // A sort by a nested column has no leaf of its own: then no order is recorded.
            let index = leaf_index(&schema, &column.name)?;
            Some(SortingColumn {
                column_idx: index,
                descending: column.descending,
                nulls_first: column.nulls_first,
            })
        })
        .collect::<Option<Vec<_>>>()
        .filter(|columns| !columns.is_empty());
    let schema = numbered(&schema, &metadata.schema);
    let table = access.table.clone();
    Ok(SuperfileWriter::new(
        table.storage().object_store(),
        context,
        schema,
        WriterOptions {
            parquet,
            max_rows: write.target_file_rows.unwrap_or(session.target_file_rows),
            max_bytes: write.target_file_bytes.unwrap_or(session.target_file_bytes),
            sorting_columns,
        },
        row_ids,
        mutation.ids().clone(),
        table.env().now_ms(),
    )?)
}

/// The first batch of a statement's rows, once the statement's WAL document is durable.
///
/// A superfile may not be completed before: a crash would leave an object that no document leads
/// to. Waiting for both together costs nothing, because the scan is under way meanwhile.
pub(crate) async fn first_batch(
    rows: &mut SendableRecordBatchStream,
    mutation: &Mutation,
) -> Result<Option<RecordBatch>> {
    let first = async { rows.next().await.transpose() };
    let durable = async { Ok(mutation.durable().await?) };
    Ok(futures::try_join!(first, durable)?.0)
}

/// Index of a flat column among the Parquet leaves; none for nested columns and behind them.
fn leaf_index(schema: &SchemaRef, name: &str) -> Option<i32> {
    let at = schema.index_of(name).ok()?;
    let flat = schema
        .fields()
        .iter()
        .take(at + 1)
        .all(|f| !f.data_type().is_nested());
    flat.then(|| i32::try_from(at).ok()).flatten()
}

/// `batch` with exactly the columns' types of `schema`, cast where they differ.
///
/// # Errors
/// A value that the stored type cannot hold is an error, never a null.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                Ok(cast_with_options(column, field.data_type(), &strict)?)
            }
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    check_not_null(schema, &columns)?;
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )?)
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields: Vec<Field> = fields
        .map(|f| f.as_ref().clone().with_nullable(true))
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The error about a column, with the table and what to do.
fn in_table(error: DataFusionError, table: &str) -> DataFusionError {
    match Error::find_in(&error) {
        Some(own) if own.kind() == ErrorKind::Constraint => Error::new(
            ErrorKind::Constraint,
            format!("{table}.{}", own.subject()),
            format!(
                "{}; give each row a value for this non-nullable column, or ALTER TABLE {table} ALTER COLUMN {} DROP NOT NULL",
                own.detail(),
                own.subject()
            ),
        )
        .into(),
        _ => error,
    }
}

/// The rows of an `INSERT`, where its VALUES may hold NULL whatever the table's columns may: the sink says which
/// column may not.
///
/// # Errors
/// What building a plan can raise.
pub(crate) fn with_nullable_values(rows: LogicalPlan) -> Result<LogicalPlan> {
    let rows = rows.transform_up(|node| match node {
        LogicalPlan::Values(mut values) => {
            let fields = values.schema.iter().map(|(qualifier, field)| {
                let field = field.as_ref().clone().with_nullable(true);
                (qualifier.cloned(), Arc::new(field))
            });
            let metadata = values.schema.metadata().clone();
            let schema = DFSchema::new_with_metadata(fields.collect(), metadata)?;
            values.schema = Arc::new(schema);
            Ok(Transformed::yes(LogicalPlan::Values(values)))
        }
        LogicalPlan::TableScan(_) => Ok(Transformed::no(node)),
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    })?;
    Ok(rows.data)
}

struct InsertSink {
    access: Arc<TableAccess>,
    /// The table's columns as they may come: whether one holds a NULL that may not is this sink's to say.
    input: SchemaRef,
    /// How the statement calls the table.
    table: String,
    pin: Arc<Pin>,
    overwrite: bool,
    serializable: bool,
    checks: Checks,
    words: &'static str,
    /// The statement in words.
    text: String,
    rerun: Option<Rerun>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for InsertSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsertSink")
            .field("overwrite", &self.overwrite)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for InsertSink {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupertableInsert(overwrite={})", self.overwrite)
    }
}

#[async_trait]
impl DataSink for InsertSink {
    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn schema(&self) -> &SchemaRef {
        &self.input
    }

    async fn write_all(
        &self,
        data: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        SupertableOptions::of(context.session_config().options()).check_writable(self.words)?;
        if let Some(rerun) = &self.rerun {
            let reruns = MetricBuilder::new(&self.metrics).global_counter("conflict_reruns");
            let run = rerun.run(self, &self.pin, data, context, reruns);
            return run.instrument(statement_span(self.words)).await;
        }
        let attempt = self.attempt(data, &self.pin, context);
        match attempt.instrument(statement_span(self.words)).await? {
            Run::Done(rows) => Ok(rows),
            Run::Lost(conflict) => Err(Error::new(
                ErrorKind::Conflict,
                self.words,
                format!("{conflict}; nothing was changed, and the statement can be run again"),
            )
            .into()),
        }
    }
}

#[async_trait]
impl Attempt for InsertSink {
    async fn attempt(
        &self,
        data: SendableRecordBatchStream,
        pin: &Pin,
        context: &Arc<TaskContext>,
    ) -> Result<Run> {
        let snapshot = pin.snapshot().await?;
        self.access.conditions.check_current(&snapshot)?;
        let (op, drop, rows_deleted) = match self.overwrite {
            true => (
                OpKind::Overwrite,
                snapshot.manifest().entries().map(|e| e.id).collect(),
                snapshot.manifest().entries().map(|e| e.live_rows()).sum(),
            ),
            false => (OpKind::Insert, Vec::new(), 0),
        };
        // Rows of other columns than the version has would be committed as if they were its own.
        if session_schema(&snapshot.schema()).fields() != self.access.schema.fields() {
            return Err(Error::new(
                ErrorKind::Conflict,
                self.words,
                "the table's columns have changed since the statement was planned; nothing was \
                 changed, and the statement can be run again",
            )
            .into());
        }
        let mutation = pin.table().begin(op, snapshot, self.text.clone());
        let mut effect = match self.write(data, &mutation, context).await {
            Ok(effect) => effect,
            Err(e) => {
                let _ = mutation.abort().await;
                return Err(e);
            }
        };
        effect.drop = drop;
        effect.rows_deleted = rows_deleted;
        effect.serializable = self.serializable;
        MetricBuilder::new(&self.metrics)
            .global_counter("superfiles_written")
            .add(effect.add.len());
        let run = Run::of(mutation.commit(effect).await)?;
        if matches!(run, Run::Done(_)) {
            compact_after_write(&self.access, context);
        }
        Ok(run)
    }
}

impl InsertSink {
    async fn write(
        &self,
        mut data: SendableRecordBatchStream,
        mutation: &Mutation,
        context: &Arc<TaskContext>,
    ) -> Result<Effect> {
        let env = self.access.table.env().clone();
        let schema = &self.access.schema;
        let kept = KeptRows::begin(context);
        let mut writer = superfile_writer(
            &self.access,
            mutation,
            context,
            Arc::clone(schema),
            RowIdSource::Minted(Box::new(move || env.ids.row_span())),
        )?;
        let mut next = first_batch(&mut data, mutation).await?;
        while let Some(batch) = next {
            let rows = conform(&batch, schema).map_err(|e| in_table(e, &self.table))?;
            self.checks.test(&rows)?;
            if let Some(kept) = &kept {
                kept.add(&rows, schema.fields().len())?;
            }
            writer.write(&rows).await?;
            next = data.next().await.transpose()?;
        }
        let rows_inserted = writer.rows();
        Ok(Effect {
            add: writer.finish().await?,
            rows_inserted,
            ..Effect::default()
        })
    }
}

struct TruncateSink {
    access: Arc<TableAccess>,
    schema: SchemaRef,
}

impl fmt::Debug for TruncateSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TruncateSink")
    }
}

impl DisplayAs for TruncateSink {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SupertableTruncate")
    }
}

#[async_trait]
impl DataSink for TruncateSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        _data: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        SupertableOptions::of(context.session_config().options()).check_writable("TRUNCATE")?;
        let table = &self.access.table;
        let mut reruns = Reruns::of("TRUNCATE", table);
        loop {
            let snapshot = table.snapshot().await?;
            let effect = Effect {
                drop: snapshot.manifest().entries().map(|e| e.id).collect(),
                rows_deleted: snapshot.manifest().entries().map(|e| e.live_rows()).sum(),
                ..Effect::default()
            };
            let mutation = table.begin(OpKind::Truncate, snapshot, "TRUNCATE".to_owned());
            match RunEnd::of(mutation.commit(effect).await)? {
                RunEnd::Committed { rows_affected, .. } => return Ok(rows_affected),
                RunEnd::Nothing => return Ok(0),
                RunEnd::Lost(why) => reruns.after_loss(why).await?,
            }
        }
    }
}
