//! INSERT against DataFusion's COPY of the same rows to one Parquet file, with and without a sort; and what a full scan of
//! both costs.
//!
//! Each statement is run by a process of its own (this binary again), whose peak of memory is the statement's.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use datafusion::prelude::SessionContext;
use futures::StreamExt;

use crate::data::{run, session};
use crate::measure::Report;
use crate::sets::{SETS, Set};

const ROUNDS: usize = 3;
/// What a child runs: statements, one a line, of which the last is measured.
const CHILD: &str = "SUPERTABLE_BENCH_STATEMENTS";
/// Before a query whose rows are read and dropped.
const READ: &str = "READ ";
/// Bytes of memory that writing may take.
const MEMORY: u64 = 600_000_000;

/// What a statement cost.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    processor: Duration,
    memory: u64,
}

impl Cost {
    /// The least of each.
    fn least(self, other: Self) -> Self {
        Self {
            time: self.time.min(other.time),
            processor: self.processor.min(other.processor),
            memory: self.memory.min(other.memory),
        }
    }
}

/// The section.
pub(crate) async fn measure(report: &mut Report, rows: u64) {
    for set in SETS {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source.parquet");
        set.write(rows, &source).await;
        let place = Place {
            set,
            dir: dir.path(),
        };
        let [insert, copy] = place.both(false);
        report.ratio(
            &format!("INSERT of {}", set.name),
            insert.time,
            copy.time,
            Some(0.6),
        );
        report.ratio(
            &format!("INSERT of {}, processor", set.name),
            insert.processor,
            copy.processor,
            None,
        );
        let size = place.size("t/superfiles");
        report.counts(
            &format!("bytes of {}", set.name),
            size,
            place.size("copy.parquet"),
            Some(1.05),
        );
        report.counts("  peak of memory", insert.memory, MEMORY, Some(1.0));
        let [table, file] = place.scans();
        report.ratio(
            &format!("full scan of {}, processor", set.name),
            table.processor,
            file.processor,
            Some(0.75),
        );
        let [insert, copy] = place.both(true);
        report.ratio(
            &format!("INSERT WITH ORDER of {}", set.name),
            insert.time,
            copy.time,
            Some(1.5),
        );
        report.counts("  peak of memory", insert.memory, MEMORY, Some(1.0));
    }
}

/// Where a data set lies.
struct Place<'a> {
    set: Set,
    dir: &'a Path,
}

impl Place<'_> {
    fn source(&self) -> String {
        let dir = self.dir.display();
        format!("CREATE EXTERNAL TABLE source STORED AS PARQUET LOCATION '{dir}/source.parquet'")
    }

    fn table(&self, order: &str) -> String {
        let (columns, dir) = (self.set.columns, self.dir.display());
        format!(
            "CREATE EXTERNAL TABLE t ({columns}) STORED AS SUPERTABLE LOCATION '{dir}/t/' {order}"
        )
    }

    /// INSERT and COPY, in turns.
    fn both(&self, ordered: bool) -> [Cost; 2] {
        let dir = self.dir.display();
        let (order, rows) = match ordered {
            true => (
                format!("WITH ORDER ({})", self.set.order),
                format!("(SELECT * FROM source ORDER BY {})", self.set.order),
            ),
            false => (String::new(), "source".to_owned()),
        };
        let copy = format!("COPY {rows} TO '{dir}/copy.parquet' STORED AS PARQUET");
        let rounds = (0..ROUNDS).map(|_| {
            let _ = std::fs::remove_file(self.dir.join("copy.parquet"));
            let _ = std::fs::remove_dir_all(self.dir.join("t"));
            let copy = child(&[&self.source(), &copy]);
            let insert = "INSERT INTO t SELECT * FROM source";
            [child(&[&self.source(), &self.table(&order), insert]), copy]
        });
        rounds.reduce(least).unwrap()
    }

    /// Reading all of both, in turns.
    fn scans(&self) -> [Cost; 2] {
        let dir = self.dir.display();
        let file =
            format!("CREATE EXTERNAL TABLE f STORED AS PARQUET LOCATION '{dir}/copy.parquet'");
        let rounds = (0..ROUNDS).map(|_| {
            [
                child(&[&self.table(""), "READ SELECT * FROM t"]),
                child(&[&file, "READ SELECT * FROM f"]),
            ]
        });
        rounds.reduce(least).unwrap()
    }

    /// Bytes of a file, or of the files in a directory.
    fn size(&self, name: &str) -> u64 {
        let place = self.dir.join(name);
        let length = |path: &Path| std::fs::metadata(path).unwrap().len();
        match place.is_dir() {
            false => length(&place),
            true => {
                let files = std::fs::read_dir(place).unwrap();
                files.map(|file| length(&file.unwrap().path())).sum()
            }
        }
    }
}

fn least(a: [Cost; 2], b: [Cost; 2]) -> [Cost; 2] {
    [a[0].least(b[0]), a[1].least(b[1])]
}

fn child(statements: &[&str]) -> Cost {
    let output = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, statements.join("\n"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u64> = text
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let [time, processor, memory] = numbers[..] else {
        panic!(
            "{statements:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    Cost {
        time: Duration::from_micros(time),
        processor: Duration::from_millis(processor),
        memory,
    }
}

/// What this process is to run, if it is one of those.
pub(crate) fn statements() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Runs it, and prints what the last statement cost.
pub(crate) async fn serve(statements: &str) {
    let ctx = session();
    let mut statements: Vec<&str> = statements.lines().collect();
    let last = statements.pop().unwrap();
    for statement in statements {
        run(&ctx, statement).await;
    }
    let before = processor_time();
    let (time, ()) = crate::measure::time(run_or_read(&ctx, last)).await;
    let processor = processor_time() - before;
    let memory = peak_memory();
    datafusion_supertable::wait_for_background_work(&ctx).await;
    println!("{} {} {memory}", time.as_micros(), processor.as_millis());
}

async fn run_or_read(ctx: &SessionContext, statement: &str) {
    let Some(query) = statement.strip_prefix(READ) else {
        return run(ctx, statement).await;
    };
    let rows = ctx
        .sql(query)
        .await
        .unwrap()
        .execute_stream_partitioned()
        .await;
    let mut reading = tokio::task::JoinSet::new();
    for mut partition in rows.unwrap() {
        reading.spawn(async move {
            while let Some(batch) = partition.next().await {
                batch.unwrap();
            }
        });
    }
    reading.join_all().await;
}

/// Time that this process took of processors; the kernel counts hundredths of seconds.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Most bytes of memory that this process had.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .unwrap()
        * 1024
}
