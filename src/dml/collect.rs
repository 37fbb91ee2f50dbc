//! Row addresses in, one bitmap of positions per superfile out.
//!
//! Owns the accumulation of the rows that a statement changes. Addresses arrive in batches, mostly
//! ascending; tens of millions of them must cost about a bit each and a nanosecond or two. So a
//! superfile's positions are kept in chunks of 65,536 rows, each a short list at first and a plain
//! bitset once the list is full, and become roaring bitmaps at the end only. Memory is accounted
//! for in the session's pool.
//!
//! Invariant: a row is collected at most once. A second arrival means that the statement's plan
//! matched a row twice, which must not be committed.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use roaring::RoaringBitmap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::format::ids::MAX_SUPERFILE_ROWS;

const CHUNK_BITS: u32 = 16;
const CHUNK_ROWS: usize = 1 << CHUNK_BITS;
const CHUNK_WORDS: usize = CHUNK_ROWS / 64;
/// A chunk's list becomes a bitset once it holds so many positions.
const LIST_LIMIT: usize = 256;

/// The rows that a statement changes, by superfile ordinal.
#[derive(Debug)]
pub struct CollectedRows {
    files: BTreeMap<i32, Vec<Chunk>>,
    rows: u64,
    memory: MemoryReservation,
}

#[derive(Debug)]
enum Chunk {
    /// Ascending, whatever the order of arrival: a row that comes twice must be found.
    List(Vec<u16>),
    Bits(Box<[u64; CHUNK_WORDS]>),
}

/// What happened to a position that was added.
enum Added {
    New { grown_bytes: usize },
    Twice,
}

impl CollectedRows {
    /// An empty collection that accounts for its memory in `pool`.
    pub fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            files: BTreeMap::new(),
            rows: 0,
            memory: MemoryConsumer::new("supertable changed rows").register(pool),
        }
    }

    /// Rows collected so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds the addresses in two columns of `batch`: superfile ordinal and position.
    ///
    /// # Errors
    /// Fails if a row arrives twice, if an address is missing or impossible, or if the memory
    /// pool is exhausted.
    pub fn add(&mut self, batch: &RecordBatch, file_at: usize, position_at: usize) -> Result<()> {
        let (files, positions) = (batch.column(file_at), batch.column(position_at));
        if files.null_count() > 0 || positions.null_count() > 0 {
            return exec_err!("the statement's plan yields rows without an address");
        }
        let files = files.as_primitive::<Int32Type>().values();
        let positions = positions.as_primitive::<Int64Type>().values();
        let mut at = 0;
        while let Some(&file) = files.get(at) {
            // Batches rarely mix superfiles: look the file up once for each run of rows.
            let rest = files.get(at..).unwrap_or_default();
            let run = leading(rest, |f| i64::from(f ^ file));
            let end = at + run;
            self.add_run(file, positions.get(at..end).unwrap_or_default())?;
            at = end;
        }
        Ok(())
    }

    fn add_run(&mut self, file: i32, positions: &[i64]) -> Result<()> {
        let chunks = self.files.entry(file).or_default();
        let mut grown = 0_usize;
        let mut rest = positions;
        while let Some(&first) = rest.first() {
            let Some(index) = u64::try_from(first)
                .ok()
                .filter(|p| *p < MAX_SUPERFILE_ROWS)
                .and_then(|p| usize::try_from(p).ok())
                .map(|p| p / CHUNK_ROWS)
            else {
                return exec_err!("{first} is not a position in a superfile");
            };
            if chunks.len() <= index {
                grown += (index + 1 - chunks.len()) * size_of::<Chunk>();
                chunks.resize_with(index + 1, || Chunk::List(Vec::new()));
            }
            let length = leading(rest, |p| (p ^ first) >> CHUNK_BITS);
            let (run, later) = rest.split_at(length);
            rest = later;
            let Some(chunk) = chunks.get_mut(index) else {
                return exec_err!("{first} is not a position in a superfile");
            };
            match chunk.insert_all(run) {
                Added::New { grown_bytes } => grown += grown_bytes,
                Added::Twice => {
                    return Err(Error::new(
                        ErrorKind::Constraint,
                        "cardinality violation",
                        "the statement would change a row of the target more than once; nothing \
                         was changed; make its source rows unique",
                    )
                    .into());
                }
            }
        }
        self.rows += positions.len() as u64;
        if grown > 0 {
            self.memory.try_grow(grown)?;
        }
        Ok(())
    }

    /// The collected positions as bitmaps, by superfile ordinal.
    pub fn into_bitmaps(self) -> impl Iterator<Item = (i32, RoaringBitmap)> {
        self.files.into_iter().map(|(file, chunks)| {
            let mut all = RoaringBitmap::new();
            for (index, chunk) in chunks.into_iter().enumerate() {
                all |= chunk.into_bitmap(index);
            }
            all.optimize();
            (file, all)
        })
    }
}

impl Chunk {
    /// Adds positions, all of them of this chunk.
    fn insert_all(&mut self, positions: &[i64]) -> Added {
        let mut grown_bytes = 0;
        if let Chunk::List(list) = self {
            if list.len() + positions.len() <= LIST_LIMIT {
                let before = list.capacity();
                let mut twice = false;
                for position in positions {
                    twice |= !insert_sorted(list, low_bits(*position));
                }
                grown_bytes = (list.capacity() - before) * size_of::<u16>();
                return Added::of(twice, grown_bytes);
            }
            let mut words = Box::new([0_u64; CHUNK_WORDS]);
            for old in list.iter() {
                set_bits(&mut words, usize::from(*old) / 64, 1 << (*old % 64));
            }
            *self = Chunk::Bits(words);
            grown_bytes = CHUNK_WORDS * size_of::<u64>();
        }
        let mut twice = false;
        if let Chunk::Bits(words) = self {
            // Neighbours share a word, which stays in a register: tens of millions of rows may come.
            let (mut at, mut bits) = (0, 0_u64);
            for position in positions {
                let low = low_bits(*position);
                let (word, bit) = (usize::from(low) / 64, 1_u64 << (low % 64));
                if word != at {
                    twice |= !set_bits(words, at, bits);
                    (at, bits) = (word, 0);
                }
                twice |= bits & bit != 0;
                bits |= bit;
            }
            twice |= !set_bits(words, at, bits);
        }
        Added::of(twice, grown_bytes)
    }

    fn into_bitmap(self, index: usize) -> RoaringBitmap {
        let base = (index * CHUNK_ROWS) as u32;
        match self {
            Chunk::List(list) => list.into_iter().map(|low| base + u32::from(low)).collect(),
            Chunk::Bits(words) => {
                let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
                RoaringBitmap::from_lsb0_bytes(base, &bytes)
            }
        }
    }
}

impl Added {
    fn of(twice: bool, grown_bytes: usize) -> Self {
        match twice {
            true => Self::Twice,
            false => Self::New { grown_bytes },
        }
    }
}

/// A position within its chunk.
fn low_bits(position: i64) -> u16 {
    (position & (CHUNK_ROWS as i64 - 1)) as u16
}

/// Adds to an ascending list; false if it is there already.
fn insert_sorted(list: &mut Vec<u16>, low: u16) -> bool {
    // Ascending arrivals, the usual case, need no search.
    let at = match list.last() {
        Some(last) if *last >= low => match list.binary_search(&low) {
            Ok(_) => return false,
            Err(at) => at,
        },
        _ => list.len(),
    };
    list.insert(at, low);
    true
}

/// How many values at the beginning have no difference, which is 0.
fn leading<T: Copy>(values: &[T], difference: impl Fn(T) -> i64) -> usize {
    // Mostly it is all of them, which is seen fastest without a way out before the end.
    if values.iter().fold(0, |all, v| all | difference(*v)) == 0 {
        return values.len();
    }
    values.iter().take_while(|v| difference(**v) == 0).count()
}

/// Sets bits of one word; false if one of them was set already.
fn set_bits(words: &mut [u64; CHUNK_WORDS], at: usize, bits: u64) -> bool {
    match words.get_mut(at) {
        Some(word) => {
            let new = *word & bits == 0;
            *word |= bits;
            new
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{Int32Array, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::execution::memory_pool::UnboundedMemoryPool;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn batch(rows: &[(i32, i64)]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("f", DataType::Int32, false),
            Field::new("p", DataType::Int64, false),
        ]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(rows.iter().map(|r| r.0).collect::<Int32Array>()),
                Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>()),
            ],
        )
        .unwrap()
    }

    fn collector() -> CollectedRows {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        CollectedRows::new(&pool)
    }

    #[test]
    fn a_row_matched_twice_is_refused_in_lists_and_in_bitsets() {
        let mut few = collector();
        few.add(&batch(&[(0, 7), (0, 9)]), 0, 1).unwrap();
        assert!(few.add(&batch(&[(0, 7)]), 0, 1).is_err());
        let mut many = collector();
        let rows: Vec<_> = (0..2000).map(|p| (0, p)).collect();
        many.add(&batch(&rows), 0, 1).unwrap();
        assert!(many.add(&batch(&[(0, 1999)]), 0, 1).is_err());
    }

    #[test]
    fn an_impossible_position_is_refused() {
        assert!(collector().add(&batch(&[(0, -1)]), 0, 1).is_err());
        assert!(collector().add(&batch(&[(0, 1 << 24)]), 0, 1).is_err());
    }

    #[test]
    fn a_row_matched_twice_is_refused_in_whatever_order_rows_arrive() {
        // The first arrival lies above the last one, the second above that: found by the differential.
        let mut some = collector();
        let twice = some.add(&batch(&[(0, 5), (0, 9), (0, 2), (0, 5)]), 0, 1);
        assert!(twice.is_err());
    }

    proptest! {
        #[test]
        fn rows_are_refused_exactly_if_one_arrives_twice(
            rows in proptest::collection::vec(0_i64..2_000, 0..400),
        ) {
            let rows: Vec<_> = rows.into_iter().map(|p| (0, p)).collect();
            let distinct = rows.iter().collect::<BTreeSet<_>>().len();
            let added = collector().add(&batch(&rows), 0, 1);
            prop_assert_eq!(added.is_ok(), distinct == rows.len());
        }

        #[test]
        fn bitmaps_hold_exactly_what_was_added(
            rows in proptest::collection::btree_set((0_i32..3, 0_i64..200_000), 0..3000),
            reverse: bool,
        ) {
            let mut order: Vec<_> = rows.iter().copied().collect();
            if reverse {
                order.reverse();
            }
            let mut collected = collector();
            for piece in order.chunks(100) {
                collected.add(&batch(piece), 0, 1).unwrap();
            }
            prop_assert_eq!(collected.rows(), rows.len() as u64);
            let got: BTreeSet<_> = collected
                .into_bitmaps()
                .flat_map(|(f, b)| b.into_iter().map(move |p| (f, i64::from(p))))
                .collect();
            prop_assert_eq!(got, rows);
        }
    }
}
