//! Where a compaction put the rows of one source.
//!
//! Owns the map from positions in a source to places in what the compaction wrote, and its bytes. Does
//! not own what a commit makes of it: tombstones that came meanwhile are carried over with it.
//!
//! A *place* counts the rows of all superfiles that the change set adds, in its order. The map is a list
//! of ranges by ascending position; positions in no range were deleted already. Rows that stay in their order
//! make one range for each gap, so the map of a compaction without a sort is a few bytes.
//!
//! ```text
//! ranges    varint                 how many
//! then, for each range
//! gap     varint                 positions between the end of the range before and this range
//! rows    varint                 its length, at least 1
//! step    varint, zigzagged      its first place, less the place after the range before
//! ```
//!
//! Varints are LEB128. Invariant: ranges ascend, do not touch or overlap where they could be one, and
//! neither positions nor places exceed 32 bits; `decode(encode(m)) == m`.

/// Rows that moved together: consecutive before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedRange {
    /// The first row's position in the source.
    pub from: u32,
    /// How many rows.
    pub rows: u32,
    /// The first row's place.
    pub to: u32,
}

impl MovedRange {
    fn end(&self) -> u64 {
        u64::from(self.from) + u64::from(self.rows)
    }

    fn end_place(&self) -> u64 {
        u64::from(self.to) + u64::from(self.rows)
    }
}

/// How a map of moves is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MovesError {
    /// The bytes end within a range, or go on after the last.
    #[error("the map of moved rows has another length than it announces")]
    Length,
    /// A number does not fit.
    #[error("the moved rows end within a range, or go on after the last")]
    Range,
    /// A row is moved twice, or two rows to one place.
    #[error("the map of moved rows overlaps itself")]
    Overlap,
}

/// Where the rows of one source are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowMoves {
    ranges: Vec<MovedRange>,
}

impl RowMoves {
    /// The map made of these ranges, in any order.
    ///
    /// # Errors
    /// [`MovesError`] when ranges are empty, overlap, or leave 32 bits.
    pub fn new(mut ranges: Vec<MovedRange>) -> Result<Self, MovesError> {
        ranges.sort_unstable_by_key(|range| range.from);
        let mut joined: Vec<MovedRange> = Vec::new();
        for range in ranges {
            if range.rows == 0 || range.end() > 1 << 32 || range.end_place() > 1 << 32 {
                return Err(MovesError::Range);
            }
            if let Some(last) = joined.last_mut() {
                if last.end() > u64::from(range.from) {
                    return Err(MovesError::Overlap);
                }
                if last.end() == u64::from(range.from) && last.end_place() == u64::from(range.to) {
                    last.rows = last.rows.checked_add(range.rows).ok_or(MovesError::Range)?;
                    continue;
                }
            }
            joined.push(range);
        }
        joined.shrink_to_fit();
        Ok(Self { ranges: joined })
    }

    /// The ranges, by ascending position.
    pub fn ranges(&self) -> &[MovedRange] {
        &self.ranges
    }

    /// How many rows moved.
    pub fn rows(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.rows)).sum()
    }

    /// Where the row at `position` is now; `None` if it was deleted already.
    pub fn place_of(&self, position: u32) -> Option<u32> {
        let after = self.ranges.partition_point(|range| range.from <= position);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        let offset = position - range.from;
        (offset < range.rows).then(|| range.to + offset)
    }

    /// The map's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.ranges.len() * 4);
        push(&mut out, self.ranges.len() as u64);
        let (mut position, mut place) = (0_u64, 0_i64);
        for range in &self.ranges {
            push(&mut out, u64::from(range.from) - position);
            push(&mut out, u64::from(range.rows));
            push(&mut out, zigzag(i64::from(range.to) - place));
            position = range.end();
            place = i64::from(range.to) + i64::from(range.rows);
        }
        out
    }

    /// The map that `bytes` hold.
    ///
    /// # Errors
    /// [`MovesError`], one for each way they can be malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, MovesError> {
        let mut rest = bytes;
        let count = usize::try_from(pull(&mut rest)?).map_err(|_| MovesError::Length)?;
        // A range takes three bytes at least: a lying count reserves no memory.
        if count > rest.len() / 3 {
            return Err(MovesError::Length);
        }
        let mut ranges = Vec::with_capacity(count);
        let (mut position, mut place) = (0_u64, 0_i64);
        let narrow = |n: u64| u32::try_from(n).map_err(|_| MovesError::Range);
        for _ in 0..count {
            let gap = pull(&mut rest)?;
            let from = narrow(position.checked_add(gap).ok_or(MovesError::Range)?)?;
            let rows = narrow(pull(&mut rest)?)?;
            let to = place
                .checked_add(unzigzag(pull(&mut rest)?))
                .ok_or(MovesError::Range)?;
            let to = u32::try_from(to).map_err(|_| MovesError::Range)?;
            let range = MovedRange { from, rows, to };
            position = range.end();
            place = i64::from(to) + i64::from(rows);
            ranges.push(range);
        }
        if !rest.is_empty() {
            return Err(MovesError::Length);
        }
        let moves = Self::new(ranges)?;
        // The one spelling of a map has no two ranges that could be one.
        if moves.ranges.len() != count {
            return Err(MovesError::Overlap);
        }
        Ok(moves)
    }
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn push(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn pull(bytes: &mut &[u8]) -> Result<u64, MovesError> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(MovesError::Length)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(MovesError::Range);
        }
        n |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err(MovesError::Range)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(from: u32, rows: u32, to: u32) -> MovedRange {
        MovedRange { from, rows, to }
    }

    #[test]
    fn rows_that_stay_in_their_order_are_one_run() {
        let moves = RowMoves::new(vec![range(10, 5, 110), range(0, 10, 100)]).unwrap();
        assert_eq!(moves.ranges(), [range(0, 15, 100)]);
        assert_eq!(moves.encode().len(), 5);
        assert_eq!(moves.place_of(14), Some(114));
        assert_eq!(moves.place_of(15), None);
    }

    #[test]
    fn overlaps_and_numbers_beyond_32_bits_are_refused() {
        assert_eq!(
            RowMoves::new(vec![range(0, 2, 0), range(1, 1, 5)]),
            Err(MovesError::Overlap)
        );
        assert_eq!(RowMoves::new(vec![range(0, 0, 0)]), Err(MovesError::Range));
        assert_eq!(
            RowMoves::new(vec![range(u32::MAX, 2, 0)]),
            Err(MovesError::Range)
        );
        assert_eq!(
            RowMoves::new(vec![range(0, 2, u32::MAX)]),
            Err(MovesError::Range)
        );
    }

    proptest! {
        #[test]
        fn any_permutation_survives_encoding_and_truncation_is_found(
            rows in proptest::collection::btree_map(0_u32..2000, any::<bool>(), 0..200),
            reverse: bool,
        ) {
            let n = rows.len() as u32;
            let ranges = (0..n).zip(&rows).map(|(i, (from, _))| {
                range(*from, 1, if reverse { n - 1 - i } else { i })
            });
            let moves = RowMoves::new(ranges.collect()).unwrap();
            prop_assert_eq!(moves.rows(), u64::from(n));
            let bytes = moves.encode();
            prop_assert_eq!(RowMoves::decode(&bytes), Ok(moves.clone()));
            for len in 0..bytes.len() {
                prop_assert!(RowMoves::decode(&bytes[..len]).is_err());
            }
            for (i, (from, _)) in (0..n).zip(&rows) {
                let place = if reverse { n - 1 - i } else { i };
                prop_assert_eq!(moves.place_of(*from), Some(place));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(moves) = RowMoves::decode(&bytes) {
                prop_assert_eq!(RowMoves::decode(&moves.encode()), Ok(moves));
            }
        }
    }
}
