//! The table that the sections measure: deterministic rows of mixed types.

use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

/// Columns of the benchmark table.
pub(crate) const COLUMNS: &str =
    "id BIGINT NOT NULL, r BIGINT, grp INT, amount DOUBLE, note VARCHAR, at TIMESTAMP";

/// A query that yields `rows` rows: `id` ascending, `r` spread evenly over 0..1,000,000.
pub(crate) fn rows_query(rows: u64) -> String {
    format!(
        "SELECT value AS id, (value * 7919) % 1000000 AS r, CAST(value % 97 AS INT) AS grp, \
         CAST(value % 1009 AS DOUBLE) / 8 AS amount, 'note ' || CAST(value % 5003 AS VARCHAR) AS note, \
         to_timestamp_nanos(value * 1000000000) AS at FROM range(0, {rows})"
    )
}

/// A session with supertables registered.
pub(crate) fn session() -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new());
    datafusion_supertable::register(&ctx).unwrap();
    ctx
}

/// The same with a memory pool of so many bytes.
pub(crate) fn bounded(bytes: usize) -> SessionContext {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0);
    let runtime = runtime.build_arc().unwrap();
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    datafusion_supertable::register(&ctx).unwrap();
    ctx
}

/// Runs a statement and drops its rows.
pub(crate) async fn run(ctx: &SessionContext, sql: &str) {
    ctx.sql(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
        .collect()
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// Runs a DML statement or a `count(*)` and returns its number.
pub(crate) async fn count(ctx: &SessionContext, sql: &str) -> u64 {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::{DataType, Int64Type, UInt64Type};
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let column = batches[0].column(0);
    match column.data_type() {
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(0),
        _ => column.as_primitive::<Int64Type>().value(0) as u64,
    }
}

/// Creates table `name` in `dir` and fills it with `rows` rows.
pub(crate) async fn fill(ctx: &SessionContext, name: &str, dir: &std::path::Path, rows: u64) {
    run(
        ctx,
        &format!(
            "CREATE EXTERNAL TABLE {name} ({COLUMNS}) STORED AS SUPERTABLE LOCATION '{}/'",
            dir.display()
        ),
    )
    .await;
    run(ctx, &format!("INSERT INTO {name} {}", rows_query(rows))).await;
    // What earlier sections have not yet written would be waited for by the syncs of what is measured.
    let synced = std::process::Command::new("sync").status();
    assert!(synced.unwrap().success());
}

/// Registers the Parquet files under `dir` as the plain table `name`.
pub(crate) async fn plain(ctx: &SessionContext, name: &str, dir: &std::path::Path) {
    run(
        ctx,
        &format!(
            "CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{}/'",
            dir.display()
        ),
    )
    .await;
}
