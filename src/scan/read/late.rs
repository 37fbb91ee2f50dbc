//! Late materialisation: a selective predicate is evaluated before the other columns are decoded.
//!
//! Owns which predicates are evaluated so, and in which files. Parquet's reader then decodes of the other
//! columns only the pages in which a row is left (Abadi et al., "Materialization Strategies in a Column-Oriented
//! DBMS", ICDE 2007). DataFusion has it behind one switch for all queries, `pushdown_filters`, which is off: a
//! predicate that keeps most rows costs more so, and some kinds select wrong rows (see `dml::sound::faults`).
//!
//! Here the choice is made for each file, and only for predicates of a kind that random search has cleared:
//! comparisons of columns that are no lists or structs with values, `IN` lists, `IS NULL`, under AND, OR and NOT.
//! What stands above the scan evaluates the predicate again, on the few rows that are left.
//!
//! Invariant: a row for which the predicate is TRUE is read, whatever is chosen.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use datafusion::physical_expr::split_conjunction;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::PhysicalExpr;

use crate::scan::plan::cover::is_comparison;

/// A predicate is evaluated first in a file if it keeps at most this share of its rows, as far as the file's
/// statistics tell. Measured: with one row in ten left, both ways cost the same.
const MOST: f64 = 1.0 / 32.0;

/// The share of rows that have one value of a column whose values are not numbers: nothing tells it.
const UNKNOWN_EQUAL: f64 = 1.0 / 100.0;

/// `source` as one that evaluates its predicate first; `None` if nothing is gained, or the predicate is of no kind that
/// is cleared.
pub(super) fn evaluated_first(source: &dyn FileSource) -> Option<ParquetSource> {
    let source: &ParquetSource = source.downcast_ref()?;
    let predicate = source.filter()?;
    let options = &source.table_parquet_options().global;
    let file = source.table_schema().file_schema();
    if options.pushdown_filters || !is_cleared(&predicate, file) {
        return None;
    }
    let filtered = collect_columns(&predicate);
    let others = source.projection()?.iter().any(|projected| {
        let columns = collect_columns(&projected.expr);
        let mut decoded = columns.iter().filter(|c| decoded(c, file).is_some());
        decoded.any(|column| !filtered.contains(column))
    });
    others.then(|| source.clone().with_pushdown_filters(true))
}

/// Whether Parquet's reader evaluates a predicate of `source` that may fail for a row: a row that is deleted must not be
/// there then.
pub(super) fn may_fail_in_reader(source: &dyn FileSource) -> bool {
    let Some(source) = source.downcast_ref::<ParquetSource>() else {
        return true;
    };
    let file = source.table_schema().file_schema();
    let evaluates = source.table_parquet_options().global.pushdown_filters;
    evaluates && (source.filter()).is_some_and(|predicate| !is_cleared(&predicate, file))
}

/// The field of a column whose values are decoded; a row's address has none, for nothing is read to make it.
fn decoded<'a>(column: &Column, file: &'a Schema) -> Option<&'a Field> {
    let field = file.fields().get(column.index())?;
    (field.name() == column.name()).then_some(field)
}

/// Whether the predicate is of a kind that Parquet's reader evaluates rightly.
fn is_cleared(predicate: &Arc<dyn PhysicalExpr>, file: &Schema) -> bool {
    let inner = |expr: &Arc<dyn PhysicalExpr>| is_cleared(expr, file);
    if let Some(binary) = predicate.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::And | Operator::Or => inner(binary.left()) && inner(binary.right()),
            op if is_comparison(*op) => {
                let sides = [binary.left(), binary.right()];
                sides.iter().all(|e| is_value(e) || is_column(e, file))
            }
            _ => false,
        };
    }
    if let Some(list) = predicate.downcast_ref::<InListExpr>() {
        return is_column(list.expr(), file) && list.list().iter().all(is_value);
    }
    if let Some(not) = predicate.downcast_ref::<NotExpr>() {
        return inner(not.arg());
    }
    let null = predicate.downcast_ref::<IsNullExpr>().map(IsNullExpr::arg);
    let not_null = predicate.downcast_ref::<IsNotNullExpr>();
    null.or(not_null.map(IsNotNullExpr::arg))
        .is_some_and(|arg| is_column(arg, file))
}

fn is_value(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Literal>().is_some()
}

/// Whether this is a column that files have, and no list, struct or map.
fn is_column(expr: &Arc<dyn PhysicalExpr>, file: &Schema) -> bool {
    let column = expr.downcast_ref::<Column>();
    let field = column.and_then(|column| decoded(column, file));
    field.is_some_and(|field| !field.data_type().is_nested())
}

/// Whether `predicate` keeps few of a file's rows, as far as its statistics tell.
pub(super) fn keeps_few(predicate: &Arc<dyn PhysicalExpr>, file: &Statistics) -> bool {
    share(predicate, file) <= MOST
}

/// At most so large a share of the rows is kept, as far as statistics tell: values are taken to be spread evenly.
fn share(predicate: &Arc<dyn PhysicalExpr>, statistics: &Statistics) -> f64 {
    let mut least = 1.0_f64;
    let mut bounds: Vec<(usize, Span)> = Vec::new();
    for conjunct in split_conjunction(predicate) {
        let comparison = conjunct.downcast_ref::<BinaryExpr>();
        let bound = comparison.and_then(bound_of);
        if let Some((column, op, value)) = bound {
            let Some(all) = span_of(column, statistics) else {
                continue;
            };
            let known = bounds.iter().position(|(known, _)| *known == column);
            let at = known.unwrap_or_else(|| {
                bounds.push((column, all));
                bounds.len() - 1
            });
            if let Some((_, span)) = bounds.get_mut(at) {
                match op {
                    Operator::Lt | Operator::LtEq => span.high = span.high.min(value),
                    _ => span.low = span.low.max(value),
                }
                least = least.min(span.width() / all.width());
            }
        } else {
            least = least.min(share_of_one(conjunct, statistics));
        }
    }
    least
}

/// The same of a predicate that is no AND and no bound of a column.
fn share_of_one(predicate: &Arc<dyn PhysicalExpr>, statistics: &Statistics) -> f64 {
    if let Some(binary) = predicate.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::Or => {
                let (left, right) = (binary.left(), binary.right());
                (share(left, statistics) + share(right, statistics)).min(1.0)
            }
            Operator::Eq => match column_and_value(binary) {
                Some((column, _, _)) => share_of_value(column, statistics),
                None => 1.0,
            },
            _ => 1.0,
        };
    }
    if let Some(list) = predicate.downcast_ref::<InListExpr>()
        && !list.negated()
        && let Some(column) = list.expr().downcast_ref::<Column>()
    {
        return (list.len() as f64 * share_of_value(column.index(), statistics)).min(1.0);
    }
    if let Some(null) = predicate.downcast_ref::<IsNullExpr>()
        && let Some(column) = null.arg().downcast_ref::<Column>()
        && let Some(column) = statistics.column_statistics.get(column.index())
        && let (Some(nulls), Some(rows)) = (
            column.null_count.get_value(),
            statistics.num_rows.get_value(),
        )
    {
        return *nulls as f64 / (*rows).max(1) as f64;
    }
    1.0
}

/// The share of rows that have one value of a column.
fn share_of_value(column: usize, statistics: &Statistics) -> f64 {
    let bounds = statistics.column_statistics.get(column);
    let bounds = bounds.map(|c| (c.min_value.get_value(), c.max_value.get_value()));
    match (bounds, span_of(column, statistics)) {
        (Some((Some(min), Some(max))), _) if min == max => 1.0,
        (Some((Some(ScalarValue::Boolean(_)), _)), _) => 0.5,
        (_, Some(span)) if span.is_whole => 1.0 / (span.width() + 1.0),
        _ => UNKNOWN_EQUAL,
    }
}

/// From where to where a column's numbers reach in a file.
#[derive(Clone, Copy)]
struct Span {
    low: f64,
    high: f64,
    /// Whether there are no others between two whole numbers.
    is_whole: bool,
}

impl Span {
    fn width(self) -> f64 {
        (self.high - self.low).max(0.0)
    }
}

fn span_of(column: usize, statistics: &Statistics) -> Option<Span> {
    let column = statistics.column_statistics.get(column)?;
    let (min, max) = (column.min_value.get_value()?, column.max_value.get_value()?);
    let span = Span {
        low: number(min)?,
        high: number(max)?,
        is_whole: min.data_type().is_integer() || min.data_type().is_temporal(),
    };
    (span.width() > 0.0).then_some(span)
}

/// The column, the operator and the number of a comparison that bounds a column from one side.
fn bound_of(comparison: &BinaryExpr) -> Option<(usize, Operator, f64)> {
    let (column, op, value) = column_and_value(comparison)?;
    match op {
        Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
            Some((column, op, number(value)?))
        }
        _ => None,
    }
}

/// The comparison's column and value, with the operator that stands between them in this order.
fn column_and_value(comparison: &BinaryExpr) -> Option<(usize, Operator, &ScalarValue)> {
    let (left, right) = (comparison.left(), comparison.right());
    if let Some(column) = left.downcast_ref::<Column>() {
        let value = right.downcast_ref::<Literal>()?;
        return Some((column.index(), *comparison.op(), value.value()));
    }
    let column = right.downcast_ref::<Column>()?;
    let value = left.downcast_ref::<Literal>()?;
    Some((column.index(), comparison.op().swap()?, value.value()))
}

/// A value as a number; dates and times count in the unit of their type.
fn number(value: &ScalarValue) -> Option<f64> {
    let value = match value.data_type() {
        DataType::Date32 | DataType::Time32(_) => value.cast_to(&DataType::Int32),
        data_type if data_type.is_temporal() => value.cast_to(&DataType::Int64),
        data_type if data_type.is_numeric() => Ok(value.clone()),
        _ => return None,
    };
    match value.ok()?.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(number) => number.filter(|n| n.is_finite()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::common::stats::Precision;
    use datafusion::common::{ColumnStatistics, DFSchema};
    use datafusion::execution::context::SessionContext;
    use datafusion::logical_expr::Expr;
    use datafusion::prelude::{col, lit};

    use super::*;

    /// A file of 10,000 rows: `id` from 0 to 9,999, `day` over 100 days, `name`, `flag`, `items`.
    fn schema() -> Schema {
        let item = Arc::new(Field::new_list_field(DataType::Int64, true));
        Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("day", DataType::Date32, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("flag", DataType::Boolean, true),
            Field::new("items", DataType::List(item), true),
        ])
    }

    fn statistics() -> Statistics {
        let column = |min: ScalarValue, max: ScalarValue| ColumnStatistics {
            min_value: Precision::Exact(min),
            max_value: Precision::Exact(max),
            null_count: Precision::Exact(100),
            ..ColumnStatistics::new_unknown()
        };
        let date = |days| ScalarValue::Date32(Some(days));
        Statistics {
            num_rows: Precision::Exact(10_000),
            column_statistics: vec![
                column(0_i64.into(), 9_999_i64.into()),
                column(date(0), date(99)),
                column("a".into(), "z".into()),
                column(false.into(), true.into()),
                ColumnStatistics::new_unknown(),
            ],
            ..Statistics::new_unknown(&schema())
        }
    }

    fn physical(predicate: Expr) -> Arc<dyn PhysicalExpr> {
        let schema = DFSchema::try_from(schema()).unwrap();
        let state = SessionContext::new().state();
        state.create_physical_expr(predicate, &schema).unwrap()
    }

    fn share_kept(predicate: Expr) -> f64 {
        share(&physical(predicate), &statistics())
    }

    #[test]
    fn the_share_of_kept_rows_follows_from_bounds() {
        assert_eq!(share_kept(col("id").eq(lit(5_i64))), 1.0 / 10_000.0);
        assert!((share_kept(col("id").lt(lit(1_000_i64))) - 0.1).abs() < 0.001);
        let narrow = col("id")
            .gt(lit(5_000_i64))
            .and(lit(5_100_i64).gt(col("id")));
        assert!((share_kept(narrow) - 0.01).abs() < 0.001);
        let day = |n| lit(ScalarValue::Date32(Some(n)));
        assert_eq!(share_kept(col("day").eq(day(3))), 0.01);
        assert_eq!(share_kept(col("flag").eq(lit(true))), 0.5);
        assert_eq!(share_kept(col("name").eq(lit("x"))), UNKNOWN_EQUAL);
        assert_eq!(share_kept(col("name").is_null()), 0.01);
        let list = col("id").in_list(vec![lit(1_i64), lit(2_i64)], false);
        assert_eq!(share_kept(list.clone()), 2.0 / 10_000.0);
        let either = list.or(col("day").eq(day(3)));
        assert_eq!(share_kept(either), 0.01 + 2.0 / 10_000.0);
        for keeps_most in [
            col("id").not_eq(lit(5_i64)),
            col("id").in_list(vec![lit(5_i64)], true),
            col("name").gt(lit("x")),
            col("id").is_not_null(),
        ] {
            assert_eq!(share_kept(keeps_most), 1.0);
        }
    }

    #[test]
    fn only_plain_predicates_are_evaluated_first() {
        let cleared = |predicate| is_cleared(&physical(predicate), &schema());
        let plain = col("id").eq(lit(5_i64));
        assert!(cleared(plain.clone()));
        assert!(cleared(
            plain
                .clone()
                .and(col("name").is_null())
                .or(col("id").lt(col("id")))
        ));
        assert!(cleared(
            col("id").in_list((0..9_i64).map(lit).collect(), true)
        ));
        for hidden in [
            col("items").is_null(),
            col("items").eq(col("items")),
            (col("id") + lit(1_i64)).eq(lit(5_i64)),
            col("name").like(lit("x%")),
            plain.and(col("items").is_not_null()),
        ] {
            assert!(!cleared(hidden.clone()), "{hidden}");
        }
    }
}
