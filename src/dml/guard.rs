//! Predicates that the engine is known to evaluate wrongly, refused where they would change rows.
//!
//! Owns the list, which is about DataFusion 55.2: `x NOT IN (SELECT y …)` is unknown, not true, as soon
//! as `x` or a `y` is NULL. The engine knows that only where the condition stands by itself, joined to
//! others by AND, and `x` depends on the row; elsewhere NULLs are overlooked and the condition counts
//! as true (`WHERE a NOT IN (SELECT …) OR b = 1`, `WHERE 5 NOT IN (SELECT …)`). A `SELECT` shows
//! too many rows then; a `DELETE` would delete them.
//!
//! And it joins lists on one operand as if that could not be NULL: `a NOT IN (1) OR a NOT IN (2)` becomes
//! true, `a IN (1) AND a IN (2)` false, which matters under NOT. (In a prepared statement that has
//! happened before anybody else sees the plan.)
//!
//! Invariant: what passes is either evaluated rightly, or has no NULL to overlook.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, JoinType, LogicalPlan, Operator};

use crate::error::{Error, ErrorKind};

/// Checks a plan whose rows are to be changed, subqueries included.
pub(crate) fn refuse_misjudged(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        let input = node
            .inputs()
            .first()
            .map_or(node.schema(), |input| input.schema());
        let schema = match node {
            LogicalPlan::Join(join) => &join.schema,
            _ => input,
        };
        let plain = matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_));
        for expr in node.expressions() {
            check_lists(&expr, schema, plain)?;
        }
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

/// Lists on one operand that may be NULL, joined by AND or OR. Under nothing but those (`plain`) a false
/// AND is as good as an unknown one.
fn check_lists(part: &Expr, schema: &DFSchema, plain: bool) -> Result<()> {
    let Expr::BinaryExpr(b) = part else {
        part.apply_children(|child| {
            check_lists(child, schema, false)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        return Ok(());
    };
    let joins = matches!(b.op, Operator::And | Operator::Or);
    if b.op == Operator::Or || (b.op == Operator::And && !plain) {
        let mut lists = Vec::new();
        lists_joined_by(b.op, part, false, &mut lists);
        // Under OR those that say what is not in them.
        lists.retain(|(_, negated)| b.op == Operator::And || *negated);
        let twice = lists.iter().enumerate().any(|(i, (operand, _))| {
            let rest = lists.iter().skip(i + 1);
            operand.nullable(schema).unwrap_or(true) && rest.clone().any(|(o, _)| o == operand)
        });
        if twice {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "NOT IN",
                "two lists on one operand that may be NULL are joined wrongly by DataFusion 55, and \
                 rows would be changed that the statement does not name; compare with <> instead",
            )
            .into());
        }
    }
    check_lists(&b.left, schema, plain && joins)?;
    check_lists(&b.right, schema, plain && joins)
}

/// The operands of lists that `op` joins, and whether NOT stands before them.
fn lists_joined_by<'e>(op: Operator, part: &'e Expr, not: bool, lists: &mut Vec<(&'e Expr, bool)>) {
    match part {
        Expr::InList(list) => lists.push((&list.expr, list.negated != not)),
        Expr::Not(inner) if matches!(inner.as_ref(), Expr::InList(_)) => {
            lists_joined_by(op, inner, !not, lists);
        }
        Expr::BinaryExpr(b) if b.op == op => {
            lists_joined_by(op, &b.left, not, lists);
            lists_joined_by(op, &b.right, not, lists);
        }
        _ => {}
    }
}

/// Whether there may be a NULL on either side.
fn nulls(subquery: &InSubquery, input: &LogicalPlan) -> Result<bool> {
    let listed = subquery.subquery.subquery.schema();
    let in_list = listed.fields().iter().any(|field| field.is_nullable());
    // What refers to an outer query cannot be told from here.
    Ok(in_list || subquery.expr.nullable(input.schema()).unwrap_or(true))
}
