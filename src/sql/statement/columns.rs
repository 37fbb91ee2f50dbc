//! Which of a table's columns a statement means, and values in their types.
//!
//! Owns what is decided by the table's columns and by plans alone, so that it holds for statements without text, too.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, Result, TableReference, internal_err};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection};

use crate::error::{Error, ErrorKind};

/// The new rows of an `UPDATE`, a projection, in the types of the table's columns.
///
/// # Errors
/// They are not in the place of the table's columns, or a value has no such type.
pub(crate) fn typed(schema: &SchemaRef, plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else {
        return internal_err!("the rows of an UPDATE are planned as {}", plan.display());
    };
    if schema.fields().len() != projection.expr.len() {
        return internal_err!("the rows of an UPDATE have not the columns of the table");
    }
    let input = projection.input;
    let exprs = projection
        .expr
        .into_iter()
        .zip(schema.fields())
        .map(|(expr, field)| {
            let mut value = expr.unalias();
            // A parameter is of the column's type, unless it has another one.
            if let Expr::Placeholder(parameter) = &mut value {
                parameter.field.get_or_insert_with(|| Arc::clone(field));
            }
            let value = value.cast_to(field.data_type(), input.schema())?;
            Ok(value.alias(field.name()))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, input)?))
}

/// The names of `rows`' columns, each of which is one of the table's. `rename` says how to give them others.
///
/// # Errors
/// One is not, or comes twice.
pub(crate) fn named(
    table: &TableReference,
    schema: &Schema,
    rows: &DFSchema,
    rename: &str,
) -> crate::error::Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    rows.fields()
        .iter()
        .map(|field| {
            let name = field.name();
            if schema.field_with_name(name).is_err() {
                let no = no_column(table, name);
                let why = format!("{}; {rename}", no.detail());
                return Err(Error::new(no.kind(), no.subject(), why));
            }
            match seen.insert(name.clone()) {
                true => Ok(name.clone()),
                false => Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("column {name}"),
                    format!("comes twice; {rename}"),
                )),
            }
        })
        .collect()
}

/// The columns that a table and the source of its `MERGE` have in common: their names, and what they are in the source.
///
/// # Errors
/// There is none, or the source has two of one name.
pub(crate) fn common(
    table: &TableReference,
    schema: &Schema,
    source: &DFSchema,
) -> crate::error::Result<Vec<(String, Column)>> {
    let mut common = Vec::new();
    for field in schema.fields() {
        let name = field.name();
        let mut found = source.iter().filter(|(_, f)| f.name() == name);
        let Some((qualifier, _)) = found.next() else {
            continue;
        };
        if found.next().is_some() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("column {name}"),
                "the source of the MERGE has two of this name; name the columns in the clause instead of all",
            ));
        }
        common.push((name.clone(), Column::new(qualifier.cloned(), name)));
    }
    match common.is_empty() {
        false => Ok(common),
        true => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("MERGE INTO {table}"),
            "the source has no column of the table's, so there is nothing to take from it; name the columns and \
             their values",
        )),
    }
}

/// A table has no such column.
pub(crate) fn no_column(table: &TableReference, column: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("column {column}"),
        format!("{table} has no column of this name"),
    )
}

/// Two assignments set one column.
pub(crate) fn set_twice(table: &TableReference, column: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("column {column}"),
        format!("is set twice in an UPDATE of {table}"),
    )
}
