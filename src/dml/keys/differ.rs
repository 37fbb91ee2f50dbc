//! Whether keys in memory are all different, without sorting them.
//!
//! Owns the search: by hashes, which tell nearly all keys apart, and exactly for the few that look like another. Does not
//! own which keys are in memory.
//!
//! Invariant: a key is said to be there twice exactly if it is.

use std::collections::HashSet;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;

use crate::dml::source_first::hashed::{HashFilter, hashes};

/// A row: the index of its batch, and its own in that.
pub(super) type At = (usize, usize);

/// A row whose key an earlier one has, in batches of keys none of which is NULL.
pub(super) fn first_twice(keys: &[RecordBatch]) -> Result<Option<At>> {
    let all = keys.iter().map(RecordBatch::num_rows).sum();
    let mut seen = HashFilter::for_keys(all);
    let mut doubtful: Vec<u64> = Vec::new();
    for batch in keys {
        let hashes = hashes(batch.columns(), batch.num_rows())?;
        doubtful.extend(hashes.into_iter().filter(|hash| seen.insert(*hash)));
    }
    drop(seen);
    let (Some(first), false) = (keys.first(), doubtful.is_empty()) else {
        return Ok(None);
    };
    // A key that is there twice has the hash of one that was doubtful when it came the second time.
    let mut filter = HashFilter::for_keys(doubtful.len());
    for hash in doubtful {
        filter.insert(hash);
    }
    let fields = first.schema().fields().clone();
    let fields = fields.iter().map(|f| SortField::new(f.data_type().clone()));
    let converter = RowConverter::new(fields.collect())?;
    let mut known: HashSet<Box<[u8]>> = HashSet::new();
    for (at, batch) in keys.iter().enumerate() {
        let hashes = hashes(batch.columns(), batch.num_rows())?;
        let may_be = hashes.into_iter().map(|hash| filter.may_have(hash));
        let may_be: Vec<bool> = may_be.collect();
        let places = may_be.iter().enumerate().filter(|(_, it)| **it);
        let places: Vec<usize> = places.map(|(row, _)| row).collect();
        if places.is_empty() {
            continue;
        }
        let batch = filter_record_batch(batch, &BooleanArray::from(may_be))?;
        let columns: &[ArrayRef] = batch.columns();
        let rows = converter.convert_columns(columns)?;
        for (row, place) in rows.iter().zip(places) {
            if !known.insert(row.data().into()) {
                return Ok(Some((at, place)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringViewArray};
    use proptest::prelude::*;

    use super::*;

    fn batches(keys: &[(i64, String)], of: usize) -> Vec<RecordBatch> {
        let batch = |keys: &[(i64, String)]| {
            let numbers = Int64Array::from_iter_values(keys.iter().map(|key| key.0));
            let texts = StringViewArray::from_iter_values(keys.iter().map(|key| &key.1));
            let columns: [(_, ArrayRef); 2] = [("n", Arc::new(numbers)), ("t", Arc::new(texts))];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        keys.chunks(of).map(batch).collect()
    }

    proptest! {
        #[test]
        fn a_key_is_there_twice_exactly_if_it_is(
            keys in prop::collection::vec((0i64..30, "[a-c]{0,1}"), 0..60), of in 1usize..20,
        ) {
            let mut seen = HashSet::new();
            let expected = keys.iter().position(|key| !seen.insert(key.clone()));
            let found = first_twice(&batches(&keys, of)).unwrap();
            prop_assert_eq!(found.map(|(batch, row)| batch * of + row), expected);
        }
    }

    #[test]
    fn many_keys_that_differ_and_one_that_does_not() {
        let key = |n: i64| (n.wrapping_mul(7_919), format!("key {n}"));
        let mut keys: Vec<(i64, String)> = (0..100_000).map(key).collect();
        assert_eq!(first_twice(&batches(&keys, 8_192)).unwrap(), None);
        keys.push(key(77));
        let found = first_twice(&batches(&keys, 8_192)).unwrap();
        assert_eq!(found, Some((100_000 / 8_192, 100_000 % 8_192)));
    }
}
