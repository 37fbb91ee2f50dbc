//! Where the rows of a rewritten `DELETE`, `UPDATE` or `MERGE` arrive, and the change is committed.
//!
//! Owns one attempt at a statement: begin a mutation, collect row addresses, write new rows, commit.
//! Does not own what happens on a conflict (`rerun`), what a conflict is, nor how a commit is made.
//!
//! Invariant: an error, a cancelled stream or an exhausted retry leaves nothing visible; the
//! mutation is undone, by its own drop if nothing else does it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Decimal128Array, RecordBatch};
use arrow::datatypes::{Decimal128Type, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::datasource::TableType;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::StreamExt;
use futures::future;
use tracing::Instrument;

use crate::config::SupertableOptions;
use crate::dml::compact::compact_after_write;
use crate::dml::keys::check::KeyCheck;
use crate::dml::keys::written::{Rewritten, WrittenKeys};
use crate::dml::opaque::Opaque;
use crate::dml::provider::TableAccess;
use crate::dml::source_first::rule::source_first;
use crate::dml::write::absent::{AbsentColumns, AbsentRows};
use crate::dml::write::action::split_actions;
use crate::dml::write::check::Checks;
use crate::dml::write::collect::{Addresses, CollectedRows};
use crate::dml::write::gather::{GatherAddressesExec, is_gathered};
use crate::dml::write::receipt::commit;
use crate::dml::write::rerun::{Attempt, PlanAgain, Rerun, attempt_end, statement_span};
use crate::dml::write::returning::KeptRows;
use crate::dml::write::sort::sorted_in_part;
use crate::dml::write::spill::{plan_in, spilling_session};
use crate::dml::write::superfiles::{
    conform, first_batch, superfile_writer, with_row_id, write_order,
};
use crate::format::ids::MAX_SUPERFILE_ROWS;
use crate::format::manifest::{TableMetadata, UniqueKey};
use crate::format::state_doc::OpKind;
use crate::scan::Pin;
use crate::scan::row_address::ROW_ID_TYPE;
use crate::scan::scan_method::scan_method;
use crate::scan::superfile_at;
use crate::table::{AttemptEnd, Effect, Mutation, RowIdSource, Snapshot};
use crate::wal::Env;

/// What a rewritten statement does with the rows that reach its sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// Rows are addresses; each is deleted.
    Delete,
    /// Rows are the table's columns, `_id` and the address; each replaces the row it addresses.
    Update,
    /// Rows are those of an update, and an action for each; see [`merge`](crate::dml::plan::merge).
    Merge,
}

impl ChangeKind {
    fn op(self) -> OpKind {
        match self {
            ChangeKind::Delete => OpKind::Delete,
            ChangeKind::Update => OpKind::Update,
            ChangeKind::Merge => OpKind::Merge,
        }
    }
}

/// The provider that a rewritten statement inserts into; it exists in plans only.
#[derive(Debug)]
pub(crate) struct ChangeProvider {
    /// The table.
    pub(crate) access: Arc<TableAccess>,
    /// The version that the target's scan reads.
    pub(crate) pin: Arc<Pin>,
    /// What is done with the rows.
    pub(crate) kind: ChangeKind,
    /// The plan of the rows.
    pub(crate) input: Opaque<LogicalPlan>,
    /// The same, planned anew.
    pub(crate) again: Arc<dyn PlanAgain>,
    /// The statement in words.
    pub(crate) statement: String,
    /// Whether it conflicts with every change of the table's rows since.
    pub(crate) serializable: bool,
    /// The columns by which a `MERGE` finds absent what it inserts.
    pub(crate) absent: Option<AbsentColumns>,
    /// How the statement calls the table, and which of its keys it may break.
    pub(crate) writes: Writes,
}

/// What a statement writes, as far as keys are concerned.
#[derive(Debug, Clone)]
pub(crate) struct Writes {
    /// How it calls the table.
    pub(crate) table: String,
    /// Whether it may add rows.
    pub(crate) inserts: bool,
    /// The columns in which it may give a row of the table another value.
    pub(crate) sets: HashSet<String>,
}

impl Writes {
    /// Whether two rows may have one value of `key` after the statement.
    fn may_break(&self, key: &UniqueKey, metadata: &TableMetadata) -> bool {
        let mut columns = metadata.columns_of(key).into_iter();
        self.inserts || columns.any(|column| self.sets.contains(column))
    }
}

#[async_trait]
impl TableProvider for ChangeProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.input.get().schema().inner())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    scan_method!(|_this, _state, _projection, _filters, _limit| {
        Box::pin(future::ready(internal_err!(
            "a statement's sink cannot be read"
        )))
    });

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        _insert_op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = source_first(input, state.config_options())?;
        // A plan that might not fit into the session's memory is made anew, to spill instead.
        let spilling = spilling_session(state, &input)?;
        let (state, input) = match &spilling {
            None => (state, input),
            Some(spilling) => {
                let again = plan_in(Arc::clone(spilling), &self.input);
                (spilling.as_ref(), again.await?)
            }
        };
        let (input, order) = match self.kind {
            // What returns its rows yields more than their addresses.
            ChangeKind::Delete if input.schema().fields().len() == 2 => {
                let gathered: Arc<dyn ExecutionPlan> = Arc::new(GatherAddressesExec::new(input));
                (gathered, None)
            }
            ChangeKind::Delete => (input, None),
            ChangeKind::Update | ChangeKind::Merge => {
                let order = write_order(&self.access, &input.schema())?;
                (sorted_in_part(input, order.as_ref())?, order)
            }
        };
        let access = &self.access;
        let sink = ChangeSink {
            access: Arc::clone(access),
            pin: Arc::clone(&self.pin),
            kind: self.kind,
            serializable: self.serializable,
            absent: self.absent.clone(),
            writes: self.writes.clone(),
            checks: access.conditions.plan(state, &access.schema)?,
            rerun: Rerun::new(
                access.table.clone(),
                self.statement.clone(),
                Arc::clone(&self.again),
                state,
                order.clone(),
            ),
            schema: input.schema(),
            metrics: ExecutionPlanMetricsSet::new(),
        };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }
}

struct ChangeSink {
    access: Arc<TableAccess>,
    pin: Arc<Pin>,
    kind: ChangeKind,
    serializable: bool,
    absent: Option<AbsentColumns>,
    writes: Writes,
    checks: Checks,
    rerun: Rerun,
    schema: SchemaRef,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for ChangeSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeSink")
            .field("kind", &self.kind)
            .field("statement", &self.rerun.statement())
            .finish_non_exhaustive()
    }
}

impl DisplayAs for ChangeSink {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupertableChange(op={:?})", self.kind)
    }
}

#[async_trait]
impl DataSink for ChangeSink {
    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        data: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        let options = SupertableOptions::of(context.session_config().options());
        options.check_writable(self.rerun.statement())?;
        let reruns = MetricBuilder::new(&self.metrics).global_counter("conflict_reruns");
        let span = statement_span(self.rerun.statement());
        let run = self.rerun.run(self, &self.pin, vec![data], context, reruns);
        run.instrument(span).await
    }
}

#[async_trait]
impl Attempt for ChangeSink {
    async fn attempt(
        &self,
        rows: Vec<SendableRecordBatchStream>,
        pin: &Pin,
        context: &Arc<TaskContext>,
    ) -> Result<AttemptEnd> {
        let Ok([stream]) = <[_; 1]>::try_from(rows) else {
            return internal_err!("a change's rows come in one partition");
        };
        let snapshot = pin.snapshot().await?;
        self.access.conditions.check_current(&snapshot)?;
        let mutation = pin.table().begin(
            self.kind.op(),
            Arc::clone(&snapshot),
            self.rerun.statement().to_owned(),
        );
        let effect = match self
            .collect(stream, &mutation, pin, &snapshot, context)
            .await
        {
            Ok(effect) => effect,
            Err(e) => {
                // What the statement died of is the news; a failure to clean up is recovery's.
                let _ = mutation.abort().await;
                return Err(e);
            }
        };
        let end = attempt_end(commit(mutation, effect, context).await)?;
        if !matches!(end, AttemptEnd::Lost(_)) {
            compact_after_write(&self.access, context);
        }
        Ok(end)
    }
}

impl ChangeSink {
    async fn collect(
        &self,
        mut stream: SendableRecordBatchStream,
        mutation: &Mutation,
        pin: &Pin,
        snapshot: &Arc<Snapshot>,
        context: &Arc<TaskContext>,
    ) -> Result<Effect> {
        let metadata = snapshot.metadata();
        let may_break = |key: &UniqueKey| self.writes.may_break(key, metadata);
        let keys = WrittenKeys::of(
            snapshot,
            &self.access.schema,
            context.memory_pool(),
            may_break,
        )?;
        let schema = stream.schema();
        let mut changed = CollectedRows::new(context.memory_pool());
        let kept = KeptRows::begin(context);
        let columns = self.access.schema.fields().len();
        let mut effect = Effect {
            serializable: self.serializable,
            ..Effect::default()
        };
        match self.kind {
            ChangeKind::Delete => {
                if is_gathered(&schema) {
                    while let Some(chunks) = stream.next().await.transpose()? {
                        changed.add_chunks(&chunks)?;
                    }
                } else {
                    // The plan of a second attempt, or of a statement that returns its rows.
                    let addresses = Addresses::of(&schema)?;
                    while let Some(batch) = stream.next().await.transpose()? {
                        changed.add(&batch, addresses)?;
                        if let Some(kept) = &kept {
                            let schema = &self.access.schema;
                            kept.add(&new_rows(&batch, schema)?, columns)?;
                        }
                    }
                }
                effect.rows_deleted = changed.rows();
            }
            ChangeKind::Update | ChangeKind::Merge => {
                let addresses = Addresses::of(&schema)?;
                let access = &self.access;
                let stored = with_row_id(&access.schema);
                let mut writer = superfile_writer(
                    access,
                    mutation,
                    context,
                    Arc::clone(&stored),
                    RowIdSource::Stored,
                )?
                .comparing(keys.orders());
                let mut minted = MintedIds::new(access.table.env().clone());
                let mut absent = self.absent.clone().map(AbsentRows::new);
                let mut next = first_batch(&mut stream, mutation).await?;
                while let Some(batch) = next {
                    if let Some(absent) = &mut absent {
                        absent.add(&batch)?;
                    }
                    let (addressed, rows) = match self.kind {
                        ChangeKind::Merge => split_actions(&batch, &mut effect)?,
                        _ => (batch.clone(), batch),
                    };
                    changed.add(&addressed, addresses)?;
                    let rows = minted.fill(&new_rows(&rows, &stored)?)?;
                    self.checks.test(&rows)?;
                    keys.add(&rows)?;
                    if let Some(kept) = &kept {
                        kept.add(&rows, columns)?;
                    }
                    writer.write(&rows).await?;
                    next = stream.next().await.transpose()?;
                }
                effect.add = writer.finish().await?;
                let absent = absent.and_then(|absent| absent.finish(&effect.add));
                effect.absent_keys.extend(absent);
                if self.kind == ChangeKind::Update {
                    effect.rows_updated = changed.rows();
                }
            }
        }
        effect.delete = by_superfile(changed, snapshot)?;
        for superfile in pin.dropped().into_iter().flatten() {
            let Some(entry) = snapshot.manifest().get(superfile) else {
                return exec_err!("superfile {superfile} is not in the statement's snapshot");
            };
            effect.rows_deleted += entry.live_rows();
            effect.drop.push(*superfile);
        }
        let check = KeyCheck::of_sink(&self.writes.table, &self.access, context, &self.metrics);
        let rewritten = Rewritten {
            snapshot,
            added: &effect.add,
            deleted: &effect.delete,
            dropped: &effect.drop,
        };
        let absent = keys.check(&check, &rewritten).await?;
        effect.absent_keys.extend(absent);
        Ok(effect)
    }
}

/// The leading columns of a change's batch, in the types that are stored.
fn new_rows(batch: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch> {
    let columns: Vec<usize> = (0..stored.fields().len()).collect();
    conform(&batch.project(&columns)?, stored)
}

/// Ids for rows that have none yet: the inserted ones of a `MERGE`.
struct MintedIds {
    env: Env,
    next: i128,
    left: u64,
}

impl MintedIds {
    fn new(env: Env) -> Self {
        Self {
            env,
            next: 0,
            left: 0,
        }
    }

    fn mint(&mut self) -> i128 {
        if self.left == 0 {
            self.next = self.env.ids.row_span().as_i128();
            self.left = MAX_SUPERFILE_ROWS;
        }
        let id = self.next;
        self.next += 1;
        self.left -= 1;
        id
    }

    /// `rows`, whose last column is `_id`, with every missing id minted.
    fn fill(&mut self, rows: &RecordBatch) -> Result<RecordBatch> {
        let Some((ids, columns)) = rows.columns().split_last() else {
            return internal_err!("a change's rows have no columns");
        };
        if ids.null_count() == 0 {
            return Ok(rows.clone());
        }
        let filled: Decimal128Array = ids
            .as_primitive::<Decimal128Type>()
            .iter()
            .map(|id| Some(id.unwrap_or_else(|| self.mint())))
            .collect();
        let mut columns = columns.to_vec();
        columns.push(Arc::new(filled.with_data_type(ROW_ID_TYPE)));
        Ok(RecordBatch::try_new(rows.schema(), columns)?)
    }
}

fn by_superfile(
    changed: CollectedRows,
    snapshot: &Snapshot,
) -> Result<BTreeMap<crate::format::ids::SuperfileId, roaring::RoaringBitmap>> {
    let mut out = BTreeMap::new();
    for (ordinal, positions) in changed.into_bitmaps() {
        let Some(entry) = superfile_at(snapshot, ordinal) else {
            return exec_err!("superfile {ordinal} is not in the statement's snapshot");
        };
        if positions.max().is_some_and(|p| u64::from(p) >= entry.rows) {
            return exec_err!("a position lies beyond the rows of superfile {}", entry.id);
        }
        out.insert(entry.id, positions);
    }
    Ok(out)
}
