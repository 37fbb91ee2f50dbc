//! Sessions of every kind: without the registration, with a planner of their own, many at once.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionContext;
use datafusion_supertable::unstable::dml::SupertableProvider;
use datafusion_supertable::unstable::table::Background;
use datafusion_supertable::{Error, ErrorKind, SupertableSessionExt, open_catalog};
use tempfile::TempDir;

use crate::support::sql::{context, number, run};

fn create(dir: &TempDir) -> String {
    format!(
        "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, n BIGINT) STORED AS SUPERTABLE LOCATION '{}/t/'",
        dir.path().display()
    )
}

async fn registered(dir: &TempDir) -> SessionContext {
    let ctx = context();
    datafusion_supertable::register(&ctx).unwrap();
    run(&ctx, &create(dir)).await.unwrap();
    ctx
}

/// What the table of that name does in the background, without the table.
async fn background(ctx: &SessionContext, name: &str) -> Background {
    let provider = ctx.table_provider(name).await.unwrap();
    let provider = provider.downcast_ref::<SupertableProvider>().unwrap();
    provider.table().background()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_is_not_kept_in_memory_by_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = registered(&dir).await;
    let root = dir.path().join("lake").display().to_string();
    open_catalog(&ctx, "lake", &root).unwrap();
    run(&ctx, "CREATE SCHEMA lake.s").await.unwrap();
    let create = "CREATE TABLE lake.s.u (id BIGINT NOT NULL, n BIGINT)";
    datafusion_supertable::sql(&ctx, create)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    for name in ["t", "lake.s.u"] {
        for sql in [
            format!("INSERT INTO {name} VALUES (1, 1), (2, 2)"),
            format!("DELETE FROM {name} WHERE id = 1"),
        ] {
            run(&ctx, &sql).await.unwrap();
        }
        let background = background(&ctx, name).await;
        datafusion_supertable::wait_for_background_work(&ctx).await;
        assert!(!background.is_over(), "{name}");
        let drop = format!("DROP TABLE {name}");
        let dropped = datafusion_supertable::sql(&ctx, &drop).await.unwrap();
        dropped.collect().await.unwrap();
        background.settle().await;
        assert!(background.is_over(), "{name}");
    }
}

#[tokio::test]
async fn without_the_registration_reading_and_inserting_work_and_changing_rows_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let with = registered(&dir).await;
    run(&with, "INSERT INTO t VALUES (1, 1), (2, 2)")
        .await
        .unwrap();

    let without = SessionContext::new();
    let location = format!("{}/t/", dir.path().display());
    let table = datafusion_supertable::unstable::sql::open_table(&without.state(), &location)
        .await
        .unwrap();
    without.register_table("t", Arc::new(table)).unwrap();
    run(&without, "INSERT INTO t VALUES (3, 3)").await.unwrap();
    for statement in [
        "DELETE FROM t WHERE 1 = 0",
        "DELETE FROM t",
        "INSERT OVERWRITE t SELECT * FROM t",
        "UPDATE t SET n = 0 WHERE id = 1",
        "MERGE INTO t USING (VALUES (1, 2)) AS s(a, b) ON t.id = s.a WHEN MATCHED THEN DELETE",
    ] {
        let error = run(&without, statement).await.unwrap_err();
        let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{statement}: {error}"));
        assert_eq!(ours.kind(), ErrorKind::Unsupported, "{statement}");
        assert!(ours.to_string().contains("datafusion_supertable::register"));
    }
    assert_eq!(number(&with, "SELECT count(*) FROM t").await, 3);
}

/// A planner that a product of its own brings along.
#[derive(Debug)]
struct OwnPlanner;

#[async_trait]
impl QueryPlanner for OwnPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::default()
            .create_physical_plan(plan, state)
            .await
    }
}

#[tokio::test]
async fn a_session_with_its_own_query_planner_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_query_planner(Arc::new(OwnPlanner))
        .with_supertable()
        .build();
    assert!(format!("{:?}", state.query_planner()).contains("OwnPlanner"));
    let ctx = SessionContext::new_with_state(state);
    run(&ctx, &create(&dir)).await.unwrap();
    run(&ctx, "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
        .await
        .unwrap();
    let gone = run(&ctx, "DELETE FROM t WHERE id IN (SELECT max(id) FROM t)").await;
    assert_eq!(gone.unwrap(), 1);
    assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn an_overwrite_replaces_what_its_own_query_could_read_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (ctx, other) = (registered(&dir).await, registered(&dir).await);
    run(&ctx, "INSERT INTO t VALUES (1, 1), (2, 2)")
        .await
        .unwrap();
    let overwrite = ctx
        .sql("INSERT OVERWRITE t SELECT * FROM t WHERE id > 1")
        .await
        .unwrap();
    let plan = overwrite.create_physical_plan().await.unwrap();
    run(&other, "INSERT INTO t VALUES (3, 3)").await.unwrap();
    datafusion::physical_plan::collect(plan, ctx.task_ctx())
        .await
        .unwrap();
    assert_eq!(number(&ctx, "SELECT sum(id) FROM t").await, 5);
}

#[tokio::test]
async fn registering_twice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = registered(&dir).await;
    datafusion_supertable::register(&ctx).unwrap();
    run(&ctx, "INSERT INTO t VALUES (1, 1)").await.unwrap();
    assert_eq!(run(&ctx, "UPDATE t SET n = n + 1").await.unwrap(), 1);
    assert_eq!(number(&ctx, "SELECT n FROM t").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_counter_incremented_by_many_sessions_ends_at_their_sum() {
    const WRITERS: usize = 4;
    const TIMES: usize = 5;
    let dir = tempfile::tempdir().unwrap();
    let first = registered(&dir).await;
    run(&first, "INSERT INTO t VALUES (1, 0)").await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        // Sessions of their own: they meet at the pointer only.
        let ctx = registered(&dir).await;
        writers.spawn(async move {
            for _ in 0..TIMES {
                // A statement that loses more often than it is willing to says so; run it again.
                while let Err(error) = run(&ctx, "UPDATE t SET n = n + 1 WHERE id = 1").await {
                    let kind = Error::find_in(&error).map(Error::kind);
                    assert_eq!(kind, Some(ErrorKind::Conflict), "{error}");
                }
            }
            datafusion_supertable::wait_for_background_work(&ctx).await;
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let total = (WRITERS * TIMES) as i64;
    assert_eq!(number(&first, "SELECT n FROM t").await, total);
    assert_eq!(number(&first, "SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn prepared_statements_change_the_rows_that_their_parameters_name() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = registered(&dir).await;
    run(&ctx, "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
        .await
        .unwrap();
    run(&ctx, "PREPARE del(BIGINT) AS DELETE FROM t WHERE id = $1")
        .await
        .unwrap();
    assert_eq!(run(&ctx, "EXECUTE del(2)").await.unwrap(), 1);
    // Again: nothing is left to delete, and the version is the current one.
    assert_eq!(run(&ctx, "EXECUTE del(2)").await.unwrap(), 0);
    assert_eq!(run(&ctx, "EXECUTE del(3)").await.unwrap(), 1);
    assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, 1);
}
