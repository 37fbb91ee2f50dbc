//! Declared keys where statements meet: of two that add one key one runs again, finds the other's row, and fails.
//!
//! A statement reads its version when it is planned, and commits when it runs: so statements are made concurrent,
//! without any timing, by planning all before any runs.

use datafusion::common::Result;
use datafusion::prelude::SessionContext;
use datafusion_supertable::{Error, ErrorKind};
use tempfile::TempDir;

use crate::support::sql::{
    begin_own as begin, context, finish, metric, number, reruns, run_own as run,
};

const COLUMNS: &str = "id BIGINT PRIMARY KEY, name VARCHAR, day INT, UNIQUE (name, day)";

async fn session(dir: &TempDir, columns: &str) -> SessionContext {
    let ctx = context();
    datafusion_supertable::register(&ctx).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t ({columns}) STORED AS SUPERTABLE LOCATION '{}/t/'",
        dir.path().display()
    );
    run(&ctx, &create).await.unwrap();
    ctx
}

async fn two(dir: &TempDir) -> [SessionContext; 2] {
    [session(dir, COLUMNS).await, session(dir, COLUMNS).await]
}

fn kind<T>(result: &Result<T>) -> Option<ErrorKind> {
    Some(Error::find_in(result.as_ref().err()?)?.kind())
}

#[tokio::test]
async fn of_two_inserts_of_one_key_one_is_a_duplicate() {
    for isolation in ["snapshot", "serializable"] {
        for (one, other) in [
            ("(1, 'a', 1)", "(1, 'b', 1)"),
            ("(1, 'a', 1)", "(2, 'a', 1)"),
            ("(3, 'c', 1), (1, 'a', 1)", "(2, 'a', 1), (5, 'c', 2)"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let [a, b] = two(&dir).await;
            for ctx in [&a, &b] {
                let sql = format!("SET supertable.isolation = '{isolation}'");
                run(ctx, &sql).await.unwrap();
            }
            let first = begin(&a, &format!("INSERT INTO t VALUES {one}")).await;
            let second = begin(&b, &format!("INSERT INTO t VALUES {other}")).await;
            let (first, second) = futures::join!(finish(&a, &first), finish(&b, &second));
            let failed: Vec<ErrorKind> = [kind(&first), kind(&second)]
                .into_iter()
                .flatten()
                .collect();
            assert_eq!(failed, [ErrorKind::DuplicateKey], "{one} {other}");
            let left = [first, second].into_iter().flatten().sum::<u64>() as i64;
            assert_eq!(number(&a, "SELECT count(*) FROM t").await, left);
        }
    }
}

#[tokio::test]
async fn many_inserts_of_one_key_leave_one_row_and_of_different_keys_commit_together() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = two(&dir).await;
    for same in [true, false] {
        let mut plans = Vec::new();
        for i in 0..64 {
            let ctx = &sessions[i % 2];
            let id = if same { 1000 } else { i };
            let sql = format!("INSERT INTO t VALUES ({id}, 'n{same}', {i})");
            plans.push((ctx, begin(ctx, &sql).await));
        }
        let all = plans.iter().map(|(ctx, plan)| finish(ctx, plan));
        let ended = futures::future::join_all(all).await;
        let done = ended.iter().flatten().sum::<u64>();
        let again: usize = plans.iter().map(|(_, plan)| reruns(plan)).sum();
        println!("same {same}: {again} of 64 ran again");
        if same {
            assert_eq!(done, 1);
            let duplicates = ended
                .iter()
                .filter(|it| kind(it) == Some(ErrorKind::DuplicateKey));
            assert_eq!(duplicates.count(), 63);
        } else {
            assert_eq!(done, 64);
            assert!(again * 20 <= 64, "{again} of 64 ran again");
        }
    }
}

/// Lets `other` commit while `statement` has read and not yet committed.
async fn overtaken(
    sessions: &[SessionContext; 2],
    statement: &str,
    other: &[&str],
) -> (Result<u64>, usize) {
    let plan = begin(&sessions[0], statement).await;
    for sql in other {
        run(&sessions[1], sql).await.unwrap();
    }
    let end = finish(&sessions[0], &plan).await;
    (end, reruns(&plan))
}

#[tokio::test]
async fn a_key_is_a_duplicate_whoever_added_it_and_however() {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("{}/in.parquet", dir.path().display());
    let copy = format!(
        "COPY (SELECT CAST(7 AS BIGINT) AS id, 'zoe' AS name, CAST(7 AS INT) AS day) TO '{file}'"
    );
    run(&SessionContext::new(), &copy).await.unwrap();
    let add = format!("SELECT * FROM supertable_add_files('t', '{file}')");
    let statements = [
        "INSERT INTO t VALUES (7, 'kim', 1)",
        "INSERT INTO t VALUES (9, 'zoe', 7)",
        "INSERT INTO t SELECT 100 + value, 'n', value FROM range(0, 50000) UNION ALL SELECT 7, 'kim', 9",
        "UPDATE t SET id = 7 WHERE id = 1",
        "UPDATE t SET name = 'zoe', day = 7 WHERE id = 1",
        "MERGE INTO t USING (SELECT 1 AS one) AS s ON t.id = s.one + 50 WHEN NOT MATCHED THEN INSERT (id) VALUES (7)",
    ];
    let ways: [&[&str]; 5] = [
        &["INSERT INTO t VALUES (7, 'zoe', 7)"],
        &["UPDATE t SET id = 7, name = 'zoe', day = 7 WHERE id = 2"],
        &["MERGE INTO t USING (SELECT 7 AS id) AS s ON t.id = s.id \
           WHEN NOT MATCHED THEN INSERT (id, name, day) VALUES (7, 'zoe', 7)"],
        &[
            "INSERT INTO t VALUES (7, 'zoe', 7)",
            "SELECT * FROM supertable_optimize('t', full => true)",
        ],
        &[&add],
    ];
    for way in ways {
        for statement in statements {
            let place = tempfile::tempdir_in(dir.path()).unwrap();
            let sessions = two(&place).await;
            let rows = "INSERT INTO t VALUES (1, 'ada', 1), (2, 'bob', 1)";
            run(&sessions[0], rows).await.unwrap();
            let (end, again) = overtaken(&sessions, statement, way).await;
            assert_eq!(
                kind(&end),
                Some(ErrorKind::DuplicateKey),
                "{statement} {way:?}"
            );
            // An INSERT of values reads its version as late as it can.
            assert!(
                again == 1 || statement.starts_with("INSERT"),
                "{statement} {way:?}"
            );
            let twice = "SELECT count(*) - count(DISTINCT id) + count(*) - count(DISTINCT (name, day)) FROM t";
            assert_eq!(number(&sessions[1], twice).await, 0);
        }
    }
}

#[tokio::test]
async fn another_key_is_none_and_a_row_that_went_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = two(&dir).await;
    let rows = "INSERT INTO t VALUES (1, 'ada', 1), (2, 'bob', 1)";
    run(&sessions[0], rows).await.unwrap();
    let insert = "INSERT INTO t VALUES (3, 'cat', 1)";
    let (end, again) = overtaken(&sessions, insert, &["INSERT INTO t VALUES (4, 'dan', 1)"]).await;
    assert_eq!((end.unwrap(), again), (1, 0));
    let gone = [
        "INSERT INTO t VALUES (5, 'eve', 1)",
        "DELETE FROM t WHERE id = 5",
    ];
    let (end, _) = overtaken(&sessions, "INSERT INTO t VALUES (5, 'fay', 1)", &gone).await;
    assert_eq!(end.unwrap(), 1);
    // It changes no key, and so asks for none.
    let (end, again) = overtaken(
        &sessions,
        "UPDATE t SET name = name, day = day WHERE id = 1",
        &["INSERT INTO t VALUES (8, 'gus', 1)"],
    )
    .await;
    assert_eq!((end.unwrap(), again), (1, 0));
    let (end, _) = overtaken(
        &sessions,
        "INSERT INTO t VALUES (30, 'x', 30) ON CONFLICT (id) DO UPDATE SET day = 31",
        &["INSERT INTO t VALUES (30, 'y', 1)"],
    )
    .await;
    assert_eq!(end.unwrap(), 1);
    assert_eq!(
        number(
            &sessions[1],
            "SELECT CAST(day AS BIGINT) FROM t WHERE id = 30"
        )
        .await,
        31
    );
}

#[tokio::test]
async fn what_was_planned_without_a_key_does_not_break_it() {
    let dir = tempfile::tempdir().unwrap();
    let columns = "id BIGINT NOT NULL, v INT";
    let sessions = [session(&dir, columns).await, session(&dir, columns).await];
    run(&sessions[0], "INSERT INTO t VALUES (1, 1), (2, 2)")
        .await
        .unwrap();
    for (at, statement) in [
        "INSERT INTO t VALUES (3, 3), (3, 4)",
        "INSERT INTO t VALUES (1, 3)",
        "UPDATE t SET id = 1",
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("ALTER TABLE t ADD CONSTRAINT k{at} UNIQUE (id)");
        let (end, _) = overtaken(&sessions, statement, &[&key]).await;
        assert!(
            matches!(
                kind(&end),
                Some(ErrorKind::DuplicateKey | ErrorKind::Conflict)
            ),
            "{statement}: {end:?}"
        );
        assert_eq!(
            number(&sessions[1], "SELECT count(DISTINCT id) FROM t").await,
            2
        );
        assert_eq!(number(&sessions[1], "SELECT count(*) FROM t").await, 2);
        let drop = format!("ALTER TABLE t DROP CONSTRAINT k{at}");
        run(&sessions[0], &drop).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_planned_without_a_check_does_not_break_it() {
    let dir = tempfile::tempdir().unwrap();
    let columns = "id BIGINT NOT NULL, v INT";
    let sessions = [session(&dir, columns).await, session(&dir, columns).await];
    run(&sessions[0], "INSERT INTO t VALUES (1, 1), (2, 2)")
        .await
        .unwrap();
    for (at, statement) in [
        "INSERT INTO t VALUES (3, -1)",
        "UPDATE t SET v = -v",
        "MERGE INTO t USING (SELECT 2 AS id) AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = -5",
    ]
    .into_iter()
    .enumerate()
    {
        let check = format!("ALTER TABLE t ADD CONSTRAINT c{at} CHECK (v > 0)");
        let (end, _) = overtaken(&sessions, statement, &[&check]).await;
        let kind = kind(&end);
        assert!(
            matches!(kind, Some(ErrorKind::Constraint | ErrorKind::Conflict)),
            "{statement}: {end:?}"
        );
        let broken = "SELECT count(*) FROM t WHERE v <= 0";
        assert_eq!(number(&sessions[1], broken).await, 0);
        let drop = format!("ALTER TABLE t DROP CONSTRAINT c{at}");
        run(&sessions[0], &drop).await.unwrap();
        // The other session learns of it.
        assert_eq!(number(&sessions[1], broken).await, 0);
    }
    // And a check is not declared over a row that came while its rows were read.
    let check = "ALTER TABLE t ADD CONSTRAINT late CHECK (v > 0)";
    let (end, _) = overtaken(&sessions, check, &["INSERT INTO t VALUES (9, -9)"]).await;
    assert_eq!(kind(&end), Some(ErrorKind::Constraint), "{end:?}");
}

#[tokio::test]
async fn a_query_that_was_planned_with_a_key_does_not_read_a_version_without() {
    let dir = tempfile::tempdir().unwrap();
    let columns = "id BIGINT PRIMARY KEY, v INT";
    let sessions = [session(&dir, columns).await, session(&dir, columns).await];
    run(&sessions[0], "INSERT INTO t VALUES (1, 1), (2, 2)")
        .await
        .unwrap();
    let query = "SELECT count(*) FROM (SELECT id, v FROM t GROUP BY id, v)";
    let planned = datafusion_supertable::sql(&sessions[0], query)
        .await
        .unwrap();
    run(&sessions[1], "ALTER TABLE t DROP CONSTRAINT primary_key")
        .await
        .unwrap();
    run(&sessions[1], "INSERT INTO t VALUES (1, 2)")
        .await
        .unwrap();
    let rows = planned.collect().await;
    assert_eq!(kind(&rows), Some(ErrorKind::Conflict));
    assert_eq!(number(&sessions[0], query).await, 3);
    // Nor does one of an earlier version think that it has the key of today.
    run(&sessions[1], "DELETE FROM t WHERE v = 2")
        .await
        .unwrap();
    run(&sessions[1], "ALTER TABLE t ADD PRIMARY KEY (id)")
        .await
        .unwrap();
    let then = "SELECT count(*) FROM (SELECT id, v FROM supertable_at('t', 4) GROUP BY id, v)";
    assert_eq!(number(&sessions[0], then).await, 3);
}

#[tokio::test]
async fn keys_are_declared_and_dropped_from_rust() {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion_supertable::Supertable;

    let dir = tempfile::tempdir().unwrap();
    let ctx = context();
    datafusion_supertable::register(&ctx).unwrap();
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let place = format!("{}/t/", dir.path().display());
    let table = Supertable::create(&ctx, &place, schema)
        .primary_key(["id"])
        .unique("both", ["b", "a"])
        .execute()
        .await
        .unwrap();
    ctx.register_table("t", table.table_provider()).unwrap();
    run(
        &ctx,
        "INSERT INTO t VALUES (1, 1, 'x'), (2, 1, NULL), (3, 1, NULL)",
    )
    .await
    .unwrap();
    let fails = |sql: &'static str| {
        let ctx = ctx.clone();
        async move { kind(&run(&ctx, sql).await) }
    };
    let duplicate = Some(ErrorKind::DuplicateKey);
    assert_eq!(fails("INSERT INTO t VALUES (4, 1, 'x')").await, duplicate);
    assert_eq!(fails("INSERT INTO t VALUES (2, 2, 'x')").await, duplicate);
    table
        .alter()
        .drop_constraint("both")
        .execute()
        .await
        .unwrap();
    assert_eq!(fails("INSERT INTO t VALUES (4, 1, 'x')").await, None);
    let again = table.alter().add_unique("both", ["a", "b"]).execute().await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::DuplicateKey);
    let not_null = table.alter().set_not_null("b").execute().await;
    assert_eq!(not_null.unwrap_err().kind(), ErrorKind::Constraint);
    run(&ctx, "DELETE FROM t WHERE b IS NULL OR id = 4")
        .await
        .unwrap();
    // The NULLs are deleted, and still in the superfile.
    let not_null = table.alter().set_not_null("b").execute().await;
    assert_eq!(not_null.unwrap_err().kind(), ErrorKind::Constraint);
    table.optimize().full().execute().await.unwrap();
    let changed = table
        .alter()
        .drop_constraint("primary_key")
        .add_primary_key(["a", "b"]);
    changed.set_not_null("b").execute().await.unwrap();
    assert_eq!(fails("INSERT INTO t VALUES (1, 1, 'x')").await, duplicate);
    assert_eq!(fails("INSERT INTO t VALUES (1, 2, 'x')").await, None);
}

#[tokio::test]
async fn superfiles_that_cannot_hold_a_key_are_not_read_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session(&dir, "id BIGINT PRIMARY KEY, v INT").await;
    for from in [0, 100_000, 200_000] {
        let insert =
            format!("INSERT INTO t SELECT 2 * value, 1 FROM range({from}, {from} + 100000)");
        run(&ctx, &insert).await.unwrap();
    }
    for (statement, expected) in [
        (
            "INSERT INTO t SELECT value, 1 FROM range(600000, 700000)",
            0,
        ),
        (
            "INSERT INTO t SELECT 2 * value + 1, 1 FROM range(150000, 190000)",
            1,
        ),
        ("INSERT INTO t VALUES (7, 1), (500001, 1), (9000000, 1)", 2),
        ("UPDATE t SET v = 2 WHERE id < 1000", 0),
        ("UPDATE t AS x SET v = 3 WHERE x.id < 1000", 0),
        (
            "UPDATE t SET v = s.v FROM (SELECT 5000 AS id, 3 AS v) AS s WHERE t.id = s.id",
            0,
        ),
        (
            "MERGE INTO t USING (SELECT 5000 AS id, 3 AS v) AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v",
            0,
        ),
        ("DELETE FROM t WHERE id = 5000", 0),
        ("UPDATE t SET id = id + 8000000 WHERE id < 1000", 1),
        (
            "INSERT INTO t SELECT (value * 7919) % 300000 * 2 + 1000001, 1 FROM range(0, 300000)",
            1,
        ),
    ] {
        let plan = begin(&ctx, statement).await;
        finish(&ctx, &plan).await.unwrap();
        assert_eq!(metric(&plan, "key_superfiles"), expected, "{statement}");
    }
    let twice = "SELECT count(*) - count(DISTINCT id) FROM t";
    assert_eq!(number(&ctx, twice).await, 0);
}
