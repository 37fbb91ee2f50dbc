//! Which subqueries are left to DataFusion.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, Result};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::references::{free_references, subquery_of};
use super::settings::Settings;

/// Whether a node's own expressions have a subquery that the engine is not trusted with.
pub(super) fn concerns(plan: &LogicalPlan, config: &Settings<'_>) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        let is_filter = matches!(plan, LogicalPlan::Filter(_));
        let conjuncts = match is_filter {
            true => split_conjunction_owned(expr.clone()),
            false => vec![expr.clone()],
        };
        for part in conjuncts {
            found |= has_untrusted(&part, config)? && !(is_filter && trusted(&part)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Whether `expr` has a subquery that is not simply evaluated once.
pub(super) fn has_untrusted(expr: &Expr, config: &Settings<'_>) -> Result<bool> {
    expr.exists(|part| {
        Ok(match part {
            Expr::ScalarSubquery(subquery) => !is_left_alone(subquery, config)?,
            other => subquery_of(other).is_some(),
        })
    })
}

/// Whether the engine evaluates a scalar subquery by itself, once.
pub(super) fn is_left_alone(subquery: &Subquery, config: &Settings<'_>) -> Result<bool> {
    let once = config
        .get()
        .optimizer
        .enable_physical_uncorrelated_scalar_subquery;
    Ok(once && free_references(&subquery.subquery)?.is_empty())
}

/// Whether DataFusion 55 evaluates a conjunct of a filter with a subquery rightly, by a join of its own.
///
/// | form | condition |
/// | --- | --- |
/// | `[NOT] EXISTS (q)` | `q` refers to the outer row, in filters only, and is made of scans, filters, projections, inner joins, where no two columns have one name |
/// | `x IN (q)` | `q` is no VALUES, and does not refer to the outer row, or is as above |
/// | `x NOT IN (q)` | `q` is no VALUES and does not refer to the outer row, and `x` does |
pub(super) fn trusted(conjunct: &Expr) -> Result<bool> {
    let (inner, not) = match conjunct {
        Expr::Not(inner) => (inner.as_ref(), true),
        other => (other, false),
    };
    Ok(match inner {
        Expr::Exists(exists) => is_plain(&exists.subquery.subquery)?,
        Expr::InSubquery(within) if has_subquery(&within.expr)? => false,
        // The engine compares with an expression, which VALUES has not.
        Expr::InSubquery(within) if within.subquery.subquery.head_output_expr()?.is_none() => false,
        Expr::InSubquery(within) => {
            let query = &within.subquery.subquery;
            let alone = free_references(query)?.is_empty();
            match within.negated != not {
                true => alone && !within.expr.column_refs().is_empty(),
                false => alone || is_plain(query)?,
            }
        }
        _ => false,
    })
}

fn has_subquery(expr: &Expr) -> Result<bool> {
    expr.exists(|part| Ok(subquery_of(part).is_some()))
}

/// Whether a correlated subquery has nothing but filters between its rows and those of its tables.
fn is_plain(plan: &LogicalPlan) -> Result<bool> {
    if free_references(plan)?.is_empty() {
        return Ok(false);
    }
    let mut plain = true;
    plan.apply(|node| {
        plain &= match node {
            LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) => true,
            LogicalPlan::Filter(filter) => !has_subquery(&filter.predicate)?,
            LogicalPlan::Projection(projection) => {
                let mut simple = !node.contains_outer_reference();
                for expr in &projection.expr {
                    simple &= !has_subquery(expr)? && keeps_names(expr, projection.input.schema());
                }
                simple
            }
            LogicalPlan::Join(join) => {
                join.join_type == JoinType::Inner
                    && !node.contains_outer_reference()
                    && join.left.schema().fields().iter().all(|field| {
                        let other = join.right.schema();
                        !other.has_column_with_unqualified_name(field.name())
                    })
            }
            _ => false,
        };
        Ok(match plain {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    })?;
    Ok(plain)
}

/// Whether an output column has no name of another input column. The engine's join knows the columns of a subquery by
/// their names alone: of two with one name it takes either.
fn keeps_names(expr: &Expr, input: &DFSchema) -> bool {
    match expr {
        Expr::Column(_) => true,
        other => !input.has_column_with_unqualified_name(&other.qualified_name().1),
    }
}
