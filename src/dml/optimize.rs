//! Compaction, carried out: live rows of some superfiles into new ones, group by group.
//!
//! Owns one group's run (scan, sort, write, record where each row went, commit), running it again when
//! it conflicts, and the compaction that follows writes where a table or session asks for it. Does not own
//! which superfiles make a group (`table::compaction`), nor what becomes of rows that change meanwhile
//! (`table::apply`).
//!
//! Invariant: what is committed holds exactly the live rows of the sources, ids included; another number
//! of rows is an error, and nothing is committed. A crash leaves what was committed group by group, and
//! one mutation that recovery undoes or completes.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;

use crate::config::SupertableOptions;
use crate::dml::insert::{conform, first_batch, superfile_writer};
use crate::dml::provider::TableAccess;
use crate::dml::sink::with_row_id;
use crate::error::{Error, ErrorKind};
use crate::format::ids::MAX_SUPERFILE_ROWS;
use crate::format::state_doc::OpKind;
use crate::format::{RowMoves, Run, SuperfileId};
use crate::scan::plan::scan_order;
use crate::scan::row_address::{ADDRESS_FILE, ADDRESS_POSITION};
use crate::scan::schema::session_schema;
use crate::scan::{HiddenColumns, ScanRequest, plan_scan_of};
use crate::table::compaction::{Group, Targets, plan};
use crate::table::{CommitOutcome, Effect, Mutation, PROGRESS, RowIdSource, Snapshot};

/// How often a group is tried when others take its sources first.
const MAX_RUNS: usize = 5;

/// Memory for the record of where the rows of one group went, at most. A group that needs more, which a sort
/// of many rows does, is compacted without it: then a change of its rows makes it start again.
const MOVES_BYTES: usize = 128 << 20;

/// How many small superfiles of one size a compaction after writes waits for.
pub const AUTO_FILES_PER_TIER: usize = 16;

/// What became of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Optimized {
    /// Superfiles that were, or would be, written anew.
    pub sources: usize,
    /// Their live rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes_before: u64,
    /// Superfiles that took their place.
    pub superfiles: usize,
    /// The bytes of those.
    pub bytes_after: u64,
    /// How it ended.
    pub ending: Ending,
}

/// How one group ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In force since this version.
    Committed(u64),
    /// Not carried out: only a plan was asked for.
    Planned,
    /// Others took its sources first; what was left was not worth it.
    Overtaken,
    /// Others changed its sources again and again; nothing was changed.
    GivenUp(String),
}

/// Compacts a table; with `dry_run`, only says what would be done.
///
/// # Errors
/// What reading or writing raises. Groups that were committed before stay.
#[tracing::instrument(level = "debug", name = "optimize", skip_all, fields(dry_run))]
pub async fn optimize(
    access: &TableAccess,
    context: &Arc<TaskContext>,
    targets: Targets,
    dry_run: bool,
) -> Result<Vec<Optimized>> {
    if !dry_run {
        SupertableOptions::of(context.session_config().options()).check_writable("OPTIMIZE")?;
    }
    let snapshot = access.table.snapshot().await?;
    let groups = plan(snapshot.manifest().entries().map(Arc::as_ref), &targets);
    let total = groups.len();
    let mut done = Vec::with_capacity(total);
    let mut bytes = 0;
    for group in groups {
        done.push(match dry_run {
            true => Optimized::planned(&group),
            false => compact(access, context, group).await?,
        });
        bytes += done.last().map_or(0, |group| group.bytes_before);
        tracing::info!(target: PROGRESS, operation = "optimize", done = done.len(), total, bytes);
    }
    Ok(done)
}

/// What a compaction of the table aims at: superfiles as large as its writers close them, so that what it
/// wrote is not too small for the next one.
pub(crate) fn targets_of(access: &TableAccess, context: &TaskContext) -> Targets {
    let options = SupertableOptions::of(context.session_config().options());
    let write = options.write_options(&access.table.metadata().properties);
    let defaults = Targets::default();
    // Writers count bytes in memory; encoded, they are rarely less than an eighth of that.
    let bytes = write
        .target_file_bytes
        .map_or(defaults.bytes, |bytes| defaults.bytes.min(bytes / 8));
    Targets {
        bytes: bytes.max(1),
        rows: write
            .target_file_rows
            .unwrap_or(defaults.rows)
            .min(MAX_SUPERFILE_ROWS),
        ..defaults
    }
}

/// Starts to compact in the background what writes have left, where the session or the table asks for it
/// and there is something to do. Never on the caller's path; one compaction at a time in a process.
pub(crate) fn compact_after_write(access: &Arc<TableAccess>, context: &Arc<TaskContext>) {
    let options = SupertableOptions::of(context.session_config().options());
    if !options.auto_compact_for(&access.table.metadata().properties) {
        return;
    }
    let Some(turn) = access.table.begin_upkeep() else {
        // One waits for its turn already, and will see what was written now.
        return;
    };
    let (access, context) = (Arc::clone(access), Arc::clone(context));
    access.table.clone().spawn_upkeep(async move {
        static ONE_AT_A_TIME: LazyLock<tokio::sync::Mutex<()>> = LazyLock::new(Default::default);
        let _one = ONE_AT_A_TIME.lock().await;
        // From here on a write asks for another turn.
        drop(turn);
        let targets = Targets {
            files_per_tier: Some(AUTO_FILES_PER_TIER),
            ..targets_of(&access, &context)
        };
        // Most writes leave nothing to do, and that is known without asking the store.
        let known = access.table.cached_snapshot();
        if plan(known.manifest().entries().map(Arc::as_ref), &targets).is_empty() {
            return;
        }
        if let Err(error) = optimize(&access, &context, targets, false).await {
            tracing::warn!(%error, "a compaction after writes did not succeed; the table is as it was");
        }
    });
}

/// One group, again and again until it is committed or nothing is left of it.
async fn compact(
    access: &TableAccess,
    context: &Arc<TaskContext>,
    group: Group,
) -> Result<Optimized> {
    let mut report = Optimized::planned(&group);
    let mut why = String::new();
    for _ in 0..MAX_RUNS {
        let snapshot = access.table.snapshot().await?;
        let sources: HashSet<SuperfileId> = group
            .sources
            .iter()
            .copied()
            .filter(|id| snapshot.manifest().get(id).is_some())
            .collect();
        if sources.is_empty() || (sources.len() == 1 && group.sources.len() > 1) {
            report.ending = Ending::Overtaken;
            return Ok(report);
        }
        let prepared = prepare(access, context, &snapshot, &sources).await?;
        let written = &prepared.effect.add;
        report.superfiles = written.len();
        report.bytes_after = written.iter().map(|entry| entry.size).sum();
        why = match prepared.commit().await {
            Ok(CommitOutcome::Committed { version, .. }) => {
                tracing::info!(
                    version,
                    sources = report.sources,
                    superfiles = report.superfiles,
                    rows = report.rows,
                    "compacted"
                );
                report.ending = Ending::Committed(version);
                return Ok(report);
            }
            Ok(CommitOutcome::NothingToCommit) => {
                report.ending = Ending::Overtaken;
                return Ok(report);
            }
            Ok(CommitOutcome::Conflict(conflict)) => conflict.to_string(),
            // Another process took this one for dead and undid it: as good as a lost race.
            Err(e) if e.kind() == ErrorKind::Conflict => e.to_string(),
            Err(e) => return Err(e.into()),
        };
        tracing::debug!(conflict = why, "a compaction starts again");
    }
    (report.superfiles, report.bytes_after) = (0, 0);
    report.ending = Ending::GivenUp(why);
    Ok(report)
}

impl Optimized {
    fn planned(group: &Group) -> Self {
        Self {
            sources: group.sources.len(),
            rows: group.rows,
            bytes_before: group.bytes,
            superfiles: 0,
            bytes_after: 0,
            ending: Ending::Planned,
        }
    }
}

/// A group that is written and not yet committed. Dropped, it is undone.
#[derive(Debug)]
pub struct Prepared {
    mutation: Mutation,
    effect: Effect,
}

impl Prepared {
    /// Puts the new superfiles in the place of the sources, without the rows that have gone since.
    ///
    /// # Errors
    /// Those of any commit.
    pub async fn commit(self) -> crate::error::Result<CommitOutcome> {
        self.mutation.commit(self.effect).await
    }
}

/// Writes the live rows that `snapshot` has in `sources` into new superfiles.
///
/// # Errors
/// What reading or writing raises; nothing is left then.
pub async fn prepare(
    access: &TableAccess,
    context: &Arc<TaskContext>,
    snapshot: &Arc<Snapshot>,
    sources: &HashSet<SuperfileId>,
) -> Result<Prepared> {
    let statement = format!("OPTIMIZE ({} superfiles)", sources.len());
    let mutation = access
        .table
        .begin(OpKind::Compact, Arc::clone(snapshot), statement);
    match rewrite(access, context, &mutation, snapshot, sources).await {
        Ok(effect) => Ok(Prepared { mutation, effect }),
        Err(e) => {
            // What it died of is the news; a failure to clean up is recovery's.
            let _ = mutation.abort().await;
            Err(e)
        }
    }
}

async fn rewrite(
    access: &TableAccess,
    context: &Arc<TaskContext>,
    mutation: &Mutation,
    snapshot: &Arc<Snapshot>,
    sources: &HashSet<SuperfileId>,
) -> Result<Effect> {
    let plan = read_plan(access, context, snapshot, sources)?;
    let mut rows = execute_stream(plan, Arc::clone(context))?;
    let stored = with_row_id(&access.schema);
    let schema = rows.schema();
    let columns: Vec<usize> = (0..stored.fields().len()).collect();
    let (file_at, position_at) = (
        schema.index_of(ADDRESS_FILE)?,
        schema.index_of(ADDRESS_POSITION)?,
    );
    let mut writer = superfile_writer(
        access,
        mutation,
        context,
        Arc::clone(&stored),
        RowIdSource::Stored,
    )?;
    let mut moved = Moved::new(context.memory_pool());
    let mut next = first_batch(&mut rows, mutation).await?;
    while let Some(batch) = next {
        moved.add(&batch, file_at, position_at)?;
        let batch = conform(&batch.project(&columns)?, &stored)?;
        writer.write(&batch).await?;
        next = next_batch(&mut rows).await?;
    }
    let entries: Vec<_> = scan_order(snapshot);
    let live: u64 = entries
        .iter()
        .filter(|entry| sources.contains(&entry.id))
        .map(|entry| entry.live_rows())
        .sum();
    if writer.rows() != live {
        let read = writer.rows();
        return exec_err!(
            "a compaction read {read} rows where {live} are live; nothing was changed"
        );
    }
    let add = writer.finish().await?;
    let moves = match moved.into_maps()? {
        Some(maps) => {
            let named = maps.into_iter().map(|(ordinal, map)| {
                let entry = usize::try_from(ordinal).ok().and_then(|i| entries.get(i));
                match entry {
                    Some(entry) => Ok((entry.id, map)),
                    None => exec_err!("superfile {ordinal} is not in the compaction's snapshot"),
                }
            });
            named.collect::<Result<BTreeMap<_, _>>>()?
        }
        None => BTreeMap::new(),
    };
    Ok(Effect {
        add,
        drop: sources.iter().copied().collect(),
        moves,
        ..Effect::default()
    })
}

async fn next_batch(rows: &mut SendableRecordBatchStream) -> Result<Option<RecordBatch>> {
    rows.next().await.transpose()
}

/// The live rows of `sources` with ids and addresses: in the declared order, or else as they are stored.
fn read_plan(
    access: &TableAccess,
    context: &Arc<TaskContext>,
    snapshot: &Arc<Snapshot>,
    sources: &HashSet<SuperfileId>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if session_schema(&snapshot.schema()).fields() != access.schema.fields() {
        return Err(Error::new(
            ErrorKind::Conflict,
            access.location.root.to_string(),
            "the table's columns have changed since this session opened it; open it again",
        )
        .into());
    }
    let sort_order = &snapshot.metadata().sort_order;
    let mut config = context.session_config().clone();
    if sort_order.is_empty() {
        // One partition reads the superfiles one after the other, and so keeps their order.
        config = config.with_target_partitions(1);
    }
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(context.runtime_env())
        .build();
    let request = ScanRequest {
        snapshot: Arc::clone(snapshot),
        schema: Arc::clone(&access.schema),
        hidden: HiddenColumns {
            row_id: true,
            address: true,
        },
        projection: None,
        filters: &[],
        limit: None,
        dropped: None,
        subset: None,
        location: &access.location,
    };
    let scan = plan_scan_of(&state, request, Some(sources))?;
    let schema = scan.schema();
    let order = sort_order
        .iter()
        .map(|column| {
            Ok(PhysicalSortExpr::new(
                Arc::new(Column::new_with_schema(&column.name, &schema)?),
                SortOptions {
                    descending: column.descending,
                    nulls_first: column.nulls_first,
                },
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(match LexOrdering::new(order) {
        None => scan,
        Some(order) => {
            let sorted = SortExec::new(order.clone(), scan).with_preserve_partitioning(true);
            Arc::new(SortPreservingMergeExec::new(order, Arc::new(sorted)))
        }
    })
}

/// Where the rows went that were written so far, by the ordinal of their superfile.
struct Moved {
    runs: BTreeMap<i32, Vec<Run>>,
    written: u64,
    memory: MemoryReservation,
    /// It took too much memory, and is not kept.
    given_up: bool,
}

impl Moved {
    fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            runs: BTreeMap::new(),
            written: 0,
            memory: MemoryConsumer::new("supertable moved rows").register(pool),
            given_up: false,
        }
    }

    /// Notes the rows of a batch, which are written next.
    fn add(&mut self, batch: &RecordBatch, file_at: usize, position_at: usize) -> Result<()> {
        let (files, positions) = (batch.column(file_at), batch.column(position_at));
        if files.null_count() > 0 || positions.null_count() > 0 {
            return exec_err!("a compaction's rows have no address");
        }
        let files = files.as_primitive::<Int32Type>().values();
        let positions = positions.as_primitive::<Int64Type>().values();
        let mut grown = 0;
        for (file, position) in files.iter().zip(positions) {
            let place = u32::try_from(self.written);
            self.written += 1;
            if self.given_up {
                continue;
            }
            let (Ok(from), Ok(to)) = (u32::try_from(*position), place) else {
                self.give_up();
                continue;
            };
            let runs = self.runs.entry(*file).or_default();
            if let Some(run) = runs.last_mut()
                && run.from.checked_add(run.rows) == Some(from)
                && run.to.checked_add(run.rows) == Some(to)
            {
                run.rows += 1;
                continue;
            }
            let before = runs.capacity();
            runs.push(Run { from, rows: 1, to });
            grown += (runs.capacity() - before) * size_of::<Run>();
        }
        if grown > 0
            && (self.memory.size() + grown > MOVES_BYTES || self.memory.try_grow(grown).is_err())
        {
            self.give_up();
        }
        Ok(())
    }

    fn give_up(&mut self) {
        self.given_up = true;
        self.runs.clear();
        self.memory.free();
    }

    /// The map of each source; `None` if they were not kept.
    fn into_maps(self) -> Result<Option<Vec<(i32, RowMoves)>>> {
        if self.given_up {
            return Ok(None);
        }
        let maps = self
            .runs
            .into_iter()
            .map(|(file, runs)| match RowMoves::new(runs) {
                Ok(map) => Ok((file, map)),
                Err(error) => exec_err!("a compaction read a row twice: {error}"),
            });
        Ok(Some(maps.collect::<Result<_>>()?))
    }
}
