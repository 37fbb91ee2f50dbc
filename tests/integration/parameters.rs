//! Versions that a parameter names, through the API.

use std::future::Future;
use std::path::Path;

use datafusion::common::{ParamValues, Result, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use datafusion_supertable::{Error, ErrorKind};

use crate::support::sql::context;

/// A session with a table `t` of three versions: empty, with the rows 1 and 2, with the row 2.
async fn session(place: &Path) -> SessionContext {
    let ctx = context();
    datafusion_supertable::register(&ctx).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id BIGINT) STORED AS SUPERTABLE LOCATION '{}/t/'",
        place.display()
    );
    for sql in [
        create.as_str(),
        "INSERT INTO t VALUES (1), (2)",
        "DELETE FROM t WHERE id = 1",
    ] {
        run(&ctx, sql).await;
    }
    ctx
}

async fn run(ctx: &SessionContext, sql: &str) {
    let frame = datafusion_supertable::sql(ctx, sql).await.unwrap();
    frame.collect().await.unwrap();
}

/// How many rows a statement yields with these parameters.
async fn rows(
    frame: impl Future<Output = Result<DataFrame>>,
    values: impl Into<ParamValues>,
) -> Result<usize> {
    frame.await?.with_param_values(values)?.count().await
}

const AT: &str = "SELECT * FROM supertable_at('t', $1)";

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_named_by_a_parameter_through_either_sql() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(place.path()).await;
    for (version, live) in [(1_u64, 0), (2, 2), (3, 1)] {
        let value = || vec![ScalarValue::from(version)];
        assert_eq!(rows(ctx.sql(AT), value()).await.unwrap(), live);
        let own = datafusion_supertable::sql(&ctx, AT);
        assert_eq!(rows(own, value()).await.unwrap(), live);
        let named = "SELECT * FROM supertable_at('t', version => $v) WHERE id >= $least";
        let values = vec![
            ("v", ScalarValue::from(version)),
            ("least", ScalarValue::from(2_i64)),
        ];
        assert_eq!(
            rows(ctx.sql(named), values).await.unwrap(),
            usize::from(live > 0)
        );
    }
    // A moment: now is version 3, and before the table was there is none.
    let now = chrono::Utc::now().timestamp_millis();
    let moment = |ms| vec![ScalarValue::TimestampMillisecond(Some(ms), None)];
    let by_time = "SELECT * FROM supertable_at('t', timestamp => $1)";
    assert_eq!(rows(ctx.sql(by_time), moment(now)).await.unwrap(), 1);
    assert_eq!(rows(ctx.sql(AT), moment(now)).await.unwrap(), 1);
    let error = rows(ctx.sql(by_time), moment(0)).await.unwrap_err();
    assert_eq!(Error::find_in(&error).unwrap().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_with_other_values_reads_another_version() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(place.path()).await;
    let frame = ctx.sql(AT).await.unwrap();
    let one = frame
        .clone()
        .with_param_values(vec![ScalarValue::from(2_i64)])
        .unwrap();
    let other = frame
        .with_param_values(vec![ScalarValue::from(3_i64)])
        .unwrap();
    assert_eq!(one.clone().count().await.unwrap(), 2);
    assert_eq!(other.clone().count().await.unwrap(), 1);
    let both = one.union(other).unwrap();
    assert_eq!(both.count().await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_between_versions_that_parameters_name() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(place.path()).await;
    let feed = "SELECT * FROM supertable_changes('t', $1, $2)";
    for (from, to, changes) in [(1_i64, 2_i64, 2), (2, 3, 1), (0, 3, 3), (3, 3, 0)] {
        let values = vec![ScalarValue::from(from), ScalarValue::from(to)];
        assert_eq!(rows(ctx.sql(feed), values).await.unwrap(), changes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_other_columns_is_a_typed_error_that_names_the_change() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(place.path()).await;
    run(&ctx, "ALTER TABLE t ADD COLUMN v INT").await;
    for sql in [
        AT,
        "SELECT id FROM supertable_at('t', $1)",
        "SELECT count(*) FROM supertable_at('t', $1)",
        "SELECT * FROM supertable_changes('t', 1, $1)",
        "INSERT INTO t SELECT * FROM supertable_at('t', $1)",
    ] {
        let frame = ctx.sql(sql).await.unwrap();
        let frame = frame.with_param_values(vec![ScalarValue::from(2_i64)]);
        let error = frame.unwrap().collect().await.unwrap_err();
        let own = Error::find_in(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
        assert_eq!(own.kind(), ErrorKind::Unsupported, "{sql}: {own}");
        assert!(own.to_string().contains("it has no column v"), "{own}");
    }
    let frame = ctx.sql(AT).await.unwrap();
    let frame = frame.with_param_values(vec![ScalarValue::from(4_i64)]);
    assert_eq!(frame.unwrap().count().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_without_a_value_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(place.path()).await;
    let error = ctx.sql(AT).await.unwrap().collect().await.unwrap_err();
    let own = Error::find_in(&error).unwrap();
    assert_eq!(own.kind(), ErrorKind::InvalidArgument);
    for value in [
        ScalarValue::Int64(None),
        ScalarValue::from(-1_i64),
        ScalarValue::from(0.5),
    ] {
        let error = rows(ctx.sql(AT), vec![value]).await.unwrap_err();
        let own = Error::find_in(&error).unwrap();
        assert_eq!(own.kind(), ErrorKind::InvalidArgument, "{own}");
    }
}

/// The version is looked for while the query runs, so nothing has to be awaited while it is planned.
#[tokio::test]
async fn a_parameter_needs_no_second_thread() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(place.path()).await;
    for (version, live) in [(1_i64, 0), (2, 2), (3, 1)] {
        let value = vec![ScalarValue::from(version)];
        assert_eq!(rows(ctx.sql(AT), value).await.unwrap(), live);
    }
}
