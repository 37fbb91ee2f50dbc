//! Which rows may have one of many keys, by hashes of the keys.
//!
//! A join of many keys in no order with a large target looks each of the target's rows up in a table that is in no cache
//! of the processor. A filter of a few megabytes is, and most rows of the target pass it only if they have a partner: a
//! blocked Bloom filter of one word for each key (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
//! Filters", WEA 2007).
//!
//! Owns the filter, and the expression by which a plan uses it. Does not own who may leave rows out by it.
//!
//! Invariant: a key that was put in is never said to be absent. Keys are equal only if they have the same type and bytes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_plan::PhysicalExpr;

/// Bits for each key: of keys that are not there about one in a thousand passes.
const BITS_PER_KEY: usize = 32;

/// See the module documentation.
pub(crate) struct HashFilter {
    words: Vec<u64>,
    mask: u64,
}

impl HashFilter {
    /// An empty filter that will get so many keys.
    pub(crate) fn for_keys(keys: usize) -> Self {
        let words = (keys.saturating_mul(BITS_PER_KEY) / 64).max(1);
        let words = words.checked_next_power_of_two().unwrap_or(1 << 31);
        Self {
            words: vec![0; words],
            mask: words as u64 - 1,
        }
    }

    /// Bytes of memory that a filter of so many keys takes.
    pub(crate) fn memory_of(keys: usize) -> usize {
        let words = (keys.saturating_mul(BITS_PER_KEY) / 64).max(1);
        words.saturating_mul(2 * size_of::<u64>())
    }

    /// Puts a key in; whether it, or one that looks like it, was there.
    pub(crate) fn insert(&mut self, hash: u64) -> bool {
        let (at, bits) = self.place(hash);
        match self.words.get_mut(at) {
            Some(word) => {
                let was_there = *word & bits == bits;
                *word |= bits;
                was_there
            }
            None => true,
        }
    }

    /// Whether a key may be there.
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        let (at, bits) = self.place(hash);
        (self.words.get(at)).is_none_or(|word| word & bits == bits)
    }

    /// The word of a key, and its four bits in it.
    fn place(&self, hash: u64) -> (usize, u64) {
        let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bits = [0, 6, 12, 18].map(|shift| 1_u64 << ((hash >> shift) & 63));
        let at = (mixed >> 32) & self.mask;
        let all = bits.into_iter().fold(0, |all, bit| all | bit);
        (usize::try_from(at).unwrap_or(0), all)
    }
}

impl fmt::Debug for HashFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashFilter")
            .field("bytes", &(self.words.len() * size_of::<u64>()))
            .finish_non_exhaustive()
    }
}

/// A hash for each row of these columns; `rows` is their length.
pub(crate) fn hashes(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0; rows];
    create_hashes(columns, &RandomState::default(), &mut hashes)?;
    Ok(hashes)
}

/// That a row may have one of the keys in a filter.
#[derive(Debug, Clone)]
pub(super) struct MayHaveKey {
    key: Vec<Arc<dyn PhysicalExpr>>,
    filter: Arc<(HashFilter, MemoryReservation)>,
}

impl MayHaveKey {
    /// Of rows whose key is `key`; `memory` is what the filter takes.
    pub(super) fn new(
        key: Vec<Arc<dyn PhysicalExpr>>,
        filter: HashFilter,
        memory: MemoryReservation,
    ) -> Self {
        Self {
            key,
            filter: Arc::new((filter, memory)),
        }
    }
}

impl PartialEq for MayHaveKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.filter, &other.filter) && self.key == other.key
    }
}

impl Eq for MayHaveKey {}

impl Hash for MayHaveKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Display for MayHaveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key: Vec<String> = self.key.iter().map(ToString::to_string).collect();
        write!(f, "may have a key of the source({})", key.join(", "))
    }
}

impl PhysicalExpr for MayHaveKey {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let columns = (self.key.iter())
            .map(|key| key.evaluate(batch)?.into_array(rows))
            .collect::<Result<Vec<_>>>()?;
        let hashes = hashes(&columns, rows)?;
        let may_have = hashes.into_iter().map(|hash| self.filter.0.may_have(hash));
        let may_have: BooleanArray = may_have.collect::<Vec<bool>>().into();
        Ok(ColumnarValue::Array(Arc::new(may_have)))
    }

    fn return_field(&self, _input_schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(
            "may_have_key",
            DataType::Boolean,
            false,
        )))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.key.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        if children.len() != self.key.len() {
            return internal_err!("a key of {} columns got {}", self.key.len(), children.len());
        }
        Ok(Arc::new(Self {
            key: children,
            filter: Arc::clone(&self.filter),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Int64Array, StringViewArray};

    use super::*;

    fn columns(numbers: std::ops::Range<i64>) -> Vec<ArrayRef> {
        let texts = numbers
            .clone()
            .map(|n| format!("a text that is longer than a view {n}"));
        vec![
            Arc::new(Int64Array::from_iter_values(numbers)),
            Arc::new(StringViewArray::from_iter_values(texts)),
        ]
    }

    #[test]
    fn a_key_that_was_put_in_passes_and_few_others_do() {
        for of in [0..1, 0..2] {
            let hashes_of = |numbers: std::ops::Range<i64>| {
                let rows = numbers.clone().count();
                hashes(&columns(numbers)[of.clone()], rows).unwrap()
            };
            let mut filter = HashFilter::for_keys(50_000);
            let twice = hashes_of(0..50_000)
                .into_iter()
                .filter(|hash| filter.insert(*hash));
            let twice = twice.count();
            assert!(twice < 200, "{twice}");
            assert!(
                hashes_of(0..50_000)
                    .into_iter()
                    .all(|hash| filter.may_have(hash))
            );
            let others = hashes_of(50_000..150_000).into_iter();
            let others = others.filter(|hash| filter.may_have(*hash)).count();
            assert!(others < 1_000, "{others}");
        }
    }

    #[test]
    fn no_size_is_too_small_or_too_large() {
        for keys in [0, 1, 3, 1 << 20] {
            let mut filter = HashFilter::for_keys(keys);
            assert!(!filter.insert(7) && filter.insert(7) && filter.may_have(7));
            assert!(filter.words.len() * 8 <= HashFilter::memory_of(keys).max(16));
        }
    }
}
