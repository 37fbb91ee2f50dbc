//! The record of where a compaction's rows went.
//!
//! Owns the ranges, and giving up on them when they take too much memory. Does not own what they are for
//! (`table::apply`).
//!
//! Invariant: what is handed out names each row once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

use crate::format::{MovedRange, RowMoves};

/// Memory for the record of where the rows of one group went, at most; and of a pool that is bounded, an eighth. A group that needs more, which a sort
/// of many rows does, is compacted without it: then a change of its rows makes it start again.
const MOVES_BYTES: usize = 128 << 20;

/// Where the rows went that were written so far, by the ordinal of their superfile.
pub(crate) struct MoveRecorder {
    ranges: BTreeMap<i32, Vec<MovedRange>>,
    written: u64,
    memory: MemoryReservation,
    at_most: usize,
    /// It took too much memory, and is not kept.
    over_budget: bool,
}

impl MoveRecorder {
    pub(crate) fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            ranges: BTreeMap::new(),
            written: 0,
            at_most: match pool.memory_limit() {
                MemoryLimit::Finite(bytes) => MOVES_BYTES.min(bytes / 8),
                _ => MOVES_BYTES,
            },
            memory: MemoryConsumer::new("supertable moved rows").register(pool),
            over_budget: false,
        }
    }

    /// Notes the rows of a batch, which are written next.
    pub(crate) fn add(
        &mut self,
        batch: &RecordBatch,
        file_at: usize,
        position_at: usize,
    ) -> Result<()> {
        let (files, positions) = (batch.column(file_at), batch.column(position_at));
        if files.null_count() > 0 || positions.null_count() > 0 {
            return exec_err!("a compaction's rows have no address");
        }
        let files = files.as_primitive::<Int32Type>().values();
        let positions = positions.as_primitive::<Int64Type>().values();
        let mut grown = 0;
        for (file, position) in files.iter().zip(positions) {
            let place = u32::try_from(self.written);
            self.written += 1;
            if self.over_budget {
                continue;
            }
            let (Ok(from), Ok(to)) = (u32::try_from(*position), place) else {
                self.give_up();
                continue;
            };
            let ranges = self.ranges.entry(*file).or_default();
            if let Some(range) = ranges.last_mut()
                && range.from.checked_add(range.rows) == Some(from)
                && range.to.checked_add(range.rows) == Some(to)
            {
                range.rows += 1;
                continue;
            }
            let before = ranges.capacity();
            ranges.push(MovedRange { from, rows: 1, to });
            grown += (ranges.capacity() - before) * size_of::<MovedRange>();
        }
        if grown > 0
            && (self.memory.size() + grown > self.at_most || self.memory.try_grow(grown).is_err())
        {
            self.give_up();
        }
        Ok(())
    }

    fn give_up(&mut self) {
        self.over_budget = true;
        self.ranges.clear();
        self.memory.free();
    }

    /// The map of each source; `None` if they were not kept.
    pub(crate) fn into_maps(self) -> Result<Option<Vec<(i32, RowMoves)>>> {
        if self.over_budget {
            return Ok(None);
        }
        let maps = self
            .ranges
            .into_iter()
            .map(|(file, ranges)| match RowMoves::new(ranges) {
                Ok(map) => Ok((file, map)),
                Err(error) => exec_err!("a compaction read a row twice: {error}"),
            });
        Ok(Some(maps.collect::<Result<_>>()?))
    }
}
