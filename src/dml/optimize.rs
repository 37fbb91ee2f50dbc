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

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use datafusion::common::{Result, exec_err};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;

use crate::config::SupertableOptions;
use crate::dml::cluster::{self, ClusterBy};
use crate::dml::insert::{conform, first_batch, superfile_writer};
use crate::dml::moved::Moved;
use crate::dml::provider::TableAccess;
use crate::dml::sink::with_row_id;
use crate::error::{Error, ErrorKind};
use crate::format::SuperfileId;
use crate::format::ids::MAX_SUPERFILE_ROWS;
use crate::format::state_doc::OpKind;
use crate::scan::plan::scan_order;
use crate::scan::row_address::{ADDRESS_FILE, ADDRESS_POSITION};
use crate::scan::schema::session_schema;
use crate::scan::{HiddenColumns, ScanRequest, plan_scan_of};
use crate::table::compaction::{Group, Targets, plan, whole};
use crate::table::{CommitOutcome, Effect, Mutation, PROGRESS, RowIdSource, Snapshot};

/// How often a group is tried when others take its sources first.
const MAX_RUNS: usize = 5;

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

/// Which superfiles are written anew, and in which order their rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that need it, group by group, in the declared order.
    Needed,
    /// All of them in one go, and so in an order that goes through the whole table.
    Whole {
        /// The order; the declared one if `None`.
        by: Option<ClusterBy>,
        /// Rows of a superfile, where that is less than writers write.
        rows: u64,
    },
}

/// One compaction: of what, how, and whether somebody waits for it.
struct Job<'a> {
    access: &'a TableAccess,
    context: &'a Arc<TaskContext>,
    scope: &'a Scope,
    /// It goes on in the background, and does not say how far it is.
    quiet: bool,
}

/// Compacts a table; with `dry_run`, only says what would be done.
///
/// # Errors
/// What reading or writing raises. Groups that were committed before stay.
pub async fn optimize(
    access: &TableAccess,
    context: &Arc<TaskContext>,
    targets: Targets,
    dry_run: bool,
) -> Result<Vec<Optimized>> {
    optimize_in(access, context, targets, &Scope::Needed, dry_run).await
}

/// As [`optimize`], or the whole table.
///
/// # Errors
/// As [`optimize`]; and [`ErrorKind::Unsupported`] for another order than the one that the table declares.
#[tracing::instrument(level = "debug", name = "optimize", skip_all, fields(dry_run))]
pub async fn optimize_in(
    access: &TableAccess,
    context: &Arc<TaskContext>,
    targets: Targets,
    scope: &Scope,
    dry_run: bool,
) -> Result<Vec<Optimized>> {
    let job = Job {
        access,
        context,
        scope,
        quiet: false,
    };
    job.run(targets, dry_run).await
}

impl Job<'_> {
    async fn run(&self, targets: Targets, dry_run: bool) -> Result<Vec<Optimized>> {
        if !dry_run {
            let options = SupertableOptions::of(self.context.session_config().options());
            options.check_writable("OPTIMIZE")?;
        }
        let snapshot = self.access.table.snapshot().await?;
        let entries = snapshot.manifest().entries().map(Arc::as_ref);
        let groups = match self.scope {
            Scope::Needed => plan(entries, &targets),
            Scope::Whole { by, .. } => {
                if let Some(by) = by {
                    check_order(by, self.access, &snapshot)?;
                }
                whole(entries)
            }
        };
        let total = groups.len();
        let mut done = Vec::with_capacity(total);
        let mut bytes = 0;
        for group in groups {
            done.push(match dry_run {
                true => Optimized::planned(&group),
                false => self.compact(group).await?,
            });
            bytes += done.last().map_or(0, |group| group.bytes_before);
            if !self.quiet {
                tracing::info!(target: PROGRESS, operation = "optimize", done = done.len(), total, bytes);
            }
        }
        Ok(done)
    }

    /// One group, again and again until it is committed or nothing is left of it.
    async fn compact(&self, group: Group) -> Result<Optimized> {
        let mut report = Optimized::planned(&group);
        let mut why = String::new();
        for _ in 0..MAX_RUNS {
            let snapshot = self.access.table.snapshot().await?;
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
            let prepared = self.prepare(&snapshot, &sources).await?;
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

    async fn prepare(
        &self,
        snapshot: &Arc<Snapshot>,
        sources: &HashSet<SuperfileId>,
    ) -> Result<Prepared> {
        let statement = format!("OPTIMIZE ({} superfiles)", sources.len());
        let mutation = self
            .access
            .table
            .begin(OpKind::Compact, Arc::clone(snapshot), statement);
        match self.rewrite(&mutation, snapshot, sources).await {
            Ok(effect) => Ok(Prepared { mutation, effect }),
            Err(e) => {
                // What it died of is the news; a failure to clean up is recovery's.
                let _ = mutation.abort().await;
                Err(e)
            }
        }
    }

    async fn rewrite(
        &self,
        mutation: &Mutation,
        snapshot: &Arc<Snapshot>,
        sources: &HashSet<SuperfileId>,
    ) -> Result<Effect> {
        let Self {
            access,
            context,
            scope,
            quiet,
        } = *self;
        let reading = Reading {
            access,
            context,
            snapshot,
            sources,
        };
        let plan = match scope {
            Scope::Whole { by: Some(by), .. } => reading.along_curve(by).await?,
            _ => reading.in_declared_order()?,
        };
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
        if let Scope::Whole { rows, .. } = scope {
            writer = writer.at_most(*rows);
        }
        if quiet {
            writer = writer.quiet();
        }
        let mut moved = Moved::new(context.memory_pool());
        let mut next = first_batch(&mut rows, mutation).await?;
        while let Some(batch) = next {
            moved.add(&batch, file_at, position_at)?;
            let batch = conform(&batch.project(&columns)?, &stored)?;
            writer.write(&batch).await?;
            next = next_batch(&mut rows).await?;
        }
        let entries: Vec<_> = scan_order(snapshot);
        let live = reading.live_rows();
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
                        None => {
                            exec_err!("superfile {ordinal} is not in the compaction's snapshot")
                        }
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
        let job = Job {
            access: &access,
            context: &context,
            scope: &Scope::Needed,
            quiet: true,
        };
        if let Err(error) = job.run(targets, false).await {
            tracing::warn!(%error, "a compaction after writes did not succeed; the table is as it was");
        }
    });
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
    let job = Job {
        access,
        context,
        scope: &Scope::Needed,
        quiet: true,
    };
    job.prepare(snapshot, sources).await
}

async fn next_batch(rows: &mut SendableRecordBatchStream) -> Result<Option<RecordBatch>> {
    rows.next().await.transpose()
}

/// Refuses to cluster the rows of a table that declares an order, and by columns that there are not.
fn check_order(by: &ClusterBy, access: &TableAccess, snapshot: &Snapshot) -> Result<()> {
    if !snapshot.metadata().sort_order.is_empty() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            access.location.root.to_string(),
            "the table declares an order (WITH ORDER), which scans rely on: its rows cannot be in another one",
        )
        .into());
    }
    by.indices(&access.schema)?;
    Ok(())
}

/// What a compaction reads: the live rows of `sources`.
struct Reading<'a> {
    access: &'a TableAccess,
    context: &'a Arc<TaskContext>,
    snapshot: &'a Arc<Snapshot>,
    sources: &'a HashSet<SuperfileId>,
}

impl Reading<'_> {
    fn live_rows(&self) -> u64 {
        let entries = self.snapshot.manifest().entries();
        entries
            .filter(|entry| self.sources.contains(&entry.id))
            .map(|entry| entry.live_rows())
            .sum()
    }

    /// All columns with ids and addresses, or some columns without; as they are stored if `in_turn`.
    fn scan(&self, columns: Option<&[usize]>, in_turn: bool) -> Result<Arc<dyn ExecutionPlan>> {
        let access = self.access;
        if session_schema(&self.snapshot.schema()).fields() != access.schema.fields() {
            return Err(Error::new(
                ErrorKind::Conflict,
                access.location.root.to_string(),
                "the table's columns have changed since this session opened it; open it again",
            )
            .into());
        }
        let mut config = self.context.session_config().clone();
        if in_turn {
            // One partition reads the superfiles one after the other, and so keeps their order.
            config = config.with_target_partitions(1);
        }
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(self.context.runtime_env())
            .build();
        let all = columns.is_none();
        let request = ScanRequest {
            snapshot: Arc::clone(self.snapshot),
            schema: Arc::clone(&access.schema),
            hidden: HiddenColumns {
                row_id: all,
                address: all,
            },
            projection: columns,
            filters: &[],
            limit: None,
            dropped: None,
            subset: None,
            location: &access.location,
        };
        plan_scan_of(&state, request, Some(self.sources))
    }

    /// The rows in the declared order, or else as they are stored.
    fn in_declared_order(&self) -> Result<Arc<dyn ExecutionPlan>> {
        let sort_order = &self.snapshot.metadata().sort_order;
        let scan = self.scan(None, sort_order.is_empty())?;
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
            Some(order) => sorted(scan, order),
        })
    }

    /// The rows in the order of their places on a curve, and those places as one more column.
    async fn along_curve(&self, by: &ClusterBy) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = by.indices(&self.access.schema)?;
        let values = execute_stream(self.scan(Some(&columns), false)?, Arc::clone(self.context))?;
        let scan = self.scan(None, false)?;
        let schema = scan.schema();
        let config = self.context.session_config().options();
        let key = cluster::key(by, values, self.live_rows(), &schema, config).await?;
        let mut exprs = (schema.fields().iter())
            .map(|field| {
                let column = Column::new_with_schema(field.name(), &schema)?;
                Ok(ProjectionExpr::new(Arc::new(column), field.name()))
            })
            .collect::<Result<Vec<_>>>()?;
        let at = exprs.len();
        exprs.push(ProjectionExpr::new(key, cluster::KEY));
        let keyed = Arc::new(ProjectionExec::try_new(exprs, scan)?);
        let by_key = PhysicalSortExpr::new_default(Arc::new(Column::new(cluster::KEY, at)));
        Ok(match LexOrdering::new([by_key]) {
            None => keyed,
            Some(order) => sorted(keyed, order),
        })
    }
}

/// Sorted within the memory pool, with spilling, part by part.
fn sorted(rows: Arc<dyn ExecutionPlan>, order: LexOrdering) -> Arc<dyn ExecutionPlan> {
    let sorted = SortExec::new(order.clone(), rows).with_preserve_partitioning(true);
    Arc::new(SortPreservingMergeExec::new(order, Arc::new(sorted)))
}
