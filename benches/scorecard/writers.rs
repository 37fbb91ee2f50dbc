//! Many writers of one table against one after another: tasks of one process, and processes.
//!
//! A process is this binary again, which serves requests from its standard input: `run FIRST COUNT` deletes
//! the rows with ids from FIRST on, one statement each, and answers `done`. Its session finds the table under a
//! scheme of its own, through a store that adds [`LATENCY`] to every request to the local disk.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::prelude::SessionContext;
use datafusion_supertable::unstable::storage::LocalStore;
use datafusion_supertable::wait_for_background_work;
use url::Url;

use crate::data::{count, fill, run, session};
use crate::fault_store::{FaultStore, Plan};
use crate::measure::{Report, time};

const LATENCY: Duration = Duration::from_millis(50);
const PROCESSES: usize = 8;
/// Statements of each process.
const EACH: u64 = 8;
/// Rows of the table: enough for it to be a table, few enough for it to be made quickly.
const ROWS: u64 = 1_000_000;
const CHILD: &str = "SUPERTABLE_BENCH_CHILD";
/// Where the slow store is.
pub(crate) const SLOW: &str = "slow://t/";

/// The section.
pub(crate) async fn measure(report: &mut Report, rows: u64) {
    let rows = rows.min(ROWS);
    tasks(report, rows).await;
    processes(report, rows).await;
}

/// Point DELETEs through SQL, so many at once, in one process: on the local disk, where they are bound by
/// the processor and by syncs, and on a store that takes its time, as those across a network do.
async fn tasks(report: &mut Report, rows: u64) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("t");
    let ctx = session();
    fill(&ctx, "t", &place, rows).await;
    let mut ids = (0..rows).step_by(7);
    tasks_of(report, &ctx, &mut ids, "local disk", 128, None).await;
    wait_for_background_work(&ctx).await;
    let far = slow_session(&place).await;
    tasks_of(report, &far, &mut ids, "50 ms store", 64, Some(0.1)).await;
    wait_for_background_work(&far).await;
}

async fn tasks_of(
    report: &mut Report,
    ctx: &SessionContext,
    ids: &mut impl Iterator<Item = u64>,
    store: &str,
    statements: usize,
    target: Option<f64>,
) {
    let mut alone = None;
    for writers in [1, 4, 16, 64] {
        let ids: Vec<u64> = ids.take(statements).collect();
        let (took, ()) = time(delete_at_once(ctx, ids, writers)).await;
        let per_statement = took / statements as u32;
        let base = *alone.get_or_insert(per_statement);
        report.ratio(
            &format!(
                "point DELETE, {store}, {writers:>2} at once ({:.0}/s)",
                1.0 / per_statement.as_secs_f64()
            ),
            per_statement,
            base,
            target.filter(|_| writers == 64),
        );
    }
}

async fn delete_at_once(ctx: &SessionContext, ids: Vec<u64>, writers: usize) {
    let mut running = tokio::task::JoinSet::new();
    for share in ids.chunks(ids.len().div_ceil(writers)) {
        let (ctx, share) = (ctx.clone(), share.to_vec());
        running.spawn(async move {
            for id in share {
                delete(&ctx, id).await;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

async fn delete(ctx: &SessionContext, id: u64) {
    let deleted = count(ctx, &format!("DELETE FROM t WHERE id = {id}")).await;
    assert_eq!(deleted, 1, "row {id}");
}

/// The same statements by processes on a slow store: at once, in turn, and one process after the other.
async fn processes(report: &mut Report, rows: u64) {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session();
    let place = dir.path().join("t");
    fill(&ctx, "t", &place, rows).await;
    wait_for_background_work(&ctx).await;
    let mut processes: Vec<Process> = (0..PROCESSES).map(|_| Process::start(&place)).collect();
    let mut next = 0;
    let mut ids = |n: u64| {
        let first = next;
        next += n;
        first
    };
    // Each process warms up: what it reads once it keeps.
    for process in &mut processes {
        process.run(ids(2), 2);
    }
    let start = Instant::now();
    for process in &mut processes {
        process.begin(ids(EACH), EACH);
    }
    processes.iter_mut().for_each(Process::end);
    let together = start.elapsed();
    let start = Instant::now();
    for _ in 0..EACH {
        for process in &mut processes {
            process.run(ids(1), 1);
        }
    }
    let in_turn = start.elapsed();
    let start = Instant::now();
    for process in &mut processes {
        process.run(ids(EACH), EACH);
    }
    let in_sequence = start.elapsed();
    report.ratio(
        "8 processes, 50 ms latency: together / taking turns",
        together,
        in_turn,
        Some(0.25),
    );
    report.ratio(
        "8 processes, 50 ms latency: together / one after the other",
        together,
        in_sequence,
        Some(0.25),
    );
    drop(processes);
    let left = count(&ctx, "SELECT count(*) FROM t").await;
    assert_eq!(left, rows - ids(0));
    wait_for_background_work(&ctx).await;
}

/// A process of its own, which ends with its standard input.
struct Process {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(place: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self {
            child,
            requests,
            answers,
        };
        process.end();
        process
    }

    fn begin(&mut self, first: u64, count: u64) {
        let requests = self.requests.as_mut().unwrap();
        writeln!(requests, "run {first} {count}").unwrap();
        requests.flush().unwrap();
    }

    fn end(&mut self) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "done");
    }

    fn run(&mut self, first: u64, count: u64) {
        self.begin(first, count);
        self.end();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.child.wait();
    }
}

/// A session that finds the table under a scheme of its own, on a store with latency.
pub(crate) async fn slow_session(place: &Path) -> SessionContext {
    let store = FaultStore::new(
        Arc::new(LocalStore::new(place).unwrap()),
        Plan::with_latency(LATENCY),
    );
    let ctx = session();
    ctx.register_object_store(&Url::parse(SLOW).unwrap(), Arc::new(store));
    run(
        &ctx,
        &format!("CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{SLOW}'"),
    )
    .await;
    ctx
}

/// Whether this process is one of those.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Serves requests until there are no more.
pub(crate) async fn serve() {
    let place = std::env::var(CHILD).unwrap();
    let ctx = slow_session(Path::new(&place)).await;
    println!("done");
    loop {
        let request = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        let request = request.await.unwrap().unwrap();
        let mut words = request.split_whitespace();
        let Some("run") = words.next() else { break };
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        let (first, count) = (number(), number());
        for id in first..first + count {
            delete(&ctx, id).await;
        }
        println!("done");
    }
    wait_for_background_work(&ctx).await;
}
