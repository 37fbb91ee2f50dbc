//! The Rust API does what the SQL statements do: to the same rows, with the same counts, the same history and the same
//! endings. Each operation is compared with the statement on a twin table.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::*;
use datafusion::scalar::ScalarValue;
use datafusion_supertable::{
    ChangeReport, Error, ErrorKind, HistoryEntry, Result, RowSource, Supertable,
};
use futures::{StreamExt, stream};
use tempfile::TempDir;

use crate::support::sql::{context, run, show};

/// A table that the API changes, and a twin, called `twin`, that SQL changes.
struct Twins {
    dir: TempDir,
    ctx: SessionContext,
    table: Supertable,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("v", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

fn rows(rows: &[(i64, Option<i64>, Option<&str>)]) -> RecordBatch {
    let ids: Int64Array = rows.iter().map(|r| Some(r.0)).collect();
    let values: Int64Array = rows.iter().map(|r| r.1).collect();
    let names: StringArray = rows.iter().map(|r| r.2).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(values), Arc::new(names)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

const FIRST: [(i64, Option<i64>, Option<&str>); 5] = [
    (1, Some(10), Some("a")),
    (2, Some(20), None),
    (3, None, Some("c")),
    (4, Some(40), Some("d")),
    (5, None, None),
];

const FIRST_IN_SQL: &str = "INSERT INTO twin VALUES (1, 10, 'a'), (2, 20, NULL), (3, NULL, 'c'), (4, 40, 'd'), (5, NULL, NULL)";

impl Twins {
    /// Both empty. The session is registered for the twin's sake.
    async fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ctx = context();
        datafusion_supertable::register(&ctx).unwrap();
        let create = format!(
            "CREATE EXTERNAL TABLE twin (id BIGINT NOT NULL, v BIGINT, name VARCHAR) STORED AS SUPERTABLE \
             LOCATION '{}/twin/'",
            dir.path().display()
        );
        run(&ctx, &create).await.unwrap();
        let table = Supertable::create(&ctx, at(&dir, "table"), schema());
        let table = table.execute().await.unwrap();
        Self { dir, ctx, table }
    }

    /// Both with the rows of `FIRST`.
    async fn new() -> Self {
        let twins = Self::empty().await;
        twins
            .same(FIRST_IN_SQL, twins.table.append(rows(&FIRST)))
            .await;
        twins
    }

    /// The call does what the statement does.
    async fn same(
        &self,
        sql: &str,
        call: impl Future<Output = Result<ChangeReport>>,
    ) -> ChangeReport {
        let counted = sql_run(&self.ctx, sql).await.unwrap();
        let report = call.await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        // An overwrite counts the new rows only.
        let affected = match sql.contains("OVERWRITE") {
            true => report.rows_inserted,
            false => report.rows_affected(),
        };
        assert_eq!(affected, counted, "{sql}");
        self.assert_twins(sql).await;
        report
    }

    /// Same rows, and the same history but for times and words.
    async fn assert_twins(&self, after: &str) {
        let table = self.table.dataframe().unwrap();
        let twin = self.ctx.table("twin").await.unwrap();
        assert_eq!(shown(table).await, shown(twin).await, "{after}");
        let twin = Supertable::open(&self.ctx, at(&self.dir, "twin"))
            .await
            .unwrap();
        let (ours, theirs) = (history(&self.table).await, history(&twin).await);
        assert_eq!(ours, theirs, "{after}");
    }
}

async fn sql_run(ctx: &SessionContext, sql: &str) -> datafusion::error::Result<u64> {
    let frame = datafusion_supertable::sql(ctx, sql).await?;
    let batches = frame.collect().await?;
    let count = batches.first().and_then(|b| {
        b.column(0)
            .as_primitive_opt::<datafusion::arrow::datatypes::UInt64Type>()
            .cloned()
    });
    Ok(count.map_or(0, |c| c.value(0)))
}

fn at(dir: &TempDir, name: &str) -> String {
    format!("{}/{name}/", dir.path().display())
}

/// The rows as a person sees them, by their ids.
async fn shown(frame: DataFrame) -> String {
    let sorted = frame.sort_by(vec![col("id"), col("v")]).unwrap();
    pretty_format_batches(&sorted.collect().await.unwrap())
        .unwrap()
        .to_string()
}

async fn ids(table: &Supertable) -> Vec<i64> {
    let frame = table.dataframe().unwrap().sort_by(vec![col("id")]).unwrap();
    let batches = frame.collect().await.unwrap();
    let ids = |b: &RecordBatch| b.column(0).as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(ids).collect()
}

type Done = (u64, &'static str, u64, u64, u64, u64, u64);

async fn history(table: &Supertable) -> Vec<Done> {
    let told = |e: &HistoryEntry| {
        (
            e.version,
            e.operation,
            e.rows_inserted,
            e.rows_deleted,
            e.rows_updated,
            e.num_rows,
            e.num_files,
        )
    };
    table
        .history(None)
        .await
        .unwrap()
        .iter()
        .map(told)
        .collect()
}

fn stream_of(batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    let rows = stream::iter(batches.into_iter().map(Ok));
    Box::pin(RecordBatchStreamAdapter::new(schema(), rows))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_appended_from_batches_streams_and_queries() {
    let twins = Twins::new().await;
    let report = twins
        .same(
            "INSERT INTO twin VALUES (6, 60, 'f'), (7, 70, 'g')",
            twins.table.append(stream_of(vec![
                rows(&[(6, Some(60), Some("f"))]),
                rows(&[(7, Some(70), Some("g"))]),
            ])),
        )
        .await;
    assert_eq!(
        (report.rows_inserted, report.version, report.files_added),
        (2, Some(3), 1)
    );
    let query = twins
        .table
        .dataframe()
        .unwrap()
        .filter(col("id").eq(lit(1)))
        .unwrap();
    twins
        .same(
            "INSERT INTO twin SELECT * FROM twin WHERE id = 1",
            twins.table.append(query),
        )
        .await;
    // By name, in another order and of other types; a column that is missing is NULL.
    let other = RecordBatch::try_from_iter([
        ("name", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ("id", Arc::new(StringArray::from(vec!["8"])) as ArrayRef),
    ]);
    twins
        .same(
            "INSERT INTO twin (name, id) VALUES ('x', '8')",
            twins.table.append(other.unwrap()),
        )
        .await;
    let nothing: Vec<RecordBatch> = Vec::new();
    let report = twins
        .same(
            "INSERT INTO twin SELECT * FROM twin WHERE false",
            twins.table.append(nothing),
        )
        .await;
    assert_eq!((report.version, report.rows_affected()), (None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_other_columns_or_with_a_null_that_may_not_be_are_refused() {
    let twins = Twins::new().await;
    let other =
        RecordBatch::try_from_iter([("w", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    let error = twins.table.append(other.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let null = RecordBatch::try_from_iter_with_nullable([(
        "id",
        Arc::new(Int64Array::from(vec![None, Some(1)])) as ArrayRef,
        true,
    )]);
    let error = twins.table.append(null.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Constraint, "{error}");
    let text =
        RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]);
    let error = twins.table.append(text.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
    twins.assert_twins("refusals").await;
}

/// What DataFusion's own hooks get wrong, beside the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_predicate_deletes_exactly_the_rows_for_which_it_is_true() {
    let few = |ctx: &SessionContext| {
        let batch = rows(&[(2, None, None), (4, None, None)]);
        let ids = ctx
            .read_batch(batch)
            .unwrap()
            .select_columns(&["id"])
            .unwrap();
        Arc::new(ids.into_unoptimized_plan())
    };
    let ctx = context();
    let list = "(SELECT column1 FROM (VALUES (2), (4)))";
    let cases: Vec<(String, Expr)> = vec![
        ("false".into(), lit(false)),
        (
            "CAST(NULL AS BOOLEAN)".into(),
            lit(ScalarValue::Boolean(None)),
        ),
        (
            "id = 1 AND id = 2".into(),
            col("id").eq(lit(1)).and(col("id").eq(lit(2))),
        ),
        (format!("id IN {list}"), in_subquery(col("id"), few(&ctx))),
        (
            format!("id NOT IN {list}"),
            not_in_subquery(col("id"), few(&ctx)),
        ),
        (
            format!("v > 15 AND id NOT IN {list}"),
            col("v")
                .gt(lit(15))
                .and(not_in_subquery(col("id"), few(&ctx))),
        ),
        (
            format!("v NOT IN {list}"),
            not_in_subquery(col("v"), few(&ctx)),
        ),
        (format!("EXISTS {list}"), exists(few(&ctx))),
        ("v <> 10".into(), col("v").not_eq(lit(10))),
        ("NOT (v > 15)".into(), not(col("v").gt(lit(15)))),
        (
            "v > 15 OR name IS NULL".into(),
            col("v").gt(lit(15)).or(col("name").is_null()),
        ),
        (
            "v IS DISTINCT FROM 10".into(),
            not(col("v").is_not_null().and(col("v").eq(lit(10)))),
        ),
        (
            "CAST(v AS SMALLINT) > 15".into(),
            cast(col("v"), DataType::Int16).gt(lit(15)),
        ),
        (
            "v NOT IN (10) OR v NOT IN (20)".into(),
            (col("v").in_list(vec![lit(10)], true)).or(col("v").in_list(vec![lit(20)], true)),
        ),
        ("true".into(), lit(true)),
    ];
    for (sql, predicate) in cases {
        let twins = Twins::new().await;
        let statement = format!("DELETE FROM twin WHERE {sql}");
        let report = twins.same(&statement, twins.table.delete(predicate)).await;
        assert_eq!(report.rows_deleted, report.rows_affected());
        assert_eq!(report.version.is_none(), report.rows_deleted == 0, "{sql}");
        assert_eq!(
            report.files_removed,
            u64::from(report.rows_deleted == 5),
            "{sql}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subquery_may_read_the_table_and_refer_to_its_row() {
    let twins = Twins::new().await;
    let other = twins.table.dataframe().unwrap().alias("o").unwrap();
    let outer = out_ref_col(DataType::Int64, format!("{}.id", twins.table.name()));
    let greater = other
        .filter(col("o.id").gt(outer))
        .unwrap()
        .into_unoptimized_plan();
    twins
        .same(
            "DELETE FROM twin WHERE NOT EXISTS (SELECT 1 FROM twin o WHERE o.id > twin.id)",
            twins.table.delete(not_exists(Arc::new(greater))),
        )
        .await;
    assert_eq!(ids(&twins.table).await, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_set_to_values_of_the_row_as_it_was() {
    let twins = Twins::new().await;
    let report = twins
        .same(
            "UPDATE twin SET v = id, id = v + 1, name = 'n' || name WHERE v IS NOT NULL AND name IS NOT NULL",
            twins.table.update(
                [
                    ("v", col("id")),
                    ("id", col("v") + lit(1)),
                    (
                        "name",
                        datafusion::functions::expr_fn::concat(vec![lit("n"), col("name")]),
                    ),
                ],
                col("v").is_not_null().and(col("name").is_not_null()),
            ),
        )
        .await;
    assert_eq!(report.rows_updated, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_rows_are_updated_and_what_is_no_column_is_refused() {
    let twins = Twins::new().await;
    let report = twins
        .same(
            "UPDATE twin SET v = '7'",
            twins.table.update([("v", lit("7"))], None),
        )
        .await;
    assert_eq!(
        (
            report.rows_updated,
            report.files_removed,
            report.files_added
        ),
        (5, 1, 1)
    );
    let none: [(&str, Expr); 0] = [];
    for (what, assignments) in [
        ("nothing", none.to_vec()),
        ("no column", vec![("w", lit(1))]),
        ("twice", vec![("v", lit(1)), ("v", lit(2))]),
        ("of another case", vec![("V", lit(1))]),
        ("by nothing known", vec![("v", col("nobody"))]),
    ] {
        let error = twins.table.update(assignments, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {error}");
    }
    let error = twins
        .table
        .update([("id", lit(ScalarValue::Int64(None)))], None);
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::Constraint);
    let error = twins
        .table
        .update([("v", lit(1) / (col("id") - col("id")))], None);
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::Query);
    twins.assert_twins("refusals").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_columns_that_differ_in_case_the_named_one_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let field = |name| Field::new(name, DataType::Int64, true);
    let both = Schema::new(vec![field("id"), field("v"), field("V")]);
    let table = Supertable::create(&context(), at(&dir, "t"), both)
        .execute()
        .await
        .unwrap();
    let one = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("id", one()), ("v", one()), ("V", one())]);
    table.append(batch.unwrap()).await.unwrap();
    table
        .update([("V", lit(2))], ident("V").eq(lit(1)))
        .await
        .unwrap();
    table
        .update([("v", ident("V") + lit(1))], None)
        .await
        .unwrap();
    let told = shown(table.dataframe().unwrap()).await;
    assert!(told.contains("| 1  | 3 | 2 |"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_does_what_each_of_its_clauses_says() {
    let twins = Twins::new().await;
    let news = [
        (1, Some(11), Some("A")),
        (4, None, Some("gone")),
        (5, Some(55), None),
        (8, Some(80), Some("h")),
        (9, None, None),
    ];
    let source = "(SELECT column1 AS id, column2 AS v, column3 AS name FROM (VALUES (1, 11, 'A'), \
                  (4, NULL, 'gone'), (5, 55, NULL), (8, 80, 'h'), (9, NULL, NULL))) AS source";
    let on = || col("target.id").eq(col("source.id"));
    let report = twins
        .same(
            &format!(
                "MERGE INTO twin AS target USING {source} ON target.id = source.id \
                 WHEN MATCHED AND source.name = 'gone' THEN DELETE \
                 WHEN MATCHED AND target.v IS NULL THEN UPDATE SET v = source.v + 1 \
                 WHEN MATCHED THEN UPDATE SET v = source.v, name = source.name \
                 WHEN NOT MATCHED AND source.v IS NOT NULL THEN INSERT (id, v) VALUES (source.id, source.v) \
                 WHEN NOT MATCHED BY SOURCE AND target.v IS NULL THEN DELETE \
                 WHEN NOT MATCHED BY SOURCE THEN UPDATE SET name = 'kept'"
            ),
            twins
                .table
                .merge(rows(&news), on())
                .when_matched_delete(col("source.name").eq(lit("gone")))
                .when_matched_update(col("target.v").is_null(), [("v", col("source.v") + lit(1))])
                .when_matched_update(None, [("v", col("source.v")), ("name", col("source.name"))])
                .when_not_matched_insert(
                    col("source.v").is_not_null(),
                    [("id", col("source.id")), ("v", col("source.v"))],
                )
                .when_not_matched_by_source_delete(col("target.v").is_null())
                .when_not_matched_by_source_update(None, [("name", lit("kept"))])
                .execute(),
        )
        .await;
    assert_eq!(
        (
            report.rows_inserted,
            report.rows_updated,
            report.rows_deleted
        ),
        (1, 3, 2)
    );
    let report = twins
        .same(
            &format!(
                "MERGE INTO twin AS target USING {source} ON target.id = source.id \
                 WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
            ),
            twins
                .table
                .merge(stream_of(vec![rows(&news)]), on())
                .when_matched_update_all(None)
                .when_not_matched_insert_all(None)
                .execute(),
        )
        .await;
    assert_eq!((report.rows_inserted, report.rows_updated), (2, 3));
    // A query of the table itself, whose columns are called otherwise.
    let own = twins
        .table
        .dataframe()
        .unwrap()
        .filter(col("id").lt(lit(3)))
        .unwrap();
    twins
        .same(
            "MERGE INTO twin AS target USING (SELECT * FROM twin WHERE id < 3) AS source ON target.id = source.id \
             WHEN MATCHED THEN UPDATE SET v = source.v + target.v",
            twins
                .table
                .merge(own, on())
                .when_matched_update(None, [("v", col("source.v") + col("target.v"))])
                .execute(),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_is_not_clear_is_refused() {
    let twins = Twins::new().await;
    let table = &twins.table;
    let on = || col("target.id").eq(col("source.id"));
    let two = || rows(&[(1, Some(1), None), (1, Some(2), None)]);
    let error = table.merge(two(), on()).execute().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let ambiguous = table
        .merge(two(), col("id").eq(lit(1)))
        .when_matched_delete(None);
    let error = ambiguous.execute().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let twice = table.merge(two(), on()).when_matched_update_all(None);
    let error = twice.execute().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Constraint, "{error}");
    let absent = table
        .merge(two(), on())
        .when_not_matched_insert(None, [("id", col("target.id"))]);
    let error = absent.execute().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let unknown = table
        .merge(two(), on())
        .when_matched_update(None, [("w", lit(1))]);
    let error = unknown.execute().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    twins.assert_twins("refusals").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_replaced_and_removed_as_a_whole() {
    let twins = Twins::new().await;
    let own = twins
        .table
        .dataframe()
        .unwrap()
        .filter(col("v").is_not_null())
        .unwrap();
    let report = twins
        .same(
            "INSERT OVERWRITE twin SELECT * FROM twin WHERE v IS NOT NULL",
            twins.table.overwrite(own),
        )
        .await;
    assert_eq!(
        (
            report.rows_inserted,
            report.rows_deleted,
            report.files_removed
        ),
        (3, 5, 1)
    );
    let report = twins
        .same("TRUNCATE TABLE twin", twins.table.truncate())
        .await;
    assert_eq!((report.rows_deleted, report.version), (3, Some(4)));
    assert_eq!(
        twins.table.truncate().await.unwrap(),
        ChangeReport::default()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_read_by_number_and_by_moment() {
    let twins = Twins::new().await;
    let table = &twins.table;
    let second = table.snapshot().await.unwrap();
    assert_eq!(
        (second.version(), second.num_rows(), second.num_files()),
        (2, 5, 1)
    );
    let then = SystemTime::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    table.delete(col("v").is_null()).await.unwrap();
    table.alter().drop_column("name").execute().await.unwrap();
    let old = table.at_time(then).await.unwrap();
    assert_eq!((old.version(), old.schema().fields().len()), (2, 3));
    assert!(old.committed_at() <= then && old.num_bytes() > 0);
    let by_chrono = table
        .at_time(chrono::DateTime::<chrono::Utc>::from(then))
        .await
        .unwrap();
    assert_eq!(by_chrono.version(), 2);
    // A snapshot that was taken before stays what it was; two of one table are told apart in one query.
    let count = |frame: DataFrame| async { frame.count().await.unwrap() };
    assert_eq!(count(second.dataframe().unwrap()).await, 5);
    let third = table.at_version(3).await.unwrap();
    assert_eq!(count(third.dataframe().unwrap()).await, 3);
    let (old, new) = (old.dataframe().unwrap(), third.dataframe().unwrap());
    let gone = old.alias("old").unwrap().join(
        new.alias("new").unwrap(),
        JoinType::LeftAnti,
        &["id"],
        &["id"],
        None,
    );
    assert_eq!(count(gone.unwrap()).await, 2);
    // Under a name that the user chooses.
    let server = context();
    server
        .register_table("then", second.table_provider())
        .unwrap();
    server
        .register_table("now", table.table_provider())
        .unwrap();
    let both = "SELECT (SELECT count(*) FROM \"then\") - (SELECT count(*) FROM now) AS n";
    assert!(show(&server, both).await.contains("| 2 |"));
    let error = table.at_version(99).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_history_are_those_of_the_functions() {
    let twins = Twins::new().await;
    let values = [("v", lit(0))];
    twins
        .same(
            "UPDATE twin SET v = 0 WHERE id < 3",
            twins.table.update(values, col("id").lt(lit(3))),
        )
        .await;
    twins
        .same(
            "DELETE FROM twin WHERE id = 1",
            twins.table.delete(col("id").eq(lit(1))),
        )
        .await;
    let columns = ["id", "v", "name", "_change_type", "_version"];
    for (from, to) in [(0, None), (2, None), (2, Some(3)), (4, None)] {
        let ours = twins.table.changes(from, to).await.unwrap();
        let ours = ours.select_columns(&columns).unwrap();
        let until = to.map(|to: u64| format!(", {to}")).unwrap_or_default();
        let sql = format!(
            "SELECT id, v, name, _change_type, _version FROM supertable_changes('twin', {from}{until})"
        );
        let theirs = twins.ctx.sql(&sql).await.unwrap();
        let order = || vec![col("_version"), col("id"), col("_change_type")];
        let sorted = async |frame: DataFrame| {
            let rows = frame.sort_by(order()).unwrap().collect().await.unwrap();
            pretty_format_batches(&rows).unwrap().to_string()
        };
        assert_eq!(sorted(ours).await, sorted(theirs).await, "{sql}");
    }
    let history = twins.table.history(2).await.unwrap();
    let told: Vec<_> = history.iter().map(|e| (e.version, e.operation)).collect();
    assert_eq!(told, [(4, "DELETE"), (3, "UPDATE")]);
    assert_eq!(
        history[0].statement,
        "DELETE table WHERE table.id = CAST(Int32(1) AS Int64)"
    );
    let from_nowhere = twins.table.changes(9, None).await.unwrap();
    assert!(from_nowhere.count().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_properties_are_altered_in_one_version() {
    let twins = Twins::new().await;
    let report = twins
        .table
        .alter()
        .add_column_with_default(Field::new("level", DataType::Int64, false), lit(3))
        .add_column(Field::new("note", DataType::Int32, true))
        .rename_column("name", "Label")
        .drop_column("v")
        .widen_column("note", DataType::Int64)
        .column_default("note", lit(9))
        .drop_not_null("level")
        .set_property("supertable.auto_compact", "false")
        .execute()
        .await
        .unwrap();
    assert_eq!((report.version, report.columns), (3, 4));
    let sql = "ALTER TABLE twin ADD COLUMN level BIGINT NOT NULL DEFAULT 3, ADD COLUMN note INT, \
               RENAME COLUMN name TO \"Label\", DROP COLUMN v, ALTER COLUMN note TYPE BIGINT, \
               ALTER COLUMN note SET DEFAULT 9, ALTER COLUMN level DROP NOT NULL, \
               SET ('supertable.auto_compact' = 'false')";
    sql_run(&twins.ctx, sql).await.unwrap();
    let rows = |frame: DataFrame| async {
        let rows = frame
            .sort_by(vec![col("id")])
            .unwrap()
            .collect()
            .await
            .unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    };
    let twin = twins.ctx.table("twin").await.unwrap();
    assert_eq!(
        rows(twins.table.dataframe().unwrap()).await,
        rows(twin).await
    );
    // Defaults of the columns that rows leave out.
    let id = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![6])) as ArrayRef)]);
    twins.table.append(id.unwrap()).await.unwrap();
    sql_run(&twins.ctx, "INSERT INTO twin (id) VALUES (6)")
        .await
        .unwrap();
    let twin = twins.ctx.table("twin").await.unwrap();
    assert_eq!(
        rows(twins.table.dataframe().unwrap()).await,
        rows(twin).await
    );
    let twin = Supertable::open(&twins.ctx, at(&twins.dir, "twin"))
        .await
        .unwrap();
    assert_eq!(history(&twins.table).await, history(&twin).await);
    let properties = |snapshot: datafusion_supertable::SupertableSnapshot| snapshot.properties();
    assert_eq!(
        properties(twins.table.snapshot().await.unwrap()),
        properties(twin.snapshot().await.unwrap())
    );
    let alter = || twins.table.alter();
    for (kind, refused) in [
        (ErrorKind::InvalidArgument, alter().drop_column("nobody")),
        (
            ErrorKind::InvalidArgument,
            alter().set_property("supertable.nothing", "1"),
        ),
        (
            ErrorKind::Constraint,
            alter().add_column(Field::new("n", DataType::Int64, false)),
        ),
    ] {
        // Nobody polls it.
        drop(alter().drop_column("note").execute());
        assert_eq!(refused.execute().await.unwrap_err().kind(), kind);
    }
    assert_eq!(twins.table.snapshot().await.unwrap().version(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_with_its_order_checks_defaults_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context();
    let create = || {
        Supertable::create(&ctx, at(&dir, "t"), schema())
            .sort_by(vec![col("id").sort(false, true)])
            .check(
                "positive",
                col("v").gt(lit(0)).or(ident("name").eq(lit("it's"))),
            )
            .column_default("v", lit(5))
            .write_options(&datafusion_supertable::WriteOptions {
                compression: Some("zstd(1)".to_owned()),
                ..Default::default()
            })
            .property("supertable.isolation", "serializable")
    };
    let table = create().execute().await.unwrap();
    let properties = table.snapshot().await.unwrap().properties();
    for (key, value) in [
        ("supertable.write.compression", "zstd(1)"),
        ("supertable.isolation", "serializable"),
    ] {
        assert_eq!(
            properties.get(key).map(String::as_str),
            Some(value),
            "{properties:?}"
        );
    }
    let two =
        RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]);
    table.append(two.unwrap()).await.unwrap();
    let plain = table.dataframe().unwrap().collect().await.unwrap();
    let ids: Vec<i64> = plain
        .iter()
        .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(ids, [2, 1]);
    let values = table
        .dataframe()
        .unwrap()
        .filter(col("v").eq(lit(5)))
        .unwrap();
    assert_eq!(values.count().await.unwrap(), 2);
    let error = table
        .update([("v", lit(-1)), ("name", lit("x"))], None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Constraint, "{error}");
    table
        .update([("v", lit(-1)), ("name", lit("it's"))], None)
        .await
        .unwrap();
    // It is there already.
    assert_eq!(
        create().execute().await.unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    let again = create().if_not_exists().execute().await.unwrap();
    assert_eq!(again.snapshot().await.unwrap().version(), 3);
    let other = create()
        .property("supertable.isolation", "snapshot")
        .if_not_exists();
    assert_eq!(
        other.execute().await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    let new = || Supertable::create(&ctx, at(&dir, "u"), schema());
    for refused in [
        new().property("nothing", "1"),
        new().property("supertable.isolation", "none"),
        new().check("c", col("nobody").gt(lit(1))),
        new().column_default("nobody", lit(1)),
        new().z_order(["nobody"]),
        new().sort_by(vec![col("nobody").sort(true, true)]),
    ] {
        let error = refused.execute().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    assert_eq!(
        Supertable::open(&ctx, at(&dir, "u"))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_does_what_the_functions_do() {
    let twins = Twins::new().await;
    for id in 6..10 {
        let sql = format!("INSERT INTO twin VALUES ({id}, 1, 'x')");
        twins
            .same(&sql, twins.table.append(rows(&[(id, Some(1), Some("x"))])))
            .await;
    }
    let plan = twins.table.optimize().dry_run().execute().await.unwrap();
    assert_eq!(
        (
            plan.version,
            plan.groups,
            plan.files_removed,
            plan.files_added
        ),
        (None, 1, 5, 0)
    );
    let report = twins.table.optimize().execute().await.unwrap();
    assert_eq!(
        (report.version, report.files_removed, report.files_added),
        (Some(7), 5, 1)
    );
    assert_eq!((report.num_rows, report.left.len()), (9, 0));
    run(&twins.ctx, "SELECT * FROM supertable_optimize('twin')")
        .await
        .unwrap();
    twins.assert_twins("optimize").await;
    let report = twins
        .table
        .optimize()
        .z_order(["v", "id"])
        .execute()
        .await
        .unwrap();
    assert_eq!(report.version, Some(8));
    run(
        &twins.ctx,
        "SELECT * FROM supertable_optimize('twin', order => 'zorder(v, id)')",
    )
    .await
    .unwrap();
    twins.assert_twins("cluster").await;
    let report = twins
        .table
        .optimize()
        .hilbert(["v", "id"])
        .rewrite()
        .execute()
        .await
        .unwrap();
    assert_eq!(report.version, Some(9));
    let wrong = twins
        .table
        .optimize()
        .full()
        .target_bytes(1)
        .execute()
        .await
        .unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidArgument);

    let restored = twins.table.restore_to_version(2).await.unwrap();
    assert_eq!(
        (restored.restored, restored.version, restored.num_rows),
        (2, 10, 5)
    );
    let missing = twins.table.restore_to_version(99).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let now = twins
        .table
        .restore_to_time(SystemTime::now())
        .await
        .unwrap();
    assert_eq!(now.version, 10);

    let plan = twins
        .table
        .vacuum()
        .retain(Duration::ZERO)
        .dry_run()
        .execute()
        .await
        .unwrap();
    assert!(plan.dry_run && plan.superfiles.objects > 0);
    let report = twins
        .table
        .vacuum()
        .retain(Duration::ZERO)
        .execute()
        .await
        .unwrap();
    assert_eq!(report.superfiles, plan.superfiles);
    assert_eq!((report.oldest_version, report.current_version), (10, 10));
    assert_eq!(ids(&twins.table).await, [1, 2, 3, 4, 5]);
    assert_eq!(
        twins.table.at_version(3).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// A function that calls `effect` when it sees its first row, and is true.
fn first_row(effect: impl Fn() + Send + Sync + 'static) -> ScalarUDF {
    let seen = AtomicUsize::new(0);
    let body = move |args: &[ColumnarValue]| {
        let rows = match &args[0] {
            ColumnarValue::Array(array) => array.len(),
            ColumnarValue::Scalar(_) => 1,
        };
        if rows > 0 && seen.fetch_add(1, Ordering::SeqCst) == 0 {
            effect();
        }
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
    };
    create_udf(
        "first_row",
        vec![DataType::Int64],
        DataType::Boolean,
        Volatility::Volatile,
        Arc::new(body),
    )
}

/// Runs `work` to its end, from a thread that computes.
fn wait_for(work: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || runtime.block_on(work))
        .join()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_statement_that_another_handle_was_faster_than_runs_again() {
    for serializable in [false, true] {
        let twins = Twins::new().await;
        let isolation = if serializable {
            "serializable"
        } else {
            "snapshot"
        };
        run(
            &twins.ctx,
            &format!("SET supertable.isolation = '{isolation}'"),
        )
        .await
        .unwrap();
        let mut reruns = Vec::new();
        for name in ["table", "twin"] {
            // Another process: nothing is shared but the store.
            let other = Supertable::open(&context(), at(&twins.dir, name))
                .await
                .unwrap();
            let runtime = tokio::runtime::Handle::current();
            let meanwhile = first_row(move || {
                let (other, _entered) = (other.clone(), runtime.enter());
                wait_for(async move {
                    other
                        .update([("v", lit(100))], col("id").eq(lit(2)))
                        .await
                        .unwrap();
                });
            });
            if name == "table" {
                let predicate = meanwhile.call(vec![col("id")]).and(col("v").gt(lit(5)));
                let report = twins
                    .table
                    .update([("v", col("v") + lit(1))], predicate)
                    .await
                    .unwrap();
                assert_eq!(report.rows_updated, 3);
                reruns.push(report.reruns);
            } else {
                twins.ctx.register_udf(meanwhile);
                let sql = "UPDATE twin SET v = v + 1 WHERE first_row(id) AND v > 5";
                assert_eq!(sql_run(&twins.ctx, sql).await.unwrap(), 3);
            }
        }
        assert_eq!(reruns, [1]);
        twins.assert_twins(isolation).await;
        let row = twins
            .table
            .dataframe()
            .unwrap()
            .filter(col("v").eq(lit(101)))
            .unwrap();
        assert_eq!(row.count().await.unwrap(), 1);
    }
}

/// A stream that does `work` before its rows come.
fn stream_after(work: impl Future<Output = ()> + Send + 'static, batch: RecordBatch) -> RowSource {
    let rows = stream::once(async move {
        work.await;
        Ok(batch)
    });
    let stream: SendableRecordBatchStream =
        Box::pin(RecordBatchStreamAdapter::new(schema(), rows.boxed()));
    stream.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_not_read_twice() {
    let twins = Twins::new().await;
    let table = &twins.table;
    let update = |table: Supertable| async move {
        table.update([("v", lit(1))], None).await.unwrap();
    };
    // An append conflicts with no change of rows.
    let report = table
        .append(stream_after(
            update(table.clone()),
            rows(&[(6, None, None)]),
        ))
        .await;
    assert_eq!(report.unwrap().rows_inserted, 1);
    let rows = rows(&[(7, None, None)]);
    let error = table
        .overwrite(stream_after(update(table.clone()), rows.clone()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(ids(table).await, [1, 2, 3, 4, 5, 6]);
    table.overwrite(rows).await.unwrap();
    assert_eq!(ids(table).await, [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_changes_nothing_or_everything() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context();
    let table = Supertable::create(&ctx, at(&dir, "t"), schema())
        .execute()
        .await
        .unwrap();
    let count = 3_000;
    let many: Vec<_> = (0..count).map(|id| (id, Some(id), Some("x"))).collect();
    let all: Vec<i64> = (0..count).collect();
    let even: Vec<i64> = all.iter().copied().filter(|id| id % 2 == 0).collect();
    let mut seen = [0, 0];
    for round in 0..40 {
        table.overwrite(rows(&many)).await.unwrap();
        let patience = Duration::from_micros(400 * round);
        let statement = table.delete((col("id") % lit(2)).eq(lit(1)));
        let ended = tokio::time::timeout(patience, statement).await;
        table.settle().await;
        let left = ids(&table).await;
        assert!(
            left == all || left == even,
            "{} rows after {patience:?}",
            left.len()
        );
        if let Ok(report) = ended {
            assert_eq!(
                (report.unwrap().rows_deleted, &left),
                (count as u64 / 2, &even)
            );
        }
        seen[usize::from(left == even)] += 1;
    }
    assert!(seen[0] > 0, "{seen:?}");
    // One that is never polled does nothing at all.
    let version = table.snapshot().await.unwrap().version();
    drop(table.truncate());
    drop(table.append(rows(&FIRST)));
    table.settle().await;
    assert_eq!(table.snapshot().await.unwrap().version(), version);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_is_left_as_it_was_and_need_not_be_registered() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context();
    let table = Supertable::create(&ctx, at(&dir, "t"), schema())
        .execute()
        .await
        .unwrap();
    table.append(rows(&FIRST)).await.unwrap();
    let row = table.merge(
        rows(&[(1, None, None)]),
        col("target.id").eq(col("source.id")),
    );
    assert_eq!(
        row.when_matched_delete(None)
            .execute()
            .await
            .unwrap()
            .rows_deleted,
        1
    );
    assert!(
        ctx.sql("SELECT * FROM supertable_history('t')")
            .await
            .is_err()
    );
    assert!(
        ctx.catalog("datafusion")
            .unwrap()
            .schema("public")
            .unwrap()
            .table_names()
            .is_empty()
    );
    assert!(
        !ctx.state()
            .analyzer()
            .rules
            .iter()
            .any(|rule| rule.name() == "supertable")
    );
    // Registered under a name, DataFusion's hooks refuse what they would get wrong.
    ctx.register_table("t", table.table_provider()).unwrap();
    let error = run(&ctx, "DELETE FROM t WHERE false").await.unwrap_err();
    assert_eq!(
        Error::find_in(&error).unwrap().kind(),
        ErrorKind::Unsupported
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_the_options_of_its_own_session() {
    let twins = Twins::new().await;
    let request = SessionContext::new_with_state(twins.ctx.state());
    run(&request, "SET supertable.read_only = true")
        .await
        .unwrap();
    let reader = twins.table.in_session(&request);
    assert_eq!(ids(&reader).await, [1, 2, 3, 4, 5]);
    let one = || rows(&[(9, None, None)]);
    let on = || col("target.id").eq(col("source.id"));
    let mut endings: Vec<(&str, Option<ErrorKind>)> = Vec::new();
    let mut end = |what, kind: Option<ErrorKind>| endings.push((what, kind));
    fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
        result.err().map(|e| e.kind())
    }
    end("append", kind(reader.append(one()).await));
    end("overwrite", kind(reader.overwrite(one()).await));
    end("delete", kind(reader.delete(lit(true)).await));
    end("update", kind(reader.update([("v", lit(1))], None).await));
    let merge = reader.merge(one(), on()).when_not_matched_insert_all(None);
    end("merge", kind(merge.execute().await));
    end("truncate", kind(reader.truncate().await));
    end(
        "alter",
        kind(reader.alter().drop_column("v").execute().await),
    );
    end("optimize", kind(reader.optimize().full().execute().await));
    end("vacuum", kind(reader.vacuum().execute().await));
    end("restore", kind(reader.restore_to_version(1).await));
    let create = Supertable::create(&request, at(&twins.dir, "new"), schema());
    end("create", kind(create.execute().await));
    for (what, ending) in endings {
        assert_eq!(ending, Some(ErrorKind::ReadOnly), "{what}");
    }
    reader.vacuum().dry_run().execute().await.unwrap();
    twins.assert_twins("a request that only reads").await;
    twins.table.append(one()).await.unwrap();
    assert_eq!(reader.snapshot().await.unwrap().num_rows(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_one_table_run_side_by_side() {
    let twins = Twins::empty().await;
    let done = Arc::new(Mutex::new(0));
    let tasks = (0..8).map(|id| {
        let (table, done) = (twins.table.clone(), Arc::clone(&done));
        // Futures own what they need.
        tokio::spawn(async move {
            let report = table.append(rows(&[(id, Some(id), None)])).await.unwrap();
            *done.lock().unwrap() += report.rows_inserted;
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(*done.lock().unwrap(), 8);
    assert_eq!(ids(&twins.table).await, (0..8).collect::<Vec<_>>());
}
