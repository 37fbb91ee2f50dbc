//! Rows in an order that goes through the table: in several commits, among other statements, in little memory, and what
//! it is good for.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::unstable::dml::SupertableProvider;
use datafusion_supertable::unstable::dml::compact::{
    GroupOutcome, Optimized, Request, Scope, optimize_as,
};
use datafusion_supertable::unstable::format::SuperfileId;
use datafusion_supertable::unstable::table::Snapshot;
use datafusion_supertable::unstable::table::compaction::{ClusterBy, Targets};
use tempfile::TempDir;

use crate::support::capture::Capture;
use crate::support::session::{Session, Time};
use crate::support::sql::{context, number, run, show};

/// Points of a square of this side, in superfiles of 64.
const SIDE: i64 = 64;

async fn create(ctx: &SessionContext, dir: &Path, options: &str) {
    datafusion_supertable::register(ctx).unwrap();
    let sql = format!(
        "CREATE EXTERNAL TABLE t (a BIGINT, b BIGINT, v BIGINT) STORED AS SUPERTABLE LOCATION '{}/' \
         OPTIONS ('supertable.expose_row_id' 'true', 'supertable.write.target_file_rows' '64' {options})",
        dir.display()
    );
    run(ctx, &sql).await.unwrap();
}

/// Inserts the points of a square, in no order.
async fn fill(ctx: &SessionContext) {
    fill_part(ctx, SIDE, 2_531, 0, SIDE * SIDE).await;
}

/// Inserts some of the points of a square, by their numbers in a sequence that goes all over it in leaps.
async fn fill_part(ctx: &SessionContext, side: i64, leap: i64, from: i64, to: i64) {
    let points = side * side;
    let sql = format!(
        "INSERT INTO t SELECT value % {side}, value / {side}, value FROM \
         (SELECT value * {leap} % {points} AS value FROM range({from}, {to})) AS r"
    );
    run(ctx, &sql).await.unwrap();
}

async fn provider(ctx: &SessionContext) -> SupertableProvider {
    let provider = ctx.table_provider("t").await.unwrap();
    provider
        .downcast_ref::<SupertableProvider>()
        .unwrap()
        .clone()
}

async fn snapshot(ctx: &SessionContext) -> Arc<Snapshot> {
    provider(ctx).await.table().snapshot().await.unwrap()
}

/// The superfiles of each run.
fn runs(snapshot: &Snapshot) -> BTreeMap<SuperfileId, BTreeSet<SuperfileId>> {
    let mut runs = BTreeMap::<_, BTreeSet<_>>::new();
    for entry in snapshot.manifest().entries() {
        let said = entry.clustering.clone();
        if let Some(said) = said {
            runs.entry(said.run).or_default().insert(entry.id);
        }
    }
    runs
}

fn unclustered(snapshot: &Snapshot) -> usize {
    let entries = snapshot.manifest().entries();
    entries.filter(|e| e.clustering.is_none()).count()
}

/// A request for groups of about `files` of the superfiles that the table has.
async fn in_groups_of(ctx: &SessionContext, files: u64, scope: Scope) -> Request {
    let totals = snapshot(ctx).await.manifest().totals();
    Request {
        scope,
        max_group_bytes: Some(totals.bytes * files / totals.superfiles + 1),
        ..Request::default()
    }
}

async fn optimize(ctx: &SessionContext, request: &Request) -> Vec<Optimized> {
    let provider = provider(ctx).await;
    optimize_as(provider.access(), &ctx.task_ctx(), request)
        .await
        .unwrap()
}

fn is_committed(group: &Optimized) -> bool {
    matches!(group.outcome, GroupOutcome::Committed(_))
}

/// All rows, each with its values and its id.
async fn rows(ctx: &SessionContext) -> String {
    show(
        ctx,
        "SELECT a, b, v, _id(t.a) AS id FROM t ORDER BY a, b, v, id",
    )
    .await
}

/// Drives `work` until `done` says so, then leaves it alone; its output if it came to its end before.
async fn until<F: Future>(
    work: &mut std::pin::Pin<&mut F>,
    done: impl Fn() -> bool,
) -> Option<F::Output> {
    std::future::poll_fn(|task| match work.as_mut().poll(task) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if done() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// How many superfiles a filter leaves over, of how many.
async fn read_by(ctx: &SessionContext, filter: &str) -> (usize, usize) {
    let plan = show(ctx, &format!("EXPLAIN SELECT v FROM t WHERE {filter}")).await;
    let counter = |name: &str| -> usize {
        let after = plan.split(name).nth(1).unwrap();
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    let all = counter("superfiles=");
    (all - counter("superfiles_pruned="), all)
}

#[tokio::test]
async fn a_filter_on_any_column_reads_at_most_a_quarter_of_a_table_that_was_clustered_group_by_group()
 {
    let filters = [
        "a = 5",
        "b = 5",
        "a BETWEEN 40 AND 43",
        "b BETWEEN 40 AND 43",
    ];
    for curve in ["zorder", "hilbert"] {
        let dir = TempDir::new().unwrap();
        let ctx = context();
        create(&ctx, dir.path(), "").await;
        for part in 0..4 {
            fill_part(&ctx, 128, 10_127, part * 4_096, (part + 1) * 4_096).await;
        }
        for filter in filters {
            assert_eq!(read_by(&ctx, filter).await, (256, 256), "before, {filter}");
        }
        let by = ClusterBy::parse(&format!("{curve}(a, b)")).unwrap();
        let request = in_groups_of(&ctx, 86, Scope::Whole { by: Some(by) }).await;
        let groups = optimize(&ctx, &request).await;
        assert!(
            groups.len() == 3 && groups.iter().all(is_committed),
            "{groups:?}"
        );
        let mut some = 0;
        for filter in filters {
            let (read, all) = read_by(&ctx, filter).await;
            println!("{curve}: {filter} reads {read} superfiles of {all}");
            // One of the eight columns of eight squares of each group, if superfiles ended where squares do.
            assert!(read * 4 <= all, "{curve}: {filter} reads {read} of {all}");
            some += read;
        }
        assert!(some * 5 <= filters.len() * 256, "{curve}: {some}");
        let (read, all) = read_by(&ctx, "a = 5 AND b = 5").await;
        assert!(
            read <= groups.len() * 3,
            "{curve}: both read {read} of {all}"
        );
        datafusion_supertable::wait_for_background_work(&ctx).await;
    }
}

#[tokio::test]
async fn what_was_committed_before_a_compaction_was_given_up_stays_and_the_next_one_does_the_rest()
{
    let dir = TempDir::new().unwrap();
    let ctx = context();
    create(&ctx, dir.path(), ", 'supertable.cluster_by' 'zorder(a, b)'").await;
    fill(&ctx).await;
    let before = rows(&ctx).await;
    let request = in_groups_of(&ctx, 8, Scope::Needed).await;
    let provider = provider(&ctx).await;
    let table = provider.table();
    let base = table.snapshot().await.unwrap().version();
    {
        let context = ctx.task_ctx();
        let mut work = pin!(optimize_as(provider.access(), &context, &request));
        let third = || table.cached_snapshot().version() >= base + 3;
        assert!(
            until(&mut work, third).await.is_none(),
            "it came to its end"
        );
        // And here it is dropped.
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    assert_eq!(rows(&ctx).await, before);
    let kept = runs(&*snapshot(&ctx).await);
    assert!((3..8).contains(&kept.len()), "{}", kept.len());
    let left = unclustered(&*snapshot(&ctx).await);

    let groups = optimize(&ctx, &request).await;
    assert_eq!(
        groups.iter().map(|group| group.sources).sum::<usize>(),
        left
    );
    assert!(groups.iter().all(is_committed), "{groups:?}");
    let now = snapshot(&ctx).await;
    assert_eq!(unclustered(&now), 0);
    let now_runs = runs(&now);
    assert!(
        kept.iter()
            .all(|(run, files)| now_runs.get(run) == Some(files))
    );
    assert_eq!(rows(&ctx).await, before);
    assert_eq!(optimize(&ctx, &request).await, []);
    assert_eq!(snapshot(&ctx).await.version(), now.version());
    datafusion_supertable::wait_for_background_work(&ctx).await;
}

#[tokio::test]
async fn statements_between_and_during_the_groups_are_carried_over() {
    for property in ["", ", 'supertable.cluster_by' 'hilbert(a, b)'"] {
        let dir = TempDir::new().unwrap();
        let ctx = context();
        create(&ctx, dir.path(), property).await;
        fill_part(&ctx, 32, 633, 0, 1_024).await;
        let scope = match property {
            "" => Scope::Whole { by: None },
            _ => Scope::Needed,
        };
        let request = in_groups_of(&ctx, 4, scope).await;
        let other = Session::fresh(dir.path(), Time::Now).await;
        let provider = provider(&ctx).await;
        let table = provider.table();
        // The same statements on a table that nobody compacts.
        let twin_dir = TempDir::new().unwrap();
        let twin = context();
        create(&twin, twin_dir.path(), "").await;
        fill_part(&twin, 32, 633, 0, 1_024).await;

        let context = ctx.task_ctx();
        let mut work = pin!(optimize_as(provider.access(), &context, &request));
        let (mut pauses, mut seen) = (0, table.cached_snapshot().version());
        let groups = loop {
            let next = || table.cached_snapshot().version() > seen;
            if let Some(groups) = until(&mut work, next).await {
                break groups.unwrap();
            }
            // All over the table: in what was written, in what is being written, and in what is not yet.
            for sql in [
                format!("DELETE FROM t WHERE v % 40 = {pauses}"),
                format!("UPDATE t SET v = -v WHERE v % 40 = {}", 39 - pauses),
                format!("INSERT INTO t VALUES ({pauses}, -1, 100000)"),
            ] {
                other.run(&sql).await;
                run(&twin, &sql).await.unwrap();
            }
            pauses += 1;
            seen = other.snapshot().await.version();
        };
        assert!(pauses >= 3, "{pauses}");
        assert!(groups.iter().all(is_committed), "{groups:?}");
        let values = "SELECT a, b, v FROM t ORDER BY a, b, v";
        let expected = show(&twin, values).await;
        assert_eq!(show(&ctx, values).await, expected);
        let again = Session::fresh(dir.path(), Time::Now).await;
        assert_eq!(again.run(values).await, expected);
        let ids = "SELECT count(*) - count(DISTINCT _id(t.a)) FROM t";
        assert_eq!(number(&ctx, ids).await, 0);
        // What those statements left is what the next one does.
        assert!(!optimize(&ctx, &request).await.is_empty());
        assert_eq!(optimize(&ctx, &request).await, []);
        assert_eq!(show(&ctx, values).await, expected);
        for session in [&other, &again] {
            session.settle().await;
        }
        for ctx in [&ctx, &twin] {
            datafusion_supertable::wait_for_background_work(ctx).await;
        }
    }
}

#[tokio::test]
async fn two_compactions_at_once_leave_a_clustered_table_and_change_no_row() {
    let dir = TempDir::new().unwrap();
    let ctx = context();
    create(&ctx, dir.path(), ", 'supertable.cluster_by' 'zorder(a, b)'").await;
    fill(&ctx).await;
    let before = rows(&ctx).await;
    let other = Session::fresh(dir.path(), Time::Now).await;
    let request = in_groups_of(&ctx, 8, Scope::Needed).await;
    let (one, two) = futures::join!(optimize(&ctx, &request), optimize(&other.ctx, &request));
    let committed = one.iter().chain(&two).filter(|group| is_committed(group));
    assert!(committed.count() >= 8, "{one:?} {two:?}");
    assert_eq!(rows(&ctx).await, before);
    optimize(&ctx, &request).await;
    assert_eq!(unclustered(&*snapshot(&ctx).await), 0);
    assert_eq!(optimize(&ctx, &request).await, []);
    assert_eq!(rows(&ctx).await, before);
    other.settle().await;
    datafusion_supertable::wait_for_background_work(&ctx).await;
}

#[tokio::test]
async fn progress_goes_on_from_group_to_group_in_rows_of_all() {
    let dir = TempDir::new().unwrap();
    let ctx = context();
    create(&ctx, dir.path(), ", 'supertable.cluster_by' 'zorder(a, b)'").await;
    fill(&ctx).await;
    let request = in_groups_of(&ctx, 8, Scope::Needed).await;
    let (capture, guard) = Capture::begin();
    let groups = optimize(&ctx, &request).await;
    drop(guard);
    let rows = (SIDE * SIDE) as u64;
    let mut done = Vec::new();
    for said in capture.said() {
        if said.text.contains("operation=\"optimize\"") {
            let field = |name: &str| -> u64 {
                let value = said.text.split(name).nth(1).unwrap();
                value.split(' ').next().unwrap().parse().unwrap()
            };
            assert_eq!(field(" total="), rows, "{}", said.text);
            done.push(field(" done="));
        }
    }
    assert!(done.is_sorted(), "{done:?}");
    assert!(
        done.len() > 2 * groups.len(),
        "within a group, too: {done:?}"
    );
    // It is over at the end, and only then.
    assert_eq!(done.iter().position(|n| *n == rows), Some(done.len() - 1));
    datafusion_supertable::wait_for_background_work(&ctx).await;
}

#[tokio::test]
async fn a_table_that_is_written_to_stays_clustered_and_its_rows_are_written_a_few_times() {
    let dir = TempDir::new().unwrap();
    let ctx = context();
    let options = ", 'supertable.cluster_by' 'zorder(a, b)', 'supertable.auto_compact' 'true'";
    create(&ctx, dir.path(), options).await;
    const STATEMENTS: i64 = 160;
    for n in 0..STATEMENTS {
        let sql =
            format!("INSERT INTO t SELECT value * 7 % 64, {n} * 11 % 64, value FROM range(0, 10)");
        run(&ctx, &sql).await.unwrap();
        // One after the other, so that how often there was something to do is known.
        datafusion_supertable::wait_for_background_work(&ctx).await;
    }
    let now = snapshot(&ctx).await;
    assert!(unclustered(&now) < 16, "{}", unclustered(&now));
    // Sixteen superfiles make a run, three of which wait for a fourth.
    let runs = runs(&now);
    assert!((2..=6).contains(&runs.len()), "{}", runs.len());
    assert_eq!(
        number(&ctx, "SELECT count(*) FROM t").await,
        STATEMENTS * 10
    );
    let mut written = 0;
    let table = provider(&ctx).await.table().clone();
    let mut before = BTreeSet::new();
    for version in 1..=now.version() {
        let old = table
            .snapshot_of(datafusion_supertable::unstable::table::Moment::Version(
                version,
            ))
            .await
            .unwrap();
        let entries = old.manifest().entries();
        let rows: BTreeMap<_, _> = entries.map(|e| (e.id, e.rows)).collect();
        let added = rows.iter().filter(|(id, _)| !before.contains(*id));
        written += added.map(|(_, rows)| *rows).sum::<u64>();
        before = rows.into_keys().collect();
    }
    // By the statement, as one of sixteen superfiles, and once more when four such runs become one.
    assert!(written <= 3 * 10 * STATEMENTS as u64, "{written}");
    assert!(written > 10 * STATEMENTS as u64);
}

/// A session with so much memory, and a disk to spill to or none.
fn small(bytes: usize, spills: bool) -> SessionContext {
    let mode = match spills {
        true => DiskManagerMode::OsTmpDirectory,
        false => DiskManagerMode::Disabled,
    };
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode))
        .build_arc()
        .unwrap();
    let mut config = SessionConfig::new().with_target_partitions(2);
    // The default keeps 10 MB for each sort's merge.
    config.options_mut().execution.sort_spill_reservation_bytes = 1 << 20;
    SessionContext::new_with_config_rt(config, runtime)
}

#[tokio::test]
async fn a_table_larger_than_memory_is_brought_in_order_by_spilling() {
    const ROWS: i64 = 400_000;
    // About a hundred bytes a row in memory, with ids and addresses.
    const POOL: usize = 24 << 20;
    for (order, scope) in [
        (
            "",
            Scope::Whole {
                by: Some(ClusterBy::parse("hilbert(k, v)").unwrap()),
            },
        ),
        ("WITH ORDER (k)", Scope::Whole { by: None }),
    ] {
        let dir = TempDir::new().unwrap();
        let location = format!(
            "STORED AS SUPERTABLE {order} LOCATION '{}/t/'",
            dir.path().display()
        );
        let create = format!("CREATE EXTERNAL TABLE t (k BIGINT, v BIGINT, s VARCHAR) {location}");
        let open = format!("CREATE EXTERNAL TABLE t {}", location.replace(order, ""));
        let free = context();
        datafusion_supertable::register(&free).unwrap();
        run(&free, &create).await.unwrap();
        for part in 0..4 {
            let rows = ROWS / 4;
            let sql = format!(
                "INSERT INTO t SELECT value * 7919 % 400009, value * 104729 % 400009, 'a text that takes room ' || value \
                 FROM range({part} * {rows}, {part} * {rows} + {rows})"
            );
            run(&free, &sql).await.unwrap();
        }
        datafusion_supertable::wait_for_background_work(&free).await;
        let request = Request {
            scope,
            targets: Targets::default(),
            superfile_rows: Some(50_000),
            ..Request::default()
        };
        // It does not fit: without a disk it fails, and changes nothing.
        let starved = small(POOL, false);
        datafusion_supertable::register(&starved).unwrap();
        run(&starved, &open).await.unwrap();
        let starving = provider(&starved).await;
        let error = optimize_as(starving.access(), &starved.task_ctx(), &request)
            .await
            .unwrap_err();
        let why = error.find_root();
        assert!(
            matches!(why, DataFusionError::ResourcesExhausted(_)),
            "{why}"
        );
        datafusion_supertable::wait_for_background_work(&starved).await;
        assert_eq!(runs(&*snapshot(&free).await).len(), 0);

        let bounded = small(POOL, true);
        datafusion_supertable::register(&bounded).unwrap();
        run(&bounded, &open).await.unwrap();
        let groups = optimize(&bounded, &request).await;
        assert!(groups.len() == 1 && is_committed(&groups[0]), "{groups:?}");
        assert_eq!(groups[0].superfiles, 8);
        let sums = "SELECT count(*) || ' ' || sum(k) || ' ' || sum(v) || ' ' || count(DISTINCT s) AS x FROM t";
        let expected = "SELECT count(*) || ' ' || sum(value * 7919 % 400009) || ' ' || \
                        sum(value * 104729 % 400009) || ' ' || count(*) AS x FROM range(0, 400000) AS r";
        assert_eq!(show(&free, sums).await, show(&free, expected).await);
        let (read, all) = read_by(&free, "k = 5").await;
        assert!(all == 8 && read <= 4, "{read} of {all}");
        for ctx in [&bounded, &free] {
            datafusion_supertable::wait_for_background_work(ctx).await;
        }
    }
}
