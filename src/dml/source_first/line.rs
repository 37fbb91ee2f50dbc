//! How far apart keys are.
//!
//! Owns a number for each key. How much a scan leaves out depends on it; what is right, on the invariant alone.
//!
//! Invariant: keys in ascending order have numbers that do not descend.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, UInt64Type};
use datafusion::common::Result;

/// What stands for a key on a line of whole numbers.
pub(super) enum Line {
    Signed(PrimitiveArray<Int64Type>),
    Unsigned(PrimitiveArray<UInt64Type>),
    Decimal(PrimitiveArray<Decimal128Type>),
    /// The eight bytes after so many that all have in common.
    Bytes(ArrayRef, usize),
}

impl Line {
    /// That of `keys`; `None` if their type has none.
    pub(super) fn of(keys: &ArrayRef) -> Result<Option<Self>> {
        Ok(Some(match keys.data_type() {
            DataType::UInt64 => Self::Unsigned(keys.as_primitive().clone()),
            DataType::Decimal128(..) => Self::Decimal(keys.as_primitive().clone()),
            DataType::Date32 => Self::Signed(number(&cast(keys, &DataType::Int32)?)?),
            other if other.is_integer() || other.is_temporal() => Self::Signed(number(keys)?),
            DataType::BinaryView => Self::Bytes(ArrayRef::clone(keys), common_bytes(keys)),
            DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary => {
                let bytes = cast(keys, &DataType::BinaryView)?;
                let common = common_bytes(&bytes);
                Self::Bytes(bytes, common)
            }
            _ => return Ok(None),
        }))
    }

    /// The number of the key in this row, which is not NULL.
    pub(super) fn at(&self, row: usize) -> i128 {
        match self {
            Self::Signed(numbers) => i128::from(numbers.value(row)),
            Self::Unsigned(numbers) => i128::from(numbers.value(row)),
            Self::Decimal(numbers) => numbers.value(row),
            Self::Bytes(values, common) => {
                let bytes = values.as_binary_view().value(row).iter().skip(*common);
                let eight = bytes.copied().chain(std::iter::repeat(0)).take(8);
                eight.fold(0, |number, byte| number << 8 | i128::from(byte))
            }
        }
    }
}

fn number<T: ArrowPrimitiveType>(keys: &ArrayRef) -> Result<PrimitiveArray<T>> {
    Ok(cast(keys, &T::DATA_TYPE)?.as_primitive::<T>().clone())
}

/// How many bytes all values begin with in common.
fn common_bytes(values: &ArrayRef) -> usize {
    let mut known = values.as_binary_view().iter().flatten();
    let Some(first) = known.next() else { return 0 };
    known.fold(first.len(), |common, value| {
        let same = first.iter().zip(value).take(common);
        same.take_while(|(a, b)| a == b).count()
    })
}
