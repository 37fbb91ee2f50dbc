//! One program: tables, and statements on them, each compared with the oracle.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::{Error, ErrorKind};

use super::exprs::{Column, Generator};
use super::oracle::{Judged, Oracle, Verdict};
use super::queries::qualified;
use super::rows::{Rows, by_id, difference, ids, nullable, rendered};
use super::types::Type;
use super::{settings, sqlite};

/// How often what happened.
pub type Counts = BTreeMap<String, u64>;

/// A program under way.
struct Program<'c> {
    generator: Generator,
    oracle: Oracle,
    session: SessionContext,
    settings: Vec<String>,
    /// The rows of the tables, in the order in which the oracle has them.
    rows: HashMap<&'static str, RecordBatch>,
    next_id: usize,
    /// How many statements were prepared.
    prepared: usize,
    trace: Vec<String>,
    counts: &'c mut Counts,
}

/// A statement's text: for the oracle with its literals in place, and as it is executed.
struct Text {
    parameters: Vec<(Type, String)>,
}

pub fn run(seed: u64, statements: u64, counts: &mut Counts) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(seed);
    generator.shared = seed.is_multiple_of(4);
    let zone = generator.random.choose(&["+00:00", "+00:00", "+02:00"]);
    let mut set = vec![format!("SET datafusion.execution.time_zone = '{zone}'")];
    set.extend(settings::of_program(&mut generator.random));
    let mut program = Program {
        generator,
        oracle: Oracle::new(zone),
        session: SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4)),
        settings: set,
        rows: HashMap::new(),
        next_id: 1000,
        prepared: 0,
        trace: Vec::new(),
        counts,
    };
    datafusion_supertable::register(&program.session).unwrap();
    let path = directory.path().display().to_string();
    let outcome = runtime.block_on(async {
        let outcome = program.all(statements, &path).await;
        datafusion_supertable::shutdown(&program.session).await;
        outcome
    });
    outcome.map_err(|why| {
        let script = program.trace.join(";\n").replace(&path, "__L__");
        format!("--- seed {seed}\n{script};\n=== {why}\n")
    })
}

impl Program<'_> {
    async fn all(&mut self, statements: u64, directory: &str) -> Result<(), String> {
        for set in self.settings.clone() {
            self.execute(&set).await.map_err(|e| e.to_string())?;
        }
        for layout in self.generator.layouts(directory) {
            for (at, sql) in layout.statements.into_iter().enumerate() {
                match self.execute(&sql).await {
                    Ok(_) => {}
                    Err(error) if at > 0 => {
                        self.trace.pop();
                        self.count("layout failed", &error.to_string());
                    }
                    Err(error) => return Err(error.to_string()),
                }
            }
            self.generator.tables.push(layout.table);
        }
        self.reload("t").await?;
        self.reload("u").await?;
        for _ in 0..statements {
            let prepared = self.generator.random.one_in(3);
            self.generator.prepare(prepared);
            match self.generator.random.below(12) {
                0..3 => self.select().await?,
                3..7 => self.delete().await?,
                7..10 => self.update().await?,
                _ => self.merge().await?,
            }
            if self.rows["t"].num_rows() < 5 {
                self.generator.prepare(false);
                let columns = self.columns("t");
                let sql = self.generator.insert("t", &columns, &mut self.next_id, 6);
                self.execute(&sql).await.map_err(|e| e.to_string())?;
                self.reload("t").await?;
            }
        }
        Ok(())
    }

    fn columns(&self, table: &str) -> Vec<Column> {
        let tables = &self.generator.tables;
        let found = tables.iter().find(|t| t.name == table);
        found.map_or_else(Vec::new, |t| t.columns.clone())
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
    async fn reload(&mut self, table: &'static str) -> Result<(), String> {
        let batch = self.stored(table).await?;
        self.oracle.put(table, batch.clone());
        self.rows.insert(table, batch);
        Ok(())
    }

    async fn stored(&self, table: &str) -> Result<RecordBatch, String> {
        let frame = self.session.table(table).await.map_err(|e| e.to_string())?;
        let schema = frame.schema().as_arrow().clone();
        let batches = frame.collect().await.map_err(|e| e.to_string())?;
        let schema = batches.first().map_or(schema.into(), RecordBatch::schema);
        Ok(nullable(&concat_batches(&schema, &batches).unwrap()))
    }

    fn predicate(&mut self, columns: Vec<Column>) -> String {
        let nesting = match self.generator.random.below(6) {
            0..3 => 0,
            3 | 4 => 1,
            _ => 2,
        };
        let nesting = nesting.max(usize::from(self.generator.shared));
        let depth = self.generator.random.below(4);
        self.generator
            .over(columns, nesting, |g| g.predicate(depth))
    }

    /// What the oracle says, unless it cannot.
    async fn judge(&mut self, from: &str, predicate: &str) -> Option<Judged> {
        match self
            .oracle
            .judge(&format!("SELECT * FROM {from} WHERE {predicate}"))
            .await
        {
            Ok(judged) => Some(judged),
            Err(error) => {
                verbose(&format!("oracle: {error}\n  {predicate}"));
                self.count("skipped, the oracle cannot", &error.to_string());
                None
            }
        }
    }

    async fn select(&mut self) -> Result<(), String> {
        let columns = qualified(&self.columns("t"), "t");
        let predicate = self.predicate(columns);
        let text = self.text();
        let plain = text.inlined(&predicate);
        // The parts of TLP, and the sum of NoREC.
        let (prefix, suffix, sum) = match self.generator.random.below(6) {
            0 => ("(NOT (", "))", false),
            1 => ("((", ") IS NULL)", false),
            2 => ("(", ")", true),
            _ => ("(", ")", false),
        };
        let (predicate, plain) = (
            format!("{prefix}{predicate}{suffix}"),
            format!("{prefix}{plain}{suffix}"),
        );
        let Some(judged) = self.judge("t", &plain).await else {
            return Ok(());
        };
        self.check_sqlite(&plain, &judged)?;
        let query = |predicate: &str| match sum {
            true => format!(
                "SELECT CAST(coalesce(sum(CASE WHEN {predicate} THEN 1 ELSE 0 END), 0) AS BIGINT) AS n FROM t"
            ),
            false => format!("SELECT t.id FROM t WHERE {predicate}"),
        };
        let before = by_id(&self.rows["t"]);
        let (sure, may) = verdicts(&judged);
        let agrees = |found: &BTreeSet<i64>, rows: usize| match sum {
            true => {
                let n = found.first().copied().unwrap_or(-1);
                n >= sure.len() as i64 && n <= (sure.len() + may.len()) as i64
            }
            false => {
                rows == found.len()
                    && sure.is_subset(found)
                    && found.iter().all(|id| sure.contains(id) || may.contains(id))
            }
        };
        self.counts_tried("SELECT");
        match self.run_text(&text, &query(&predicate)).await {
            Ok(batches) => {
                let found: Vec<i64> = batches.iter().flat_map(ids).collect();
                let rows = found.len();
                let found: BTreeSet<i64> = found.into_iter().collect();
                if agrees(&found, rows) {
                    self.counts_ran("SELECT");
                    return Ok(());
                }
                for settings in [&[][..], &self.settings.clone()[..]] {
                    let session = self.plain_session(settings).await?;
                    match collected(&session, &query(&plain)).await {
                        Ok(batches) => {
                            let of_engine: Vec<i64> = batches.iter().flat_map(ids).collect();
                            let rows = of_engine.len();
                            if !agrees(&of_engine.into_iter().collect(), rows) {
                                self.count("SELECT is wrong in DataFusion itself", "");
                                return Ok(());
                            }
                        }
                        Err(_) => {
                            self.count("SELECT fails in DataFusion itself", "");
                            return Ok(());
                        }
                    }
                }
                Err(format!("SELECT: {}", rows_named(&before, &sure, &found)))
            }
            Err(error) => self.failed(error, &judged.verdicts, &query(&plain)).await,
        }
    }

    /// A statement failed: whether it may.
    async fn failed(
        &mut self,
        error: DataFusionError,
        verdicts: &[Verdict],
        select: &str,
    ) -> Result<(), String> {
        let message = error.strip_backtrace();
        if let Some(error) = Error::find_in(&error)
            && error.kind() == ErrorKind::Unsupported
        {
            self.count("refused", &error.to_string());
            return Ok(());
        }
        // The planner looks for columns of both tables in one.
        if message.contains("needed to infer type of") {
            self.count("skipped, DataFusion cannot", &message);
            return Ok(());
        }
        let fails = |v: &Verdict| !matches!(v, Verdict::True | Verdict::NotTrue);
        if verdicts.iter().any(fails) {
            self.count("ran, fails as the oracle does", "");
            return Ok(());
        }
        for settings in [&[][..], &self.settings.clone()[..]] {
            let session = self.plain_session(settings).await?;
            if let Err(error) = collected(&session, select).await {
                let error = error.strip_backtrace();
                verbose(&format!("DataFusion: {error}\n  {select}"));
                self.count("skipped, DataFusion cannot", &error);
                return Ok(());
            }
        }
        Err(format!("the statement fails, a SELECT does not: {message}"))
    }

    /// DataFusion as it comes, over tables in memory.
    async fn plain_session(&self, settings: &[String]) -> Result<SessionContext, String> {
        let session = SessionContext::new();
        for set in settings {
            if set.starts_with("SET datafusion.") {
                collected(&session, set).await.map_err(|e| e.to_string())?;
            }
        }
        for (name, rows) in &self.rows {
            let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap();
            session
                .register_table(*name, std::sync::Arc::new(table))
                .unwrap();
        }
        Ok(session)
    }

    fn check_sqlite(&mut self, plain: &str, judged: &Judged) -> Result<(), String> {
        if !self.generator.shared {
            return Ok(());
        }
        if judged
            .verdicts
            .iter()
            .any(|v| matches!(v, Verdict::Fails(_)))
        {
            return Ok(());
        }
        let tables: Vec<_> = self.rows.iter().map(|(n, b)| (*n, b)).collect();
        match sqlite::true_rows(&tables, plain) {
            Ok(found) => {
                let (sure, _) = verdicts(judged);
                let found: BTreeSet<i64> = found.into_iter().collect();
                if found != sure {
                    return Err(format!(
                        "the oracle says {sure:?}, SQLite {found:?}, of {plain}"
                    ));
                }
                self.count("the oracle agrees with SQLite", "");
            }
            Err(error) => self.count("SQLite cannot", &error),
        }
        Ok(())
    }

    async fn delete(&mut self) -> Result<(), String> {
        let columns = qualified(&self.columns("t"), "t");
        let predicate = self.predicate(columns);
        let text = self.text();
        let plain = text.inlined(&predicate);
        let Some(judged) = self.judge("t", &plain).await else {
            return Ok(());
        };
        self.check_sqlite(&plain, &judged)?;
        let (sure, may) = verdicts(&judged);
        let before = by_id(&self.rows["t"]);
        let mut expected = before.clone();
        expected.retain(|id, _| !sure.contains(id));
        self.counts_tried("DELETE");
        let sql = format!("DELETE FROM t WHERE {predicate}");
        match self.run_text(&text, &sql).await {
            Ok(answer) => {
                let actual = by_id(&self.stored("t").await?);
                for id in &may {
                    if !actual.contains_key(id) {
                        expected.remove(id);
                    }
                }
                self.compare("DELETE", &before, &expected, &actual)?;
                let gone = (before.len() - actual.len()) as u64;
                check_count(&answer, gone)?;
                self.counts_ran("DELETE");
                self.reload("t").await
            }
            Err(error) => {
                self.failed(
                    error,
                    &judged.verdicts,
                    &format!("SELECT t.id FROM t WHERE {plain}"),
                )
                .await?;
                self.unchanged("DELETE", &before).await
            }
        }
    }

    async fn update(&mut self) -> Result<(), String> {
        let columns = self.columns("t");
        let scope = qualified(&columns, "t");
        let predicate = self.predicate(scope.clone());
        let mut sets = Vec::new();
        let nesting = usize::from(self.generator.random.one_in(5));
        for at in 1..columns.len() {
            if sets.is_empty() && at + 1 == columns.len() || self.generator.random.one_in(3) {
                let kind = columns[at].kind;
                let depth = self.generator.random.below(3);
                let expr = self
                    .generator
                    .over(scope.clone(), nesting, |g| g.expr(kind, depth));
                sets.push((at, expr));
            }
        }
        let text = self.text();
        let plain = text.inlined(&predicate);
        let Some(judged) = self.judge("t", &plain).await else {
            return Ok(());
        };
        self.check_sqlite(&plain, &judged)?;
        let exprs: Vec<_> = sets.iter().map(|(_, expr)| text.inlined(expr)).collect();
        let values = match self
            .oracle
            .values(&format!("SELECT {} FROM t", aliased(&exprs)))
            .await
        {
            Ok(values) => values,
            Err(error) => {
                self.count("skipped, the oracle cannot", &error.to_string());
                return Ok(());
            }
        };
        let (sure, may) = verdicts(&judged);
        let before = by_id(&self.rows["t"]);
        let schema = self.rows["t"].schema();
        let mut expected = before.clone();
        let mut undefined = BTreeSet::new();
        for (id, values) in ids(&judged.rows).into_iter().zip(values) {
            let row = expected.get_mut(&id).unwrap();
            for ((at, _), value) in sets.iter().zip(values) {
                let value = value
                    .map_err(|e| e.to_string())
                    .and_then(|v| rendered(&v, schema.field(*at).data_type()));
                match value {
                    Ok(value) if sure.contains(&id) => row[*at] = value,
                    Ok(_) if !may.contains(&id) => {}
                    _ => {
                        undefined.insert(id);
                    }
                }
            }
        }
        let assignments: Vec<_> = sets
            .iter()
            .map(|(at, expr)| format!("{} = {expr}", columns[*at].name))
            .collect();
        self.counts_tried("UPDATE");
        let sql = format!("UPDATE t SET {} WHERE {predicate}", assignments.join(", "));
        match self.run_text(&text, &sql).await {
            Ok(answer) => {
                let mut actual = by_id(&self.stored("t").await?);
                let gone = undefined.iter().any(|id| !actual.contains_key(id));
                if gone {
                    return Err("UPDATE: a row is gone".to_owned());
                }
                // Rows whose verdict or value fails may be as they like, others not.
                for id in undefined
                    .iter()
                    .filter(|id| sure.contains(id) || may.contains(id))
                {
                    expected.remove(id);
                    actual.remove(id);
                }
                self.compare("UPDATE", &before, &expected, &actual)?;
                if may.is_empty() {
                    check_count(&answer, sure.len() as u64)?;
                }
                self.counts_ran("UPDATE");
                self.reload("t").await
            }
            Err(error) => {
                let mut all = judged.verdicts.clone();
                if !undefined.is_empty() {
                    all.push(Verdict::Fails(String::new()));
                }
                // What the engine cannot plan among the values, it cannot in a SELECT.
                let condition: String = exprs
                    .iter()
                    .map(|expr| format!(" OR ({expr}) IS NULL"))
                    .collect();
                let select = format!("SELECT t.id FROM t WHERE ({plain}){condition}");
                self.failed(error, &all, &select).await?;
                self.unchanged("UPDATE", &before).await
            }
        }
    }

    async fn merge(&mut self) -> Result<(), String> {
        let target = self.columns("t");
        let (t, s) = (qualified(&target, "t"), qualified(&self.columns("u"), "s"));
        let both: Vec<_> = t.iter().chain(&s).cloned().collect();
        let mut on = match self.generator.random.below(3) {
            0 => self.equal_pair(&t, &s),
            _ => "t.id = s.id".to_owned(),
        };
        if self.generator.random.one_in(2) {
            let more = self.generator.over(both.clone(), 0, |g| g.predicate(1));
            on = format!("{on} AND {more}");
        }
        let mut clauses = Vec::new();
        for _ in 0..1 + self.generator.random.below(3) {
            clauses.push(self.clause(&target, &t, &s, &both));
        }
        let text = self.text();
        let before = by_id(&self.rows["t"]);
        let found = self.merged(&text, &on, &clauses, &before).await;
        let (expected, twice) = match found {
            Ok(found) => found,
            Err(error) => {
                self.count("skipped, the oracle cannot MERGE", &error);
                return Ok(());
            }
        };
        let mut sql = format!("MERGE INTO t USING u AS s ON {on}");
        for clause in &clauses {
            sql.push_str(&clause.sql(&target));
        }
        self.counts_tried("MERGE");
        match self.run_text(&text, &sql).await {
            Ok(_) if twice => Err("MERGE changed a row twice".to_owned()),
            Ok(_) => {
                let actual = by_id(&self.stored("t").await?);
                self.compare("MERGE", &before, &expected, &actual)?;
                self.counts_ran("MERGE");
                self.reload("t").await
            }
            Err(error) => {
                let kind = Error::find_in(&error).map(Error::kind);
                if twice && kind == Some(ErrorKind::Constraint) {
                    self.counts_ran("MERGE");
                } else {
                    let plain = format!("SELECT t.id FROM t JOIN u AS s ON {}", text.inlined(&on));
                    self.failed(error, &[], &plain).await?;
                }
                self.unchanged("MERGE", &before).await
            }
        }
    }

    fn equal_pair(&mut self, t: &[Column], s: &[Column]) -> String {
        let pairs: Vec<_> = t
            .iter()
            .flat_map(|a| s.iter().map(move |b| (a, b)))
            .filter(|(a, b)| a.kind == b.kind && a.kind.is_groupable())
            .collect();
        let (a, b) = self.generator.random.choose(&pairs);
        format!("{} = {}", a.name, b.name)
    }

    fn clause(&mut self, target: &[Column], t: &[Column], s: &[Column], both: &[Column]) -> Clause {
        let when = self.generator.random.choose(&[
            When::Matched,
            When::Matched,
            When::NotMatched,
            When::BySource,
        ]);
        let scope = match when {
            When::Matched => both,
            When::NotMatched => s,
            When::BySource => t,
        };
        let condition = match self.generator.random.one_in(3) {
            true => None,
            false => {
                let depth = self.generator.random.below(3);
                Some(
                    self.generator
                        .over(scope.to_vec(), 0, |g| g.predicate(depth)),
                )
            }
        };
        let mut values = Vec::new();
        let insert = when == When::NotMatched;
        let delete = !insert && self.generator.random.one_in(3);
        if !delete {
            for (at, column) in target.iter().enumerate().skip(1) {
                let last = values.is_empty() && at + 1 == target.len();
                if insert || last || self.generator.random.one_in(2) {
                    let expr = self
                        .generator
                        .over(scope.to_vec(), 0, |g| g.expr(column.kind, 1));
                    values.push((at, expr));
                }
            }
        }
        let id = self.next_id;
        if when == When::NotMatched {
            self.next_id += 1000;
        }
        Clause {
            when,
            condition,
            values,
            id,
        }
    }

    /// The rows after a MERGE, and whether one would be changed twice.
    async fn merged(
        &mut self,
        text: &Text,
        on: &str,
        clauses: &[Clause],
        before: &Rows,
    ) -> Result<(Rows, bool), String> {
        let schema = self.rows["t"].schema();
        let width = schema.fields().len();
        let judged = async |oracle: &Oracle, from: &str, predicate: &str| {
            let sql = format!("SELECT * FROM {from} WHERE {}", text.inlined(predicate));
            let judged = oracle.judge(&sql).await.map_err(|e| e.to_string())?;
            let sure = |v: &Verdict| matches!(v, Verdict::True | Verdict::NotTrue);
            match judged.verdicts.iter().all(sure) {
                true => Ok(judged),
                false => Err("a condition fails".to_owned()),
            }
        };
        let pairs = judged(&self.oracle, "t CROSS JOIN u AS s", on).await?;
        let targets = ids(&pairs.rows);
        let sources = {
            let at = pairs.rows.project(&[width]).unwrap();
            ids(&at)
        };
        let is_match: Vec<bool> = pairs.verdicts.iter().map(|v| *v == Verdict::True).collect();
        let hit = |ids: &[i64]| -> BTreeSet<i64> {
            let hits = ids.iter().zip(&is_match).filter(|(_, m)| **m);
            hits.map(|(id, _)| *id).collect()
        };
        let (matched, used) = (hit(&targets), hit(&sources));
        let mut expected = before.clone();
        let mut changed: BTreeMap<i64, u32> = BTreeMap::new();
        for when in [When::Matched, When::NotMatched, When::BySource] {
            let (from, candidates): (&str, Vec<Option<(i64, i64)>>) = match when {
                When::Matched => (
                    "t CROSS JOIN u AS s",
                    targets
                        .iter()
                        .zip(&sources)
                        .zip(&is_match)
                        .map(|((t, s), m)| m.then_some((*t, *s)))
                        .collect(),
                ),
                When::NotMatched => (
                    "u AS s",
                    ids(&self.rows["u"])
                        .into_iter()
                        .map(|s| (!used.contains(&s)).then_some((0, s)))
                        .collect(),
                ),
                When::BySource => (
                    "t",
                    ids(&self.rows["t"])
                        .into_iter()
                        .map(|t| (!matched.contains(&t)).then_some((t, 0)))
                        .collect(),
                ),
            };
            let mut open = candidates;
            for clause in clauses.iter().filter(|c| c.when == when) {
                let condition = clause.condition.as_deref().unwrap_or("TRUE");
                let verdicts = judged(&self.oracle, from, condition).await?.verdicts;
                let exprs: Vec<_> = clause.values.iter().map(|(_, e)| text.inlined(e)).collect();
                let values = match exprs.is_empty() {
                    true => Vec::new(),
                    false => {
                        let sql = format!("SELECT {} FROM {from}", aliased(&exprs));
                        self.oracle.values(&sql).await.map_err(|e| e.to_string())?
                    }
                };
                for (at, candidate) in open.iter_mut().enumerate() {
                    if verdicts[at] != Verdict::True {
                        continue;
                    }
                    let Some((t, s)) = candidate.take() else {
                        continue;
                    };
                    let id = if when == When::NotMatched {
                        s + clause.id as i64
                    } else {
                        t
                    };
                    *changed.entry(id).or_default() += 1;
                    if clause.values.is_empty() {
                        expected.remove(&id);
                        continue;
                    }
                    let mut row = before.get(&id).cloned().unwrap_or_else(|| {
                        let mut row = vec!["NULL".to_owned(); width];
                        row[0] = id.to_string();
                        row
                    });
                    for ((column, _), value) in clause.values.iter().zip(&values[at]) {
                        let value = value.as_ref().map_err(|e| e.to_string())?;
                        row[*column] = rendered(value, schema.field(*column).data_type())?;
                    }
                    expected.insert(id, row);
                }
            }
        }
        let twice = changed.values().any(|n| *n > 1);
        Ok((expected, twice))
    }

    fn compare(
        &self,
        what: &str,
        before: &Rows,
        expected: &Rows,
        actual: &Rows,
    ) -> Result<(), String> {
        match expected == actual {
            true => Ok(()),
            false => Err(format!("{what}: {}", difference(before, expected, actual))),
        }
    }

    async fn unchanged(&mut self, what: &str, before: &Rows) -> Result<(), String> {
        let actual = by_id(&self.stored("t").await?);
        self.trace.pop();
        self.compare(&format!("{what} that failed"), before, before, &actual)
    }

    /// The parameters that the statement under way has.
    fn text(&mut self) -> Text {
        Text {
            parameters: self.generator.take_parameters(),
        }
    }

    /// Executes a statement: directly, or prepared if it has parameters.
    async fn run_text(
        &mut self,
        text: &Text,
        sql: &str,
    ) -> Result<Vec<RecordBatch>, DataFusionError> {
        let (body, used) = text.numbered(sql);
        if used.is_empty() {
            return self.execute(sql).await;
        }
        *self.counts.entry("prepared".to_owned()).or_default() += 1;
        self.prepared += 1;
        let name = format!("p{}", self.prepared);
        let types: Vec<_> = used.iter().map(|(kind, _)| kind.sql()).collect();
        let values: Vec<_> = used.iter().map(|(_, v)| v.as_str()).collect();
        let prepare = format!("PREPARE {name}({}) AS {body}", types.join(", "));
        let execute = format!("EXECUTE {name}({})", values.join(", "));
        self.trace.push(format!("{prepare};\n{execute}"));
        collected(&self.session, &prepare).await?;
        collected(&self.session, &execute).await
    }

    fn counts_tried(&mut self, what: &str) {
        *self.counts.entry(format!("tried {what}")).or_default() += 1;
    }

    fn counts_ran(&mut self, what: &str) {
        *self.counts.entry(format!("ran {what}")).or_default() += 1;
    }
}

impl Text {
    /// The SQL with the parameters' values in place.
    fn inlined(&self, sql: &str) -> String {
        let mut sql = sql.to_owned();
        for (at, (kind, value)) in self.parameters.iter().enumerate() {
            let value = format!("CAST({value} AS {})", kind.sql());
            sql = sql.replace(&format!("{{P{}}}", at + 1), &value);
        }
        sql
    }

    /// The SQL with placeholders, and the parameters that it has.
    fn numbered(&self, sql: &str) -> (String, Vec<&(Type, String)>) {
        let mut sql = sql.to_owned();
        let mut used = Vec::new();
        for (at, parameter) in self.parameters.iter().enumerate() {
            let mark = format!("{{P{}}}", at + 1);
            if sql.contains(&mark) {
                used.push(parameter);
                sql = sql.replace(&mark, &format!("${}", used.len()));
            }
        }
        (sql, used)
    }
}

/// When a clause of a MERGE may apply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Matched,
    NotMatched,
    BySource,
}

struct Clause {
    when: When,
    condition: Option<String>,
    /// Values by column; none is DELETE.
    values: Vec<(usize, String)>,
    /// What is added to a source's id for a new row.
    id: usize,
}

impl Clause {
    fn sql(&self, target: &[Column]) -> String {
        let mut sql = match self.when {
            When::Matched => " WHEN MATCHED",
            When::NotMatched => " WHEN NOT MATCHED",
            When::BySource => " WHEN NOT MATCHED BY SOURCE",
        }
        .to_owned();
        if let Some(condition) = &self.condition {
            sql.push_str(&format!(" AND {condition}"));
        }
        if self.values.is_empty() {
            return sql + " THEN DELETE";
        }
        let names = self.values.iter().map(|(at, _)| target[*at].name.as_str());
        let names: Vec<_> = names.collect();
        let exprs: Vec<_> = self.values.iter().map(|(_, e)| e.as_str()).collect();
        if self.when == When::NotMatched {
            return format!(
                "{sql} THEN INSERT (id, {}) VALUES (s.id + {}, {})",
                names.join(", "),
                self.id,
                exprs.join(", ")
            );
        }
        let sets: Vec<_> = names
            .iter()
            .zip(exprs)
            .map(|(n, e)| format!("{n} = {e}"))
            .collect();
        format!("{sql} THEN UPDATE SET {}", sets.join(", "))
    }
}

/// The ids of the rows that are true, and of those that may count as true.
fn verdicts(judged: &Judged) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let (mut sure, mut may) = (BTreeSet::new(), BTreeSet::new());
    for (id, verdict) in ids(&judged.rows).into_iter().zip(&judged.verdicts) {
        match verdict {
            Verdict::True => drop(sure.insert(id)),
            Verdict::FailsOrTrue => drop(may.insert(id)),
            _ => {}
        }
    }
    (sure, may)
}

fn rows_named(before: &Rows, sure: &BTreeSet<i64>, found: &BTreeSet<i64>) -> String {
    let list = |ids: Vec<&i64>| -> Vec<String> {
        ids.iter()
            .map(|id| format!("{:?}", before.get(id)))
            .collect()
    };
    format!(
        "missing {:?}, too many {:?}",
        list(sure.difference(found).collect()),
        list(found.difference(sure).collect())
    )
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

async fn collected(
    session: &SessionContext,
    sql: &str,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    datafusion_supertable::sql(session, sql)
        .await?
        .collect()
        .await
}

/// Shows why a statement was skipped, to somebody who improves the generator.
fn verbose(what: &str) {
    if std::env::var("SUPERTABLE_SOUNDNESS_VERBOSE").is_ok() {
        eprintln!("{what}");
    }
}

/// A list of expressions, each with a name of its own.
fn aliased(exprs: &[String]) -> String {
    let list = exprs.iter().enumerate();
    let list: Vec<_> = list.map(|(at, expr)| format!("{expr} AS v{at}")).collect();
    list.join(", ")
}
