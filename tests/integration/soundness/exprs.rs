//! Random expressions and predicates over the columns that are in scope.
//!
//! Owns what has no subquery; `queries` has what does. What is made has a type that the planner
//! accepts, most of the time, and one value: nothing random, no sums of floats, no clock.

use super::random::Random;
use super::types::Type;

/// A column that an expression may name.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Type,
}

/// A table that a subquery may read: its columns have no qualifier.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
}

/// The random choices of one program.
pub struct Generator {
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
}

const COMPARISONS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            tables: Vec::new(),
            scopes: Vec::new(),
            nesting: 0,
            aliases: 0,
            prepared: false,
            parameters: Vec::new(),
            shared: false,
        }
    }

    /// Something about rows of these columns, with subqueries nested at most `nesting` deep.
    pub fn over<T>(
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

    pub fn expr(&mut self, kind: Type, depth: usize) -> String {
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
                match self.random.below(4) {
                    0 => format!("abs({a})"),
                    1 => format!("(- {a})"),
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
        match self.random.below(10) {
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

    pub fn predicate(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.atom(0);
        }
        let depth = depth - 1;
        match self.random.below(16) {
            0..3 => {
                let (a, b) = (self.predicate(depth), self.predicate(depth));
                format!("({a} AND {b})")
            }
            3..6 => {
                let (a, b) = (self.predicate(depth), self.predicate(depth));
                format!("({a} OR {b})")
            }
            6 => format!("(NOT {})", self.predicate(depth)),
            7 => {
                let a = self.predicate(depth);
                let is = match self.shared {
                    true => {
                        self.random
                            .choose(&["IS TRUE", "IS NOT TRUE", "IS FALSE", "IS NOT FALSE"])
                    }
                    false => self.random.choose(&[
                        "IS TRUE",
                        "IS NOT TRUE",
                        "IS FALSE",
                        "IS NOT FALSE",
                        "IS UNKNOWN",
                        "IS NOT UNKNOWN",
                        "IS NULL",
                        "IS NOT NULL",
                    ]),
                };
                format!("(({a}) {is})")
            }
            8 => {
                let (a, b, c) = (
                    self.predicate(depth),
                    self.predicate(depth),
                    self.predicate(depth),
                );
                format!("(CASE WHEN {a} THEN {b} ELSE {c} END)")
            }
            9 => {
                let (a, b) = (self.predicate(depth), self.predicate(0));
                format!("coalesce({a}, {b})")
            }
            10 if !self.shared => {
                let (a, b) = (self.predicate(depth), self.predicate(0));
                let op =
                    self.random
                        .choose(&["=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
                format!("(({a}) {op} ({b}))")
            }
            11 => self.lists(),
            12..14 if self.nesting > 0 => self.subquery_predicate(),
            _ => self.atom(depth),
        }
    }

    /// Two lists on one operand.
    fn lists(&mut self) -> String {
        let kind = self.some_type();
        if kind.is_nested() {
            return self.atom(0);
        }
        let operand = self.leaf(kind);
        let one = |this: &mut Self| {
            let not = this.random.choose(&["", "NOT "]);
            let list: Vec<_> = (0..1 + this.random.below(3))
                .map(|_| match this.random.one_in(7) {
                    true => "NULL".to_owned(),
                    false => this.literal(kind),
                })
                .collect();
            format!("{operand} {not}IN ({})", list.join(", "))
        };
        let (a, b) = (one(self), one(self));
        let op = self.random.choose(&["AND", "OR"]);
        match self.random.one_in(2) {
            true => format!("({a} {op} {b})"),
            false => format!("(NOT ({a} {op} {b}))"),
        }
    }

    /// A predicate without AND and OR.
    fn atom(&mut self, depth: usize) -> String {
        if self.nesting > 0 && self.random.one_in(3) {
            return self.subquery_predicate();
        }
        let kind = self.some_type();
        let not = self.random.choose(&["", "NOT "]);
        if kind.is_nested() {
            return self.nested(kind);
        }
        match self.random.below(12) {
            0 => {
                let a = self.expr(kind, depth);
                format!("{a} IS {not}NULL")
            }
            1 => {
                let (a, b, c) = (self.expr(kind, depth), self.leaf(kind), self.leaf(kind));
                format!("{a} {not}BETWEEN {b} AND {c}")
            }
            2 => {
                let a = self.expr(kind, depth);
                let list: Vec<_> = (0..1 + self.random.below(5))
                    .map(|_| self.leaf(kind))
                    .collect();
                format!("{a} {not}IN ({})", list.join(", "))
            }
            3 if kind == Type::Text => self.pattern(depth),
            3 if kind == Type::Bool && !self.shared => {
                let a = self.expr(kind, depth);
                format!("({a})")
            }
            // A cast that an optimiser might move to the other side.
            3..6 if !self.shared => {
                let to = kind.cast_targets(&mut self.random);
                let a = self.leaf(kind);
                let cast = self.random.choose(&["CAST", "TRY_CAST"]);
                let op = self.random.choose(&COMPARISONS);
                let b = self.literal(to);
                match to.is_nested() {
                    true => format!("{a} IS {not}NULL"),
                    false if self.random.one_in(6) => {
                        let c = self.literal(to);
                        format!("{cast}({a} AS {}) {not}IN ({b}, {c})", to.sql())
                    }
                    false => format!("{cast}({a} AS {}) {op} {b}", to.sql()),
                }
            }
            6 if !self.shared => {
                let (a, b) = (self.expr(kind, depth), self.expr(kind, depth));
                let op = self
                    .random
                    .choose(&["IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
                format!("(({a}) {op} ({b}))")
            }
            7 if !self.shared => {
                let other = self.some_type();
                let other = if kind.is_comparable(other) {
                    other
                } else {
                    kind
                };
                let (a, b) = (self.expr(kind, depth), self.expr(other, depth));
                let op = self.random.choose(&COMPARISONS);
                format!("({a}) {op} ({b})")
            }
            8 if kind == Type::Text => self.pattern(depth),
            9 => {
                let a = self.leaf(kind);
                let op = self.random.choose(&["=", "<>", "<=", "<"]);
                format!("{a} {op} {a}")
            }
            _ => {
                let (a, b) = (self.expr(kind, depth), self.leaf(kind));
                let op = self.random.choose(&COMPARISONS);
                format!("({a}) {op} ({b})")
            }
        }
    }

    fn pattern(&mut self, depth: usize) -> String {
        let a = self.expr(Type::Text, depth);
        let not = self.random.choose(&["", "NOT "]);
        let pattern = self.random.choose(&[
            "a%", "%b%", "_", "%", "", "a_c", "%c", "A%", "b", "__", "ab", "%%", "_%",
        ]);
        if self.shared {
            return format!("({a}) {not}LIKE '{pattern}'");
        }
        match self.random.below(8) {
            0 => {
                let pattern = self
                    .random
                    .choose(&["a!%b", "!_", "a!_c", "!%", "%!%%", "!!"]);
                let like = self.random.choose(&["LIKE", "ILIKE"]);
                format!("({a}) {not}{like} '{pattern}' ESCAPE '!'")
            }
            1 => {
                let pattern = self
                    .random
                    .choose(&["a\\%b", "\\_", "a\\_c", "\\%", "a\\\\b", "%\\%%"]);
                format!("({a}) {not}LIKE '{pattern}'")
            }
            2 => {
                let op = self.random.choose(&["~", "!~", "~*", "!~*"]);
                let regex = self.random.choose(&[
                    ".*", "^a", "b$", "^ab$", "a|b", "^(a|b)$", "^$", "", "a.c", "[ab]+", "^.*$",
                    "^a_c$", ".+",
                ]);
                format!("({a}) {op} '{regex}'")
            }
            3 => format!("({a}) {not}ILIKE '{pattern}'"),
            4 => {
                let b = self.leaf(Type::Text);
                let f = self
                    .random
                    .choose(&["starts_with", "ends_with", "contains"]);
                format!("{f}({a}, {b})")
            }
            5 => {
                let b = self.leaf(Type::Text);
                format!("({a}) {not}LIKE {b}")
            }
            _ => format!("({a}) {not}LIKE '{pattern}'"),
        }
    }

    fn nested(&mut self, kind: Type) -> String {
        let Some(column) = self.column(|k| k == kind) else {
            return format!("{} IS NULL", self.leaf(kind));
        };
        let name = column.name;
        let op = self.random.choose(&COMPARISONS);
        let not = self.random.choose(&["", "NOT "]);
        match (kind, self.random.below(6)) {
            (_, 0) => format!("{name} IS {not}NULL"),
            (Type::Numbers, 1 | 2) => {
                let b = self.leaf(Type::Signed(64));
                format!("{name}[{}] {op} {b}", self.random.below(4) as i64 - 1)
            }
            (Type::Numbers, 3) => {
                let b = self.leaf(Type::Signed(64));
                format!("{not}array_has({name}, {b})")
            }
            (Type::Numbers | Type::Words, 4) => {
                format!("cardinality({name}) {op} {}", self.random.below(3))
            }
            (Type::Words, 1 | 2) => {
                let b = self.leaf(Type::Text);
                format!("{name}[{}] {op} {b}", 1 + self.random.below(2))
            }
            (Type::Words, 3) => {
                let b = self.leaf(Type::Text);
                format!("{not}array_has({name}, {b})")
            }
            (Type::Pair, 1..4) => {
                let b = self.leaf(Type::Signed(32));
                format!("{name}['a'] {op} {b}")
            }
            (Type::Pair, 4) => format!("{name}['b'] IS {not}NULL"),
            _ => {
                let b = self.leaf(kind);
                let op = self.random.choose(&["=", "<>"]);
                format!("{name} {op} {b}")
            }
        }
    }

    /// Whether the next statement's literals may become parameters.
    pub fn prepare(&mut self, prepared: bool) {
        self.prepared = prepared;
        self.parameters.clear();
    }

    pub fn take_parameters(&mut self) -> Vec<(Type, String)> {
        self.prepared = false;
        std::mem::take(&mut self.parameters)
    }
}
