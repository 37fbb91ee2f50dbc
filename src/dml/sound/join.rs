//! Joins of plans whose rows carry the key that they belong to.

use std::sync::Arc;

use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, Result};
use datafusion::logical_expr::logical_plan::{Join, Projection};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, when};

use super::names::Names;
use super::references::columns_of;

/// A plan whose rows carry the key that they belong to.
pub(super) struct Keyed {
    pub(super) plan: LogicalPlan,
    /// The plan's columns that hold the key, in the order of the domain's columns.
    pub(super) keys: Vec<Column>,
}

/// Which sides of a join have to carry the keys: those whose rows survive without a partner, and those that
/// depend on the outer row.
pub(super) fn keyed_sides(join_type: JoinType, left_free: bool, right_free: bool) -> (bool, bool) {
    use JoinType::*;
    match join_type {
        Inner => (left_free || !right_free, right_free),
        Left | LeftSemi | LeftAnti | LeftMark => (true, right_free),
        Right | RightSemi | RightAnti | RightMark => (left_free, true),
        Full => (true, true),
    }
}

/// `join` with other sides, `on` and `filter`; where both have keys, rows of one key are joined.
pub(super) fn keyed_join(
    join: &Join,
    left: Keyed,
    right: Keyed,
    mut on: Vec<(Expr, Expr)>,
    mut filter: Option<Expr>,
    names: &Names,
) -> Result<Keyed> {
    use JoinType::*;
    let (left_keys, right_keys) = (left.keys, right.keys);
    let mut null_equality = join.null_equality;
    let pairs = left_keys.iter().cloned().zip(right_keys.iter().cloned());
    let pairs: Vec<(Expr, Expr)> = pairs
        .map(|(l, r)| (Expr::Column(l), Expr::Column(r)))
        .collect();
    if !pairs.is_empty() {
        if on.is_empty() || null_equality == NullEquality::NullEqualsNull {
            null_equality = NullEquality::NullEqualsNull;
            on.extend(pairs);
        } else {
            let same = pairs.into_iter().map(|(l, r)| {
                let same = BinaryExpr::new(Box::new(l), Operator::IsNotDistinctFrom, Box::new(r));
                Expr::BinaryExpr(same)
            });
            filter = same.chain(filter).reduce(Expr::and);
        }
    }
    let plan = LogicalPlan::Join(Join::try_new(
        Arc::new(left.plan),
        Arc::new(right.plan),
        on,
        filter,
        join.join_type,
        join.join_constraint,
        null_equality,
        false,
    )?);
    let keys = match join.join_type {
        Right | RightSemi | RightAnti | RightMark => right_keys,
        Full => {
            let mut exprs = columns_of(&LogicalPlan::Join(join.clone()));
            let merged: Vec<Column> = left_keys.iter().map(|_| names.column("key")).collect();
            for ((l, r), name) in left_keys.iter().zip(&right_keys).zip(&merged) {
                let l = Expr::Column(l.clone());
                let either = when(l.clone().is_not_null(), l).otherwise(Expr::Column(r.clone()))?;
                exprs.push(either.alias(&name.name));
            }
            let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
            return Ok(Keyed { plan, keys: merged });
        }
        _ if left_keys.is_empty() => right_keys,
        _ => left_keys,
    };
    Ok(Keyed { plan, keys })
}

/// `left` and `right` joined where their keys are the same, a NULL being the same as another.
pub(super) fn join_on_keys(
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    left_keys: &[Column],
    right_keys: &[Column],
    more: Vec<(Expr, Expr)>,
) -> Result<LogicalPlan> {
    let pairs = left_keys.iter().cloned().zip(right_keys.iter().cloned());
    let on = pairs
        .map(|(l, r)| (Expr::Column(l), Expr::Column(r)))
        .chain(more)
        .collect();
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        None,
        join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNull,
        false,
    )?))
}
