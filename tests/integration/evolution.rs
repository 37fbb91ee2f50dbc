//! Random sequences of changes of a table's columns and rows, against a model in memory.
//!
//! Names are few, so that a dropped or renamed column's name is soon given to another one; rows of
//! every age stay in the table, as they were written or clustered by a column. After each step the whole table, its aggregates and predicates on
//! every column are compared with the model.

use std::collections::BTreeMap;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

const OPTIMIZE: &str = "SELECT * FROM supertable_optimize('t')";

/// Whether a predicate holds for a value.
type Holds = fn(Option<i64>) -> bool;

/// One statement; numbers are reduced to what exists when it runs.
#[derive(Clone, Debug)]
enum Step {
    Add {
        name: usize,
        wide: bool,
        default: Option<i32>,
        first: bool,
    },
    Drop(usize),
    Rename(usize, usize),
    Widen(usize),
    Move(usize, usize),
    Insert(Vec<Vec<Option<i32>>>),
    Delete(usize, i32),
    Update(usize, i32, i32),
    /// By a column and the key.
    Cluster(usize, bool),
    Optimize,
}

fn step() -> impl Strategy<Value = Step> {
    let value = -3..4_i32;
    let row = proptest::collection::vec(proptest::option::of(value.clone()), 5);
    prop_oneof![
        3 => (0..4_usize, any::<bool>(), proptest::option::of(value.clone()), any::<bool>())
            .prop_map(|(name, wide, default, first)| Step::Add { name, wide, default, first }),
        2 => (0..5_usize).prop_map(Step::Drop),
        2 => (0..5_usize, 0..4_usize).prop_map(|(at, name)| Step::Rename(at, name)),
        1 => (0..5_usize).prop_map(Step::Widen),
        1 => (0..5_usize, 0..5_usize).prop_map(|(at, to)| Step::Move(at, to)),
        4 => proptest::collection::vec(row, 1..4).prop_map(Step::Insert),
        1 => (0..5_usize, value.clone()).prop_map(|(at, v)| Step::Delete(at, v)),
        1 => (0..5_usize, value.clone(), value).prop_map(|(at, v, w)| Step::Update(at, v, w)),
        1 => (0..5_usize, any::<bool>()).prop_map(|(at, hilbert)| Step::Cluster(at, hilbert)),
        2 => Just(Step::Optimize),
    ]
}

#[derive(Clone, Debug)]
struct Column {
    id: usize,
    name: String,
    wide: bool,
}

/// What the table should be: its columns in order, and its rows by key.
#[derive(Debug, Default)]
struct Model {
    columns: Vec<Column>,
    rows: BTreeMap<i64, BTreeMap<usize, i64>>,
    next_id: usize,
    next_key: i64,
    /// The column that the table is clustered by.
    clustered: Option<usize>,
}

impl Model {
    fn named(&self, name: &str) -> bool {
        self.columns.iter().any(|c| c.name == name)
    }

    fn pick(&self, at: usize) -> Option<usize> {
        (!self.columns.is_empty()).then(|| at % self.columns.len())
    }

    /// Carries a step out; the statement for it, if there is anything to do.
    fn apply(&mut self, step: &Step) -> Option<String> {
        match step {
            Step::Add {
                name,
                wide,
                default,
                first,
            } => {
                let name = NAMES[*name];
                if self.named(name) {
                    return None;
                }
                let id = self.next_id;
                self.next_id += 1;
                let column = Column {
                    id,
                    name: name.to_owned(),
                    wide: *wide,
                };
                match first {
                    true => self.columns.insert(0, column),
                    false => self.columns.push(column),
                }
                if let Some(default) = default {
                    for row in self.rows.values_mut() {
                        row.insert(id, i64::from(*default));
                    }
                }
                let kind = if *wide { "BIGINT" } else { "INT" };
                let default = default.map_or(String::new(), |d| format!(" DEFAULT {d}"));
                // Behind the key, which is the table's first column throughout.
                let place = if *first { " AFTER k" } else { "" };
                Some(format!(
                    "ALTER TABLE t ADD COLUMN {name} {kind}{default}{place}"
                ))
            }
            Step::Drop(at) => {
                let at = self.pick(*at)?;
                let column = self.columns.remove(at);
                for row in self.rows.values_mut() {
                    row.remove(&column.id);
                }
                let clustered = self.clustered.take_if(|id| *id == column.id).is_some();
                let unset = match clustered {
                    true => "UNSET ('supertable.cluster_by'), ",
                    false => "",
                };
                Some(format!("ALTER TABLE t {unset}DROP COLUMN {}", column.name))
            }
            Step::Rename(at, to) => {
                let (at, to) = (self.pick(*at)?, NAMES[*to]);
                if self.named(to) {
                    return None;
                }
                let from = std::mem::replace(&mut self.columns[at].name, to.to_owned());
                Some(format!("ALTER TABLE t RENAME COLUMN {from} TO {to}"))
            }
            Step::Widen(at) => {
                let at = self.pick(*at)?;
                self.columns[at].wide = true;
                Some(format!(
                    "ALTER TABLE t ALTER COLUMN {} TYPE BIGINT",
                    self.columns[at].name
                ))
            }
            Step::Move(at, to) => {
                let (at, to) = (self.pick(*at)?, self.pick(*to)?);
                let column = self.columns.remove(at);
                let name = column.name.clone();
                self.columns.insert(to, column);
                let before = match to {
                    0 => "k".to_owned(),
                    to => self.columns[to - 1].name.clone(),
                };
                Some(format!("ALTER TABLE t MOVE COLUMN {name} AFTER {before}"))
            }
            Step::Insert(rows) => {
                let mut tuples = Vec::new();
                for values in rows {
                    let key = self.next_key;
                    self.next_key += 1;
                    let mut row = BTreeMap::new();
                    let mut tuple = vec![key.to_string()];
                    for (column, value) in self.columns.iter().zip(values) {
                        // What only the wider type holds, where the column has it.
                        let scale = if column.wide { 5_000_000_000 } else { 1 };
                        let value = value.map(|v| i64::from(v) * scale);
                        tuple.push(value.map_or("NULL".to_owned(), |v| v.to_string()));
                        row.extend(value.map(|v| (column.id, v)));
                    }
                    self.rows.insert(key, row);
                    tuples.push(format!("({})", tuple.join(", ")));
                }
                Some(format!("INSERT INTO t VALUES {}", tuples.join(", ")))
            }
            Step::Delete(at, value) => {
                let column = self.columns[self.pick(*at)?].clone();
                let value = i64::from(*value);
                self.rows
                    .retain(|_, row| row.get(&column.id) != Some(&value));
                Some(format!("DELETE FROM t WHERE {} = {value}", column.name))
            }
            Step::Update(at, value, to) => {
                let column = self.columns[self.pick(*at)?].clone();
                let (value, to) = (i64::from(*value), i64::from(*to));
                for row in self.rows.values_mut() {
                    if row.get(&column.id).is_none_or(|v| *v > value) {
                        row.insert(column.id, to);
                    }
                }
                let name = column.name;
                Some(format!(
                    "UPDATE t SET {name} = {to} WHERE {name} > {value} OR {name} IS NULL"
                ))
            }
            Step::Cluster(at, hilbert) => {
                let column = &self.columns[self.pick(*at)?];
                self.clustered = Some(column.id);
                let curve = if *hilbert { "hilbert" } else { "zorder" };
                // About three of the superfiles that these statements write.
                Some(format!(
                    "ALTER TABLE t SET ('supertable.cluster_by' = '{curve}({}, k)', 'supertable.max_group_bytes' = '5000')",
                    column.name
                ))
            }
            Step::Optimize => Some(OPTIMIZE.to_owned()),
        }
    }

    /// All rows, in the columns' order, by key.
    fn table(&self) -> Vec<Vec<Option<i64>>> {
        self.rows
            .iter()
            .map(|(key, row)| {
                let values = self.columns.iter().map(|c| row.get(&c.id).copied());
                std::iter::once(Some(*key)).chain(values).collect()
            })
            .collect()
    }

    fn keys_where(&self, id: usize, holds: impl Fn(Option<i64>) -> bool) -> Vec<Vec<Option<i64>>> {
        self.rows
            .iter()
            .filter(|(_, row)| holds(row.get(&id).copied()))
            .map(|(key, _)| vec![Some(*key)])
            .collect()
    }
}

async fn rows(session: &SessionContext, sql: &str) -> Vec<Vec<Option<i64>>> {
    let batches = run(session, sql).await;
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| cast(c, &DataType::Int64).unwrap())
            .collect();
        for i in 0..batch.num_rows() {
            rows.push(
                columns
                    .iter()
                    .map(|c| {
                        c.is_valid(i)
                            .then(|| c.as_primitive::<Int64Type>().value(i))
                    })
                    .collect(),
            );
        }
    }
    rows
}

async fn run(session: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    let frame = datafusion_supertable::sql(session, sql).await;
    match frame {
        Ok(frame) => frame
            .collect()
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}")),
        Err(e) => panic!("{sql}: {e}"),
    }
}

async fn compare(session: &SessionContext, model: &Model, history: &[String]) {
    let said = || history.join(";\n");
    let all = rows(session, "SELECT * FROM t ORDER BY k").await;
    assert_eq!(all, model.table(), "\n{}", said());
    for column in &model.columns {
        let (id, name) = (column.id, &column.name);
        let checks: [(&str, Holds); 4] = [
            ("IS NULL", |v| v.is_none()),
            ("IS NOT NULL", |v| v.is_some()),
            ("= 2", |v| v == Some(2)),
            ("< 1", |v| v.is_some_and(|v| v < 1)),
        ];
        for (predicate, holds) in checks {
            let sql = format!("SELECT k FROM t WHERE {name} {predicate} ORDER BY k");
            let found = rows(session, &sql).await;
            assert_eq!(found, model.keys_where(id, holds), "{sql}\n{}", said());
        }
        let values: Vec<i64> = model
            .rows
            .values()
            .filter_map(|r| r.get(&id))
            .copied()
            .collect();
        let sql = format!("SELECT count({name}), min({name}), max({name}) FROM t");
        let expected = vec![
            Some(values.len() as i64),
            values.iter().min().copied(),
            values.iter().max().copied(),
        ];
        assert_eq!(rows(session, &sql).await, [expected], "{sql}\n{}", said());
    }
}

async fn holds(steps: Vec<Step>, pushdown: bool) {
    let place = tempfile::tempdir().unwrap();
    let config = SessionConfig::new()
        .with_target_partitions(2)
        .set_bool("datafusion.execution.parquet.pushdown_filters", pushdown);
    let session = SessionContext::new_with_config(config);
    datafusion_supertable::register(&session).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (k BIGINT NOT NULL) STORED AS SUPERTABLE LOCATION '{}/t/'",
        place.path().display()
    );
    run(&session, &create).await;
    let (mut model, mut history) = (Model::default(), Vec::new());
    for step in &steps {
        let Some(sql) = model.apply(step) else {
            continue;
        };
        run(&session, &sql).await;
        if sql == OPTIMIZE {
            let again = rows(&session, "SELECT count(*) FROM supertable_optimize('t')").await;
            assert_eq!(again, [[Some(0)]], "{}", history.join(";\n"));
        }
        history.push(sql);
        compare(&session, &model, &history).await;
    }
    // Nothing of it was only in this session's memory.
    let other = SessionContext::new();
    datafusion_supertable::register(&other).unwrap();
    let open = format!(
        "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{}/t/'",
        place.path().display()
    );
    run(&other, &open).await;
    compare(&other, &model, &history).await;
    datafusion_supertable::wait_for_background_work(&session).await;
    datafusion_supertable::wait_for_background_work(&other).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_table_whose_columns_change_holds_what_was_put_into_it(
        steps in proptest::collection::vec(step(), 8..20),
        pushdown in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(holds(steps, pushdown));
    }
}
