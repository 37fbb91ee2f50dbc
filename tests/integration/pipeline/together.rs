//! Many writers at once: in one process, in several, and with dead ones among them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion_supertable::unstable::table::{CommitOutcome, Limits, Table};

use super::world::{Rows, World, committed, delete, insert, rows};
use crate::support::fault_store::{Crash, Plan};

/// Runs until it is committed.
async fn insistently<F, Fut>(statement: F) -> (u64, u64)
where
    F: Fn() -> Fut,
    Fut: Future<Output = datafusion_supertable::Result<CommitOutcome>>,
{
    loop {
        match statement().await.unwrap() {
            CommitOutcome::Committed {
                version,
                rows_affected,
                ..
            } => return (version, rows_affected),
            CommitOutcome::Conflict(_) => {}
            CommitOutcome::NothingToCommit => panic!("nothing to commit"),
        }
    }
}

fn label(handle: usize, writer: usize) -> String {
    format!("w{handle}-{writer}")
}

/// Each writer inserts a superfile and deletes one row of it, of b, and of c.
async fn writers(tables: &[Table], each: usize) -> BTreeSet<u64> {
    let mut tasks = Vec::new();
    for (h, table) in tables.iter().enumerate() {
        for w in 0..each {
            let table = table.clone();
            tasks.push(tokio::spawn(async move {
                let label = label(h, w);
                let (inserted, _) = insistently(|| insert(&table, &label, 3)).await;
                let position = (h * each + w) as u32;
                let (deleted, count) = insistently(|| async {
                    delete(&table, &[("big", &[position]), (&label, &[1])]).await
                })
                .await;
                assert_eq!(count, 2);
                [inserted, deleted]
            }));
        }
    }
    let mut versions = BTreeSet::new();
    for task in tasks {
        versions.extend(task.await.unwrap());
    }
    versions
}

async fn expect_all(before: Rows, handles: usize, each: usize, table: &Table) {
    let mut expected = before;
    for h in 0..handles {
        for w in 0..each {
            expected.insert((label(h, w), 0));
            expected.insert((label(h, w), 2));
            expected.remove(&("big".to_owned(), (h * each + w) as u32));
        }
    }
    assert_eq!(rows(table).await, expected);
}

async fn contention(handles: usize, each: usize, latency: Duration) -> (World, BTreeSet<u64>) {
    let world = World::new().await;
    let table = world.recovered().await;
    committed(insert(&table, "big", 1000).await);
    table.settle().await;
    let before = rows(&table).await;
    let mut tables = Vec::new();
    for _ in 0..handles {
        let plan = Plan::with_latency(latency);
        tables.push(world.open(&plan).await.unwrap());
    }
    let versions = writers(&tables, each).await;
    for table in &tables {
        table.settle().await;
    }
    expect_all(before, handles, each, &table).await;
    world.assert_clean(&table).await;
    (world, versions)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_tasks_of_one_process_lose_nothing_and_double_nothing() {
    contention(1, 16, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_processes_lose_nothing_and_double_nothing() {
    contention(4, 4, Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn statements_of_one_process_share_versions() {
    let (_, versions) = contention(1, 64, Duration::from_millis(50)).await;
    assert!(
        versions.len() <= 16,
        "128 statements took {} versions",
        versions.len()
    );
}

#[tokio::test(start_paused = true)]
async fn processes_commit_each_others_mutations() {
    let start = tokio::time::Instant::now();
    let (_, versions) = contention(8, 1, Duration::from_millis(50)).await;
    // Eight statements after eight, of five round trips each, would take 4 s.
    println!(
        "8 processes, 16 statements: {:?}, {} versions",
        start.elapsed(),
        versions.len()
    );
    assert!(versions.len() < 16, "{versions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_writers_appended_mutation_is_committed_once_while_others_write() {
    let base = World::new().await;
    for k in 1.. {
        let world = base.fork();
        let plan = Plan::crash(Crash::After(k));
        if let Ok(dying) = world.open(&plan).await {
            dying.settle().await;
            let _ = insert(&dying, "dying", 4).await;
            dying.settle().await;
        }
        if !plan.crashed() {
            break;
        }
        let plan = Plan::with_latency(Duration::from_millis(10));
        let a = world.open(&plan).await.unwrap();
        let b = world.open(&plan).await.unwrap();
        for round in 0..4 {
            let (x, y) = (format!("x{round}"), format!("y{round}"));
            let (x, y) = tokio::join!(insert(&a, &x, 2), insert(&b, &y, 2));
            committed(x);
            committed(y);
        }
        a.settle().await;
        b.settle().await;
        world.let_leases_expire();
        let table = world.recovered().await;
        let now = rows(&table).await;
        assert_eq!(
            now.iter()
                .filter(|(label, _)| label.starts_with(['x', 'y']))
                .count(),
            16
        );
        let dying = now.iter().filter(|(label, _)| label == "dying").count();
        assert!(dying == 0 || dying == 4, "crash after {k}: {dying}");
        world.assert_clean(&table).await;
    }
}

#[tokio::test(start_paused = true)]
async fn commit_records_stay_bounded() {
    let world = World::new().await;
    let limits = Limits {
        pending_at_most: 4,
        ..Limits::default()
    };
    let a = world
        .open_with(&Plan::healthy(), limits.clone())
        .await
        .unwrap();
    let b = world.open_with(&Plan::healthy(), limits).await.unwrap();
    for round in 0..60 {
        let table = if round % 3 == 0 { &a } else { &b };
        committed(insert(table, &format!("i{round}"), 1).await);
        table.settle().await;
        let snapshot = table.snapshot().await.unwrap();
        let pending = snapshot.manifest().header().pending.len();
        assert!(
            pending <= 8,
            "{pending} records pending after {round} commits"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_recover_at_once_commit_once() {
    let base = World::new().await;
    for k in 1.. {
        let world = base.fork();
        let plan = Plan::crash(Crash::After(k));
        if let Ok(dying) = world.open(&plan).await {
            dying.settle().await;
            let _ = insert(&dying, "dying", 4).await;
            dying.settle().await;
        }
        if !plan.crashed() {
            break;
        }
        world.let_leases_expire();
        let plan = Plan::with_latency(Duration::from_millis(10));
        let a = world.open(&plan).await.unwrap();
        let b = world.open(&plan).await.unwrap();
        // Each process recovers twice, because opening does too.
        let (ra, rb) = tokio::join!(a.recover(), b.recover());
        for report in [ra.unwrap(), rb.unwrap()] {
            assert!(report.failed.is_empty(), "{report:?}");
        }
        a.settle().await;
        b.settle().await;
        let dying = rows(&a)
            .await
            .iter()
            .filter(|(label, _)| label == "dying")
            .count();
        assert!(dying == 0 || dying == 4, "crash after {k}: {dying}");
        assert_eq!(rows(&a).await, rows(&b).await);
        world.assert_clean(&Arc::new(a)).await;
    }
}
