//! Random schemas, values, predicates and statements, from a seed.
//!
//! Invariant: what is generated for [`Dialect::Shared`] means the same in SQLite and in DataFusion:
//! no comparison across types, no arithmetic that overflows or divides, no backslash in a `LIKE`
//! pattern, no NaN and no negative zero. [`Dialect::Full`] adds what only DataFusion has.

use std::collections::HashSet;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

pub(super) use super::values::Kind;

/// What the second evaluator of a program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// SQLite and DataFusion.
    Shared,
    /// DataFusion only.
    Full,
}

/// A statement on the tables `t` and `u`, whose columns are the same: `c0`, `c1`, ….
#[derive(Clone, Debug)]
pub(super) enum Statement {
    /// Rows of literals.
    Insert {
        table: &'static str,
        rows: Vec<Vec<String>>,
    },
    /// One expression for each column, over `from AS s`.
    InsertSelect {
        table: &'static str,
        exprs: Vec<String>,
        from: &'static str,
        pred: String,
        /// `INSERT OVERWRITE`: in place of what is there.
        overwrite: bool,
    },
    Delete {
        table: &'static str,
        pred: Option<String>,
    },
    /// Assignments by column index.
    Update {
        table: &'static str,
        sets: Vec<(usize, String)>,
        pred: Option<String>,
    },
    /// `USING (SELECT … FROM source WHERE filter) AS s`.
    Merge {
        table: &'static str,
        source: &'static str,
        filter: String,
        on: String,
        clauses: Vec<Clause>,
    },
    Truncate {
        table: &'static str,
    },
    Select(String),
}

/// When a clause of a `MERGE` may apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Matched,
    NotMatched,
    NotMatchedBySource,
}

/// What a clause does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Delete,
    Update(Vec<(usize, String)>),
    Insert(Vec<String>),
}

/// One `WHEN` of a `MERGE`.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    pub when: When,
    pub pred: Option<String>,
    pub action: Action,
}

/// The random choices of one program.
pub(super) struct Generator {
    pub rng: StdRng,
    pub dialect: Dialect,
    pub kinds: Vec<Kind>,
    /// The value of the statement's parameter, if it is to be prepared.
    pub(super) parameter: Option<i64>,
    /// Columns that the statement compares with a list already.
    listed: HashSet<String>,
}

/// How a predicate may use subqueries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sub {
    /// Anywhere; for an oracle that is DataFusion itself as a conjunct only, where that is right.
    Allowed,
    None,
}

impl Generator {
    pub(super) fn new(mut rng: StdRng, dialect: Dialect) -> Self {
        use Kind::*;
        let all: &[Kind] = match dialect {
            Dialect::Shared => &[Int, Big, Text, Bool, Double, Date, Key],
            Dialect::Full => &[
                Double, Double, Real, Decimal, Huge, Fine, Timestamp, Zoned, Text, Bytes, Big,
                Small, Unsigned, Bool, Date,
            ],
        };
        let mut kinds = vec![Key];
        for _ in 0..rng.random_range(1..5) {
            kinds.push(*all.choose(&mut rng).unwrap());
        }
        Self {
            rng,
            dialect,
            kinds,
            parameter: None,
            listed: HashSet::new(),
        }
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    pub(super) fn pick(&mut self, from: &[&str]) -> String {
        (*from.choose(&mut self.rng).unwrap()).to_owned()
    }

    fn table(&mut self) -> &'static str {
        if self.one_in(4) { "u" } else { "t" }
    }

    fn any_column(&mut self) -> usize {
        self.rng.random_range(0..self.kinds.len())
    }

    fn column_of(&mut self, kind: Kind) -> Option<usize> {
        let found: Vec<usize> = (0..self.kinds.len())
            .filter(|i| self.kinds[*i] == kind)
            .collect();
        found.choose(&mut self.rng).copied()
    }

    /// A predicate over the rows of `alias`, subqueries included.
    pub(super) fn predicate(&mut self, alias: &str) -> String {
        self.boolean(&[alias], 2, Sub::Allowed)
    }

    fn simple(&mut self, aliases: &[&str]) -> String {
        self.boolean(aliases, 1, Sub::None)
    }

    fn boolean(&mut self, aliases: &[&str], depth: u32, sub: Sub) -> String {
        if depth > 0 && self.one_in(2) {
            let below = match self.dialect {
                Dialect::Shared => sub,
                Dialect::Full => Sub::None,
            };
            let (a, b) = match self.rng.random_range(0..6) {
                0..3 => {
                    let a = self.boolean(aliases, depth - 1, sub);
                    let b = self.boolean(aliases, depth - 1, sub);
                    return format!("({a} AND {b})");
                }
                3 => {
                    let a = self.boolean(aliases, depth - 1, below);
                    return match self.rng.random_range(0..4) {
                        0 => format!("({a}) IS TRUE"),
                        1 => format!("({a}) IS NOT TRUE"),
                        2 => format!("({a}) IS FALSE"),
                        _ => format!("(NOT {a})"),
                    };
                }
                _ => (
                    self.boolean(aliases, depth - 1, below),
                    self.boolean(aliases, depth - 1, below),
                ),
            };
            if self.one_in(4) {
                let c = self.boolean(aliases, 0, below);
                return format!("(CASE WHEN {a} THEN {b} ELSE {c} END)");
            }
            return format!("({a} OR {b})");
        }
        if sub == Sub::Allowed && self.one_in(4) {
            return self.subquery(aliases[0]);
        }
        self.atom(aliases)
    }

    fn subquery(&mut self, outer: &str) -> String {
        let from = self.pick(&["t", "u"]);
        let i = self.any_column();
        let kind = self.kinds[i];
        let not = self.pick(&["", "NOT "]);
        let inner = self.simple(&["s"]);
        // Floats are not joined on: whether -0.0 equals 0.0 there is the join's own affair.
        match self.rng.random_range(0..6) {
            0 | 1 if !kind.is_float() => {
                let filter = if self.one_in(2) {
                    format!(" WHERE {inner}")
                } else {
                    String::new()
                };
                format!("{outer}.c{i} {not}IN (SELECT s.c{i} FROM {from} AS s{filter})")
            }
            2 if !kind.is_float() => format!(
                "{not}EXISTS (SELECT 1 FROM {from} AS s WHERE s.c{i} = {outer}.c{i} AND {inner})"
            ),
            // DataFusion's MIN by group, which this becomes, is undefined where a NaN is among floats.
            3 if !kind.is_float() => format!(
                "{outer}.c{i} >= (SELECT min(s.c{i}) FROM {from} AS s WHERE s.c0 = {outer}.c0)"
            ),
            4 => format!(
                "(SELECT count(*) FROM {from} AS s WHERE s.c0 = {outer}.c0 AND {inner}) > {}",
                self.rng.random_range(0..3)
            ),
            _ => {
                let op = self.pick(&["<", "<=", "=", ">", ">=", "<>"]);
                let f = self.pick(&["min", "max"]);
                format!("{outer}.c{i} {op} (SELECT {f}(s.c{i}) FROM {from} AS s WHERE {inner})")
            }
        }
    }

    fn atom(&mut self, aliases: &[&str]) -> String {
        let alias = *aliases.choose(&mut self.rng).unwrap();
        let i = self.any_column();
        let kind = self.kinds[i];
        let c = format!("{alias}.c{i}");
        let not = self.pick(&["", "NOT "]);
        match self.rng.random_range(0..9) {
            0 => format!("{c} IS {not}NULL"),
            1 => {
                let (a, b) = (self.value_or_null(kind), self.value(kind));
                format!("{c} {not}BETWEEN {a} AND {b}")
            }
            2 | 3 if self.listed.insert(c.clone()) || self.dialect == Dialect::Shared => {
                // In a longer list of floats DataFusion tells the two zeros apart.
                let floats = matches!(kind, Kind::Double | Kind::Real);
                let longest = if floats { 3 } else { 5 };
                let mut list: Vec<String> = (0..self.rng.random_range(1..longest))
                    .map(|_| self.value(kind))
                    .collect();
                if self.one_in(3) {
                    list.push("NULL".to_owned());
                }
                format!("{c} {not}IN ({})", list.join(", "))
            }
            4 if kind == Kind::Text => {
                let p = self.pick(&["a%", "%b%", "_", "%", "", "a_c", "%c", "A%", "é", "__"]);
                format!("{c} {not}LIKE '{p}'")
            }
            4 if kind == Kind::Bool => format!("{not}{c}"),
            4 if kind == Kind::Key => {
                let n = self.rng.random_range(-4..12);
                self.pick(&[
                    "{c} + 1 > {n}",
                    "{c} * 2 <= {n}",
                    "{c} % 3 = 1",
                    "{c} - {n} < 2",
                ])
                .replace("{c}", &c)
                .replace("{n}", &format!("({n})"))
            }
            5 => {
                let other = *aliases.choose(&mut self.rng).unwrap();
                let j = self.column_of(kind).unwrap();
                let op = self.pick(&["<", "<=", "=", ">", ">=", "<>"]);
                format!("{c} {op} {other}.c{j}")
            }
            _ => {
                let op = self.pick(&["<", "<=", "=", ">", ">=", "<>"]);
                let v = self.value(kind);
                format!("{c} {op} {v}")
            }
        }
    }

    /// A value for column `i`, over the rows of `aliases`.
    fn expr(&mut self, i: usize, aliases: &[&str]) -> String {
        let kind = self.kinds[i];
        let alias = *aliases.choose(&mut self.rng).unwrap();
        let same = self.column_of(kind).unwrap();
        let c = format!("{alias}.c{same}");
        match self.rng.random_range(0..8) {
            0 => self.value_or_null(kind),
            1 => {
                let pred = self.simple(aliases);
                let a = self.value(kind);
                format!("CASE WHEN {pred} THEN {a} ELSE {c} END")
            }
            2 => {
                let v = self.value(kind);
                format!("coalesce({c}, {v})")
            }
            3 if kind == Kind::Key => format!("{c} + 1"),
            3 if kind == Kind::Text => format!("{c} || 'x'"),
            5 if kind == Kind::Text && self.dialect == Dialect::Full => {
                format!("arrow_cast({c}, 'Dictionary(Int32, Utf8)')")
            }
            4 if kind != Kind::Key => {
                let v = self.value(kind);
                format!("nullif({c}, {v})")
            }
            _ => c,
        }
    }

    fn assignments(&mut self, aliases: &[&str]) -> Vec<(usize, String)> {
        let mut columns: Vec<usize> = (0..self.kinds.len()).collect();
        while columns.len() > 1 && self.one_in(2) {
            let at = self.rng.random_range(0..columns.len());
            columns.remove(at);
        }
        columns
            .into_iter()
            .map(|i| (i, self.expr(i, aliases)))
            .collect()
    }

    pub(super) fn insert(&mut self, table: &'static str, rows: usize) -> Statement {
        let kinds = self.kinds.clone();
        let rows = (0..rows)
            .map(|_| kinds.iter().map(|k| self.value_or_null(*k)).collect())
            .collect();
        Statement::Insert { table, rows }
    }

    /// The next statement; `rows` is how many rows the larger table has. One in four is meant to be prepared.
    pub(super) fn statement(&mut self, rows: usize) -> Statement {
        self.parameter = self.one_in(4).then(|| self.rng.random_range(-3..40));
        self.listed.clear();
        let statement = self.any_statement(rows);
        self.parameter = None;
        statement
    }

    fn any_statement(&mut self, rows: usize) -> Statement {
        let table = self.table();
        match self.rng.random_range(0..100) {
            0..14 => {
                let n = self.rng.random_range(1..15);
                self.insert(table, n)
            }
            14..24 if rows < 150 => {
                let from = self.table();
                let exprs = (0..self.kinds.len())
                    .map(|i| self.expr(i, &["s"]))
                    .collect();
                let pred = self.predicate("s");
                Statement::InsertSelect {
                    table,
                    exprs,
                    from,
                    pred,
                    overwrite: self.one_in(4),
                }
            }
            14..46 => {
                let pred = (!self.one_in(20)).then(|| self.predicate(table));
                Statement::Delete { table, pred }
            }
            46..66 => {
                let pred = (!self.one_in(8)).then(|| self.predicate(table));
                let sets = self.assignments(&[table]);
                Statement::Update { table, sets, pred }
            }
            66..82 => self.merge(table),
            82 => Statement::Truncate { table },
            _ => self.select(table),
        }
    }

    fn merge(&mut self, table: &'static str) -> Statement {
        let source = self.table();
        let filter = self.simple(&["x"]);
        let mut on = format!("{table}.c0 = s.c0");
        match self.rng.random_range(0..4) {
            0 => on = format!("{on} AND {}", self.simple(&[table, "s"])),
            1 if self.one_in(2) => on = self.simple(&[table, "s"]),
            _ => {}
        }
        let clauses = (0..self.rng.random_range(1..4))
            .map(|_| {
                let when = *[
                    When::Matched,
                    When::Matched,
                    When::NotMatched,
                    When::NotMatchedBySource,
                ]
                .choose(&mut self.rng)
                .unwrap();
                let aliases: Vec<&str> = match when {
                    When::Matched => vec![table, "s"],
                    When::NotMatched => vec!["s"],
                    When::NotMatchedBySource => vec![table],
                };
                let pred = (!self.one_in(3)).then(|| self.simple(&aliases));
                let action = match when {
                    When::NotMatched => Action::Insert(
                        (0..self.kinds.len())
                            .map(|i| self.expr(i, &aliases))
                            .collect(),
                    ),
                    _ if self.one_in(3) => Action::Delete,
                    _ => Action::Update(self.assignments(&aliases)),
                };
                Clause { when, pred, action }
            })
            .collect();
        Statement::Merge {
            table,
            source,
            filter,
            on,
            clauses,
        }
    }

    fn select(&mut self, table: &str) -> Statement {
        let i = self.any_column();
        let kind = self.kinds[i];
        let pred = self.predicate(table);
        let filter = if self.one_in(3) {
            String::new()
        } else {
            format!(" WHERE {pred}")
        };
        Statement::Select(match self.rng.random_range(0..5) {
            0 => format!("SELECT {table}.c{i} AS a, {table}.c0 AS b FROM {table}{filter}"),
            1 => format!(
                "SELECT count(*), count({table}.c{i}), min({table}.c{i}), max({table}.c{i}) FROM {table}{filter}"
            ),
            2 if !kind.is_float() => format!(
                "SELECT {table}.c{i}, count(*), min({table}.c0) FROM {table}{filter} GROUP BY {table}.c{i}"
            ),
            3 => {
                let direction = self.pick(&["ASC", "DESC"]);
                let nulls = self.pick(&["FIRST", "LAST"]);
                let n = self.rng.random_range(1..6);
                format!(
                    "SELECT {table}.c{i} FROM {table}{filter} ORDER BY {table}.c{i} {direction} NULLS {nulls} LIMIT {n}"
                )
            }
            _ => format!(
                "SELECT {table}.c0 AS a, s.c{i} AS b FROM {table} LEFT JOIN u AS s ON s.c0 = {table}.c0{filter}"
            ),
        })
    }
}
