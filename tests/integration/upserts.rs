//! Upserts of one key that meet: a `MERGE` that inserts a row because it found none with that key runs again if another
//! statement has added one since, at every level of isolation, and if none did, it does not.
//!
//! A statement reads its version when it is planned, and commits when it runs: so statements are made
//! concurrent, without any timing, by planning all before any runs.

use datafusion::common::Result;
use datafusion::prelude::{SessionConfig, SessionContext};
use tempfile::TempDir;

use crate::support::sql::{begin_own as begin, finish, number, reruns, run_own};

const LEVELS: [&str; 3] = ["", "snapshot", "serializable"];

async fn session(dir: &TempDir, isolation: &str) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_supertable::register(&ctx).unwrap();
    let sql = format!(
        "CREATE EXTERNAL TABLE t (name VARCHAR, day INT, n BIGINT) STORED AS SUPERTABLE LOCATION '{}/t/'",
        dir.path().display()
    );
    run(&ctx, &sql).await;
    if !isolation.is_empty() {
        run(&ctx, &format!("SET supertable.isolation = '{isolation}'")).await;
    }
    ctx
}

async fn run(ctx: &SessionContext, sql: &str) {
    run_own(ctx, sql).await.unwrap();
}

fn upsert(name: &str) -> String {
    format!(
        "MERGE INTO t USING (SELECT '{name}' AS who) AS s ON t.name = s.who \
         WHEN NOT MATCHED THEN INSERT (name, day, n) VALUES (s.who, 1, 1)"
    )
}

#[tokio::test]
async fn two_upserts_of_one_new_key_leave_it_once() {
    for isolation in LEVELS {
        for same_session in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let a = session(&dir, isolation).await;
            let b = match same_session {
                true => a.clone(),
                false => session(&dir, isolation).await,
            };
            let first = begin(&a, &upsert("zoe")).await;
            let second = begin(&b, &upsert("zoe")).await;
            let (one, other) = futures::join!(finish(&a, &first), finish(&b, &second));
            assert_eq!(one.unwrap() + other.unwrap(), 1, "{isolation}");
            assert_eq!(number(&a, "SELECT count(*) FROM t").await, 1, "{isolation}");
            assert_eq!(reruns(&first) + reruns(&second), 1, "{isolation}");
        }
    }
}

/// Begins an upsert of each key, in two sessions by turns, and lets all run at once; how often they ran again.
async fn together(sessions: &[SessionContext; 2], keys: impl Iterator<Item = String>) -> usize {
    let mut plans = Vec::new();
    for (at, key) in keys.enumerate() {
        let ctx = &sessions[at % 2];
        plans.push((ctx, begin(ctx, &upsert(&key)).await));
    }
    let all = plans.iter().map(|(ctx, plan)| finish(ctx, plan));
    let rows: Result<Vec<u64>> = futures::future::try_join_all(all).await;
    rows.unwrap();
    plans.iter().map(|(_, plan)| reruns(plan)).sum()
}

#[tokio::test]
async fn many_upserts_of_one_key_leave_one_row_and_of_different_keys_commit_together() {
    // The default is snapshot isolation.
    for isolation in ["", "serializable"] {
        let dir = tempfile::tempdir().unwrap();
        let sessions = [
            session(&dir, isolation).await,
            session(&dir, isolation).await,
        ];
        together(&sessions, (0..64).map(|_| "zoe".to_owned())).await;
        assert_eq!(number(&sessions[0], "SELECT count(*) FROM t").await, 1);
        if isolation == "serializable" {
            // There every statement that others were faster than runs again.
            continue;
        }
        let again = together(&sessions, (0..64).map(|key| format!("k{key}"))).await;
        println!("{again} of 64 upserts of different keys ran again");
        assert!(again * 20 <= 64, "{again} of 64 ran again");
        let found = "SELECT count(*) FROM t WHERE name LIKE 'k%'";
        assert_eq!(number(&sessions[1], found).await, 64);
    }
}

/// Lets `other` commit while `statement` has read and not yet committed; how often that ran again.
async fn overtaken(sessions: &[SessionContext; 2], statement: &str, other: &[&str]) -> usize {
    let plan = begin(&sessions[0], statement).await;
    for sql in other {
        run(&sessions[1], sql).await;
    }
    finish(&sessions[0], &plan).await.unwrap();
    reruns(&plan)
}

async fn two(dir: &TempDir) -> [SessionContext; 2] {
    [
        session(dir, "snapshot").await,
        session(dir, "snapshot").await,
    ]
}

/// Parquet files in which `name` is as it says, for `supertable_add_files`.
async fn parquet(dir: &TempDir, name: &str) -> String {
    let ctx = SessionContext::new();
    let path = format!("{}/{name}.parquet", dir.path().display());
    let sql = format!(
        "COPY (SELECT '{name}' AS name, CAST(1 AS INT) AS day, CAST(1 AS BIGINT) AS n) TO '{path}'"
    );
    ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    path
}

#[tokio::test]
async fn a_key_conflicts_whoever_added_it_and_another_one_does_not() {
    for (key, expected) in [("zoe", 1), ("kim", 0)] {
        let dir = tempfile::tempdir().unwrap();
        let file = parquet(&dir, "zoe").await;
        let add = format!("SELECT * FROM supertable_add_files('t', '{file}')");
        let ways: [&[&str]; 6] = [
            &["INSERT INTO t VALUES ('zoe', 1, 1)"],
            &["UPDATE t SET name = 'zoe' WHERE name = 'ada'"],
            &["INSERT OVERWRITE t VALUES ('zoe', 1, 1)"],
            &["TRUNCATE TABLE t", "INSERT INTO t VALUES ('zoe', 1, 1)"],
            &["MERGE INTO t USING (SELECT 1 AS one) AS s ON false \
               WHEN NOT MATCHED THEN INSERT (name, n) VALUES ('zoe', 1)"],
            &[&add],
        ];
        for way in ways {
            let sessions = two(&dir).await;
            run(&sessions[0], "TRUNCATE TABLE t").await;
            run(
                &sessions[0],
                "INSERT INTO t VALUES ('ada', 1, 1), ('bob', 1, 1)",
            )
            .await;
            let again = overtaken(&sessions, &upsert(key), way).await;
            assert_eq!(again, expected, "{key} {way:?}");
            let sql = format!("SELECT count(*) FROM t WHERE name = '{key}'");
            assert_eq!(number(&sessions[0], &sql).await, 1, "{key} {way:?}");
        }
    }
}

#[tokio::test]
async fn a_key_that_a_restore_brings_back_conflicts() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = two(&dir).await;
    run(
        &sessions[0],
        "INSERT INTO t VALUES ('zoe', 1, 1), ('ada', 1, 1)",
    )
    .await;
    run(&sessions[0], "DELETE FROM t WHERE name = 'zoe'").await;
    let restore = "SELECT * FROM supertable_restore('t', 2)";
    assert_eq!(overtaken(&sessions, &upsert("zoe"), &[restore]).await, 1);
    assert_eq!(number(&sessions[0], "SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn what_adds_no_row_conflicts_with_no_upsert() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = two(&dir).await;
    for name in ["ada", "zzz", "kim"] {
        run(
            &sessions[0],
            &format!("INSERT INTO t VALUES ('{name}', 1, 1)"),
        )
        .await;
    }
    let others = [
        "SELECT * FROM supertable_optimize('t')",
        "DELETE FROM t WHERE name = 'kim'",
        "SELECT * FROM supertable_optimize('t')",
    ];
    assert_eq!(overtaken(&sessions, &upsert("zoe"), &others).await, 0);
    assert_eq!(number(&sessions[0], "SELECT count(*) FROM t").await, 3);
}

/// An upsert of the rows of `source` by `on`, which inserts name and day.
fn merge(source: &str, on: &str) -> String {
    format!(
        "MERGE INTO t USING ({source}) AS s ON {on} \
         WHEN MATCHED THEN UPDATE SET n = t.n + 1 \
         WHEN NOT MATCHED THEN INSERT (name, day, n) VALUES (s.name, s.day, 1)"
    )
}

#[tokio::test]
async fn a_key_is_what_the_merge_compares_by_equality() {
    let ada = "SELECT 'ada' AS name, 1 AS day";
    let cases = [
        // Of two columns.
        (ada, "t.name = s.name AND s.day = t.day", "'ada', 1", 1),
        (ada, "t.name = s.name AND s.day = t.day", "'ada', 2", 0),
        (ada, "t.name = s.name AND s.day = t.day", "'bob', 1", 0),
        // A constant, and a condition that only narrows.
        (
            ada,
            "t.name = s.name AND t.day = 1 AND t.n > 0",
            "'ada', 1",
            1,
        ),
        (
            ada,
            "t.name = s.name AND t.day = 1 AND t.n > 0",
            "'ada', 7",
            0,
        ),
        // Of other types.
        (
            "SELECT 'x' AS name, CAST(1 AS BIGINT) AS day",
            "t.day = s.day",
            "'y', 1",
            1,
        ),
        (
            "SELECT 'x' AS name, CAST(1 AS BIGINT) AS day",
            "t.day = s.day",
            "'y', 2",
            0,
        ),
        (
            "SELECT 'x' AS name, arrow_cast(1, 'Int8') AS day",
            "t.day = s.day",
            "'y', 1",
            1,
        ),
        (
            "SELECT 'x' AS name, arrow_cast(1, 'Int8') AS day",
            "t.day = s.day",
            "'y', 2",
            0,
        ),
        // What is inserted need not be what was looked for.
        (
            "SELECT 'ada' AS name, 1 AS day",
            "t.day = s.day + 1",
            "'y', 2",
            1,
        ),
        (
            "SELECT 'ada' AS name, 1 AS day",
            "t.day = s.day + 1",
            "'y', 1",
            1,
        ),
        (
            "SELECT 'ada' AS name, 1 AS day",
            "t.day = s.day + 1",
            "'y', 3",
            0,
        ),
        // A NULL equals nothing.
        (
            "SELECT CAST(NULL AS VARCHAR) AS name, 1 AS day",
            "t.name = s.name",
            "NULL, 1",
            0,
        ),
        (ada, "t.name = s.name", "NULL, 1", 0),
        // Nothing is known of the keys: whatever comes may have one.
        (ada, "lower(t.name) = s.name", "'bob', 2", 1),
        (ada, "t.name = s.name OR t.day = s.day", "'bob', 2", 1),
        (ada, "t.day < s.day", "'bob', 2", 1),
        // No row of the target keeps it from inserting.
        (ada, "false", "'ada', 1", 0),
    ];
    for (source, on, other, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let sessions = two(&dir).await;
        run(&sessions[0], "INSERT INTO t VALUES ('old', 9, 1)").await;
        let insert = format!("INSERT INTO t VALUES ({other}, 1)");
        let again = overtaken(&sessions, &merge(source, on), &[&insert]).await;
        assert_eq!(again, expected, "{source} {on} {other}");
    }
}

#[tokio::test]
async fn the_target_may_be_named_in_any_way() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = two(&dir).await;
    for (target, column) in [
        ("public.t", "t.name"),
        ("datafusion.public.t", "public.t.name"),
        ("t AS x", "x.name"),
        ("t", "name"),
    ] {
        run(&sessions[0], "TRUNCATE TABLE t").await;
        let upsert = format!(
            "MERGE INTO {target} USING (SELECT 'zoe' AS who) AS s ON {column} = who \
             WHEN NOT MATCHED THEN INSERT (name, n) VALUES (who, 1)"
        );
        let insert = |name: &str| format!("INSERT INTO t VALUES ('{name}', 1, 1)");
        assert_eq!(
            overtaken(&sessions, &upsert, &[&insert("zoe")]).await,
            1,
            "{target}"
        );
        run(&sessions[0], "TRUNCATE TABLE t").await;
        assert_eq!(
            overtaken(&sessions, &upsert, &[&insert("kim")]).await,
            0,
            "{target}"
        );
    }
}

#[tokio::test]
async fn merges_of_many_keys_conflict_if_they_share_one_that_is_new() {
    // Ids by thousands in steps of 2; every second MERGE is of odd ones.
    let rows = |from: i64, count: i64| {
        format!(
            "SELECT 'k' || CAST(2 * value + {from} AS VARCHAR) AS name, CAST(1 AS INT) AS day FROM range(0, {count})"
        )
    };
    let on = "t.name = s.name";
    for count in [300, 40_000] {
        let dir = tempfile::tempdir().unwrap();
        let sessions = two(&dir).await;
        run(
            &sessions[0],
            "INSERT INTO t SELECT 'k' || CAST(value AS VARCHAR), 1 AS day, 2 AS n FROM range(0, 50)",
        )
        .await;
        let (even, odd) = (merge(&rows(0, count), on), merge(&rows(1, 300), on));
        let again = overtaken(&sessions, &even, &[&odd]).await;
        // Of so many keys, only bounds are known.
        assert_eq!(again, usize::from(count > 32_768), "{count}");
        let shared = merge(&rows(100_000, 300), on);
        let last = merge(&rows(100_000 + 2 * 299, 1), on);
        assert_eq!(overtaken(&sessions, &shared, &[&last]).await, 1);
        let found = number(
            &sessions[0],
            "SELECT count(*) - count(DISTINCT name) FROM t",
        )
        .await;
        assert_eq!(found, 0);
    }
}

#[tokio::test]
async fn a_merge_that_changes_keys_is_known_by_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = two(&dir).await;
    run(
        &sessions[0],
        "INSERT INTO t VALUES ('ada', 1, 1), ('bob', 1, 1)",
    )
    .await;
    let rename = "MERGE INTO t USING (SELECT 'ada' AS old, 'zoe' AS new UNION ALL SELECT 'q', 'q') AS s \
                  ON t.name = s.old WHEN MATCHED THEN UPDATE SET name = s.new \
                  WHEN NOT MATCHED THEN INSERT (name, n) VALUES (s.new, 1)";
    assert_eq!(overtaken(&sessions, &upsert("zoe"), &[rename]).await, 1);
    let zoe = "SELECT count(*) FROM t WHERE name = 'zoe'";
    assert_eq!(number(&sessions[0], zoe).await, 1);
}
