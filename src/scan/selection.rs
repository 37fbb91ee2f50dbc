//! From a bitmap of deleted positions to the Parquet reader's row selection.
//!
//! Owns the choice between the reader's two representations. A list of runs costs 16 bytes and a
//! branch per run; a mask costs one bit per row and nothing per run. The reader itself prefers a
//! mask once runs are shorter than about 32 rows (`parquet::arrow::arrow_reader`, selection
//! policy), and the same bound decides here which one is built, so that a fragmented selection of
//! a large superfile never exists as a list of runs.
//!
//! Invariant: the selection covers exactly `rows` rows and skips exactly the deleted ones.

use arrow::buffer::{BooleanBuffer, MutableBuffer};
use parquet::arrow::arrow_reader::RowSelection;
use roaring::RoaringBitmap;

/// Average run length, in rows, below which a selection is built as a mask.
const MASK_BELOW_ROWS_PER_RUN: u64 = 32;

/// The rows of a superfile that survive `deleted`, out of `rows`.
///
/// Positions at or beyond `rows` do not occur in a verified sidecar; they are ignored here.
pub fn live_selection(deleted: &RoaringBitmap, rows: u64) -> RowSelection {
    let total = usize::try_from(rows).unwrap_or(usize::MAX);
    if is_fragmented(deleted, rows) {
        RowSelection::from_boolean_buffer(live_mask(deleted, total))
    } else {
        RowSelection::from_consecutive_ranges(live_ranges(deleted, total).into_iter(), total)
    }
}

/// Whether runs are so short that a mask is the cheaper representation.
///
/// Stops counting runs as soon as the answer is known.
fn is_fragmented(deleted: &RoaringBitmap, rows: u64) -> bool {
    // One deleted run ends one live run, so there are at most two runs for each deleted row.
    if deleted
        .len()
        .saturating_mul(2)
        .saturating_mul(MASK_BELOW_ROWS_PER_RUN)
        < rows
    {
        return false;
    }
    let bound = rows / (2 * MASK_BELOW_ROWS_PER_RUN);
    let mut runs = 0_u64;
    let mut iter = deleted.iter();
    while iter.next_range().is_some() {
        runs += 1;
        if runs > bound {
            return true;
        }
    }
    false
}

fn live_ranges(deleted: &RoaringBitmap, total: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut next_live = 0_usize;
    let mut iter = deleted.iter();
    while let Some(gap) = iter.next_range() {
        let (start, end) = (*gap.start() as usize, *gap.end() as usize);
        if start >= total {
            break;
        }
        if start > next_live {
            ranges.push(next_live..start);
        }
        next_live = end.saturating_add(1);
    }
    if next_live < total {
        ranges.push(next_live..total);
    }
    ranges
}

fn live_mask(deleted: &RoaringBitmap, total: usize) -> BooleanBuffer {
    let mut bits = MutableBuffer::from_len_zeroed(total.div_ceil(8));
    let bytes = bits.as_slice_mut();
    bytes.fill(0xFF);
    for position in deleted {
        if let Some(byte) = bytes.get_mut(position as usize / 8) {
            *byte &= !(1 << (position % 8));
        }
    }
    BooleanBuffer::new(bits.into(), 0, total)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn positions(selection: &RowSelection) -> Vec<u32> {
        let mut out = Vec::new();
        match selection.as_mask() {
            Some(mask) => out.extend(mask.set_indices().map(|i| i as u32)),
            None => {
                let mut at = 0_u32;
                for s in selection.iter() {
                    if !s.skip {
                        out.extend(at..at + s.row_count as u32);
                    }
                    at += s.row_count as u32;
                }
            }
        }
        out
    }

    fn check(deleted: &RoaringBitmap, rows: u32) {
        let selection = live_selection(deleted, u64::from(rows));
        let want: Vec<u32> = (0..rows).filter(|p| !deleted.contains(*p)).collect();
        assert_eq!(positions(&selection), want);
        assert_eq!(selection.row_count(), want.len());
        assert_eq!(selection.skipped_row_count() + want.len(), rows as usize);
    }

    #[test]
    fn every_row_deleted_selects_nothing() {
        check(&(0..1000).collect(), 1000);
    }

    #[test]
    fn alternating_rows_become_a_mask_and_sparse_ones_do_not() {
        let dense: RoaringBitmap = (0..10_000).step_by(2).collect();
        assert!(live_selection(&dense, 10_000).as_mask().is_some());
        check(&dense, 10_000);
        let sparse: RoaringBitmap = (0..10_000).step_by(100).collect();
        assert!(live_selection(&sparse, 10_000).as_mask().is_none());
        check(&sparse, 10_000);
        let clustered: RoaringBitmap = (0..5_000).collect();
        assert!(live_selection(&clustered, 10_000).as_mask().is_none());
        check(&clustered, 10_000);
    }

    proptest! {
        #[test]
        fn the_selection_is_the_complement_of_the_bitmap(
            rows in 1_u32..3000,
            seed in proptest::collection::vec(0_u32..3000, 0..600),
        ) {
            let deleted: RoaringBitmap = seed.into_iter().filter(|p| *p < rows).collect();
            check(&deleted, rows);
        }
    }
}
