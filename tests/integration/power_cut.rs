//! Loss of power: what is acknowledged was synced, content and name, before it was.
//!
//! A child runs statements of every kind on a table in a local directory, under strace. From the trace of its system
//! calls follows what the disk holds if the power goes off at any moment (`support::disk_model`). After each
//! acknowledgement, and at moments between, that disk is made, in the ways in which what was not synced may
//! be lost; the table on it must open, and have all that was acknowledged, and of the statement under way all or
//! nothing.
//!
//! Without strace, or where it may not trace, the test says so and does nothing.

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use crate::support::child::{Args, Child, report};
use crate::support::disk_model::{Disk, Rest};
use crate::support::kill::{run_all, thorough};
use crate::support::killed_table::RECOVER;
use crate::support::session::{Session, Time, on_one_thread};
use crate::support::sql::context;
use crate::support::trace::{self, Event};

const ROLE: &str = "power cut: run statements";
const CONTENT: &str = "SELECT * FROM t ORDER BY id";

/// Moments between acknowledgements at which the power goes off.
const MOMENTS: usize = 36;

/// The first creates the table.
const STATEMENTS: [&str; 12] = [
    "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v BIGINT) STORED AS SUPERTABLE LOCATION '__TABLE__/'",
    "INSERT INTO t SELECT value, value * 7 FROM generate_series(0, 19) AS g(value)",
    "INSERT INTO t SELECT value, value * 7 FROM generate_series(20, 39) AS g(value)",
    "UPDATE t SET v = v + 1 WHERE id % 3 = 1",
    "DELETE FROM t WHERE id % 5 = 1",
    "MERGE INTO t USING (SELECT id + 30 AS id, v FROM t) AS s ON t.id = s.id \
     WHEN MATCHED THEN UPDATE SET v = t.v + s.v WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v)",
    "SELECT * FROM supertable_optimize('t')",
    "SELECT * FROM supertable_restore('t', 4)",
    "SELECT * FROM supertable_alter('t', 'ADD COLUMN w BIGINT DEFAULT 5')",
    "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0 days')",
    "TRUNCATE TABLE t",
    "INSERT INTO t (id, v) VALUES (1, 1)",
];

/// Role: runs the statements on a table in a directory, and reports each when it is acknowledged.
pub(crate) fn run_statements(arguments: &Args) {
    let table = arguments.text(0);
    on_one_thread(|| async {
        let session = Session::bare(context());
        for (number, sql) in STATEMENTS.iter().enumerate() {
            session.run(&sql.replace("__TABLE__", table)).await;
            report(format!("acknowledged {number}"));
        }
        session.settle().await;
        report("settled");
    })
    .unwrap();
}

/// What the table holds after each statement.
async fn contents() -> Vec<String> {
    let dir = TempDir::new().unwrap();
    let table = dir.path().join("t").display().to_string();
    let session = Session::bare(context());
    let mut contents = Vec::new();
    for sql in STATEMENTS {
        session.run(&sql.replace("__TABLE__", &table)).await;
        let fresh = Session::fresh(Path::new(&table), Time::Now).await;
        contents.push(fresh.run(CONTENT).await);
        fresh.settle().await;
    }
    session.settle().await;
    contents
}

/// The power goes off.
struct Cut {
    /// After so many events.
    event: usize,
    /// So many statements were acknowledged.
    acknowledged: usize,
    /// In which way what was not synced is lost.
    way: usize,
    disk: Disk,
}

fn cuts(events: &[Event]) -> Vec<Cut> {
    let last = events
        .iter()
        .rposition(|event| matches!(event, Event::Said(text) if text.contains("acknowledged")))
        .unwrap();
    let step = match thorough() {
        true => 1,
        false => last.div_ceil(MOMENTS).max(1),
    };
    let mut disk = Disk::default();
    let (mut acknowledged, mut cuts) = (0, Vec::new());
    for (number, event) in events.iter().enumerate() {
        disk.apply(event);
        let says = matches!(event, Event::Said(text) if text.contains("acknowledged"));
        acknowledged += usize::from(says);
        let ways = match (says, number % step) {
            (true, _) => 0..3,
            (_, 0) if thorough() => 0..3,
            (_, 0) => number / step % 3..number / step % 3 + 1,
            _ => 0..0,
        };
        cuts.extend(ways.map(|way| Cut {
            event: number,
            acknowledged,
            way,
            disk: disk.clone(),
        }));
    }
    cuts
}

/// Everything that must hold of the table on a disk that is left. Whether there is a table.
async fn check(dir: &Path, acknowledged: usize, contents: &[String]) -> bool {
    let table = dir.join("t");
    if acknowledged == 0 && !table.join("_supertable/current").exists() {
        return false;
    }
    let session = Session::fresh(&table, Time::Later(60)).await;
    session.run(RECOVER).await;
    session.settle().await;
    let found = Session::fresh(&table, Time::Later(60)).await;
    let content = found.run(CONTENT).await;
    let last = acknowledged.checked_sub(1);
    let allowed = [last, Some(acknowledged)];
    let allowed: Vec<&String> = allowed
        .into_iter()
        .flatten()
        .filter_map(|number| contents.get(number))
        .collect();
    assert!(
        allowed.contains(&&content),
        "{content}, not one of {allowed:?}"
    );
    assert_eq!(found.run(RECOVER).await, "", "left for a second recovery");
    found.settle().await;
    let next = Session::fresh(&table, Time::Now).await;
    next.run("INSERT INTO t (id, v) VALUES (99999, 7)").await;
    let rows = next.run("SELECT v FROM t WHERE id = 99999").await;
    assert_eq!(rows.matches("| 7 ").count(), 1, "{rows}");
    next.settle().await;
    true
}

/// Whether the table on the disk that `events` leave, all of them, has what was acknowledged.
fn survives(events: &[Event], root: &Path, contents: &[String]) -> bool {
    let mut disk = Disk::default();
    events.iter().for_each(|event| disk.apply(event));
    let dir = TempDir::new().unwrap();
    disk.cut_power(root, dir.path(), Rest::Lost);
    on_one_thread(|| check(dir.path(), STATEMENTS.len(), contents)).is_ok_and(|there| there)
}

/// Names that nobody misses.
fn is_private(path: &Path) -> bool {
    path.components()
        .any(|part| part.as_os_str() == ".supertable-local")
}

#[test]
fn a_power_cut_at_any_moment_leaves_all_that_was_acknowledged() {
    if !trace::is_possible() {
        println!("SKIPPED: there is no strace that may trace (apt-get install strace)");
        return;
    }
    let root = TempDir::new().unwrap();
    let output = TempDir::new().unwrap();
    let output = output.path().join("trace").display().to_string();
    let table = root.path().join("t").display().to_string();
    let child = Child::spawn_below(&trace::command(&output), ROLE, &[&table]);
    let said = child.finish();
    assert_eq!(said.len(), STATEMENTS.len() + 1);
    let text = std::fs::read_to_string(&output).unwrap();
    let events = trace::events(&text, root.path().to_str().unwrap());
    let contents = on_one_thread(contents).unwrap();

    // At rest everything is durable, the absence of what was deleted included.
    let mut disk = Disk::default();
    events.iter().for_each(|event| disk.apply(event));
    let unsynced: Vec<PathBuf> = disk.unsynced(is_private).into_iter().collect();
    assert_eq!(unsynced, Vec::<PathBuf>::new());
    // The model is the truth: it has what the directory has.
    let model = TempDir::new().unwrap();
    disk.cut_power(root.path(), model.path(), Rest::Lost);
    let shown = |dir: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        crate::support::disk::files(dir)
            .into_iter()
            .filter(|path| !is_private(path))
            .map(|path| (path.clone(), std::fs::read(dir.join(path)).unwrap()))
            .collect()
    };
    assert!(shown(model.path()) == shown(root.path()));

    // Would it be noticed if syncs were missing? Those of files, those of directories.
    assert!(survives(&events, root.path(), &contents));
    for of_files in [true, false] {
        let mut left_out = Vec::new();
        let mut disk = Disk::default();
        for event in &events {
            if let Event::SyncBegan(number, path) = event
                && disk.is_file(path) == of_files
            {
                left_out.push(*number);
            }
            disk.apply(event);
        }
        let less: Vec<Event> = events
            .iter()
            .filter(|event| {
                !matches!(event, Event::SyncBegan(number, _) | Event::SyncEnded(number)
                    if left_out.contains(number))
            })
            .cloned()
            .collect();
        assert!(!survives(&less, root.path(), &contents));
    }

    let cuts = cuts(&events);
    let tables = run_all(
        &cuts,
        |cut| format!("event {} of {}, way {}:", cut.event, events.len(), cut.way),
        async |cut, dir| {
            let mut rng = StdRng::seed_from_u64(cut.event as u64);
            let rest = match cut.way {
                0 => Rest::Lost,
                1 => Rest::NamesOnly,
                _ => Rest::AtRandom(&mut rng),
            };
            cut.disk.cut_power(root.path(), dir, rest);
            check(dir, cut.acknowledged, &contents).await
        },
    );
    println!(
        "{} events; the power was cut {} times, and there was a table {} times",
        events.len(),
        tables.len(),
        tables.iter().filter(|there| **there).count()
    );
}
