//! Ranges of many keys, without sorting them.
//!
//! Owns the way from keys to ranges: the line from the first key to the last is cut into buckets of one width, and where
//! the longest runs of empty buckets are, there a range ends. Does not own which types have ranges.
//!
//! Invariant: each key lies in a range; the ends of ranges are keys, in ascending order.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, DynComparator, make_comparator};
use arrow::compute::SortOptions;
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};

use super::line::Line;
use crate::scan::read::keys::KeyRanges;

/// So many buckets: a page of a superfile is seldom less than one in thousands of what keys span.
const BUCKETS: usize = 4096;

/// The rows of the first and the last key of a bucket.
#[derive(Clone, Copy)]
struct Ends {
    first: usize,
    last: usize,
}

/// At most `most` ranges that hold all of `keys` but NULL; `None` if the type has no line.
pub(super) fn ranges(keys: &ArrayRef, most: usize) -> Result<Option<KeyRanges>> {
    let Some(line) = Line::of(keys)? else {
        return Ok(None);
    };
    let nulls = keys.logical_nulls();
    let is_key = |row: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row));
    let rows = || (0..keys.len()).filter(is_key);
    let bounds = rows().map(|row| line.at(row)).fold(None, |bounds, at| {
        let (low, high) = bounds.unwrap_or((at, at));
        Some((at.min(low), at.max(high)))
    });
    let Some((low, high)) = bounds else {
        return Ok(Some(KeyRanges::default()));
    };
    let width = high.abs_diff(low) / BUCKETS as u128 + 1;
    let bucket_of = |number: i128| {
        let distance = number.abs_diff(low);
        // Few keys are so far apart that it takes more than 64 bits, which are slow to divide.
        let bucket = match (u64::try_from(distance), u64::try_from(width)) {
            (Ok(distance), Ok(width)) => u128::from(distance / width),
            _ => distance / width,
        };
        usize::try_from(bucket).ok()
    };
    let compare = make_comparator(keys.as_ref(), keys.as_ref(), SortOptions::default())?;
    let mut buckets: Vec<Option<Ends>> = vec![None; BUCKETS];
    for row in rows() {
        let bucket = bucket_of(line.at(row)).and_then(|at| buckets.get_mut(at));
        let bucket = bucket.ok_or_else(|| internal_datafusion_err!("a key lies in no bucket"))?;
        *bucket = Some(match *bucket {
            None => Ends {
                first: row,
                last: row,
            },
            Some(ends) => widened(ends, row, &line, &compare),
        });
    }
    let filled: Vec<(usize, Ends)> = (buckets.into_iter().enumerate())
        .filter_map(|(at, ends)| Some((at, ends?)))
        .collect();
    // How many buckets are empty before a filled one that a range may begin with.
    let mut gaps: Vec<(usize, usize)> = (filled.iter().zip(filled.iter().skip(1)).enumerate())
        .map(|(at, ((before, _), (after, _)))| (after - before - 1, at + 1))
        .filter(|(empty, _)| *empty > 0)
        .collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    gaps.truncate(most.saturating_sub(1));
    let mut begins: Vec<usize> = gaps.into_iter().map(|(_, at)| at).collect();
    begins.sort_unstable();
    begins.push(filled.len());
    let value = |row| ScalarValue::try_from_array(keys, row);
    let mut ranges = Vec::with_capacity(begins.len());
    let mut begin = 0;
    for end in begins {
        if let Some([(_, first), .., (_, last)] | [(_, first @ last)]) = filled.get(begin..end) {
            ranges.push((value(first.first)?, value(last.last)?));
        }
        begin = end;
    }
    Ok(Some(KeyRanges::new(ranges)))
}

fn widened(ends: Ends, row: usize, line: &Line, compare: &DynComparator) -> Ends {
    // Keys of one number may differ where the number does not reach.
    let order = |other: usize| {
        let by_number = line.at(row).cmp(&line.at(other));
        by_number.then_with(|| compare(row, other))
    };
    Ends {
        first: match order(ends.first) {
            Ordering::Less => row,
            _ => ends.first,
        },
        last: match order(ends.last) {
            Ordering::Greater => row,
            _ => ends.last,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, Int8Array, Int64Array, StringArray,
        StringViewArray, TimestampNanosecondArray, UInt64Array,
    };
    use proptest::prelude::*;

    use super::*;

    fn any_keys() -> impl Strategy<Value = ArrayRef> {
        // Clusters, some of them at the ends of what a type has.
        let clusters = || {
            prop::collection::vec(
                (
                    prop_oneof![any::<i64>(), -9i64..9, Just(i64::MIN), Just(i64::MAX)],
                    -3i64..3,
                ),
                1..60,
            )
        };
        let numbers = move || {
            clusters().prop_map(|all| {
                let all = all.into_iter().map(|(at, by)| at.saturating_add(by));
                all.map(|n| (n % 7 != 3).then_some(n)).collect::<Vec<_>>()
            })
        };
        let texts = || prop::collection::vec(prop::option::of("(a|bb|ccc){0,4}[a-z]{0,9}"), 1..60);
        prop_oneof![
            numbers().prop_map(|n| Arc::new(Int64Array::from(n)) as ArrayRef),
            numbers().prop_map(|n| Arc::new(TimestampNanosecondArray::from(n)) as ArrayRef),
            numbers().prop_map(|n| Arc::new(Int8Array::from_iter(
                n.into_iter().map(|n| n.map(|n| n as i8))
            )) as ArrayRef),
            numbers().prop_map(|n| Arc::new(Date32Array::from_iter(
                n.into_iter().map(|n| n.map(|n| n as i32))
            )) as ArrayRef),
            numbers().prop_map(|n| Arc::new(UInt64Array::from_iter(
                n.into_iter().map(|n| n.map(|n| n as u64))
            )) as ArrayRef),
            numbers().prop_map(|n| {
                let wide = n
                    .into_iter()
                    .map(|n| n.map(|n| i128::from(n) << (n % 9).unsigned_abs()));
                Arc::new(Decimal128Array::from_iter(wide)) as ArrayRef
            }),
            texts().prop_map(|t| Arc::new(StringArray::from(t)) as ArrayRef),
            texts().prop_map(|t| Arc::new(StringViewArray::from_iter(t)) as ArrayRef),
            texts().prop_map(|t| Arc::new(BinaryArray::from_iter(
                t.into_iter().map(|t| t.map(String::into_bytes))
            )) as ArrayRef),
        ]
    }

    proptest! {
        #[test]
        fn each_key_lies_in_a_range(keys in any_keys(), most in 1usize..70) {
            let ranges = ranges(&keys, most).unwrap().unwrap();
            prop_assert!(ranges.len() <= most);
            let ends = ranges.ends();
            let value = |row| ScalarValue::try_from_array(&keys, row).unwrap();
            let known: Vec<ScalarValue> =
                (0..keys.len()).map(value).filter(|value| !value.is_null()).collect();
            prop_assert_eq!(ranges.is_empty(), known.is_empty());
            for key in &known {
                prop_assert!(ends.iter().any(|(low, high)| low <= key && key <= high), "{}", key);
            }
            for (low, high) in ends {
                prop_assert!(low <= high && known.contains(low) && known.contains(high));
            }
            for pair in ends.windows(2) {
                prop_assert!(pair[0].1 < pair[1].0);
            }
        }
    }

    #[test]
    fn keys_in_two_places_are_two_ranges() {
        let keys = (0..1_000).chain(5_000_000..5_001_000);
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        let ranges = ranges(&keys, 64).unwrap().unwrap();
        let value = |n| ScalarValue::Int64(Some(n));
        let expected = [(value(0), value(999)), (value(5_000_000), value(5_000_999))];
        assert_eq!(ranges.ends(), expected);
    }
}
