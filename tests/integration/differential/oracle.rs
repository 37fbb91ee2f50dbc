//! What a program should do, by engines that know nothing of superfiles.
//!
//! A statement is evaluated as queries only: which rows go (by a row number that the oracle's
//! tables have besides their columns), and which rows come. Both are taken from the same state,
//! then applied. So no `DELETE`, `UPDATE` or `MERGE` of any engine is relied on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int64Type, Schema, SchemaRef,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use rusqlite::Connection;
use rusqlite::types::Value;

use super::generate::{Action, Dialect, Kind, Statement, When};

/// A rendered row.
pub(super) type Row = Vec<String>;

/// What a statement answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Affected(u64),
    /// The rows of a query, sorted.
    Rows(Vec<Row>),
    /// A target row was to be changed twice.
    Ambiguous,
}

const ROW_NUMBER: &str = "rn";

/// An engine that evaluates queries over tables it keeps itself.
pub(super) enum Oracle {
    Sqlite(Connection),
    Memory(Memory),
}

/// DataFusion over tables in memory, one batch each.
pub(super) struct Memory {
    session: SessionContext,
    tables: HashMap<&'static str, RecordBatch>,
    next: i64,
}

/// Rows to come: a temporary table, or batches.
enum Staged {
    Sqlite(String),
    Memory(Vec<RecordBatch>),
}

impl Oracle {
    /// Empty tables `t` and `u`.
    pub(super) fn new(dialect: Dialect, kinds: &[Kind], schema: &SchemaRef) -> Self {
        match dialect {
            Dialect::Shared => {
                let db = Connection::open_in_memory().unwrap();
                db.execute_batch("PRAGMA case_sensitive_like = ON").unwrap();
                let columns: String = kinds
                    .iter()
                    .enumerate()
                    .map(|(i, kind)| {
                        let affinity = match kind {
                            Kind::Text | Kind::Date => "TEXT",
                            Kind::Double => "REAL",
                            _ => "INTEGER",
                        };
                        format!(", c{i} {affinity}")
                    })
                    .collect();
                for table in ["t", "u"] {
                    let sql = format!("CREATE TABLE {table} (rn INTEGER PRIMARY KEY{columns})");
                    db.execute_batch(&sql).unwrap();
                }
                Self::Sqlite(db)
            }
            Dialect::Full => {
                let config = SessionConfig::new().with_target_partitions(1);
                let mut fields = vec![Field::new(ROW_NUMBER, DataType::Int64, false)];
                for field in schema.fields() {
                    fields.push(Field::new(field.name(), field.data_type().clone(), true));
                }
                let empty = RecordBatch::new_empty(Arc::new(Schema::new(fields)));
                let mut memory = Memory {
                    session: SessionContext::new_with_config(config),
                    tables: HashMap::new(),
                    next: 0,
                };
                memory.put("t", empty.clone());
                memory.put("u", empty);
                Self::Memory(memory)
            }
        }
    }

    /// Executes one statement; `Err` says why the oracle cannot.
    pub(super) async fn run(
        &mut self,
        statement: &Statement,
        width: usize,
    ) -> Result<Outcome, String> {
        let columns = |alias: &str, sets: &[(usize, String)]| {
            let list: Vec<String> = (0..width)
                .map(|i| match sets.iter().find(|(at, _)| *at == i) {
                    Some((_, expr)) => format!("{expr} AS c{i}"),
                    None => format!("{alias}.c{i} AS c{i}"),
                })
                .collect();
            list.join(", ")
        };
        let listed = |exprs: &[String]| {
            let list: Vec<String> = exprs
                .iter()
                .enumerate()
                .map(|(i, e)| format!("{e} AS c{i}"))
                .collect();
            list.join(", ")
        };
        let filter = |pred: &Option<String>| {
            pred.as_ref()
                .map_or(String::new(), |p| format!(" WHERE {p}"))
        };
        match statement {
            Statement::Select(sql) => Ok(Outcome::Rows(self.rows(sql).await?)),
            Statement::Insert { table, rows } => {
                let rows_sql: Vec<String> = rows
                    .iter()
                    .map(|row| format!("({})", row.join(", ")))
                    .collect();
                let sql = format!("SELECT * FROM (VALUES {}) AS v", rows_sql.join(", "));
                let staged = self.stage(&sql).await?;
                self.apply(table, &HashSet::new(), vec![staged]);
                Ok(Outcome::Affected(rows.len() as u64))
            }
            Statement::InsertSelect {
                table,
                exprs,
                from,
                pred,
                overwrite,
            } => {
                let sql = format!("SELECT {} FROM {from} AS s WHERE {pred}", listed(exprs));
                let staged = self.stage(&sql).await?;
                let gone = match overwrite {
                    true => {
                        self.numbers(&format!("SELECT {table}.rn FROM {table}"))
                            .await?
                    }
                    false => vec![],
                };
                let gone = gone.iter().map(|r| r[0]).collect();
                Ok(Outcome::Affected(self.apply(table, &gone, vec![staged])))
            }
            Statement::Truncate { table } => self.delete(table, "").await,
            Statement::Delete { table, pred } => self.delete(table, &filter(pred)).await,
            Statement::Update { table, sets, pred } => {
                let filter = filter(pred);
                let gone = self
                    .numbers(&format!("SELECT {table}.rn FROM {table}{filter}"))
                    .await?;
                let sql = format!("SELECT {} FROM {table}{filter}", columns(table, sets));
                let staged = self.stage(&sql).await?;
                self.apply(table, &gone.iter().map(|r| r[0]).collect(), vec![staged]);
                Ok(Outcome::Affected(gone.len() as u64))
            }
            Statement::Merge {
                table,
                source,
                filter,
                on,
                clauses,
            } => {
                let from_source = format!("(SELECT * FROM {source} AS x WHERE {filter}) AS s");
                let pairs = format!("{table} JOIN {from_source} ON {on}");
                let pair_numbers = format!("SELECT {table}.rn AS a, s.rn AS b FROM {pairs}");
                let pair_rows = self.numbers(&pair_numbers).await?;
                let matched: HashSet<i64> = pair_rows.iter().map(|r| r[0]).collect();
                let used: HashSet<i64> = pair_rows.iter().map(|r| r[1]).collect();
                let list = |numbers: &HashSet<i64>| {
                    let list: Vec<String> = numbers.iter().map(i64::to_string).collect();
                    if list.is_empty() {
                        "-1".to_owned()
                    } else {
                        list.join(", ")
                    }
                };
                let (matched, used) = (list(&matched), list(&used));

                let mut gone: BTreeMap<i64, u32> = BTreeMap::new();
                let mut staged = Vec::new();
                let mut affected = 0;
                for when in [When::Matched, When::NotMatched, When::NotMatchedBySource] {
                    let mine: Vec<_> = clauses.iter().filter(|c| c.when == when).collect();
                    for (index, clause) in mine.iter().enumerate() {
                        // The first clause whose condition is true: all before it are not.
                        let mut applies = vec!["TRUE".to_owned()];
                        for earlier in &mine[..index] {
                            let pred = earlier.pred.as_deref().unwrap_or("TRUE");
                            applies.push(format!("({pred}) IS NOT TRUE"));
                        }
                        applies.extend(clause.pred.clone().map(|p| format!("({p})")));
                        let applies = applies.join(" AND ");
                        let from = match when {
                            When::Matched => format!("{pairs} WHERE {applies}"),
                            When::NotMatched => {
                                format!("{from_source} WHERE s.rn NOT IN ({used}) AND {applies}")
                            }
                            When::NotMatchedBySource => {
                                format!("{table} WHERE {table}.rn NOT IN ({matched}) AND {applies}")
                            }
                        };
                        if when != When::NotMatched {
                            let sql = format!("SELECT {table}.rn FROM {from}");
                            for row in self.numbers(&sql).await? {
                                *gone.entry(row[0]).or_default() += 1;
                                affected += 1;
                            }
                        }
                        match &clause.action {
                            Action::Delete => {}
                            Action::Update(sets) => {
                                let sql = format!("SELECT {} FROM {from}", columns(table, sets));
                                staged.push(self.stage(&sql).await?);
                            }
                            Action::Insert(exprs) => {
                                let sql = format!("SELECT {} FROM {from}", listed(exprs));
                                let new = self.stage(&sql).await?;
                                affected += self.count(&new);
                                staged.push(new);
                            }
                        }
                    }
                }
                if gone.values().any(|times| *times > 1) {
                    return Ok(Outcome::Ambiguous);
                }
                self.apply(table, &gone.into_keys().collect(), staged);
                Ok(Outcome::Affected(affected))
            }
        }
    }

    async fn delete(&mut self, table: &'static str, filter: &str) -> Result<Outcome, String> {
        let gone = self
            .numbers(&format!("SELECT {table}.rn FROM {table}{filter}"))
            .await?;
        self.apply(table, &gone.iter().map(|r| r[0]).collect(), vec![]);
        Ok(Outcome::Affected(gone.len() as u64))
    }

    /// The rows of a query, rendered and sorted.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, String> {
        let mut rows: Vec<Row> = match self {
            Self::Sqlite(db) => {
                let values = sqlite_rows(db, sql)?;
                values
                    .into_iter()
                    .map(|row| row.into_iter().map(render_value).collect())
                    .collect()
            }
            Self::Memory(memory) => {
                let found = memory.query(sql).await?;
                found.iter().flat_map(render_batch).collect()
            }
        };
        rows.sort();
        Ok(rows)
    }

    /// All rows of a table, rendered and sorted.
    pub(super) async fn table(&mut self, name: &str, width: usize) -> Result<Vec<Row>, String> {
        if let Self::Memory(memory) = self {
            let mut rows = render_batch(&memory.tables[name]);
            for row in &mut rows {
                row.remove(0);
            }
            rows.sort();
            return Ok(rows);
        }
        let columns: Vec<String> = (0..width).map(|i| format!("c{i}")).collect();
        self.rows(&format!("SELECT {} FROM {name}", columns.join(", ")))
            .await
    }

    async fn numbers(&mut self, sql: &str) -> Result<Vec<Vec<i64>>, String> {
        Ok(match self {
            Self::Sqlite(db) => sqlite_rows(db, sql)?
                .into_iter()
                .map(|row| {
                    row.into_iter()
                        .map(|v| match v {
                            Value::Integer(n) => n,
                            other => panic!("{other:?} is no row number"),
                        })
                        .collect()
                })
                .collect(),
            Self::Memory(memory) => {
                let mut rows = Vec::new();
                for batch in memory.query(sql).await? {
                    for row in 0..batch.num_rows() {
                        let numbers = batch.columns().iter();
                        rows.push(
                            numbers
                                .map(|c| c.as_primitive::<Int64Type>().value(row))
                                .collect(),
                        );
                    }
                }
                rows
            }
        })
    }

    async fn stage(&mut self, sql: &str) -> Result<Staged, String> {
        Ok(match self {
            Self::Sqlite(db) => {
                let names = sqlite_rows(db, "SELECT count(*) FROM temp.sqlite_master")?;
                let Some(Value::Integer(n)) = names[0].first() else {
                    panic!("a count is an integer")
                };
                let name = format!("staged{n}");
                db.execute_batch(&format!("CREATE TEMP TABLE {name} AS {}", for_sqlite(sql)))
                    .map_err(|e| e.to_string())?;
                Staged::Sqlite(name)
            }
            Self::Memory(memory) => Staged::Memory(memory.query(sql).await?),
        })
    }

    fn count(&self, staged: &Staged) -> u64 {
        match (self, staged) {
            (Self::Sqlite(db), Staged::Sqlite(name)) => db
                .query_row(&format!("SELECT count(*) FROM {name}"), [], |r| {
                    r.get::<_, i64>(0)
                })
                .unwrap() as u64,
            (_, Staged::Memory(batches)) => batches.iter().map(|b| b.num_rows() as u64).sum(),
            _ => unreachable!(),
        }
    }

    /// Removes rows and adds the staged ones; answers how many were added.
    fn apply(&mut self, table: &'static str, gone: &HashSet<i64>, staged: Vec<Staged>) -> u64 {
        let added = staged.iter().map(|s| self.count(s)).sum();
        match self {
            Self::Sqlite(db) => {
                for rn in gone {
                    db.execute(&format!("DELETE FROM {table} WHERE rn = ?"), [rn])
                        .unwrap();
                }
                for new in staged {
                    let Staged::Sqlite(name) = new else {
                        unreachable!()
                    };
                    db.execute_batch(&format!("INSERT INTO {table} SELECT NULL, * FROM {name}"))
                        .unwrap();
                }
                let staged = sqlite_rows(db, "SELECT name FROM temp.sqlite_master").unwrap();
                for row in staged {
                    let Some(Value::Text(name)) = row.first() else {
                        unreachable!()
                    };
                    db.execute_batch(&format!("DROP TABLE {name}")).unwrap();
                }
            }
            Self::Memory(memory) => memory.apply(table, gone, staged),
        }
        added
    }
}

impl Memory {
    fn put(&mut self, name: &'static str, batch: RecordBatch) {
        let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
        let _ = self.session.deregister_table(name).unwrap();
        self.session.register_table(name, Arc::new(table)).unwrap();
        self.tables.insert(name, batch);
    }

    async fn query(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let frame = self
            .session
            .sql(&for_datafusion(sql))
            .await
            .map_err(|e| e.to_string())?;
        frame.collect().await.map_err(|e| e.to_string())
    }

    fn apply(&mut self, name: &'static str, gone: &HashSet<i64>, staged: Vec<Staged>) {
        let old = &self.tables[name];
        let schema = old.schema();
        let numbers = old.column(0).as_primitive::<Int64Type>();
        let kept: BooleanArray = numbers
            .values()
            .iter()
            .map(|rn| Some(!gone.contains(rn)))
            .collect();
        let mut parts = vec![filter_record_batch(old, &kept).unwrap()];
        for new in staged {
            let Staged::Memory(batches) = new else {
                unreachable!()
            };
            for batch in batches {
                let rows = batch.num_rows() as i64;
                let numbers = Int64Array::from_iter_values(self.next..self.next + rows);
                self.next += rows;
                let mut columns: Vec<ArrayRef> = vec![Arc::new(numbers)];
                for (column, field) in batch.columns().iter().zip(schema.fields().iter().skip(1)) {
                    columns.push(cast(column, field.data_type()).unwrap());
                }
                parts.push(RecordBatch::try_new(Arc::clone(&schema), columns).unwrap());
            }
        }
        let all = concat_batches(&schema, &parts).unwrap();
        self.put(name, all);
    }
}

fn sqlite_rows(db: &Connection, sql: &str) -> Result<Vec<Vec<Value>>, String> {
    let mut query = db.prepare(&for_sqlite(sql)).map_err(|e| e.to_string())?;
    let width = query.column_count();
    let rows = query
        .query_map([], |row| (0..width).map(|i| row.get(i)).collect())
        .map_err(|e| e.to_string())?
        .collect::<Result<_, _>>();
    rows.map_err(|e| e.to_string())
}

fn for_sqlite(sql: &str) -> String {
    let sql = sql.replace("DATE '", "'").replace("{INF}", "9e999");
    with_parameter(&sql, None)
}

/// The SQL with its parameter in place, or with the placeholder `instead`.
pub(super) fn with_parameter(sql: &str, instead: Option<&str>) -> String {
    let mut parts = sql.split("{P:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (value, rest) = part.split_once('}').unwrap();
        out.push_str(&format!("({})", instead.unwrap_or(value)));
        out.push_str(rest);
    }
    out
}

/// The value of the SQL's parameter, if it has one.
pub(super) fn parameter(sql: &str) -> Option<&str> {
    let (_, from) = sql.split_once("{P:")?;
    Some(from.split_once('}')?.0)
}

/// The words that stand for values without a literal.
pub(super) fn for_datafusion(sql: &str) -> String {
    let sql = sql
        .replace("{INF}", "CAST('Infinity' AS DOUBLE)")
        .replace("{NAN}", "CAST('NaN' AS DOUBLE)");
    with_parameter(&sql, None)
}

fn render_value(value: Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(v) => render_float(v),
        Value::Text(text) => format!("'{text}'"),
        Value::Blob(_) => panic!("no statement makes a blob"),
    }
}

fn render_float(value: f64) -> String {
    // The bits tell every value from every other; one NaN is as good as another.
    if value.is_nan() {
        "NaN".to_owned()
    } else {
        format!("{value:?}={:016x}", value.to_bits())
    }
}

/// The rows of a batch, rendered.
pub(super) fn render_batch(batch: &RecordBatch) -> Vec<Row> {
    let options = FormatOptions::default();
    let cell = |column: &ArrayRef, row: usize| {
        if column.is_null(row) {
            return "NULL".to_owned();
        }
        match column.data_type() {
            DataType::Float32 => {
                render_float(f64::from(column.as_primitive::<Float32Type>().value(row)))
            }
            DataType::Float64 => render_float(column.as_primitive::<Float64Type>().value(row)),
            DataType::Boolean => i32::from(column.as_boolean().value(row)).to_string(),
            other => {
                let formatter = ArrayFormatter::try_new(column, &options).unwrap();
                let text = formatter.value(row).to_string();
                if other.is_integer() {
                    text
                } else {
                    format!("'{text}'")
                }
            }
        }
    };
    (0..batch.num_rows())
        .map(|row| batch.columns().iter().map(|c| cell(c, row)).collect())
        .collect()
}
