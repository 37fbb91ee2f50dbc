//! What the keys of a source exclude.
//!
//! Owns the way from a source's rows to ranges of keys. A few keys are ranges of one value each; of many, the widest
//! gaps between them separate the ranges. Does not own what is done with them.
//!
//! Invariant: each key that equals a value lies in a range. NULL equals nothing, and is in none. Types whose equality,
//! order and statistics might not agree (floats, with two zeros and NaN; dictionaries; nested ones) have no ranges.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{SortOptions, concat, sort_to_indices, take};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::PhysicalExprRef;

use super::buckets;
use super::line::Line;
use crate::scan::read::keys::KeyRanges;

/// More ranges cost each superfile that is opened more than they leave out of it.
const RANGES: usize = 64;
/// More rows are put into buckets rather than sorted.
const ROWS_TO_SORT: usize = 1 << 14;
/// Of more rows only the first and the last key are looked for: they are copied once for it.
const ROWS_TO_PLACE: usize = 1 << 20;

/// Whether values of `data_type` that are equal lie between the same bounds, for the engine and in statistics.
pub(super) fn has_ranges(data_type: &DataType) -> bool {
    use DataType::*;
    if let Decimal128(_, scale) = data_type {
        return *scale >= 0;
    }
    matches!(
        data_type,
        Int8 | Int16
            | Int32
            | Int64
            | UInt8
            | UInt16
            | UInt32
            | UInt64
            | Date32
            | Timestamp(..)
            | Utf8
            | LargeUtf8
            | Utf8View
            | Binary
            | LargeBinary
            | BinaryView
    )
}

/// The first and the last key of rows that are not kept.
#[derive(Debug, Default)]
pub(super) struct Bounds(Option<(ScalarValue, ScalarValue)>);

impl Bounds {
    /// Takes the keys of `batch` in.
    pub(super) fn add(&mut self, key: &PhysicalExprRef, batch: &RecordBatch) -> Result<()> {
        let keys = key.evaluate(batch)?.into_array(batch.num_rows())?;
        let (Some(first), Some(last)) = (end(&keys, false)?, end(&keys, true)?) else {
            return Ok(());
        };
        self.0 = Some(match self.0.take() {
            None => (first, last),
            Some((min, max)) => (
                if first.partial_cmp(&min) == Some(Ordering::Less) {
                    first
                } else {
                    min
                },
                if last.partial_cmp(&max) == Some(Ordering::Greater) {
                    last
                } else {
                    max
                },
            ),
        });
        Ok(())
    }

    /// One range, or none if there was no key.
    pub(super) fn ranges(self) -> KeyRanges {
        KeyRanges::new(self.0.into_iter().collect())
    }
}

/// The smallest or the greatest value of `keys` that is not NULL.
fn end(keys: &ArrayRef, greatest: bool) -> Result<Option<ScalarValue>> {
    if keys.null_count() == keys.len() {
        return Ok(None);
    }
    let options = SortOptions {
        descending: greatest,
        nulls_first: false,
    };
    let at = sort_to_indices(keys, Some(options), Some(1))?;
    match at.values().first() {
        Some(at) => Ok(Some(ScalarValue::try_from_array(keys, *at as usize)?)),
        None => Ok(None),
    }
}

/// The ranges of the keys of `batches`.
pub(super) fn ranges_of(key: &PhysicalExprRef, batches: &[RecordBatch]) -> Result<KeyRanges> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if rows > ROWS_TO_PLACE {
        return bounds_of(key, batches);
    }
    let keys = batches
        .iter()
        .map(|batch| key.evaluate(batch)?.into_array(batch.num_rows()))
        .collect::<Result<Vec<_>>>()?;
    let keys: Vec<&dyn Array> = keys.iter().map(AsRef::as_ref).collect();
    if keys.is_empty() {
        return Ok(KeyRanges::default());
    }
    // Text of more than two gigabytes is in no array.
    let Ok(keys) = concat(&keys) else {
        return bounds_of(key, batches);
    };
    if rows > ROWS_TO_SORT
        && let Some(ranges) = buckets::ranges(&keys, RANGES)?
    {
        return Ok(ranges);
    }
    let options = SortOptions {
        descending: false,
        nulls_first: false,
    };
    let known = keys.len() - keys.logical_null_count();
    let order = sort_to_indices(&keys, Some(options), Some(known))?;
    separated(&take(&keys, &order, None)?, RANGES)
}

fn bounds_of(key: &PhysicalExprRef, batches: &[RecordBatch]) -> Result<KeyRanges> {
    let mut bounds = Bounds::default();
    for batch in batches {
        bounds.add(key, batch)?;
    }
    Ok(bounds.ranges())
}

/// At most `most` ranges that hold all of `sorted`, which has no NULL.
fn separated(sorted: &ArrayRef, most: usize) -> Result<KeyRanges> {
    let Some(last) = sorted.len().checked_sub(1) else {
        return Ok(KeyRanges::default());
    };
    let value = |at: usize| ScalarValue::try_from_array(sorted, at);
    // Where the range before ends: the widest gaps. A type that has no line has one range.
    let line = Line::of(sorted)?;
    let gap = |line: &Line, at| line.at(at).abs_diff(line.at(at + 1)) as f64;
    let gaps = line
        .iter()
        .flat_map(|line| (0..last).map(|at| (gap(line, at), at)));
    let mut gaps: Vec<(f64, usize)> = gaps.filter(|(gap, _)| *gap > 0.0).collect();
    if gaps.len() >= most {
        // Keys that lie about evenly are one range: what is between two of them is seldom a page.
        let mean = gaps.iter().map(|(gap, _)| gap).sum::<f64>() / gaps.len() as f64;
        gaps.retain(|(gap, _)| *gap > 2.0 * mean);
    }
    gaps.sort_by(|a, b| b.0.total_cmp(&a.0));
    gaps.truncate(most.saturating_sub(1));
    let mut ends: Vec<usize> = gaps.into_iter().map(|(_, at)| at).collect();
    ends.sort_unstable();
    ends.push(last);
    let mut ranges = Vec::with_capacity(ends.len());
    let mut first = 0;
    for end in ends {
        ranges.push((value(first)?, value(end)?));
        first = end + 1;
    }
    Ok(KeyRanges::new(ranges))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringViewArray};
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    fn key() -> PhysicalExprRef {
        Arc::new(Column::new("k", 0))
    }

    fn batch(keys: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("k", keys)]).unwrap()
    }

    fn shown(ranges: &KeyRanges) -> String {
        format!("{ranges:?}")
    }

    #[test]
    fn few_keys_are_ranges_of_one_value_and_null_is_none() {
        let keys = Int64Array::from(vec![Some(9), None, Some(-3), Some(9)]);
        let ranges = ranges_of(&key(), &[batch(Arc::new(keys))]).unwrap();
        let value = |v| ScalarValue::Int64(Some(v));
        let wanted = KeyRanges::new(vec![(value(-3), value(-3)), (value(9), value(9))]);
        assert_eq!(shown(&ranges), shown(&wanted));
        let nulls = batch(Arc::new(Int64Array::from(vec![None, None])));
        assert!(
            ranges_of(&key(), std::slice::from_ref(&nulls))
                .unwrap()
                .is_empty()
        );
        assert!(ranges_of(&key(), &[]).unwrap().is_empty());
        let mut bounds = Bounds::default();
        bounds.add(&key(), &nulls).unwrap();
        assert!(bounds.ranges().is_empty());
    }

    #[test]
    fn the_widest_gaps_separate_the_ranges_of_many_keys() {
        let keys = (0..1000).chain(5_000_000..5_001_000);
        let sorted: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        let value = |v| ScalarValue::Int64(Some(v));
        let wanted = KeyRanges::new(vec![
            (value(0), value(999)),
            (value(5_000_000), value(5_000_999)),
        ]);
        assert_eq!(shown(&separated(&sorted, 2).unwrap()), shown(&wanted));
        let all = ranges_of(&key(), &[batch(sorted)]).unwrap();
        assert_eq!(shown(&all), shown(&wanted));
        let scattered = (0..1000).map(|n: i64| n * n * n);
        let scattered = batch(Arc::new(Int64Array::from_iter_values(scattered)));
        assert_eq!(ranges_of(&key(), &[scattered]).unwrap().len(), RANGES);
    }

    #[test]
    fn text_is_separated_by_its_bytes() {
        let keys = ["key-aa", "key-ab", "key-ac", "key-xa", "key-xé"];
        let sorted: ArrayRef = Arc::new(StringViewArray::from_iter_values(keys));
        let value = |v: &str| ScalarValue::Utf8View(Some(v.to_owned()));
        let wanted = KeyRanges::new(vec![
            (value("key-aa"), value("key-ac")),
            (value("key-xa"), value("key-xé")),
        ]);
        assert_eq!(shown(&separated(&sorted, 2).unwrap()), shown(&wanted));
    }

    #[test]
    fn bounds_hold_all_keys_of_all_batches() {
        let mut bounds = Bounds::default();
        for keys in [vec![Some(3), None], vec![None], vec![Some(-7), Some(2)]] {
            let keys = batch(Arc::new(Int64Array::from(keys)));
            bounds.add(&key(), &keys).unwrap();
        }
        let value = |v| ScalarValue::Int64(Some(v));
        let wanted = KeyRanges::new(vec![(value(-7), value(3))]);
        assert_eq!(shown(&bounds.ranges()), shown(&wanted));
    }
}
