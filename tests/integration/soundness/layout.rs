//! How a table came to be: in several superfiles, with tombstones, external files, added columns, a declared order,
//! clustering.

use super::exprs::{Column, Generator, Table};
use super::settings;
use super::types::Type;

/// A table to be made: its columns, and the statements that make and fill it.
pub(super) struct Layout {
    pub table: Table,
    pub statements: Vec<String>,
}

impl Generator {
    /// Two tables that have some types in common.
    pub(super) fn layouts(&mut self, directory: &str) -> [Layout; 2] {
        let mut kinds = Vec::new();
        for _ in 0..2 + self.random.below(5) {
            kinds.push(self.column_type());
        }
        let mut others = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            others.push(match self.random.one_in(3) {
                true => self.column_type(),
                false => self.random.choose(&kinds),
            });
        }
        [
            self.layout("t", &kinds, directory, 3, 5),
            self.layout("u", &others, directory, 2, 3),
        ]
    }

    fn column_type(&mut self) -> Type {
        match self.shared {
            true => self
                .random
                .choose(&[Type::Signed(64), Type::Signed(64), Type::Text]),
            false => Type::random(&mut self.random),
        }
    }

    fn layout(
        &mut self,
        name: &str,
        kinds: &[Type],
        directory: &str,
        parts: usize,
        rows: usize,
    ) -> Layout {
        let mut columns = vec![Column {
            name: "id".to_owned(),
            kind: Type::Signed(64),
        }];
        columns.extend(kinds.iter().enumerate().map(|(i, kind)| Column {
            name: format!("c{i}"),
            kind: *kind,
        }));
        let last = *kinds.last().unwrap();
        let late = !last.is_nested() && self.random.one_in(4);
        let first = columns.len() - usize::from(late);
        let mut statements = vec![self.create(name, &columns[..first], directory)];
        // Only files in order can be added to an ordered table, and it cannot be clustered.
        let ordered = statements[0].contains(" WITH ORDER ");
        let mut next = 1;
        for part in 0..1 + self.random.below(parts) {
            let some = 1 + self.random.below(rows);
            if part == 0 && late {
                statements.push(self.insert(name, &columns[..first], &mut next, some));
                let default = match self.random.one_in(3) {
                    true => String::new(),
                    false if self.shared => format!(" DEFAULT {}", self.literal(last)),
                    false if self.shared => format!(" DEFAULT {}", self.literal(last)),
                    false => format!(" DEFAULT {}", last.literal(&mut self.random)),
                };
                let column = &columns[first];
                statements.push(format!(
                    "ALTER TABLE {name} ADD COLUMN {} {}{default}",
                    column.name,
                    column.kind.sql()
                ));
            } else if !ordered && self.random.one_in(5) {
                let file = format!("{directory}/in/{name}{part}.parquet");
                let rows = self.row_list(&columns, &mut next, some);
                let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
                statements.push(format!(
                    "COPY (SELECT * FROM (VALUES {rows}) AS v({})) TO '{file}' STORED AS PARQUET",
                    names.join(", ")
                ));
                let copy = self.random.choose(&["", ", copy => true"]);
                statements.push(format!(
                    "SELECT * FROM supertable_add_files('{name}', '{file}'{copy})"
                ));
            } else {
                statements.push(self.insert(name, &columns, &mut next, some));
            }
        }
        if self.random.one_in(3) {
            let gone = 1 + self.random.below(next);
            statements.push(format!("DELETE FROM {name} WHERE id = {gone}"));
        }
        if self.random.one_in(5) {
            let changed = 1 + self.random.below(next);
            statements.push(format!("UPDATE {name} SET c0 = c0 WHERE id = {changed}"));
        }
        if self.random.one_in(4) {
            let keys: Vec<_> = columns
                .iter()
                .filter(|c| c.kind.is_groupable() && c.kind != Type::Bool)
                .map(|c| c.name.clone())
                .collect();
            let (a, b) = (self.random.choose(&keys), self.random.choose(&keys));
            let keys = if a == b { a } else { format!("{a}, {b}") };
            let curve = self.random.choose(&["zorder", "hilbert"]);
            let choices = if ordered { 2 } else { 4 };
            statements.push(match self.random.below(choices) {
                0 => format!("SELECT * FROM supertable_optimize('{name}')"),
                1 => format!("SELECT * FROM supertable_optimize('{name}', full => true)"),
                2 => format!(
                    "SELECT * FROM supertable_optimize('{name}', order => '{curve}({keys})')"
                ),
                _ => {
                    format!("ALTER TABLE {name} SET ('supertable.cluster_by' = '{curve}({keys})')")
                }
            });
        }
        Layout {
            table: Table {
                name: name.to_owned(),
                columns,
            },
            statements,
        }
    }

    fn create(&mut self, name: &str, columns: &[Column], directory: &str) -> String {
        let list: Vec<_> = columns
            .iter()
            .map(|column| {
                let not_null = if column.name == "id" { " NOT NULL" } else { "" };
                format!("{} {}{not_null}", column.name, column.kind.sql())
            })
            .collect();
        let mut sql = format!(
            "CREATE EXTERNAL TABLE {name} ({}) STORED AS SUPERTABLE LOCATION '{directory}/{name}/'",
            list.join(", ")
        );
        if self.random.one_in(3) {
            let keys: Vec<_> = columns
                .iter()
                .filter(|c| c.kind.is_groupable())
                .map(|c| c.name.clone())
                .collect();
            let key = self.random.choose(&keys);
            let direction =
                self.random
                    .choose(&["", " DESC", " ASC NULLS FIRST", " DESC NULLS LAST"]);
            sql.push_str(&format!(" WITH ORDER ({key}{direction})"));
        }
        let names: Vec<_> = columns
            .iter()
            .filter(|c| !c.kind.is_nested() && c.kind != Type::Bool)
            .map(|c| c.name.clone())
            .collect();
        let options = settings::of_table(&mut self.random, &names);
        if !options.is_empty() {
            sql.push_str(&format!(" OPTIONS ({})", options.join(", ")));
        }
        sql
    }

    /// `INSERT` of rows with the next ids.
    pub(super) fn insert(
        &mut self,
        name: &str,
        columns: &[Column],
        next: &mut usize,
        n: usize,
    ) -> String {
        let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
        let rows = self.row_list(columns, next, n);
        format!("INSERT INTO {name} ({}) VALUES {rows}", names.join(", "))
    }

    fn row_list(&mut self, columns: &[Column], next: &mut usize, n: usize) -> String {
        let mut rows = Vec::new();
        for _ in 0..n {
            let mut row = vec![format!("CAST({next} AS BIGINT)")];
            *next += 1;
            for column in &columns[1..] {
                row.push(match self.random.one_in(5) {
                    true => column.kind.null(),
                    false if self.shared => {
                        let literal = self.literal(column.kind);
                        format!("CAST({literal} AS {})", column.kind.sql())
                    }
                    false => column.kind.literal(&mut self.random),
                });
            }
            rows.push(format!("({})", row.join(", ")));
        }
        rows.join(", ")
    }
}
