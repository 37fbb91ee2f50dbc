//! What concurrent writers do, judged by invariants: money that is transferred is conserved in every version
//! that a reader sees, a counter ends at the number of acknowledged increments, every inserted row is there once.
//!
//! Writers are tasks of one session (they share a table's committer), sessions of one process (they meet only
//! at the store, as processes do), and real processes. A statement is acknowledged, or refused with a
//! typed, retryable conflict, and then run again.
//!
//! `SUPERTABLE_TEST_ROUNDS` makes every writer run so many times as many statements.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::{Error, ErrorKind};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::support::child::{Args, Child, report};

const ROLE: &str = "concurrent: write";
const ROUNDS: &str = "SUPERTABLE_TEST_ROUNDS";
const ACCOUNTS: i64 = 6;
const BALANCE: i64 = 100;
/// The row that counts.
const COUNTER: i64 = 1_000;
/// Inserted rows have ids from here on, each writer a thousand thousands of its own.
const INSERTED: i64 = 1_000_000;

/// What acknowledged statements add up to.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    increments: i64,
    inserts: i64,
}

fn rounds() -> usize {
    std::env::var(ROUNDS).map_or(1, |rounds| rounds.parse().unwrap())
}

async fn open(dir: &Path) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_supertable::register(&ctx).unwrap();
    let sql = format!(
        "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, n BIGINT NOT NULL) STORED AS SUPERTABLE LOCATION '{}/t/'",
        dir.display()
    );
    ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    ctx
}

/// The table with its accounts, in several superfiles, and the counter.
async fn set_up(dir: &Path) -> SessionContext {
    let ctx = open(dir).await;
    for first in (0..ACCOUNTS).step_by(2) {
        let sql = format!(
            "INSERT INTO t VALUES ({first}, {BALANCE}), ({}, {BALANCE})",
            first + 1
        );
        run(&ctx, &sql).await;
    }
    run(&ctx, &format!("INSERT INTO t VALUES ({COUNTER}, 0)")).await;
    ctx
}

/// Runs a statement until it is acknowledged; the rows that it affected.
async fn run(ctx: &SessionContext, sql: &str) -> u64 {
    loop {
        let outcome = async { ctx.sql(sql).await?.collect().await }.await;
        match outcome {
            Ok(batches) => return batches[0].column(0).as_primitive::<UInt64Type>().value(0),
            Err(error) => {
                let kind = Error::find_in(&error).map(Error::kind);
                assert_eq!(kind, Some(ErrorKind::Conflict), "{sql}: {error}");
            }
        }
    }
}

async fn numbers(ctx: &SessionContext, sql: &str) -> Vec<i64> {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let columns = batches[0].columns().iter();
    columns
        .map(|column| column.as_primitive::<Int64Type>().value(0))
        .collect()
}

/// The statements of one writer, which no other writer has as its number.
async fn write(ctx: &SessionContext, writer: usize, statements: usize) -> Done {
    let mut rng = StdRng::seed_from_u64(writer as u64);
    let mut done = Done::default();
    for _ in 0..statements {
        match rng.random_range(0..3) {
            0 => {
                let from = rng.random_range(0..ACCOUNTS);
                let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
                let amount = rng.random_range(1..20);
                let sql = format!(
                    "UPDATE t SET n = n + CASE id WHEN {from} THEN -{amount} WHEN {to} THEN {amount} END \
                     WHERE id IN ({from}, {to})"
                );
                assert_eq!(run(ctx, &sql).await, 2, "{sql}");
            }
            1 => {
                let sql = format!("UPDATE t SET n = n + 1 WHERE id = {COUNTER}");
                assert_eq!(run(ctx, &sql).await, 1, "{sql}");
                done.increments += 1;
            }
            _ => {
                let id = INSERTED * (writer as i64 + 1) + done.inserts;
                assert_eq!(
                    run(ctx, &format!("INSERT INTO t VALUES ({id}, 1)")).await,
                    1
                );
                done.inserts += 1;
            }
        }
    }
    done
}

/// Reads over and over until told to stop; the sum of all balances is the same in each version.
async fn read(ctx: SessionContext, stop: Arc<AtomicBool>) -> u64 {
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) {
        check_accounts(&ctx).await;
        reads += 1;
    }
    reads
}

async fn check_accounts(ctx: &SessionContext) {
    let sql = format!("SELECT sum(n), count(*), count(DISTINCT id) FROM t WHERE id < {ACCOUNTS}");
    let found = numbers(ctx, &sql).await;
    assert_eq!(found, [ACCOUNTS * BALANCE, ACCOUNTS, ACCOUNTS]);
}

/// The end of a run in which each writer had this acknowledged.
async fn check(dir: &Path, done: &BTreeMap<usize, Done>) {
    let ctx = open(dir).await;
    check_accounts(&ctx).await;
    let sql = format!("SELECT n, 1 FROM t WHERE id = {COUNTER}");
    let increments = done.values().map(|done| done.increments).sum();
    assert_eq!(numbers(&ctx, &sql).await, [increments, 1]);
    for (writer, done) in done {
        let first = INSERTED * (*writer as i64 + 1);
        let sql = format!(
            "SELECT count(*), count(DISTINCT id) FROM t WHERE id >= {first} AND id < {}",
            first + INSERTED
        );
        assert_eq!(numbers(&ctx, &sql).await, [done.inserts, done.inserts]);
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let left = std::fs::read_dir(dir.join("t/wal/mutations")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "documents of statements that have ended");
}

/// Writers over these sessions, beside a reader with its own.
async fn contend(dir: &Path, sessions: Vec<SessionContext>, statements: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(read(open(dir).await, Arc::clone(&stop)));
    let mut writers = JoinSet::new();
    for (writer, ctx) in sessions.into_iter().enumerate() {
        writers.spawn(async move {
            let done = write(&ctx, writer, statements).await;
            datafusion_supertable::wait_for_background_work(&ctx).await;
            (writer, done)
        });
    }
    let mut done = BTreeMap::new();
    while let Some(ended) = writers.join_next().await {
        done.extend([ended.unwrap()]);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(reader.await.unwrap() > 0);
    check(dir, &done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_one_session_keep_every_invariant() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = set_up(dir.path()).await;
    contend(dir.path(), vec![ctx; 8], 6 * rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_meet_only_at_the_store_keep_every_invariant() {
    let dir = tempfile::tempdir().unwrap();
    datafusion_supertable::wait_for_background_work(&set_up(dir.path()).await).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(open(dir.path()).await);
    }
    contend(dir.path(), sessions, 6 * rounds()).await;
}

/// The role: writes, and reports each statement's end so that a parent knows what was acknowledged.
pub(crate) fn write_in_a_process(args: &Args) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ctx = open(Path::new(args.text(0))).await;
        let (writer, statements) = (args.number(1), args.number(2));
        report("open");
        let done = write(&ctx, writer, statements).await;
        datafusion_supertable::wait_for_background_work(&ctx).await;
        report(format_args!("{} {}", done.increments, done.inserts));
    });
}

fn spawn(dir: &Path, writer: usize, statements: usize) -> Child {
    let dir = dir.display().to_string();
    Child::spawn(ROLE, &[dir, writer.to_string(), statements.to_string()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_keep_every_invariant() {
    let dir = tempfile::tempdir().unwrap();
    datafusion_supertable::wait_for_background_work(&set_up(dir.path()).await).await;
    let children: Vec<Child> = (0..4)
        .map(|writer| spawn(dir.path(), writer, 6 * rounds()))
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(read(open(dir.path()).await, Arc::clone(&stop)));
    let ended = tokio::task::spawn_blocking(|| {
        let finished = children.into_iter().map(Child::finish);
        finished.collect::<Vec<_>>()
    });
    let ended = ended.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(reader.await.unwrap() > 0);
    let mut done = BTreeMap::new();
    for (writer, reports) in ended.iter().enumerate() {
        let (increments, inserts) = reports.last().unwrap().split_once(' ').unwrap();
        let (increments, inserts) = (increments.parse().unwrap(), inserts.parse().unwrap());
        done.insert(
            writer,
            Done {
                increments,
                inserts,
            },
        );
    }
    check(dir.path(), &done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_among_others_takes_no_money_along() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = set_up(dir.path()).await;
    let mut victim = spawn(dir.path(), 7, 1_000_000);
    let written = Arc::new(AtomicU64::new(0));
    let work = tokio::spawn({
        let (ctx, written) = (ctx.clone(), Arc::clone(&written));
        async move {
            for writer in 0..rounds() {
                let done = write(&ctx, writer, 6).await;
                written.fetch_add(done.increments as u64, Ordering::Relaxed);
            }
        }
    });
    let victim = tokio::task::spawn_blocking(move || {
        assert_eq!(victim.next_report().as_deref(), Some("open"));
        victim
    });
    let victim = victim.await.unwrap();
    work.await.unwrap();
    victim.kill();
    // Whatever it left does not stand in anybody's way, ready or not.
    check_accounts(&ctx).await;
    write(&ctx, 90, 3).await;
    check_accounts(&ctx).await;
    let sql = format!("SELECT n, 1 FROM t WHERE id = {COUNTER}");
    let counted = numbers(&ctx, &sql).await[0];
    assert!(counted >= written.load(Ordering::Relaxed) as i64);
    datafusion_supertable::wait_for_background_work(&ctx).await;
}
