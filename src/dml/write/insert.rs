//! `INSERT INTO` and `INSERT OVERWRITE`: changes that address no row.
//!
//! Owns the sink behind DataFusion's hook for them, which receives complete inputs and is safe to use.
//!
//! Invariant: nothing becomes visible before the whole input was read and checked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result, SchemaExt};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use tracing::Instrument;

use crate::config::SupertableOptions;
use crate::dml::compact::compact_after_write;
use crate::dml::keys::check::KeyCheck;
use crate::dml::keys::written::{Rewritten, WrittenKeys};
use crate::dml::provider::TableAccess;
use crate::dml::write::check::Checks;
use crate::dml::write::partitioned_sink::{PartitionedSink, PartitionedSinkExec};
use crate::dml::write::partitions::{Prepare, hold_of, write_partitions, writers_for};
use crate::dml::write::receipt::commit;
use crate::dml::write::rerun::{Attempt, PlanAgain, Rerun, attempt_end, statement_span};
use crate::dml::write::returning::KeptRows;
use crate::dml::write::sort::sorted_in_part;
use crate::dml::write::superfiles::{conform, superfile_writer, write_order};
use crate::error::{Error, ErrorKind};
use crate::format::SuperfileId;
use crate::format::state_doc::OpKind;
use crate::scan::Pin;
use crate::scan::schema::session_schema;
use crate::table::{AttemptEnd, Effect, Mutation, RowIdSource, Snapshot, WriteProgress};

/// What the planning rule knows of an `INSERT`.
#[derive(Debug, Clone)]
pub struct InsertStatement {
    /// The table's name in the statement.
    pub table: String,
    /// Its rows, planned anew.
    pub(crate) again: Arc<dyn PlanAgain>,
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
pub(crate) fn plan_insert(
    state: &dyn Session,
    access: &Arc<TableAccess>,
    pin: Arc<Pin>,
    statement: Option<&InsertStatement>,
    input: Arc<dyn ExecutionPlan>,
    op: InsertOp,
) -> Result<Arc<dyn ExecutionPlan>> {
    if op == InsertOp::Replace {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "REPLACE INTO",
            "use INSERT INTO … ON CONFLICT (…) DO UPDATE SET …, or MERGE INTO",
        )
        .into());
    }
    access
        .schema
        .logically_equivalent_names_and_types(&input.schema())?;
    let order = write_order(access, &input.schema())?;
    let input = sorted_in_part(input, order.as_ref())?;
    let overwrite = op == InsertOp::Overwrite;
    let words = match overwrite {
        true => "INSERT OVERWRITE",
        false => "INSERT INTO",
    };
    let sink = InsertSink {
        access: Arc::clone(access),
        table: match statement {
            Some(statement) => statement.table.clone(),
            None => access.location.root.to_string(),
        },
        pin,
        overwrite,
        serializable: statement.is_some_and(|s| s.serializable),
        checks: Arc::new(access.conditions.plan(state, &access.schema)?),
        words,
        text: statement.map_or_else(|| words.to_owned(), |statement| statement.text.clone()),
        rerun: statement.map(|statement| {
            Rerun::new(
                access.table.clone(),
                statement.text.clone(),
                Arc::clone(&statement.again),
                state,
                order.clone(),
            )
        }),
        metrics: ExecutionPlanMetricsSet::new(),
    };
    Ok(Arc::new(PartitionedSinkExec::new(
        input,
        Arc::new(sink),
        order,
    )?))
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

struct InsertSink {
    access: Arc<TableAccess>,
    /// How the statement calls the table.
    table: String,
    pin: Arc<Pin>,
    overwrite: bool,
    serializable: bool,
    checks: Arc<Checks>,
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
impl PartitionedSink for InsertSink {
    fn metrics(&self) -> MetricsSet {
        self.metrics.clone_inner()
    }

    async fn write_all(
        &self,
        rows: Vec<SendableRecordBatchStream>,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        SupertableOptions::of(context.session_config().options()).check_writable(self.words)?;
        if let Some(rerun) = &self.rerun {
            let reruns = MetricBuilder::new(&self.metrics).global_counter("conflict_reruns");
            let run = rerun.run(self, &self.pin, rows, context, reruns);
            return run.instrument(statement_span(self.words)).await;
        }
        let attempt = self.attempt(rows, &self.pin, context);
        match attempt.instrument(statement_span(self.words)).await? {
            AttemptEnd::Committed { rows_affected, .. } => Ok(rows_affected),
            AttemptEnd::Nothing => Ok(0),
            AttemptEnd::Lost(conflict) => Err(Error::new(
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
        rows: Vec<SendableRecordBatchStream>,
        pin: &Pin,
        context: &Arc<TaskContext>,
    ) -> Result<AttemptEnd> {
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
        let mutation = pin
            .table()
            .begin(op, Arc::clone(&snapshot), self.text.clone());
        let written = self.write(rows, &mutation, context, &snapshot, &drop);
        let mut effect = match written.await {
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
        let end = attempt_end(commit(mutation, effect, context).await)?;
        if !matches!(end, AttemptEnd::Lost(_)) {
            compact_after_write(&self.access, context);
        }
        Ok(end)
    }
}

impl InsertSink {
    async fn write(
        &self,
        rows: Vec<SendableRecordBatchStream>,
        mutation: &Mutation,
        context: &Arc<TaskContext>,
        snapshot: &Arc<Snapshot>,
        dropped: &[SuperfileId],
    ) -> Result<Effect> {
        let keys = Arc::new(WrittenKeys::of(
            snapshot,
            &self.access.schema,
            context.memory_pool(),
            |_| true,
        )?);
        let pool = context.memory_pool().memory_limit();
        let threads = context.session_config().target_partitions();
        let number = writers_for(rows.len(), threads, &pool);
        let hold = match number {
            1 => 0,
            _ => hold_of(number, &pool),
        };
        let progress = Arc::new(WriteProgress::default());
        let writer = |hold| {
            let env = self.access.table.env().clone();
            let row_ids = RowIdSource::Minted(Box::new(move || env.ids.row_span()));
            let schema = Arc::clone(&self.access.schema);
            let writer = superfile_writer(&self.access, mutation, context, schema, row_ids)?;
            Ok(writer.among(&progress, hold).comparing(keys.orders()))
        };
        let writers = (0..number)
            .map(|_| writer(hold))
            .collect::<Result<Vec<_>>>()?;
        let prepare = self.prepare(context, &keys);
        let add = write_partitions(rows, writers, || writer(0), &prepare, mutation).await?;
        let check = KeyCheck::of_sink(&self.table, &self.access, context, &self.metrics);
        let rewritten = Rewritten {
            snapshot,
            added: &add,
            deleted: &BTreeMap::new(),
            dropped,
        };
        Ok(Effect {
            absent_keys: keys.check(&check, &rewritten).await?,
            rows_inserted: add.iter().map(|entry| entry.rows).sum(),
            add,
            ..Effect::default()
        })
    }

    /// Rows as they come become rows of the table, or it is said why they cannot.
    fn prepare(&self, context: &Arc<TaskContext>, keys: &Arc<WrittenKeys>) -> Prepare {
        let keys = Arc::clone(keys);
        let schema = Arc::clone(&self.access.schema);
        let checks = Arc::clone(&self.checks);
        let table = self.table.clone();
        let kept = KeptRows::begin(context);
        Arc::new(move |batch| {
            let rows = conform(batch, &schema).map_err(|e| in_table(e, &table))?;
            checks.test(&rows)?;
            keys.add(&rows)?;
            if let Some(kept) = &kept {
                kept.add(&rows, schema.fields().len())?;
            }
            Ok(rows)
        })
    }
}
