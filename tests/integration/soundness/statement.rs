//! Statements on the table `t`: how they are made, and their text.

use super::exprs::{Column, Generator};
use super::queries::qualified;
use super::types::Type;

/// A statement; in its expressions `{P1}`, `{P2}`, … stand for parameters.
#[derive(Clone)]
pub(super) struct Statement {
    pub kind: Kind,
    /// Types and values.
    pub parameters: Vec<(Type, String)>,
    /// Whether their values are bound by the API, not by EXECUTE.
    pub bound: bool,
}

#[derive(Clone)]
pub(super) enum Kind {
    /// The ids of the rows, or how many there are.
    Select {
        predicate: String,
        count: bool,
    },
    Delete {
        predicate: String,
    },
    Update {
        sets: Vec<(usize, String)>,
        predicate: String,
    },
    /// `USING u AS s`.
    Merge {
        on: String,
        clauses: Vec<Clause>,
    },
}

/// When a clause of a MERGE may apply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Matched,
    NotMatched,
    BySource,
}

#[derive(Clone)]
pub(super) struct Clause {
    pub when: When,
    pub condition: Option<String>,
    /// Values by column; none is DELETE.
    pub values: Vec<(usize, String)>,
    /// What is added to a source's id for a new row.
    pub id: usize,
}

impl Generator {
    pub(super) fn statement(&mut self) -> Statement {
        let prepared = self.random.one_in(3);
        self.prepare(prepared);
        let t = self.columns("t");
        let kind = match self.random.below(12) {
            0..3 => {
                let predicate = self.whole_predicate(qualified(&t, "t"));
                // The parts of TLP, and the sum of NoREC.
                match self.random.below(6) {
                    0 => Kind::Select {
                        predicate: format!("(NOT ({predicate}))"),
                        count: false,
                    },
                    1 => Kind::Select {
                        predicate: format!("(({predicate}) IS NULL)"),
                        count: false,
                    },
                    other => Kind::Select {
                        predicate,
                        count: other == 2,
                    },
                }
            }
            3..7 => Kind::Delete {
                predicate: self.whole_predicate(qualified(&t, "t")),
            },
            7..10 => self.update(&t),
            _ => self.merge(&t),
        };
        let mut statement = Statement {
            kind,
            parameters: self.take_parameters(),
            bound: prepared && self.random.one_in(3),
        };
        // Without a declared type, DataFusion counts an integer's nanoseconds; in a literal, its seconds.
        statement.bound &= !statement.as_select().contains(" AS TIMESTAMP(9))");
        statement
    }

    pub(super) fn columns(&self, table: &str) -> Vec<Column> {
        let found = self.tables.iter().find(|t| t.name == table);
        found.map_or_else(Vec::new, |t| t.columns.clone())
    }

    fn whole_predicate(&mut self, columns: Vec<Column>) -> String {
        let nesting = match self.random.below(6) {
            0..3 => 0,
            3 | 4 => 1,
            _ => 2,
        };
        let nesting = nesting.max(usize::from(self.shared));
        let depth = self.random.below(4);
        self.over(columns, nesting, |g| g.predicate(depth))
    }

    fn update(&mut self, t: &[Column]) -> Kind {
        let scope = qualified(t, "t");
        let predicate = self.whole_predicate(scope.clone());
        let nesting = usize::from(self.random.one_in(5));
        let mut sets = Vec::new();
        for (at, column) in t.iter().enumerate().skip(1) {
            let last = sets.is_empty() && at + 1 == t.len();
            if last || self.random.one_in(3) {
                let depth = self.random.below(3);
                let expr = self.over(scope.clone(), nesting, |g| g.expr(column.kind, depth));
                sets.push((at, expr));
            }
        }
        Kind::Update { sets, predicate }
    }

    fn merge(&mut self, target: &[Column]) -> Kind {
        let (t, s) = (qualified(target, "t"), qualified(&self.columns("u"), "s"));
        let both: Vec<_> = t.iter().chain(&s).cloned().collect();
        let mut on = match self.random.below(3) {
            0 => self.equal_pair(&t, &s),
            _ => "t.id = s.id".to_owned(),
        };
        if self.random.one_in(2) {
            let more = self.over(both.clone(), 0, |g| g.predicate(1));
            on = format!("{on} AND {more}");
        }
        let mut clauses = Vec::new();
        // Rows of other statements must not have the same ids.
        self.merges += 1;
        let ids = 100_000 * self.merges;
        for at in 0..1 + self.random.below(3) {
            let when = self.random.choose(&[
                When::Matched,
                When::Matched,
                When::NotMatched,
                When::BySource,
            ]);
            let scope = match when {
                When::Matched => &both,
                When::NotMatched => &s,
                When::BySource => &t,
            };
            clauses.push(self.clause(when, target, scope, ids + 10_000 * at));
        }
        Kind::Merge { on, clauses }
    }

    fn equal_pair(&mut self, t: &[Column], s: &[Column]) -> String {
        let pairs: Vec<_> = t
            .iter()
            .flat_map(|a| s.iter().map(move |b| (a, b)))
            .filter(|(a, b)| a.kind == b.kind && a.kind.is_groupable())
            .collect();
        let (a, b) = self.random.choose(&pairs);
        format!("{} = {}", a.name, b.name)
    }

    fn clause(&mut self, when: When, target: &[Column], scope: &[Column], id: usize) -> Clause {
        let condition = match self.random.one_in(3) {
            true => None,
            false => {
                let depth = self.random.below(3);
                Some(self.over(scope.to_vec(), 0, |g| g.predicate(depth)))
            }
        };
        let insert = when == When::NotMatched;
        let mut values = Vec::new();
        if insert || !self.random.one_in(3) {
            for (at, column) in target.iter().enumerate().skip(1) {
                let last = values.is_empty() && at + 1 == target.len();
                if insert || last || self.random.one_in(2) {
                    let expr = self.over(scope.to_vec(), 0, |g| g.expr(column.kind, 1));
                    values.push((at, expr));
                }
            }
        }
        Clause {
            when,
            condition,
            values,
            id,
        }
    }
}

impl Statement {
    /// The text, with `{P1}`, … in it.
    pub(super) fn sql(&self, target: &[Column]) -> String {
        match &self.kind {
            Kind::Select { predicate, count } => select(predicate, *count),
            Kind::Delete { predicate } => format!("DELETE FROM t WHERE {predicate}"),
            Kind::Update { sets, predicate } => {
                let sets: Vec<_> = sets
                    .iter()
                    .map(|(at, expr)| format!("{} = {expr}", target[*at].name))
                    .collect();
                format!("UPDATE t SET {} WHERE {predicate}", sets.join(", "))
            }
            Kind::Merge { on, clauses } => {
                let clauses: String = clauses.iter().map(|c| c.sql(target)).collect();
                format!("MERGE INTO t USING u AS s ON {on}{clauses}")
            }
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Select { .. } => "SELECT",
            Kind::Delete { .. } => "DELETE",
            Kind::Update { .. } => "UPDATE",
            Kind::Merge { .. } => "MERGE",
        }
    }

    /// A query that the engine can plan if it can plan this.
    pub(super) fn as_select(&self) -> String {
        match &self.kind {
            Kind::Select { predicate, count } => select(predicate, *count),
            Kind::Delete { predicate } => select(predicate, false),
            Kind::Update { sets, predicate } => {
                let exprs: Vec<_> = sets.iter().map(|(_, expr)| expr.clone()).collect();
                let exprs = named(&exprs);
                format!("SELECT t.id, {exprs} FROM t WHERE {predicate}")
            }
            Kind::Merge { on, .. } => format!("SELECT t.id FROM t JOIN u AS s ON {on}"),
        }
    }

    /// SQL with the parameters' values in place.
    pub(super) fn inlined(&self, sql: &str) -> String {
        let mut sql = sql.to_owned();
        for (at, (kind, value)) in self.parameters.iter().enumerate() {
            let value = format!("CAST({value} AS {})", kind.sql());
            sql = sql.replace(&mark(at), &value);
        }
        sql
    }

    /// The SQL with placeholders, and the parameters that it has.
    pub(super) fn numbered(&self, sql: &str) -> (String, Vec<&(Type, String)>) {
        let mut sql = sql.to_owned();
        let mut used = Vec::new();
        for (at, parameter) in self.parameters.iter().enumerate() {
            if sql.contains(&mark(at)) {
                used.push(parameter);
                sql = sql.replace(&mark(at), &format!("${}", used.len()));
            }
        }
        (sql, used)
    }

    /// The statements that execute this one's SQL: as it is, or `PREPARE` and `EXECUTE`.
    pub(super) fn executed(&self, sql: &str, name: &str) -> Vec<String> {
        let (sql, used) = self.numbered(sql);
        if used.is_empty() {
            return vec![sql];
        }
        let types: Vec<_> = used.iter().map(|(kind, _)| kind.sql()).collect();
        let values: Vec<_> = used.iter().map(|(_, value)| value.as_str()).collect();
        vec![
            format!("PREPARE {name}({}) AS {sql}", types.join(", ")),
            format!("EXECUTE {name}({})", values.join(", ")),
        ]
    }
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
            .map(|(name, expr)| format!("{name} = {expr}"))
            .collect();
        format!("{sql} THEN UPDATE SET {}", sets.join(", "))
    }
}

fn mark(at: usize) -> String {
    format!("{{P{}}}", at + 1)
}

fn select(predicate: &str, count: bool) -> String {
    match count {
        true => format!(
            "SELECT CAST(coalesce(sum(CASE WHEN {predicate} THEN 1 ELSE 0 END), 0) AS BIGINT) AS n FROM t"
        ),
        false => format!("SELECT t.id FROM t WHERE {predicate}"),
    }
}

/// A list of expressions, each with a name of its own.
pub(super) fn named(exprs: &[String]) -> String {
    let list = exprs.iter().enumerate();
    let list: Vec<_> = list.map(|(at, expr)| format!("{expr} AS v{at}")).collect();
    list.join(", ")
}
