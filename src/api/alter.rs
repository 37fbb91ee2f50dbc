//! `ALTER TABLE`, change by change.
//!
//! Owns the builder, and telling the changes in words. Does not own what a change does, nor the commit.

use std::fmt;

use arrow::datatypes::{DataType, Field};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;
use datafusion::sql::unparser::expr_to_sql;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::handle::Handle;
use super::report::AlterReport;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::alter::parse::{Alteration, ColumnType};
use crate::sql::alter::run::{change_of, commit};
use crate::table::evolution::{Change, ColumnPath};

/// Changes of a table's columns and properties, all of which come in one version, or none.
/// [`Supertable::alter`](crate::Supertable::alter) makes one.
///
/// Superfiles are not rewritten. Columns are named exactly; fields of structs are changed by SQL.
///
/// ```
/// # use datafusion::arrow::datatypes::{DataType, Field};
/// # use datafusion::prelude::*;
/// # use datafusion_supertable::{Result, Supertable};
/// # async fn example(table: Supertable) -> Result<()> {
/// table
///     .alter()
///     .add_column(Field::new("note", DataType::Utf8, true))
///     .add_column_with_default(Field::new("level", DataType::Int32, false), lit(1))
///     .rename_column("v", "value")
///     .drop_column("obsolete")
///     .set_property("supertable.auto_compact", "true")
///     .execute()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before execute() is awaited"]
pub struct AlterBuilder {
    handle: Handle,
    changes: Vec<DataFusionResult<Alteration>>,
    words: Vec<String>,
}

impl fmt::Debug for AlterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AlterBuilder").field(&self.words).finish()
    }
}

impl AlterBuilder {
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle,
            changes: Vec::new(),
            words: Vec::new(),
        }
    }

    /// Adds a column as the last one; rows that are there have NULL in it. One that may not be NULL can be added to an
    /// empty table only, or with a default.
    pub fn add_column(self, column: Field) -> Self {
        let words = format!("ADD COLUMN {} {}", column.name(), column.data_type());
        self.add(column, None, words)
    }

    /// Adds a column as the last one; rows that are there have the value that `default` has now, later ones that
    /// are inserted without a value the one that it has then.
    pub fn add_column_with_default(self, column: Field, default: Expr) -> Self {
        let (name, data_type) = (column.name(), column.data_type());
        let words = format!("ADD COLUMN {name} {data_type} DEFAULT {default}");
        self.add(column, Some(default), words)
    }

    fn add(self, column: Field, default: Option<Expr>, words: String) -> Self {
        let alteration = sql_of(default).map(|default| Alteration::Add {
            path: path(column.name()),
            data_type: ColumnType::Arrow(column.data_type().clone()),
            nullable: column.is_nullable(),
            default,
            position: None,
            if_not_exists: false,
        });
        self.with(alteration, words)
    }

    /// Drops a column. Earlier versions still have it.
    pub fn drop_column(self, column: impl AsRef<str>) -> Self {
        let column = column.as_ref();
        let alteration = Alteration::Drop {
            path: path(column),
            if_exists: false,
        };
        self.with(Ok(alteration), format!("DROP COLUMN {column}"))
    }

    /// Gives a column another name.
    pub fn rename_column(self, from: impl AsRef<str>, to: impl Into<String>) -> Self {
        let (from, to) = (from.as_ref(), to.into());
        let words = format!("RENAME COLUMN {from} TO {to}");
        let alteration = Alteration::Rename {
            path: path(from),
            to,
        };
        self.with(Ok(alteration), words)
    }

    /// Gives a column a type that holds every value of the one that it has, as `Int64` does of `Int32`.
    pub fn widen_column(self, column: impl AsRef<str>, to: DataType) -> Self {
        let column = column.as_ref();
        let words = format!("ALTER COLUMN {column} TYPE {to}");
        let alteration = Alteration::Type {
            path: path(column),
            data_type: ColumnType::Arrow(to),
        };
        self.with(Ok(alteration), words)
    }

    /// Lets a column be NULL.
    pub fn drop_not_null(self, column: impl AsRef<str>) -> Self {
        let column = column.as_ref();
        let alteration = Alteration::DropNotNull { path: path(column) };
        let words = format!("ALTER COLUMN {column} DROP NOT NULL");
        self.with(Ok(alteration), words)
    }

    /// Makes a column `NOT NULL`, if no row is NULL in it.
    pub fn set_not_null(self, column: impl AsRef<str>) -> Self {
        let column = column.as_ref();
        let alteration = Alteration::SetNotNull { path: path(column) };
        let words = format!("ALTER COLUMN {column} SET NOT NULL");
        self.with(Ok(alteration), words)
    }

    /// Declares the primary key, if no two rows have the same values in these columns and none is NULL there; they become
    /// `NOT NULL`.
    pub fn add_primary_key<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        self.key(None, true, columns.into_iter().map(Into::into).collect())
    }

    /// Declares a key, if no two rows have the same values in these columns; rows that are NULL in one of them count as
    /// different.
    pub fn add_unique<C: Into<String>>(
        self,
        name: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        self.key(Some(name.into()), false, columns)
    }

    fn key(self, name: Option<String>, is_primary: bool, columns: Vec<String>) -> Self {
        let words = match &name {
            Some(name) => format!("ADD CONSTRAINT {name} UNIQUE ({})", columns.join(", ")),
            None => format!("ADD PRIMARY KEY ({})", columns.join(", ")),
        };
        let alteration = Alteration::AddKey {
            name,
            is_primary,
            columns,
        };
        self.with(Ok(alteration), words)
    }

    /// Adds a condition that must not be false for any row. Those that are there are read. Functions that it calls must be
    /// known to every session that opens the table.
    pub fn add_check(self, name: impl Into<String>, condition: Expr) -> Self {
        let name = name.into();
        let words = format!("ADD CONSTRAINT {name} CHECK ({condition})");
        let alteration = expr_to_sql(&condition).map(|condition| Alteration::AddCheck {
            name: Some(name),
            condition,
        });
        self.with(alteration, words)
    }

    /// Drops a declared key or a check. The primary key is called `primary_key` where it was given no other name.
    pub fn drop_constraint(self, name: impl Into<String>) -> Self {
        let name = name.into();
        let words = format!("DROP CONSTRAINT {name}");
        let alteration = Alteration::DropConstraint {
            name: Some(name),
            if_exists: false,
        };
        self.with(Ok(alteration), words)
    }

    /// Sets what a column gets where a new row has no value for it; `None`: NULL.
    pub fn column_default(self, column: impl AsRef<str>, default: impl Into<Option<Expr>>) -> Self {
        let (column, default) = (column.as_ref(), default.into());
        let words = match &default {
            Some(default) => format!("ALTER COLUMN {column} SET DEFAULT {default}"),
            None => format!("ALTER COLUMN {column} DROP DEFAULT"),
        };
        let alteration = sql_of(default).map(|default| Alteration::Default {
            path: path(column),
            default,
        });
        self.with(alteration, words)
    }

    /// Sets an [option of the table](crate::guide::options), by its full name.
    pub fn set_property(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.property(key.into(), Some(value.into()))
    }

    /// Takes an option of the table back.
    pub fn unset_property(self, key: impl Into<String>) -> Self {
        self.property(key.into(), None)
    }

    fn property(self, key: String, value: Option<String>) -> Self {
        let words = match &value {
            Some(value) => format!("SET ('{key}' = '{value}')"),
            None => format!("UNSET ('{key}')"),
        };
        self.with(Ok(Alteration::Property { key, value }), words)
    }

    fn with(mut self, alteration: DataFusionResult<Alteration>, words: String) -> Self {
        self.changes.push(alteration);
        self.words.push(words);
        self
    }

    /// Commits the changes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if a name is missing or taken, or an option is none;
    /// [`ErrorKind::Unsupported`] for a change that rows or other parts of the table stand against;
    /// [`ErrorKind::Constraint`] if rows that are there would have no value, [`ErrorKind::DuplicateKey`] if two of them
    /// have one key. Nothing is changed then. Those of every
    /// change, as [`Supertable`](crate::Supertable#errors) lists them.
    pub fn execute(self) -> BoxFuture<'static, Result<AlterReport>> {
        async move {
            let changes = self.prepared().await?;
            let statement = format!("ALTER TABLE {}", self.words.join(", "));
            let state = self.handle.state();
            let access = self.handle.provider().access();
            let name = self.handle.location();
            let done = commit(&state, access, name, &changes, &statement).await?;
            Ok(AlterReport {
                version: done.version,
                columns: done.columns,
            })
        }
        .boxed()
    }

    async fn prepared(&self) -> Result<Vec<Change>> {
        self.handle.check_writable("ALTER TABLE")?;
        let state = self.handle.state();
        let mut changes = Vec::with_capacity(self.changes.len());
        for (change, words) in self.changes.iter().zip(&self.words) {
            let change = change.as_ref().map_err(|error| {
                let why =
                    format!("the default cannot be kept as SQL; use a simpler expression: {error}");
                Error::new(ErrorKind::Unsupported, words, why)
            })?;
            changes.push(change_of(&state, change.clone()).await?);
        }
        Ok(changes)
    }
}

fn path(column: &str) -> ColumnPath {
    ColumnPath(vec![column.to_owned()])
}

fn sql_of(expr: Option<Expr>) -> DataFusionResult<Option<SqlExpr>> {
    expr.as_ref().map(expr_to_sql).transpose()
}
