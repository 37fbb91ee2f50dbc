//! Rows are looked up by the ids that a query has shown.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Decimal128Type, Int64Type};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;
use datafusion_supertable::{Error, ErrorKind};
use tempfile::TempDir;

use crate::support::sql::context;

async fn values(ctx: &SessionContext, sql: &str) -> Vec<String> {
    let frame = datafusion_supertable::sql(ctx, sql).await;
    let batches = frame
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
        .collect()
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    let mut values = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            values.push(array_value_to_string(batch.column(0), row).unwrap());
        }
    }
    values
}

async fn table(dir: &TempDir) -> (SessionContext, Vec<i128>) {
    let ctx = context();
    datafusion_supertable::register(&ctx).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR) STORED AS SUPERTABLE LOCATION '{}/t/'",
        dir.path().display()
    );
    for sql in [
        create.as_str(),
        "INSERT INTO t SELECT value, 'v' || value FROM range(0, 10)",
        "UPDATE t SET v = 'w' WHERE id = 4",
        "SET supertable.expose_row_id = 'column'",
    ] {
        values(&ctx, sql).await;
    }
    let batches = ctx.sql("SELECT _id(id) FROM t ORDER BY id").await.unwrap();
    let batches = batches.collect().await.unwrap();
    let ids = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Decimal128Type>().values())
        .copied()
        .collect();
    (ctx, ids)
}

#[tokio::test]
async fn a_row_is_found_by_the_number_that_its_id_is() {
    let dir = TempDir::new().unwrap();
    let (ctx, ids) = table(&dir).await;
    for id in [
        "_id(id)",
        "_id",
        "t._id",
        "\"_id\"",
        "supertable_row_id(t.v)",
    ] {
        for (row, number) in ids.iter().enumerate() {
            let found = |condition: String| {
                let sql = format!("SELECT id FROM t WHERE {condition} ORDER BY id");
                let ctx = &ctx;
                async move { values(ctx, &sql).await }
            };
            let this = vec![row.to_string()];
            assert_eq!(found(format!("{id} = {number}")).await, this);
            assert_eq!(found(format!("{number} = {id} AND 1.5 < 2.5")).await, this);
            assert_eq!(found(format!("{id} IN ({number}, 7)")).await, this);
            assert_eq!(
                found(format!("{id} BETWEEN {number} AND {number}")).await,
                this
            );
            assert_eq!(found(format!("{id} = '{number}'")).await, this);
            let later = ids.iter().filter(|other| *other >= number).count();
            assert_eq!(found(format!("{id} >= {number}")).await.len(), later);
            let others = ids.len() - 1;
            assert_eq!(found(format!("{id} <> {number}")).await.len(), others);
            assert_eq!(found(format!("{id} NOT IN ({number})")).await.len(), others);
        }
    }
}

#[tokio::test]
async fn a_row_is_changed_and_deleted_by_the_number_that_its_id_is() {
    let dir = TempDir::new().unwrap();
    let (ctx, ids) = table(&dir).await;
    for sql in [
        format!("UPDATE t SET v = 'changed' WHERE _id(id) = {}", ids[3]),
        format!("UPDATE t SET v = 'changed' WHERE _id = {}", ids[4]),
        format!("DELETE FROM t WHERE _id(id) IN ({})", ids[5]),
        format!("DELETE FROM t AS x WHERE {} = _id(x.id)", ids[6]),
        format!("EXPLAIN DELETE FROM t WHERE _id(id) = {}", ids[7]),
        format!("PREPARE p AS DELETE FROM t WHERE _id(id) = {}", ids[8]),
        "EXECUTE p".to_owned(),
        format!(
            "MERGE INTO t USING (SELECT 1) AS s ON _id(t.id) = {} WHEN MATCHED THEN DELETE",
            ids[9]
        ),
    ] {
        values(&ctx, &sql).await;
    }
    let changed = "SELECT id FROM t WHERE v = 'changed' ORDER BY id";
    assert_eq!(values(&ctx, changed).await, ["3", "4"]);
    let all = values(&ctx, "SELECT id FROM t ORDER BY id").await;
    assert_eq!(all, ["0", "1", "2", "3", "4", "7"]);
}

#[tokio::test]
async fn other_literals_keep_their_types() {
    let dir = TempDir::new().unwrap();
    let (ctx, ids) = table(&dir).await;
    let sql = format!(
        "SELECT arrow_typeof({}) FROM t WHERE _id = {}",
        ids[0], ids[0]
    );
    assert_eq!(values(&ctx, &sql).await, ["Float64"]);
    let sql = format!("SELECT arrow_typeof(1.5) FROM t WHERE _id(id) = {}", ids[0]);
    assert_eq!(values(&ctx, &sql).await, ["Float64"]);
}

/// DataFusion's own `sql` has rounded the number before this crate sees the statement.
#[tokio::test]
async fn through_datafusion_alone_an_id_is_text_and_a_rounded_number_is_refused() {
    let dir = TempDir::new().unwrap();
    let (ctx, ids) = table(&dir).await;
    let id = ids[3];
    for condition in [
        format!("_id(id) = '{id}'"),
        format!("_id(id) IN ('{id}', '7')"),
        format!("_id BETWEEN '{id}' AND '{id}'"),
    ] {
        let sql = format!("SELECT id FROM t WHERE {condition}");
        let batches = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
        let found = batches.iter().filter(|batch| batch.num_rows() > 0);
        let found: Vec<_> = found
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values())
            .collect();
        assert_eq!(found, [&3], "{sql}");
    }
    for condition in [
        format!("_id(id) = {id}"),
        format!("{id} >= _id"),
        format!("_id(id) IN (7, {id})"),
        format!("_id BETWEEN 1 AND {id}"),
        format!("_id(id) IS DISTINCT FROM {id}"),
    ] {
        for sql in [
            format!("SELECT id FROM t WHERE {condition}"),
            format!("UPDATE t SET v = '' WHERE {condition}"),
            format!("SELECT (SELECT count(*) FROM t WHERE {condition})"),
        ] {
            let outcome = async { ctx.sql(&sql).await?.collect().await };
            let error = outcome.await.expect_err(&sql);
            let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
            assert_eq!(ours.kind(), ErrorKind::Unsupported, "{sql}: {error}");
        }
    }
    assert_eq!(
        values(&ctx, "SELECT count(*) FROM t WHERE v = ''").await,
        ["0"]
    );
}
