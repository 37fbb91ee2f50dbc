//! Too little room: a full disk in the middle of any statement, statements that are cancelled at any moment,
//! thousands of superfiles with few file descriptors.

use std::collections::BTreeSet;
use std::path::Path as FsPath;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::unstable::format::paths;
use datafusion_supertable::unstable::storage::{RetryPolicy, Storage};
use datafusion_supertable::unstable::table::{Limits, Snapshot, Table, VacuumOptions};
use datafusion_supertable::unstable::wal::{Env, ManualClock};
use datafusion_supertable::{Error, ErrorKind};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio::runtime::Handle;

use crate::support::child::{self, Args, Child};
use crate::support::fault_store::Plan;
use crate::support::sql::{on_store, show as run, try_show as try_run};

const CREATE: &str = "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR) \
                      STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'";

/// Every kind of statement that writes.
const STATEMENTS: [&str; 12] = [
    "INSERT INTO t VALUES (1000, 'new')",
    "INSERT OVERWRITE t SELECT id, v FROM t WHERE id < 10",
    "DELETE FROM t WHERE id % 3 = 0",
    "DELETE FROM t",
    "UPDATE t SET v = v || '!' WHERE id % 4 = 1",
    "MERGE INTO t USING (VALUES (7, 'merged'), (2000, 'new')) AS s(k, w) ON t.id = s.k \
     WHEN MATCHED THEN UPDATE SET v = s.w WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.k, s.w)",
    "TRUNCATE TABLE t",
    "SELECT * FROM supertable_alter('t', 'ADD COLUMN x INT')",
    "SELECT * FROM supertable_restore('t', 2)",
    "SELECT * FROM supertable_optimize('t')",
    "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0' SECOND)",
    "SELECT * FROM supertable_recover('t')",
];

const OPEN: &str = "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'";

/// A process with a session of its own on the table in `store`.
async fn session(store: &Arc<InMemory>, plan: &Arc<Plan>) -> SessionContext {
    let ctx = on_store(store, plan);
    run(&ctx, OPEN).await;
    ctx
}

/// A table of a few superfiles, of which some rows are deleted and some changed.
async fn table() -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let ctx = on_store(&store, &Plan::healthy());
    for sql in [
        CREATE,
        "INSERT INTO t SELECT value, 'v' || value FROM range(0, 40)",
        "INSERT INTO t SELECT value, 'v' || value FROM range(40, 60)",
        "DELETE FROM t WHERE id IN (3, 4, 50)",
        "UPDATE t SET v = 'w' WHERE id = 41",
    ] {
        run(&ctx, sql).await;
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    store
}

/// The rows, as a process that has just begun sees them.
async fn rows(store: &Arc<InMemory>) -> String {
    let ctx = session(store, &Plan::healthy()).await;
    let rows = run(&ctx, "SELECT * FROM t ORDER BY id").await;
    datafusion_supertable::wait_for_background_work(&ctx).await;
    rows
}

/// Recovers the table when every lease has expired, and checks that nothing is there that no version ever had;
/// then removes what nothing needs, and checks that only what the current version consists of is left.
/// `base`: what was there before the statement.
async fn nothing_is_left(base: &Arc<InMemory>, store: &Arc<InMemory>, of: &str) {
    let clock = ManualClock::at_ms(chrono::Utc::now().timestamp_millis());
    clock.advance(TimeDelta::days(30));
    let storage = Storage::new(
        Arc::clone(store) as Arc<dyn ObjectStore>,
        &Path::from("t"),
        RetryPolicy::default(),
    );
    let limits = Limits {
        lease: TimeDelta::milliseconds(50),
        ..Limits::default()
    };
    let table = Table::open_with(storage, Env::seeded(99, clock.clone()), limits)
        .await
        .unwrap();
    for _ in 0..2 {
        let report = table.recover().await.unwrap();
        assert!(report.failed.is_empty(), "{of}: {report:?}");
        table.settle().await;
        // Before any vacuum: without a retention it would remove what a statement has leaked, too.
        let mut known = beside_metadata(base).await;
        for version in 1..=table.snapshot().await.unwrap().version() {
            if let Ok(Some(snapshot)) = table.snapshot_at(version).await {
                known.extend(needed_by(&snapshot));
            }
        }
        let found = beside_metadata(store).await;
        let leaked: Vec<_> = found.difference(&known).collect();
        assert!(leaked.is_empty(), "{of}: in no version: {leaked:?}");
        clock.advance(TimeDelta::days(30));
        let options = VacuumOptions {
            retain: Duration::ZERO,
            dry_run: false,
        };
        table.vacuum(options).await.unwrap();
        table.settle().await;
    }
    let needed = needed_by(&table.snapshot().await.unwrap());
    assert_eq!(beside_metadata(store).await, needed, "{of}");
}

/// The superfiles and sidecars of a version.
fn needed_by(snapshot: &Snapshot) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    for entry in snapshot.manifest().entries() {
        needed.insert(paths::superfile(&entry.id).to_string());
        if let Some(tombstones) = &entry.tombstones {
            needed.insert(paths::sidecar(&tombstones.sidecar).to_string());
        }
    }
    needed
}

/// All objects of the table that are not pointer or manifest.
async fn beside_metadata(store: &Arc<InMemory>) -> BTreeSet<String> {
    let objects = store.list(Some(&Path::from("t")));
    let paths: Vec<_> = objects
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap();
    paths
        .into_iter()
        .filter_map(|path| path.strip_prefix("t/").map(str::to_owned))
        .filter(|path| !path.starts_with("_supertable/"))
        .collect()
}

const SMALL_SUPERFILES: &str = "SET supertable.target_file_rows = 1000";

/// `t` has many superfiles of 1,000 rows, and conditions.
async fn table_with_conditions() -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let ctx = on_store(&store, &Plan::healthy());
    for sql in [
        SMALL_SUPERFILES,
        "CREATE EXTERNAL TABLE t (id BIGINT PRIMARY KEY, v BIGINT) STORED AS SUPERTABLE \
         LOCATION 'mem://bucket/t/' \
         OPTIONS ('supertable.check.small' 'v < 29000')",
        "INSERT INTO t SELECT value, value AS v FROM range(0, 28000)",
    ] {
        run(&ctx, sql).await;
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    store
}

#[tokio::test]
async fn a_statement_that_fails_after_many_superfiles_takes_all_of_them_back() {
    let base = table_with_conditions().await;
    let there = beside_metadata(&base).await;
    let merge = "MERGE INTO t USING (SELECT value AS k FROM range(0, 60000)) AS s ON t.id = s.k";
    let violate = [
        // CHECK, NOT NULL, and a failure of the query.
        "INSERT INTO t SELECT value, value AS v FROM range(0, 30000)",
        "INSERT INTO t SELECT NULLIF(value, 29000), 1 FROM range(0, 30000)",
        "INSERT INTO t SELECT value, 1 / (29000 - value) FROM range(0, 30000)",
        "INSERT OVERWRITE t SELECT value, value AS v FROM range(0, 30000)",
        "UPDATE t SET v = v + 1500",
        "UPDATE t SET id = NULLIF(id, 27000)",
        "UPDATE t SET v = 1 / (27000 - id)",
        // A key that is there, and one that would be there twice.
        "INSERT INTO t SELECT value + 27999, 1 FROM range(0, 30000)",
        "UPDATE t SET id = id % 27500",
        &format!(
            "{merge} WHEN MATCHED THEN UPDATE SET v = 0 WHEN NOT MATCHED THEN INSERT (id, v) VALUES (NULLIF(s.k, 59000), 0)"
        ),
        &format!("{merge} WHEN MATCHED THEN UPDATE SET id = NULLIF(t.id, 27000)"),
    ];
    for sql in violate {
        let store = Arc::new(base.fork());
        let plan = Plan::healthy();
        let ctx = session(&store, &plan).await;
        run(&ctx, SMALL_SUPERFILES).await;
        // The row that fails comes last.
        run(&ctx, "SET datafusion.execution.target_partitions = 1").await;
        run(&ctx, "SET datafusion.execution.batch_size = 500").await;
        let error = try_run(&ctx, sql).await.expect_err(sql);
        datafusion_supertable::wait_for_background_work(&ctx).await;
        let log = plan.log();
        let written = log.iter().filter(|o| o.describe() == "put superfile");
        assert!(written.count() > 0, "{sql} fails too early: {error}");
        // At once, by the statement itself.
        assert_eq!(beside_metadata(&store).await, there, "{sql}");
        nothing_is_left(&base, &store, sql).await;
    }
    for sql in [
        "SELECT * FROM supertable_optimize('t')",
        "UPDATE t SET v = 0",
    ] {
        let store = Arc::new(base.fork());
        let plan = Plan::full_from(5);
        let ctx = session(&store, &plan).await;
        run(&ctx, "SET supertable.target_file_rows = 4000").await;
        try_run(&ctx, sql).await.expect_err(sql);
        datafusion_supertable::wait_for_background_work(&ctx).await;
        assert_eq!(beside_metadata(&store).await, there, "{sql}");
        nothing_is_left(&base, &store, sql).await;
    }
}

#[tokio::test]
async fn a_disk_that_gets_full_in_the_middle_of_any_statement_leaves_the_table_as_it_was() {
    let base = table().await;
    let before = rows(&base).await;
    let mut failures = 0;
    for sql in STATEMENTS {
        let healthy = Arc::new(base.fork());
        let ctx = session(&healthy, &Plan::healthy()).await;
        run(&ctx, sql).await;
        datafusion_supertable::wait_for_background_work(&ctx).await;
        let after = rows(&healthy).await;
        for n in 1.. {
            let of = format!("{sql}, full from write {n} on");
            let store = Arc::new(base.fork());
            let plan = Plan::full_from(n);
            let ctx = session(&store, &plan).await;
            let outcome = try_run(&ctx, sql).await;
            datafusion_supertable::wait_for_background_work(&ctx).await;
            let now = rows(&store).await;
            match &outcome {
                Ok(_) => assert_eq!(now, after, "{of}"),
                Err(error) => {
                    failures += 1;
                    let text = error.to_string();
                    assert!(text.contains("No space left on device"), "{of}: {text}");
                    let ours = Error::find_in(error).unwrap_or_else(|| panic!("{of}: {error:?}"));
                    if ours.kind() != ErrorKind::OutcomeUnknown {
                        assert_eq!(ours.kind(), ErrorKind::Storage, "{of}: {text}");
                        assert_eq!(now, before, "{of}: {text}");
                    }
                }
            }
            let was_full = plan.found_full() > 0;
            // The same process goes on once there is room.
            plan.make_room();
            // An ALTER whose outcome was unknown may be in force by now; this learns of it.
            let _ = try_run(&ctx, "SELECT count(*) FROM t WHERE id < 0").await;
            run(&ctx, "INSERT INTO t (id, v) VALUES (9999, 'later')").await;
            run(&ctx, "DELETE FROM t WHERE id = 9999").await;
            datafusion_supertable::wait_for_background_work(&ctx).await;
            nothing_is_left(&base, &store, &of).await;
            let at_last = rows(&store).await;
            match &outcome {
                Ok(_) => assert_eq!(at_last, after, "{of}"),
                Err(error) => match Error::find_in(error).unwrap().kind() {
                    ErrorKind::OutcomeUnknown => {
                        assert!([&before, &after].contains(&&at_last), "{of}");
                    }
                    _ => assert_eq!(at_last, before, "{of}"),
                },
            }
            if !was_full {
                break;
            }
        }
    }
    assert!(failures > 30, "{failures}");
}

/// A file system of its own, in memory and of a fixed size; gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn new(kilobytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                eprintln!("not tested: a file system cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &FsPath {
        self.0.path()
    }

    /// Makes everything on it immutable, or mutable again.
    fn remount(&self, how: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(self.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

async fn on_disk(dir: &FsPath) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_supertable::register(&ctx).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR) STORED AS SUPERTABLE \
         LOCATION '{}/t/'",
        dir.display()
    );
    run(&ctx, &create).await;
    ctx
}

#[tokio::test]
async fn a_real_disk_that_is_full_fails_the_statement_and_serves_the_next_one_when_there_is_room() {
    let Some(disk) = SmallDisk::new(2048) else {
        return;
    };
    let ctx = on_disk(disk.path()).await;
    run(
        &ctx,
        "INSERT INTO t SELECT value, 'v' || value FROM range(0, 100)",
    )
    .await;
    let before = run(&ctx, "SELECT * FROM t ORDER BY id").await;
    // Random text does not compress: this takes more than there is.
    let large = "INSERT INTO t SELECT value, CAST(uuid() AS VARCHAR) || CAST(uuid() AS VARCHAR) \
                 FROM range(0, 100000)";
    let ballast = disk.path().join("ballast");
    for sql in [
        large,
        "UPDATE t SET v = CAST(uuid() AS VARCHAR) || v",
        "DELETE FROM t WHERE id % 2 = 0",
    ] {
        if sql != large {
            let mut size = 2 << 20;
            while size > 0 {
                // As much as there is, to the last page.
                let _ = std::fs::write(&ballast, vec![0; size]);
                size = match std::fs::write(disk.path().join("probe"), [0; 1]) {
                    Ok(()) => break,
                    Err(_) => 0,
                };
            }
        }
        let error = try_run(&ctx, sql).await.unwrap_err();
        assert!(
            error.to_string().contains("No space left on device"),
            "{sql}: {error}"
        );
        assert_eq!(run(&ctx, "SELECT * FROM t ORDER BY id").await, before);
        let _ = std::fs::remove_file(&ballast);
        let _ = std::fs::remove_file(disk.path().join("probe"));
        datafusion_supertable::wait_for_background_work(&ctx).await;
    }
    run(&ctx, "INSERT INTO t VALUES (1000, 'fits')").await;
    run(&ctx, "DELETE FROM t WHERE id = 1000").await;
    assert_eq!(run(&ctx, "SELECT * FROM t ORDER BY id").await, before);
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let again = on_disk(disk.path()).await;
    assert_eq!(run(&again, "SELECT * FROM t ORDER BY id").await, before);
    datafusion_supertable::wait_for_background_work(&again).await;
}

#[tokio::test]
async fn a_file_system_that_is_read_only_can_be_read_and_a_write_says_why_it_cannot_be() {
    let Some(disk) = SmallDisk::new(8192) else {
        return;
    };
    let ctx = on_disk(disk.path()).await;
    run(
        &ctx,
        "INSERT INTO t SELECT value, 'v' || value FROM range(0, 100)",
    )
    .await;
    run(&ctx, "DELETE FROM t WHERE id = 5").await;
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let before = run(&ctx, "SELECT * FROM t ORDER BY id").await;
    disk.remount("ro");
    let reader = on_disk(disk.path()).await;
    assert_eq!(run(&reader, "SELECT * FROM t ORDER BY id").await, before);
    for sql in [
        "INSERT INTO t VALUES (1, 'x')",
        "DELETE FROM t WHERE id = 6",
    ] {
        let error = try_run(&reader, sql).await.unwrap_err();
        assert_eq!(Error::find_in(&error).unwrap().kind(), ErrorKind::Storage);
        assert!(
            error.to_string().contains("Read-only file system"),
            "{error}"
        );
    }
    datafusion_supertable::wait_for_background_work(&reader).await;
    disk.remount("rw");
    run(&reader, "INSERT INTO t VALUES (1000, 'fits')").await;
    datafusion_supertable::wait_for_background_work(&reader).await;
}

#[tokio::test(start_paused = true)]
async fn a_statement_cancelled_at_any_moment_leaves_nothing_visible_and_nothing_running() {
    const LATENCY: Duration = Duration::from_millis(10);
    let base = table().await;
    let before = rows(&base).await;
    let idle = Handle::current().metrics().num_alive_tasks();
    let mut cancelled = 0;
    for sql in STATEMENTS
        .into_iter()
        .chain(["SELECT v FROM t WHERE id > 20"])
    {
        let healthy = Arc::new(base.fork());
        let ctx = session(&healthy, &Plan::healthy()).await;
        run(&ctx, sql).await;
        datafusion_supertable::wait_for_background_work(&ctx).await;
        drop(ctx);
        let after = rows(&healthy).await;
        for moment in 0.. {
            let of = format!("{sql}, cancelled after {moment} half round trips");
            let store = Arc::new(base.fork());
            let ctx = session(&store, &Plan::with_latency(LATENCY)).await;
            datafusion_supertable::wait_for_background_work(&ctx).await;
            let limit = LATENCY / 2 * moment + LATENCY / 4;
            let ended = tokio::time::timeout(limit, try_run(&ctx, sql))
                .await
                .is_ok();
            cancelled += u32::from(!ended);
            datafusion_supertable::wait_for_background_work(&ctx).await;
            let now = rows(&store).await;
            assert!([&before, &after].contains(&&now), "{of}: {now}");
            assert!(!ended || now == after, "{of}");
            drop(ctx);
            // A task that was told to stop does so at its next turn.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let alive = Handle::current().metrics().num_alive_tasks();
            assert_eq!(alive, idle, "{of}: tasks are still there");
            nothing_is_left(&base, &store, &of).await;
            assert_eq!(
                rows(&store).await,
                now,
                "{of}: recovery changed what was visible"
            );
            if ended {
                break;
            }
        }
    }
    assert!(cancelled > 100, "{cancelled}");
}

/// Superfiles of a table that a process with few file descriptors uses.
const FILES: usize = 3000;
/// File descriptors that it may have open.
const DESCRIPTORS: u32 = 128;

#[test]
fn thousands_of_superfiles_and_tombstones_need_few_file_descriptors() {
    if !cfg!(target_os = "linux") {
        return;
    }
    // Syncs are not what this is about.
    let memory = FsPath::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
    .unwrap();
    let role = "overload: many files";
    let place = [dir.path().display().to_string()];
    let reports = Child::spawn_with_files(DESCRIPTORS, role, &place).finish();
    let most: u32 = reports[0].parse().unwrap();
    eprintln!("{FILES} superfiles: at most {most} file descriptors");
    assert!(most < DESCRIPTORS);
}

/// How many file descriptors this process has open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A role: writes, reads and changes a table of many superfiles.
pub(crate) fn use_a_table_of_many_files(args: &Args) {
    let dir = FsPath::new(args.text(0)).to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let counter = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            let mut most = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                most = most.max(descriptors());
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        })
    };
    runtime.block_on(async {
        let writer = on_disk(&dir).await;
        run(&writer, "SET supertable.target_file_rows = 2").await;
        let insert = format!(
            "INSERT INTO t SELECT value, 'v' || value FROM range(0, {})",
            2 * FILES
        );
        run(&writer, &insert).await;
        run(&writer, "DELETE FROM t WHERE id % 2 = 0").await;
        datafusion_supertable::wait_for_background_work(&writer).await;
        // One that knows nothing yet.
        let ctx = on_disk(&dir).await;
        let sum = run(&ctx, "SELECT count(v) AS n, sum(id) AS s FROM t").await;
        let (n, s) = (FILES, FILES * FILES);
        assert!(
            sum.contains(&format!(" {n} ")) && sum.contains(&format!(" {s} ")),
            "{sum}"
        );
        run(&ctx, "UPDATE t SET v = 'x' WHERE id % 4 = 1").await;
        run(&ctx, "DELETE FROM t WHERE id % 4 = 3").await;
        run(&ctx, "SELECT * FROM supertable_optimize('t')").await;
        let sum = run(&ctx, "SELECT count(*) AS n FROM t WHERE v = 'x'").await;
        assert!(sum.contains(&format!(" {} ", FILES / 2)), "{sum}");
        run(
            &ctx,
            "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0' SECOND)",
        )
        .await;
        datafusion_supertable::wait_for_background_work(&ctx).await;
    });
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    child::report(counter.join().unwrap());
}
