//! Whether rows ascend strictly by a key, found out as they come: rows that do are all different.
//!
//! Owns the comparison of neighbours, and what writers find out about the superfiles that they write. Does not own what
//! is done about rows that do not ascend.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, DynComparator, RecordBatch, make_comparator};
use arrow::compute::SortOptions;
use arrow::compute::kernels::cmp::lt;

use crate::error::{Error, ErrorKind, Result};
use crate::format::SuperfileId;

/// Batches of rows, compared one after the other by some of their columns.
#[derive(Debug)]
pub(crate) struct Ascending {
    columns: Vec<usize>,
    /// The key of the last row.
    last: Option<Vec<ArrayRef>>,
}

impl Ascending {
    /// No rows yet; those that come are compared by these columns, the first one first.
    pub(crate) fn by(columns: Vec<usize>) -> Self {
        Self {
            columns,
            last: None,
        }
    }

    /// Takes the rows of `batch` in; the first of them that is not greater than the row before it. A NULL is not
    /// greater than a NULL.
    ///
    /// # Errors
    /// A column is not there, or has a type without an order.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<Option<usize>> {
        let rows = batch.num_rows();
        let Some(before_last) = rows.checked_sub(1) else {
            return Ok(None);
        };
        let columns = (self.columns.iter())
            .map(|at| batch.columns().get(*at).cloned())
            .collect::<Option<Vec<ArrayRef>>>()
            .ok_or_else(|| not_comparable("a column of the key is missing"))?;
        let last = columns.iter().map(|c| c.slice(before_last, 1)).collect();
        let previous = self.last.replace(last);
        if let Some(previous) = previous
            && compare(&comparators(&previous, &columns)?, 0, 0) != Ordering::Less
        {
            return Ok(Some(0));
        }
        if let [column] = columns.as_slice()
            && all_less(column)?
        {
            return Ok(None);
        }
        let same = comparators(&columns, &columns)?;
        Ok((1..rows).find(|row| compare(&same, row - 1, *row) != Ordering::Less))
    }
}

/// Whether each value is less than the next one.
fn all_less(column: &ArrayRef) -> Result<bool> {
    let pairs = column.len().saturating_sub(1);
    let less: BooleanArray = lt(&column.slice(0, pairs), &column.slice(1, pairs))
        .map_err(|e| not_comparable("a column of the key has no order").with_source(e))?;
    Ok(less.true_count() == pairs)
}

fn comparators(left: &[ArrayRef], right: &[ArrayRef]) -> Result<Vec<DynComparator>> {
    (left.iter().zip(right))
        .map(|(left, right)| {
            make_comparator(left.as_ref(), right.as_ref(), SortOptions::default())
                .map_err(|e| not_comparable("a column of the key has no order").with_source(e))
        })
        .collect()
}

fn compare(columns: &[DynComparator], left: usize, right: usize) -> Ordering {
    let orders = columns.iter().map(|compare| compare(left, right));
    orders.fold(Ordering::Equal, Ordering::then)
}

fn not_comparable(why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "key", why)
}

/// What the writers of one statement find out about the superfiles that they write.
#[derive(Debug, Default)]
pub(crate) struct KeyOrders {
    keys: Vec<Vec<usize>>,
    ascending: Mutex<HashSet<(SuperfileId, usize)>>,
}

impl KeyOrders {
    /// For keys of these columns of the rows that are written.
    pub(crate) fn of(keys: Vec<Vec<usize>>) -> Self {
        Self {
            keys,
            ascending: Mutex::default(),
        }
    }

    /// Whether the rows of a superfile ascend strictly by the key with this index.
    pub(crate) fn ascends(&self, superfile: SuperfileId, key: usize) -> bool {
        let ascending = self.ascending.lock();
        let ascending = ascending.unwrap_or_else(PoisonError::into_inner);
        ascending.contains(&(superfile, key))
    }

    /// The beginning of a superfile.
    pub(super) fn begin(&self) -> KeyOrder {
        let keys = self.keys.iter().cloned();
        KeyOrder(keys.map(|key| Some(Ascending::by(key))).collect())
    }

    /// The end of one.
    pub(super) fn end(&self, superfile: SuperfileId, order: &KeyOrder) {
        let ascending = self.ascending.lock();
        let mut ascending = ascending.unwrap_or_else(PoisonError::into_inner);
        for (key, _) in order.0.iter().enumerate().filter(|(_, it)| it.is_some()) {
            ascending.insert((superfile, key));
        }
    }
}

/// The rows of one superfile on its way, by each key; none for one by which they do not ascend.
#[derive(Debug)]
pub(super) struct KeyOrder(Vec<Option<Ascending>>);

impl KeyOrder {
    /// Takes the rows of `batch` in.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        for order in &mut self.0 {
            // What cannot be compared does not ascend.
            order.take_if(|order| !matches!(order.add(batch), Ok(None)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: &[(Option<i64>, &str)]) -> RecordBatch {
        let numbers: Int64Array = rows.iter().map(|row| row.0).collect();
        let texts: StringArray = rows.iter().map(|row| Some(row.1)).collect();
        let columns: [(&str, ArrayRef); 2] = [("n", Arc::new(numbers)), ("t", Arc::new(texts))];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true))).unwrap()
    }

    proptest! {
        #[test]
        fn the_first_row_that_is_not_greater_is_found_whatever_the_batches(
            rows in prop::collection::vec((prop::option::of(0_i64..4), "[ab]{0,1}"), 0..12),
            cuts in prop::collection::vec(1_usize..4, 12),
            one in any::<bool>(),
        ) {
            let rows: Vec<(Option<i64>, &str)> = rows.iter().map(|(n, t)| (*n, t.as_str())).collect();
            let key = |row: &(Option<i64>, &str)| (row.0, (!one).then(|| row.1.to_owned()));
            let expected = (1..rows.len()).find(|at| key(&rows[at - 1]) >= key(&rows[*at]));
            let mut order = Ascending::by(if one { vec![0] } else { vec![0, 1] });
            let (mut from, mut found) = (0, None);
            for cut in cuts {
                let to = rows.len().min(from + cut);
                found = found.or(order.add(&batch(&rows[from..to])).unwrap().map(|at| from + at));
                from = to;
            }
            prop_assert_eq!(found, expected);
        }
    }
}
