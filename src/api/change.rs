//! `DELETE`, `UPDATE`, `INSERT` and `TRUNCATE`, from expressions and rows to the plans that SQL makes of its text.
//!
//! Owns those plans. Does not own what becomes of them: the planning rule rewrites them as it does SQL's.

use std::collections::BTreeMap;

use datafusion::catalog::TableProvider;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, WriteOp, lit,
};
use datafusion::scalar::ScalarValue;
use futures::future::BoxFuture;

use super::handle::{Handle, Target};
use super::report::ChangeReport;
use super::rows::RowSource;
use crate::dml::plan::names::with_names_as_meant;
use crate::error::{Error, ErrorKind};
use crate::sql::statement::{named, no_column, set_twice, typed};

type Report = BoxFuture<'static, crate::error::Result<ChangeReport>>;

/// Deletes the rows for which `predicate` is true.
pub(super) fn delete(handle: &Handle, predicate: Expr) -> Report {
    handle.change("DELETE FROM", move |target| {
        let rows = target.rows()?.filter(predicate)?.build()?;
        Ok(target.changed(target.name().clone(), WriteOp::Delete, rows))
    })
}

/// Sets columns of the rows for which `predicate` is true.
pub(super) fn update(
    handle: &Handle,
    assignments: Vec<(String, Expr)>,
    predicate: Option<Expr>,
) -> Report {
    handle.change("UPDATE", move |target| {
        let mut rows = target.rows()?;
        if let Some(predicate) = predicate {
            rows = rows.filter(predicate)?;
        }
        let mut assigned = assigned(target, assignments)?;
        let schema = target.schema();
        let values = schema.fields().iter().map(|field| {
            let own = || Expr::Column(Column::new(Some(target.name().clone()), field.name()));
            let value = assigned.remove(field.name()).unwrap_or_else(own);
            value.alias(field.name())
        });
        let rows = typed(&schema, rows.project(values.collect::<Vec<_>>())?.build()?)?;
        // Names here are exact: no other column can be meant.
        with_names_as_meant(target.changed(target.name().clone(), WriteOp::Update, rows))
    })
}

/// The assignments by the columns that they set.
pub(super) fn assigned(
    target: &Target<'_>,
    assignments: Vec<(String, Expr)>,
) -> Result<BTreeMap<String, Expr>> {
    if assignments.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            target.name().to_string(),
            "no column is given a value; name at least one",
        )
        .into());
    }
    let schema = target.schema();
    let mut assigned = BTreeMap::new();
    for (column, value) in assignments {
        if schema.field_with_name(&column).is_err() {
            return Err(no_column(target.name(), &column).into());
        }
        if assigned.insert(column.clone(), value).is_some() {
            return Err(set_twice(target.name(), &column).into());
        }
    }
    Ok(assigned)
}

/// Adds rows, or puts them in the place of all rows.
pub(super) fn insert(handle: &Handle, rows: RowSource, op: InsertOp) -> Report {
    let what = match op {
        InsertOp::Overwrite => "INSERT OVERWRITE",
        _ => "INSERT INTO",
    };
    handle.change(what, move |target| {
        let rows = in_table_order(target, rows.plan(&target.schema())?)?;
        Ok(target.changed(target.name().clone(), WriteOp::Insert(op), rows))
    })
}

/// `rows` with the table's columns, by their names; a column that they do not have gets its default, or NULL.
fn in_table_order(target: &Target<'_>, rows: LogicalPlan) -> Result<LogicalPlan> {
    let (schema, given) = (target.schema(), rows.schema());
    let names = named(
        target.name(),
        &schema,
        given,
        "give the rows' columns the names of the table's",
    )?;
    let columns = given.columns();
    let values = schema.fields().iter().map(|field| {
        let at = names.iter().position(|name| name == field.name());
        let value = match at.and_then(|at| columns.get(at)) {
            Some(column) => Expr::Column(column.clone()).cast_to(field.data_type(), given)?,
            None => (target.provider().get_column_default(field.name()).cloned())
                .unwrap_or_else(|| lit(ScalarValue::Null))
                .cast_to(field.data_type(), &DFSchema::empty())?,
        };
        Ok(value.alias(field.name()))
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::from(rows).project(values)?.build()
}

/// Removes all rows.
pub(super) fn truncate(handle: &Handle) -> Report {
    handle.change("TRUNCATE", |target| {
        let nothing = LogicalPlanBuilder::empty(false).build()?;
        Ok(target.changed(target.name().clone(), WriteOp::Truncate, nothing))
    })
}
