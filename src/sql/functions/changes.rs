//! `supertable_changes('t', from, to)`: the rows that came, went or changed after version `from`, up to and
//! including `to` (by default the current version).
//!
//! The table's columns, then `_change_type` (`insert`, `delete`, `update_preimage`, `update_postimage`),
//! `_id` and `_version`. Versions come in order; rows within one in no order.
//!
//! Computed from the immutable versions, one after the other: superfiles and tombstones that differ
//! between a version and the one before give the rows that went and those that came, and the two are
//! joined by `_id`. A row that went and came is an update; one that a compaction or a restore moved,
//! unchanged, is no change. (Where a compaction was committed in one version together with an UPDATE,
//! an update that left every column as it was is taken for a move.)
//!
//! Where the table's columns changed on the way, all versions are seen with those of `to`, as the files of the
//! table are: by field id. A column that was not there yet has its initial default or NULL, one that is not there
//! any more is left out, and an update of nothing but such a column is one of equal rows.
//!
//! Memory: the versions' roots, the positions that one version deleted, and a join that spills.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Column, JoinType, Result};
use datafusion::dataframe::DataFrame;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use roaring::RoaringBitmap;

use crate::dml::SupertableProvider;
use crate::dml::plan::parameters::{Parameterized, ParameterizedProvider};
use crate::dml::provider::version::check_columns;
use crate::error::{Error, ErrorKind, Result as OwnResult};
use crate::format::manifest::{SuperfileEntry, TableMetadata};
use crate::format::{ContentHash, OpKind};
use crate::scan::row_address::{EXPOSED_ROW_ID, ROW_ID, ROW_ID_TYPE};
use crate::scan::schema::session_schema;
use crate::scan::{Pin, Rows, ScanLocation, Subset, SubsetProvider};
use crate::sql::functions::args::{Call, Signature, required};
use crate::sql::functions::at::pinned;
use crate::sql::functions::rows::lazy_stream;
use crate::table::{Difference, Moment, Snapshot, Table, difference};

const FUNCTION: &str = "supertable_changes";

const SIGNATURE: Signature = Signature {
    function: FUNCTION,
    table: true,
    positional: &["from", "to"],
    named: &[],
};

/// The columns that follow the table's own.
const CHANGE_TYPE: &str = "_change_type";
const VERSION: &str = "_version";
/// The row id beside a column `_id` of the table.
const OTHER_ROW_ID: &str = "_row_id";

/// Up to so many rows are joined in memory; more are sorted, which spills.
const JOIN_IN_MEMORY: u64 = 1 << 16;

/// Memory that one sort of a large join keeps for merging: enough for a few batches.
const MERGE_RESERVATION: usize = 2 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Changes;

impl TableFunctionImpl for Changes {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = Call::parse_with_parameters(&SIGNATURE, &args)?;
        let (table, to, columns) = pinned(&call.table()?, call.moment("to")?)?;
        let feed = Feed::of(&table, columns, call.waits())?;
        match call.waits() {
            true => Ok(Arc::new(ParameterizedProvider::new(feed))),
            false => feed.of_call(&call, to),
        }
    }
}

/// The rows that came, went or changed after `from`, up to and including `to`.
///
/// # Errors
/// A column of the table has a name that the feed needs.
pub(crate) fn changes_between(
    table: &SupertableProvider,
    from: Moment,
    to: Arc<Snapshot>,
) -> Result<Arc<dyn TableProvider>> {
    let feed = Feed::of(table, session_schema(&to.schema()), false)?;
    feed.between(from, Pin::to(table.table().clone(), to))
}

impl Parameterized for Feed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    fn with_values(&self, args: &[Expr], config: &ConfigOptions) -> Result<Arc<dyn TableProvider>> {
        let call = Call::with_values(&SIGNATURE, args, config)?;
        // Looked for when the query runs, because nothing can be awaited here.
        let to = match call.moment("to")? {
            Some(to) => Pin::at(self.table.clone(), to),
            None => Pin::latest(self.table.clone()),
        };
        self.of_call(&call, to)
    }
}

fn feed_schema(columns: &SchemaRef) -> OwnResult<SchemaRef> {
    // The table's own column `_id` has the name first.
    let id = match columns.fields().find(EXPOSED_ROW_ID) {
        None => EXPOSED_ROW_ID,
        Some(_) => OTHER_ROW_ID,
    };
    if let Some(taken) = columns
        .fields()
        .iter()
        .find(|f| [CHANGE_TYPE, VERSION, id].contains(&f.name().as_str()))
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            taken.name(),
            format!("{FUNCTION} has a column of this name too; rename the table's"),
        ));
    }
    let mut fields: Vec<FieldRef> = nullable(columns).fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, false)));
    fields.push(Arc::new(Field::new(id, ROW_ID_TYPE, false)));
    fields.push(Arc::new(Field::new(VERSION, DataType::UInt64, false)));
    Ok(Arc::new(Schema::new(fields)))
}

/// The columns as rows of any version may have them: what is `NOT NULL` now may have been NULL then.
fn nullable(columns: &SchemaRef) -> SchemaRef {
    let fields = columns.fields().iter();
    let fields: Vec<Field> = fields
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// A version whose changes are wanted.
#[derive(Debug, Clone, Copy)]
struct ChangedVersion {
    version: u64,
    root: ContentHash,
    parent: ContentHash,
    /// Whether rows may have come and gone in it without a change.
    moves: bool,
}

#[derive(Debug, Clone)]
struct Feed {
    table: Table,
    location: ScanLocation,
    columns: SchemaRef,
    output: SchemaRef,
    /// Whether the statement was planned before it was known which versions are meant.
    by_parameter: bool,
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

impl Feed {
    fn of(table: &SupertableProvider, columns: SchemaRef, by_parameter: bool) -> OwnResult<Self> {
        Ok(Self {
            table: table.table().clone(),
            location: table.access().location.clone(),
            output: feed_schema(&columns)?,
            columns,
            by_parameter,
        })
    }

    /// The feed of a call without parameters, up to `to`.
    fn of_call(&self, call: &Call, to: Arc<Pin>) -> Result<Arc<dyn TableProvider>> {
        let from = required(FUNCTION, "from", call.moment("from")?)?;
        self.between(from, to)
    }

    fn between(&self, from: Moment, to: Arc<Pin>) -> Result<Arc<dyn TableProvider>> {
        let feed = self.clone();
        lazy_stream(Arc::clone(&self.output), move |context| {
            feed.clone().stream(context, from, Arc::clone(&to))
        })
    }

    fn stream(self, context: Arc<TaskContext>, from: Moment, to: Arc<Pin>) -> Batches {
        async move {
            let to = to.snapshot().await?;
            let steps = self.steps(from, &to).await?;
            let metadata = Arc::clone(to.metadata());
            let state = (self, context, metadata, steps, to);
            Ok::<_, Error>(
                stream::try_unfold(
                    state,
                    |(feed, context, metadata, mut steps, known)| async move {
                        let Some(step) = steps.pop_front() else {
                            return Ok::<_, datafusion::error::DataFusionError>(None);
                        };
                        let (after, batches) = feed.step(&context, step, &metadata, &known).await?;
                        Ok(Some((batches, (feed, context, metadata, steps, after))))
                    },
                )
                .try_flatten(),
            )
        }
        .err_into()
        .try_flatten_stream()
        .boxed()
    }

    /// The versions after `from`, oldest first, but for those in which rows only moved.
    async fn steps(&self, from: Moment, to: &Arc<Snapshot>) -> OwnResult<VecDeque<ChangedVersion>> {
        if self.by_parameter {
            check_columns(&self.columns, to)?;
        }
        if session_schema(&to.schema()).fields() != self.columns.fields() {
            return Err(Error::new(
                ErrorKind::Conflict,
                FUNCTION,
                "the table's columns have changed since the statement was planned; run it again",
            ));
        }
        let from = match from {
            // Before the first version there was nothing, and in it there is.
            Moment::Version(0) => Moment::Version(1),
            moment => moment,
        };
        let from = self.table.snapshot_of(from).await?.version();
        if from > to.version() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                FUNCTION,
                format!(
                    "from (version {from}) is younger than to (version {})",
                    to.version()
                ),
            ));
        }
        let mut steps = VecDeque::new();
        let mut versions = self.table.versions(to);
        while let Some(info) = versions.try_next().await? {
            let header = &info.header;
            if header.version <= from {
                return Ok(steps);
            }
            let Some(parent) = header.parent else { break };
            let ops = || header.commits.iter().map(|commit| commit.op);
            if !ops().all(|op| op == OpKind::Compact) {
                steps.push_front(ChangedVersion {
                    version: header.version,
                    root: info.root,
                    parent,
                    moves: ops().any(moves_unchanged_rows),
                });
            }
        }
        Err(Error::new(
            ErrorKind::NotFound,
            format!("version {from}"),
            "was removed by vacuum meanwhile",
        ))
    }

    /// The version of `step`, and what changed in it.
    async fn step(
        &self,
        context: &Arc<TaskContext>,
        step: ChangedVersion,
        metadata: &Arc<TableMetadata>,
        known: &Arc<Snapshot>,
    ) -> Result<(Arc<Snapshot>, Batches)> {
        let before = match known.root() == step.parent {
            true => Arc::clone(known),
            false => self.table.snapshot_under(&step.parent, known).await?,
        };
        let after = self.table.snapshot_under(&step.root, &before).await?;
        let difference = difference(before.manifest(), after.manifest());
        let batches = match difference.is_empty() {
            true => stream::empty().boxed(),
            false => {
                let (gone, come) = subsets(&difference, &before, &after).await?;
                let rows = rows_of(&difference);
                let gone = (!gone.is_empty()).then(|| self.rows(&before, metadata, gone));
                let come = (!come.is_empty()).then(|| self.rows(&after, metadata, come));
                self.compare(context, step, rows, gone, come).await?
            }
        };
        Ok((after, batches))
    }

    fn rows(
        &self,
        snapshot: &Snapshot,
        metadata: &Arc<TableMetadata>,
        subset: Subset,
    ) -> Arc<dyn TableProvider> {
        Arc::new(SubsetProvider::new(
            Arc::new(snapshot.seen_with(metadata)),
            nullable(&self.columns),
            self.location.clone(),
            subset,
        ))
    }

    async fn compare(
        &self,
        context: &Arc<TaskContext>,
        step: ChangedVersion,
        rows: u64,
        gone: Option<Arc<dyn TableProvider>>,
        come: Option<Arc<dyn TableProvider>>,
    ) -> Result<Batches> {
        let session = session(context, rows);
        let width = self.columns.fields().len();
        let output = Arc::clone(&self.output);
        let version = step.version;
        Ok(match (gone, come) {
            (Some(gone), Some(come)) => {
                let (gone, come) = (session.read_table(gone)?, session.read_table(come)?);
                let joined = execute(self.joined(gone, come)?).await?;
                joined
                    .map(move |batch| both_sides(&batch?, width, &output, version, step.moves))
                    .boxed()
            }
            (Some(rows), None) => one_side(
                execute(session.read_table(rows)?).await?,
                output,
                "delete",
                version,
            ),
            (None, Some(rows)) => one_side(
                execute(session.read_table(rows)?).await?,
                output,
                "insert",
                version,
            ),
            (None, None) => stream::empty().boxed(),
        })
    }

    /// Rows that went beside those that came, by their ids: first the columns and id of one that went, then
    /// those of one that came.
    fn joined(&self, gone: DataFrame, come: DataFrame) -> Result<DataFrame> {
        let renamed = |frame: DataFrame, side: &str| {
            let names = self.columns.fields().iter().map(|f| f.name().as_str());
            let columns: Vec<Expr> = names
                .chain([ROW_ID])
                .enumerate()
                .map(|(i, name)| {
                    Expr::Column(Column::new_unqualified(name)).alias(format!("{side}{i}"))
                })
                .collect();
            frame.select(columns)
        };
        let id = self.columns.fields().len();
        renamed(gone, "gone")?.join(
            renamed(come, "come")?,
            JoinType::Full,
            &[&format!("gone{id}")],
            &[&format!("come{id}")],
            None,
        )
    }
}

/// Whether a statement of this kind can move rows without changing them.
fn moves_unchanged_rows(op: OpKind) -> bool {
    !matches!(
        op,
        OpKind::Insert
            | OpKind::Delete
            | OpKind::Update
            | OpKind::Merge
            | OpKind::Truncate
            | OpKind::Overwrite
            | OpKind::Alter
    )
}

/// A session with the query's limits and memory, and without its catalogs.
fn session(context: &TaskContext, rows: u64) -> SessionContext {
    let mut config = context.session_config().clone();
    // What is compared and handed on has the table's types; the query's own output is the query's to convert.
    config.options_mut().optimizer.expand_views_at_output = false;
    if rows > JOIN_IN_MEMORY {
        // DataFusion sorts both sides, which spills, only where they are partitioned.
        let partitions = config.target_partitions().max(2);
        config = config.with_target_partitions(partitions);
        let options = config.options_mut();
        options.optimizer.prefer_hash_join = false;
        options.optimizer.repartition_joins = true;
        // Each partition of each side reserves it for merging what it spilled.
        let reserved = options.execution.sort_spill_reservation_bytes;
        options.execution.sort_spill_reservation_bytes = reserved.min(MERGE_RESERVATION);
    }
    SessionContext::new_with_config_rt(config, context.runtime_env())
}

fn execute(frame: DataFrame) -> BoxFuture<'static, Result<SendableRecordBatchStream>> {
    Box::pin(frame.execute_stream())
}

/// At least as many rows as went and came.
fn rows_of(difference: &Difference) -> u64 {
    let live = |entries: &[Arc<SuperfileEntry>]| -> u64 {
        entries.iter().map(|entry| entry.live_rows()).sum()
    };
    let changed = difference
        .changed
        .iter()
        .map(|(was, is)| was.deleted_rows().saturating_add(is.deleted_rows()));
    live(&difference.added)
        .saturating_add(live(&difference.removed))
        .saturating_add(changed.sum())
}

/// The rows of `before` that went, and those of `after` that came.
async fn subsets(
    difference: &Difference,
    before: &Snapshot,
    after: &Snapshot,
) -> OwnResult<(Subset, Subset)> {
    let (mut gone, mut come) = (Subset::default(), Subset::default());
    for entry in &difference.removed {
        gone.insert(entry.id, Rows::Live);
    }
    for entry in &difference.added {
        come.insert(entry.id, Rows::Live);
    }
    for (was, is) in &difference.changed {
        let (old, new) = (deleted(before, was).await?, deleted(after, is).await?);
        let (newly, back) = (new.as_ref() - old.as_ref(), old.as_ref() - new.as_ref());
        if !newly.is_empty() {
            gone.insert(was.id, Rows::At(Arc::new(newly)));
        }
        if !back.is_empty() {
            come.insert(is.id, Rows::At(Arc::new(back)));
        }
    }
    Ok((gone, come))
}

async fn deleted(snapshot: &Snapshot, entry: &SuperfileEntry) -> OwnResult<Arc<RoaringBitmap>> {
    match &entry.tombstones {
        Some(tombstones) => snapshot.sidecars().positions(tombstones).await,
        None => Ok(Arc::default()),
    }
}

/// Rows that all changed in the same way.
fn one_side(
    rows: SendableRecordBatchStream,
    output: SchemaRef,
    change: &'static str,
    version: u64,
) -> Batches {
    rows.map(move |batch| {
        let mut columns = batch?.columns().to_vec();
        let Some(id) = columns.pop() else {
            return Ok(RecordBatch::new_empty(Arc::clone(&output)));
        };
        let changes = vec![change; id.len()];
        finish(&output, columns, changes, id, version)
    })
    .boxed()
}

/// Joined rows as changes: one that went and came back becomes its image before and after, one after the
/// other; or nothing, if it only `moves`.
fn both_sides(
    joined: &RecordBatch,
    width: usize,
    output: &SchemaRef,
    version: u64,
    moves: bool,
) -> Result<RecordBatch> {
    let (gone, come) = joined.columns().split_at(width + 1);
    let (Some((gone_id, gone_columns)), Some((come_id, come_columns))) =
        (gone.split_last(), come.split_last())
    else {
        return Ok(RecordBatch::new_empty(Arc::clone(output)));
    };
    let equal = match moves {
        true => equal_rows(gone_columns, come_columns)?,
        false => vec![false; joined.num_rows()],
    };
    let mut picked = Vec::with_capacity(joined.num_rows());
    let mut changes = Vec::with_capacity(joined.num_rows());
    for (row, equal) in equal.into_iter().enumerate() {
        match (gone_id.is_valid(row), come_id.is_valid(row)) {
            (true, true) if !equal => {
                picked.extend([(0, row), (1, row)]);
                changes.extend(["update_preimage", "update_postimage"]);
            }
            (true, false) => {
                picked.push((0, row));
                changes.push("delete");
            }
            (false, true) => {
                picked.push((1, row));
                changes.push("insert");
            }
            (true, true) | (false, false) => {}
        }
    }
    let pick =
        |gone: &ArrayRef, come: &ArrayRef| interleave(&[gone.as_ref(), come.as_ref()], &picked);
    let columns = gone_columns
        .iter()
        .zip(come_columns)
        .map(|(gone, come)| pick(gone, come))
        .collect::<Result<Vec<_>, _>>()?;
    let id = pick(gone_id, come_id)?;
    finish(output, columns, changes, id, version)
}

/// Row by row, whether all columns hold the same.
fn equal_rows(left: &[ArrayRef], right: &[ArrayRef]) -> Result<Vec<bool>> {
    let types = left.iter().map(|c| SortField::new(c.data_type().clone()));
    let converter = RowConverter::new(types.collect())?;
    let (left, right) = (
        converter.convert_columns(left)?,
        converter.convert_columns(right)?,
    );
    Ok(left.iter().zip(right.iter()).map(|(l, r)| l == r).collect())
}

fn finish(
    output: &SchemaRef,
    mut columns: Vec<ArrayRef>,
    changes: Vec<&'static str>,
    id: ArrayRef,
    version: u64,
) -> Result<RecordBatch> {
    let versions = vec![version; id.len()];
    columns.push(Arc::new(StringArray::from(changes)));
    columns.push(id);
    columns.push(Arc::new(UInt64Array::from(versions)));
    Ok(RecordBatch::try_new(Arc::clone(output), columns)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{AsArray, Decimal128Array, Int32Array};

    use super::*;

    /// Rows 1 to 5 as a join gives them: gone, come, the same again, changed, and NULL that stays NULL.
    fn joined() -> (RecordBatch, SchemaRef) {
        let columns: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("v", DataType::Int32, true)]));
        let ids = |ids: Vec<Option<i128>>| -> ArrayRef {
            let ids = Decimal128Array::from(ids);
            Arc::new(ids.with_precision_and_scale(38, 0).unwrap())
        };
        let values = |values: Vec<Option<i32>>| -> ArrayRef { Arc::new(Int32Array::from(values)) };
        let batch = RecordBatch::try_from_iter_with_nullable([
            (
                "gone0",
                values(vec![Some(10), None, Some(30), Some(40), None]),
                true,
            ),
            (
                "gone1",
                ids(vec![Some(1), None, Some(3), Some(4), Some(5)]),
                true,
            ),
            (
                "come0",
                values(vec![None, Some(20), Some(30), Some(41), None]),
                true,
            ),
            (
                "come1",
                ids(vec![None, Some(2), Some(3), Some(4), Some(5)]),
                true,
            ),
        ]);
        (batch.unwrap(), feed_schema(&columns).unwrap())
    }

    fn changes(moves: bool) -> Vec<(Option<i32>, String)> {
        let (batch, output) = joined();
        let feed = both_sides(&batch, 1, &output, 9, moves).unwrap();
        let values = feed.column(0).as_primitive::<arrow::datatypes::Int32Type>();
        let kinds = feed.column(1).as_string::<i32>();
        values
            .iter()
            .zip(kinds.iter())
            .map(|(value, kind)| (value, kind.unwrap_or_default().to_owned()))
            .collect()
    }

    fn owned(rows: &[(Option<i32>, &str)]) -> Vec<(Option<i32>, String)> {
        rows.iter()
            .map(|(v, kind)| (*v, (*kind).to_owned()))
            .collect()
    }

    #[test]
    fn a_row_that_went_and_came_is_an_update_image_by_image() {
        let expected = [
            (Some(10), "delete"),
            (Some(20), "insert"),
            (Some(30), "update_preimage"),
            (Some(30), "update_postimage"),
            (Some(40), "update_preimage"),
            (Some(41), "update_postimage"),
            (None, "update_preimage"),
            (None, "update_postimage"),
        ];
        assert_eq!(changes(false), owned(&expected));
    }

    #[test]
    fn a_row_that_only_moved_is_no_change() {
        let expected = [
            (Some(10), "delete"),
            (Some(20), "insert"),
            (Some(40), "update_preimage"),
            (Some(41), "update_postimage"),
        ];
        assert_eq!(changes(true), owned(&expected));
    }

    #[test]
    fn only_statements_that_rewrite_rows_can_move_them() {
        for op in [OpKind::Compact, OpKind::Restore] {
            assert!(moves_unchanged_rows(op));
        }
        for op in [
            OpKind::Insert,
            OpKind::Update,
            OpKind::Merge,
            OpKind::Overwrite,
        ] {
            assert!(!moves_unchanged_rows(op));
        }
    }
}
