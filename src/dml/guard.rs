//! Predicates that the engine is known to evaluate wrongly, refused where they would change rows.
//!
//! Owns the list, which is about DataFusion 55.2: `x NOT IN (SELECT y …)` is unknown, not true, as soon
//! as `x` or a `y` is NULL. The engine knows that only where the condition stands by itself, joined to
//! others by AND, and `x` depends on the row; elsewhere NULLs are overlooked and the condition counts
//! as true (`WHERE a NOT IN (SELECT …) OR b = 1`, `WHERE 5 NOT IN (SELECT …)`). A `SELECT` shows
//! too many rows then; a `DELETE` would delete them.
//!
//! Invariant: what passes is either evaluated rightly, or has no NULL to overlook.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, JoinType, LogicalPlan, Operator};

use crate::error::{Error, ErrorKind};

/// Checks a plan whose rows are to be changed, subqueries included.
pub(crate) fn refuse_misjudged(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Filter(filter) => {
                for condition in split_conjunction(&filter.predicate) {
                    check_condition(condition, &filter.input)?;
                }
            }
            // An optimised prepared statement: its subqueries are joins already.
            LogicalPlan::Join(join) => {
                let misjudged = match join.join_type {
                    JoinType::LeftMark | JoinType::RightMark => true,
                    JoinType::LeftAnti | JoinType::RightAnti => {
                        join.null_aware && join.on.is_empty()
                    }
                    _ => false,
                };
                if misjudged {
                    return Err(refused(
                        "a subquery of a prepared statement, under OR or with a \
                                        constant before NOT IN,",
                    ));
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn refused(what: &str) -> datafusion::error::DataFusionError {
    Error::new(
        ErrorKind::Unsupported,
        "NOT IN",
        format!(
            "{what} may overlook NULLs in DataFusion 55, and rows would be changed that the \
             statement does not name; use NOT EXISTS (SELECT … WHERE y = x), or let the condition \
             stand by itself, joined to others by AND"
        ),
    )
    .into()
}

/// Checks one of the conditions that a filter joins by AND.
fn check_condition(condition: &Expr, input: &LogicalPlan) -> Result<()> {
    match condition {
        Expr::InSubquery(subquery) if subquery.negated => alone(subquery, input),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(subquery) if !subquery.negated => alone(subquery, input),
            other => check_part(other, input, false),
        },
        other => check_part(other, input, true),
    }
}

/// `x NOT IN (…)` by itself: right, if `x` depends on the row.
fn alone(subquery: &InSubquery, input: &LogicalPlan) -> Result<()> {
    if !subquery.expr.column_refs().is_empty() || !nulls(subquery, input)? {
        return Ok(());
    }
    Err(refused("NOT IN after a constant"))
}

/// Part of a condition. Under nothing but AND and OR (`plain`) a false IN is as good as an unknown one.
fn check_part(part: &Expr, input: &LogicalPlan, plain: bool) -> Result<()> {
    match part {
        Expr::InSubquery(subquery) => {
            match (plain && !subquery.negated) || !nulls(subquery, input)? {
                true => Ok(()),
                false => Err(refused("NOT IN under OR, NOT or another expression")),
            }
        }
        Expr::BinaryExpr(b) if matches!(b.op, Operator::And | Operator::Or) => {
            check_part(&b.left, input, plain)?;
            check_part(&b.right, input, plain)
        }
        other => {
            other.apply_children(|child| {
                check_part(child, input, false)?;
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(())
        }
    }
}

/// Whether there may be a NULL on either side.
fn nulls(subquery: &InSubquery, input: &LogicalPlan) -> Result<bool> {
    let listed = subquery.subquery.subquery.schema();
    let in_list = listed.fields().iter().any(|field| field.is_nullable());
    // What refers to an outer query cannot be told from here.
    Ok(in_list || subquery.expr.nullable(input.schema()).unwrap_or(true))
}
