//! References of a subquery to the query around it.
//!
//! Owns finding and renaming them, through subqueries of subqueries. A name means the innermost plan that has it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::key::{domain_field, outer_value};

/// `plan`, a subquery, with its outer references renamed.
pub(super) fn rebind(
    plan: LogicalPlan,
    rename: &dyn Fn(&Column) -> Option<Column>,
) -> Result<LogicalPlan> {
    let plan = plan
        .map_children(|child| Ok(Transformed::yes(rebind(child, rename)?)))?
        .data;
    let schema = input_schema(&plan)?;
    Ok(plan
        .map_expressions(|expr| {
            let before = expr.clone();
            let renamed = expr.transform_down(|part| match part {
                Expr::OuterReferenceColumn(field, column) => Ok(match rename(&column) {
                    Some(key) => {
                        let key = Expr::OuterReferenceColumn(domain_field(&field), key);
                        let value = outer_value(key, field.data_type());
                        Transformed::new(value, true, TreeNodeRecursion::Jump)
                    }
                    None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
                }),
                other => map_subquery(other, |inner| {
                    rebind(inner, &|column| match schema.has_column(column) {
                        true => None,
                        false => rename(column),
                    })
                }),
            })?;
            Ok(match renamed.transformed {
                true => Transformed::yes(as_named_before(&before, renamed.data)),
                false => renamed,
            })
        })?
        .data)
}

/// A subquery expression with another plan; anything else as it is.
pub(super) fn map_subquery(
    expr: Expr,
    change: impl FnOnce(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<Transformed<Expr>> {
    let changed = |subquery: Subquery| -> Result<Subquery> {
        let plan = change(Arc::unwrap_or_clone(subquery.subquery))?;
        Ok(Subquery {
            outer_ref_columns: plan.all_out_ref_exprs(),
            subquery: Arc::new(plan),
            spans: subquery.spans,
        })
    };
    Ok(match expr {
        Expr::ScalarSubquery(subquery) => {
            Transformed::yes(Expr::ScalarSubquery(changed(subquery)?))
        }
        Expr::Exists(Exists { subquery, negated }) => Transformed::yes(Expr::Exists(Exists {
            subquery: changed(subquery)?,
            negated,
        })),
        Expr::InSubquery(InSubquery {
            expr,
            subquery,
            negated,
        }) => Transformed::yes(Expr::InSubquery(InSubquery {
            expr,
            subquery: changed(subquery)?,
            negated,
        })),
        Expr::SetComparison(comparison) => Transformed::yes(Expr::SetComparison(SetComparison {
            subquery: changed(comparison.subquery)?,
            ..comparison
        })),
        other => Transformed::no(other),
    })
}

/// The plan of a subquery expression.
pub(super) fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery)
        | Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. }) => Some(subquery),
        _ => None,
    }
}

/// The outer columns that `plan` refers to, its own subqueries' included, each once.
pub(super) fn free_references(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut free = Vec::new();
    collect_free(plan, &mut free)?;
    Ok(free)
}

fn collect_free(plan: &LogicalPlan, free: &mut Vec<Column>) -> Result<()> {
    let schema = input_schema(plan)?;
    plan.apply_expressions(|expr| {
        expr.apply(|part| {
            if let Expr::OuterReferenceColumn(_, column) = part
                && !free.contains(column)
            {
                free.push(column.clone());
            }
            if let Some(subquery) = subquery_of(part) {
                for column in free_references(&subquery.subquery)? {
                    if !schema.has_column(&column) && !free.contains(&column) {
                        free.push(column);
                    }
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    for child in plan.inputs() {
        collect_free(child, free)?;
    }
    Ok(())
}

/// The columns that the expressions of a node are over.
pub(super) fn input_schema(plan: &LogicalPlan) -> Result<DFSchema> {
    let mut inputs = plan.inputs().into_iter();
    let Some(first) = inputs.next() else {
        return Ok(plan.schema().as_ref().clone());
    };
    let mut schema = first.schema().as_ref().clone();
    for input in inputs {
        schema.merge(input.schema());
    }
    Ok(schema)
}

/// References to all columns of a plan.
pub(super) fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect()
}

/// `after`, under the name by which other nodes know `before`.
pub(super) fn as_named_before(before: &Expr, after: Expr) -> Expr {
    let (relation, name) = before.qualified_name();
    match after.qualified_name() == (relation.clone(), name.clone()) {
        true => after,
        false => match after {
            Expr::GroupingSet(_) => after,
            other => other.alias_qualified(relation, name),
        },
    }
}
