//! What values become when a column's type is widened, and those of rows that have none.
//!
//! Owns which types widen to which, and the text of initial defaults.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use crate::error::{Error, ErrorKind, Result};

/// Whether every value of type `from` is one of type `to`, in the same order, and stored
/// statistics of the one can be read as the other.
///
/// # Errors
/// Why not, and what to do instead.
pub(crate) fn widens(from: &DataType, to: &DataType) -> std::result::Result<(), String> {
    use DataType as T;
    if from == to {
        return Ok(());
    }
    let wider = match (from, to) {
        (a, b) if a.is_signed_integer() && b.is_signed_integer() => bits(a) < bits(b),
        (a, b) if a.is_unsigned_integer() && b.is_integer() => bits(a) < bits(b),
        (T::Float16, T::Float32 | T::Float64) | (T::Float32, T::Float64) => true,
        (a, b) if a.is_decimal() && b.is_decimal() => match (decimal(a), decimal(b)) {
            (Some((p, s)), Some((wider_p, same_s))) => {
                if s != same_s {
                    return Err(
                        "the scale of a decimal cannot change, because its values and statistics \
                         are stored without it; add a column and UPDATE it"
                            .to_owned(),
                    );
                }
                p <= wider_p && bits(a) <= bits(b)
            }
            _ => false,
        },
        _ => false,
    };
    if wider {
        return Ok(());
    }
    Err(format!(
        "{from} cannot become {to}: a type can only be widened (an integer to a larger one, a float \
         to a double, a decimal to more digits); add a column and UPDATE it"
    ))
}

fn bits(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(0)
}

fn decimal(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => Some((*p, *s)),
        _ => None,
    }
}

/// The value that `text`, an initial default, stands for.
///
/// # Errors
/// It is not one of type `data_type`.
pub(crate) fn initial_value(column: &str, text: &str, data_type: &DataType) -> Result<ScalarValue> {
    let value = ScalarValue::Utf8(Some(text.to_owned())).cast_to(data_type);
    let bad = |why: String| {
        Error::new(
            ErrorKind::Corrupt,
            column,
            format!("its initial default {text:?} is not a value of type {data_type}{why}"),
        )
    };
    match value {
        Ok(value) if !value.is_null() => Ok(value),
        Ok(_) => Err(bad(String::new())),
        Err(e) => Err(bad(format!(": {e}"))),
    }
}

/// The text of an initial default, from which [`initial_value`] makes the same value.
///
/// # Errors
/// There is none for values of this type.
pub(crate) fn initial_text(column: &str, value: &ScalarValue) -> Result<String> {
    let text = match value.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(text)) => text,
        _ => None,
    };
    let data_type = value.data_type();
    text.filter(|text| initial_value(column, text, &data_type).is_ok_and(|v| v == *value))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                column,
                format!(
                    "rows that are there already cannot be given the default {value} of type \
                     {data_type}; add the column without a default, and UPDATE it"
                ),
            )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn types_widen_and_never_narrow() {
        use DataType as T;
        for (from, to) in [
            (T::Int8, T::Int16),
            (T::Int32, T::Int64),
            (T::UInt32, T::UInt64),
            (T::UInt32, T::Int64),
            (T::Float32, T::Float64),
            (T::Decimal128(6, 2), T::Decimal128(20, 2)),
            (T::Decimal128(38, 2), T::Decimal256(50, 2)),
            (T::Utf8View, T::Utf8View),
        ] {
            assert_eq!(widens(&from, &to), Ok(()), "{from} {to}");
        }
        for (from, to) in [
            (T::Int64, T::Int32),
            (T::Int32, T::UInt64),
            (T::UInt64, T::Int64),
            (T::Int32, T::Float64),
            (T::Float64, T::Float32),
            (T::Int32, T::Utf8),
            (T::Decimal128(20, 2), T::Decimal128(6, 2)),
            (T::Decimal128(6, 2), T::Decimal128(20, 4)),
            (T::Decimal256(50, 2), T::Decimal128(38, 2)),
            (T::Date32, T::Timestamp(TimeUnit::Second, None)),
            (
                T::Timestamp(TimeUnit::Second, None),
                T::Timestamp(TimeUnit::Nanosecond, None),
            ),
        ] {
            assert!(widens(&from, &to).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn an_initial_default_survives_its_text() {
        let values = [
            ScalarValue::Int64(Some(i64::MIN)),
            ScalarValue::Float32(Some(0.1)),
            ScalarValue::Float64(Some(f64::MAX)),
            ScalarValue::Float64(Some(-0.0)),
            ScalarValue::Boolean(Some(true)),
            ScalarValue::Utf8View(Some("it's\n".to_owned())),
            ScalarValue::Decimal128(Some(-12345), 10, 2),
            ScalarValue::Date32(Some(-1)),
            ScalarValue::TimestampNanosecond(Some(1), None),
            ScalarValue::TimestampMillisecond(Some(-1), Some("+02:00".into())),
        ];
        for value in values {
            let text = initial_text("c", &value).unwrap();
            let again = initial_value("c", &text, &value.data_type()).unwrap();
            assert_eq!(again, value, "{text}");
        }
    }

    #[test]
    fn a_default_without_a_text_is_refused() {
        let interval = ScalarValue::IntervalYearMonth(Some(1));
        let list = ScalarValue::new_list_nullable(&[ScalarValue::Int32(Some(1))], &DataType::Int32);
        for value in [ScalarValue::List(list), interval] {
            if let Ok(text) = initial_text("c", &value) {
                let again = initial_value("c", &text, &value.data_type()).unwrap();
                assert_eq!(again, value);
            }
        }
        assert!(initial_value("c", "many", &DataType::Int32).is_err());
    }
}
