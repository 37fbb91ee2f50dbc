//! One program: tables, and statements on them, each compared with the oracle.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{ScalarValue, internal_err};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::{Error, ErrorKind};
use futures::FutureExt;

use super::expected::{Expected, expected};
use super::exprs::Generator;
use super::oracle::Oracle;
use super::reduce::{self, Case};
use super::rows::{Rows, by_id, difference, ids, nullable};
use super::statement::{Kind, Statement};
use super::{settings, sqlite};
use crate::support::sql::maybe_on_workers;

/// How often what happened.
pub(super) type Counts = BTreeMap<String, u64>;

/// Tables, and the oracle that knows what is in them.
pub(super) struct Program<'c> {
    session: SessionContext,
    oracle: Oracle,
    settings: Vec<String>,
    /// The rows of the tables, in the order in which the oracle has them.
    rows: HashMap<&'static str, RecordBatch>,
    /// How many statements were prepared.
    prepared: usize,
    trace: Vec<String>,
    counts: &'c mut Counts,
    /// Whether SQLite understands what is asked.
    shared: bool,
}

/// No program of this size takes so long, on whatever machine.
const HANGS: std::time::Duration = std::time::Duration::from_secs(300);

pub(super) fn run(seed: u64, statements: u64, counts: &mut Counts) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = directory();
    let path = directory.path().display().to_string();
    runtime.block_on(async {
        let mut generator = Generator::new(seed);
        generator.shared = seed.is_multiple_of(4);
        let zone = generator.random.choose(&["+00:00", "+00:00", "+02:00"]);
        let settings = settings::of_program(&mut generator.random);
        let mut program = Program::new(zone, settings, counts).await?;
        program.shared = generator.shared;
        let all = program.all(&mut generator, statements, &path);
        let outcome = match tokio::time::timeout(HANGS, all).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("hangs for {HANGS:?}").into()),
        };
        datafusion_supertable::wait_for_background_work(&program.session).await;
        let (trace, settings) = (program.trace.join(";\n"), program.settings.clone());
        match outcome {
            Ok(()) => Ok(()),
            Err(failure) => {
                let mut text = format!("--- seed {seed}\n{trace};\n=== {}\n", failure.why);
                if let Some((statement, t, u)) = failure.statement
                    && std::env::var("SUPERTABLE_SOUNDNESS_REDUCE").is_ok()
                {
                    let case = Case {
                        zone,
                        settings,
                        columns: [generator.columns("t"), generator.columns("u")],
                        rows: [t, u],
                        statement,
                    };
                    text.push_str(&reduce::reduced(case).await);
                }
                Err(text.replace(&path, "__L__"))
            }
        }
    })
}

/// A directory for tables: in memory if there is such a place, for no program loses power here.
pub(super) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// What is wrong, and with which statement on which rows.
struct Failure {
    why: String,
    statement: Option<(Statement, RecordBatch, RecordBatch)>,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self {
            why,
            statement: None,
        }
    }
}

impl<'c> Program<'c> {
    /// A session with these settings, and no tables yet.
    pub(super) async fn new(
        zone: &str,
        settings: Vec<String>,
        counts: &'c mut Counts,
    ) -> Result<Self, String> {
        let config = SessionConfig::new().with_target_partitions(4);
        let mut program = Self {
            session: maybe_on_workers(config),
            oracle: Oracle::new(zone),
            settings: vec![format!("SET datafusion.execution.time_zone = '{zone}'")],
            rows: HashMap::new(),
            prepared: 0,
            trace: Vec::new(),
            counts,
            shared: false,
        };
        datafusion_supertable::register(&program.session).unwrap();
        program.settings.extend(settings);
        for set in program.settings.clone() {
            apply(&program.session, &set)?;
            program.trace.push(set);
        }
        Ok(program)
    }

    async fn all(
        &mut self,
        generator: &mut Generator,
        statements: u64,
        directory: &str,
    ) -> Result<(), Failure> {
        for mut layout in generator.layouts(directory) {
            self.make(layout.statements).await?;
            // A column whose addition was refused is none.
            let stored = self.stored(&layout.table.name).await?.schema();
            let columns = &mut layout.table.columns;
            columns.retain(|column| stored.column_with_name(&column.name).is_some());
            generator.tables.push(layout.table);
        }
        self.reload("t").await?;
        self.reload("u").await?;
        let mut next_id = 1000;
        for _ in 0..statements {
            let statement = generator.statement();
            let sql = statement.sql(&generator.columns("t"));
            let (t, u) = (self.rows["t"].clone(), self.rows["u"].clone());
            if let Err(why) = self.check(&statement, &sql).await {
                return Err(Failure {
                    why,
                    statement: Some((statement, t, u)),
                });
            }
            if self.rows["t"].num_rows() < 5 {
                let columns = generator.columns("t");
                let sql = generator.insert("t", &columns, &mut next_id, 6);
                self.execute(&sql).await.map_err(|e| e.to_string())?;
                self.reload("t").await?;
            }
        }
        Ok(())
    }

    /// Creates and fills a table; what may be refused is left out.
    pub(super) async fn make(&mut self, statements: Vec<String>) -> Result<(), String> {
        for (at, sql) in statements.into_iter().enumerate() {
            match self.execute(&sql).await {
                Ok(_) => {}
                Err(error) if at > 0 => {
                    self.trace.pop();
                    self.count("layout refused", &error.strip_backtrace());
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    fn count(&mut self, what: &str, detail: &str) {
        let detail: String = detail
            .split('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_ascii_digit())
            .take(90)
            .collect();
        *self.counts.entry(format!("{what}: {detail}")).or_default() += 1;
    }

    /// Executes one statement; it is part of the script.
    async fn execute(&mut self, sql: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.trace.push(sql.to_owned());
        collected(&self.session, sql).await
    }

    /// Takes over the rows of a table as they are.
    pub(super) async fn reload(&mut self, table: &'static str) -> Result<(), String> {
        let batch = self.stored(table).await?;
        self.take_over(table, batch);
        Ok(())
    }

    fn take_over(&mut self, table: &'static str, batch: RecordBatch) {
        self.oracle.put(table, nullable(&batch));
        self.rows.insert(table, batch);
    }

    async fn stored(&self, table: &str) -> Result<RecordBatch, String> {
        let frame = self.session.table(table).await.map_err(|e| e.to_string())?;
        let schema = frame.schema().as_arrow().clone();
        let batches = frame.collect().await.map_err(|e| e.to_string())?;
        let schema = batches.first().map_or(schema.into(), RecordBatch::schema);
        Ok(concat_batches(&schema, &batches).unwrap())
    }

    /// Executes a statement and compares what it does with what the oracle expects.
    pub(super) async fn check(&mut self, statement: &Statement, sql: &str) -> Result<(), String> {
        let (t, u) = (self.rows["t"].clone(), self.rows["u"].clone());
        let expected = match expected(&self.oracle, statement, &t, &u).await {
            Ok(expected) => expected,
            Err(error) => {
                verbose(&format!("oracle: {error}\n  {sql}"));
                self.count("skipped, the oracle cannot", &error);
                return Ok(());
            }
        };
        self.check_sqlite(statement, &expected)?;
        let name = statement.name();
        *self.counts.entry(format!("tried {name}")).or_default() += 1;
        self.prepared += 1;
        let executed = statement.executed(sql, &format!("p{}", self.prepared));
        if executed.len() > 1 {
            *self.counts.entry("prepared".to_owned()).or_default() += 1;
        }
        let mut answer = Ok(Vec::new());
        if statement.bound {
            self.trace.extend(executed);
            answer = bound(&self.session, statement, sql).await;
        } else {
            for sql in &executed {
                answer = self.execute(sql).await;
                if answer.is_err() {
                    break;
                }
            }
        }
        let before = by_id(&t);
        match answer {
            Err(error) => {
                self.failed(statement, sql, &expected, error).await?;
                let now = by_id(&self.stored("t").await?);
                self.trace.truncate(self.trace.len() - 1);
                if now != before {
                    let difference = difference(&before, &before, &now);
                    return Err(format!("{name} failed, and changed rows: {difference}"));
                }
                return Ok(());
            }
            Ok(_) if expected.twice => return Err("MERGE changed a row twice".to_owned()),
            Ok(answer) => match &statement.kind {
                Kind::Select { count, .. } => {
                    let found: Vec<i64> = answer.iter().flat_map(ids).collect();
                    if !agrees(&found, *count, &expected) {
                        return self
                            .wrong_select(statement, &expected, &before, &found)
                            .await;
                    }
                }
                _ => {
                    let stored = self.stored("t").await?;
                    let mut now = by_id(&stored);
                    let mut wanted = expected.rows.clone();
                    let free = expected.perhaps.union(&expected.undefined);
                    for id in free.filter(|id| may_change(id, &expected)) {
                        wanted.remove(id);
                        now.remove(id);
                    }
                    if now != wanted {
                        let difference = difference(&before, &wanted, &now);
                        let fails = if expected.fails {
                            " where a part fails"
                        } else {
                            ""
                        };
                        return Err(format!("{name} is wrong{fails}:\n{difference}"));
                    }
                    if !expected.fails {
                        check_count(&answer, expected.named.len() as u64)?;
                    }
                    self.take_over("t", stored);
                }
            },
        }
        *self.counts.entry(format!("ran {name}")).or_default() += 1;
        Ok(())
    }

    /// A SELECT is wrong: whether it is so without supertables, too.
    async fn wrong_select(
        &mut self,
        statement: &Statement,
        expected: &Expected,
        before: &Rows,
        found: &[i64],
    ) -> Result<(), String> {
        let Kind::Select { count, .. } = statement.kind else {
            return Ok(());
        };
        for settings in [&[][..], &self.settings.clone()[..]] {
            let of_engine = match self.without_supertables(settings, statement).await? {
                Ok(batches) => batches.iter().flat_map(ids).collect::<Vec<_>>(),
                Err(_) => {
                    self.count("SELECT fails in DataFusion itself", "");
                    return Ok(());
                }
            };
            if !agrees(&of_engine, count, expected) {
                self.count("SELECT is wrong in DataFusion itself", "");
                return Ok(());
            }
        }
        let found: BTreeSet<i64> = found.iter().copied().collect();
        let list = |ids: Vec<&i64>| -> Vec<_> { ids.iter().map(|id| before.get(id)).collect() };
        Err(format!(
            "SELECT is wrong: missing {:?}, too many {:?}",
            list(expected.named.difference(&found).collect()),
            list(found.difference(&expected.named).collect())
        ))
    }

    /// A statement failed: whether it may.
    async fn failed(
        &mut self,
        statement: &Statement,
        sql: &str,
        expected: &Expected,
        error: DataFusionError,
    ) -> Result<(), String> {
        let message = error.strip_backtrace();
        let name = statement.name();
        if let Some(error) = Error::find_in(&error) {
            match error.kind() {
                ErrorKind::Unsupported => {
                    self.count("refused", &error.to_string());
                    return Ok(());
                }
                ErrorKind::Constraint if expected.twice => {
                    *self.counts.entry(format!("ran {name}")).or_default() += 1;
                    return Ok(());
                }
                _ => {}
            }
        }
        if expected.fails {
            *self.counts.entry(format!("ran {name}")).or_default() += 1;
            self.count("fails as the oracle does", "");
            return Ok(());
        }
        let root = error.find_root();
        if matches!(root, DataFusionError::NotImplemented(_))
            // The planner looks for the columns of both tables in one.
            || message.contains("needed to infer type of")
            || message.contains("LIKE does not support escape_char")
        {
            verbose(&format!(
                "DataFusion: {message}\n  {}",
                self.trace.last().unwrap()
            ));
            self.count("skipped, DataFusion cannot", &message);
            return Ok(());
        }
        // The oracle evaluates for one row what that row needs; an engine may evaluate it for a whole batch.
        if is_failed_evaluation(root) {
            self.count("fails on a part that no row needs, changing nothing", "");
            return Ok(());
        }
        for settings in [&[][..], &self.settings.clone()[..]] {
            let prepared = self.prepared_elsewhere(settings, statement, sql).await?;
            let selected = self.without_supertables(settings, statement).await?;
            if let Err(error) = prepared.and(selected) {
                let error = error.strip_backtrace();
                verbose(&format!("DataFusion: {error}\n  {}", statement.as_select()));
                self.count("skipped, DataFusion cannot", &error);
                return Ok(());
            }
        }
        Err(format!("{name} fails, a SELECT does not: {message}"))
    }

    /// The statement as a query, by DataFusion as it comes, over tables in memory.
    async fn without_supertables(
        &self,
        settings: &[String],
        statement: &Statement,
    ) -> Result<Result<Vec<RecordBatch>, DataFusionError>, String> {
        let session = self.plain_session(settings)?;
        let sql = statement.as_select();
        if statement.bound {
            return Ok(bound(&session, statement, &sql).await);
        }
        let mut answer = Ok(Vec::new());
        for sql in statement.executed(&sql, "p") {
            answer = collected(&session, &sql).await;
            if answer.is_err() {
                break;
            }
        }
        Ok(answer)
    }

    /// Whether DataFusion as it comes can prepare the statement, if it is to be prepared.
    async fn prepared_elsewhere(
        &self,
        settings: &[String],
        statement: &Statement,
        sql: &str,
    ) -> Result<Result<(), DataFusionError>, String> {
        let executed = statement.executed(sql, "p");
        if executed.len() < 2 {
            return Ok(Ok(()));
        }
        let session = self.plain_session(settings)?;
        Ok(collected(&session, &executed[0]).await.map(drop))
    }

    fn plain_session(&self, settings: &[String]) -> Result<SessionContext, String> {
        let session = SessionContext::new();
        for set in settings {
            if set.starts_with("SET datafusion.") {
                apply(&session, set)?;
            }
        }
        for (name, rows) in &self.rows {
            let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
            session.register_table(*name, Arc::new(table)).unwrap();
        }
        Ok(session)
    }

    fn check_sqlite(&mut self, statement: &Statement, expected: &Expected) -> Result<(), String> {
        let (Kind::Select { predicate, .. }
        | Kind::Delete { predicate }
        | Kind::Update { predicate, .. }) = &statement.kind
        else {
            return Ok(());
        };
        if !self.shared || expected.fails {
            return Ok(());
        }
        let plain = statement.inlined(predicate);
        let tables: Vec<_> = self.rows.iter().map(|(n, b)| (*n, b)).collect();
        match sqlite::true_rows(&tables, &plain) {
            Ok(found) => {
                let found: BTreeSet<i64> = found.into_iter().collect();
                let named = &expected.named;
                if found != *named {
                    return Err(format!(
                        "the oracle says {named:?}, SQLite {found:?}, of {plain}"
                    ));
                }
                self.count("the oracle agrees with SQLite", "");
            }
            Err(error) => self.count("SQLite cannot", &error),
        }
        Ok(())
    }

    /// The script so far.
    pub(super) fn script(&self) -> String {
        self.trace.join(";\n")
    }

    pub(super) async fn close(self) {
        datafusion_supertable::wait_for_background_work(&self.session).await;
    }
}

/// Whether an expression could not be evaluated; what the reader of a file says of it is text.
fn is_failed_evaluation(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::ArrowError(arrow, _) => match &**arrow {
            ArrowError::CastError(_)
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::DivideByZero => true,
            ArrowError::InvalidArgumentError(message) => {
                message.contains("non UTF-8 data") || message.contains("to store in a Decimal")
            }
            _ => false,
        },
        DataFusionError::ParquetError(error) => {
            let message = error.to_string();
            message.contains("Error evaluating filter predicate")
                && [
                    "CastError",
                    "ArithmeticOverflow",
                    "DivideByZero",
                    "to store in a Decimal",
                    "non UTF-8 data",
                ]
                .iter()
                .any(|kind| message.contains(kind))
        }
        _ => false,
    }
}

/// Whether a row whose evaluation fails may be as it likes.
fn may_change(id: &i64, expected: &Expected) -> bool {
    expected.named.contains(id) || expected.perhaps.contains(id)
}

fn agrees(found: &[i64], count: bool, expected: &Expected) -> bool {
    let (sure, may) = (&expected.named, &expected.perhaps);
    if count {
        let n = found.first().copied().unwrap_or(-1);
        return n >= sure.len() as i64 && n <= (sure.len() + may.len()) as i64;
    }
    let set: BTreeSet<i64> = found.iter().copied().collect();
    let allowed = |id: &i64| sure.contains(id) || may.contains(id);
    found.len() == set.len() && sure.is_subset(&set) && set.iter().all(allowed)
}

fn check_count(answer: &[RecordBatch], expected: u64) -> Result<(), String> {
    let count = answer
        .first()
        .and_then(|b| b.column_by_name("count"))
        .and_then(|c| c.as_primitive_opt::<UInt64Type>())
        .map(|c| c.value(0));
    match count {
        Some(count) if count == expected => Ok(()),
        other => Err(format!("{other:?} rows affected, should be {expected}")),
    }
}

/// Runs a statement. A panic of the engine is an error of it: the next statement finds the session usable.
async fn collected(
    session: &SessionContext,
    sql: &str,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    let run = async {
        datafusion_supertable::sql(session, sql)
            .await?
            .collect()
            .await
    };
    let caught = std::panic::AssertUnwindSafe(run).catch_unwind().await;
    caught.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map_or("", String::as_str);
        internal_err!("panic: {why}")
    })
}

/// Runs a statement whose parameters' values are given to the plan.
async fn bound(
    session: &SessionContext,
    statement: &Statement,
    sql: &str,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    let (sql, used) = statement.numbered(sql);
    let mut values = Vec::new();
    for (kind, value) in used {
        let sql = format!("SELECT CAST({value} AS {})", kind.sql());
        let batch = collected(session, &sql).await?;
        values.push(ScalarValue::try_from_array(batch[0].column(0), 0)?);
    }
    let run = async {
        let frame = session.sql(&sql).await?;
        frame.with_param_values(values)?.collect().await
    };
    let caught = std::panic::AssertUnwindSafe(run).catch_unwind().await;
    caught.unwrap_or_else(|_| internal_err!("panic"))
}

/// Does what `SET name = 'value'` does, in less time.
fn apply(session: &SessionContext, set: &str) -> Result<(), String> {
    let (name, value) = set
        .strip_prefix("SET ")
        .and_then(|set| set.split_once(" = "))
        .ok_or_else(|| format!("{set} sets nothing"))?;
    let state = session.state_ref();
    let mut state = state.write();
    let options = state.config_mut().options_mut();
    let set = options.set(name, value.trim_matches('\''));
    set.map_err(|e| e.to_string())
}

/// Shows why a statement was skipped, to somebody who improves the generator.
fn verbose(what: &str) {
    if std::env::var("SUPERTABLE_SOUNDNESS_VERBOSE").is_ok() {
        eprintln!("{what}");
    }
}
