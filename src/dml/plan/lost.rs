//! What a statement says and its plan would lose: refused before anything happens.
//!
//! Owns two refusals. A clause of a `MERGE` that applies where the source (or the target) has no row, and
//! names a column of it: the engine has NULL there. And a value with fields of a struct that the column does
//! not have: a cast from one struct to another goes by the names of the fields, and leaves the others out.
//!
//! In a prepared statement, whose plan was simplified before this crate sees it, literals have lost their fields
//! already.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::logical_expr::dml::{MergeIntoAction, MergeIntoClauseKind, MergeIntoOp};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan};

use crate::error::{Error, ErrorKind};

/// Refuses clauses of a `MERGE` that name columns of the side that has no row where they apply.
pub(crate) fn refuse_absent(
    table: &TableReference,
    source: &DFSchema,
    merge: &MergeIntoOp,
) -> Result<()> {
    for clause in &merge.clauses {
        let (when, absent) = match clause.kind.canonical() {
            MergeIntoClauseKind::Matched => continue,
            MergeIntoClauseKind::NotMatchedBySource => ("WHEN NOT MATCHED BY SOURCE", "source"),
            _ => ("WHEN NOT MATCHED", "target"),
        };
        let values: Vec<&Expr> = match &clause.action {
            MergeIntoAction::Update(assignments) => assignments.iter().map(|(_, v)| v).collect(),
            MergeIntoAction::Insert { values, .. } => values.iter().collect(),
            MergeIntoAction::Delete => Vec::new(),
        };
        for expr in clause.predicate.iter().chain(values) {
            let named = columns(expr)?.into_iter().find(|column| {
                let of_target = column.relation.as_ref() == Some(table);
                match absent {
                    "target" => of_target,
                    _ => !of_target && source.has_column(column),
                }
            });
            if let Some(column) = named {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{when} of MERGE INTO {table}"),
                    format!(
                        "names {column}, a column of the {absent}, where there is no row of the {absent}; \
                         use columns of the other side, or a subquery"
                    ),
                )
                .into());
            }
        }
    }
    Ok(())
}

/// The columns that `expr` depends on, also those that its subqueries take from outside.
fn columns(expr: &Expr) -> Result<BTreeSet<Column>> {
    let mut found = BTreeSet::new();
    expr.apply(|part| {
        let outer = match part {
            Expr::Column(column) => {
                found.insert(column.clone());
                return Ok(TreeNodeRecursion::Continue);
            }
            Expr::ScalarSubquery(subquery) => &subquery.outer_ref_columns,
            Expr::Exists(exists) => &exists.subquery.outer_ref_columns,
            Expr::InSubquery(subquery) => &subquery.subquery.outer_ref_columns,
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        for part in outer {
            if let Expr::OuterReferenceColumn(_, column) = part {
                found.insert(column.clone());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Refuses values of a `MERGE` that have fields which the table's columns do not have; `joined` is what they
/// are over.
pub(crate) fn refuse_lost_in_merge(
    merge: &MergeIntoOp,
    joined: &DFSchema,
    table: &Schema,
) -> Result<()> {
    for clause in &merge.clauses {
        match &clause.action {
            MergeIntoAction::Delete => {}
            MergeIntoAction::Update(assignments) => {
                for (name, value) in assignments {
                    if let Ok(field) = table.field_with_name(name) {
                        refuse_lost_as(name, value, joined, field)?;
                    }
                }
            }
            MergeIntoAction::Insert { columns, values } => {
                for (i, value) in values.iter().enumerate() {
                    let name = match columns.is_empty() {
                        true => table.fields().get(i).map(|f| f.name()),
                        false => columns.get(i),
                    };
                    if let Some(field) = name.and_then(|name| table.field_with_name(name).ok()) {
                        refuse_lost_as(field.name(), value, joined, field)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// A value that is yet to be made fit for its column, unless it was already.
fn refuse_lost_as(column: &str, value: &Expr, input: &DFSchema, field: &Field) -> Result<()> {
    refuse_lost_by(column, value, input)?;
    refuse_lost(column, &value.get_type(input)?, field.data_type())
}

/// Refuses rows for a table, as `INSERT` and `UPDATE` plan them, whose values were made fit for its columns by
/// leaving out fields.
pub(crate) fn refuse_lost_fields(rows: &LogicalPlan) -> Result<()> {
    let mut node = rows;
    loop {
        match node {
            LogicalPlan::Projection(projection) => {
                for (expr, field) in projection.expr.iter().zip(projection.schema.fields()) {
                    let input = projection.input.schema();
                    refuse_lost_by(field.name(), expr, input)?;
                }
            }
            LogicalPlan::Values(values) => {
                let nothing = DFSchema::empty();
                for row in &values.values {
                    for (expr, field) in row.iter().zip(values.schema.fields()) {
                        refuse_lost_by(field.name(), expr, &nothing)?;
                    }
                }
                return Ok(());
            }
            LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Filter(_) => {}
            _ => return Ok(()),
        }
        match node.inputs().first() {
            Some(next) => node = next,
            None => return Ok(()),
        }
    }
}

/// `expr` is a column's value; if it is a cast, that may have been made to fit it.
fn refuse_lost_by(column: &str, expr: &Expr, input: &DFSchema) -> Result<()> {
    match expr {
        Expr::Alias(alias) => refuse_lost_by(column, &alias.expr, input),
        Expr::Cast(Cast { expr, field }) if field.data_type().is_nested() => {
            refuse_lost(column, &expr.get_type(input)?, field.data_type())
        }
        _ => Ok(()),
    }
}

fn refuse_lost(column: &str, from: &DataType, to: &DataType) -> Result<()> {
    let Some(field) = lost(from, to) else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!("column {column}"),
        format!(
            "the value has a field {field} that the column does not have, and that would be lost; leave it out, or \
             ALTER TABLE … ADD COLUMN {column}.{field} first"
        ),
    )
    .into())
}

/// The first field of a struct in `from` that a cast to `to` leaves out.
fn lost(from: &DataType, to: &DataType) -> Option<String> {
    use DataType as T;
    let inner = |a: &FieldRef, b: &FieldRef| lost(a.data_type(), b.data_type());
    match (from, to) {
        (T::Struct(from), T::Struct(to)) => {
            from.iter().find_map(|field| match to.find(field.name()) {
                None => Some(field.name().clone()),
                Some((_, kept)) => {
                    inner(field, kept).map(|below| format!("{}.{below}", field.name()))
                }
            })
        }
        (
            T::List(a)
            | T::LargeList(a)
            | T::ListView(a)
            | T::LargeListView(a)
            | T::FixedSizeList(a, _),
            T::List(b)
            | T::LargeList(b)
            | T::ListView(b)
            | T::LargeListView(b)
            | T::FixedSizeList(b, _),
        ) => inner(a, b),
        // Keys and values go by their places.
        (T::Map(a, _), T::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (T::Struct(a), T::Struct(b)) => a.iter().zip(b).find_map(|(a, b)| inner(a, b)),
            _ => None,
        },
        _ => None,
    }
}
