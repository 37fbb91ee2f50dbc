//! What other engines find in a superfile: names that stay, field ids, and types that every reader of Parquet knows.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::schema::types::TypePtr;

fn registered() -> SessionContext {
    let session = SessionContext::new();
    datafusion_supertable::register(&session).unwrap();
    session
}

async fn show(session: &SessionContext, sql: &str) -> String {
    let result = datafusion_supertable::sql(session, sql).await;
    let rows = result.unwrap_or_else(|e| panic!("{sql}: {e}")).collect();
    let rows = rows.await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    pretty_format_batches(&rows).unwrap().to_string()
}

fn superfiles(place: &Path) -> BTreeSet<PathBuf> {
    let all = std::fs::read_dir(place.join("t/superfiles"));
    all.into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .collect()
}

/// The superfile that `statement` writes.
async fn written_by(session: &SessionContext, place: &Path, statement: &str) -> PathBuf {
    let before = superfiles(place);
    show(session, statement).await;
    let mut after = superfiles(place);
    after.retain(|path| !before.contains(path));
    assert_eq!(after.len(), 1);
    after.pop_first().unwrap()
}

/// The file's embedded Arrow schema, its Parquet columns as names and field ids, and its rows.
fn open(path: &Path) -> (Schema, Vec<(String, i32)>, RecordBatch) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = builder.schema().as_ref().clone();
    let mut columns = Vec::new();
    fn collect(nodes: &[TypePtr], below: &str, columns: &mut Vec<(String, i32)>) {
        for node in nodes {
            let info = node.get_basic_info();
            let name = format!("{below}{}", info.name());
            if info.has_id() {
                columns.push((name.clone(), info.id()));
            }
            if node.is_group() {
                collect(node.get_fields(), &format!("{name}."), columns);
            }
        }
    }
    let root = builder.parquet_schema().root_schema();
    collect(root.get_fields(), "", &mut columns);
    let rows = builder.build().unwrap().next().unwrap().unwrap();
    (schema, columns, rows)
}

fn named(expected: &[(&str, i32)]) -> Vec<(String, i32)> {
    let named = expected.iter().map(|(name, id)| ((*name).to_owned(), *id));
    named.collect()
}

fn type_of<'s>(schema: &'s Schema, column: &str) -> &'s DataType {
    schema.field_with_name(column).unwrap().data_type()
}

/// Without what fields say about themselves.
fn shape(data_type: &DataType) -> String {
    let members = |fields: &Fields| {
        let member = |f: &std::sync::Arc<Field>| format!("{} {}", f.name(), shape(f.data_type()));
        fields.iter().map(member).collect::<Vec<_>>().join(", ")
    };
    match data_type {
        DataType::Struct(fields) => format!("Struct({})", members(fields)),
        DataType::List(item) => format!("List({})", shape(item.data_type())),
        DataType::Map(entries, _) => format!("Map({})", shape(entries.data_type())),
        other => other.to_string(),
    }
}

const CREATE: &str = "id INT, name VARCHAR, tags VARCHAR[], s STRUCT<a VARCHAR, b INT>, data BYTEA, \
                      l STRUCT<x VARCHAR>[]";

#[tokio::test(flavor = "multi_thread")]
async fn a_superfile_has_physical_names_field_ids_and_plain_types() {
    let place = tempfile::tempdir().unwrap();
    let session = registered();
    let at = place.path().display();
    let create =
        format!("CREATE EXTERNAL TABLE t ({CREATE}) STORED AS SUPERTABLE LOCATION '{at}/t/'");
    show(&session, &create).await;
    let insert = "INSERT INTO t SELECT 1, 'one', ['p', 'q'], named_struct('a', 'in', 'b', 2), x'00ff', \
                  [named_struct('x', 'deep')]";
    let file = written_by(&session, place.path(), insert).await;
    let (schema, columns, rows) = open(&file);
    let expected = [
        ("id", 1),
        ("name", 2),
        ("tags", 3),
        ("s", 5),
        ("s.a", 6),
        ("s.b", 7),
        ("data", 8),
        ("l", 9),
    ];
    let of_lists = |columns: &[(String, i32)]| -> Vec<(String, i32)> {
        let is_item = |name: &str| name.contains(".list");
        columns
            .iter()
            .filter(|(n, _)| !is_item(n))
            .cloned()
            .collect()
    };
    assert_eq!(of_lists(&columns), named(&expected));
    assert_eq!(columns.len(), 11, "{columns:?}");
    for (column, expected) in [
        ("name", "Utf8"),
        ("tags", "List(Utf8)"),
        ("s", "Struct(a Utf8, b Int32)"),
        ("data", "Binary"),
        ("l", "List(Struct(x Utf8))"),
    ] {
        assert_eq!(shape(type_of(&schema, column)), expected, "{column}");
    }
    assert_eq!(rows["name"].as_string::<i32>().value(0), "one");

    // The table's own types are what they were declared to be.
    let types = "SELECT arrow_typeof(name) = 'Utf8View', arrow_typeof(tags) LIKE '%Utf8View%', \
                 arrow_typeof(s) LIKE '%Utf8View%', arrow_typeof(data) = 'Binary', \
                 arrow_typeof(l) LIKE '%Utf8View%' FROM t";
    let found = show(&session, types).await;
    assert_eq!(found.matches("true").count(), 5, "{found}");
    show(&session, "DROP TABLE t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_keeps_its_physical_name_and_a_new_one_gets_another() {
    let place = tempfile::tempdir().unwrap();
    let session = registered();
    let at = place.path().display();
    let create = format!(
        "CREATE EXTERNAL TABLE t ({CREATE}) STORED AS SUPERTABLE LOCATION '{at}/t/' \
         OPTIONS ('supertable.write.bloom_filter_columns' 'name')"
    );
    show(&session, &create).await;
    show(
        &session,
        "INSERT INTO t SELECT 1, 'one', ['p'], named_struct('a', 'in', 'b', 2), NULL, [named_struct('x', 'deep')]",
    )
    .await;
    for change in [
        "RENAME COLUMN name TO title",
        "RENAME COLUMN s.a TO c",
        "RENAME COLUMN l.element.x TO y",
        "DROP COLUMN tags",
        "ADD COLUMN tags INT",
        "ADD COLUMN name INT",
        "ADD COLUMN s.a INT",
        "ADD COLUMN _id INT",
    ] {
        show(&session, &format!("ALTER TABLE t {change}")).await;
    }
    let update =
        "UPDATE t SET tags = 3, name = 4, _id = 6, s = named_struct('c', 'was a', 'b', 2, 'a', 5)";
    let file = written_by(&session, place.path(), update).await;
    let (schema, columns, rows) = open(&file);
    let named_columns: Vec<_> = columns
        .iter()
        .filter(|(n, _)| !n.starts_with("l."))
        .cloned()
        .collect();
    let expected = [
        ("id", 1),
        ("name", 2),
        ("s", 5),
        ("s.a", 6),
        ("s.b", 7),
        ("s.a_14", 14),
        ("data", 8),
        ("l", 9),
        ("tags_12", 12),
        ("name_13", 13),
        ("_id_15", 15),
        ("_id", i32::MAX),
    ];
    assert_eq!(named_columns, named(&expected));
    assert_eq!(shape(type_of(&schema, "l")), "List(Struct(x Utf8))");
    assert_eq!(*type_of(&schema, "_id"), DataType::Decimal128(38, 0));
    assert_eq!(rows["name"].as_string::<i32>().value(0), "one");
    assert_eq!(rows["tags_12"].as_primitive::<Int32Type>().value(0), 3);
    let s = rows["s"].as_struct();
    assert_eq!(s["a"].as_string::<i32>().value(0), "was a");
    assert_eq!(s["a_14"].as_primitive::<Int32Type>().value(0), 5);

    // The Bloom filter went with the column, and the table reads by the names of today.
    let footer = ParquetRecordBatchReaderBuilder::try_new(File::open(&file).unwrap()).unwrap();
    let chunks = footer.metadata().row_group(0).columns();
    let filtered = chunks.iter().filter(|c| c.bloom_filter_offset().is_some());
    let filtered: Vec<String> = filtered.map(|c| c.column_path().string()).collect();
    assert_eq!(filtered, ["name"]);
    let query = "SELECT title, name, tags, _id, s['c'] AS c, s['a'] AS a, l[1]['y'] AS y FROM t \
                 WHERE title = 'one' AND tags = 3";
    let found = show(&session, query).await;
    assert!(
        found.contains("| one   | 4    | 3    | 6   | was a | 5 | deep |"),
        "{found}"
    );

    // A name that was given back by a restore stays taken.
    show(&session, "SELECT * FROM supertable_restore('t', 2)").await;
    show(&session, "ALTER TABLE t ADD COLUMN title INT").await;
    show(&session, "ALTER TABLE t ADD COLUMN name_13 INT").await;
    let insert = "INSERT INTO t (title, name_13) VALUES (7, 8)";
    let file = written_by(&session, place.path(), insert).await;
    let (_, columns, _) = open(&file);
    assert!(columns.contains(&("title".to_owned(), 16)), "{columns:?}");
    assert!(
        columns.contains(&("name_13_17".to_owned(), 17)),
        "{columns:?}"
    );
}
