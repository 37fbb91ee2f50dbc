//! Bounds hold whatever is shortened, and scalars come back as they went.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue as S;
use proptest::prelude::*;

use crate::format::stats::{ColumnStats, StatValue};

#[test]
fn scalars_come_back_as_they_went() {
    let zone: Option<Arc<str>> = Some("Europe/Zurich".into());
    for scalar in [
        S::Boolean(Some(true)),
        S::Int8(Some(-8)),
        S::Int16(Some(-16)),
        S::Int32(Some(i32::MIN)),
        S::Int64(Some(i64::MAX)),
        S::UInt8(Some(8)),
        S::UInt16(Some(16)),
        S::UInt32(Some(u32::MAX)),
        S::UInt64(Some(u64::MAX)),
        S::Float32(Some(-0.0)),
        S::Float32(Some(f32::MIN_POSITIVE)),
        S::Float64(Some(f64::NEG_INFINITY)),
        S::Decimal32(Some(-5), 9, 2),
        S::Decimal64(Some(5), 18, 2),
        S::Decimal128(Some(i128::MAX), 38, -3),
        S::Date32(Some(-1)),
        S::Date64(Some(86_400_000)),
        S::Time32Second(Some(1)),
        S::Time32Millisecond(Some(2)),
        S::Time64Microsecond(Some(3)),
        S::Time64Nanosecond(Some(4)),
        S::TimestampSecond(Some(5), None),
        S::TimestampNanosecond(Some(i64::MIN), zone),
        S::DurationMicrosecond(Some(6)),
        S::Utf8(Some("é".into())),
        S::LargeUtf8(Some(String::new())),
        S::Utf8View(Some("view".into())),
        S::Binary(Some(vec![0, 255])),
        S::LargeBinary(Some(vec![])),
        S::BinaryView(Some(vec![1])),
        S::FixedSizeBinary(2, Some(vec![1, 2])),
        S::Dictionary(
            Box::new(DataType::Int32),
            Box::new(S::Utf8(Some("key".into()))),
        ),
    ] {
        let value = StatValue::from_scalar(&scalar).expect("supported");
        assert_eq!(value.to_scalar(&scalar.data_type()), Some(scalar));
    }
}

#[test]
fn nulls_nans_and_other_types_have_no_statistics() {
    for scalar in [
        S::Null,
        S::Int64(None),
        S::Utf8(None),
        S::Float64(Some(f64::NAN)),
        S::Float32(Some(-f32::NAN)),
        S::IntervalYearMonth(Some(1)),
    ] {
        assert_eq!(StatValue::from_scalar(&scalar), None, "{scalar:?}");
    }
}

#[test]
fn a_value_of_another_type_is_no_scalar() {
    assert_eq!(StatValue::Int(300).to_scalar(&DataType::Int8), None);
    assert_eq!(StatValue::Int(3).to_scalar(&DataType::Utf8), None);
    assert_eq!(StatValue::Float(1e300).to_scalar(&DataType::Float32), None);
    assert_eq!(StatValue::Float(0.1).to_scalar(&DataType::Float32), None);
    assert_eq!(
        StatValue::Binary(vec![1]).to_scalar(&DataType::FixedSizeBinary(2)),
        None
    );
}

#[test]
fn zeros_are_bounds_for_both_signs() {
    let stats = ColumnStats::new(
        Some(StatValue::Float(0.0)),
        Some(StatValue::Float(-0.0)),
        None,
        16,
    );
    let Some(StatValue::Float(min)) = stats.min else {
        panic!("no min")
    };
    let Some(StatValue::Float(max)) = stats.max else {
        panic!("no max")
    };
    assert!(min.is_sign_negative() && max.is_sign_positive());
    assert!(!stats.min_exact && !stats.max_exact);
}

#[test]
fn a_string_that_cannot_be_raised_has_no_upper_bound() {
    let top = char::MAX.to_string().repeat(10);
    assert_eq!(StatValue::Utf8(top).upper_bound(8), None);
    assert_eq!(StatValue::Binary(vec![0xff; 10]).upper_bound(4), None);
}

proptest! {
    #[test]
    fn shortened_strings_stay_bounds(s in "\\PC{0,12}|[\u{d7ff}\u{e000}\u{7f}\u{7ff}\u{ffff}\u{10ffff}a]{0,9}", max in 1usize..12) {
        let value = StatValue::Utf8(s.clone());
        let (StatValue::Utf8(low), exact) = value.clone().lower_bound(max) else { panic!() };
        prop_assert!(low <= s && low.len() <= max);
        prop_assert_eq!(exact, low == s);
        match value.upper_bound(max) {
            Some((StatValue::Utf8(high), exact)) => {
                prop_assert!(high >= s && high.len() <= max);
                prop_assert_eq!(exact, high == s);
            }
            other => prop_assert!(other.is_none()),
        }
    }

    #[test]
    fn shortened_bytes_stay_bounds(b in prop::collection::vec(prop_oneof![Just(0xffu8), any::<u8>()], 0..12), max in 1usize..12) {
        let value = StatValue::Binary(b.clone());
        let (StatValue::Binary(low), _) = value.clone().lower_bound(max) else { panic!() };
        prop_assert!(low <= b && low.len() <= max);
        if let Some((StatValue::Binary(high), exact)) = value.upper_bound(max) {
            prop_assert!(high >= b && high.len() <= max);
            prop_assert_eq!(exact, high == b);
        }
    }
}
