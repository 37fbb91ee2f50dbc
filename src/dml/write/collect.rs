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
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryBuilder, Int32Builder, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::common::{Result, exec_err, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use roaring::RoaringBitmap;

use crate::error::{Error, ErrorKind};
use crate::format::ids::MAX_SUPERFILE_ROWS;
use crate::scan::row_address::{ADDRESS_FILE, ADDRESS_POSITION};

const CHUNK_BITS: u32 = 16;
const CHUNK_ROWS: usize = 1 << CHUNK_BITS;
const CHUNK_WORDS: usize = CHUNK_ROWS / 64;
const CHUNK_BYTES: usize = CHUNK_ROWS / 8;
/// A chunk's list becomes a bitset once it holds so many positions.
const LIST_LIMIT: usize = 256;

/// The rows that a statement changes, by superfile ordinal.
#[derive(Debug)]
pub(crate) struct CollectedRows {
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

/// Where the columns of a row's address are in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    file: usize,
    position: usize,
}

impl Addresses {
    /// Where they are in batches of this schema.
    ///
    /// # Errors
    /// They are not there.
    pub(crate) fn of(schema: &Schema) -> Result<Self> {
        Ok(Self {
            file: schema.index_of(ADDRESS_FILE)?,
            position: schema.index_of(ADDRESS_POSITION)?,
        })
    }
}

/// The schema of [`CollectedRows::take_chunks`]: a superfile's ordinal, which of its chunks, and the
/// positions in that: all 65,536 bits, or the positions' low 16 bits, little-endian.
pub(crate) fn chunks_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(ADDRESS_FILE, DataType::Int32, false),
        Field::new("chunk", DataType::Int32, false),
        Field::new("positions", DataType::Binary, false),
    ]))
}

/// What happened to a position that was added.
enum Added {
    New { grown_bytes: usize },
    Twice,
}

impl CollectedRows {
    /// An empty collection that accounts for its memory in `pool`.
    pub(crate) fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            files: BTreeMap::new(),
            rows: 0,
            memory: MemoryConsumer::new("supertable changed rows").register(pool),
        }
    }

    /// Rows collected so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.size()
    }

    /// Adds the addresses in two columns of `batch`: superfile ordinal and position.
    ///
    /// # Errors
    /// Fails if a row arrives twice, if an address is missing or impossible, or if the memory
    /// pool is exhausted.
    pub(crate) fn add(&mut self, batch: &RecordBatch, at: Addresses) -> Result<()> {
        let (files, positions) = (batch.column(at.file), batch.column(at.position));
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
        let mut grown = 0_usize;
        let mut rest = positions;
        while let Some(&first) = rest.first() {
            let Ok(index) = usize::try_from(first >> CHUNK_BITS) else {
                return exec_err!("{first} is not a position in a superfile");
            };
            let length = leading(rest, |p| (p ^ first) >> CHUNK_BITS);
            let (run, later) = rest.split_at(length);
            rest = later;
            let (chunk, more) = chunk_of(&mut self.files, file, index)?;
            grown += more + chunk.insert_all(run).grown_bytes()?;
        }
        self.rows += positions.len() as u64;
        if grown > 0 {
            self.memory.try_grow(grown)?;
        }
        Ok(())
    }

    /// What is collected, of the schema [`chunks_schema`]; none of it is left.
    pub(crate) fn take_chunks(&mut self) -> Result<RecordBatch> {
        let mut files = Int32Builder::new();
        let mut indices = Int32Builder::new();
        let mut positions = BinaryBuilder::new();
        for (file, chunks) in std::mem::take(&mut self.files) {
            for (index, chunk) in (0..).zip(chunks) {
                if !chunk.is_empty() {
                    files.append_value(file);
                    indices.append_value(index);
                    positions.append_value(chunk.to_bytes());
                }
            }
        }
        self.rows = 0;
        self.memory.free();
        Ok(RecordBatch::try_new(
            chunks_schema(),
            vec![
                Arc::new(files.finish()),
                Arc::new(indices.finish()),
                Arc::new(positions.finish()),
            ],
        )?)
    }

    /// Adds what [`take_chunks`](Self::take_chunks) took from another collection.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(crate) fn add_chunks(&mut self, batch: &RecordBatch) -> Result<()> {
        let wrong = || internal_datafusion_err!("a batch has not the columns of chunks");
        let [files, indices, positions] = batch.columns() else {
            return Err(wrong());
        };
        let files = files.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?;
        let indices = indices.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?;
        let positions = positions.as_binary_opt::<i32>().ok_or_else(wrong)?;
        for ((file, index), bytes) in files.values().iter().zip(indices.values()).zip(positions) {
            let index = usize::try_from(*index).map_err(|_| wrong())?;
            let bytes = bytes.unwrap_or_default();
            match <&[u8; CHUNK_BYTES]>::try_from(bytes) {
                Ok(bits) => self.add_bits(*file, index, bits)?,
                Err(_) => {
                    let base = (index * CHUNK_ROWS) as i64;
                    let (lows, _) = bytes.as_chunks::<2>();
                    let lows = lows.iter().map(|low| i64::from(u16::from_le_bytes(*low)));
                    let positions: Vec<i64> = lows.map(|low| base + low).collect();
                    self.add_run(*file, &positions)?;
                }
            }
        }
        Ok(())
    }

    fn add_bits(&mut self, file: i32, index: usize, bits: &[u8; CHUNK_BYTES]) -> Result<()> {
        let (chunk, grown) = chunk_of(&mut self.files, file, index)?;
        let (rows, added) = chunk.insert_bits(bits);
        self.rows += rows;
        self.memory.try_grow(grown + added.grown_bytes()?)
    }

    /// The collected positions as bitmaps, by superfile ordinal.
    pub(crate) fn into_bitmaps(self) -> impl Iterator<Item = (i32, RoaringBitmap)> {
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

/// The chunk of a file that has this index, and the bytes that making room for it took.
fn chunk_of(
    files: &mut BTreeMap<i32, Vec<Chunk>>,
    file: i32,
    index: usize,
) -> Result<(&mut Chunk, usize)> {
    let chunks = files.entry(file).or_default();
    let mut grown = 0;
    if chunks.len() <= index && index < MAX_SUPERFILE_ROWS as usize / CHUNK_ROWS {
        grown = (index + 1 - chunks.len()) * size_of::<Chunk>();
        chunks.resize_with(index + 1, || Chunk::List(Vec::new()));
    }
    match chunks.get_mut(index) {
        Some(chunk) => Ok((chunk, grown)),
        None => exec_err!("no superfile has a row at {index} times {CHUNK_ROWS}"),
    }
}

impl Chunk {
    fn is_empty(&self) -> bool {
        matches!(self, Chunk::List(list) if list.is_empty())
    }

    /// Adds positions, all of them of this chunk.
    fn insert_all(&mut self, positions: &[i64]) -> Added {
        let mut grown_bytes = 0;
        if let Chunk::List(list) = self
            && list.len() + positions.len() <= LIST_LIMIT
        {
            let before = list.capacity();
            let mut twice = false;
            for position in positions {
                twice |= !insert_sorted(list, low_bits(*position));
            }
            grown_bytes = (list.capacity() - before) * size_of::<u16>();
            return Added::of(twice, grown_bytes);
        }
        grown_bytes += self.become_bits();
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

    /// Adds the positions that are set in `bits`; how many they are.
    fn insert_bits(&mut self, bits: &[u8; CHUNK_BYTES]) -> (u64, Added) {
        let grown_bytes = self.become_bits();
        let (mut rows, mut twice) = (0, 0);
        if let Chunk::Bits(words) = self {
            let (new, _) = bits.as_chunks::<8>();
            for (word, new) in words.iter_mut().zip(new) {
                let new = u64::from_le_bytes(*new);
                rows += u64::from(new.count_ones());
                twice |= *word & new;
                *word |= new;
            }
        }
        (rows, Added::of(twice != 0, grown_bytes))
    }

    /// Turns a list into bits; the bytes that it takes more.
    fn become_bits(&mut self) -> usize {
        let Chunk::List(list) = self else {
            return 0;
        };
        let mut words = Box::new([0_u64; CHUNK_WORDS]);
        for old in list.iter() {
            set_bits(&mut words, usize::from(*old) / 64, 1 << (*old % 64));
        }
        *self = Chunk::Bits(words);
        CHUNK_BYTES
    }

    /// As a list of little-endian numbers, or all of its bits.
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Chunk::List(list) => list.iter().flat_map(|low| low.to_le_bytes()).collect(),
            Chunk::Bits(words) => {
                let mut bytes = vec![0; CHUNK_BYTES];
                let (places, _) = bytes.as_chunks_mut::<8>();
                for (place, word) in places.iter_mut().zip(words.iter()) {
                    *place = word.to_le_bytes();
                }
                bytes
            }
        }
    }

    fn into_bitmap(self, index: usize) -> RoaringBitmap {
        let base = (index * CHUNK_ROWS) as u32;
        match &self {
            Chunk::List(list) => list.iter().map(|low| base + u32::from(*low)).collect(),
            Chunk::Bits(_) => RoaringBitmap::from_lsb0_bytes(base, &self.to_bytes()),
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

    /// The bytes that it took.
    fn grown_bytes(self) -> Result<usize> {
        match self {
            Self::New { grown_bytes } => Ok(grown_bytes),
            Self::Twice => Err(Error::new(
                ErrorKind::Constraint,
                "cardinality violation",
                "the statement would change a row of the target more than once; nothing was \
                 changed; make its source rows unique",
            )
            .into()),
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
    use datafusion::execution::memory_pool::UnboundedMemoryPool;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const AT: Addresses = Addresses {
        file: 0,
        position: 1,
    };

    fn batch(rows: &[(i32, i64)]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new(ADDRESS_FILE, DataType::Int32, false),
            Field::new(ADDRESS_POSITION, DataType::Int64, false),
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
        few.add(&batch(&[(0, 7), (0, 9)]), AT).unwrap();
        assert!(few.add(&batch(&[(0, 7)]), AT).is_err());
        let mut many = collector();
        let rows: Vec<_> = (0..2000).map(|p| (0, p)).collect();
        many.add(&batch(&rows), AT).unwrap();
        assert!(many.add(&batch(&[(0, 1999)]), AT).is_err());
    }

    #[test]
    fn an_impossible_position_is_refused() {
        assert!(collector().add(&batch(&[(0, -1)]), AT).is_err());
        assert!(collector().add(&batch(&[(0, 1 << 24)]), AT).is_err());
    }

    #[test]
    fn a_row_matched_twice_is_refused_in_whatever_order_rows_arrive() {
        // The first arrival lies above the last one, the second above that: found by the differential.
        let mut some = collector();
        let twice = some.add(&batch(&[(0, 5), (0, 9), (0, 2), (0, 5)]), AT);
        assert!(twice.is_err());
    }

    #[test]
    fn a_row_that_two_collections_have_is_refused() {
        for rows in [1_i64, 2000] {
            let rows: Vec<_> = (0..rows).map(|p| (0, p)).collect();
            let (mut one, mut other) = (collector(), collector());
            one.add(&batch(&rows), AT).unwrap();
            other.add(&batch(&[(0, 0)]), AT).unwrap();
            let mut both = collector();
            both.add_chunks(&one.take_chunks().unwrap()).unwrap();
            assert!(both.add_chunks(&other.take_chunks().unwrap()).is_err());
        }
    }

    #[test]
    fn a_batch_of_other_columns_has_no_chunks() {
        assert!(collector().add_chunks(&batch(&[(0, 7)])).is_err());
    }

    proptest! {
        #[test]
        fn rows_are_refused_exactly_if_one_arrives_twice(
            rows in proptest::collection::vec(0_i64..2_000, 0..400),
        ) {
            let rows: Vec<_> = rows.into_iter().map(|p| (0, p)).collect();
            let distinct = rows.iter().collect::<BTreeSet<_>>().len();
            let added = collector().add(&batch(&rows), AT);
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
                collected.add(&batch(piece), AT).unwrap();
            }
            prop_assert_eq!(collected.rows(), rows.len() as u64);
            // The chunks of several collections make up the same.
            let mut parts: Vec<_> = (0..3).map(|_| collector()).collect();
            for (piece, i) in order.chunks(100).zip((0..3).cycle()) {
                parts[i].add(&batch(piece), AT).unwrap();
            }
            let mut merged = collector();
            for mut part in parts {
                let taken = part.take_chunks().unwrap();
                prop_assert_eq!((part.rows(), part.bytes()), (0, 0));
                prop_assert_eq!(part.into_bitmaps().count(), 0);
                merged.add_chunks(&taken).unwrap();
                if taken.num_rows() > 0 {
                    prop_assert!(merged.add_chunks(&taken).is_err(), "twice");
                }
            }
            let merged: BTreeSet<_> = merged
                .into_bitmaps()
                .flat_map(|(f, b)| b.into_iter().map(move |p| (f, i64::from(p))))
                .collect();
            prop_assert_eq!(&merged, &rows);
            let got: BTreeSet<_> = collected
                .into_bitmaps()
                .flat_map(|(f, b)| b.into_iter().map(move |p| (f, i64::from(p))))
                .collect();
            prop_assert_eq!(got, rows);
        }
    }
}
