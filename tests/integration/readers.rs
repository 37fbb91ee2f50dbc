//! Readers that are not ours. One in Python knows the format from its specification alone and reads every version of
//! a table as we do; engines that know nothing of supertables open superfiles by the physical names of their columns.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::prelude::SessionContext;
use serde_json::{Value, json};

use crate::support::disk::files;
use crate::support::sql::context;

/// Runs a script of `tests/readers` with the packages that it needs, which are installed if they are missing. What it
/// prints, or what it says instead.
fn python(script: &str, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let installed = Command::new("sh")
        .args([&format!("{tests}/python.sh"), "install"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(installed.status.success(), "cannot install the packages");
    let packages = String::from_utf8(installed.stdout).unwrap();
    let output = Command::new("python3")
        .arg(format!("{tests}/readers/{script}"))
        .args(arguments)
        .env("PYTHONPATH", packages.trim())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONIOENCODING", "utf-8")
        .env("TZ", "UTC")
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(parsed(&output.stdout)),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What the independent reader reads, or why it refuses.
fn read(root: &Path, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let root = root.to_str().unwrap();
    let all: Vec<&str> = [root].iter().chain(arguments).copied().collect();
    python("supertable.py", &all)
}

fn parsed(lines: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(lines).unwrap().lines();
    lines
        .map(|line| without_nulls(serde_json::from_str(line).unwrap()))
        .collect()
}

/// Arrow's writer leaves out what is NULL.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| (name, without_nulls(member)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

async fn batches(ctx: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    let done = async { datafusion_supertable::sql(ctx, sql).await?.collect().await };
    done.await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// The rows of a query, in the words of the independent reader.
async fn rows(ctx: &SessionContext, sql: &str) -> Vec<Value> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    for batch in batches(ctx, sql).await {
        // A number in JSON has not enough digits.
        let text = |column: &ArrayRef| match column.data_type().is_decimal() {
            true => cast(column, &DataType::Utf8).unwrap(),
            false => column.clone(),
        };
        let schema = batch.schema();
        let names = schema.fields().iter().map(|field| field.name());
        let columns = names.zip(batch.columns().iter().map(text));
        writer
            .write(&RecordBatch::try_from_iter(columns).unwrap())
            .unwrap();
    }
    writer.finish().unwrap();
    parsed(&writer.into_inner())
}

/// A session that shows row ids, in which `dir` is the place of the table.
async fn session() -> SessionContext {
    let ctx = context();
    datafusion_supertable::register(&ctx).unwrap();
    batches(&ctx, "SET supertable.expose_row_id = 'column'").await;
    ctx
}

/// The current version, the time at which it was made, and its rows by their ids.
async fn current(ctx: &SessionContext) -> (u64, String, Vec<Value>) {
    let newest =
        "SELECT version, CAST(time AS VARCHAR) AS time FROM supertable_history('t') LIMIT 1";
    let newest = rows(ctx, newest).await.remove(0);
    (
        newest["version"].as_u64().unwrap(),
        newest["time"].as_str().unwrap().to_owned(),
        rows(ctx, "SELECT * FROM t ORDER BY _id").await,
    )
}

const CREATE: &str = "CREATE EXTERNAL TABLE t (
        id BIGINT PRIMARY KEY, name VARCHAR DEFAULT 'none', price DECIMAL(10,2), seen TIMESTAMP, f FLOAT, ok BOOLEAN,
        tags INT[], raw BYTEA, s STRUCT<a INT, b VARCHAR>, day DATE, year INT, UNIQUE (name, id))
    STORED AS SUPERTABLE LOCATION '{dir}/t/'";

/// What happens to the table, a version each; `COPY` makes files for it.
const HISTORY: &[&str] = &[
    "INSERT INTO t SELECT v, 'n' || v, v * 1.25, to_timestamp(1700000000 + v * 3600), v / 4.0, v % 2 = 0, [v, NULL],
        'x' || v, named_struct('a', v, 'b', 'b' || v), DATE '2024-01-01' + CAST(v AS INT), 2020
     FROM (SELECT value AS v FROM range(0, 100))",
    "DELETE FROM t WHERE id % 7 = 3",
    "UPDATE t SET name = 'changed' WHERE id < 10",
    "DELETE FROM t WHERE id = 50",
    "ALTER TABLE t RENAME COLUMN name TO title, ADD COLUMN grade INT NOT NULL DEFAULT 7, ADD COLUMN s.c DOUBLE,
        DROP COLUMN raw, RENAME COLUMN s.b TO z",
    "INSERT INTO t (id, title, s) VALUES (1000, 'new', named_struct('a', 1, 'z', 'zz', 'c', 0.5)), (1001, NULL, NULL)",
    // The name of a dropped column with another type, and names that change places.
    "ALTER TABLE t ADD COLUMN raw VARCHAR, ALTER COLUMN f TYPE DOUBLE, ALTER COLUMN s.a TYPE BIGINT,
        ADD COLUMN late TIMESTAMP DEFAULT '2020-02-02T02:02:02'",
    "ALTER TABLE t RENAME COLUMN title TO x, RENAME COLUMN raw TO title",
    "UPDATE t SET title = 'both' WHERE id BETWEEN 20 AND 25",
    // Files of others: where they are, with a column in the name of their directory; below the table; as a copy.
    "COPY (SELECT CAST(value AS INT) AS id, 'a' || value AS x, CAST(1 AS INT) AS grade, 'late' AS title,
            to_timestamp(1600000000) AS late, named_struct('z', 'from file', 'c', 2.5, 'a', 5) AS s
        FROM range(2000, 2020)) TO '{dir}/in/year=2024/a.parquet' STORED AS PARQUET",
    "COPY (SELECT value AS id, 'b' || value AS x, CAST(2 AS INT) AS grade, to_timestamp(1600000000) AS late
        FROM range(2020, 2040)) TO '{dir}/in/year=__HIVE_DEFAULT_PARTITION__/b.parquet' STORED AS PARQUET",
    "SELECT * FROM supertable_add_files('t', '{dir}/in/')",
    "COPY (SELECT value AS id, 'c' || value AS x, CAST(3 AS INT) AS grade, to_timestamp(1600000000) AS late
        FROM range(2040, 2050)) TO '{dir}/t/data/c.parquet' STORED AS PARQUET",
    "SELECT * FROM supertable_add_files('t', '{dir}/t/data/')",
    "COPY (SELECT value AS id, 'd' || value AS x, CAST(4 AS INT) AS grade, to_timestamp(1600000000) AS late
        FROM range(2050, 2060)) TO '{dir}/d.parquet' STORED AS PARQUET",
    "SELECT * FROM supertable_add_files('t', '{dir}/d.parquet', copy => true)",
    "DELETE FROM t WHERE id IN (2001, 2021, 2041, 2051)",
    "ALTER TABLE t RENAME COLUMN x TO label, RENAME COLUMN s.z TO y, ADD COLUMN extra VARCHAR DEFAULT 'given',
        DROP COLUMN title",
    "UPDATE t SET extra = 'own', label = label || '!' WHERE id IN (5, 2002, 2022, 2042, 2052)",
    "SELECT * FROM supertable_optimize('t', full => true)",
    "DELETE FROM t WHERE id % 10 = 4",
    "SELECT * FROM supertable_restore('t', 9)",
    "INSERT INTO t (id) VALUES (5000)",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_written_from_the_specification_reads_every_version_as_we_do() {
    let dir = tempfile::tempdir().unwrap();
    let here = |sql: &str| sql.replace("{dir}", dir.path().to_str().unwrap());
    let ctx = session().await;
    batches(&ctx, &here(CREATE)).await;
    let mut versions = vec![current(&ctx).await];
    for sql in HISTORY {
        batches(&ctx, &here(sql)).await;
        let now = current(&ctx).await;
        if Some(now.0) != versions.last().map(|last| last.0) {
            versions.push(now);
        }
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let made = HISTORY
        .iter()
        .filter(|sql| !sql.starts_with("COPY"))
        .count();
    assert_eq!(versions.len(), made + 1);

    let root = dir.path().join("t");
    for (version, time, expected) in &versions {
        let by_number = read(&root, &["--version", &version.to_string()]).unwrap();
        assert_eq!(&by_number, expected, "version {version}");
        if version % 4 == 1 {
            let by_time = read(&root, &["--time", time]).unwrap();
            assert_eq!(&by_time, expected, "version {version}, {time}");
        }
    }
    let (newest, _, expected) = versions.last().unwrap();
    assert_eq!(&read(&root, &[]).unwrap(), expected);
    for absent in ["0".to_owned(), (newest + 1).to_string()] {
        let refused = read(&root, &["--version", &absent]).unwrap_err();
        assert!(refused.contains("there is no such version"), "{refused}");
    }
}

/// One of each: pointer, manifest node, sidecar, superfile.
fn one_of_each(root: &Path) -> Vec<PathBuf> {
    let all = files(root);
    let first = |folder: &str, end: &str| {
        let is = |path: &&PathBuf| {
            let path = path.to_str().unwrap();
            path.starts_with(folder) && path.ends_with(end)
        };
        all.iter().find(is).cloned().unwrap()
    };
    vec![
        first("_supertable/current", ""),
        first("_supertable/manifest/", ""),
        first("superfiles/", ".tombstones"),
        first("superfiles/", ".parquet"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_independent_reader_refuses_what_is_damaged_changed_newer_or_gone() {
    let dir = tempfile::tempdir().unwrap();
    let here = |sql: &str| sql.replace("{dir}", dir.path().to_str().unwrap());
    let root = dir.path().join("t");
    let ctx = session().await;
    for sql in [
        "CREATE EXTERNAL TABLE t (id BIGINT) STORED AS SUPERTABLE LOCATION '{dir}/t/'",
        "INSERT INTO t SELECT value FROM range(0, 10)",
        "DELETE FROM t WHERE id = 3",
    ] {
        batches(&ctx, &here(sql)).await;
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    // Only what the current version needs is left: whatever is damaged is met.
    batches(
        &ctx,
        "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0 day')",
    )
    .await;
    assert_eq!(read(&root, &[]).unwrap().len(), 9);
    for file in one_of_each(&root) {
        let path = root.join(&file);
        let healthy = fs::read(&path).unwrap();
        for at in [healthy.len() / 3, healthy.len() - 20] {
            let mut damaged = healthy.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let refused = read(&root, &[]).unwrap_err();
            assert!(refused.starts_with("refused: "), "{file:?}: {refused}");
        }
        fs::write(&path, &healthy[..healthy.len() - 1]).unwrap();
        let refused = read(&root, &[]).unwrap_err();
        assert!(refused.starts_with("refused: "), "{file:?}: {refused}");
        fs::write(&path, &healthy).unwrap();
    }
    let pointer = root.join("_supertable/current");
    let text = fs::read_to_string(&pointer).unwrap();
    let newer = text.replace("\"format_version\":1", "\"format_version\":2");
    fs::write(&pointer, newer).unwrap();
    let refused = read(&root, &[]).unwrap_err();
    assert!(refused.contains("format version 2"), "{refused}");
    fs::write(&pointer, text).unwrap();

    // A file of others that was written again, with the same rows.
    let copy = here(
        "COPY (SELECT value AS id FROM range(10, 20)) TO '{dir}/in.parquet' STORED AS PARQUET",
    );
    batches(&ctx, &copy).await;
    batches(
        &ctx,
        &here("SELECT * FROM supertable_add_files('t', '{dir}/in.parquet')"),
    )
    .await;
    assert_eq!(read(&root, &[]).unwrap().len(), 19);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    batches(&ctx, &copy).await;
    let refused = read(&root, &[]).unwrap_err();
    assert!(refused.contains("was changed"), "{refused}");
    datafusion_supertable::wait_for_background_work(&ctx).await;
}

/// The physical name of the column `name`, as the table's schema has it.
fn physical(columns: &[Value], name: &str) -> String {
    let column = columns.iter().find(|column| column["name"] == name);
    column.unwrap()["physical_name"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What each engine reads in the superfiles `files`, by these physical names.
fn engines(
    root: &Path,
    files: &BTreeSet<PathBuf>,
    names: &[&str],
) -> Vec<(String, BTreeSet<String>)> {
    let names = names.join(",");
    let paths = files
        .iter()
        .map(|file| root.join(file).display().to_string());
    let paths: Vec<String> = paths.collect();
    let arguments: Vec<&str> = [names.as_str()]
        .into_iter()
        .chain(paths.iter().map(String::as_str))
        .collect();
    let answers = python("engines.py", &arguments).unwrap();
    answers
        .into_iter()
        .map(|answer| {
            let rows = answer["rows"].as_array().unwrap();
            let engine = answer["engine"].as_str().unwrap().to_owned();
            (engine, rows.iter().map(Value::to_string).collect())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_engines_read_superfiles_by_the_physical_names_of_columns() {
    let dir = tempfile::tempdir().unwrap();
    let here = |sql: &str| sql.replace("{dir}", dir.path().to_str().unwrap());
    let root = dir.path().join("t");
    let superfiles = || -> BTreeSet<PathBuf> {
        let all = files(&root).into_iter();
        all.filter(|file| file.extension().is_some_and(|end| end == "parquet"))
            .collect()
    };
    let ctx = session().await;
    for sql in [
        "CREATE EXTERNAL TABLE t (id BIGINT, name VARCHAR, raw BYTEA, s STRUCT<a INT, b VARCHAR>)
         STORED AS SUPERTABLE LOCATION '{dir}/t/'",
        "INSERT INTO t VALUES (1, 'one', 'r', named_struct('a', 1, 'b', 'x')), (2, 'two', NULL, NULL)",
    ] {
        batches(&ctx, &here(sql)).await;
    }
    let first = superfiles();
    for sql in [
        "ALTER TABLE t RENAME COLUMN name TO title, RENAME COLUMN s.b TO z",
        "ALTER TABLE t ADD COLUMN name VARCHAR",
        "INSERT INTO t (id, title, name) VALUES (3, 'three', 'new')",
    ] {
        batches(&ctx, sql).await;
    }
    let second: BTreeSet<PathBuf> = superfiles().difference(&first).cloned().collect();
    batches(&ctx, "UPDATE t SET title = 'changed' WHERE id = 1").await;
    let before: BTreeSet<PathBuf> = first.union(&second).cloned().collect();
    let third: BTreeSet<PathBuf> = superfiles().difference(&before).cloned().collect();
    let ids = rows(&ctx, "SELECT _id FROM t WHERE id = 1").await;
    datafusion_supertable::wait_for_background_work(&ctx).await;
    assert!(!first.is_empty() && !second.is_empty() && !third.is_empty());

    let columns = read(&root, &["--columns"]).unwrap();
    let of = |name: &str| physical(&columns, name);
    let (title, name) = (of("title"), of("name"));
    let as_text =
        |rows: &[Value]| -> BTreeSet<String> { rows.iter().map(Value::to_string).collect() };
    let check = |files, names: &[&str], expected: &[Value]| {
        let answers = engines(&root, files, names);
        assert_eq!(answers.len(), 4);
        for (engine, answer) in answers {
            assert_eq!(answer, as_text(expected), "{engine}");
        }
    };
    // A renamed column, and one that has its old name now, in files from before and after.
    let three = [json!([1, "one"]), json!([2, "two"]), json!([3, "three"])];
    check(&before, &[&of("id"), &title], &three);
    check(
        &second,
        &[&of("id"), &title, &name],
        &[json!([3, "three", "new"])],
    );
    // Columns of every shape, members under their physical names.
    let whole = [
        json!([1, "one", "b'r'", {"a": 1, "b": "x"}]),
        json!([2, "two", null, null]),
    ];
    check(&first, &[&of("id"), &title, &of("raw"), &of("s")], &whole);
    // Row ids stand in the files of UPDATE.
    let id = ids[0]["_id"].as_str().unwrap();
    check(
        &third,
        &["_id", &of("id"), &title],
        &[json!([id, 1, "changed"])],
    );
}
