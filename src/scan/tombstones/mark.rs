//! The mark of a file of which not all rows are wanted.
//!
//! Owns which rows those are: what a sidecar says, or all but some. A sidecar is loaded when the first piece
//! of its file is opened, and once. Does not own how it is loaded, nor how the rows are left out.

use std::sync::Arc;

use datafusion::common::Result;
use parquet::file::metadata::RowGroupMetaData;
use roaring::RoaringBitmap;
use tokio::sync::OnceCell;

use crate::format::manifest::TombstoneRef;
use crate::scan::tombstones::selection::is_read_whole;

/// The mark of a file that has tombstones; shared by all byte-range pieces of that file.
#[derive(Debug)]
pub(crate) struct Tombstoned {
    deleted: Deleted,
    rows: u64,
    positions: OnceCell<Arc<RoaringBitmap>>,
}

/// Which rows of a file are not wanted.
#[derive(Debug, Clone)]
pub(crate) enum Deleted {
    /// Those that a sidecar names.
    Sidecar(TombstoneRef),
    /// All but those at these positions.
    AllBut(Arc<RoaringBitmap>),
}

impl Tombstoned {
    pub(crate) fn new(reference: TombstoneRef, rows: u64) -> Self {
        Self {
            deleted: Deleted::Sidecar(reference),
            rows,
            positions: OnceCell::new(),
        }
    }

    /// The mark of a file of which only certain rows are wanted.
    pub(crate) fn all_but(positions: Arc<RoaringBitmap>, rows: u64) -> Self {
        Self {
            deleted: Deleted::AllBut(positions),
            rows,
            positions: OnceCell::new(),
        }
    }

    /// The mark of a file whose live rows are known.
    #[cfg(test)]
    pub(crate) fn known(live: &RoaringBitmap, rows: u64) -> Self {
        Self {
            positions: OnceCell::new_with(Some(Arc::new(others(live, rows)))),
            ..Self::all_but(Arc::new(live.clone()), rows)
        }
    }

    /// Which rows are not wanted.
    #[cfg(feature = "distributed")]
    pub(crate) fn deleted(&self) -> &Deleted {
        &self.deleted
    }

    /// The file's rows, wanted or not.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The positions of the rows that are not wanted; those that a sidecar names come from `load`.
    pub(crate) async fn positions<F>(
        &self,
        load: impl FnOnce(TombstoneRef) -> F,
    ) -> Result<&Arc<RoaringBitmap>>
    where
        F: Future<Output = Result<Arc<RoaringBitmap>>>,
    {
        let positions = || async {
            match &self.deleted {
                Deleted::Sidecar(reference) => load(*reference).await,
                Deleted::AllBut(positions) => Ok(Arc::new(others(positions, self.rows))),
            }
        };
        self.positions.get_or_try_init(positions).await
    }

    /// Whether the row group `index` of the file is read whole; `None` if that is not known.
    pub(crate) fn is_read_whole(&self, groups: &[RowGroupMetaData], index: usize) -> Option<bool> {
        is_read_whole(groups, index, self.positions.get()?)
    }

    /// How many of the file's rows are wanted.
    pub(crate) fn live(&self) -> u64 {
        match &self.deleted {
            Deleted::Sidecar(reference) => self.rows.saturating_sub(reference.cardinality),
            Deleted::AllBut(positions) => positions.len(),
        }
    }
}

/// The positions of a file of `rows` rows that are not among `positions`.
fn others(positions: &RoaringBitmap, rows: u64) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    if let Some(last) = rows.checked_sub(1) {
        all.insert_range(0..=u32::try_from(last).unwrap_or(u32::MAX));
    }
    all - positions
}
