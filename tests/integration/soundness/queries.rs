//! Random subqueries: in every form, correlated or not, nested.
//!
//! Invariant: a subquery has one answer. `LIMIT` and `OFFSET` stand beside an `ORDER BY` that ends in a unique
//! column (or count rows only, under `EXISTS`), floats are neither grouped nor looked up by equality, and
//! a scalar subquery has one row at most.

use super::exprs::{COMPARISONS, Column, Generator};
use super::types::Type;

/// What a query reads.
pub(super) struct Source {
    /// `WITH …`, or nothing.
    with: String,
    /// What follows `FROM`.
    from: String,
    columns: Vec<Column>,
    /// Columns that together tell every row from every other.
    ids: Vec<String>,
}

impl Generator {
    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("s{}", self.aliases)
    }

    /// A predicate that is, or begins with, a subquery.
    pub(super) fn subquery_predicate(&mut self) -> String {
        let kind = self.some_type();
        let not = self.random.choose(&["", "NOT "]);
        match self.random.below(12) {
            0..3 => {
                let query = self.any_rows();
                format!("{not}EXISTS ({query})")
            }
            3..7 if kind.is_groupable() => {
                let operand = match self.random.below(8) {
                    0 => self.literal(kind),
                    1 => self.expr(kind, 1),
                    _ => self.leaf(kind),
                };
                let query = self.rows_of(kind);
                format!("({operand}) {not}IN ({query})")
            }
            7 | 8 if !self.shared && !kind.is_nested() => {
                let operand = self.leaf(kind);
                let quantifier = self.random.choose(&["ANY", "ALL"]);
                let op = match kind.is_float() {
                    true => self.random.choose(&["<", ">", "<=", ">="]),
                    false => self.random.choose(&COMPARISONS),
                };
                let query = self.rows_of(kind);
                format!("({operand}) {op} {quantifier} ({query})")
            }
            9 => {
                let query = self.one_row(Type::Signed(64));
                let op = self.random.choose(&COMPARISONS);
                format!("({query}) {op} {}", self.random.below(3))
            }
            10 if !kind.is_nested() => {
                let query = self.one_row(kind);
                format!("({query}) IS {not}NULL")
            }
            _ if !kind.is_nested() => {
                let operand = self.leaf(kind);
                let op = self.random.choose(&COMPARISONS);
                let query = self.one_row(kind);
                format!("({operand}) {op} ({query})")
            }
            _ => {
                let query = self.any_rows();
                format!("{not}EXISTS ({query})")
            }
        }
    }

    pub(super) fn scalar_subquery(&mut self, kind: Type) -> String {
        match kind.is_nested() {
            true => self.leaf(kind),
            false => format!("({})", self.one_row(kind)),
        }
    }

    /// Makes something inside a query over `columns`.
    fn inside<T>(&mut self, columns: Vec<Column>, make: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.push(columns);
        let nesting = self.nesting;
        self.nesting = nesting.saturating_sub(1);
        let made = make(self);
        self.nesting = nesting;
        self.scopes.pop();
        made
    }

    /// Makes something that sees these columns and no query around it.
    fn alone<T>(&mut self, columns: Vec<Column>, make: impl FnOnce(&mut Self) -> T) -> T {
        let scopes = std::mem::replace(&mut self.scopes, vec![columns]);
        let nesting = std::mem::replace(&mut self.nesting, 0);
        let made = make(self);
        self.scopes = scopes;
        self.nesting = nesting;
        made
    }

    fn table_as(&mut self) -> (String, String, Vec<Column>) {
        let tables = self.tables.clone();
        let table = self.random.choose(&tables);
        let alias = self.alias();
        let columns = qualified(&table.columns, &alias);
        (table.name, alias, columns)
    }

    fn source(&mut self) -> Source {
        let (table, alias, columns) = self.table_as();
        let ids = vec![format!("{alias}.id")];
        match self.random.below(12) {
            0 => {
                let filter = self.alone(columns.clone(), |g| g.predicate(1));
                let inner = alias.clone();
                let outer = self.alias();
                Source {
                    with: String::new(),
                    from: format!("(SELECT * FROM {table} AS {inner} WHERE {filter}) AS {outer}"),
                    columns: requalified(&columns, &outer),
                    ids: vec![format!("{outer}.id")],
                }
            }
            1 => {
                let filter = self.alone(columns.clone(), |g| g.predicate(1));
                let (name, outer) = (self.alias(), self.alias());
                Source {
                    with: format!(
                        "WITH {name} AS (SELECT * FROM {table} AS {alias} WHERE {filter}) "
                    ),
                    from: format!("{name} AS {outer}"),
                    columns: requalified(&columns, &outer),
                    ids: vec![format!("{outer}.id")],
                }
            }
            2 | 3 => {
                let (other, second, more) = self.table_as();
                let kind = Type::Signed(64);
                let both: Vec<_> = columns.iter().chain(&more).cloned().collect();
                let on = match self.random.below(3) {
                    0 => format!("{alias}.id = {second}.id"),
                    1 => match pair_of_one_type(&columns, &more) {
                        Some((a, b)) => format!("{a} = {b}"),
                        None => format!("{alias}.id < {second}.id"),
                    },
                    _ => self.alone(both.clone(), |g| {
                        let a = g.leaf(kind);
                        format!("{alias}.id = {second}.id AND {a} <> 1")
                    }),
                };
                let join = self.random.choose(&["JOIN", "LEFT JOIN"]);
                Source {
                    with: String::new(),
                    from: format!("{table} AS {alias} {join} {other} AS {second} ON {on}"),
                    columns: both,
                    ids: vec![format!("{alias}.id"), format!("{second}.id")],
                }
            }
            4 => {
                let outer = self.alias();
                let window = self.alone(columns.clone(), |g| g.window(&alias));
                let mut columns = requalified(&columns, &outer);
                columns.push(Column {
                    name: format!("{outer}.w"),
                    kind: Type::Signed(64),
                });
                Source {
                    with: String::new(),
                    from: format!(
                        "(SELECT {alias}.*, {window} AS w FROM {table} AS {alias}) AS {outer}"
                    ),
                    columns,
                    ids: vec![format!("{outer}.id")],
                }
            }
            _ => Source {
                with: String::new(),
                from: format!("{table} AS {alias}"),
                columns,
                ids,
            },
        }
    }

    fn window(&mut self, alias: &str) -> String {
        let partition = match self.inner_column(Type::is_groupable) {
            Some(column) if self.random.one_in(2) => format!("PARTITION BY {} ", column.name),
            _ => String::new(),
        };
        let f = match self.random.below(4) {
            0 => "row_number()".to_owned(),
            1 => "count(*)".to_owned(),
            2 => format!("lag({alias}.id)"),
            _ => format!("max({alias}.id)"),
        };
        format!("{f} OVER ({partition}ORDER BY {alias}.id)")
    }

    fn filter(&mut self) -> String {
        match self.random.one_in(4) {
            true => String::new(),
            false => {
                let depth = self.random.below(2);
                let mut filter = self.predicate(depth);
                // The usual correlation.
                if self.random.one_in(2)
                    && let Some(inner) = self.inner_column(Type::is_groupable)
                    && let Some(outer) = self.outer_column(inner.kind)
                {
                    let op =
                        self.random
                            .choose(&["=", "=", "=", "<", "<>", "IS NOT DISTINCT FROM"]);
                    let op = if self.shared && op.starts_with("IS") {
                        "="
                    } else {
                        op
                    };
                    filter = match self.random.one_in(2) {
                        true => format!("{} {op} {}", inner.name, outer),
                        false => format!("{} {op} {} AND {filter}", inner.name, outer),
                    };
                }
                format!(" WHERE {filter}")
            }
        }
    }

    fn outer_column(&mut self, kind: Type) -> Option<String> {
        let around = self.scopes.len().checked_sub(1)?;
        let found: Vec<_> = self.scopes[..around]
            .iter()
            .flatten()
            .filter(|column| column.kind == kind)
            .map(|column| column.name.clone())
            .collect();
        (!found.is_empty()).then(|| self.random.choose(&found))
    }

    /// A query of which only matters whether it has rows.
    fn any_rows(&mut self) -> String {
        match self.random.below(8) {
            0..2 => {
                let source = self.source();
                let columns = source.columns.clone();
                self.inside(columns, |g| {
                    let filter = g.filter();
                    let what = g.random.choose(&["1", "*"]);
                    let (limit, offset) = (g.random.below(3), g.random.below(3));
                    let end = match g.random.below(4) {
                        0 => format!(" LIMIT {limit}"),
                        1 if g.shared => format!(" LIMIT 100 OFFSET {offset}"),
                        1 => format!(" OFFSET {offset}"),
                        2 => format!(" LIMIT {limit} OFFSET {offset}"),
                        _ => String::new(),
                    };
                    format!(
                        "{}SELECT {what} FROM {}{filter}{end}",
                        source.with, source.from
                    )
                })
            }
            2 => self.one_row(Type::Signed(64)),
            _ => {
                let kind = self.some_type();
                self.rows_of(if kind.is_nested() {
                    Type::Signed(64)
                } else {
                    kind
                })
            }
        }
    }

    /// A query with one column of this type and any number of rows.
    fn rows_of(&mut self, kind: Type) -> String {
        if kind.is_groupable() && self.random.one_in(8) {
            let (a, b) = (self.plain(kind, false), self.plain(kind, false));
            let op = match self.shared {
                true => self
                    .random
                    .choose(&["UNION", "UNION ALL", "INTERSECT", "EXCEPT"]),
                false => self.random.choose(&[
                    "UNION",
                    "UNION ALL",
                    "INTERSECT",
                    "EXCEPT",
                    "INTERSECT ALL",
                    "EXCEPT ALL",
                ]),
            };
            return format!("{a} {op} {b}");
        }
        match self.random.below(18) {
            // No FROM: one row of the outer query's values, or none.
            16 => {
                let nesting = self.nesting;
                self.nesting = nesting.saturating_sub(1);
                let (value, filter) = (self.leaf(kind), self.predicate(0));
                self.nesting = nesting;
                return format!("SELECT {value} AS v WHERE {filter}");
            }
            17 => {
                let value = |g: &mut Self| match g.random.one_in(4) {
                    true => "(NULL)".to_owned(),
                    false => format!("({})", g.literal(kind)),
                };
                let first = format!("({})", self.literal(kind));
                let more: Vec<_> = (0..self.random.below(3)).map(|_| value(self)).collect();
                return format!("VALUES {}", [vec![first], more].concat().join(", "));
            }
            _ => {}
        }
        match self.random.below(8) {
            0 | 1 if kind.is_groupable() => self.grouped(kind),
            2 => self.ordered(kind),
            3 => self.one_row(kind),
            _ => self.plain(kind, true),
        }
    }

    fn plain(&mut self, kind: Type, with: bool) -> String {
        let source = loop {
            let source = self.source();
            if with || source.with.is_empty() {
                break source;
            }
        };
        let columns = source.columns.clone();
        self.inside(columns, |g| {
            let filter = g.filter();
            let depth = g.random.below(2);
            let value = match g.inner_column(|k| k == kind) {
                Some(column) if !g.random.one_in(4) => column.name,
                _ => g.expr(kind, depth),
            };
            let distinct = match kind.is_groupable() && g.random.one_in(6) {
                true => "DISTINCT ",
                false => "",
            };
            format!(
                "{}SELECT {distinct}{value} AS v FROM {}{filter}",
                source.with, source.from
            )
        })
    }

    fn ordered(&mut self, kind: Type) -> String {
        let source = self.source();
        let columns = source.columns.clone();
        self.inside(columns, |g| {
            let filter = g.filter();
            let value = g.expr(kind, 1);
            let order = g.order(&source.ids);
            let (limit, offset) = (g.random.below(5), g.random.below(3));
            let offset = match g.random.one_in(2) {
                true => format!(" OFFSET {offset}"),
                false => String::new(),
            };
            format!(
                "{}SELECT {value} AS v FROM {}{filter} ORDER BY {order} LIMIT {limit}{offset}",
                source.with, source.from
            )
        })
    }

    fn order(&mut self, ids: &[String]) -> String {
        let nulls = |g: &mut Self| {
            let direction = g.random.choose(&["ASC", "DESC"]);
            let nulls = g.random.choose(&["FIRST", "LAST"]);
            format!("{direction} NULLS {nulls}")
        };
        let mut order = Vec::new();
        let plain = |kind: Type| kind.is_groupable();
        if self.random.one_in(2)
            && let Some(column) = self.inner_column(plain)
        {
            order.push(format!("{} {}", column.name, nulls(self)));
        }
        for id in ids {
            order.push(format!("{id} {}", nulls(self)));
        }
        order.join(", ")
    }

    /// An aggregate of this type over the innermost query.
    fn aggregate(&mut self, kind: Type) -> Option<String> {
        let column = self.inner_column(|k| k == kind);
        Some(match (kind, self.random.below(6)) {
            (Type::Signed(64), 0 | 1) => "count(*)".to_owned(),
            (Type::Signed(64), 2) => {
                let column = self.inner_column(|k| !k.is_nested() && !k.is_float())?;
                let distinct = self.random.choose(&["", "DISTINCT "]);
                format!("count({distinct}{})", column.name)
            }
            (Type::Signed(64), 3) => {
                let column = self.inner_column(|k| k == Type::Signed(64))?;
                format!("sum({} % 100)", column.name)
            }
            (Type::Signed(64), 4) if !self.shared => {
                let filter = self.predicate_alone();
                format!("count(*) FILTER (WHERE {filter})")
            }
            (Type::Bool, _) if !self.shared => {
                format!(
                    "{}({})",
                    self.random.choose(&["bool_and", "bool_or"]),
                    column?.name
                )
            }
            _ if kind.is_groupable() && kind != Type::Bool => {
                let f = self.random.choose(&["min", "max"]);
                format!("{f}({})", column?.name)
            }
            _ => return None,
        })
    }

    /// A predicate of the innermost query's columns, without subqueries.
    fn predicate_alone(&mut self) -> String {
        let columns = self.scopes.last().cloned().unwrap_or_default();
        self.alone(columns, |g| g.predicate(0))
    }

    fn grouped(&mut self, kind: Type) -> String {
        let source = self.source();
        let columns = source.columns.clone();
        self.inside(columns, |g| {
            let filter = g.filter();
            let Some(key) = g.inner_column(|k| k == kind) else {
                let value = g.expr(kind, 1);
                return format!(
                    "{}SELECT {value} AS v FROM {}{filter}",
                    source.with, source.from
                );
            };
            let mut keys = vec![key.clone()];
            if let Some(second) = g.inner_column(Type::is_groupable)
                && second.name != key.name
                && g.random.one_in(3)
            {
                keys.push(second);
            }
            let names: Vec<_> = keys.iter().map(|key| key.name.clone()).collect();
            let names = names.join(", ");
            let group = match g.random.below(6) {
                _ if g.shared => names,
                0 => format!("ROLLUP({names})"),
                1 => format!("CUBE({names})"),
                2 => format!("GROUPING SETS (({names}), ())"),
                _ => names,
            };
            let value = match g.aggregate(kind) {
                Some(aggregate) if g.random.one_in(3) => aggregate,
                _ => key.name.clone(),
            };
            let having = match g.random.one_in(2) {
                true => String::new(),
                false => format!(" HAVING {}", g.having(keys)),
            };
            format!(
                "{}SELECT {value} AS v FROM {}{filter} GROUP BY {group}{having}",
                source.with, source.from
            )
        })
    }

    fn having(&mut self, keys: Vec<Column>) -> String {
        let op = self.random.choose(&COMPARISONS);
        let n = self.random.below(3);
        let aggregate = self.aggregate(Type::Signed(64));
        match (aggregate, self.random.below(3)) {
            (Some(aggregate), 0 | 1) => format!("{aggregate} {op} {n}"),
            _ => {
                let around = self.scopes.len().saturating_sub(1);
                let source = std::mem::replace(&mut self.scopes[around], keys);
                let having = self.predicate(0);
                self.scopes[around] = source;
                having
            }
        }
    }

    /// A query with one column of this type and one row at most.
    fn one_row(&mut self, kind: Type) -> String {
        let source = self.source();
        let columns = source.columns.clone();
        self.inside(columns, |g| {
            let Source {
                with, from, ids, ..
            } = &source;
            let filter = g.filter();
            if !g.random.one_in(4)
                && let Some(aggregate) = g.aggregate(kind)
            {
                let having = match g.random.one_in(6) {
                    true => format!(" HAVING count(*) > {}", g.random.below(2)),
                    false => String::new(),
                };
                let value = match g.random.below(6) {
                    0 => {
                        let other = g.literal(kind);
                        format!("coalesce({aggregate}, {other})")
                    }
                    1 => {
                        let other = g.literal(kind);
                        format!("CASE WHEN count(*) > 1 THEN {aggregate} ELSE {other} END")
                    }
                    _ => aggregate,
                };
                return format!("{with}SELECT {value} AS v FROM {from}{filter}{having}");
            }
            let value = g.expr(kind, 1);
            if g.random.one_in(3) && ids.len() == 1 {
                let id = match g.outer_column(Type::Signed(64)) {
                    Some(outer) if g.random.one_in(2) => outer,
                    _ => g.random.below(6).to_string(),
                };
                return format!(
                    "{with}SELECT {value} AS v FROM {from} WHERE {} = {id}",
                    ids[0]
                );
            }
            let order = g.order(ids);
            let offset = match g.random.one_in(3) {
                true => format!(" OFFSET {}", g.random.below(3)),
                false => String::new(),
            };
            format!(
                "{with}SELECT {value} AS v FROM {from}{filter} ORDER BY {order} LIMIT 1{offset}"
            )
        })
    }
}

/// The columns of a table under an alias.
pub(super) fn qualified(columns: &[Column], alias: &str) -> Vec<Column> {
    columns
        .iter()
        .map(|column| Column {
            name: format!("{alias}.{}", column.name),
            kind: column.kind,
        })
        .collect()
}

fn requalified(columns: &[Column], alias: &str) -> Vec<Column> {
    columns
        .iter()
        .map(|column| Column {
            name: match column.name.split_once('.') {
                Some((_, name)) => format!("{alias}.{name}"),
                None => column.name.clone(),
            },
            kind: column.kind,
        })
        .collect()
}

fn pair_of_one_type(a: &[Column], b: &[Column]) -> Option<(String, String)> {
    a.iter().find_map(|a| {
        let b = b
            .iter()
            .find(|b| b.kind == a.kind && a.kind.is_groupable() && !b.name.ends_with(".id"))?;
        Some((a.name.clone(), b.name.clone()))
    })
}
