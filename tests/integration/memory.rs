//! Statements in a session whose memory is bounded: they spill, or fail and change nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use tempfile::TempDir;

use crate::support::sql::{number, run, try_show};

const ROWS: i64 = 400_000;
const POOL: usize = 96 << 20;

/// A session with a pool of `bytes`, or without a bound.
async fn session(dir: &TempDir, bytes: Option<usize>) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2);
    // The default keeps 10 MB for each sort's merge, more than these pools have.
    config.options_mut().execution.sort_spill_reservation_bytes = 128 << 10;
    let runtime = match bytes {
        None => RuntimeEnvBuilder::new().build_arc().unwrap(),
        Some(bytes) => RuntimeEnvBuilder::new()
            // Names the greatest consumers when it is exhausted.
            .with_memory_pool(Arc::new(TrackConsumersPool::new(
                FairSpillPool::new(bytes),
                NonZeroUsize::new(8).unwrap(),
            )))
            .build_arc()
            .unwrap(),
    };
    let ctx = SessionContext::new_with_config_rt(config, runtime);
    datafusion_supertable::register(&ctx).unwrap();
    let sql = format!(
        "CREATE EXTERNAL TABLE t (k BIGINT NOT NULL, v BIGINT, s VARCHAR) STORED AS SUPERTABLE \
         LOCATION '{}/t/'",
        dir.path().display()
    );
    run(&ctx, &sql).await.unwrap();
    ctx
}

async fn explain(ctx: &SessionContext, sql: &str) -> String {
    let batches = ctx
        .sql(&format!("EXPLAIN {sql}"))
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

async fn filled(dir: &TempDir) -> SessionContext {
    let ctx = session(dir, None).await;
    let sql = format!(
        "INSERT INTO t SELECT value, 0, 'a value that takes some room ' || value FROM range(0, {ROWS})"
    );
    run(&ctx, &sql).await.unwrap();
    ctx
}

/// Every row of the upper half changes, and as many rows are new.
fn upsert() -> String {
    format!(
        "MERGE INTO t USING (SELECT value AS k, value * 2 AS v, 'the source has a lot of room for values, so much of it that it does not fit beside the table: ' || value AS s \
         FROM range({}, {})) AS s ON t.k = s.k \
         WHEN MATCHED THEN UPDATE SET v = s.v, s = s.s \
         WHEN NOT MATCHED THEN INSERT (k, v, s) VALUES (s.k, s.v, s.s)",
        ROWS / 2,
        ROWS + ROWS / 2
    )
}

#[tokio::test]
async fn a_large_upsert_in_bounded_memory_sorts_and_is_done_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let free = filled(&dir).await;
    // What is joined takes about as much.
    let bounded = session(&dir, Some(POOL)).await;
    let outcome = try_show(&bounded, &format!("EXPLAIN ANALYZE {}", upsert())).await;
    datafusion_supertable::wait_for_background_work(&bounded).await;
    let rows = number(&free, "SELECT count(*) FROM t").await;
    let changed = "SELECT count(*) FROM t WHERE v = k * 2 AND s LIKE 'the source %'";
    match outcome {
        Ok(plan) => {
            let join = plan.lines().find(|l| l.contains("SourceFirstJoinExec"));
            assert!(join.is_some_and(|l| !l.contains("spill_count=0")), "{plan}");
            assert_eq!(rows, ROWS + ROWS / 2);
            assert_eq!(number(&free, changed).await, ROWS);
        }
        // The engine's sorts merge what they spilled in memory that does not spill, and one of them may
        // take so much of the pool that another has none: then nothing is changed.
        Err(error) => {
            assert!(
                matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)),
                "{error}"
            );
            assert_eq!(rows, ROWS);
            assert_eq!(number(&free, changed).await, 0);
        }
    }
}

#[tokio::test]
async fn a_small_upsert_keeps_the_source_in_memory_and_streams_the_table() {
    let dir = tempfile::tempdir().unwrap();
    filled(&dir).await;
    let bounded = session(&dir, Some(POOL)).await;
    let sql = "MERGE INTO t USING (VALUES (7, 70), (-1, 10)) AS s(k, v) ON t.k = s.k \
               WHEN MATCHED THEN UPDATE SET v = s.v \
               WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, s.v)";
    let plan = explain(&bounded, sql).await;
    assert!(plan.contains("SourceFirstJoinExec"), "{plan}");
    assert_eq!(run(&bounded, sql).await.unwrap(), 2);
}

#[tokio::test]
async fn a_statement_without_enough_memory_fails_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let free = filled(&dir).await;
    let starved = session(&dir, Some(64 << 10)).await;
    let error = run(&starved, &upsert()).await.unwrap_err();
    assert!(
        matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)),
        "{error}"
    );
    datafusion_supertable::wait_for_background_work(&starved).await;
    assert_eq!(number(&free, "SELECT count(*) FROM t").await, ROWS);
    assert_eq!(number(&free, "SELECT sum(v) FROM t").await, 0);
}

/// A table that is written in order, in a pool of `bytes` that whoever comes first may have.
async fn ordered(dir: &TempDir, bytes: usize) -> SessionContext {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(bytes)))
        .build_arc()
        .unwrap();
    // With DataFusion's own reservation for merging.
    let config = SessionConfig::new().with_target_partitions(2);
    let ctx = SessionContext::new_with_config_rt(config, runtime);
    datafusion_supertable::register(&ctx).unwrap();
    let sql = format!(
        "CREATE EXTERNAL TABLE o (k BIGINT NOT NULL, s VARCHAR) STORED AS SUPERTABLE LOCATION \
         '{}/o/' WITH ORDER (k)",
        dir.path().display()
    );
    run(&ctx, &sql).await.unwrap();
    ctx
}

#[tokio::test]
async fn rows_that_do_not_fit_are_sorted_in_a_part_of_the_pool_and_written_in_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = ordered(&dir, 60 << 20).await;
    let insert = format!(
        "INSERT INTO o SELECT (value * 7919) % {ROWS}, \
         'a value that takes some room, and more of it than the others do, so that it has to be spilled ' \
         || value FROM range(0, {ROWS})"
    );
    let plan = explain(&ctx, &insert).await;
    assert!(plan.contains("SupertableSort"), "{plan}");
    for n in 1..=3 {
        assert_eq!(run(&ctx, &insert).await.unwrap(), ROWS as u64);
        assert_eq!(number(&ctx, "SELECT count(*) FROM o").await, n * ROWS);
    }
    assert_eq!(
        run(&ctx, "UPDATE o SET k = -k").await.unwrap(),
        3 * ROWS as u64
    );
    assert_eq!(number(&ctx, "SELECT max(k) FROM o").await, 0);
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
    datafusion_supertable::wait_for_background_work(&ctx).await;
}
