//! Tables with a declared order: what is written has it, and what is read needs no sort where it has it.

use std::path::Path;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

async fn rows(ctx: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    ctx.sql(sql).await.unwrap().collect().await.unwrap()
}

async fn session(dir: &Path, order: &str) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_supertable::register(&ctx).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (k BIGINT, v BIGINT) STORED AS SUPERTABLE LOCATION '{}/t/' \
         WITH ORDER ({order})",
        dir.display()
    );
    rows(&ctx, &create).await;
    ctx
}

async fn plan_of(ctx: &SessionContext, sql: &str) -> String {
    let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await;
    displayable(plan.unwrap().as_ref())
        .indent(false)
        .to_string()
}

/// The query's rows as text, and those of the same query over a plain copy of the table.
async fn both(ctx: &SessionContext, query: &str) -> (String, String) {
    let copy = rows(ctx, "SELECT * FROM t").await;
    let plain = SessionContext::new();
    plain.register_batch("t", arrow_concat(&copy)).unwrap();
    let text = |batches: Vec<RecordBatch>| pretty_format_batches(&batches).unwrap().to_string();
    (
        text(rows(ctx, query).await),
        text(rows(&plain, query).await),
    )
}

fn arrow_concat(batches: &[RecordBatch]) -> RecordBatch {
    datafusion::arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap()
}

#[tokio::test]
async fn an_update_that_runs_again_writes_its_rows_in_order_too() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session(dir.path(), "v").await;
    rows(
        &ctx,
        "INSERT INTO t SELECT value, value + 0 FROM generate_series(1, 5000) AS g(value)",
    )
    .await;
    // Planned on the version that is about to be superseded.
    let update = ctx.sql("UPDATE t SET v = -v").await.unwrap();
    let plan = update.create_physical_plan().await.unwrap();
    rows(&ctx, "UPDATE t SET v = v + 1 WHERE k = 7").await;
    let before = superfiles(dir.path());
    collect(plan, ctx.task_ctx()).await.unwrap();
    let written: Vec<_> = superfiles(dir.path())
        .into_iter()
        .filter(|file| !before.contains(file))
        .collect();
    assert!(!written.is_empty());
    for file in written {
        let plain = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let frame = plain.read_parquet(&file, ParquetReadOptions::default());
        for batch in frame.await.unwrap().collect().await.unwrap() {
            let values = batch.column_by_name("v").unwrap();
            let values = values.as_primitive::<Int64Type>().values();
            assert!(values.is_sorted(), "{file}");
        }
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
}

fn superfiles(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir.join("t/superfiles"))
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.ends_with(".parquet"))
        .collect()
}

#[tokio::test]
async fn superfiles_in_order_are_read_without_a_sort_also_after_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session(dir.path(), "k").await;
    for from in [400, 100, 300, 200, 0] {
        let to = from + 99;
        rows(&ctx, &format!(
            "INSERT INTO t SELECT value, value % 7 FROM generate_series({from}, {to}) AS g(value)"
        ))
        .await;
    }
    rows(
        &ctx,
        "DELETE FROM t WHERE k % 10 = 3 OR k BETWEEN 150 AND 250",
    )
    .await;
    let query = "SELECT k, v FROM t ORDER BY k";
    let plan = plan_of(&ctx, query).await;
    assert!(!plan.contains("SortExec"), "{plan}");
    let (ours, plain) = both(&ctx, query).await;
    assert_eq!(ours, plain);
    // Overlapping superfiles, more of them than partitions: sorted, and still right.
    for _ in 0..3 {
        rows(
            &ctx,
            "INSERT INTO t SELECT value * 3, 0 FROM generate_series(0, 99) AS g(value)",
        )
        .await;
    }
    assert!(plan_of(&ctx, query).await.contains("SortExec"));
    let (ours, plain) = both(&ctx, "SELECT k, v FROM t ORDER BY k, v").await;
    assert_eq!(ours, plain);
    datafusion_supertable::wait_for_background_work(&ctx).await;
}

#[tokio::test]
async fn bounds_say_nothing_about_nulls_so_they_forbid_to_chain_superfiles() {
    for order in [
        "k ASC NULLS LAST",
        "k ASC NULLS FIRST",
        "k DESC NULLS FIRST",
        "k DESC NULLS LAST",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let ctx = session(dir.path(), order).await;
        for from in [0, 10, 20, 30] {
            rows(
                &ctx,
                &format!("INSERT INTO t VALUES ({from}, 1), ({from} + 5, 2), (NULL, {from})"),
            )
            .await;
        }
        let query = format!("SELECT k, v FROM t ORDER BY {order}, v");
        let (ours, plain) = both(&ctx, &query).await;
        assert_eq!(ours, plain, "{order}");
        let (ours, plain) = both(&ctx, &format!("SELECT k FROM t ORDER BY {order} LIMIT 6")).await;
        assert_eq!(ours, plain, "{order}");
        datafusion_supertable::wait_for_background_work(&ctx).await;
    }
}
