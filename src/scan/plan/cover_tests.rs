//! What `covers` proves, checked against evaluating the predicate on the rows.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{ColumnarValue, col, lit};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use super::*;
use crate::format::manifest::{FIELD_ID_KEY, RowIds};
use crate::format::stats::SuperfileStats;

fn schema() -> SchemaRef {
    let field = |name: &str, data_type, id: i32| {
        Field::new(name, data_type, true)
            .with_metadata(HashMap::from([(FIELD_ID_KEY.to_owned(), id.to_string())]))
    };
    Arc::new(Schema::new(vec![
        field("i", DataType::Int32, 1),
        field("f", DataType::Float64, 2),
        field("s", DataType::Utf8, 3),
    ]))
}

type Row = (Option<i32>, Option<f64>, Option<String>);

fn entry(rows: &[Row]) -> SuperfileEntry {
    let stats = |values: Vec<Option<StatValue>>, nan: bool| {
        let present: Vec<_> = values.iter().flatten().cloned().collect();
        let pick = |want: Ordering| {
            present
                .iter()
                .cloned()
                .reduce(|a, b| match order(&b, &a) == Some(want) {
                    true => b,
                    false => a,
                })
                .filter(|_| !nan)
        };
        let nulls = values.iter().filter(|v| v.is_none()).count() as u64;
        // Strings are shortened to two bytes, so bounds are often no values.
        ColumnStats::new(
            pick(Ordering::Less),
            pick(Ordering::Greater),
            Some(nulls),
            2,
        )
    };
    let columns = [
        (
            1,
            stats(
                rows.iter()
                    .map(|r| r.0.map(|v| StatValue::Int(v.into())))
                    .collect(),
                false,
            ),
        ),
        (
            2,
            stats(
                rows.iter()
                    .map(|r| {
                        r.1.map(|v| StatValue::Float(if v.is_nan() { 0.0 } else { v }))
                    })
                    .collect(),
                rows.iter().any(|r| r.1.is_some_and(f64::is_nan)),
            ),
        ),
        (
            3,
            stats(
                rows.iter()
                    .map(|r| r.2.clone().map(StatValue::Utf8))
                    .collect(),
                false,
            ),
        ),
    ];
    let id = uuid::Uuid::from_u128(7).into();
    SuperfileEntry {
        stats: SuperfileStats {
            columns: columns.into_iter().collect(),
        },
        ..SuperfileEntry::new(id, rows.len() as u64, 1, 0, RowIds::Stored)
    }
}

/// Whether the predicate is TRUE for every row, by evaluating it.
fn holds(rows: &[Row], predicate: &Expr) -> bool {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.1).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.2.clone()).collect::<StringArray>()),
    ];
    let batch = RecordBatch::try_new(schema(), columns).unwrap();
    let df_schema = DFSchema::try_from(schema()).unwrap();
    let physical = SessionContext::new()
        .create_physical_expr(predicate.clone(), &df_schema)
        .unwrap();
    let ColumnarValue::Array(result) = physical.evaluate(&batch).unwrap() else {
        return matches!(
            physical.evaluate(&batch).unwrap(),
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))
        );
    };
    let result = result.as_boolean();
    result.null_count() == 0 && result.true_count() == rows.len()
}

fn proved(rows: &[Row], predicate: &Expr) -> bool {
    covers(&entry(rows), &ColumnIds::of(&schema()), predicate)
}

fn ints(values: &[Option<i32>]) -> Vec<Row> {
    values.iter().map(|v| (*v, None, None)).collect()
}

#[test]
fn a_range_beyond_both_bounds_is_covered_and_one_inside_is_not() {
    let rows = ints(&[Some(1), Some(5)]);
    for (predicate, covered) in [
        (col("i").lt(lit(6)), true),
        (col("i").lt(lit(5)), false),
        (col("i").lt_eq(lit(5)), true),
        (lit(0).lt(col("i")), true),
        (col("i").between(lit(1), lit(5)), true),
        (col("i").between(lit(2), lit(5)), false),
        (col("i").not_between(lit(6), lit(9)), true),
        (col("i").in_list(vec![lit(1), lit(5)], false), false),
        (col("i").in_list(vec![lit(7), lit(8)], true), true),
        (col("i").not_eq(lit(9)), true),
        (col("i").is_not_null(), true),
        (Expr::Not(Box::new(col("i").gt(lit(5)))), true),
        (col("i").gt(lit(3)).or(col("i").gt(lit(0))), true),
        (col("i").gt(lit(3)).and(col("i").gt(lit(0))), false),
        (lit(true), true),
        (lit(false), false),
        (lit(ScalarValue::Boolean(None)), false),
    ] {
        assert_eq!(proved(&rows, &predicate), covered, "{predicate}");
    }
}

#[test]
fn one_null_among_the_rows_leaves_only_is_null_tests_and_constants() {
    let rows = ints(&[Some(1), None]);
    assert!(!proved(&rows, &col("i").lt(lit(6))));
    assert!(!proved(&rows, &Expr::Not(Box::new(col("i").gt(lit(6))))));
    assert!(!proved(&rows, &col("i").is_not_null()));
    assert!(!proved(&rows, &col("i").is_null()));
    assert!(proved(&ints(&[None, None]), &col("i").is_null()));
    assert!(proved(&rows, &col("i").lt(lit(6)).or(lit(true))));
}

#[test]
fn a_null_in_the_predicate_proves_nothing() {
    let rows = ints(&[Some(1), Some(1)]);
    let null = lit(ScalarValue::Int32(None));
    assert!(!proved(&rows, &col("i").not_eq(null.clone())));
    assert!(!proved(
        &rows,
        &col("i").in_list(vec![lit(2), null.clone()], true)
    ));
    assert!(proved(
        &rows,
        &col("i").in_list(vec![lit(1), null.clone()], false)
    ));
    assert!(!proved(&rows, &col("i").between(lit(0), null)));
}

#[test]
fn a_nan_hides_the_bounds_and_zeros_of_two_signs_prove_nothing() {
    let floats =
        |values: &[f64]| -> Vec<Row> { values.iter().map(|v| (None, Some(*v), None)).collect() };
    assert!(proved(&floats(&[1.0, 2.0]), &col("f").lt(lit(3.0))));
    assert!(!proved(&floats(&[1.0, f64::NAN]), &col("f").lt(lit(3.0))));
    assert!(!proved(&floats(&[1.0, 2.0]), &col("f").lt(lit(f64::NAN))));
    assert!(!proved(&floats(&[0.0, 1.0]), &col("f").gt_eq(lit(0.0))));
    assert!(!proved(&floats(&[-0.0, -0.0]), &col("f").eq(lit(0.0))));
    assert!(proved(&floats(&[0.5, 1.0]), &col("f").gt(lit(0.0))));
}

#[test]
fn statistics_that_are_missing_or_of_another_type_prove_nothing() {
    let rows = ints(&[Some(1), Some(2)]);
    let columns = ColumnIds::of(&schema());
    let mut unknown = entry(&rows);
    unknown.stats.columns.clear();
    assert!(!covers(&unknown, &columns, &col("i").lt(lit(6))));
    assert!(!covers(&unknown, &columns, &col("i").is_not_null()));
    let mut uncounted = entry(&rows);
    uncounted.stats.columns.get_mut(&1).unwrap().null_count = None;
    assert!(!covers(&uncounted, &columns, &col("i").lt(lit(6))));
    assert!(!proved(&rows, &col("i").lt(lit(6_i64))));
    assert!(!proved(&rows, &col("nowhere").lt(lit(6))));
}

#[test]
fn a_predicate_of_which_a_part_could_fail_is_not_looked_at() {
    let rows = ints(&[Some(1), Some(2)]);
    let division = (lit(1) / col("i")).gt(lit(0));
    assert!(!proved(&rows, &lit(true).or(division)));
}

fn a_row() -> impl Strategy<Value = Row> {
    let float = prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        (-2_i32..3).prop_map(f64::from)
    ];
    (
        proptest::option::weighted(0.9, -2_i32..3),
        proptest::option::weighted(0.9, float),
        proptest::option::weighted(0.9, "[ab]{0,4}"),
    )
}

fn a_comparison() -> impl Strategy<Value = Expr> {
    let value = prop_oneof![
        (-3_i32..4).prop_map(|v| (col("i"), lit(v))),
        (-3_i32..4).prop_map(|v| (col("f"), lit(f64::from(v)))),
        Just((col("f"), lit(-0.0))),
        "[abc]{0,4}".prop_map(|v| (col("s"), lit(v))),
        Just((col("i"), lit(ScalarValue::Int32(None)))),
    ];
    (value, 0..11).prop_map(|((c, v), how)| match how {
        0 => c.lt(v),
        1 => c.lt_eq(v),
        2 => c.gt(v),
        3 => c.gt_eq(v),
        4 => c.eq(v),
        5 => c.not_eq(v),
        6 => c.is_null(),
        7 => c.is_not_null(),
        8 => c.in_list(vec![v], true),
        9 => v.lt(c),
        _ => c.clone().between(v.clone(), v),
    })
}

fn a_predicate() -> impl Strategy<Value = Expr> {
    a_comparison().prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.or(b)),
            inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
            inner.clone().prop_map(|e| e.is_true()),
            inner.prop_map(|e| e.is_not_false()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn what_is_proved_holds_for_every_row(
        rows in proptest::collection::vec(a_row(), 1..4),
        predicate in a_predicate(),
    ) {
        prop_assert!(!proved(&rows, &predicate) || holds(&rows, &predicate));
    }
}
