//! What SQL statements cost on the object store: round trips, requests, bytes.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::memory::InMemory;
use url::Url;

use crate::support::fault_store::{FaultStore, Operation, Plan};
use crate::support::sql::metric;

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
    datafusion_supertable::wait_for_background_work(&ctx).await;
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
    datafusion_supertable::wait_for_background_work(&ctx).await;
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
    datafusion_supertable::wait_for_background_work(&ctx).await;
    assert_eq!(count[0].column(0).as_primitive::<UInt64Type>().value(0), 0);
    let log = plan.log().split_off(before);
    assert!(superfiles_read(&log).is_empty(), "{log:#?}");
    assert!(
        !log.iter()
            .any(|o| o.kind == "put" && o.path.ends_with("current"))
    );
}

fn count(batches: &[datafusion::arrow::array::RecordBatch]) -> u64 {
    batches[0].column(0).as_primitive::<UInt64Type>().value(0)
}

/// How often the pointer was written.
fn commits(log: &[Operation]) -> usize {
    log.iter()
        .filter(|o| o.kind == "put" && o.path.ends_with("current"))
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_whole_superfiles_reads_only_the_one_at_the_edge() {
    let plan = Plan::healthy();
    let ctx = session(&plan).await;
    run(&ctx, "DELETE FROM t WHERE id = 60000").await;
    for (predicate, rows, read) in [
        // Superfiles hold 50,000 rows each, in order.
        ("id >= 120000 AND id IS NOT NULL", 80_000, 1),
        ("id BETWEEN 50000 AND 99999", 49_999, 0),
        ("id < 49999", 49_999, 1),
    ] {
        let before = plan.log().len();
        let deleted = run(&ctx, &format!("DELETE FROM t WHERE {predicate}")).await;
        assert_eq!(count(&deleted), rows, "{predicate}");
        let log = plan.log().split_off(before);
        assert_eq!(superfiles_read(&log).len(), read, "{predicate}: {log:#?}");
    }
    let left = run(&ctx, "SELECT min(id), max(id), count(*) FROM t").await;
    let left = |i: usize| left[0].column(i).as_primitive::<Int64Type>().value(0);
    assert_eq!((left(0), left(1), left(2)), (49_999, 119_999, 20_001));
    datafusion_supertable::wait_for_background_work(&ctx).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_everything_reads_no_superfile() {
    for statement in [
        "DELETE FROM t",
        "DELETE FROM t WHERE true",
        "DELETE FROM t WHERE id IS NOT NULL",
        "DELETE FROM t WHERE id >= 0 OR v = 'x'",
    ] {
        let plan = Plan::healthy();
        let ctx = session(&plan).await;
        run(&ctx, "DELETE FROM t WHERE id % 1000 = 1").await;
        let before = plan.log().len();
        assert_eq!(count(&run(&ctx, statement).await), 199_800, "{statement}");
        let log = plan.log().split_off(before);
        assert!(superfiles_read(&log).is_empty(), "{statement}: {log:#?}");
        assert_eq!(commits(&log), 1, "{statement}");
        assert!(
            !log.iter()
                .any(|o| o.kind == "put" && o.path.ends_with(".tombstones")),
            "{statement}: {log:#?}"
        );
        let rows = run(&ctx, "SELECT count(*) FROM t").await;
        assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 0);
        datafusion_supertable::wait_for_background_work(&ctx).await;
    }
}

#[tokio::test(start_paused = true)]
async fn statements_that_match_no_row_commit_nothing() {
    let plan = Plan::healthy();
    let ctx = session(&plan).await;
    run(
        &ctx,
        "CREATE EXTERNAL TABLE empty (id BIGINT, v VARCHAR) STORED AS SUPERTABLE LOCATION 'counted://bucket/empty/'",
    )
    .await;
    let before = plan.log().len();
    for statement in [
        "DELETE FROM t WHERE v = 'nothing'",
        "DELETE FROM t WHERE false",
        "DELETE FROM empty",
        "UPDATE t SET v = 'x' WHERE v = 'nothing'",
        "INSERT INTO t SELECT * FROM t WHERE v = 'nothing'",
        "INSERT OVERWRITE empty SELECT * FROM empty",
        "TRUNCATE TABLE empty",
        "MERGE INTO t USING empty AS s ON t.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)",
        "MERGE INTO t USING (SELECT -1 AS id) AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = 'x'",
        "MERGE INTO t USING (SELECT 1 AS id) AS s ON t.id = s.id WHEN MATCHED AND t.v = 'nothing' THEN DELETE",
    ] {
        assert_eq!(count(&run(&ctx, statement).await), 0, "{statement}");
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let log = plan.log().split_off(before);
    assert_eq!(commits(&log), 0, "{log:#?}");
    assert!(
        !log.iter()
            .any(|o| o.kind == "put" && !o.path.contains("/wal/")),
        "{log:#?}"
    );
}

/// Of the columns that a predicate does not name, only the pages with rows that it keeps are read: here no page
/// statistics help, since every page spans all values of `h`.
#[tokio::test(start_paused = true)]
async fn a_query_for_one_value_reads_few_pages_of_other_columns() {
    let plan = Plan::with_latency(LATENCY);
    let ctx = session(&plan).await;
    for statement in [
        "CREATE EXTERNAL TABLE u (h BIGINT, name VARCHAR, note VARCHAR) STORED AS SUPERTABLE LOCATION 'counted://bucket/u/'",
        "SET supertable.target_file_rows = 1000000",
        "INSERT INTO u SELECT (value * 2654435761) % 1000003, 'name ' || value, md5(CAST(value AS VARCHAR)) FROM range(0, 200000)",
        "DELETE FROM u WHERE h % 10 = 0",
        "SELECT max(note) FROM u WHERE h = 1",
    ] {
        run(&ctx, statement).await;
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let wanted = (123_457_i64 * 2_654_435_761) % 1_000_003;
    assert_ne!(wanted % 10, 0, "this row lives");
    let mut read = Vec::new();
    for predicate in [format!("h = {wanted}"), format!("h + 0 = {wanted}")] {
        let query = ctx.sql(&format!("SELECT * FROM u WHERE {predicate}")).await;
        let plan = query.unwrap().create_physical_plan().await.unwrap();
        let start = tokio::time::Instant::now();
        let rows = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
        let trips = start.elapsed().as_millis() / LATENCY.as_millis();
        let rows = datafusion::arrow::util::pretty::pretty_format_batches(&rows).unwrap();
        assert!(rows.to_string().contains("| name 123457 |"), "{rows}");
        assert_eq!(rows.to_string().lines().count(), 5, "{rows}");
        let late = metric(&plan, "files_late_materialized");
        read.push((metric(&plan, "bytes_scanned"), trips, late));
    }
    let [(late, trips, 1..), (all, _, 0)] = read[..] else {
        panic!("one way for each query: {read:?}");
    };
    assert!(late * 2 < all, "{late} of {all} bytes");
    assert!(trips <= 3, "{trips} round trips");
    // A DELETE decodes no other column: where a row is costs nothing to tell.
    let delete = ctx.sql(&format!("DELETE FROM u WHERE h = {wanted}")).await;
    let plan = delete.unwrap().create_physical_plan().await.unwrap();
    let _ = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
    assert_eq!(metric(&plan, "files_late_materialized"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_no_order_is_looked_up_in_the_superfiles_that_may_have_it() {
    let plan = Plan::healthy();
    let ctx = session(&plan).await;
    for statement in [
        "CREATE EXTERNAL TABLE k (id VARCHAR PRIMARY KEY, v BIGINT) STORED AS SUPERTABLE \
         LOCATION 'counted://bucket/k/' OPTIONS ('supertable.write.target_file_rows' '1000')",
        "INSERT INTO k SELECT md5(CAST(value AS VARCHAR)) AS id, value AS v FROM range(20000)",
        // Reads the filters, once in a session.
        "SELECT * FROM k WHERE id = md5('nobody')",
    ] {
        run(&ctx, statement).await;
    }
    let keys: Vec<u64> = (0..20_000).step_by(997).collect();
    let before = plan.log().len();
    for key in &keys {
        let rows = run(&ctx, &format!("SELECT v FROM k WHERE id = md5('{key}')")).await;
        assert_eq!(count_of(&rows), 1);
        let values = rows.iter().find(|batch| batch.num_rows() > 0).unwrap();
        let value = values.column(0).as_primitive::<Int64Type>().value(0);
        assert_eq!(value as u64, *key);
    }
    let log = plan.log().split_off(before);
    let read = log
        .iter()
        .filter(|o| o.kind == "get" && o.path.ends_with(".parquet"));
    let mut read: Vec<&str> = read.map(|o| o.path.as_str()).collect();
    read.dedup();
    // Each lookup reads the superfile that has the key, and seldom another.
    assert!(
        read.len() <= keys.len() + 4,
        "{} superfiles: {read:#?}",
        read.len()
    );
    assert!(log.iter().all(|o| o.kind != "put"), "{log:#?}");
    // Statements that find keys in other ways.
    let before = plan.log().len();
    for statement in [
        "INSERT INTO k VALUES (md5('new'), 0)",
        "MERGE INTO k USING (SELECT md5('2991') AS id) AS s ON k.id = s.id WHEN MATCHED THEN UPDATE SET v = -1",
        "DELETE FROM k USING (SELECT md5('new') AS id) AS s WHERE k.id = s.id",
    ] {
        let changed = datafusion_supertable::sql(&ctx, statement).await.unwrap();
        assert_eq!(count(&changed.collect().await.unwrap()), 1, "{statement}");
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let log = plan.log().split_off(before);
    let read = superfiles_read(&log);
    assert!(read.len() <= 4, "{read:#?}");
    run(&ctx, "DELETE FROM k WHERE id IN (md5('997'), md5('1994'))").await;
    let left = run(&ctx, "SELECT count(*) FROM k").await;
    assert_eq!(
        left[0].column(0).as_primitive::<Int64Type>().value(0),
        19_998
    );
}

fn count_of(batches: &[datafusion::arrow::array::RecordBatch]) -> usize {
    batches.iter().map(|batch| batch.num_rows()).sum()
}
