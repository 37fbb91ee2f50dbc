//! Real processes that are killed by SIGKILL at each of their storage operations, on the local disk.
//!
//! A child opens a table by SQL, runs a statement, and says so when the statement was acknowledged. Its
//! session finds the table under a scheme of its own, so that every request of the protocol and of the
//! scans goes through a [`FaultStore`] around the real [`LocalStore`]. At the k-th request (before it,
//! in the middle of it, or after it took effect) the child reports where it is and stands still, and
//! the parent kills it.
//!
//! After each kill, in fresh sessions: the table is as before the statement or as after it; what was
//! acknowledged is there; recovery, run twice, does not change that and leaves neither a WAL document nor
//! a staged object nor a temporary file; the next statement works. The second test kills recoveries too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::dml::check::Conditions;
use datafusion_supertable::dml::opaque::Opaque;
use datafusion_supertable::dml::{SupertableProvider, TableAccess};
use datafusion_supertable::format::paths;
use datafusion_supertable::scan::schema::session_schema;
use datafusion_supertable::sql::location::resolve;
use datafusion_supertable::storage::LocalStore;
use datafusion_supertable::table::{Env, Table};
use datafusion_supertable::wal::env::ManualClock;
use tempfile::TempDir;
use url::Url;

use crate::support::child::{Args, Child, report};
use crate::support::fault_store::{Crash, FaultStore, Plan};

/// Of the child: where its session finds the table.
const KILLED: &str = "killed://t/";
/// Set, each operation of each statement is a point of death in three ways, and each one of a recovery.
const THOROUGH: &str = "SUPERTABLE_TEST_THOROUGH";
const ROLE: &str = "kills: run SQL";
const CONTENT: &str = "SELECT id, v, note FROM t ORDER BY id, v, note";
const RECOVER: &str = "SELECT wal_id, action, detail FROM supertable_recover('t')";
/// Changes a row that no other statement deletes, in a superfile that most of them change.
const NEXT: &str = "UPDATE t SET note = 'next' WHERE id = 0";
const OTHERS: &str = "SELECT id, v, note FROM t WHERE id <> 0 ORDER BY id, v, note";

/// None gives the same result when it happens twice.
const STATEMENTS: [(&str, &str); 5] = [
    (
        "UPDATE",
        "UPDATE t SET v = v + 100, note = 'updated ' || note WHERE id % 3 = 1",
    ),
    ("DELETE", "DELETE FROM t WHERE id % 3 = 1 OR id >= 20"),
    (
        "INSERT",
        "INSERT INTO t SELECT id + 100, v, note FROM t WHERE id < 20",
    ),
    (
        "MERGE",
        "MERGE INTO t USING (SELECT id + 15 AS id, v FROM t WHERE id > 0) AS s ON t.id = s.id \
         WHEN MATCHED AND s.id % 2 = 0 THEN DELETE \
         WHEN MATCHED THEN UPDATE SET v = t.v + s.v + 100 \
         WHEN NOT MATCHED THEN INSERT (id, v, note) VALUES (s.id, s.v, 'merged')",
    ),
    (
        "INSERT OVERWRITE",
        "INSERT OVERWRITE t SELECT id, v + 100, note FROM t",
    ),
];

/// By which clock a session judges leases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Time {
    /// The system's. The lease of a process that was just killed is live.
    Now,
    /// One that is so many minutes ahead: leases that were taken by an earlier one have expired.
    Later(u32),
}

/// A session with the table `t`.
struct Session {
    ctx: SessionContext,
    /// The table, unless SQL opened it.
    table: Option<Table>,
}

impl Session {
    async fn open(ctx: SessionContext, location: &str, time: Time) -> Self {
        datafusion_supertable::register(&ctx).unwrap();
        let mut session = Self { ctx, table: None };
        match time {
            Time::Now => {
                let sql =
                    format!("CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{location}'");
                session.run(&sql).await;
            }
            Time::Later(minutes) => {
                let (storage, scan) = resolve(&session.ctx.state(), location).unwrap();
                let system = Env::system();
                let clock = ManualClock::at_ms(system.now_ms());
                clock.advance(TimeDelta::minutes(minutes.into()));
                let env = Env {
                    clock: Arc::new(clock),
                    ids: system.ids,
                };
                let table = Table::open(storage, env).await.unwrap();
                let provider = SupertableProvider::new(TableAccess {
                    table: table.clone(),
                    location: scan,
                    schema: session_schema(&table.metadata().schema),
                    column_defaults: Opaque::new(HashMap::new()),
                    conditions: Conditions::default(),
                    definition: None,
                });
                session.ctx.register_table("t", Arc::new(provider)).unwrap();
                session.table = Some(table);
            }
        }
        session
    }

    /// A session that has nothing to do with a child's.
    async fn fresh(dir: &FsPath, time: Time) -> Self {
        Self::open(context(), &format!("{}/", dir.display()), time).await
    }

    async fn run(&self, sql: &str) -> String {
        let batches = self.ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        if rows == 0 {
            return String::new();
        }
        pretty_format_batches(&batches).unwrap().to_string()
    }

    async fn content(&self) -> String {
        self.run(CONTENT).await
    }

    /// Waits until nothing goes on in the background.
    async fn settle(&self) {
        datafusion_supertable::shutdown(&self.ctx).await;
        if let Some(table) = &self.table {
            table.settle().await;
        }
    }
}

fn context() -> SessionContext {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2))
}

/// Runs `work` on one thread, whose stack has room for planning in a debug build.
fn on_one_thread<F, Fut>(work: F) -> std::thread::Result<Fut::Output>
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output: Send>,
{
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(16 << 20)
            .spawn_scoped(scope, || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(work())
            })
            .unwrap()
            .join()
    })
}

// The child.

/// Role: opens the table, runs a statement, reports `acknowledged`; then every operation it made. At a
/// crash it reports `dying` and the operation instead.
pub fn run_sql(arguments: &Args) {
    let (dir, sql) = (arguments.text(0), arguments.text(1));
    let (at, nth) = (arguments.text(3), arguments.number(4) as u64);
    let crash = match arguments.text(2) {
        "before" => Some(Crash::Before(nth)),
        "during" => Some(Crash::During(nth)),
        "after" => Some(Crash::After(nth)),
        _ => None,
    };
    let time = match arguments.number(5) {
        0 => Time::Now,
        minutes => Time::Later(minutes as u32),
    };
    let plan = Plan::mortal(crash, at, |operation| {
        report(format!("dying {}", operation.describe()));
    });
    let store = FaultStore::new(Arc::new(LocalStore::new(dir).unwrap()), Arc::clone(&plan));
    on_one_thread(|| async {
        let ctx = context();
        ctx.register_object_store(&Url::parse(KILLED).unwrap(), Arc::new(store));
        let session = Session::open(ctx, KILLED, time).await;
        session.run(sql).await;
        report("acknowledged");
        session.settle().await;
    })
    .unwrap();
    for operation in plan.log() {
        report(format!("did {}", operation.describe()));
    }
}

// The parent.

/// What a child is to do, and where it is to be killed.
#[derive(Clone)]
struct Kill {
    sql: &'static str,
    time: Time,
    /// `before`, `during`, `after`; or `never`.
    moment: &'static str,
    /// The description of the operation.
    at: String,
    /// Which of the operations so described, from 1.
    nth: usize,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.moment, self.at, self.nth)
    }
}

/// What is known of a child that has ended.
#[derive(Default)]
struct Death {
    /// Whether it came to the operation at which it was killed.
    killed: bool,
    acknowledged: bool,
    /// The operations of a child that came to its end.
    did: Vec<String>,
}

impl Kill {
    /// A child that nobody kills.
    fn never(sql: &'static str, time: Time) -> Self {
        Self {
            sql,
            time,
            moment: "never",
            at: String::new(),
            nth: 0,
        }
    }

    fn at(&self, moment: &'static str, point: &(String, usize)) -> Self {
        Self {
            moment,
            at: point.0.clone(),
            nth: point.1,
            ..self.clone()
        }
    }

    fn carry_out(&self, dir: &FsPath) -> Death {
        let minutes = match self.time {
            Time::Now => 0,
            Time::Later(minutes) => minutes,
        };
        let arguments = [
            dir.to_str().unwrap(),
            self.sql,
            self.moment,
            &self.at,
            &self.nth.to_string(),
            &minutes.to_string(),
        ];
        let mut child = Child::spawn(ROLE, &arguments);
        let mut death = Death::default();
        while let Some(line) = child.next_report() {
            death.hear(&line);
            if death.killed {
                // What it says until the signal arrives counts.
                child.kill().iter().for_each(|line| death.hear(line));
                return death;
            }
        }
        child.finish();
        assert!(death.acknowledged);
        death
    }
}

impl Death {
    fn hear(&mut self, line: &str) {
        if line == "acknowledged" {
            self.acknowledged = true;
        } else if line.starts_with("dying ") {
            self.killed = true;
        } else if let Some(operation) = line.strip_prefix("did ") {
            self.did.push(operation.to_owned());
        }
    }
}

/// A table of three superfiles, one of which has a sidecar already.
async fn create_base(dir: &FsPath) {
    let session = Session {
        ctx: context(),
        table: None,
    };
    datafusion_supertable::register(&session.ctx).unwrap();
    let location = dir.display();
    session
        .run(&format!(
            "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v BIGINT, note VARCHAR) \
             STORED AS SUPERTABLE LOCATION '{location}/'"
        ))
        .await;
    for first in [0, 10, 20] {
        let rows: Vec<_> = (first..first + 10)
            .map(|id| format!("({id}, {}, 'row {id}')", id * 7))
            .collect();
        session
            .run(&format!("INSERT INTO t VALUES {}", rows.join(", ")))
            .await;
    }
    session.run("DELETE FROM t WHERE id = 5").await;
    session.settle().await;
}

/// What may be there when a statement was killed.
struct Expected {
    before: String,
    after: String,
    /// Files of the base that no later version needs may stay: vacuum removes them.
    files: BTreeSet<PathBuf>,
}

async fn expect(base: &FsPath, sql: &str) -> Expected {
    let dir = TempDir::new().unwrap();
    copy(base, dir.path());
    let session = Session::fresh(dir.path(), Time::Now).await;
    let before = session.content().await;
    session.run(sql).await;
    let after = session.content().await;
    session.settle().await;
    assert_ne!(before, after);
    Expected {
        before,
        after,
        files: files(&base.join("superfiles")),
    }
}

/// Every promise about a table whose writers were killed. Returns whether the statement happened.
async fn check(dir: &FsPath, expected: &Expected, acknowledged: bool) -> bool {
    let one_of_both = |content: &str| {
        assert!(
            content == expected.before || content == expected.after,
            "neither before nor after:\n{content}"
        );
        content == expected.after
    };
    // At once, while the dead process's lease is live. Opening recovers in the background.
    let session = Session::fresh(dir, Time::Now).await;
    let at_once = one_of_both(&session.content().await);
    assert!(at_once || !acknowledged, "acknowledged and not there");
    session.settle().await;
    let settled = one_of_both(&session.content().await);
    assert!(settled || !at_once, "it was there, and went away");

    let session = Session::fresh(dir, Time::Later(60)).await;
    session.run(RECOVER).await;
    session.settle().await;
    let happened = one_of_both(&session.content().await);
    assert!(happened || !settled, "it was there, and went away");
    assert_eq!(session.run(RECOVER).await, "", "left for a second recovery");
    assert_eq!(one_of_both(&session.content().await), happened);
    assert_eq!(files(&dir.join("wal")), BTreeSet::new());
    assert_nothing_staged(dir, expected, session.table.as_ref().unwrap()).await;

    let session = Session::fresh(dir, Time::Now).await;
    assert_eq!(one_of_both(&session.content().await), happened);
    // The manifest's count, and one of the rows that are read.
    let counted = session.run("SELECT count(*) AS n FROM t").await;
    let read = session
        .run("SELECT count(id) AS n FROM t WHERE id >= 0")
        .await;
    assert_eq!(counted, read);
    let others = session.run(OTHERS).await;
    session.run(NEXT).await;
    assert_eq!(session.run(OTHERS).await, others);
    let next = session.run("SELECT note FROM t WHERE id = 0").await;
    assert_eq!(next.matches("next").count(), 1, "{next}");
    assert_eq!(session.run("SELECT count(*) AS n FROM t").await, counted);
    session.settle().await;
    assert_eq!(files(&dir.join("wal")), BTreeSet::new());
    assert_eq!(files(&dir.join(".supertable-local/tmp")), BTreeSet::new());
    happened
}

/// All superfiles and sidecars are the base's or in use, and all in use are there.
async fn assert_nothing_staged(dir: &FsPath, expected: &Expected, table: &Table) {
    let snapshot = table.snapshot().await.unwrap();
    let mut used = BTreeSet::new();
    for entry in snapshot.manifest().entries() {
        used.insert(dir.join(paths::superfile(&entry.id).as_ref()));
        if let Some(tombstones) = &entry.tombstones {
            used.insert(dir.join(paths::sidecar(&tombstones.sidecar).as_ref()));
        }
    }
    let used: BTreeSet<PathBuf> = used
        .into_iter()
        .map(|path| PathBuf::from(path.file_name().unwrap()))
        .collect();
    let found = files(&dir.join("superfiles"));
    assert!(used.is_subset(&found), "missing: {used:?}, {found:?}");
    let left: Vec<_> = found
        .iter()
        .filter(|file| !used.contains(*file) && !expected.files.contains(*file))
        .collect();
    assert!(left.is_empty(), "staged and left: {left:?}");
}

/// The names of all files below a directory, relative to it.
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

/// Runs jobs, three at a time; panics with all failures, each with the directory that shows it.
fn run_all<J: Sync, T: Send>(
    jobs: &[J],
    describe: impl Fn(&J) -> String + Sync,
    run: impl AsyncFn(&J, &FsPath) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let (results, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::<String>::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let dir = TempDir::new().unwrap();
                    match on_one_thread(|| run(job, dir.path())) {
                        Ok(result) => results.lock().unwrap().push(result),
                        Err(panic) => {
                            let why = panic
                                .downcast_ref::<String>()
                                .cloned()
                                .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                            let dir = dir.keep();
                            let failure = format!("{} {why:?} {}", describe(job), dir.display());
                            failures.lock().unwrap().push(failure);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    results.into_inner().unwrap()
}

/// Runs a child that nobody kills. Its operations: description, and which of those so described.
fn operations_of(base: &FsPath, never: &Kill) -> Vec<(String, usize)> {
    let dir = TempDir::new().unwrap();
    copy(base, dir.path());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let operations = never.carry_out(dir.path()).did.into_iter();
    operations
        .map(|at| {
            let nth = seen.entry(at.clone()).or_default();
            *nth += 1;
            (at, *nth)
        })
        .collect()
}

fn changes_something(at: &str) -> bool {
    !["get ", "head ", "list "]
        .iter()
        .any(|read| at.starts_with(read))
}

#[test]
fn a_process_killed_at_any_storage_operation_leaves_all_or_nothing() {
    let thorough = std::env::var_os(THOROUGH).is_some();
    let base = TempDir::new().unwrap();
    on_one_thread(|| create_base(base.path())).unwrap();
    let mut jobs = Vec::new();
    let mut expected = Vec::new();
    for (number, (_, sql)) in STATEMENTS.into_iter().enumerate() {
        expected.push(on_one_thread(|| expect(base.path(), sql)).unwrap());
        let never = Kill::never(sql, Time::Now);
        let operations = operations_of(base.path(), &never);
        for (i, point) in operations.iter().enumerate() {
            let moments = ["before", "during", "after"];
            let changes = changes_something(&point.0);
            let some = match number {
                _ if thorough => 0..3,
                // Of an UPDATE, each operation.
                0 if changes => 0..3,
                0 => i % 3..i % 3 + 1,
                _ if changes => i % 3..i % 3 + 1,
                _ => 0..0,
            };
            for moment in &moments[some] {
                jobs.push((number, never.at(moment, point)));
            }
        }
    }
    let deaths = run_all(
        &jobs,
        |(number, kill)| format!("{}, {kill}:", STATEMENTS[*number].0),
        async |(number, kill), dir| {
            copy(base.path(), dir);
            let death = kill.carry_out(dir);
            // How many reads there are varies.
            assert!(
                death.killed || !changes_something(&kill.at),
                "came to its end"
            );
            let happened = check(dir, &expected[*number], death.acknowledged).await;
            (*number, kill.clone(), death, happened)
        },
    );
    for (number, (name, _)) in STATEMENTS.into_iter().enumerate() {
        let of = || {
            deaths
                .iter()
                .filter(|(n, _, death, _)| *n == number && death.killed)
        };
        let happened = of().filter(|(.., happened)| *happened).count();
        let acknowledged = of().filter(|(_, _, death, _)| death.acknowledged).count();
        println!(
            "{name}: killed {} times; it happened {happened} times, {acknowledged} acknowledged",
            of().count()
        );
        let mut points: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, kill, ..) in of() {
            *points.entry(&kill.at).or_default() += 1;
        }
        println!("  {points:?}");
        assert!(happened > 0 && happened < of().count(), "{name}");
    }
}

#[test]
fn a_recovery_killed_again_and_again_leaves_all_or_nothing() {
    let at_most = match std::env::var_os(THOROUGH) {
        Some(_) => usize::MAX,
        None => 6,
    };
    let base = TempDir::new().unwrap();
    on_one_thread(|| create_base(base.path())).unwrap();
    let (_, sql) = STATEMENTS[0];
    let expected = on_one_thread(|| expect(base.path(), sql)).unwrap();
    // Where the first process dies: what it staged has no end; to be committed; committed; COMPLETE.
    let first_deaths = [
        ("before", "put change set"),
        ("before", "put pointer"),
        ("after", "put pointer"),
        ("before", "delete change set"),
    ];
    let mut left = Vec::new();
    let mut jobs = Vec::new();
    for (number, (moment, at)) in first_deaths.into_iter().enumerate() {
        let dir = TempDir::new().unwrap();
        copy(base.path(), dir.path());
        let kill = Kill::never(sql, Time::Now).at(moment, &(at.to_owned(), 1));
        let death = kill.carry_out(dir.path());
        assert!(death.killed);
        let recover = Kill::never(RECOVER, Time::Later(10));
        let once_more = Kill::never(RECOVER, Time::Later(20));
        let operations = operations_of(dir.path(), &recover);
        println!(
            "killed {kill}: its recovery takes {} operations",
            operations.len()
        );
        left.push((dir, death.acknowledged));
        let step = operations.len().div_ceil(at_most);
        for (i, point) in operations.iter().enumerate().step_by(step) {
            let moments = ["before", "during", "after"];
            let other = &operations[(i * 7 + 3) % operations.len()];
            jobs.push((
                number,
                recover.at(moments[i % 3], point),
                once_more.at(moments[(i + 1) % 3], other),
            ));
        }
    }
    let killed = run_all(
        &jobs,
        |(number, first, second)| format!("{:?}, {first}, {second}:", first_deaths[*number]),
        async |(number, first, second), dir| {
            let (from, acknowledged) = &left[*number];
            copy(from.path(), dir);
            let mut killed = usize::from(first.carry_out(dir).killed);
            // Two at once: one is killed, the other comes to its end.
            std::thread::scope(|scope| {
                scope.spawn(|| Kill::never(RECOVER, second.time).carry_out(dir));
                killed += usize::from(second.carry_out(dir).killed);
            });
            let happened = check(dir, &expected, *acknowledged).await;
            // Before it is APPENDED it cannot happen, and from then on it must.
            assert_eq!(happened, *number > 0, "a recovery decided otherwise");
            killed
        },
    );
    println!(
        "{} recoveries killed in {} tables",
        killed.iter().sum::<usize>(),
        killed.len()
    );
}
