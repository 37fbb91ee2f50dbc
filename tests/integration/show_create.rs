//! What `SHOW CREATE TABLE` shows makes the same table again, whatever the table is made of and went through.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::open_catalog;
use datafusion_supertable::unstable::sql::{CreateOptions, create_table};

/// A session in a process of its own: `zone` is its time zone.
fn session(zone: Option<&str>) -> SessionContext {
    let mut config = SessionConfig::new().with_information_schema(true);
    config.options_mut().execution.time_zone = zone.map(str::to_owned);
    let ctx = SessionContext::new_with_config(config);
    datafusion_supertable::register(&ctx).unwrap();
    ctx
}

async fn run(ctx: &SessionContext, sql: &str) {
    let done = async { datafusion_supertable::sql(ctx, sql).await?.collect().await };
    done.await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// What the session shows of a table.
async fn shown(ctx: &SessionContext, table: &str) -> String {
    let sql = format!("SHOW CREATE TABLE {table}");
    let frame = datafusion_supertable::sql(ctx, &sql).await.unwrap();
    let batches = frame.collect().await.unwrap();
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, 1, "{sql}");
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).unwrap();
    batch.column(3).as_string::<i32>().value(0).to_owned()
}

/// Names, types and `NOT NULL` of a table's columns.
async fn columns(ctx: &SessionContext, table: &str) -> Vec<(String, DataType, bool)> {
    let provider = ctx.table_provider(table).await.unwrap();
    let schema = provider.schema();
    let fields = schema.fields().iter();
    fields
        .map(|f| (f.name().clone(), f.data_type().clone(), f.is_nullable()))
        .collect()
}

/// Runs what `ctx` shows of `t`, which is below `from`, in another session and below `to`, which is empty; the session's
/// table is called the same.
async fn again(ctx: &SessionContext, from: &Path, to: &Path, zone: Option<&str>) {
    let text = shown(ctx, "t").await;
    let quoted = |path: &Path| path.display().to_string().replace('\'', "''");
    let (from, to) = (quoted(from), quoted(to));
    assert!(text.contains(&from), "{text}");
    let other = session(zone);
    let text = text.replace(&from, &to);
    run(&other, &text).await;
    assert_eq!(shown(&other, "t").await, text);
    assert_eq!(columns(&other, "t").await, columns(ctx, "t").await);
}

fn nullable(name: &str, data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new(name, data_type, true))
}

/// A type of each kind that a table can have.
fn types() -> Vec<DataType> {
    use DataType as T;
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let zoned = |unit, zone: &str| T::Timestamp(unit, Some(zone.into()));
    let list = |name: &str, data_type| T::List(nullable(name, data_type));
    vec![
        T::Boolean,
        T::Int8,
        T::Int16,
        T::Int32,
        T::Int64,
        T::UInt8,
        T::UInt16,
        T::UInt32,
        T::UInt64,
        T::Float16,
        T::Float32,
        T::Float64,
        T::Decimal32(5, 2),
        T::Decimal64(12, 0),
        T::Decimal128(10, 2),
        T::Decimal128(38, 38),
        T::Decimal256(20, 4),
        T::Decimal256(76, 10),
        T::Utf8View,
        T::LargeUtf8,
        T::Binary,
        T::LargeBinary,
        T::BinaryView,
        T::FixedSizeBinary(16),
        T::Date32,
        T::Date64,
        T::Time32(Second),
        T::Time32(Millisecond),
        T::Time64(Microsecond),
        T::Time64(Nanosecond),
        T::Timestamp(Second, None),
        T::Timestamp(Millisecond, None),
        T::Timestamp(Microsecond, None),
        T::Timestamp(Nanosecond, None),
        zoned(Nanosecond, "+00:00"),
        zoned(Millisecond, "Europe/Berlin"),
        T::Duration(Millisecond),
        T::Dictionary(Box::new(T::Int32), Box::new(T::Utf8)),
        list("item", T::Int32),
        list("element", T::Int32),
        list("item", list("item", T::Utf8View)),
        T::List(Arc::new(Field::new("item", T::Int32, false))),
        T::LargeList(nullable("item", T::Int32)),
        T::FixedSizeList(nullable("item", T::Float32), 3),
        T::Struct(
            vec![
                nullable("a", T::Int32),
                nullable("select", T::Utf8View),
                nullable("A \"b\"", list("item", zoned(Second, "UTC"))),
            ]
            .into(),
        ),
        T::Struct(vec![Field::new("a", T::Int32, false)].into()),
        list("item", T::Struct(vec![nullable("x", T::Float64)].into())),
        T::Map(
            Arc::new(Field::new(
                "entries",
                T::Struct(
                    vec![
                        Field::new("key", T::Utf8, false),
                        Field::new("value", T::Int32, true),
                    ]
                    .into(),
                ),
                false,
            )),
            false,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_that_a_table_can_have_is_shown_so_that_it_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let fields: Vec<Field> = types()
        .into_iter()
        .enumerate()
        .map(|(i, data_type)| Field::new(format!("c{i}"), data_type, i % 3 > 0))
        .collect();
    let from = place.path().join("a");
    let location = format!("{}/t/", from.display());
    let ctx = session(None);
    let schema = Schema::new(fields);
    let made = create_table(&ctx.state(), &location, &schema, CreateOptions::default()).await;
    ctx.register_table("t", Arc::new(made.unwrap())).unwrap();
    // Whatever the time zone of the session is that makes it again.
    for (n, zone) in [None, Some("America/New_York")].into_iter().enumerate() {
        again(&ctx, &from, &place.path().join(format!("b{n}")), zone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_shown_as_it_is_after_every_change() {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("it's");
    let location = format!("{}/t/", from.display()).replace('\'', "''");
    let ctx = session(None);
    let create = format!(
        "CREATE EXTERNAL TABLE t (id INT NOT NULL, \"Name\" VARCHAR DEFAULT 'it''s; \"so\"', \"select\" DOUBLE DEFAULT \
         (1 + 2) * 3, at TIMESTAMPTZ, \"a, b\" INT) STORED AS SUPERTABLE LOCATION '{location}' WITH ORDER (\"select\" \
         DESC NULLS LAST, id) OPTIONS ('supertable.check.name' '\"Name\" <> ''nobody''', \
         'supertable.check.positive' 'id > 0', 'supertable.write.page_rows' '100')"
    );
    run(&ctx, &create).await;
    let mut seen = Vec::new();
    let changes = [
        "INSERT INTO t (id) VALUES (1)",
        "ALTER TABLE t ADD COLUMN more BIGINT NOT NULL DEFAULT -7 FIRST",
        "ALTER TABLE t ADD COLUMN s STRUCT<a INT, \"B\" VARCHAR[]>",
        "ALTER TABLE t ADD COLUMN s.\"C d\" ARROW('Timestamp(s, \"Europe/Berlin\")')",
        "ALTER TABLE t DROP COLUMN \"a, b\"",
        "ALTER TABLE t RENAME COLUMN more TO \"order\"",
        "ALTER TABLE t RENAME COLUMN \"select\" TO value",
        "ALTER TABLE t ALTER COLUMN at SET DEFAULT now()",
        "ALTER TABLE t ALTER COLUMN \"Name\" DROP DEFAULT",
        "ALTER TABLE t ALTER COLUMN \"order\" DROP NOT NULL",
        "ALTER TABLE t UNSET ('supertable.check.positive')",
        "ALTER TABLE t ALTER COLUMN id TYPE BIGINT",
        "ALTER TABLE t MOVE COLUMN s AFTER id",
        "ALTER TABLE t SET ('supertable.auto_compact' = 'true', 'supertable.isolation' = 'serializable')",
        "ALTER TABLE t UNSET ('supertable.check.name', 'supertable.write.page_rows')",
    ];
    let mut n = 0;
    for change in changes {
        run(&ctx, change).await;
        n += 1;
        again(&ctx, &from, &place.path().join(format!("it's {n}")), None).await;
        seen.push(shown(&ctx, "t").await);
    }
    // Each change but the INSERT is seen.
    seen.dedup();
    assert_eq!(seen.len(), changes.len(), "{seen:#?}");
    // A second session that opens the table without naming its columns shows the same.
    let other = session(None);
    let open = format!("CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{location}'");
    run(&other, &open).await;
    assert_eq!(shown(&other, "t").await, shown(&ctx, "t").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_held_stays_while_the_table_changes() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(None);
    let location = place.path().display();
    run(
        &ctx,
        &format!("CREATE EXTERNAL TABLE t (id INT) STORED AS SUPERTABLE LOCATION '{location}/t/'"),
    )
    .await;
    let provider = ctx.table_provider("t").await.unwrap();
    let before = provider.get_table_definition().unwrap();
    let copy = before.to_owned();
    run(&ctx, "ALTER TABLE t ADD COLUMN v INT").await;
    let after = provider.get_table_definition().unwrap();
    assert_eq!(before, copy);
    assert!(after.contains("(id INT, v INT)"), "{after}");
    run(&ctx, "ALTER TABLE t DROP COLUMN v").await;
    assert_eq!(provider.get_table_definition().unwrap(), copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_catalog_is_made_again_in_another_catalog() {
    let place = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let ctx = session(None);
        let root = format!("{}/{name}/", place.path().display());
        open_catalog(&ctx, "lake", &root).unwrap();
        ctx
    };
    let (one, two) = (open("one"), open("two"));
    for sql in [
        "CREATE SCHEMA lake.\"S 1\"",
        "CREATE TABLE lake.\"S 1\".t (id INT NOT NULL DEFAULT 1, \"Key\" VARCHAR, at TIMESTAMPTZ) WITH ORDER (\"Key\" DESC) \
         OPTIONS ('supertable.check.id' 'id > 0', 'supertable.write.compression' 'snappy')",
        "ALTER TABLE lake.\"S 1\".t ADD COLUMN v DECIMAL(10, 2) DEFAULT 0.5",
        "ALTER TABLE lake.\"S 1\".t RENAME TO \"U\"",
    ] {
        run(&one, sql).await;
    }
    let name = "lake.\"S 1\".\"U\"";
    let text = shown(&one, name).await;
    assert!(
        text.starts_with("CREATE TABLE lake.\"S 1\".\"U\" (id INT NOT NULL DEFAULT 1, "),
        "{text}"
    );
    run(&two, "CREATE SCHEMA lake.\"S 1\"").await;
    run(&two, &text).await;
    assert_eq!(shown(&two, name).await, text);
    assert_eq!(columns(&two, name).await, columns(&one, name).await);
    // Another session's change is seen, because a catalog asks the store.
    let other = open("one");
    run(&other, "ALTER TABLE lake.\"S 1\".\"U\" DROP COLUMN v").await;
    assert!(!shown(&one, name).await.contains("DECIMAL"));
}
