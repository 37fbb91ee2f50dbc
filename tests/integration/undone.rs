//! Statements whose mutation another process takes for dead: each runs again, after a pause, and not for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion_supertable::{Error, ErrorKind};
use object_store::memory::InMemory;

use crate::support::fault_store::Plan;
use crate::support::sql::{number, on_store, show, try_show};

const OPEN: &str = "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'";

/// Each kind of statement that commits, and a number that tells whether it did.
const STATEMENTS: [(&str, &str, i64); 9] = [
    (
        "INSERT INTO t SELECT id + 100, v FROM t",
        "SELECT count(*) FROM t",
        80,
    ),
    ("DELETE FROM t WHERE id < 5", "SELECT count(*) FROM t", 35),
    (
        "UPDATE t SET v = 'u' WHERE id < 5",
        "SELECT count(*) FROM t WHERE v = 'u'",
        5,
    ),
    (
        "MERGE INTO t USING (VALUES (7, 'm'), (200, 'm')) AS s(k, w) ON t.id = s.k \
         WHEN MATCHED THEN UPDATE SET v = s.w WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.k, s.w)",
        "SELECT count(*) FROM t WHERE v = 'm'",
        2,
    ),
    ("TRUNCATE TABLE t", "SELECT count(*) FROM t", 0),
    (
        "SELECT * FROM supertable_restore('t', 2)",
        "SELECT count(*) FROM t",
        20,
    ),
    (
        "SELECT * FROM supertable_alter('t', 'ADD COLUMN x INT DEFAULT 3')",
        "SELECT count(x) FROM t",
        40,
    ),
    (
        "SELECT * FROM supertable_add_files('t', 'mem://bucket/in/')",
        "SELECT count(*) FROM t",
        41,
    ),
    (
        "SELECT * FROM supertable_optimize('t')",
        "SELECT count(*) FROM supertable_files('t')",
        1,
    ),
];

/// A table of two superfiles, and a file that can be added to it.
async fn table() -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let ctx = on_store(&store, &Plan::healthy());
    for sql in [
        "CREATE EXTERNAL TABLE t (id BIGINT, v VARCHAR) STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'",
        "INSERT INTO t SELECT value, 'v' || value FROM range(0, 20)",
        "INSERT INTO t SELECT value, 'v' || value FROM range(20, 40)",
        "COPY (SELECT 5000 AS id, 'o' AS v) TO 'mem://bucket/in/f.parquet'",
    ] {
        show(&ctx, sql).await;
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_statement_that_another_process_undid_runs_again() {
    for (sql, question, answer) in STATEMENTS {
        let store = table().await;
        let plan = Plan::undone(2);
        let ctx = on_store(&store, &plan);
        show(&ctx, OPEN).await;
        if let Err(error) = try_show(&ctx, sql).await {
            panic!("{sql}: {error}");
        }
        assert_eq!(plan.undoings_left(), 0, "{sql}");
        datafusion_supertable::wait_for_background_work(&ctx).await;
        let ctx = on_store(&store, &Plan::healthy());
        show(&ctx, OPEN).await;
        assert_eq!(number(&ctx, question).await, answer, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_always_undone_gives_up_after_ten_runs_with_pauses_between_them() {
    for sql in [STATEMENTS[1].0, STATEMENTS[4].0, STATEMENTS[6].0] {
        let store = table().await;
        let plan = Plan::undone(1_000);
        let ctx = on_store(&store, &plan);
        show(&ctx, OPEN).await;
        let started = Instant::now();
        let error = try_show(&ctx, sql).await.unwrap_err();
        let own = Error::find_in(&error).map(Error::kind);
        assert_eq!(own, Some(ErrorKind::Conflict), "{sql}: {error}");
        assert!(
            error.to_string().contains("kept committing first"),
            "{sql}: {error}"
        );
        assert_eq!(plan.undoings_left(), 990, "{sql}");
        // Half of 10, 20, 40, … 1000, 1000 milliseconds.
        assert!(started.elapsed() >= Duration::from_millis(1_100), "{sql}");
    }
}
