//! The text of a `CREATE` statement.
//!
//! Owns its form: a default stands last in its column, where nothing behind it can be taken for a part of it. Does not own
//! names, literals and types.
//!
//! Invariant: run at an empty place, the statement makes a table with these columns, in this order, with the same
//! types, `NOT NULL`, defaults, conditions, options and order; or it fails. (A string is a `VARCHAR`, however this
//! session or that one holds it in memory.)

use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::Expr;

use super::quote::{literal, name, parsed};
use super::types::sql_type;
use crate::config::own_option;
use crate::dml::keys::declared::default_name;
use crate::format::manifest::{SortColumn, TableMetadata, UniqueKey};
use crate::scan::schema::session_schema;

/// How a table came into a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// By its location.
    External {
        /// Its name in the session.
        name: TableReference,
        /// As it was given.
        location: String,
    },
    /// By a catalog of supertables.
    Catalog {
        /// With the catalog and the schema.
        name: TableReference,
    },
}

impl Declared {
    /// A table that was opened by its location alone is called as its directory is.
    pub fn at(location: &str) -> Self {
        let directory = location.trim_end_matches('/').rsplit('/').next();
        Self::External {
            name: TableReference::bare(directory.unwrap_or(location)),
            location: location.to_owned(),
        }
    }
}

/// The statement that makes an empty table with this metadata; none if a column has a type that no statement can name.
pub(super) fn create_statement(declared: &Declared, metadata: &TableMetadata) -> Option<String> {
    let columns = columns(metadata)?;
    let mut text = match declared {
        Declared::External { name, location } => format!(
            "CREATE EXTERNAL TABLE {} ({columns}) STORED AS SUPERTABLE LOCATION {}",
            table(name),
            literal(location)
        ),
        Declared::Catalog { name } => format!("CREATE TABLE {} ({columns})", table(name)),
    };
    if !metadata.sort_order.is_empty() {
        let order: Vec<String> = metadata.sort_order.iter().map(sort_column).collect();
        text.push_str(&format!(" WITH ORDER ({})", order.join(", ")));
    }
    let options: Vec<String> = metadata
        .properties
        .iter()
        .filter(|(key, _)| own_option(key).is_some())
        .map(|(key, value)| format!("{} {}", literal(key), literal(value)))
        .collect();
    if !options.is_empty() {
        text.push_str(&format!(" OPTIONS ({})", options.join(", ")));
    }
    Some(text)
}

fn columns(metadata: &TableMetadata) -> Option<String> {
    let schema = session_schema(&metadata.schema);
    let columns: Option<Vec<String>> = schema
        .fields()
        .iter()
        .map(|field| {
            let mut column = format!("{} {}", name(field.name()), sql_type(field.data_type())?);
            if !field.is_nullable() {
                column.push_str(" NOT NULL");
            }
            if let Some(default) = metadata.defaults.get(field.name()) {
                column.push_str(&format!(" DEFAULT {}", operand(default)));
            }
            Some(column)
        })
        .collect();
    let mut parts = columns?;
    parts.extend(metadata.keys.iter().map(|unique| key(metadata, unique)));
    Some(parts.join(", "))
}

fn key(metadata: &TableMetadata, key: &UniqueKey) -> String {
    let columns = metadata.columns_of(key);
    let named = match key.name == default_name(key.is_primary, &columns) {
        true => String::new(),
        false => format!("CONSTRAINT {} ", name(&key.name)),
    };
    let kind = match key.is_primary {
        true => "PRIMARY KEY",
        false => "UNIQUE",
    };
    let columns: Vec<String> = columns.into_iter().map(name).collect();
    format!("{named}{kind} ({})", columns.join(", "))
}

fn sort_column(column: &SortColumn) -> String {
    let direction = if column.descending { "DESC" } else { "ASC" };
    let nulls = if column.nulls_first { "FIRST" } else { "LAST" };
    format!("{} {direction} NULLS {nulls}", name(&column.name))
}

fn table(reference: &TableReference) -> String {
    let parts = [reference.catalog(), reference.schema()];
    let parts = parts.into_iter().flatten().chain([reference.table()]);
    parts.map(name).collect::<Vec<_>>().join(".")
}

/// An expression that can stand anywhere: in parentheses, unless it is read as one without them.
fn operand(sql: &str) -> String {
    let alone = match parsed(sql, |parser| parser.parse_expr()) {
        Some(Expr::Nested(_)) => true,
        Some(Expr::UnaryOp { expr, .. }) => matches!(*expr, Expr::Value(_)),
        Some(Expr::Value(_) | Expr::Function(_) | Expr::TypedString(_) | Expr::Cast { .. }) => {
            !sql.starts_with('(')
        }
        _ => false,
    };
    match alone {
        true => sql.to_owned(),
        false => format!("({sql})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_parentheses_unless_they_stand_alone() {
        for (sql, shown) in [
            ("7", "7"),
            ("-7", "-7"),
            ("'it''s'", "'it''s'"),
            ("now()", "now()"),
            ("CAST('x' AS VARCHAR)", "CAST('x' AS VARCHAR)"),
            ("(1 + 2)", "(1 + 2)"),
            ("1 + 2", "(1 + 2)"),
            ("(1 + 2) * 3", "((1 + 2) * 3)"),
            ("(1 + 2)::INT", "((1 + 2)::INT)"),
        ] {
            assert_eq!(operand(sql), shown);
        }
    }

    #[test]
    fn a_table_without_a_name_is_called_as_its_directory() {
        for (location, called) in [
            ("s3://bucket/lake/flights/", "flights"),
            ("data/t", "t"),
            ("/t/", "t"),
        ] {
            let Declared::External { name, .. } = Declared::at(location) else {
                continue;
            };
            assert_eq!(name.table(), called);
        }
    }
}
