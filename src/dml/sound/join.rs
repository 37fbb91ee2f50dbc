//! Joins of plans whose rows carry the key that they belong to.

use std::sync::Arc;

use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, Result};
use datafusion::logical_expr::logical_plan::{Join, Projection};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, when};

use super::key::row_key;
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
    filter: Option<Expr>,
    names: &Names,
) -> Result<Keyed> {
    use JoinType::*;
    let (left_keys, right_keys) = (left.keys, right.keys);
    let (mut left, mut right) = (left.plan, right.plan);
    if !left_keys.is_empty() && !right_keys.is_empty() {
        let keys = (as_values(&left_keys), as_values(&right_keys));
        let same;
        (left, right, same) = with_keys(left, right, keys, names)?;
        on.push(same);
    }
    let plan = LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
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

/// `left` and `right` joined where their keys are the same, a NULL being the same as another, and `more`.
pub(super) fn join_on_keys(
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    (left_keys, right_keys): (Vec<Expr>, Vec<Expr>),
    more: Vec<(Expr, Expr)>,
    names: &Names,
) -> Result<LogicalPlan> {
    let (mut left, mut right, mut on) = (left, right, more);
    if !left_keys.is_empty() {
        let same;
        (left, right, same) = with_keys(left, right, (left_keys, right_keys), names)?;
        on.push(same);
    }
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        None,
        join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?))
}

/// `left` and `right` with one more column each, which holds the values of its key as one, and the two that are the
/// same in rows of one key.
fn with_keys(
    left: LogicalPlan,
    right: LogicalPlan,
    (left_values, right_values): (Vec<Expr>, Vec<Expr>),
    names: &Names,
) -> Result<(LogicalPlan, LogicalPlan, (Expr, Expr))> {
    let (l, r) = (names.column("key"), names.column("key"));
    let plain = is_plain(&left_values, &left)? && is_plain(&right_values, &right)?;
    let left = with_key(left, left_values, plain, &l)?;
    let right = with_key(right, right_values, plain, &r)?;
    Ok((left, right, (Expr::Column(l), Expr::Column(r))))
}

/// Whether `values` are a key as they are: a single value that is never NULL is, and one that the engine knows more
/// about. (Grouping sets, or an outer join, can make the same value nullable on one side of a join only.)
fn is_plain(values: &[Expr], plan: &LogicalPlan) -> Result<bool> {
    match values {
        [value] => Ok(!value.nullable(plan.schema())?),
        _ => Ok(false),
    }
}

/// `plan` with one more column, which holds `values` as one; as they are, if they are `plain`.
fn with_key(
    plan: LogicalPlan,
    values: Vec<Expr>,
    plain: bool,
    name: &Column,
) -> Result<LogicalPlan> {
    let mut columns = columns_of(&plan);
    let key = match values.as_slice() {
        [value] if plain => value.clone(),
        _ => row_key(values, plan.schema())?,
    };
    columns.push(key.alias(&name.name));
    let plan = Projection::try_new(columns, Arc::new(plan))?;
    Ok(LogicalPlan::Projection(plan))
}

/// The values of columns.
pub(super) fn as_values(columns: &[Column]) -> Vec<Expr> {
    columns.iter().cloned().map(Expr::Column).collect()
}
