//! What SQL statements cost on the object store: round trips, requests, bytes.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::memory::InMemory;
use url::Url;

use crate::support::fault_store::{FaultStore, Operation, Plan};

const LATENCY: Duration = Duration::from_millis(50);

async fn session(plan: &Arc<Plan>) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_supertable::register(&ctx).unwrap();
    let store = FaultStore::new(Arc::new(InMemory::new()), Arc::clone(plan));
    ctx.register_object_store(&Url::parse("counted://bucket/").unwrap(), Arc::new(store));
    for statement in [
        "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR) STORED AS SUPERTABLE LOCATION 'counted://bucket/t/'",
        "SET supertable.target_file_rows = 50000",
        "INSERT INTO t SELECT value, 'v' || value FROM range(0, 200000)",
        // Opens the superfiles' footers, as a session in use has.
        "SELECT sum(id), max(v) FROM t",
    ] {
        run(&ctx, statement).await;
    }
    datafusion_supertable::shutdown(&ctx).await;
    ctx
}

async fn run(ctx: &SessionContext, sql: &str) -> Vec<datafusion::arrow::array::RecordBatch> {
    ctx.sql(sql).await.unwrap().collect().await.unwrap()
}

fn superfiles_read(log: &[Operation]) -> std::collections::BTreeSet<String> {
    log.iter()
        .filter(|o| o.kind == "get" && o.path.ends_with(".parquet"))
        .map(|o| o.path.clone())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_point_delete_in_sql_takes_five_round_trips_and_touches_one_superfile() {
    let plan = Plan::with_latency(LATENCY);
    let ctx = session(&plan).await;
    // The first statement with a predicate on a superfile reads its page index: one trip more,
    // once in a session.
    run(&ctx, "SELECT v FROM t WHERE id = 123457").await;
    let before = plan.log().len();
    let start = tokio::time::Instant::now();
    let count = run(&ctx, "DELETE FROM t WHERE id = 123456").await;
    let trips = start.elapsed().as_millis() / LATENCY.as_millis();
    datafusion_supertable::shutdown(&ctx).await;
    assert_eq!(count[0].column(0).as_primitive::<UInt64Type>().value(0), 1);
    let log = plan.log().split_off(before);
    let bytes: usize = log.iter().map(|o| o.bytes).sum();
    assert!(trips <= 5, "{trips} round trips: {log:#?}");
    assert_eq!(superfiles_read(&log).len(), 1, "{log:#?}");
    assert!(bytes < 100_000, "{bytes} bytes written");
}

#[tokio::test(start_paused = true)]
async fn counting_rows_reads_no_superfile_also_after_deletes() {
    let plan = Plan::healthy();
    let ctx = session(&plan).await;
    run(&ctx, "DELETE FROM t WHERE id % 7 = 0").await;
    let before = plan.log().len();
    let rows = run(&ctx, "SELECT count(*) FROM t").await;
    assert_eq!(
        rows[0].column(0).as_primitive::<Int64Type>().value(0),
        200_000 - 28_572
    );
    let log = plan.log().split_off(before);
    assert!(superfiles_read(&log).is_empty(), "{log:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_prunes_everything_reads_no_superfile_and_commits_nothing() {
    let plan = Plan::healthy();
    let ctx = session(&plan).await;
    let before = plan.log().len();
    let count = run(&ctx, "DELETE FROM t WHERE id > 1000000").await;
    datafusion_supertable::shutdown(&ctx).await;
    assert_eq!(count[0].column(0).as_primitive::<UInt64Type>().value(0), 0);
    let log = plan.log().split_off(before);
    assert!(superfiles_read(&log).is_empty(), "{log:#?}");
    assert!(
        !log.iter()
            .any(|o| o.kind == "put" && o.path.ends_with("current"))
    );
}
