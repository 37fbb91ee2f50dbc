//! What a statement that joins a source with its target reads of the target: superfiles and rows, counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::memory::InMemory;
use url::Url;

use crate::support::fault_store::{FaultStore, Plan};
use crate::support::sql::{number, on_store, show, try_show};

const SUPERFILES: i64 = 100;
const ROWS: i64 = 1000;

const UPSERT: &str = "WHEN MATCHED THEN UPDATE SET v = s.v \
                      WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.k, s.v)";

/// 100 superfiles of 1,000 rows, ids ascending from 0.
async fn filled() -> (SessionContext, Arc<Plan>, Arc<InMemory>) {
    let (plan, store) = (Plan::healthy(), Arc::new(InMemory::new()));
    let ctx = on_store(&store, &plan);
    for sql in [
        "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v BIGINT, s VARCHAR) STORED AS SUPERTABLE \
         LOCATION 'mem://bucket/t/'"
            .to_owned(),
        format!("SET supertable.target_file_rows = {ROWS}"),
        // In order.
        "SET datafusion.execution.target_partitions = 1".to_owned(),
        format!(
            "INSERT INTO t SELECT value, 0, 'v' || value FROM range(0, {})",
            SUPERFILES * ROWS
        ),
        "SET datafusion.execution.target_partitions = 2".to_owned(),
    ] {
        run(&ctx, &sql).await.unwrap();
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    (ctx, plan, store)
}

/// Runs a statement of this crate's dialect; the count that it answers, if it answers one.
async fn run(ctx: &SessionContext, sql: &str) -> Result<u64> {
    let batches = datafusion_supertable::sql(ctx, sql)
        .await?
        .collect()
        .await?;
    Ok(batches
        .first()
        .and_then(|b| b.column(0).as_primitive_opt::<UInt64Type>())
        .map_or(0, |c| c.value(0)))
}

/// What one statement did.
#[derive(Debug)]
struct Done {
    superfiles: BTreeSet<String>,
    sidecars: usize,
    plan: Arc<dyn ExecutionPlan>,
}

impl Done {
    /// A metric of all nodes called `name` that read a statement's target.
    fn metric(&self, node: &str, metric: &str) -> usize {
        fn sum(plan: &Arc<dyn ExecutionPlan>, node: &str, metric: &str) -> usize {
            let metrics = plan.metrics().filter(|_| plan.name() == node);
            let own = metrics.and_then(|m| match metric {
                "spilled_rows" => m.spilled_rows(),
                named => m.sum_by_name(named).map(|value| value.as_usize()),
            });
            let below: usize = plan
                .children()
                .into_iter()
                .map(|child| sum(child, node, metric))
                .sum();
            own.unwrap_or(0) + below
        }
        sum(&self.plan, node, metric)
    }

    fn of_join(&self, metric: &str) -> usize {
        self.metric("SourceFirstJoinExec", metric)
    }

    /// Rows that the target's scan decoded.
    fn decoded(&self) -> usize {
        fn rows(plan: &Arc<dyn ExecutionPlan>, of_target: bool) -> usize {
            if plan.name() == "DataSourceExec" {
                let rows = plan.metrics().and_then(|m| m.output_rows());
                return rows.filter(|_| of_target).unwrap_or(0);
            }
            let first = plan.name() == "SourceFirstJoinExec";
            plan.children()
                .into_iter()
                .enumerate()
                .map(|(at, child)| rows(child, of_target || first && at == 1))
                .sum()
        }
        rows(&self.plan, false)
    }
}

async fn done(ctx: &SessionContext, faults: &Arc<Plan>, sql: &str) -> Done {
    let before = faults.log().len();
    let frame = datafusion_supertable::sql(ctx, sql).await.unwrap();
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.unwrap();
    collect(Arc::clone(&plan), context).await.unwrap();
    let log = faults.log().split_off(before);
    let read = |ending: &str| {
        let read = log
            .iter()
            .filter(|o| o.kind == "get" && o.path.ends_with(ending));
        read.map(|o| o.path.clone()).collect::<BTreeSet<_>>()
    };
    Done {
        superfiles: read(".parquet"),
        sidecars: read(".tombstones").len(),
        plan,
    }
}

#[tokio::test]
async fn a_source_of_neighbouring_keys_opens_the_superfiles_that_have_them() {
    let (ctx, faults, _) = filled().await;
    let source = "(SELECT value AS k, 7 AS v FROM range(42000, 43000)) AS s";
    // Of unknown size, as the engine sees it; each statement changes the same rows.
    for sql in [
        format!("MERGE INTO t USING {source} ON t.id = s.k {UPSERT}"),
        format!("MERGE INTO t USING {source} ON t.id = s.k AND t.v = s.v WHEN MATCHED THEN DELETE"),
        format!("MERGE INTO t USING {source} ON s.k = t.id {UPSERT}"),
        format!("UPDATE t SET v = s.v FROM {source} WHERE t.id = s.k"),
        format!("UPDATE t SET v = 8 WHERE id IN (SELECT k FROM {source})"),
        format!("UPDATE t SET v = 9 WHERE EXISTS (SELECT 1 FROM {source} WHERE s.k = t.id)"),
        format!("DELETE FROM t USING {source} WHERE t.id = s.k AND s.k < 42100"),
        format!("DELETE FROM t WHERE id IN (SELECT k FROM {source}) AND v >= 0"),
    ] {
        let before = number(
            &ctx,
            "SELECT count(*) FROM t WHERE id < 42000 OR id > 42999",
        )
        .await;
        let done = done(&ctx, &faults, &sql).await;
        // The superfile of these keys, and what the statements before have written.
        assert!(done.superfiles.len() <= 3, "{sql}: {done:#?}");
        assert!(done.decoded() <= 3 * ROWS as usize, "{sql}: {done:#?}");
        let left_out = done.metric("DataSourceExec", "superfiles_left_out_by_keys");
        assert!(left_out >= 99, "{sql}: {left_out}");
        // A condition of the source alone is its own.
        let rows = if sql.contains("s.k < 42100") {
            100
        } else {
            1000
        };
        assert_eq!(done.of_join("source_rows"), rows, "{sql}");
        assert_eq!(done.of_join("spilled_rows"), 0, "{sql}");
        let after = number(
            &ctx,
            "SELECT count(*) FROM t WHERE id < 42000 OR id > 42999",
        )
        .await;
        assert_eq!(before, after, "{sql}");
    }
}

#[tokio::test]
async fn few_keys_far_apart_open_one_superfile_each_and_no_sidecar_of_others() {
    let (ctx, faults, _) = filled().await;
    run(&ctx, "DELETE FROM t WHERE id % 500 = 3").await.unwrap();
    let sql = format!(
        "MERGE INTO t USING (SELECT value * 33000 + 5 AS k, 7 AS v FROM range(0, 3)) AS s \
         ON t.id = s.k {UPSERT}"
    );
    let done = done(&ctx, &faults, &sql).await;
    assert_eq!(done.superfiles.len(), 3, "{done:#?}");
    assert!(done.sidecars <= 3, "{done:#?}");
    assert_eq!(done.of_join("key_ranges"), 3);
    let changed = "SELECT count(*) FROM t WHERE v = 7 AND id IN (5, 33005, 66005)";
    assert_eq!(number(&ctx, changed).await, 3);
}

#[tokio::test]
async fn a_source_without_keys_reads_nothing_of_the_target_and_its_rows_are_inserted() {
    let (ctx, faults, _) = filled().await;
    let sql = "MERGE INTO t USING (SELECT CAST(NULL AS BIGINT) AS k, value AS v FROM range(0, 5)) AS s \
               ON t.id = s.k WHEN MATCHED THEN DELETE \
               WHEN NOT MATCHED THEN INSERT (id, v) VALUES (-s.v, s.v)";
    let all = number(&ctx, "SELECT count(*) FROM t").await;
    let done = done(&ctx, &faults, sql).await;
    assert!(done.superfiles.is_empty(), "{done:#?}");
    assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, all + 5);
}

#[tokio::test]
async fn what_needs_every_row_of_the_target_sees_every_row() {
    let (ctx, faults, _) = filled().await;
    let source = "(SELECT value AS k, 7 AS v FROM range(42000, 43000)) AS s";
    let all = (SUPERFILES * ROWS) as usize;
    let sql = format!(
        "MERGE INTO t USING {source} ON t.id = s.k WHEN MATCHED THEN UPDATE SET v = s.v \
         WHEN NOT MATCHED BY SOURCE AND t.id % 1000 = 1 THEN UPDATE SET v = -1"
    );
    let merged = done(&ctx, &faults, &sql).await;
    assert_eq!(merged.decoded(), all, "{merged:#?}");
    assert_eq!(
        number(&ctx, "SELECT count(*) FROM t WHERE v = -1").await,
        SUPERFILES - 1
    );
    // No single key decides which rows match.
    let either = format!(
        "MERGE INTO t USING {source} ON t.id = s.k OR t.v = s.k WHEN MATCHED THEN UPDATE SET v = 5"
    );
    run(&ctx, &either).await.unwrap();
    assert_eq!(
        number(&ctx, "SELECT count(*) FROM t WHERE v = 5").await,
        1000
    );
    let others = format!("DELETE FROM t WHERE id NOT IN (SELECT k FROM {source})");
    run(&ctx, &others).await.unwrap();
    assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, 1000);
}

#[tokio::test]
async fn a_source_is_evaluated_once() {
    let (ctx, _, _) = filled().await;
    let sql = "MERGE INTO t USING (SELECT value AS k, CAST(random() * 1e15 AS BIGINT) AS v \
               FROM range(42000, 43000)) AS s ON t.id = s.k \
               WHEN MATCHED THEN UPDATE SET v = s.v, s = CAST(s.v AS VARCHAR)";
    assert_eq!(run(&ctx, sql).await.unwrap(), 1000);
    let same = "SELECT count(*) FROM t WHERE s = CAST(v AS VARCHAR) AND v > 0";
    assert_eq!(number(&ctx, same).await, 1000);
}

async fn in_pool(
    store: &Arc<InMemory>,
    faults: &Arc<Plan>,
    pool: Arc<dyn MemoryPool>,
) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().execution.sort_spill_reservation_bytes = 128 << 10;
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc();
    let ctx = SessionContext::new_with_config_rt(config, runtime.unwrap());
    datafusion_supertable::register(&ctx).unwrap();
    let store = FaultStore::new(Arc::clone(store) as _, Arc::clone(faults));
    ctx.register_object_store(&Url::parse("mem://bucket/").unwrap(), Arc::new(store));
    run(
        &ctx,
        "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'",
    )
    .await
    .unwrap();
    ctx
}

#[tokio::test]
async fn with_a_bound_on_memory_a_source_that_fits_is_what_the_hash_table_is_built_of() {
    let (_, faults, store) = filled().await;
    let pools: [Arc<dyn MemoryPool>; 2] = [
        Arc::new(FairSpillPool::new(64 << 20)),
        Arc::new(GreedyMemoryPool::new(64 << 20)),
    ];
    for (at, pool) in pools.into_iter().enumerate() {
        let ctx = in_pool(&store, &faults, pool).await;
        let sql = format!(
            "MERGE INTO t USING (SELECT value AS k, {at} AS v FROM range(42000, 43000)) AS s \
             ON t.id = s.k {UPSERT}"
        );
        let done = done(&ctx, &faults, &sql).await;
        assert!(done.superfiles.len() <= 2, "{done:#?}");
        assert_eq!(done.of_join("build_input_rows"), 1000);
        assert_eq!(done.of_join("spilled_rows"), 0);
        // What has to see all of the target keeps the source in memory, too.
        let sql = "MERGE INTO t USING (SELECT value AS k FROM range(42000, 43000)) AS s \
                   ON t.id = s.k AND t.v >= 0 WHEN NOT MATCHED BY SOURCE AND t.v = 99 THEN DELETE \
                   WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.k, 1)";
        let done = self::done(&ctx, &faults, sql).await;
        assert_eq!(done.of_join("build_input_rows"), 1000, "{done:#?}");
    }
}

#[tokio::test]
async fn a_source_that_does_not_fit_goes_to_disk_and_still_prunes_by_its_bounds() {
    let (_, faults, store) = filled().await;
    let ctx = in_pool(&store, &faults, Arc::new(FairSpillPool::new(64 << 20))).await;
    let (from, to) = (90_500, 190_000);
    let source = format!(
        "(SELECT value AS k, value % 1000 AS v, repeat('x', 100) || value AS text FROM range({from}, {to})) AS s"
    );
    let sql = format!(
        "MERGE INTO t USING {source} ON t.id = s.k AND t.v < s.k \
         WHEN MATCHED THEN UPDATE SET v = s.v, s = s.text \
         WHEN NOT MATCHED THEN INSERT (id, v, s) VALUES (s.k, s.v, s.text)"
    );
    let done = done(&ctx, &faults, &sql).await;
    assert!(
        done.of_join("spilled_rows") >= (to - from) as usize,
        "{done:#?}"
    );
    assert_eq!(done.of_join("key_ranges"), 1);
    assert_eq!(done.superfiles.len(), 10, "{done:#?}");
    assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, to);
    let right = "SELECT count(*) FROM t WHERE v = id % 1000 AND s LIKE 'xxx%' AND id >= 90500";
    assert_eq!(number(&ctx, right).await, to - from);
    let others = "SELECT count(*) FROM t WHERE v = 0 AND s = 'v' || id AND id < 90500";
    assert_eq!(number(&ctx, others).await, from);
}

/// Keys of many types, some of them equal in a way of their own: what a MERGE finds is what a join of copies in
/// memory finds.
#[tokio::test]
async fn keys_of_all_types_find_what_a_join_in_memory_finds() {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_supertable::register(&ctx).unwrap();
    let dir = tempfile::tempdir().unwrap();
    run(&ctx, "SET supertable.target_file_rows = 20")
        .await
        .unwrap();
    let cases = [
        ("INT", "CAST(value AS INT)", "value"),
        ("INT", "CAST(value AS INT)", "value * 1000000007"),
        ("BIGINT", "value", "CAST(value AS INT)"),
        ("BIGINT", "value", "CAST(value AS DOUBLE) / 2"),
        ("BIGINT", "value", "CAST(value AS VARCHAR)"),
        ("VARCHAR", "CAST(value AS VARCHAR)", "value"),
        ("VARCHAR", "'é' || value", "'é' || value"),
        (
            "VARCHAR",
            "repeat('same ', 40) || value",
            "repeat('same ', 40) || value",
        ),
        (
            "DECIMAL(10,2)",
            "CAST(value AS DECIMAL(10,2)) / 4",
            "CAST(value AS DECIMAL(12,4)) / 8",
        ),
        ("DECIMAL(10,2)", "CAST(value AS DECIMAL(10,2))", "value"),
        (
            "DOUBLE",
            "CASE WHEN value % 10 = 3 THEN 0.0 ELSE CAST(value AS DOUBLE) END",
            "CASE WHEN value = 45 THEN CAST('-0.0' AS DOUBLE) ELSE value / 2.0 END",
        ),
        (
            "DOUBLE",
            "CASE WHEN value % 10 = 3 THEN CAST('NaN' AS DOUBLE) ELSE CAST(value AS DOUBLE) END",
            "CASE WHEN value = 45 THEN CAST('NaN' AS DOUBLE) ELSE CAST(value AS DOUBLE) END",
        ),
        (
            "DATE",
            "CAST(CAST(value AS INT) AS DATE)",
            "CAST(CAST(value AS INT) AS DATE)",
        ),
        (
            "DATE",
            "CAST(CAST(value AS INT) AS DATE)",
            "to_timestamp(value * 43200)",
        ),
        ("TIMESTAMP", "to_timestamp(value)", "to_timestamp(value)"),
        (
            "TIMESTAMP WITH TIME ZONE",
            "to_timestamp(value * 1000)",
            "arrow_cast(to_timestamp(value * 500), 'Timestamp(Nanosecond, Some(\"+02:00\"))')",
        ),
        ("BOOLEAN", "value % 2 = 0", "value < 45"),
        (
            "BYTEA",
            "CAST(CAST(value AS VARCHAR) AS BYTEA)",
            "CAST(CAST(value AS VARCHAR) AS BYTEA)",
        ),
    ];
    for (at, (data_type, target, source)) in cases.into_iter().enumerate() {
        let with_null = |key: &str| format!("CASE WHEN value % 17 = 5 THEN NULL ELSE {key} END");
        let rows = format!(
            "SELECT {} AS k, value AS n FROM range(0, 200)",
            with_null(target)
        );
        let keys = format!(
            "SELECT {} AS k, value AS n FROM range(40, 60)",
            with_null(source)
        );
        for sql in [
            format!(
                "CREATE EXTERNAL TABLE t{at} (k {data_type}, n BIGINT, hit BIGINT) \
                 STORED AS SUPERTABLE LOCATION '{}/t{at}/'",
                dir.path().display()
            ),
            format!("INSERT INTO t{at} SELECT k, n, 0 FROM ({rows})"),
            format!("CREATE TABLE copy{at} AS SELECT k, n FROM t{at}"),
        ] {
            run(&ctx, &sql).await.unwrap();
        }
        for (on, rows_on) in [
            ("t.k = s.k", "c.k = s.k"),
            ("t.k = s.k AND t.n > s.n", "c.k = s.k AND c.n > s.n"),
            (
                "t.k IS NOT DISTINCT FROM s.k",
                "c.k IS NOT DISTINCT FROM s.k",
            ),
        ] {
            // Of the rows of a source that match one row, one stays.
            let rows = format!(
                "SELECT c.n FROM copy{at} AS c WHERE EXISTS (SELECT 1 FROM ({keys}) AS s WHERE {rows_on}) \
                 ORDER BY c.n"
            );
            let rows = format!("SELECT n FROM ({rows}) ORDER BY n");
            let Ok(expected) = try_show(&ctx, &rows).await else {
                continue;
            };
            let found = format!("SELECT n FROM t{at} WHERE hit = 1 ORDER BY n");
            for statement in [
                format!(
                    "MERGE INTO t{at} AS t USING (SELECT k, min(n) AS n FROM ({keys}) GROUP BY k) AS s \
                         ON {on} WHEN MATCHED THEN UPDATE SET hit = 1"
                ),
                format!(
                    "UPDATE t{at} AS t SET hit = 1 WHERE EXISTS (SELECT 1 FROM ({keys}) AS s WHERE {on})"
                ),
            ] {
                run(&ctx, &format!("UPDATE t{at} SET hit = 0"))
                    .await
                    .unwrap();
                run(&ctx, &statement).await.unwrap();
                assert_eq!(
                    show(&ctx, &found).await,
                    expected,
                    "{data_type} {source}: {statement}"
                );
            }
        }
    }
}
