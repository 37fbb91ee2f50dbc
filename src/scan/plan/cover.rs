//! Which superfiles a predicate holds for entirely, by the manifest's statistics alone.
//!
//! Owns the proof that a predicate is TRUE (not FALSE, not NULL) for every row that a superfile
//! physically holds. Does not own what follows from it: a `DELETE` drops such a superfile unread.
//!
//! This is not pruning turned around. Pruning may be wrong in one direction, reading too much; here
//! a wrong answer deletes rows. So nothing is estimated: what is not in the table below proves
//! nothing, and a predicate of which any part could fail (a division, a cast of a column) or is not
//! a function of the row (a subquery, `random()`) is not looked at, because reading the rows could
//! show an error that a proof hides.
//!
//! | expression | TRUE for all rows if | FALSE for all rows if |
//! | --- | --- | --- |
//! | `c < v` and its like | no NULLs, and the bound is beyond `v` | no NULLs, and the other bound is not |
//! | `c = v` | no NULLs, and both bounds are `v` | no NULLs, and `v` is outside of them |
//! | `c IN (…)` | as `c = v` for one of them | as `c = v` for each of them, none NULL |
//! | `c IS NULL` | every row is NULL | no row is |
//! | `AND`, `OR`, `NOT`, `IS TRUE`, … | by the truth tables | by the truth tables |
//!
//! Bounds hold for all physical rows and may be wider than the data, which only proves less. A
//! column with a NaN has none. Zeros of floats have two signs that some comparisons tell apart:
//! where it would matter, nothing is proved.
//!
//! Invariant: `covers` is true only if each physical row, deleted or not, satisfies the predicate.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};

use crate::format::SuperfileId;
use crate::format::manifest::{Manifest, SuperfileEntry, select};
use crate::format::stats::{ColumnStats, RowStats, StatValue};
use crate::scan::plan::statistics::ColumnIds;

/// Whether `predicate`, simplified and type-exact, holds for every physical row of `entry`.
pub(crate) fn covers(entry: &SuperfileEntry, columns: &ColumnIds, predicate: &Expr) -> bool {
    let rows = entry.row_stats();
    cannot_fail(predicate) && Known { rows, columns }.proves(predicate, true)
}

/// The superfiles of a version of which `predicate` holds for every physical row.
pub(crate) fn covered(
    manifest: &Manifest,
    columns: &ColumnIds,
    predicate: &Expr,
) -> BTreeSet<SuperfileId> {
    if !cannot_fail(predicate) {
        return BTreeSet::new();
    }
    let may_be_true = |rows: &RowStats<'_>| {
        let rows = *rows;
        !Known { rows, columns }.proves(predicate, false)
    };
    select(manifest, |all| all.iter().map(may_be_true).collect())
        .into_iter()
        .filter(|(_, entry)| covers(entry, columns, predicate))
        .map(|(_, entry)| entry.id)
        .collect()
}

/// Whether evaluating `expr` on a row can neither fail nor depend on anything but the row.
fn cannot_fail(expr: &Expr) -> bool {
    let value = |e: &Expr| matches!(e, Expr::Column(_) | Expr::Literal(..));
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Not(e)
        | Expr::IsTrue(e)
        | Expr::IsFalse(e)
        | Expr::IsNotTrue(e)
        | Expr::IsNotFalse(e) => cannot_fail(e),
        Expr::IsNull(e) | Expr::IsNotNull(e) => value(e),
        Expr::BinaryExpr(b) => match b.op {
            Operator::And | Operator::Or => cannot_fail(&b.left) && cannot_fail(&b.right),
            op => is_comparison(op) && value(&b.left) && value(&b.right),
        },
        Expr::Between(b) => value(&b.expr) && value(&b.low) && value(&b.high),
        Expr::InList(list) => value(&list.expr) && list.list.iter().all(value),
        _ => false,
    }
}

/// Whether `op` compares two values, and is NULL if one of them is.
pub(crate) fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
    )
}

/// All values of a column lie between these, and none is NULL.
struct Bounds<'a> {
    min: &'a StatValue,
    max: &'a StatValue,
    data_type: &'a DataType,
}

/// Rows of which statistics are known.
struct Known<'a> {
    rows: RowStats<'a>,
    columns: &'a ColumnIds,
}

impl Known<'_> {
    /// Whether `expr` is known to be `wanted` for every row.
    fn proves(&self, expr: &Expr, wanted: bool) -> bool {
        match expr {
            Expr::Literal(ScalarValue::Boolean(value), _) => *value == Some(wanted),
            Expr::Column(_) => self.compares(
                expr,
                Operator::Eq,
                &Expr::Literal(ScalarValue::Boolean(Some(wanted)), None),
                true,
            ),
            Expr::Not(e) | Expr::IsFalse(e) | Expr::IsNotTrue(e) => self.proves(e, !wanted),
            Expr::IsTrue(e) | Expr::IsNotFalse(e) => self.proves(e, wanted),
            Expr::IsNull(e) => self.all_null(e, wanted),
            Expr::IsNotNull(e) => self.all_null(e, !wanted),
            Expr::BinaryExpr(b) => match b.op {
                Operator::And if wanted => {
                    self.proves(&b.left, true) && self.proves(&b.right, true)
                }
                Operator::Or if !wanted => {
                    self.proves(&b.left, false) && self.proves(&b.right, false)
                }
                Operator::And | Operator::Or => {
                    self.proves(&b.left, wanted) || self.proves(&b.right, wanted)
                }
                op => self.compares(&b.left, op, &b.right, wanted),
            },
            Expr::Between(b) => {
                let inside = wanted != b.negated;
                let (low, high) = (
                    self.compares(&b.expr, Operator::GtEq, &b.low, inside),
                    self.compares(&b.expr, Operator::LtEq, &b.high, inside),
                );
                // Outside is outside of one end, if the other is not NULL.
                let known = [&b.low, &b.high].into_iter().all(|e| is_value(e));
                known && if inside { low && high } else { low || high }
            }
            Expr::InList(list) => {
                let is_in = wanted != list.negated;
                let mut equal = list
                    .list
                    .iter()
                    .map(|e| self.compares(&list.expr, Operator::Eq, e, is_in));
                match is_in {
                    true => equal.any(|known| known),
                    false => equal.all(|known| known),
                }
            }
            _ => false,
        }
    }

    fn all_null(&self, expr: &Expr, wanted: bool) -> bool {
        let Expr::Column(column) = expr else {
            return false;
        };
        let nulls = self
            .columns
            .stats_of(self.rows.columns, &column.name)
            .and_then(|(stats, _)| stats.null_count);
        nulls == Some(if wanted { self.rows.rows } else { 0 })
    }

    /// Whether `left op right`, one a column and the other a literal, is `wanted` for every row.
    fn compares(&self, left: &Expr, op: Operator, right: &Expr, wanted: bool) -> bool {
        let (column, op, literal) = match (left, right) {
            (Expr::Column(column), Expr::Literal(literal, _)) => (column, Some(op), literal),
            (Expr::Literal(literal, _), Expr::Column(column)) => (column, op.swap(), literal),
            _ => return false,
        };
        // No row is NULL and the literal is not, so FALSE is the opposite's TRUE.
        let op = if wanted {
            op
        } else {
            op.and_then(|op| op.negate())
        };
        let (Some(op), Some(bounds)) = (op, self.bounds(&column.name)) else {
            return false;
        };
        if in_statistics(bounds.data_type) != in_statistics(&literal.data_type()) {
            return false;
        }
        let Some(value) = StatValue::from_scalar(literal) else {
            return false;
        };
        let (Some(min), Some(max)) = (order(bounds.min, &value), order(bounds.max, &value)) else {
            return false;
        };
        match op {
            Operator::Lt => max == Ordering::Less,
            Operator::LtEq => max != Ordering::Greater,
            Operator::Gt => min == Ordering::Greater,
            Operator::GtEq => min != Ordering::Less,
            Operator::Eq => min == Ordering::Equal && max == Ordering::Equal,
            Operator::NotEq => min == Ordering::Greater || max == Ordering::Less,
            _ => false,
        }
    }

    fn bounds(&self, column: &str) -> Option<Bounds<'_>> {
        let (stats, data_type) = self.columns.stats_of(self.rows.columns, column)?;
        match stats {
            ColumnStats {
                min: Some(min),
                max: Some(max),
                null_count: Some(0),
                ..
            } => Some(Bounds {
                min,
                max,
                data_type,
            }),
            _ => None,
        }
    }
}

fn is_value(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if !value.is_null())
}

/// `data_type` with one form for all that have the same values in the same order.
fn in_statistics(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => in_statistics(value),
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        other => other.clone(),
    }
}

/// How two values of one type compare, if every comparison that an engine may use agrees.
fn order(a: &StatValue, b: &StatValue) -> Option<Ordering> {
    Some(match (a, b) {
        (StatValue::Bool(a), StatValue::Bool(b)) => a.cmp(b),
        (StatValue::Int(a), StatValue::Int(b)) => a.cmp(b),
        (StatValue::UInt(a), StatValue::UInt(b)) => a.cmp(b),
        (StatValue::Decimal(a), StatValue::Decimal(b)) => a.cmp(b),
        (StatValue::Utf8(a), StatValue::Utf8(b)) => a.cmp(b),
        (StatValue::Binary(a), StatValue::Binary(b)) => a.cmp(b),
        (StatValue::Float(a), StatValue::Float(b)) => {
            let order = a.partial_cmp(b)?;
            (order == a.total_cmp(b)).then_some(order)?
        }
        _ => return None,
    })
}

#[cfg(test)]
#[path = "cover_tests.rs"]
mod tests;
