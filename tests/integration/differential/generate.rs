//! Random schemas, values, predicates and statements, from a seed.
//!
//! Invariant: what is generated for [`Dialect::Shared`] means the same in SQLite and in DataFusion:
//! no comparison across types, no arithmetic that overflows or divides, no backslash in a `LIKE`
//! pattern, no NaN and no negative zero. [`Dialect::Full`] adds what only DataFusion has.

use std::collections::HashSet;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Longer than what bounds in statistics keep: equal up to there, and one that has no next value.
const LONG_A: &str =
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1'";
const LONG_B: &str =
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2'";
const LONG_MAX: &str = "'\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}'";

/// What the second evaluator of a program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite and DataFusion.
    Shared,
    /// DataFusion only.
    Full,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first column: small integers, on which arithmetic is safe.
    Key,
    Int,
    Big,
    Text,
    Bool,
    Double,
    Date,
    Real,
    Decimal,
    Huge,
    Timestamp,
    Zoned,
    Small,
    Unsigned,
    /// A decimal with as many digits after the point as there is room for.
    Fine,
    Bytes,
}

impl Kind {
    /// The type's name in both dialects.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Key | Self::Big => "BIGINT",
            Self::Int => "INT",
            Self::Text => "VARCHAR",
            Self::Bool => "BOOLEAN",
            Self::Double => "DOUBLE",
            Self::Date => "DATE",
            Self::Real => "REAL",
            Self::Decimal => "DECIMAL(10, 2)",
            Self::Huge => "DECIMAL(38, 0)",
            Self::Timestamp => "TIMESTAMP",
            Self::Zoned => "TIMESTAMP WITH TIME ZONE",
            Self::Small => "SMALLINT",
            Self::Unsigned => "BIGINT UNSIGNED",
            Self::Fine => "DECIMAL(38, 18)",
            Self::Bytes => "BYTEA",
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::Double | Self::Real)
    }
}

/// A statement on the tables `t` and `u`, whose columns are the same: `c0`, `c1`, ….
#[derive(Clone, Debug)]
pub enum Statement {
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
pub enum When {
    Matched,
    NotMatched,
    NotMatchedBySource,
}

/// What a clause does.
#[derive(Clone, Debug)]
pub enum Action {
    Delete,
    Update(Vec<(usize, String)>),
    Insert(Vec<String>),
}

/// One `WHEN` of a `MERGE`.
#[derive(Clone, Debug)]
pub struct Clause {
    pub when: When,
    pub pred: Option<String>,
    pub action: Action,
}

/// The random choices of one program.
pub struct Generator {
    pub rng: StdRng,
    pub dialect: Dialect,
    pub kinds: Vec<Kind>,
    /// The value of the statement's parameter, if it is to be prepared.
    parameter: Option<i64>,
    /// Columns that the statement compares with a list already.
    listed: HashSet<String>,
}

/// How a predicate may use subqueries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sub {
    /// Anywhere that the engine defines them well: as a conjunct.
    Conjunct,
    None,
}

impl Generator {
    pub fn new(mut rng: StdRng, dialect: Dialect) -> Self {
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

    pub fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    fn pick(&mut self, from: &[&str]) -> String {
        (*from.choose(&mut self.rng).unwrap()).to_owned()
    }

    fn table(&mut self) -> &'static str {
        if self.one_in(4) { "u" } else { "t" }
    }

    /// A literal that is not NULL; for a key it may be `{P:…}`, the parameter with its value.
    fn value(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Key if self.parameter.is_some() && self.one_in(2) => {
                format!("{{P:{}}}", self.parameter.unwrap_or_default())
            }
            Kind::Key => self.rng.random_range(-3..40).to_string(),
            Kind::Int => self.pick(&["0", "1", "-1", "7", "2147483647", "-2147483648", "42"]),
            Kind::Big => self.pick(&[
                "0",
                "1",
                "-1",
                "9223372036854775807",
                "-9223372036854775807",
                "4294967296",
                "17",
            ]),
            Kind::Text => self.pick(&[
                "''", "'a'", "'A'", "'ab'", "'abc'", "'b'", "' '", "'é'", "'日本'", "'zz'",
                "'a_c'", "'%'", "'it''s'", "'NULL'", LONG_A, LONG_B, LONG_MAX,
            ]),
            Kind::Bool => self.pick(&["TRUE", "FALSE"]),
            Kind::Double | Kind::Real => {
                let shared = [
                    "0.0", "1.5", "-2.25", "100.0", "0.5", "{INF}", "-{INF}", "3.0",
                ];
                let odd = ["{NAN}", "{NAN}", "(-0.0)", "-{INF}"];
                let odd_one = self.dialect == Dialect::Full && self.one_in(3);
                let text = if odd_one {
                    self.pick(&odd)
                } else {
                    self.pick(&shared)
                };
                match kind {
                    Kind::Real => format!("CAST({text} AS REAL)"),
                    _ => text,
                }
            }
            Kind::Date => self.pick(&[
                "DATE '1970-01-01'",
                "DATE '2024-02-29'",
                "DATE '1900-12-31'",
                "DATE '2024-03-01'",
                "DATE '9999-12-31'",
            ]),
            Kind::Decimal => {
                let v = self.pick(&["0", "0.01", "-0.01", "99999999.99", "-99999999.99", "5.5"]);
                format!("CAST('{v}' AS DECIMAL(10, 2))")
            }
            Kind::Huge => {
                let v = self.pick(&[
                    "0",
                    "1",
                    "99999999999999999999999999999999999999",
                    "-99999999999999999999999999999999999999",
                    "170141183460469231731687303715",
                ]);
                format!("CAST('{v}' AS DECIMAL(38, 0))")
            }
            Kind::Small => {
                let v = self.pick(&["0", "1", "-1", "32767", "-32768", "300"]);
                format!("CAST({v} AS SMALLINT)")
            }
            Kind::Unsigned => {
                let v = self.pick(&["0", "1", "9223372036854775808", "18446744073709551615"]);
                format!("CAST('{v}' AS BIGINT UNSIGNED)")
            }
            Kind::Fine => {
                let v = self.pick(&[
                    "0",
                    "0.000000000000000001",
                    "-0.000000000000000001",
                    "99999999999999999999.999999999999999999",
                    "-99999999999999999999.999999999999999999",
                    "1",
                ]);
                format!("CAST('{v}' AS DECIMAL(38, 18))")
            }
            Kind::Bytes => self.pick(&["X''", "X'00'", "X'ff'", "X'00ff'", "X'ffffff'", "X'61'"]),
            Kind::Timestamp | Kind::Zoned => {
                let v = self.pick(&[
                    "1970-01-01T00:00:00",
                    "2024-02-29T23:59:59.999999999",
                    "1969-12-31T23:59:59.5",
                    "2024-10-27T02:30:00",
                    "2262-04-11T23:47:16.854775807",
                    "1677-09-21T00:12:43.145224193",
                ]);
                // Near the ends of the range there is no room for another zone.
                let zones: &[&str] = match kind == Kind::Zoned {
                    true if v.starts_with("2024") => &["Z", "+05:30", "-11:00"],
                    true => &["Z"],
                    false => &[""],
                };
                let zone = self.pick(zones);
                format!("CAST('{v}{zone}' AS {})", kind.sql())
            }
        }
    }

    fn value_or_null(&mut self, kind: Kind) -> String {
        if self.one_in(5) {
            "NULL".to_owned()
        } else {
            self.value(kind)
        }
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
    pub fn predicate(&mut self, alias: &str) -> String {
        self.boolean(&[alias], 2, Sub::Conjunct)
    }

    fn simple(&mut self, aliases: &[&str]) -> String {
        self.boolean(aliases, 1, Sub::None)
    }

    fn boolean(&mut self, aliases: &[&str], depth: u32, sub: Sub) -> String {
        if depth > 0 && self.one_in(2) {
            let (a, b) = match self.rng.random_range(0..6) {
                // Only a conjunction keeps subqueries where they are conjuncts.
                0..3 => {
                    let a = self.boolean(aliases, depth - 1, sub);
                    let b = self.boolean(aliases, depth - 1, sub);
                    return format!("({a} AND {b})");
                }
                3 => {
                    let a = self.boolean(aliases, depth - 1, Sub::None);
                    return match self.rng.random_range(0..4) {
                        0 => format!("({a}) IS TRUE"),
                        1 => format!("({a}) IS NOT TRUE"),
                        2 => format!("({a}) IS FALSE"),
                        _ => format!("(NOT {a})"),
                    };
                }
                _ => (
                    self.boolean(aliases, depth - 1, Sub::None),
                    self.boolean(aliases, depth - 1, Sub::None),
                ),
            };
            if self.one_in(4) {
                let c = self.boolean(aliases, 0, Sub::None);
                return format!("(CASE WHEN {a} THEN {b} ELSE {c} END)");
            }
            return format!("({a} OR {b})");
        }
        if sub == Sub::Conjunct && self.one_in(4) {
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
            2 | 3 if self.listed.insert(c.clone()) => {
                let mut list: Vec<String> = (0..self.rng.random_range(1..5))
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

    pub fn insert(&mut self, table: &'static str, rows: usize) -> Statement {
        let kinds = self.kinds.clone();
        let rows = (0..rows)
            .map(|_| kinds.iter().map(|k| self.value_or_null(*k)).collect())
            .collect();
        Statement::Insert { table, rows }
    }

    /// The next statement; `rows` is how many rows the larger table has. One in four is meant to be prepared.
    pub fn statement(&mut self, rows: usize) -> Statement {
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
