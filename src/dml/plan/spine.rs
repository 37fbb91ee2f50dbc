//! From a statement's plan down to its target: the plan that also yields where each row is.
//!
//! Owns the rewrite of the left spine, from the statement down to the target's scan. A subquery over the same table is
//! either still inside an expression or a right input, and keeps its own scan.
//!
//! Invariant: a plan shape that is not understood is refused.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, not_impl_err, plan_err};
use datafusion::datasource::{TableProvider, provider_as_source};
use datafusion::logical_expr::{
    EmptyRelation, Expr, LogicalPlan, Projection, TableScan, TableScanBuilder, lit,
};
use datafusion::scalar::ScalarValue;

use crate::dml::plan::pins::supertable;
use crate::dml::provider::{PinnedProvider, SupertableProvider};
use crate::scan::row_address::{ADDRESS_FILE, ADDRESS_POSITION, ROW_ID, ROW_ID_TYPE};

/// The predicate, over unqualified columns, of a plan that is nothing but a filtered scan.
pub(super) fn whole_predicate(plan: &LogicalPlan) -> Result<Option<Expr>> {
    let (predicates, below) = match plan {
        LogicalPlan::Filter(filter) => (vec![filter.predicate.clone()], Some(&filter.input)),
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => (scan.filters.clone(), None),
        // The target under another name.
        LogicalPlan::SubqueryAlias(alias) => (vec![], Some(&alias.input)),
        _ => return Ok(None),
    };
    let below = match below {
        None => lit(true),
        Some(below) => match whole_predicate(below)? {
            Some(below) => below,
            None => return Ok(None),
        },
    };
    let mut whole = below;
    for predicate in predicates {
        let bare = predicate.transform_up(|e| match e {
            Expr::Column(c) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(
                c.name,
            )))),
            other => Ok(Transformed::no(other)),
        })?;
        whole = whole.and(bare.data);
    }
    Ok(Some(whole))
}

/// Rewrites the left spine of `plan` so that its rows carry `_id` and their address.
pub(super) fn address_spine(plan: LogicalPlan, target: &PinnedProvider) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::TableScan(scan) => address_scan(scan, target),
        // An optimised prepared statement whose predicate is false: no row is addressed.
        LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => address_nothing(empty),
        LogicalPlan::Projection(projection) => {
            let input = address_spine(Arc::unwrap_or_clone(projection.input), target)?;
            let mut exprs = projection.expr;
            exprs.extend(address_columns(&input)?);
            Ok(LogicalPlan::Projection(Projection::try_new(
                exprs,
                Arc::new(input),
            )?))
        }
        LogicalPlan::Filter(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Join(_) => {
            let exprs = plan.expressions();
            let mut inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
            let Some(left) = inputs.first_mut() else {
                return plan_err!("{} has no input", plan.display());
            };
            *left = address_spine(left.clone(), target)?;
            plan.with_new_exprs(exprs, inputs)
        }
        other => not_impl_err!(
            "a DELETE or UPDATE whose plan contains {} is not supported; rewrite its predicate",
            other.display()
        ),
    }
}

fn address_scan(scan: TableScan, target: &PinnedProvider) -> Result<LogicalPlan> {
    let Some(found) = supertable(&scan.source) else {
        return plan_err!(
            "the statement's target {} is not a supertable",
            scan.table_name
        );
    };
    if !found.table().is_same(target.base().table()) {
        return plan_err!(
            "{} stands where the statement's target was expected",
            scan.table_name
        );
    }
    let visible = found.schema().fields().len();
    let hidden = target.schema().fields().len();
    let projection = scan.projection.map(|mut columns| {
        columns.extend(visible..hidden);
        columns
    });
    Ok(LogicalPlan::TableScan(
        TableScanBuilder::new(
            scan.table_name,
            provider_as_source(Arc::new(target.clone())),
        )
        .with_projection(projection)
        .with_filters(scan.filters)
        .with_fetch(scan.fetch)
        .build()?,
    ))
}

fn address_nothing(empty: EmptyRelation) -> Result<LogicalPlan> {
    let mut exprs: Vec<Expr> = empty
        .schema
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    exprs.extend([
        lit(ScalarValue::try_from(&ROW_ID_TYPE)?).alias(ROW_ID),
        lit(ScalarValue::Int32(None)).alias(ADDRESS_FILE),
        lit(ScalarValue::Int64(None)).alias(ADDRESS_POSITION),
    ]);
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(LogicalPlan::EmptyRelation(empty)),
    )?))
}

/// References to `_id` and the address columns of `plan`'s output.
fn address_columns(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    [ROW_ID, ADDRESS_FILE, ADDRESS_POSITION]
        .into_iter()
        .map(|name| {
            let found: Vec<Column> = plan
                .schema()
                .columns()
                .into_iter()
                .filter(|c| c.name == name)
                .collect();
            match <[Column; 1]>::try_from(found) {
                Ok([column]) => Ok(Expr::Column(column)),
                Err(found) => plan_err!(
                    "the statement's plan has {} columns {name} instead of one",
                    found.len()
                ),
            }
        })
        .collect()
}

/// The address alone.
pub(super) fn only_address(plan: LogicalPlan) -> Result<LogicalPlan> {
    let exprs = address_columns(&plan)?
        .into_iter()
        .skip(1)
        .zip([ADDRESS_FILE, ADDRESS_POSITION])
        .map(|(e, name)| e.alias(name))
        .collect();
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(plan),
    )?))
}

/// The table's columns in table order, then `_id`, then the address.
pub(super) fn columns_then_address(
    plan: LogicalPlan,
    table: &SupertableProvider,
) -> Result<LogicalPlan> {
    let schema = table.schema();
    let produced = plan.schema().columns();
    let mut exprs = Vec::with_capacity(schema.fields().len() + 3);
    for (i, field) in schema.fields().iter().enumerate() {
        match produced.get(i) {
            Some(column) if column.name == *field.name() => {
                exprs.push(Expr::Column(column.clone()).alias(field.name()));
            }
            _ => {
                return plan_err!(
                    "the statement's plan does not yield the column {} in its place",
                    field.name()
                );
            }
        }
    }
    for (expr, name) in
        address_columns(&plan)?
            .into_iter()
            .zip([ROW_ID, ADDRESS_FILE, ADDRESS_POSITION])
    {
        exprs.push(expr.alias(name));
    }
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(plan),
    )?))
}
