//! Column statistics of a superfile, as the manifest keeps them.
//!
//! Owns the values, their conversion from and to DataFusion's scalars, and how bounds are
//! shortened. Does not own which columns have statistics (the writer decides) or what is pruned
//! by them (the scan).
//!
//! Invariant: a bound holds for *all physical rows* of the superfile, deleted ones included, in
//! the order in which DataFusion compares values (for floats the total order, in which a NaN is
//! above infinity). So a column that contains a NaN has no bounds at all. Bounds may be wider
//! than the data; `min_exact` and `max_exact` say when they are values of the data.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, TimeUnit};
use datafusion::common::ScalarValue;

type F16 = <Float16Type as ArrowPrimitiveType>::Native;

/// One value of a column, in the form that its type is ordered by.
///
/// | variant | Arrow types |
/// | --- | --- |
/// | `Bool` | Boolean |
/// | `Int` | Int8 … Int64, Date32, Date64, Time32, Time64, Timestamp, Duration (in the type's unit) |
/// | `UInt` | UInt8 … UInt64 |
/// | `Float` | Float16, Float32, Float64 |
/// | `Decimal` | Decimal32, Decimal64, Decimal128 (unscaled) |
/// | `Utf8` | Utf8, LargeUtf8, Utf8View |
/// | `Binary` | Binary, LargeBinary, BinaryView, FixedSizeBinary |
///
/// Dictionaries are as their values. Other types have no statistics.
#[derive(Clone, Debug, PartialEq)]
pub enum StatValue {
    /// A truth value.
    Bool(bool),
    /// A signed integer, date, time, timestamp or duration.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A float; never a NaN.
    Float(f64),
    /// An unscaled decimal.
    Decimal(i128),
    /// A string.
    Utf8(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// What is known of one column of one superfile.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnStats {
    /// No value is smaller. `None`: not known, or the column has no value but NULL.
    pub min: Option<StatValue>,
    /// No value is greater. `None`: as for `min`.
    pub max: Option<StatValue>,
    /// How many of the physical rows are NULL. `None`: not known.
    pub null_count: Option<u64>,
    /// Whether `min` is a value of the data, not only a bound.
    pub min_exact: bool,
    /// Whether `max` is a value of the data, not only a bound.
    pub max_exact: bool,
}

/// What is known of the columns of one superfile, by field id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SuperfileStats {
    /// The columns that have statistics.
    pub columns: BTreeMap<i32, ColumnStats>,
}

/// What is known of some physical rows: those of a superfile, or of all superfiles below a node of the manifest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowStats<'a> {
    /// What is known of their columns.
    pub(crate) columns: &'a SuperfileStats,
    /// How many they are.
    pub(crate) rows: u64,
}

impl SuperfileStats {
    /// What holds for the rows of all `parts` together. A column that one of them does not know is not known.
    pub(crate) fn of_all<'a>(parts: impl IntoIterator<Item = RowStats<'a>>) -> Self {
        let mut parts = parts.into_iter().filter(|part| part.rows > 0);
        let Some(first) = parts.next() else {
            return Self::default();
        };
        let mut columns = first.columns.columns.clone();
        let mut rows = first.rows;
        for part in parts {
            columns.retain(|id, all| match part.columns.columns.get(id) {
                Some(other) => {
                    all.extend(rows, other, part.rows);
                    true
                }
                None => false,
            });
            rows = rows.saturating_add(part.rows);
        }
        Self { columns }
    }
}

impl ColumnStats {
    /// Makes what holds for `rows` rows hold for `other_rows` more, of which `other` is known.
    fn extend(&mut self, rows: u64, other: &Self, other_rows: u64) {
        // A column of NULLs alone has no bounds, and leaves those of others as they are.
        if self.null_count == Some(rows) {
            (self.min, self.min_exact) = (other.min.clone(), other.min_exact);
            (self.max, self.max_exact) = (other.max.clone(), other.max_exact);
        } else if other.null_count != Some(other_rows) {
            self.min = outer(self.min.take(), other.min.as_ref(), Ordering::Less);
            self.max = outer(self.max.take(), other.max.as_ref(), Ordering::Greater);
            (self.min_exact, self.max_exact) = (false, false);
        }
        self.null_count = match (self.null_count, other.null_count) {
            (Some(a), Some(b)) => a.checked_add(b),
            _ => None,
        };
    }

    /// Statistics with exact bounds, shortened to at most `max_len` bytes where they are strings
    /// or binary (see [`StatValue::lower_bound`]).
    ///
    /// Zeros of floats are widened to both signs: Parquet's own footers do not tell -0.0 from 0.0.
    pub fn new(
        min: Option<StatValue>,
        max: Option<StatValue>,
        null_count: Option<u64>,
        max_len: usize,
    ) -> Self {
        let (min, min_exact) = match min {
            Some(StatValue::Float(v)) if v.is_nan() => (None, false),
            Some(StatValue::Float(v)) if v == 0.0 => {
                (Some(StatValue::Float(-0.0)), v.is_sign_negative())
            }
            Some(value) => {
                let (bound, exact) = value.lower_bound(max_len);
                (Some(bound), exact)
            }
            None => (None, false),
        };
        let (max, max_exact) = match max {
            Some(StatValue::Float(v)) if v.is_nan() => (None, false),
            Some(StatValue::Float(v)) if v == 0.0 => {
                (Some(StatValue::Float(0.0)), v.is_sign_positive())
            }
            Some(value) => match value.upper_bound(max_len) {
                Some((bound, exact)) => (Some(bound), exact),
                None => (None, false),
            },
            None => (None, false),
        };
        Self {
            min,
            max,
            null_count,
            min_exact,
            max_exact,
        }
    }
}

impl StatValue {
    /// The value of a scalar; `None` for NULL, NaN and types without statistics.
    pub fn from_scalar(scalar: &ScalarValue) -> Option<Self> {
        use ScalarValue as S;
        Some(match scalar {
            S::Boolean(v) => Self::Bool((*v)?),
            S::Int8(v) => Self::Int((*v)?.into()),
            S::Int16(v) => Self::Int((*v)?.into()),
            S::Int32(v) | S::Date32(v) | S::Time32Second(v) | S::Time32Millisecond(v) => {
                Self::Int((*v)?.into())
            }
            S::Int64(v)
            | S::Date64(v)
            | S::Time64Microsecond(v)
            | S::Time64Nanosecond(v)
            | S::TimestampSecond(v, _)
            | S::TimestampMillisecond(v, _)
            | S::TimestampMicrosecond(v, _)
            | S::TimestampNanosecond(v, _)
            | S::DurationSecond(v)
            | S::DurationMillisecond(v)
            | S::DurationMicrosecond(v)
            | S::DurationNanosecond(v) => Self::Int((*v)?),
            S::UInt8(v) => Self::UInt((*v)?.into()),
            S::UInt16(v) => Self::UInt((*v)?.into()),
            S::UInt32(v) => Self::UInt((*v)?.into()),
            S::UInt64(v) => Self::UInt((*v)?),
            S::Float16(v) => Self::float((*v)?.to_f64())?,
            S::Float32(v) => Self::float((*v)?.into())?,
            S::Float64(v) => Self::float((*v)?)?,
            S::Decimal32(v, _, _) => Self::Decimal((*v)?.into()),
            S::Decimal64(v, _, _) => Self::Decimal((*v)?.into()),
            S::Decimal128(v, _, _) => Self::Decimal((*v)?),
            S::Utf8(v) | S::LargeUtf8(v) | S::Utf8View(v) => Self::Utf8(v.as_ref()?.clone()),
            S::Binary(v) | S::LargeBinary(v) | S::BinaryView(v) | S::FixedSizeBinary(_, v) => {
                Self::Binary(v.as_ref()?.clone())
            }
            S::Dictionary(_, value) => Self::from_scalar(value)?,
            _ => return None,
        })
    }

    /// The order of two values of one column, of which one may be older than a widening of the column's type: the order of
    /// [`SuperfileStats`]' bounds. `None` if they cannot be compared.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        use StatValue as V;
        match (self, other) {
            (V::Bool(a), V::Bool(b)) => Some(a.cmp(b)),
            (V::Float(a), V::Float(b)) => Some(a.total_cmp(b)),
            (V::Decimal(a), V::Decimal(b)) => Some(a.cmp(b)),
            (V::Utf8(a), V::Utf8(b)) => Some(a.cmp(b)),
            (V::Binary(a), V::Binary(b)) => Some(a.cmp(b)),
            _ => Some(self.integer()?.cmp(&other.integer()?)),
        }
    }

    /// A whole number of whichever sign; `None` for any other value.
    pub(super) fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(v) => Some((*v).into()),
            Self::UInt(v) => Some((*v).into()),
            _ => None,
        }
    }

    fn float(value: f64) -> Option<Self> {
        (!value.is_nan()).then_some(Self::Float(value))
    }

    /// The scalar of type `data_type`; `None` when the value is not of that type. A value of a
    /// narrower integer, float or decimal type than the column's (it was widened since the
    /// superfile was written) converts too, and so does an unsigned one where it fits. Decimals carry no scale here: a column's scale must
    /// never change under its field id.
    pub fn to_scalar(&self, data_type: &DataType) -> Option<ScalarValue> {
        use DataType as T;
        use ScalarValue as S;
        Some(match (self, data_type) {
            (_, T::Dictionary(key, value)) => {
                S::Dictionary(key.clone(), Box::new(self.to_scalar(value)?))
            }
            (Self::Bool(v), T::Boolean) => S::Boolean(Some(*v)),
            (Self::Int(v), T::Int8) => S::Int8(Some(i8::try_from(*v).ok()?)),
            (Self::Int(v), T::Int16) => S::Int16(Some(i16::try_from(*v).ok()?)),
            (Self::Int(v), T::Int32) => S::Int32(Some(i32::try_from(*v).ok()?)),
            (Self::Int(v), T::Int64) => S::Int64(Some(*v)),
            (Self::Int(v), T::Date32) => S::Date32(Some(i32::try_from(*v).ok()?)),
            (Self::Int(v), T::Date64) => S::Date64(Some(*v)),
            (Self::Int(v), T::Time32(TimeUnit::Second)) => {
                S::Time32Second(Some(i32::try_from(*v).ok()?))
            }
            (Self::Int(v), T::Time32(TimeUnit::Millisecond)) => {
                S::Time32Millisecond(Some(i32::try_from(*v).ok()?))
            }
            (Self::Int(v), T::Time64(TimeUnit::Microsecond)) => S::Time64Microsecond(Some(*v)),
            (Self::Int(v), T::Time64(TimeUnit::Nanosecond)) => S::Time64Nanosecond(Some(*v)),
            (Self::Int(v), T::Timestamp(unit, zone)) => {
                let zone = zone.clone();
                match unit {
                    TimeUnit::Second => S::TimestampSecond(Some(*v), zone),
                    TimeUnit::Millisecond => S::TimestampMillisecond(Some(*v), zone),
                    TimeUnit::Microsecond => S::TimestampMicrosecond(Some(*v), zone),
                    TimeUnit::Nanosecond => S::TimestampNanosecond(Some(*v), zone),
                }
            }
            (Self::Int(v), T::Duration(unit)) => match unit {
                TimeUnit::Second => S::DurationSecond(Some(*v)),
                TimeUnit::Millisecond => S::DurationMillisecond(Some(*v)),
                TimeUnit::Microsecond => S::DurationMicrosecond(Some(*v)),
                TimeUnit::Nanosecond => S::DurationNanosecond(Some(*v)),
            },
            (Self::UInt(v), T::UInt8) => S::UInt8(Some(u8::try_from(*v).ok()?)),
            (Self::UInt(v), T::UInt16) => S::UInt16(Some(u16::try_from(*v).ok()?)),
            (Self::UInt(v), T::UInt32) => S::UInt32(Some(u32::try_from(*v).ok()?)),
            (Self::UInt(v), T::UInt64) => S::UInt64(Some(*v)),
            (Self::UInt(v), T::Int16) => S::Int16(Some(i16::try_from(*v).ok()?)),
            (Self::UInt(v), T::Int32) => S::Int32(Some(i32::try_from(*v).ok()?)),
            (Self::UInt(v), T::Int64) => S::Int64(Some(i64::try_from(*v).ok()?)),
            (Self::Float(v), T::Float64) => S::Float64(Some(*v)),
            (Self::Float(v), T::Float32) => {
                let narrow = *v as f32;
                // A bound that does not survive narrowing is no bound.
                (f64::from(narrow).to_bits() == v.to_bits()).then_some(S::Float32(Some(narrow)))?
            }
            (Self::Float(v), T::Float16) => {
                let narrow = F16::from_f64(*v);
                (narrow.to_f64().to_bits() == v.to_bits()).then_some(S::Float16(Some(narrow)))?
            }
            (Self::Decimal(v), T::Decimal32(p, s)) => {
                S::Decimal32(Some(i32::try_from(*v).ok()?), *p, *s)
            }
            (Self::Decimal(v), T::Decimal64(p, s)) => {
                S::Decimal64(Some(i64::try_from(*v).ok()?), *p, *s)
            }
            (Self::Decimal(v), T::Decimal128(p, s)) => S::Decimal128(Some(*v), *p, *s),
            (Self::Utf8(v), T::Utf8) => S::Utf8(Some(v.clone())),
            (Self::Utf8(v), T::LargeUtf8) => S::LargeUtf8(Some(v.clone())),
            (Self::Utf8(v), T::Utf8View) => S::Utf8View(Some(v.clone())),
            (Self::Binary(v), T::Binary) => S::Binary(Some(v.clone())),
            (Self::Binary(v), T::LargeBinary) => S::LargeBinary(Some(v.clone())),
            (Self::Binary(v), T::BinaryView) => S::BinaryView(Some(v.clone())),
            // A shortened bound is no value of a fixed-size type.
            (Self::Binary(v), T::FixedSizeBinary(n)) if usize::try_from(*n) == Ok(v.len()) => {
                S::FixedSizeBinary(*n, Some(v.clone()))
            }
            _ => return None,
        })
    }

    /// A value of at most `max_len` bytes that is not greater than this one, and whether it is
    /// this one. Only strings and bytes are ever shortened.
    pub fn lower_bound(self, max_len: usize) -> (Self, bool) {
        match self {
            Self::Utf8(mut s) if s.len() > max_len => {
                s.truncate(floor_char_boundary(&s, max_len));
                (Self::Utf8(s), false)
            }
            Self::Binary(mut b) if b.len() > max_len => {
                b.truncate(max_len);
                (Self::Binary(b), false)
            }
            other => (other, true),
        }
    }

    /// A value of at most `max_len` bytes that is not smaller than this one, and whether it is
    /// this one; `None` when there is none. Only strings and bytes are ever shortened.
    pub fn upper_bound(self, max_len: usize) -> Option<(Self, bool)> {
        match self {
            Self::Utf8(mut s) if s.len() > max_len => {
                s.truncate(floor_char_boundary(&s, max_len));
                // The successor of the prefix: raise its last character that can be raised
                // without growing, and drop what follows.
                while let Some(last) = s.pop() {
                    if let Some(next) = next_char(last)
                        && next.len_utf8() == last.len_utf8()
                    {
                        s.push(next);
                        return Some((Self::Utf8(s), false));
                    }
                }
                None
            }
            Self::Binary(mut b) if b.len() > max_len => {
                b.truncate(max_len);
                while let Some(last) = b.pop() {
                    if let Some(next) = last.checked_add(1) {
                        b.push(next);
                        return Some((Self::Binary(b), false));
                    }
                }
                None
            }
            other => Some((other, true)),
        }
    }
}

/// The one of two bounds that lies further out; none if one is missing, or they cannot be compared.
pub(super) fn outer(
    one: Option<StatValue>,
    other: Option<&StatValue>,
    outward: Ordering,
) -> Option<StatValue> {
    let (one, other) = (one?, other?);
    let order = other.compare(&one)?;
    Some(if order == outward { other.clone() } else { one })
}

/// The largest index not above `max` at which `s` can be cut.
fn floor_char_boundary(s: &str, max: usize) -> usize {
    (0..=max.min(s.len()))
        .rev()
        .find(|i| s.is_char_boundary(*i))
        .unwrap_or(0)
}

/// The character after `c`, leaving out the surrogates.
fn next_char(c: char) -> Option<char> {
    match u32::from(c).checked_add(1)? {
        0xd800 => char::from_u32(0xe000),
        next => char::from_u32(next),
    }
}
