//! What statements that run at the same time see of each other, at both levels of isolation.
//!
//! A statement reads its version when it is planned, and commits when it runs: so two statements are made
//! concurrent, without any timing, by planning both before either runs.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::{Error, ErrorKind};
use tempfile::TempDir;

use crate::support::sql::{begin_own, finish, number, reruns};

async fn session(dir: &TempDir, isolation: &str) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_supertable::register(&ctx).unwrap();
    for table in ["t", "u"] {
        let sql = format!(
            "CREATE EXTERNAL TABLE {table} (name VARCHAR NOT NULL, on_call BOOLEAN, n BIGINT) \
             STORED AS SUPERTABLE LOCATION '{}/{table}/'",
            dir.path().display()
        );
        run(&ctx, &sql).await.unwrap();
    }
    run(&ctx, &format!("SET supertable.isolation = '{isolation}'"))
        .await
        .unwrap();
    ctx
}

/// A statement that has read its version and is yet to commit.
async fn begin(ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    ctx.sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap()
}

async fn run(ctx: &SessionContext, sql: &str) -> Result<()> {
    ctx.sql(sql).await?.collect().await.map(drop)
}

const TWO_ON_CALL: &str =
    "INSERT INTO t VALUES ('ada', true, 1), ('bob', true, 1), ('eve', false, 1)";

/// Someone may leave only while somebody else stays.
fn leave(name: &str, how: &str) -> String {
    let guard = format!("(SELECT count(*) FROM t WHERE on_call) > 1 AND name = '{name}'");
    match how {
        "DELETE" => format!("DELETE FROM t WHERE {guard}"),
        "UPDATE" => format!("UPDATE t SET on_call = false WHERE {guard}"),
        _ => format!(
            "MERGE INTO t USING (SELECT '{name}' AS who, (SELECT count(*) FROM t WHERE on_call) AS n) AS s \
             ON t.name = s.who WHEN MATCHED AND s.n > 1 THEN UPDATE SET on_call = false"
        ),
    }
}

#[tokio::test]
async fn snapshot_isolation_lets_two_statements_skew_what_each_found_true() {
    for how in ["DELETE", "UPDATE", "MERGE"] {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (
            session(&dir, "snapshot").await,
            session(&dir, "snapshot").await,
        );
        run(&a, TWO_ON_CALL).await.unwrap();
        let first = begin(&a, &leave("ada", how)).await;
        let second = begin(&b, &leave("bob", how)).await;
        assert_eq!(finish(&a, &first).await.unwrap(), 1, "{how}");
        assert_eq!(finish(&b, &second).await.unwrap(), 1, "{how}");
        assert_eq!(number(&a, "SELECT count(*) FROM t WHERE on_call").await, 0);
    }
}

#[tokio::test]
async fn serializable_statements_take_effect_as_if_one_after_the_other() {
    for how in ["DELETE", "UPDATE", "MERGE"] {
        for same_session in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let a = session(&dir, "serializable").await;
            let b = match same_session {
                true => a.clone(),
                false => session(&dir, "serializable").await,
            };
            run(&a, TWO_ON_CALL).await.unwrap();
            let first = begin(&a, &leave("ada", how)).await;
            let second = begin(&b, &leave("bob", how)).await;
            let (first_rows, second_rows) = futures::join!(finish(&a, &first), finish(&b, &second));
            assert_eq!(first_rows.unwrap() + second_rows.unwrap(), 1, "{how}");
            assert_eq!(reruns(&first) + reruns(&second), 1, "{how}");
            assert_eq!(number(&a, "SELECT count(*) FROM t WHERE on_call").await, 1);
        }
    }
}

#[tokio::test]
async fn a_serializable_insert_that_read_its_target_runs_again_and_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        session(&dir, "serializable").await,
        session(&dir, "snapshot").await,
    );
    run(&a, TWO_ON_CALL).await.unwrap();
    let sum = begin(&a, "INSERT INTO t SELECT 'sum', false, sum(n) FROM t").await;
    let values = begin(&a, "INSERT INTO t VALUES ('values', false, 0)").await;
    let other = begin(&a, "INSERT INTO t SELECT 'other', false, count(*) FROM u").await;
    run(&b, "UPDATE t SET n = 100 WHERE name = 'eve'")
        .await
        .unwrap();
    run(&b, "INSERT INTO u VALUES ('x', false, 1)")
        .await
        .unwrap();
    for plan in [&sum, &values, &other] {
        assert_eq!(finish(&a, plan).await.unwrap(), 1);
    }
    assert_eq!((reruns(&sum), reruns(&values), reruns(&other)), (1, 0, 0));
    assert_eq!(number(&a, "SELECT n FROM t WHERE name = 'sum'").await, 102);
    // What it read of another table is that table's snapshot: the promise is about one table.
    assert_eq!(number(&a, "SELECT n FROM t WHERE name = 'other'").await, 0);
}

#[tokio::test]
async fn an_overwrite_runs_again_on_what_it_is_to_replace() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        session(&dir, "snapshot").await,
        session(&dir, "snapshot").await,
    );
    run(&a, TWO_ON_CALL).await.unwrap();
    let doubled = begin(&a, "INSERT OVERWRITE t SELECT name, on_call, n * 2 FROM t").await;
    run(&b, "UPDATE t SET n = 100 WHERE name = 'eve'")
        .await
        .unwrap();
    assert_eq!(finish(&a, &doubled).await.unwrap(), 3);
    assert_eq!(reruns(&doubled), 1);
    assert_eq!(number(&b, "SELECT sum(n) FROM t").await, 204);
}

#[tokio::test]
async fn a_delete_of_whole_superfiles_meets_other_deletes_and_updates() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        session(&dir, "snapshot").await,
        session(&dir, "snapshot").await,
    );
    run(&a, TWO_ON_CALL).await.unwrap();
    let all = begin(&a, "DELETE FROM t WHERE n = 1").await;
    run(&b, "DELETE FROM t WHERE name = 'eve'").await.unwrap();
    run(&b, "INSERT INTO t VALUES ('new', false, 1)")
        .await
        .unwrap();
    assert_eq!((finish(&a, &all).await.unwrap(), reruns(&all)), (2, 0));
    assert_eq!(number(&b, "SELECT count(*) FROM t").await, 1);

    run(&a, TWO_ON_CALL).await.unwrap();
    let all = begin(&a, "DELETE FROM t WHERE n = 1").await;
    run(&b, "UPDATE t SET n = 2 WHERE name = 'eve'")
        .await
        .unwrap();
    // On the new version: 'new', 'ada' and 'bob'; the row that was updated has another n.
    assert_eq!((finish(&a, &all).await.unwrap(), reruns(&all)), (3, 1));
    assert_eq!(number(&b, "SELECT sum(n) FROM t").await, 2);
}

/// What a statement with RETURNING yields, once it is carried out.
async fn returned(ctx: &SessionContext, plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
    let batches = collect(Arc::clone(plan), ctx.task_ctx()).await.unwrap();
    let mut rows: Vec<String> = batches
        .iter()
        .flat_map(|batch| {
            let names = datafusion::arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
            let rows: Vec<_> = names
                .as_string::<i32>()
                .iter()
                .flatten()
                .map(str::to_owned)
                .collect();
            rows
        })
        .collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn returned_rows_are_those_of_the_attempt_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        session(&dir, "snapshot").await,
        session(&dir, "snapshot").await,
    );
    run(&a, TWO_ON_CALL).await.unwrap();
    let all = begin_own(&a, "DELETE FROM t WHERE n = 1 RETURNING name").await;
    let same = begin_own(
        &b,
        "DELETE FROM t WHERE name <> 'ada' RETURNING name || '!'",
    )
    .await;
    assert_eq!(returned(&b, &same).await, ["bob!", "eve!"]);
    assert_eq!(returned(&a, &all).await, ["ada"]);
    assert_eq!(reruns(&all), 1);

    run(&a, TWO_ON_CALL).await.unwrap();
    let all = begin_own(&a, "UPDATE t SET name = name || n, n = 5 RETURNING name").await;
    run(&b, "UPDATE t SET n = 2 WHERE name = 'eve'")
        .await
        .unwrap();
    run(&b, "DELETE FROM t WHERE name = 'bob'").await.unwrap();
    assert_eq!(returned(&a, &all).await, ["ada1", "eve2"]);
    assert_eq!(reruns(&all), 1);
    assert_eq!(number(&b, "SELECT sum(n) FROM t").await, 10);

    // Appends do not disturb each other.
    let new = "INSERT INTO t (name) VALUES ('new') RETURNING name";
    let (first, second) = (begin_own(&a, new).await, begin_own(&b, new).await);
    assert_eq!(returned(&a, &first).await, ["new"]);
    assert_eq!(returned(&b, &second).await, ["new"]);
    assert_eq!(reruns(&first) + reruns(&second), 0);
}

#[tokio::test]
async fn rows_to_be_returned_that_do_not_fit_fail_the_statement_before_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let a = session(&dir, "snapshot").await;
    run(
        &a,
        "INSERT INTO t SELECT repeat(CAST(i AS VARCHAR), 200), true, i FROM range(20000) AS r(i)",
    )
    .await
    .unwrap();
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(8 << 20, 1.0)
        .build_arc()
        .unwrap();
    let small = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    datafusion_supertable::register(&small).unwrap();
    let open = format!(
        "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{}/t/'",
        dir.path().display()
    );
    run(&small, &open).await.unwrap();
    let sql = "DELETE FROM t WHERE n >= 0 RETURNING *";
    let frame = datafusion_supertable::sql(&small, sql).await.unwrap();
    let error = frame.collect().await.unwrap_err();
    assert!(
        matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)),
        "{error}"
    );
    assert_eq!(number(&a, "SELECT count(*) FROM t").await, 20_000);
}

/// Changes a row each time that its statement is evaluated, so that the statement never gets first.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Meddler {
    signature: datafusion::logical_expr::Signature,
    location: String,
}

impl datafusion::logical_expr::ScalarUDFImpl for Meddler {
    fn name(&self) -> &str {
        "meddle"
    }

    fn signature(&self) -> &datafusion::logical_expr::Signature {
        &self.signature
    }

    fn return_type(
        &self,
        _arg_types: &[datafusion::arrow::datatypes::DataType],
    ) -> Result<datafusion::arrow::datatypes::DataType> {
        Ok(datafusion::arrow::datatypes::DataType::Int64)
    }

    fn invoke_with_args(
        &self,
        args: datafusion::logical_expr::ScalarFunctionArgs,
    ) -> Result<datafusion::logical_expr::ColumnarValue> {
        let location = self.location.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let ctx = SessionContext::new();
                datafusion_supertable::register(&ctx).unwrap();
                let sql =
                    format!("CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{location}'");
                run(&ctx, &sql).await.unwrap();
                run(&ctx, "UPDATE t SET n = n + 1").await.unwrap();
                datafusion_supertable::wait_for_background_work(&ctx).await;
            });
        })
        .join()
        .unwrap();
        Ok(args.args[0].clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_always_comes_second_ends_in_a_conflict_and_changes_nothing() {
    for sql in [
        "UPDATE t SET n = meddle(n) WHERE name = 'ada'",
        "INSERT INTO t SELECT name, on_call, meddle(n) FROM t WHERE name = 'ada'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let ctx = session(&dir, "serializable").await;
        let meddler = Meddler {
            signature: datafusion::logical_expr::Signature::any(
                1,
                datafusion::logical_expr::Volatility::Volatile,
            ),
            location: format!("{}/t/", dir.path().display()),
        };
        ctx.register_udf(datafusion::logical_expr::ScalarUDF::new_from_impl(meddler));
        run(
            &ctx,
            "INSERT INTO t VALUES ('ada', true, 0), ('bob', true, 0)",
        )
        .await
        .unwrap();
        let plan = begin(&ctx, sql).await;
        let error = finish(&ctx, &plan).await.unwrap_err();
        let found = Error::find_in(&error).map(Error::kind);
        assert_eq!(found, Some(ErrorKind::Conflict), "{sql}: {error}");
        assert_eq!(reruns(&plan), 9, "{sql}");
        assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, 2, "{sql}");
        assert_eq!(number(&ctx, "SELECT min(n) FROM t").await, 10, "{sql}");
    }
}
