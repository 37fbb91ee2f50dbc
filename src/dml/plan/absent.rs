//! The keys of which a `MERGE` finds no row in its target: which they are, and how the plan yields them to the sink.
//!
//! Owns: what of `ON` is a comparison of a key column by `=`, and the plan's columns with the keys of rows that are to be
//! inserted. Does not own what is made of them (`write::absent`).
//!
//! Invariant: a row of the target that would have matched an inserted row has the key that the plan yields for it. Where
//! that cannot be said, nothing is known of the keys.

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::logical_expr::dml::{MergeIntoAction, MergeIntoOp};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator, TryCast};

use crate::dml::sound::loses_nothing;
use crate::dml::write::absent::{AbsentColumns, key_column};
use crate::format::manifest::field_id;

/// A column of the target that `ON` compares by `=`, and with what.
struct Comparison {
    field_id: i32,
    name: String,
    /// The other side, as a value of the column's type; NULL if it is none.
    value: Expr,
}

/// The key columns of a `MERGE` that may insert what it does not find.
pub(super) struct Absent {
    keys: Vec<Comparison>,
    /// Whether a row of the target may get another key.
    sets_key: bool,
}

impl Absent {
    /// `None` if no row of the target can keep this `MERGE` from inserting. `joined` has the columns of both sides.
    pub(super) fn of(
        table_name: &TableReference,
        table: &Schema,
        joined: &DFSchema,
        merge: &MergeIntoOp,
    ) -> Result<Option<Self>> {
        let inserts = |action: &MergeIntoAction| matches!(action, MergeIntoAction::Insert { .. });
        let target = Target { table_name, joined };
        let reads_target = target.is_named_in(&merge.on) || has_subquery(&merge.on)?;
        if !reads_target || !merge.clauses.iter().any(|c| inserts(&c.action)) {
            return Ok(None);
        }
        let mut keys: Vec<Comparison> = Vec::new();
        for conjunct in split_conjunction(&merge.on) {
            let key = comparison(conjunct, &target, table)?;
            let known = |key: &Comparison| keys.iter().any(|k| k.field_id == key.field_id);
            keys.extend(key.filter(|key| !known(key)));
        }
        keys.sort_by_key(|key| key.field_id);
        let sets_key = (merge.clauses.iter()).any(|clause| match &clause.action {
            MergeIntoAction::Update(assignments) => {
                (assignments.iter()).any(|(column, _)| keys.iter().any(|key| key.name == *column))
            }
            _ => false,
        });
        Ok(Some(Self { keys, sets_key }))
    }

    /// The plan's columns with the keys: each with its name, and its value in an inserted row.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = (String, &Expr)> {
        (self.keys.iter()).map(|key| (key_column(key.field_id), &key.value))
    }

    /// What the sink is to know.
    pub(super) fn columns(&self) -> AbsentColumns {
        AbsentColumns {
            keys: (self.keys.iter())
                .map(|key| (key.field_id, key.name.clone()))
                .collect(),
            sets_key: self.sets_key,
        }
    }
}

/// What `conjunct` compares, if it is a key column of the target with something of the source.
fn comparison(conjunct: &Expr, target: &Target<'_>, table: &Schema) -> Result<Option<Comparison>> {
    let joined = target.joined;
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = conjunct else {
        return Ok(None);
    };
    if *op != Operator::Eq || left.get_type(joined)? != right.get_type(joined)? {
        return Ok(None);
    }
    for (column, value) in [(left, right), (right, left)] {
        let Some(name) = target.key_of(column)? else {
            continue;
        };
        let Some((id, field)) =
            (table.field_with_name(name).ok()).and_then(|field| Some((field_id(field)?, field)))
        else {
            continue;
        };
        // It is evaluated twice: for the join, and here.
        if target.is_named_in(value) || value.is_volatile() || has_subquery(value)? {
            continue;
        }
        let value = match value.get_type(joined)? == *field.data_type() {
            true => value.as_ref().clone(),
            // What is no value of the column's type equals no value of it.
            false => Expr::TryCast(TryCast::new(value.clone(), field.data_type().clone())),
        };
        return Ok(Some(Comparison {
            field_id: id,
            name: name.to_owned(),
            value,
        }));
    }
    Ok(None)
}

/// The columns of both sides of the join, and whose they are.
struct Target<'a> {
    table_name: &'a TableReference,
    joined: &'a DFSchema,
}

impl Target<'_> {
    /// Whether it is a column of the target, as far as is known.
    fn has(&self, column: &Column) -> bool {
        let at = self.joined.maybe_index_of_column(column);
        at.is_none_or(|at| self.joined.qualified_field(at).0 == Some(self.table_name))
    }

    fn is_named_in(&self, expr: &Expr) -> bool {
        expr.column_refs().iter().any(|column| self.has(column))
    }

    /// The name of the target's column that `expr` is, under casts that keep different values different.
    fn key_of<'e>(&self, expr: &'e Expr) -> Result<Option<&'e str>> {
        match expr {
            Expr::Column(column) if self.has(column) => Ok(Some(&column.name)),
            Expr::Cast(Cast { expr: inner, .. }) => {
                match is_lossless(&inner.get_type(self.joined)?, &expr.get_type(self.joined)?) {
                    true => self.key_of(inner),
                    false => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }
}

fn has_subquery(expr: &Expr) -> Result<bool> {
    expr.exists(|e| {
        Ok(matches!(
            e,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        ))
    })
}

/// Whether a cast gives different values of one type different values of the other, and a cast back finds each again:
/// one that keeps their order, too, and some that the engine cannot be trusted to prune by.
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (from, to) if loses_nothing(from, to) => true,
        (T::Dictionary(_, from), to) => is_lossless(from, to),
        (from, T::Dictionary(_, to)) => is_lossless(from, to),
        (T::FixedSizeBinary(_), T::Binary | T::LargeBinary | T::BinaryView) => true,
        (T::Float32, T::Float64) => true,
        (T::Date32, T::Date64 | T::Timestamp(_, None)) => true,
        (T::Timestamp(from, one), T::Timestamp(to, other)) => {
            one.is_some() == other.is_some() && fineness(from) <= fineness(to)
        }
        (T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32, T::Float64) => true,
        // What counts are the digits, whatever they are kept in.
        (_, T::Decimal32(digits, scale) | T::Decimal64(digits, scale))
        | (_, T::Decimal256(digits, scale))
            if from.is_integer() =>
        {
            loses_nothing(from, &T::Decimal128(*digits, *scale))
        }
        _ => false,
    }
}

fn fineness(unit: &TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DataType as T;

    #[test]
    fn a_cast_is_lossless_only_if_it_keeps_every_value_apart() {
        let utc = || Some("UTC".into());
        let lossless = [
            (T::Int32, T::Int64),
            (T::UInt32, T::Int64),
            (T::Int32, T::Float64),
            (T::Int64, T::Decimal128(20, 0)),
            (T::Decimal128(10, 2), T::Decimal128(12, 4)),
            (T::Utf8, T::Utf8View),
            (
                T::Dictionary(Box::new(T::Int32), Box::new(T::Utf8)),
                T::Utf8,
            ),
            (T::Date32, T::Timestamp(TimeUnit::Nanosecond, None)),
            (
                T::Timestamp(TimeUnit::Second, utc()),
                T::Timestamp(TimeUnit::Millisecond, Some("+01:00".into())),
            ),
        ];
        for (from, to) in lossless {
            assert!(is_lossless(&from, &to), "{from} {to}");
            assert!(from == to || !is_lossless(&to, &from) || from == T::Utf8 || to == T::Utf8);
        }
        let lossy = [
            (T::Int64, T::Float64),
            (T::Int64, T::Int32),
            (T::Int32, T::UInt64),
            (T::UInt64, T::Int64),
            (T::Int64, T::Decimal128(18, 0)),
            (T::Float64, T::Int64),
            (T::Utf8, T::Int64),
            (T::Int64, T::Utf8),
            (
                T::Timestamp(TimeUnit::Second, None),
                T::Timestamp(TimeUnit::Second, utc()),
            ),
            (T::Decimal128(10, 2), T::Decimal128(10, 0)),
        ];
        for (from, to) in lossy {
            assert!(!is_lossless(&from, &to), "{from} {to}");
        }
    }
}
