//! Who may do what, and who learns what: sessions that only read, links that lead outside, credentials.

use std::fs;
use std::path::Path as FsPath;
use std::sync::Arc;

use chrono::TimeDelta;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::SupertableOptions;
use datafusion_supertable::open_catalog;
use datafusion_supertable::unstable::format::OpKind;
use datafusion_supertable::unstable::storage::{RetryPolicy, Storage};
use datafusion_supertable::unstable::table::Table;
use datafusion_supertable::unstable::wal::{Env, ManualClock};
use datafusion_supertable::{Error, ErrorKind};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::support::capture::Capture;
use crate::support::fault_store::Plan;
use crate::support::sql::{on_store, show as run, try_show as try_run};

const CREATE: &str = "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR) \
                      STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'";
const OPEN: &str = "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'";

/// Everything that writes.
const WRITES: [&str; 14] = [
    "INSERT INTO t VALUES (1000, 'new')",
    "INSERT OVERWRITE t SELECT id, v FROM t WHERE id < 10",
    "DELETE FROM t WHERE id % 3 = 0",
    "DELETE FROM t",
    "UPDATE t SET v = v || '!' WHERE id % 4 = 1",
    "MERGE INTO t USING (VALUES (7, 'x')) AS s(k, w) ON t.id = s.k WHEN MATCHED THEN DELETE",
    "TRUNCATE TABLE t",
    "SELECT * FROM supertable_alter('t', 'ADD COLUMN x INT')",
    "SELECT * FROM supertable_restore('t', 2)",
    "SELECT * FROM supertable_optimize('t')",
    "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0' SECOND)",
    "SELECT * FROM supertable_recover('t')",
    "SELECT * FROM supertable_add_files('t', 'mem://bucket/other/')",
    "CREATE EXTERNAL TABLE u (id BIGINT) STORED AS SUPERTABLE LOCATION 'mem://bucket/u/'",
];

/// Everything that only looks.
const READS: [&str; 9] = [
    "SELECT * FROM t ORDER BY id",
    "SELECT * FROM supertable_history('t')",
    "SELECT * FROM supertable_files('t')",
    "SELECT * FROM supertable_properties('t')",
    "SELECT * FROM supertable_wal('t')",
    "SELECT * FROM supertable_changes('t', 1, 3)",
    "SELECT * FROM supertable_optimize('t', dry_run => true)",
    "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0' SECOND, dry_run => true)",
    "EXPLAIN DELETE FROM t WHERE id = 1",
];

/// A table, and a statement on it that died: its document waits to be recovered.
async fn table_with_leftovers() -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let ctx = on_store(&store, &Plan::healthy());
    for sql in [
        CREATE,
        "INSERT INTO t SELECT value, 'v' || value FROM range(0, 40)",
        "DELETE FROM t WHERE id IN (3, 4)",
        "COPY (SELECT 5000 AS id, 'o' AS v) TO 'mem://bucket/other/f.parquet'",
    ] {
        run(&ctx, sql).await;
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    // By a clock of long ago: for people it began long ago.
    let clock = ManualClock::at_ms(1_700_000_000_000);
    let storage = Storage::new(
        Arc::clone(&store) as Arc<dyn ObjectStore>,
        &Path::from("t"),
        RetryPolicy::default(),
    );
    let table = Table::open(storage, Env::seeded(5, clock)).await.unwrap();
    let base = table.snapshot().await.unwrap();
    let mutation = table.begin(OpKind::Insert, base, "INSERT INTO".to_owned());
    mutation.durable().await.unwrap();
    // Where nobody renews its lease.
    let left = Arc::new(store.fork());
    drop(mutation);
    left
}

async fn objects(store: &InMemory) -> Vec<String> {
    let mut found: Vec<String> = store
        .list(None)
        .map_ok(|meta| format!("{} {:?}", meta.location, meta.e_tag))
        .try_collect()
        .await
        .unwrap();
    found.sort();
    found
}

fn writes(plan: &Plan) -> Vec<String> {
    plan.log()
        .iter()
        .filter(|o| !["get", "head", "list"].contains(&o.kind))
        .map(|o| format!("{} {}", o.kind, o.path))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_that_only_reads_sends_no_request_that_writes_and_says_so() {
    let store = table_with_leftovers().await;
    let before = objects(&store).await;
    for set_first in [true, false] {
        let plan = Plan::healthy();
        let ctx = on_store(&store, &plan);
        if set_first {
            run(&ctx, "SET supertable.read_only = true").await;
            run(&ctx, OPEN).await;
        } else {
            let copy = Arc::new(store.fork());
            let ctx = on_store(&copy, &Plan::healthy());
            run(&ctx, OPEN).await;
            run(&ctx, "SELECT * FROM supertable_recover('t')").await;
            run(&ctx, "SET supertable.auto_compact = true").await;
            run(&ctx, "SET supertable.read_only = true").await;
            datafusion_supertable::wait_for_background_work(&ctx).await;
            let before = objects(&copy).await;
            for sql in WRITES {
                let error = try_run(&ctx, sql).await.unwrap_err();
                let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
                assert_eq!(ours.kind(), ErrorKind::ReadOnly, "{sql}: {error}");
            }
            datafusion_supertable::wait_for_background_work(&ctx).await;
            assert_eq!(objects(&copy).await, before);
            continue;
        }
        for sql in READS {
            run(&ctx, sql).await;
        }
        for sql in WRITES {
            let error = try_run(&ctx, sql).await.unwrap_err();
            let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
            assert_eq!(ours.kind(), ErrorKind::ReadOnly, "{sql}: {error}");
            assert!(
                error.to_string().contains("supertable.read_only"),
                "{error}"
            );
        }
        datafusion_supertable::wait_for_background_work(&ctx).await;
        assert_eq!(writes(&plan), Vec::<String>::new());
        assert_eq!(objects(&store).await, before);
    }
    // A session that may write ends what the dead one left.
    let plan = Plan::healthy();
    let ctx = on_store(&store, &plan);
    run(&ctx, OPEN).await;
    let recovered = run(&ctx, "SELECT * FROM supertable_recover('t')").await;
    assert!(recovered.contains("undone"), "{recovered}");
    datafusion_supertable::wait_for_background_work(&ctx).await;
    assert!(!writes(&plan).is_empty());
}

#[tokio::test]
async fn reading_only_cannot_be_turned_off_again() {
    let ctx = on_store(&Arc::new(InMemory::new()), &Plan::healthy());
    run(&ctx, "SET supertable.read_only = false").await;
    run(&ctx, "SET supertable.read_only = true").await;
    assert!(
        try_run(&ctx, "SET supertable.read_only = false")
            .await
            .is_err()
    );
    run(&ctx, "SET supertable.read_only = true").await;
    let options = SupertableOptions::of(ctx.copied_config().options());
    assert!(options.read_only);
}

#[tokio::test]
async fn a_catalog_in_a_session_that_only_reads_creates_and_drops_nothing() {
    let store = Arc::new(InMemory::new());
    let writer = on_store(&store, &Plan::healthy());
    open_catalog(&writer, "lake", "mem://bucket/lake/").unwrap();
    let sql = "CREATE TABLE lake.public.a AS SELECT 1 AS n";
    datafusion_supertable::sql(&writer, sql).await.unwrap();
    datafusion_supertable::wait_for_background_work(&writer).await;
    let plan = Plan::healthy();
    let ctx = on_store(&store, &plan);
    run(&ctx, "SET supertable.read_only = true").await;
    open_catalog(&ctx, "lake", "mem://bucket/lake/").unwrap();
    run(&ctx, "SELECT * FROM lake.public.a").await;
    for sql in [
        "CREATE TABLE lake.public.b AS SELECT 1 AS n",
        "CREATE OR REPLACE TABLE lake.public.a AS SELECT 2 AS n",
        "DROP TABLE lake.public.a",
    ] {
        let outcome = async { datafusion_supertable::sql(&ctx, sql).await?.collect().await };
        let error = outcome.await.unwrap_err();
        let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
        assert_eq!(ours.kind(), ErrorKind::ReadOnly, "{sql}: {error}");
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    assert_eq!(writes(&plan), Vec::<String>::new());
}

/// A table on the local disk.
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

#[cfg(unix)]
#[tokio::test]
async fn a_symbolic_link_in_a_table_leads_nowhere_whatever_it_stands_for() {
    use std::os::unix::fs::symlink;
    let victims: [(&str, &str); 5] = [
        ("_supertable", ""),
        ("_supertable/current", ""),
        ("superfiles", ""),
        ("superfiles", ".parquet"),
        ("superfiles", ".tombstones"),
    ];
    for (folder, ending) in victims {
        let dir = tempfile::tempdir().unwrap();
        let ctx = on_disk(dir.path()).await;
        run(
            &ctx,
            "INSERT INTO t SELECT value, 'v' || value FROM range(0, 40)",
        )
        .await;
        run(&ctx, "DELETE FROM t WHERE id = 3").await;
        datafusion_supertable::wait_for_background_work(&ctx).await;
        let mut victim = dir.path().join("t").join(folder);
        if !ending.is_empty() {
            victim = fs::read_dir(&victim)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find(|path| path.to_string_lossy().ends_with(ending))
                .unwrap();
        }
        // The very same bytes, but elsewhere.
        let outside = dir.path().join("outside");
        fs::rename(&victim, &outside).unwrap();
        symlink(&outside, &victim).unwrap();
        let fresh = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        datafusion_supertable::register(&fresh).unwrap();
        let open = format!(
            "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{}/t/'",
            dir.path().display()
        );
        let outcome = async {
            try_run(&fresh, &open).await?;
            try_run(&fresh, "SELECT * FROM t").await
        };
        let error = outcome.await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("symbolic links"), "{victim:?}: {text}");
        assert!(!text.contains("outside"), "{text}");
        datafusion_supertable::wait_for_background_work(&fresh).await;
    }
}

const SECRET: &str = "hunter2-very-secret";

#[tokio::test]
async fn credentials_are_in_no_error_plan_log_answer_or_object() {
    let (capture, _guard) = Capture::begin();
    let store = Arc::new(InMemory::new());
    let ctx = on_store(&store, &Plan::healthy());
    let mut shown = String::new();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR) STORED AS SUPERTABLE \
         LOCATION 'mem://bucket/t/' OPTIONS ('aws.secret_access_key' '{SECRET}', \
         'aws.access_key_id' '{SECRET}', 'format.password' '{SECRET}')"
    );
    // Whether the session knows the namespaces or not: what is said must not tell.
    match try_run(&ctx, &create).await {
        Ok(answer) => shown += &answer,
        Err(error) => {
            shown += &format!("{error} {error:?}");
            run(&ctx, CREATE).await;
        }
    }
    run(&ctx, "INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let refused = [
        format!(
            "CREATE EXTERNAL TABLE a STORED AS SUPERTABLE LOCATION 's3://key:{SECRET}@bucket/t/'"
        ),
        format!(
            "CREATE EXTERNAL TABLE b (n INT) STORED AS SUPERTABLE LOCATION 's3://key:{SECRET}@bucket/t/'"
        ),
        format!(
            "CREATE EXTERNAL TABLE c (n INT) STORED AS SUPERTABLE LOCATION 'https://a.blob.core.windows.net/c/t?sv=1&sig={SECRET}'"
        ),
        format!(
            "CREATE EXTERNAL TABLE d (n INT) STORED AS SUPERTABLE LOCATION 'mem://x:{SECRET}@bucket/d/'"
        ),
        format!("SELECT * FROM supertable_add_files('t', 's3://key:{SECRET}@bucket/f.parquet')"),
        format!("SELECT * FROM supertable_add_files('t', 'mem://bucket/f.parquet?sig={SECRET}')"),
    ];
    for sql in &refused {
        let error = try_run(&ctx, sql).await.unwrap_err();
        let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
        assert_eq!(ours.kind(), ErrorKind::InvalidArgument, "{sql}: {error}");
        shown += &format!("{error} {error:?}");
    }
    // A location that no store serves.
    let error = try_run(
        &ctx,
        "CREATE EXTERNAL TABLE e STORED AS SUPERTABLE LOCATION 's3://bucket/t/'",
    );
    shown += &error.await.unwrap_err().to_string();
    for sql in READS {
        if !sql.contains("changes") {
            shown += &run(&ctx, sql).await;
        }
    }
    for sql in [
        "EXPLAIN VERBOSE SELECT * FROM t",
        "EXPLAIN ANALYZE DELETE FROM t WHERE id = 1",
    ] {
        shown += &run(&ctx, sql).await;
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    assert!(!shown.contains(SECRET), "{shown}");
    let log = capture.text();
    assert!(log.len() > 500, "nothing was captured: {log}");
    assert!(!log.contains(SECRET), "{log}");
    let mut paths: Vec<Path> = store
        .list(None)
        .map_ok(|meta| meta.location)
        .try_collect()
        .await
        .unwrap();
    paths.sort();
    for path in paths {
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(SECRET), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_does_not_end_what_dead_writers_left() {
    let store = table_with_leftovers().await;
    let storage = Storage::new(
        Arc::clone(&store) as Arc<dyn ObjectStore>,
        &Path::from("t"),
        RetryPolicy::default(),
    )
    .read_only();
    let clock = ManualClock::at_ms(1_800_000_000_000);
    clock.advance(TimeDelta::days(1));
    let before = objects(&store).await;
    let table = Table::open(storage, Env::seeded(6, clock)).await.unwrap();
    table.settle().await;
    assert_eq!(objects(&store).await, before);
    // What is asked for in spite of it is refused, and reported.
    let report = table.recover().await.unwrap();
    assert_eq!(report.failed.len(), 1, "{report:?}");
    assert_eq!(report.failed[0].1.kind(), ErrorKind::ReadOnly);
    let base = table.snapshot().await.unwrap();
    let mutation = table.begin(OpKind::Insert, base, "INSERT INTO".to_owned());
    let error = mutation.durable().await.unwrap_err();
    assert!(error.to_string().contains("read_only"), "{error}");
    drop(mutation);
    table.settle().await;
    assert_eq!(objects(&store).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forbids_writing_is_read_and_each_write_fails_soon_and_says_why() {
    let store = table_with_leftovers().await;
    let before = objects(&store).await;
    let plan = Plan::forbidding_writes();
    let ctx = on_store(&store, &plan);
    // Opening tries to recover, which is no reason not to read.
    run(&ctx, OPEN).await;
    datafusion_supertable::wait_for_background_work(&ctx).await;
    for sql in READS {
        run(&ctx, sql).await;
    }
    for sql in WRITES {
        if sql.contains("supertable_recover") {
            // It reports what it could not do.
            assert!(run(&ctx, sql).await.contains("403 Forbidden"));
            continue;
        }
        let tried = writes(&plan).len();
        let error = match try_run(&ctx, sql).await {
            // There is nothing to compact, or nothing that could be deleted.
            Ok(_) if sql.contains("optimize") || sql.contains("vacuum") => continue,
            Ok(answer) => panic!("{sql}: {answer}"),
            Err(error) => error,
        };
        let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
        assert_eq!(ours.kind(), ErrorKind::Storage, "{sql}: {error}");
        assert!(
            error.to_string().contains("403 Forbidden"),
            "{sql}: {error}"
        );
        datafusion_supertable::wait_for_background_work(&ctx).await;
        let tried = writes(&plan).len() - tried;
        assert!(tried < 12, "{sql}: {tried} writes were tried");
    }
    assert_eq!(objects(&store).await, before);
}
