//! Real processes that are killed by SIGKILL at each storage operation of a compaction or a vacuum.
//!
//! The child is that of `kills`: it runs SQL on a local table through a store that reports where it is and
//! stands still. Neither function changes what the table holds, so after each kill the rows are the same:
//! at once, after recovery, and after a vacuum that leaves nothing but what the current version needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::dml::SupertableProvider;
use datafusion_supertable::format::paths;
use tempfile::TempDir;

use crate::support::child::Child;

/// The role of a child, as `kills` names it.
const ROLE: &str = "kills: run SQL";
const OPTIMIZE: &str = "SELECT * FROM supertable_optimize('t')";
const VACUUM: &str = "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0 days')";
/// Set, each operation is a point of death in three ways.
const THOROUGH: &str = "SUPERTABLE_TEST_THOROUGH";

struct Session(SessionContext);

impl Session {
    fn new() -> Self {
        let config = SessionConfig::new().with_target_partitions(2);
        let session = Self(SessionContext::new_with_config(config));
        datafusion_supertable::register(&session.0).unwrap();
        session
    }

    async fn open(dir: &FsPath) -> Self {
        let session = Self::new();
        session
            .run(&format!(
                "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{}/'",
                dir.display()
            ))
            .await;
        session
    }

    async fn run(&self, sql: &str) -> String {
        let batches = self.0.sql(sql).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    }

    async fn content(&self) -> String {
        self.run("SELECT id, v FROM t ORDER BY id, v").await
    }

    async fn settle(&self) {
        datafusion_supertable::shutdown(&self.0).await;
    }

    /// The files that the current version needs.
    async fn needed(&self) -> BTreeSet<PathBuf> {
        let provider = self.0.table_provider("t").await.unwrap();
        let provider = provider.downcast_ref::<SupertableProvider>().unwrap();
        let snapshot = provider.table().snapshot().await.unwrap();
        let mut needed = vec![paths::pointer(), paths::manifest_node(&snapshot.root())];
        for group in snapshot.manifest().groups() {
            needed.push(paths::manifest_node(&group.hash().unwrap()));
            for leaf in group.leaves() {
                needed.push(paths::manifest_node(&leaf.hash().unwrap()));
            }
        }
        for entry in snapshot.manifest().entries() {
            needed.push(paths::superfile(&entry.id));
            needed.extend(entry.tombstones.map(|t| paths::sidecar(&t.sidecar)));
        }
        needed
            .iter()
            .map(|path| PathBuf::from(path.as_ref()))
            .collect()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(16 << 20)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A table of five superfiles, two of which have sidecars, with a history behind them.
async fn create_base(dir: &FsPath) {
    let session = Session::new();
    session
        .run(&format!(
            "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v BIGINT) STORED AS SUPERTABLE LOCATION '{}/'",
            dir.display()
        ))
        .await;
    for first in [0, 10, 20] {
        session
            .run(&format!(
                "INSERT INTO t SELECT value, value * 7 FROM generate_series({first}, {first} + 9) AS g(value)"
            ))
            .await;
    }
    session.run("DELETE FROM t WHERE id IN (5, 6)").await;
    session.run("UPDATE t SET v = -1 WHERE id IN (7, 17)").await;
    session.run("UPDATE t SET v = -2 WHERE id IN (7, 18)").await;
    session.settle().await;
}

fn files(dir: &FsPath) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found
}

fn copy(from: &FsPath, to: &FsPath) {
    for file in files(from) {
        let target = to.join(&file);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(from.join(&file), target).unwrap();
    }
}

/// Runs `sql` in a child that dies at the `nth` operation described as `at`. Whether it died, and what it did.
fn child(dir: &FsPath, sql: &str, moment: &str, at: &str, nth: usize) -> (bool, Vec<String>) {
    let arguments = [
        dir.to_str().unwrap(),
        sql,
        moment,
        at,
        &nth.to_string(),
        "0",
    ];
    let mut child = Child::spawn(ROLE, &arguments);
    let mut did = Vec::new();
    while let Some(line) = child.next_report() {
        if line.starts_with("dying ") {
            child.kill();
            return (true, did);
        }
        did.extend(line.strip_prefix("did ").map(str::to_owned));
    }
    child.finish();
    (false, did)
}

/// Every promise about a table whose compaction or vacuum was killed.
async fn check(dir: &FsPath, expected: &str) {
    for _ in 0..2 {
        let session = Session::open(dir).await;
        assert_eq!(session.content().await, expected);
        session.settle().await;
        assert_eq!(session.content().await, expected);
        let missing: Vec<_> = session
            .needed()
            .await
            .difference(&files(dir))
            .cloned()
            .collect();
        assert!(missing.is_empty(), "missing: {missing:?}");
    }
    let session = Session::open(dir).await;
    // The dead process's lease is live for a while: what it staged stays, and nothing else.
    session.run(VACUUM).await;
    session.settle().await;
    assert_eq!(session.content().await, expected);
    session.run(OPTIMIZE).await;
    assert_eq!(session.content().await, expected);
    session.run("UPDATE t SET v = 5 WHERE id = 0").await;
    let count = session.run("SELECT count(*) FROM t WHERE v = 5").await;
    assert!(count.contains("| 1 "), "{count}");
    session.settle().await;
    let missing: Vec<_> = session
        .needed()
        .await
        .difference(&files(dir))
        .cloned()
        .collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

fn kill_everywhere(sql: &'static str) {
    let thorough = std::env::var_os(THOROUGH).is_some();
    let base = TempDir::new().unwrap();
    let expected = block_on(async {
        create_base(base.path()).await;
        let session = Session::open(base.path()).await;
        let expected = session.content().await;
        session.settle().await;
        expected
    });
    let dir = TempDir::new().unwrap();
    copy(base.path(), dir.path());
    let (_, did) = child(dir.path(), sql, "never", "", 0);
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut jobs = Vec::new();
    for (i, at) in did.iter().enumerate() {
        let nth = seen.entry(at).or_default();
        *nth += 1;
        let changes = !["get ", "head ", "list "]
            .iter()
            .any(|read| at.starts_with(read));
        let moments = ["before", "during", "after"];
        let some = match changes {
            _ if thorough => 0..3,
            true => i % 3..i % 3 + 1,
            // Reads change nothing: some of them.
            false if i % 5 == 0 => i % 3..i % 3 + 1,
            false => 0..0,
        };
        jobs.extend(
            moments[some]
                .iter()
                .map(|moment| (*moment, at.clone(), *nth)),
        );
    }
    let (next, killed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((moment, at, nth)) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let dir = TempDir::new().unwrap();
                    let run = std::panic::AssertUnwindSafe(|| {
                        copy(base.path(), dir.path());
                        let (died, _) = child(dir.path(), sql, moment, at, *nth);
                        killed.fetch_add(usize::from(died), Ordering::SeqCst);
                        block_on(check(dir.path(), &expected));
                    });
                    if std::panic::catch_unwind(run).is_err() {
                        let kept = dir.keep();
                        let failure = format!("{moment} {at} {nth}: {}", kept.display());
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!(
        "killed {} times of {}: {seen:?}",
        killed.into_inner(),
        jobs.len()
    );
}

#[test]
fn a_compaction_killed_at_any_storage_operation_changes_no_row() {
    kill_everywhere(OPTIMIZE);
}

#[test]
fn a_vacuum_killed_at_any_storage_operation_changes_no_row() {
    kill_everywhere(VACUUM);
}
