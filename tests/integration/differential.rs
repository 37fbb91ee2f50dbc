//! Random programs, run on supertables and on an oracle, must agree after every statement.
//!
//! Every second program speaks the language that SQLite and DataFusion share, and SQLite is the
//! oracle. The others use all values (NaN, negative zero, extreme decimals, zoned timestamps, bytes,
//! dictionaries), and the oracle is DataFusion over tables in memory. One statement in four has a
//! parameter and is prepared. Compared are the affected-row count, the rows of a
//! query, and the whole of the changed table as a multiset.
//!
//! - `SUPERTABLE_DIFFERENTIAL_SEED`: the seed of the first program (a failure prints its own).
//! - `SUPERTABLE_DIFFERENTIAL_PROGRAMS`: how many programs to run, with consecutive seeds.
//! - `SUPERTABLE_DIFFERENTIAL_STATEMENTS`: how long a program is, after the rows it starts with.
//!
//! Not covered where DataFusion is the oracle, because it is wrong there: subqueries below `OR`, `NOT` or
//! `CASE`, two lists for one column (found by seed 32), four floats in a list (seed 275). Not covered at all: equality joins on floats, `MIN` and
//! `MAX` by group of floats (with a NaN its result depends on the plan: found by seed 10003), division, `LIKE` with
//! escapes.

mod generate;
mod oracle;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::support::programs::{from_environment, run_programs};
use crate::support::sql::maybe_on_workers;
use generate::{Action, Dialect, Generator, Kind, Statement, When};
use oracle::{Oracle, Outcome, Row, for_datafusion, parameter, render_batch, with_parameter};

const DEFAULT_SEED: u64 = 1;
const DEFAULT_PROGRAMS: u64 = 150;
const DEFAULT_STATEMENTS: u64 = 6;
const TABLES: [&str; 2] = ["t", "u"];

#[test]
fn random_programs_agree_with_the_oracle() {
    let first = from_environment("SUPERTABLE_DIFFERENTIAL_SEED", DEFAULT_SEED);
    let programs = from_environment("SUPERTABLE_DIFFERENTIAL_PROGRAMS", DEFAULT_PROGRAMS);
    run_programs(first, programs, run_program);
}

fn run_program(seed: u64, counts: &mut BTreeMap<String, u64>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut trace = Vec::new();
    runtime
        .block_on(program(seed, directory.path(), &mut trace, counts))
        .map_err(|why| format!("--- seed {seed}\n{};\n=== {why}", trace.join(";\n")))
}

async fn program(
    seed: u64,
    directory: &Path,
    trace: &mut Vec<String>,
    counts: &mut BTreeMap<String, u64>,
) -> Result<(), String> {
    let dialect = if seed.is_multiple_of(2) {
        Dialect::Shared
    } else {
        Dialect::Full
    };
    let mut generator = Generator::new(StdRng::seed_from_u64(seed), dialect);
    let kinds = generator.kinds.clone();

    let mut session = open(&mut generator.rng, trace).await;
    for table in TABLES {
        let columns: Vec<String> = kinds
            .iter()
            .enumerate()
            .map(|(i, kind)| format!("c{i} {}", kind.sql()))
            .collect();
        let sql = format!(
            "CREATE EXTERNAL TABLE {table} ({}) STORED AS SUPERTABLE LOCATION '{}/{table}/'",
            columns.join(", "),
            directory.display()
        );
        trace.push(sql.clone());
        query(&session, &sql).await?;
    }
    let schema = session.table("t").await.unwrap().schema().inner().clone();
    let mut oracle = Oracle::new(dialect, &kinds, &schema);
    let mut rows = 0;
    let length = from_environment("SUPERTABLE_DIFFERENTIAL_STATEMENTS", DEFAULT_STATEMENTS);
    for step in 0..length + 2 {
        if generator.one_in(8) {
            datafusion_supertable::wait_for_background_work(&session).await;
            session = open(&mut generator.rng, trace).await;
            for table in TABLES {
                let sql = format!(
                    "CREATE EXTERNAL TABLE {table} STORED AS SUPERTABLE LOCATION '{}/{table}/'",
                    directory.display()
                );
                trace.push(sql.clone());
                query(&session, &sql).await?;
            }
        }
        let statement = match step {
            0 => generator.insert("t", 25),
            1 => generator.insert("u", 8),
            _ => generator.statement(rows),
        };
        let sql = to_sql(&statement, &kinds);
        trace.push(sql.clone());
        let expected = match oracle.run(&statement, kinds.len()).await {
            Ok(expected) => expected,
            Err(error) => {
                *counts
                    .entry(format!("oracle refuses: {}", first_words(&error)))
                    .or_default() += 1;
                continue;
            }
        };
        let sql = match parameter(&sql) {
            None => sql,
            Some(value) => {
                *counts.entry("prepared".to_owned()).or_default() += 1;
                let body = with_parameter(&sql, Some("$1"));
                let prepare = format!("PREPARE step{step}(BIGINT) AS {body}");
                trace.push(prepare.clone());
                query(&session, &prepare).await?;
                format!("EXECUTE step{step}({value})")
            }
        };
        let actual = run(&session, &statement, &sql).await;
        match (&actual, &expected) {
            (Ok(actual), expected) if actual == expected => {
                *counts.entry(name(&statement).to_owned()).or_default() += 1;
            }
            _ => return Err(difference(&expected, &actual)),
        }
        if expected == Outcome::Ambiguous {
            *counts
                .entry("MERGE refused by both".to_owned())
                .or_default() += 1;
        }
        if let Some(table) = target(&statement) {
            let sql = format!("SELECT {} FROM {table}", column_list(kinds.len()));
            let expected = Outcome::Rows(oracle.table(table, kinds.len()).await?);
            let actual = query(&session, &sql)
                .await
                .map(|found| Outcome::Rows(found.1));
            match &actual {
                Ok(found) if *found == expected => {}
                _ => return Err(format!("table {table}: {}", difference(&expected, &actual))),
            }
            if let Outcome::Rows(found) = expected {
                rows = found.len().max(rows);
            }
        }
    }
    datafusion_supertable::wait_for_background_work(&session).await;
    Ok(())
}

/// A new session with random settings.
async fn open(rng: &mut StdRng, trace: &mut Vec<String>) -> SessionContext {
    let mut pick = |from: &[usize]| *from.choose(rng).unwrap();
    let mut config = SessionConfig::new()
        .with_target_partitions(pick(&[1, 2, 4]))
        .with_batch_size(pick(&[3, 16, 8192, 8192]));
    let rows = pick(&[2, 5, 16, 1_000_000]);
    let small_groups = pick(&[0, 1, 1]) == 1;
    let parquet = &mut config.options_mut().execution.parquet;
    parquet.pushdown_filters = pick(&[0, 0, 1]) == 1;
    if small_groups {
        parquet.max_row_group_size = 7;
        parquet.data_page_row_count_limit = 2;
        parquet.write_batch_size = 2;
    }
    trace.push(format!(
        "-- target_partitions {}, batch_size {}, target_file_rows {rows}, small groups {small_groups}, pushdown_filters {}",
        config.target_partitions(),
        config.batch_size(),
        config.options().execution.parquet.pushdown_filters,
    ));
    let session = maybe_on_workers(config);
    datafusion_supertable::register(&session).unwrap();
    query(
        &session,
        &format!("SET supertable.target_file_rows = {rows}"),
    )
    .await
    .unwrap();
    session
}

async fn run(
    session: &SessionContext,
    statement: &Statement,
    sql: &str,
) -> Result<Outcome, String> {
    match query(session, sql).await {
        Ok((_, rows)) if matches!(statement, Statement::Select(_)) => Ok(Outcome::Rows(rows)),
        Ok((count, _)) => Ok(Outcome::Affected(count.ok_or("no count")?)),
        Err(error)
            if matches!(statement, Statement::Merge { .. }) && error.contains("more than once") =>
        {
            Ok(Outcome::Ambiguous)
        }
        Err(error) => Err(error),
    }
}

/// The affected-row count if there is one, and all rows, rendered and sorted.
async fn query(session: &SessionContext, sql: &str) -> Result<(Option<u64>, Vec<Row>), String> {
    let frame = session
        .sql(&for_datafusion(sql))
        .await
        .map_err(|e| e.to_string())?;
    let batches = frame.collect().await.map_err(|e| e.to_string())?;
    let count = batches
        .first()
        .filter(|b| b.num_rows() == 1)
        .and_then(|b| b.column_by_name("count"))
        .and_then(|c| c.as_primitive_opt::<UInt64Type>())
        .map(|c| c.value(0));
    let mut rows: Vec<Row> = batches.iter().flat_map(render_batch).collect();
    rows.sort();
    Ok((count, rows))
}

fn column_list(width: usize) -> String {
    (0..width)
        .map(|i| format!("c{i}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn name(statement: &Statement) -> &'static str {
    match statement {
        Statement::Insert { .. } => "INSERT VALUES",
        Statement::InsertSelect {
            overwrite: true, ..
        } => "INSERT OVERWRITE",
        Statement::InsertSelect { .. } => "INSERT SELECT",
        Statement::Delete { .. } => "DELETE",
        Statement::Update { .. } => "UPDATE",
        Statement::Merge { .. } => "MERGE",
        Statement::Truncate { .. } => "TRUNCATE",
        Statement::Select(_) => "SELECT",
    }
}

fn target(statement: &Statement) -> Option<&'static str> {
    match statement {
        Statement::Insert { table, .. }
        | Statement::InsertSelect { table, .. }
        | Statement::Delete { table, .. }
        | Statement::Update { table, .. }
        | Statement::Merge { table, .. }
        | Statement::Truncate { table } => Some(table),
        Statement::Select(_) => None,
    }
}

fn to_sql(statement: &Statement, kinds: &[Kind]) -> String {
    let filter = |pred: &Option<String>| {
        pred.as_ref()
            .map_or(String::new(), |p| format!(" WHERE {p}"))
    };
    let set = |sets: &[(usize, String)]| {
        sets.iter()
            .map(|(i, e)| format!("c{i} = {e}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match statement {
        Statement::Insert { table, rows } => {
            let rows: Vec<String> = rows.iter().map(|r| format!("({})", r.join(", "))).collect();
            format!("INSERT INTO {table} VALUES {}", rows.join(", "))
        }
        Statement::InsertSelect {
            table,
            exprs,
            from,
            pred,
            overwrite,
        } => {
            let verb = if *overwrite {
                "INSERT OVERWRITE"
            } else {
                "INSERT INTO"
            };
            let exprs: Vec<String> = exprs
                .iter()
                .enumerate()
                .map(|(i, e)| format!("{e} AS c{i}"))
                .collect();
            format!(
                "{verb} {table} SELECT {} FROM {from} AS s WHERE {pred}",
                exprs.join(", ")
            )
        }
        Statement::Delete { table, pred } => format!("DELETE FROM {table}{}", filter(pred)),
        Statement::Update { table, sets, pred } => {
            format!("UPDATE {table} SET {}{}", set(sets), filter(pred))
        }
        Statement::Truncate { table } => format!("TRUNCATE TABLE {table}"),
        Statement::Select(sql) => sql.clone(),
        Statement::Merge {
            table,
            source,
            filter,
            on,
            clauses,
        } => {
            let mut sql = format!(
                "MERGE INTO {table} USING (SELECT * FROM {source} AS x WHERE {filter}) AS s ON {on}"
            );
            for clause in clauses {
                sql.push_str(match clause.when {
                    When::Matched => " WHEN MATCHED",
                    When::NotMatched => " WHEN NOT MATCHED",
                    When::NotMatchedBySource => " WHEN NOT MATCHED BY SOURCE",
                });
                if let Some(pred) = &clause.pred {
                    sql.push_str(&format!(" AND {pred}"));
                }
                sql.push_str(&match &clause.action {
                    Action::Delete => " THEN DELETE".to_owned(),
                    Action::Update(sets) => format!(" THEN UPDATE SET {}", set(sets)),
                    Action::Insert(exprs) => format!(
                        " THEN INSERT ({}) VALUES ({})",
                        column_list(kinds.len()),
                        exprs.join(", ")
                    ),
                });
            }
            sql
        }
    }
}

fn first_words(error: &str) -> String {
    error.chars().take(100).collect()
}

fn difference(expected: &Outcome, actual: &Result<Outcome, String>) -> String {
    if let (Outcome::Rows(expected), Ok(Outcome::Rows(actual))) = (expected, actual) {
        let missing = without(expected, actual);
        let extra = without(actual, expected);
        return format!("missing {missing:?}, too many {extra:?}");
    }
    format!("expected {expected:?}, got {actual:?}")
}

/// The rows of `a` that `b` has not as often.
fn without(a: &[Row], b: &[Row]) -> Vec<Row> {
    let mut counts = BTreeMap::<&Row, i64>::new();
    for row in b {
        *counts.entry(row).or_default() += 1;
    }
    let mut left = Vec::new();
    for row in a {
        let n = counts.entry(row).or_default();
        *n -= 1;
        if *n < 0 {
            left.push(row.clone());
        }
    }
    left
}

/// Parquet's bounds leave a NaN out, and pruning by them lost its row.
#[tokio::test]
async fn a_nan_is_found_above_the_greatest_number() {
    for (group, pushdown) in [(2, false), (2, true), (100, false)] {
        let directory = tempfile::tempdir().unwrap();
        let mut config = SessionConfig::new();
        config.options_mut().execution.parquet.max_row_group_size = group;
        config.options_mut().execution.parquet.pushdown_filters = pushdown;
        let session = SessionContext::new_with_config(config);
        datafusion_supertable::register(&session).unwrap();
        let place = directory.path().display();
        for sql in [
            format!(
                "CREATE EXTERNAL TABLE t (id INT, x DOUBLE, y REAL, \"z.z\" DOUBLE) STORED AS SUPERTABLE LOCATION '{place}/t/'"
            ),
            "INSERT INTO t VALUES (1, 1, 1, 1), (2, {NAN}, {NAN}, {NAN}), (3, 9, 9, 9), \
             (4, NULL, NULL, NULL), (5, NULL, NULL, NULL), (6, -{NAN}, -{NAN}, -{NAN})"
                .to_owned(),
            "INSERT INTO t VALUES (7, 7, 7, 7)".to_owned(),
        ] {
            query(&session, &sql).await.unwrap();
        }
        for column in ["x", "y", "\"z.z\""] {
            let found = |sql: String| {
                let session = session.clone();
                async move {
                    let rows = query(&session, &sql).await.unwrap().1;
                    rows.into_iter()
                        .map(|mut row| row.remove(0))
                        .collect::<Vec<_>>()
                        .join(" ")
                }
            };
            let ids = |pred: &str| found(format!("SELECT id FROM t WHERE {column} {pred}"));
            assert_eq!(ids("> 100").await, "2", "{column}");
            assert_eq!(ids("< -100").await, "6", "{column}");
            assert_eq!(ids("> 8").await, "2 3", "{column}");
            assert_eq!(ids("IS NULL").await, "4 5", "{column}");
            assert_eq!(ids("IS NOT NULL").await, "1 2 3 6 7", "{column}");
            assert_eq!(found(format!("SELECT max({column}) FROM t")).await, "NaN");
        }
        let deleted = query(&session, "DELETE FROM t WHERE x > 100")
            .await
            .unwrap();
        assert_eq!(deleted.0, Some(1));
        datafusion_supertable::wait_for_background_work(&session).await;
    }
}
