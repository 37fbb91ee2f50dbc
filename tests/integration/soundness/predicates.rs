//! Random predicates over the columns that are in scope.

use super::exprs::{COMPARISONS, Generator};
use super::types::Type;

impl Generator {
    pub(super) fn predicate(&mut self, depth: usize) -> String {
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
}
