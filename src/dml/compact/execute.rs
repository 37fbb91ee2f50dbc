//! Compaction, carried out: live rows of some superfiles into new ones, group by group.
//!
//! Owns one group's run (scan, sort, write, record where each row went, commit), running it again when
//! it conflicts, and the compaction that follows writes where a table or session asks for it. Does not own
//! which superfiles make a group (`table::compaction`), what is read of them (`reading`), nor what becomes of rows
//! that change meanwhile (`table::apply`).
//!
//! Invariant: what is committed holds exactly the live rows of the sources, ids included; another number
//! of rows is an error, and nothing is committed. What was written along a key says so in its manifest entry. A crash
//! leaves what was committed group by group, which the next plan leaves alone, and one mutation that recovery undoes or
//! completes.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::cluster::ClusterBy;
use super::moved::MoveRecorder;
use super::order_request::{ClusteringOfGroup, OrderRequest};
use super::progress::Progress;
use super::reading::Reading;
use super::request::{GroupOutcome, Optimized, Request};
use crate::config::SupertableOptions;
use crate::dml::provider::TableAccess;
use crate::dml::write::sort_memory;
use crate::dml::write::superfiles::{conform, first_batch, superfile_writer, with_row_id};
use crate::format::SuperfileId;
use crate::format::ids::MAX_SUPERFILE_ROWS;
use crate::format::state_doc::OpKind;
use crate::scan::row_address::{ADDRESS_FILE, ADDRESS_POSITION};
use crate::scan::superfile_at;
use crate::table::compaction::{Group, Targets, plan, plan_clustered};
use crate::table::{AttemptEnd, Attempts, CommitOutcome, Effect, Mutation, RowIdSource, Snapshot};

/// How many small superfiles of one size a compaction after writes waits for.
pub(crate) const AUTO_FILES_PER_TIER: usize = 16;

/// One compaction: of what, how, and whether a statement waits for it.
struct Job<'a> {
    access: &'a TableAccess,
    context: &'a Arc<TaskContext>,
    request: &'a Request,
    /// It goes on in the background, does not say how far it is, and leaves what is more than one group to the next.
    quiet: bool,
    /// Memory was too little for several sorts at once.
    in_little_memory: AtomicBool,
}

/// Compacts a table by the size of its superfiles, or along what it says it is clustered by; with `dry_run`, only says
/// what would be done.
///
/// # Errors
/// What reading or writing raises. Groups that were committed before stay.
pub async fn optimize(
    access: &TableAccess,
    context: &Arc<TaskContext>,
    targets: Targets,
    dry_run: bool,
) -> Result<Vec<Optimized>> {
    let request = Request {
        targets,
        dry_run,
        ..Request::default()
    };
    optimize_as(access, context, &request).await
}

/// As [`optimize`], as `request` says.
///
/// # Errors
/// As [`optimize`]; and [`ErrorKind::Unsupported`](crate::error::ErrorKind::Unsupported) for another order than the one that the table declares.
#[tracing::instrument(level = "debug", name = "optimize", skip_all, fields(dry_run = request.dry_run))]
pub async fn optimize_as(
    access: &TableAccess,
    context: &Arc<TaskContext>,
    request: &Request,
) -> Result<Vec<Optimized>> {
    let job = Job {
        access,
        context,
        request,
        quiet: false,
        in_little_memory: AtomicBool::new(false),
    };
    job.run().await
}

impl Job<'_> {
    async fn run(&self) -> Result<Vec<Optimized>> {
        if !self.request.dry_run {
            let options = SupertableOptions::of(self.context.session_config().options());
            options.check_writable("OPTIMIZE")?;
        }
        let snapshot = self.access.table.snapshot().await?;
        let order = OrderRequest::of(self.request, self.access, self.context, &snapshot)?;
        let groups = self.groups(&snapshot, order.as_ref());
        let rows = groups.iter().map(|group| group.rows).sum();
        let mut progress = Progress::of(rows, self.quiet);
        let mut done = Vec::with_capacity(groups.len());
        for group in groups {
            let ended = match self.request.dry_run {
                true => Optimized::planned(&group),
                false => self.compact(group, order.as_ref(), &progress).await?,
            };
            progress.add(&ended);
            done.push(ended);
        }
        progress.end();
        Ok(done)
    }

    fn groups(&self, snapshot: &Snapshot, order: Option<&OrderRequest>) -> Vec<Group> {
        let entries = snapshot.manifest().entries().map(Arc::as_ref);
        let Some(OrderRequest { along, .. }) = order else {
            return plan(entries, &self.request.targets);
        };
        let mut groups = plan_clustered(entries, along, &self.request.targets);
        if self.quiet {
            // A table that is large and was not clustered before is not all of it one writer's business.
            let mut bytes = 0_u64;
            let fit = groups.iter().take_while(|group| {
                bytes = bytes.saturating_add(group.bytes);
                bytes <= along.group_bytes
            });
            let fit = fit.count().max(1);
            groups.truncate(fit);
        }
        groups
    }

    /// One group, again and again until it is committed or nothing is left of it.
    async fn compact(
        &self,
        group: Group,
        order: Option<&OrderRequest>,
        progress: &Progress,
    ) -> Result<Optimized> {
        let mut report = Optimized::planned(&group);
        let mut attempts = Attempts::of("OPTIMIZE", &self.access.table);
        loop {
            let snapshot = self.access.table.snapshot().await?;
            let sources: HashSet<SuperfileId> = group
                .sources
                .iter()
                .copied()
                .filter(|id| snapshot.manifest().get(id).is_some())
                .collect();
            let one_of_many = sources.len() == 1 && group.sources.len() > 1;
            if sources.is_empty() || (one_of_many && order.is_none()) {
                report.outcome = GroupOutcome::Superseded;
                return Ok(report);
            }
            let clustering = order.map(|order| ClusteringOfGroup::of(&group, order));
            let what = What {
                snapshot: &snapshot,
                sources: &sources,
                by: order.and_then(|order| order.by.as_ref()),
                clustering,
            };
            let prepared = match self.prepare(&what, progress).await {
                Ok(prepared) => prepared,
                Err(error) if self.can_do_with_less(&error) => {
                    tracing::debug!(%error, "a compaction starts again with one sort at a time");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let written = &prepared.effect.add;
            report.superfiles = written.len();
            report.bytes_after = written.iter().map(|entry| entry.size).sum();
            let why = match AttemptEnd::of(prepared.commit().await)? {
                AttemptEnd::Committed { version, .. } => {
                    tracing::info!(
                        version,
                        sources = report.sources,
                        superfiles = report.superfiles,
                        rows = report.rows,
                        "compacted"
                    );
                    report.outcome = GroupOutcome::Committed(version);
                    return Ok(report);
                }
                AttemptEnd::Nothing => {
                    report.outcome = GroupOutcome::Superseded;
                    return Ok(report);
                }
                AttemptEnd::Lost(why) => why,
            };
            if attempts.after_loss(&why).await.is_err() {
                (report.superfiles, report.bytes_after) = (0, 0);
                report.outcome = GroupOutcome::GivenUp(why);
                return Ok(report);
            }
        }
    }

    /// Whether what failed for want of memory may succeed with less; from then on it is done so.
    fn can_do_with_less(&self, error: &DataFusionError) -> bool {
        matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
            && !self.in_little_memory.swap(true, Ordering::Relaxed)
    }

    async fn prepare(&self, what: &What<'_>, progress: &Progress) -> Result<Prepared> {
        let statement = format!("OPTIMIZE ({} superfiles)", what.sources.len());
        let mutation =
            self.access
                .table
                .begin(OpKind::Compact, Arc::clone(what.snapshot), statement);
        match self.rewrite(&mutation, what, progress).await {
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
        what: &What<'_>,
        progress: &Progress,
    ) -> Result<Effect> {
        let Self {
            access, context, ..
        } = *self;
        let What {
            snapshot, sources, ..
        } = *what;
        let reading = Reading {
            access,
            context,
            snapshot,
            sources,
            in_little_memory: self.in_little_memory.load(Ordering::Relaxed),
        };
        let plan = match what.by {
            Some(by) => reading.along_curve(by).await?,
            None => reading.in_declared_order()?,
        };
        let mut rows = execute_stream(plan, sort_memory::for_sorting(context)?)?;
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
        if let Some(rows) = self.request.superfile_rows {
            writer = writer.at_most(rows);
        }
        if self.quiet {
            writer = writer.quiet();
        }
        let mut moved = MoveRecorder::new(context.memory_pool());
        let mut next = first_batch(&mut rows, mutation).await?;
        while let Some(batch) = next {
            moved.add(&batch, file_at, position_at)?;
            let batch = conform(&batch.project(&columns)?, &stored)?;
            writer.write(&batch).await?;
            progress.tell(writer.rows());
            next = next_batch(&mut rows).await?;
        }
        let live = reading.live_rows();
        if writer.rows() != live {
            let read = writer.rows();
            return exec_err!(
                "a compaction read {read} rows where {live} are live; nothing was changed"
            );
        }
        let mut add = writer.finish().await?;
        if let Some(clustering) = &what.clustering {
            clustering.to(&mut add);
        }
        let moves = match moved.into_maps()? {
            Some(maps) => {
                let named = maps.into_iter().map(|(ordinal, map)| {
                    let entry = superfile_at(snapshot, ordinal);
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

/// One group as it is carried out on a snapshot.
struct What<'a> {
    snapshot: &'a Arc<Snapshot>,
    sources: &'a HashSet<SuperfileId>,
    by: Option<&'a ClusterBy>,
    /// How the superfiles that come of it are clustered.
    clustering: Option<ClusteringOfGroup>,
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
        let request = Request {
            targets,
            ..Request::default()
        };
        let job = Job {
            access: &access,
            context: &context,
            request: &request,
            quiet: true,
            in_little_memory: AtomicBool::new(false),
        };
        // Most writes leave nothing to do, and that is known without asking the store.
        let known = access.table.cached_snapshot();
        let something = |order: Option<OrderRequest>| !job.groups(&known, order.as_ref()).is_empty();
        let done = match OrderRequest::of(&request, &access, &context, &known).map(something) {
            Ok(false) => return,
            Ok(true) => job.run().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a compaction after writes did not succeed; the table is as it was");
        }
    });
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
    let request = Request::default();
    let job = Job {
        access,
        context,
        request: &request,
        quiet: true,
        in_little_memory: AtomicBool::new(false),
    };
    let what = What {
        snapshot,
        sources,
        by: None,
        clustering: None,
    };
    job.prepare(&what, &Progress::of(0, true)).await
}

async fn next_batch(rows: &mut SendableRecordBatchStream) -> Result<Option<RecordBatch>> {
    rows.next().await.transpose()
}
