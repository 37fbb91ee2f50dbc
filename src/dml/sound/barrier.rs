//! What of a statement's expressions the engine's rewrites get to see.
//!
//! Owns the decision. Left visible are the forms that pruning, joins and pushdown live on and that the rewrites
//! are known to keep right: AND and OR over comparisons of a column with a value or another column, `IS NULL`,
//! `IN` lists, `LIKE`. Everything else becomes an [exact](super::exact) function. `CAST(a AS SMALLINT) > 1`
//! stays a comparison, whose left side DataFusion no longer unwraps.
//!
//! A cast that the engine put before a column to compare it with a value of a wider type is taken off here,
//! where the value has an equal in the column's type: what statistics are compared with is then sound by
//! construction.
//!
//! Invariant: a hidden predicate is TRUE for exactly the rows for which the written one is. (Where it is not
//! TRUE, it may be FALSE instead of NULL, or the other way round: a filter cannot tell.)

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Alias, Cast, InList, InSubquery, Sort};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, Like, Operator, lit};

use super::exact::{Role, constant, exact, is_exact};
use super::key::{is_row_key, row_key};
use super::settings::Settings;
use crate::scan::plan::cover::is_comparison;

/// How much is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A query: functions of a row stay visible to the engine, which may prune by them.
    Read,
    /// A statement that changes rows: nothing but the forms above is visible.
    Change,
}

/// Hides expressions over the columns of one plan node's input.
pub(super) struct Barrier<'a> {
    pub(super) schema: &'a DFSchema,
    pub(super) config: &'a Settings<'a>,
    pub(super) mode: Mode,
}

impl Barrier<'_> {
    /// A condition of which only TRUE counts.
    pub(super) fn predicate(&self, expr: Expr) -> Result<Expr> {
        match expr {
            Expr::Alias(alias) => Ok(Expr::Alias(Alias {
                expr: Box::new(self.predicate(*alias.expr)?),
                ..alias
            })),
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: op @ (Operator::And | Operator::Or),
                right,
            }) => Ok(Expr::BinaryExpr(BinaryExpr::new(
                Box::new(self.predicate(*left)?),
                op,
                Box::new(self.predicate(*right)?),
            ))),
            other => self.condition(other),
        }
    }

    fn condition(&self, expr: Expr) -> Result<Expr> {
        match expr {
            Expr::Column(_) | Expr::Literal(..) | Expr::Exists(_) => Ok(expr),
            Expr::Not(inner) if matches!(*inner, Expr::Column(_) | Expr::Exists(_)) => {
                Ok(Expr::Not(inner))
            }
            Expr::IsNull(inner) => Ok(Expr::IsNull(Box::new(self.operand(*inner, false)?))),
            Expr::IsNotNull(inner) => Ok(Expr::IsNotNull(Box::new(self.operand(*inner, false)?))),
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if is_comparison(op)
                    || matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom) =>
            {
                self.comparison(*left, op, *right)
            }
            Expr::Between(Between {
                expr,
                negated,
                low,
                high,
            }) if is_column_behind_casts(&expr) => {
                let (above, below) = match negated {
                    false => (Operator::GtEq, Operator::LtEq),
                    true => (Operator::Lt, Operator::Gt),
                };
                let low = self.comparison((*expr).clone(), above, *low)?;
                let high = self.comparison(*expr, below, *high)?;
                Ok(match negated {
                    false => low.and(high),
                    true => low.or(high),
                })
            }
            Expr::InList(list) => self.list(list),
            Expr::Like(like) => self.like(like),
            Expr::InSubquery(InSubquery {
                expr,
                subquery,
                negated,
            }) => Ok(Expr::InSubquery(InSubquery {
                expr: Box::new(self.operand(*expr, true)?),
                subquery,
                negated,
            })),
            Expr::Not(inner) if matches!(*inner, Expr::InSubquery(_)) => {
                Ok(Expr::Not(Box::new(self.condition(*inner)?)))
            }
            other => self.hidden(other, Role::Condition),
        }
    }

    fn comparison(&self, left: Expr, op: Operator, right: Expr) -> Result<Expr> {
        let (left, right) = (self.folded(left), self.folded(right));
        let (left, right) = match (&left, &right) {
            (Expr::Literal(value, _), other) => match self.without_cast(other, value)? {
                Some((inner, value)) => (lit(value), inner),
                None => (left, right),
            },
            (other, Expr::Literal(value, _)) => match self.without_cast(other, value)? {
                Some((inner, value)) => (inner, lit(value)),
                None => (left, right),
            },
            _ => (left, right),
        };
        let (left, op, right) = in_one_form(left, op, right);
        // A comparison of two columns may keep a cast that loses nothing: it is how keys of two types join.
        let constant = is_literal(&left) || is_literal(&right);
        if op == Operator::IsNotDistinctFrom && !constant {
            return self.same(left, right);
        }
        Ok(Expr::BinaryExpr(BinaryExpr::new(
            Box::new(self.operand(left, !constant)?),
            op,
            Box::new(self.operand(right, !constant)?),
        )))
    }

    /// `left IS NOT DISTINCT FROM right`, in a form in which no other equality is drawn into a join of NULLs.
    fn same(&self, left: Expr, right: Expr) -> Result<Expr> {
        let same = |left, op, right| Expr::BinaryExpr(BinaryExpr::new(left, op, right));
        // Of two equal keys, which are never NULL, the engine evaluates none; what fails for a row is to fail.
        let of_itself = left == right && !matches!(left, Expr::Column(_));
        if of_itself || left.get_type(self.schema)?.is_floating() {
            let (left, right) = (Box::new(left), Box::new(right));
            return self.hidden(
                same(left, Operator::IsNotDistinctFrom, right),
                Role::Condition,
            );
        }
        let left = Box::new(row_key(vec![self.operand(left, true)?], self.schema)?);
        let right = Box::new(row_key(vec![self.operand(right, true)?], self.schema)?);
        Ok(same(left, Operator::Eq, right))
    }

    /// `column IN (values)`; a list with NOT before it, or a NULL in it, is hidden.
    fn list(&self, list: InList) -> Result<Expr> {
        let InList {
            expr,
            list: values,
            negated,
        } = list;
        let whole = |expr, list| {
            Expr::InList(InList {
                expr,
                list,
                negated,
            })
        };
        if negated || !is_column_behind_casts(&expr) {
            return self.hidden(whole(expr, values), Role::Condition);
        }
        let values: Vec<Expr> = values.into_iter().map(|value| self.folded(value)).collect();
        let literals: Option<Vec<&ScalarValue>> = values
            .iter()
            .map(|value| match value {
                // Lists tell the zeros of floats apart, which `=` does not; the exact function knows.
                Expr::Literal(value, _) if !value.is_null() && !is_float_zero(value) => Some(value),
                _ => None,
            })
            .collect();
        if let (Expr::Column(_), Some(_)) = (expr.as_ref(), &literals) {
            return Ok(whole(expr, values));
        }
        let narrow = literals.map(|literals| {
            let unwrapped = literals.into_iter().map(|v| self.without_cast(&expr, v));
            unwrapped.collect::<Result<Option<Vec<(Expr, ScalarValue)>>>>()
        });
        match narrow.transpose()?.flatten() {
            Some(unwrapped) => {
                let mut unwrapped = unwrapped.into_iter().peekable();
                match unwrapped.peek().map(|(inner, _)| inner.clone()) {
                    Some(inner @ Expr::Column(_)) => Ok(whole(
                        Box::new(inner),
                        unwrapped.map(|(_, value)| lit(value)).collect(),
                    )),
                    _ => self.hidden(whole(expr, values), Role::Condition),
                }
            }
            None => self.hidden(whole(expr, values), Role::Condition),
        }
    }

    fn like(&self, like: Like) -> Result<Expr> {
        let like = Like {
            pattern: Box::new(self.folded(*like.pattern)),
            ..like
        };
        let plain = !like.negated
            && !like.case_insensitive
            && like.escape_char.is_none()
            && matches!(*like.expr, Expr::Column(_))
            && matches!(&*like.pattern, Expr::Literal(v, _) if is_prefix_pattern(v));
        match plain {
            true => Ok(Expr::Like(like)),
            false => self.hidden(Expr::Like(like), Role::Condition),
        }
    }

    /// One side of a comparison.
    fn operand(&self, expr: Expr, may_cast: bool) -> Result<Expr> {
        match self.folded(expr) {
            expr @ (Expr::Column(_)
            | Expr::Literal(..)
            | Expr::OuterReferenceColumn(..)
            | Expr::Placeholder(_)) => Ok(expr),
            Expr::Cast(Cast { expr, field })
                if may_cast
                    && matches!(*expr, Expr::Column(_) | Expr::OuterReferenceColumn(..))
                    && loses_nothing(&expr.get_type(self.schema)?, field.data_type()) =>
            {
                Ok(Expr::Cast(Cast { expr, field }))
            }
            other => self.hidden(other, Role::Condition),
        }
    }

    /// One side of an equality that joins.
    pub(super) fn key(&self, expr: Expr) -> Result<Expr> {
        self.operand(expr, true)
    }

    /// A value that a column or an aggregate gets. Its nullability stays as the engine infers it.
    pub(super) fn value(&self, expr: Expr) -> Result<Expr> {
        match expr {
            Expr::Column(_)
            | Expr::Literal(..)
            | Expr::OuterReferenceColumn(..)
            | Expr::Placeholder(_)
            | Expr::Exists(_) => Ok(expr),
            Expr::Alias(alias) => Ok(Expr::Alias(Alias {
                expr: Box::new(self.value(*alias.expr)?),
                ..alias
            })),
            Expr::AggregateFunction(mut f) => {
                let params = &mut f.params;
                let args = std::mem::take(&mut params.args).into_iter();
                params.args = args.map(|e| self.value(e)).collect::<Result<_>>()?;
                params.filter = match params.filter.take() {
                    Some(filter) => Some(Box::new(self.predicate(*filter)?)),
                    None => None,
                };
                params.order_by = self.order(std::mem::take(&mut params.order_by))?;
                Ok(Expr::AggregateFunction(f))
            }
            Expr::WindowFunction(mut f) => {
                let params = &mut f.params;
                let args = std::mem::take(&mut params.args).into_iter();
                params.args = args.map(|e| self.value(e)).collect::<Result<_>>()?;
                let by = std::mem::take(&mut params.partition_by).into_iter();
                params.partition_by = by.map(|e| self.value(e)).collect::<Result<_>>()?;
                params.order_by = self.order(std::mem::take(&mut params.order_by))?;
                Ok(Expr::WindowFunction(f))
            }
            Expr::GroupingSet(set) => Ok(Expr::GroupingSet(set)
                .map_children(|e| Ok(Transformed::yes(self.value(e)?)))?
                .data),
            other => self.hidden(other, Role::Value),
        }
    }

    pub(super) fn order(&self, order: Vec<Sort>) -> Result<Vec<Sort>> {
        order
            .into_iter()
            .map(|sort| {
                Ok(Sort {
                    expr: self.value(sort.expr)?,
                    ..sort
                })
            })
            .collect()
    }

    fn hidden(&self, expr: Expr, role: Role) -> Result<Expr> {
        match self.is_visible(&expr)? {
            true => Ok(expr),
            false => exact(expr, self.schema, self.config, role),
        }
    }

    /// Whether nothing in `expr` has to be hidden.
    fn is_visible(&self, expr: &Expr) -> Result<bool> {
        if is_exact(expr) || is_row_key(expr) {
            return Ok(true);
        }
        Ok(match expr {
            Expr::Column(_)
            | Expr::Literal(..)
            | Expr::OuterReferenceColumn(..)
            | Expr::Placeholder(_)
            | Expr::ScalarVariable(..) => true,
            Expr::Alias(alias) => self.is_visible(&alias.expr)?,
            // The moment of the statement, in any mode.
            Expr::ScalarFunction(f) if f.args.is_empty() => true,
            Expr::ScalarFunction(f) if self.mode == Mode::Read => f
                .args
                .iter()
                .all(|arg| self.is_visible(arg).unwrap_or(false)),
            _ => false,
        })
    }

    fn folded(&self, expr: Expr) -> Expr {
        match expr {
            Expr::Literal(..) | Expr::Column(_) => expr,
            other => match constant(&other, self.config) {
                Some(value) => lit(value),
                None => other,
            },
        }
    }

    /// `CAST(inner AS wide)` compared with `value`, as `inner` compared with a value of its own type; none
    /// where that would not be the same.
    fn without_cast(
        &self,
        expr: &Expr,
        value: &ScalarValue,
    ) -> Result<Option<(Expr, ScalarValue)>> {
        let Expr::Cast(Cast { expr: inner, field }) = expr else {
            return Ok(None);
        };
        let narrow = inner.get_type(self.schema)?;
        if value.data_type() != *field.data_type() || !loses_nothing(&narrow, field.data_type()) {
            return Ok(None);
        }
        let own = match value.cast_to(&narrow) {
            Ok(own) if own.is_null() == value.is_null() => own,
            _ => return Ok(None),
        };
        Ok(match own.cast_to(field.data_type()) {
            Ok(back) if back == *value => Some((inner.as_ref().clone(), own)),
            _ => None,
        })
    }
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

/// The comparison with its value on the right, and of two zeros the positive one. The engine joins the conditions on a
/// column that compare it with values, as if those of one meaning had one form: of `c >= 2 AND 2 < c` it keeps the
/// first, and `c = 2 AND 2 = c` is FALSE.
fn in_one_form(left: Expr, op: Operator, right: Expr) -> (Expr, Operator, Expr) {
    if !is_comparison(op) {
        return (left, op, right);
    }
    let (left, op, right) = match (&left, &right, op.swap()) {
        (Expr::Literal(..), other, Some(swapped)) if !is_literal(other) => (right, swapped, left),
        _ => (left, op, right),
    };
    let right = match right {
        Expr::Literal(ScalarValue::Float16(Some(v)), _) if v.to_f32() == 0.0 => {
            lit(ScalarValue::Float16(Some(Default::default())))
        }
        Expr::Literal(ScalarValue::Float32(Some(0.0)), _) => lit(0.0_f32),
        Expr::Literal(ScalarValue::Float64(Some(0.0)), _) => lit(0.0_f64),
        Expr::Literal(value, _) => lit(value),
        other => other,
    };
    (left, op, right)
}

fn is_float_zero(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float16(Some(v)) => v.to_f32() == 0.0,
        ScalarValue::Float32(Some(v)) => *v == 0.0,
        ScalarValue::Float64(Some(v)) => *v == 0.0,
        _ => false,
    }
}

fn is_column_behind_casts(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Cast(Cast { expr, .. }) => is_column_behind_casts(expr),
        _ => false,
    }
}

/// Whether a pattern is text and then `%`, which bounds of a column can be compared with.
fn is_prefix_pattern(value: &ScalarValue) -> bool {
    let text = match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::Utf8View(Some(text))
        | ScalarValue::LargeUtf8(Some(text)) => text,
        _ => return false,
    };
    match text.strip_suffix('%') {
        Some(prefix) => !prefix.is_empty() && !prefix.contains(['%', '_', '\\']),
        None => false,
    }
}

/// Whether every value of `from` has its own value in `to`, in the same order.
pub(crate) fn loses_nothing(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    let digits = |scale: i8, precision: u8| i16::from(precision) - i16::from(scale);
    match (from, to) {
        (a, b) if a == b => true,
        (Int8, Int16 | Int32 | Int64)
        | (Int16, Int32 | Int64)
        | (Int32, Int64)
        | (UInt8, UInt16 | UInt32 | UInt64 | Int16 | Int32 | Int64)
        | (UInt16, UInt32 | UInt64 | Int32 | Int64)
        | (UInt32, UInt64 | Int64)
        | (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View)
        | (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => true,
        (
            Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s),
            Decimal32(q, t) | Decimal64(q, t) | Decimal128(q, t) | Decimal256(q, t),
        ) => t >= s && digits(*t, *q) >= digits(*s, *p),
        (Int8 | UInt8, Decimal128(q, t)) => digits(*t, *q) >= 3 && *t >= 0,
        (Int16 | UInt16, Decimal128(q, t)) => digits(*t, *q) >= 5 && *t >= 0,
        (Int32 | UInt32, Decimal128(q, t)) => digits(*t, *q) >= 10 && *t >= 0,
        (Int64 | UInt64, Decimal128(q, t)) => digits(*t, *q) >= 20 && *t >= 0,
        (Dictionary(_, value), to) => loses_nothing(value, to),
        _ => false,
    }
}
