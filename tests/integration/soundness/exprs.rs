//! Random expressions over the columns that are in scope.
//!
//! Owns what has no subquery; `queries` has what does, and `predicates` what is true or false. What is made has a type that the planner
//! accepts, most of the time, and one value: nothing random, no sums of floats, no clock.

use super::random::Random;
use super::types::Type;

/// A column that an expression may name.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub kind: Type,
}

/// A table that a subquery may read: its columns have no qualifier.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub name: String,
    pub columns: Vec<Column>,
}

/// The random choices of one program.
pub(super) struct Generator {
    pub random: Random,
    pub tables: Vec<Table>,
    /// The queries around the expression, the innermost last.
    pub(super) scopes: Vec<Vec<Column>>,
    /// How deep subqueries may be nested from here on.
    pub(super) nesting: usize,
    pub(super) aliases: usize,
    /// Whether literals may become parameters, and those that did.
    pub(super) prepared: bool,
    pub(super) parameters: Vec<(Type, String)>,
    /// Only what SQLite understands in the same way.
    pub shared: bool,
    /// How many MERGE statements there were.
    pub(super) merges: usize,
}

pub(super) const COMPARISONS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            tables: Vec::new(),
            scopes: Vec::new(),
            nesting: 0,
            aliases: 0,
            prepared: false,
            parameters: Vec::new(),
            shared: false,
            merges: 0,
        }
    }

    /// Something about rows of these columns, with subqueries nested at most `nesting` deep.
    pub(super) fn over<T>(
        &mut self,
        columns: Vec<Column>,
        nesting: usize,
        make: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.scopes = vec![columns];
        self.nesting = nesting;
        let made = make(self);
        self.scopes.clear();
        made
    }

    /// A column of one of the types that `wanted` accepts; of the innermost query, mostly.
    pub(super) fn column(&mut self, wanted: impl Fn(Type) -> bool) -> Option<Column> {
        let outer = self.scopes.len() > 1 && self.random.one_in(3);
        let scope = match outer {
            true => self.random.below(self.scopes.len() - 1),
            false => self.scopes.len().checked_sub(1)?,
        };
        let found: Vec<_> = self.scopes[scope]
            .iter()
            .filter(|column| wanted(column.kind))
            .cloned()
            .collect();
        (!found.is_empty()).then(|| self.random.choose(&found))
    }

    /// A column of the innermost query only.
    pub(super) fn inner_column(&mut self, wanted: impl Fn(Type) -> bool) -> Option<Column> {
        let scope = self.scopes.last()?;
        let found: Vec<_> = scope.iter().filter(|c| wanted(c.kind)).cloned().collect();
        (!found.is_empty()).then(|| self.random.choose(&found))
    }

    /// A literal; in a statement that is to be prepared, perhaps a parameter.
    pub(super) fn literal(&mut self, kind: Type) -> String {
        let literal = match self.shared {
            true => self.shared_literal(kind),
            false => kind.literal(&mut self.random),
        };
        if self.prepared && !kind.is_nested() && self.parameters.len() < 4 && self.random.one_in(3)
        {
            self.parameters.push((kind, literal));
            return format!("{{P{}}}", self.parameters.len());
        }
        literal
    }

    fn shared_literal(&mut self, kind: Type) -> String {
        match kind {
            Type::Text => self
                .random
                .choose(&["''", "'a'", "'A'", "'ab'", "'b'", "' '", "'%'", "'1'"])
                .to_owned(),
            Type::Bool => self.random.choose(&["TRUE", "FALSE"]).to_owned(),
            _ => format!("({})", self.random.below(8) as i64 - 2),
        }
    }

    /// A simple expression: a column if there is one, else a literal.
    pub(super) fn leaf(&mut self, kind: Type) -> String {
        if !self.random.one_in(4)
            && let Some(column) = self.column(|k| k == kind)
        {
            return column.name;
        }
        if self.random.one_in(14) {
            return match self.shared {
                true => "NULL".to_owned(),
                false => kind.null(),
            };
        }
        self.literal(kind)
    }

    /// A type for something to be compared, preferring those of the columns.
    pub(super) fn some_type(&mut self) -> Type {
        if self.shared {
            return self
                .random
                .choose(&[Type::Signed(64), Type::Signed(64), Type::Text]);
        }
        match self.random.one_in(8) {
            true => Type::random(&mut self.random),
            false => match self.column(|_| true) {
                Some(column) => column.kind,
                None => Type::Signed(32),
            },
        }
    }

    pub(super) fn expr(&mut self, kind: Type, depth: usize) -> String {
        if depth == 0 || self.random.one_in(3) {
            return self.leaf(kind);
        }
        let depth = depth - 1;
        if self.nesting > 0 && self.random.one_in(6) {
            return self.scalar_subquery(kind);
        }
        match self.random.below(9) {
            0 => {
                let condition = self.predicate(depth);
                let (a, b) = (self.expr(kind, depth), self.expr(kind, depth));
                format!("CASE WHEN {condition} THEN {a} ELSE {b} END")
            }
            1 => {
                let (a, b) = (self.expr(kind, depth), self.expr(kind, depth));
                format!("coalesce({a}, {b})")
            }
            2 if !kind.is_nested() => {
                let (a, b) = (self.expr(kind, depth), self.leaf(kind));
                format!("nullif({a}, {b})")
            }
            3 if !kind.is_nested() => {
                let (subject, when) = (self.leaf(kind), self.literal(kind));
                let (a, b) = (self.leaf(kind), self.expr(kind, depth));
                format!("CASE {subject} WHEN {when} THEN {a} ELSE {b} END")
            }
            4 | 5 if !self.shared => self.cast_to(kind, depth),
            _ => self.operation(kind, depth),
        }
    }

    /// A cast to `kind` of something that can be cast to it.
    fn cast_to(&mut self, kind: Type, depth: usize) -> String {
        let cast = self.random.choose(&["CAST", "CAST", "TRY_CAST"]);
        let from = (0..12).find_map(|_| {
            let from = self.some_type();
            (from.cast_targets(&mut self.random) == kind || from.is_numeric() && kind.is_numeric())
                .then_some(from)
        });
        match from {
            Some(from) => {
                let inner = self.expr(from, depth);
                format!("{cast}({inner} AS {})", kind.sql())
            }
            None => self.leaf(kind),
        }
    }

    /// An operation whose value has the type `kind`, or one near to it.
    fn operation(&mut self, kind: Type, depth: usize) -> String {
        match kind {
            Type::Signed(_) | Type::Unsigned(_) => self.integer(kind, depth),
            Type::Real | Type::Double | Type::Decimal(..) => {
                let (a, b) = (self.expr(kind, depth), self.leaf(kind));
                let op = self.random.choose(&["+", "-", "*"]);
                match self.random.below(7) {
                    0 => format!("abs({a})"),
                    1 => format!("(- {a})"),
                    2 if kind.is_float() => {
                        let f = self
                            .random
                            .choose(&["floor", "ceil", "round", "trunc", "signum"]);
                        format!("{f}({a})")
                    }
                    3 if kind.is_float() => {
                        let exponent = self.random.choose(&["0", "1", "2", "-1"]);
                        format!("power({a}, {exponent})")
                    }
                    _ => format!("({a} {op} {b})"),
                }
            }
            Type::Bool => self.predicate(depth),
            Type::Text => self.text(depth),
            Type::Date if self.random.one_in(2) => {
                let (a, unit) = (
                    self.leaf(kind),
                    self.random.choose(&["1 day", "1 month", "2 days"]),
                );
                format!("CAST({a} + INTERVAL '{unit}' AS DATE)")
            }
            Type::Timestamp(_) => {
                let a = self.leaf(kind);
                match self.random.below(3) {
                    0 => {
                        let unit = self
                            .random
                            .choose(&["second", "hour", "day", "month", "year"]);
                        format!("date_trunc('{unit}', {a})")
                    }
                    1 => {
                        let op = self.random.choose(&["+", "-"]);
                        let step = self
                            .random
                            .choose(&["1 day", "1 hour", "1 second", "1 month"]);
                        format!("({a} {op} INTERVAL '{step}')")
                    }
                    _ => a,
                }
            }
            Type::Zoned(digits) => {
                let zone = self.random.choose(&["UTC", "+02:00", "-11:00"]);
                let local = self.leaf(Type::Timestamp(digits));
                let zoned = self.leaf(kind);
                match self.random.below(3) {
                    0 => format!("({local} AT TIME ZONE '{zone}')"),
                    1 => format!("({zoned} AT TIME ZONE '{zone}')"),
                    _ => format!("date_trunc('day', {zoned})"),
                }
            }
            other => self.leaf(other),
        }
    }

    fn integer(&mut self, kind: Type, depth: usize) -> String {
        let a = self.expr(kind, depth);
        let b = self.leaf(kind);
        if self.shared {
            let op = self.random.choose(&["+", "-", "*"]);
            return match self.random.below(5) {
                0 if self.column(|k| k == Type::Text).is_some() => {
                    let text = self.leaf(Type::Text);
                    format!("length({text})")
                }
                _ => format!("({a} {op} {b})"),
            };
        }
        match self.random.below(14) {
            0..3 => {
                let op = self.random.choose(&["+", "-", "*"]);
                format!("({a} {op} {b})")
            }
            3 => {
                let op = self.random.choose(&["/", "%"]);
                let divisor = match self.random.one_in(4) {
                    true => b,
                    false => format!("CAST({} AS {})", 1 + self.random.below(4), kind.sql()),
                };
                format!("({a} {op} {divisor})")
            }
            4 | 5 => {
                let op = self.random.choose(&["&", "|", "^"]);
                format!("({a} {op} {b})")
            }
            6 => {
                let op = self.random.choose(&["<<", ">>"]);
                let by = format!("CAST({} AS {})", self.random.below(5), kind.sql());
                format!("({a} {op} {by})")
            }
            // The same operand twice: what simplifications look for.
            7 => {
                let op = self.random.choose(&["-", "^", "&", "|", "*", "%"]);
                let a = self.leaf(kind);
                format!("({a} {op} {a})")
            }
            8 if matches!(kind, Type::Signed(_)) => format!("(- {a})"),
            9 => {
                let text = self.leaf(Type::Text);
                let f = self.random.choose(&["length", "octet_length", "ascii"]);
                format!("CAST({f}({text}) AS {})", kind.sql())
            }
            10 => match self.column(|k| k == Type::Numbers) {
                Some(list) if kind == Type::Signed(64) => {
                    format!("{}[{}]", list.name, self.random.below(4) as i64 - 1)
                }
                Some(list) => format!("CAST(cardinality({}) AS {})", list.name, kind.sql()),
                None => a,
            },
            11 => match self.column(|k| k == Type::Pair) {
                Some(pair) if kind == Type::Signed(32) => format!("{}['a']", pair.name),
                _ => a,
            },
            12 => match self.column(Type::is_time) {
                Some(time) => {
                    let part = self
                        .random
                        .choose(&["year", "month", "day", "dow", "quarter"]);
                    format!("CAST(date_part('{part}', {}) AS {})", time.name, kind.sql())
                }
                None => a,
            },
            _ => {
                let f = self.random.choose(&["greatest", "least"]);
                format!("{f}({a}, {b})")
            }
        }
    }

    fn text(&mut self, depth: usize) -> String {
        let a = self.expr(Type::Text, depth);
        let b = self.leaf(Type::Text);
        if self.shared {
            return match self.random.below(3) {
                0 => format!("upper({a})"),
                _ => format!("({a} || {b})"),
            };
        }
        match self.random.below(11) {
            9 => {
                let kind = self
                    .random
                    .choose(&["Dictionary(Int32, Utf8)", "LargeUtf8"]);
                format!("arrow_cast({a}, '{kind}')")
            }
            0 | 1 => format!("({a} || {b})"),
            2 => format!(
                "{}({a})",
                self.random.choose(&["upper", "lower", "trim", "reverse"])
            ),
            3 => format!(
                "substr({a}, {}, {})",
                1 + self.random.below(2),
                self.random.below(3)
            ),
            4 => format!("concat({a}, {b})"),
            5 => format!("replace({a}, {b}, 'x')"),
            6 => format!(
                "{}({a}, {})",
                self.random.choose(&["left", "right"]),
                self.random.below(3)
            ),
            7 => match self.column(|k| k == Type::Words) {
                Some(list) => format!("{}[{}]", list.name, 1 + self.random.below(2)),
                None => a,
            },
            8 => match self.column(|k| k == Type::Pair) {
                Some(pair) => format!("{}['b']", pair.name),
                None => a,
            },
            _ => a,
        }
    }

    /// Whether the next statement's literals may become parameters.
    pub(super) fn prepare(&mut self, prepared: bool) {
        self.prepared = prepared;
        self.parameters.clear();
    }

    pub(super) fn take_parameters(&mut self) -> Vec<(Type, String)> {
        self.prepared = false;
        std::mem::take(&mut self.parameters)
    }
}
