//! What the `sql/*.slt` files cannot show of history and catalogs: damaged and dead mutations, sessions without
//! the hook for statements, runtimes with one thread, several sessions at once.

use std::sync::Arc;

use chrono::TimeDelta;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion_supertable::unstable::format::OpKind;
use datafusion_supertable::unstable::storage::{RetryPolicy, Storage};
use datafusion_supertable::unstable::table::{Limits, Table};
use datafusion_supertable::unstable::wal::Env;
use datafusion_supertable::{Error, ErrorKind, open_catalog};
use futures::StreamExt;
use tempfile::TempDir;

/// The rows of a query, as text.
async fn rows(ctx: &SessionContext, sql: &str) -> Result<String> {
    let batches = ctx.sql(sql).await?.collect().await?;
    Ok(pretty_format_batches(&batches)?.to_string())
}

/// The same through this crate's hook.
async fn hooked(ctx: &SessionContext, sql: &str) -> Result<String> {
    let batches = datafusion_supertable::sql(ctx, sql)
        .await?
        .collect()
        .await?;
    Ok(pretty_format_batches(&batches)?.to_string())
}

fn kind(error: &DataFusionError) -> Option<ErrorKind> {
    Error::find_in(error).map(Error::kind)
}

async fn with_table(directory: &TempDir) -> SessionContext {
    let ctx = SessionContext::new();
    datafusion_supertable::register(&ctx).unwrap();
    let location = directory.path().join("t");
    let create = format!(
        "CREATE EXTERNAL TABLE t (id INT NOT NULL, v INT) STORED AS SUPERTABLE LOCATION '{}/'",
        location.display()
    );
    rows(&ctx, &create).await.unwrap();
    rows(&ctx, "INSERT INTO t VALUES (1, 10), (2, 20)")
        .await
        .unwrap();
    datafusion_supertable::wait_for_background_work(&ctx).await;
    ctx
}

async fn with_catalog(directory: &TempDir) -> SessionContext {
    let ctx = SessionContext::new();
    let root = directory.path().display().to_string();
    open_catalog(&ctx, "lake", &root).unwrap();
    ctx
}

#[tokio::test(flavor = "multi_thread")]
async fn mutations_in_flight_show_with_their_owners_and_damaged_ones_with_their_problem() {
    let directory = tempfile::tempdir().unwrap();
    let ctx = with_table(&directory).await;
    let place = directory.path().join("t");
    let storage = Storage::local(&place, RetryPolicy::default()).unwrap();
    let limits = Limits {
        lease: TimeDelta::hours(1),
        ..Limits::default()
    };
    let table = Table::open_with(storage, Env::system(), limits)
        .await
        .unwrap();
    let base = table.snapshot().await.unwrap();
    let mutation = table.begin(OpKind::Delete, base, "DELETE FROM t WHERE id = 1".into());
    mutation.durable().await.unwrap();
    let damaged = place.join("wal/mutations/00000000000000000000000000000001.json");
    std::fs::write(&damaged, "{\"wal_id\": 7").unwrap();

    let wal = "SELECT operation, state, owner IS NOT NULL AS owned, base_version, lease_expired, statement, \
               problem LIKE '%not a WAL document%' AS damaged FROM supertable_wal('t') ORDER BY wal_id";
    let shown = rows(&ctx, wal).await.unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 6, "{shown}");
    assert!(
        lines[3].contains("true") && !lines[3].contains("INTENT"),
        "{shown}"
    );
    assert!(
        lines[4].contains("| DELETE    | INTENT | true  | 2            | false         | DELETE FROM t WHERE id = 1 |"),
        "{shown}"
    );
    mutation.abort().await.unwrap();
    std::fs::remove_file(&damaged).unwrap();
    let left = rows(&ctx, "SELECT count(*) AS n FROM supertable_wal('t')")
        .await
        .unwrap();
    assert!(left.contains("| 0 |"), "{left}");
}

#[tokio::test]
async fn on_one_thread_what_needs_no_reading_while_planning_works() {
    let directory = tempfile::tempdir().unwrap();
    let ctx = with_table(&directory).await;
    rows(&ctx, "DELETE FROM t WHERE id = 1").await.unwrap();
    // The columns never changed, so the version can be looked for when the query runs.
    for sql in [
        "SELECT count(*) AS n FROM supertable_at('t', 2)",
        "SELECT count(*) AS n FROM \"t@v2\"",
        "SELECT count(*) AS n FROM supertable_changes('t', 1, 2)",
    ] {
        let shown = rows(&ctx, sql).await.unwrap();
        assert!(shown.contains("| 2 |"), "{sql}: {shown}");
    }
    let error = rows(&ctx, "SELECT * FROM supertable_at('t', 99)")
        .await
        .unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::NotFound), "{error}");
    // What must be read is refused, unless the answer comes so fast that nobody has to wait.
    if let Err(error) = rows(&ctx, "SELECT * FROM supertable_at('t', now())").await {
        assert_eq!(kind(&error), Some(ErrorKind::Unsupported), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_hook_a_catalog_creates_nothing_and_never_loses_a_table() {
    let directory = tempfile::tempdir().unwrap();
    let ctx = with_catalog(&directory).await;
    for sql in [
        "CREATE TABLE lake.public.t AS SELECT value AS n FROM generate_series(1, 100)",
        "CREATE TABLE lake.public.empty (a INT NOT NULL, b VARCHAR DEFAULT 'x')",
    ] {
        let error = rows(&ctx, sql).await.unwrap_err();
        assert!(error.to_string().contains("datafusion_supertable::sql"));
        hooked(&ctx, sql).await.unwrap();
    }
    rows(&ctx, "INSERT INTO lake.public.empty (a) VALUES (1)")
        .await
        .unwrap();
    for sql in [
        "DROP TABLE lake.public.t",
        "CREATE OR REPLACE TABLE lake.public.t AS SELECT 1 AS n",
    ] {
        // Refused by the catalog; DataFusion puts words of its own over that for a DROP.
        assert!(rows(&ctx, sql).await.is_err(), "{sql}");
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let other = with_catalog(&directory).await;
    let shown = rows(&other, "SELECT sum(n) AS s FROM lake.public.t")
        .await
        .unwrap();
    assert!(shown.contains("| 5050 |"), "{shown}");
    let shown = rows(&other, "SELECT b FROM lake.public.empty")
        .await
        .unwrap();
    assert!(shown.contains("| x |"), "{shown}");
    hooked(&other, "DROP TABLE lake.public.t").await.unwrap();
    let error = rows(&ctx, "SELECT * FROM lake.public.t").await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sessions_that_create_one_table_at_once_one_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let sessions = futures::future::join_all((0..6).map(|_| with_catalog(&directory))).await;
        let create = format!("CREATE TABLE lake.public.t AS SELECT {round} AS n");
        let outcomes =
            futures::future::join_all(sessions.iter().map(|ctx| hooked(ctx, &create))).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{outcomes:?}");
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(kind(error), Some(ErrorKind::AlreadyExists), "{error}");
        }
        for ctx in &sessions {
            let shown = rows(ctx, "SELECT n FROM lake.public.t").await.unwrap();
            assert!(shown.contains(&format!("| {round} |")), "{shown}");
        }
        // All drop it; one does.
        let drops = sessions
            .iter()
            .map(|ctx| hooked(ctx, "DROP TABLE lake.public.t"));
        let outcomes = futures::future::join_all(drops).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{outcomes:?}");
        for ctx in &sessions {
            datafusion_supertable::wait_for_background_work(ctx).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_feed_of_many_rows_stays_within_little_memory() {
    use datafusion::execution::memory_pool::FairSpillPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::SessionConfig;

    let directory = tempfile::tempdir().unwrap();
    let writer = with_table(&directory).await;
    rows(
        &writer,
        "INSERT INTO t SELECT value AS id, value AS v FROM generate_series(3, 1200000)",
    )
    .await
    .unwrap();
    rows(&writer, "UPDATE t SET v = v + 1").await.unwrap();
    datafusion_supertable::wait_for_background_work(&writer).await;

    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(48 << 20)))
        .build_arc()
        .unwrap();
    let config = SessionConfig::new().with_target_partitions(2);
    let ctx = SessionContext::new_with_config_rt(config, runtime);
    datafusion_supertable::register(&ctx).unwrap();
    let open = format!(
        "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{}/'",
        directory.path().join("t").display()
    );
    rows(&ctx, &open).await.unwrap();
    // Counted here: an aggregation beside sorts that take what there is would find nothing left.
    let feed = ctx
        .sql("SELECT _change_type FROM supertable_changes('t', 3)")
        .await
        .unwrap();
    let mut batches = feed.execute_stream().await.unwrap();
    let mut counts = std::collections::BTreeMap::new();
    while let Some(batch) = batches.next().await.transpose().unwrap() {
        for change in batch.column(0).as_string::<i32>().iter().flatten() {
            *counts.entry(change.to_owned()).or_insert(0) += 1;
        }
    }
    let counts: Vec<(&str, i32)> = counts.iter().map(|(c, n)| (c.as_str(), *n)).collect();
    assert_eq!(
        counts,
        [
            ("update_postimage", 1_200_000),
            ("update_preimage", 1_200_000)
        ]
    );
}
