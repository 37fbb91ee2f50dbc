//! Carrying tombstones over to where a compaction put the rows.
//!
//! Owns the translation from positions in sources to positions in the superfiles that the compaction
//! wrote, and the making of sidecars that no statement staged. Does not own the judgement (`next`).
//!
//! Invariant: a row of the compaction's output is carried as deleted exactly if it is deleted in its source.

use std::collections::BTreeMap;

use bytes::Bytes;
use roaring::RoaringBitmap;

use super::{ApplyContext, ApplyError};
use crate::format::change_set::moves::RowMoves;
use crate::format::ids::{ContentHash, SuperfileId};
use crate::format::manifest::{SuperfileEntry, TombstoneRef};
use crate::format::tombstones::Sidecar;

/// Adds the places of the rows that `deleted` holds and the compaction copied; returns how many.
pub(super) fn carry(moved: &RowMoves, deleted: &RoaringBitmap, places: &mut RoaringBitmap) -> u64 {
    let mut carried = 0;
    for run in moved.ranges() {
        let last = run.from + (run.rows - 1);
        for position in deleted.range(run.from..=last) {
            places.insert(run.to + (position - run.from));
            carried += 1;
        }
    }
    carried
}

/// Adds the places of all rows of a source.
pub(super) fn carry_all(moved: &RowMoves, places: &mut RoaringBitmap) {
    for run in moved.ranges() {
        places.insert_range(run.to..=run.to + (run.rows - 1));
    }
}

/// The deleted positions of new superfiles.
#[derive(Default)]
pub(super) struct Carried(BTreeMap<SuperfileId, RoaringBitmap>);

impl Carried {
    /// Divides places, which count the rows of all `added` superfiles in their order, among them. `None` if
    /// they have more rows than places can count.
    pub(super) fn over(added: &[SuperfileEntry], places: &RoaringBitmap) -> Option<Self> {
        let mut carried = BTreeMap::new();
        if places.is_empty() {
            return Some(Self(carried));
        }
        let mut first = 0_u64;
        for entry in added {
            let end = first
                .checked_add(entry.rows)
                .filter(|end| *end <= 1 << 32)?;
            if entry.rows > 0 {
                let (from, last) = (u32::try_from(first).ok()?, u32::try_from(end - 1).ok()?);
                let positions: RoaringBitmap = places
                    .range(from..=last)
                    .map(|place| place - from)
                    .collect();
                if !positions.is_empty() {
                    carried.insert(entry.id, positions);
                }
            }
            first = end;
        }
        Some(Self(carried))
    }

    /// Whether all rows of a new superfile are deleted.
    pub(super) fn leaves_nothing_of(&self, entry: &SuperfileEntry) -> bool {
        (self.0.get(&entry.id)).is_some_and(|deleted| deleted.len() == entry.rows)
    }

    pub(super) fn into_bitmaps(self) -> BTreeMap<SuperfileId, RoaringBitmap> {
        self.0
    }
}

/// A sidecar that no statement staged, under the next fresh id; `used` counts them.
pub(super) fn sidecar_of(
    mut bitmap: RoaringBitmap,
    ctx: &ApplyContext<'_>,
    used: &mut u32,
) -> Result<(TombstoneRef, Bytes), ApplyError> {
    // Runs take less room where deletes are clustered.
    bitmap.optimize();
    let id = ctx.fresh.nth(*used).ok_or(ApplyError::OutOfIds)?;
    *used += 1;
    let cardinality = bitmap.len();
    let bytes = Sidecar::new(bitmap).encode()?;
    let reference = TombstoneRef {
        sidecar: id.into(),
        hash: ContentHash::of(&bytes),
        cardinality,
        size: bytes.len() as u64,
    };
    Ok((reference, bytes))
}
