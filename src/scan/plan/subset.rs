//! Some rows of a version: of some superfiles, and of these all live rows or certain positions.
//!
//! Owns the choice of rows. Does not own reading them (`rows`).
//!
//! Invariant: positions that are asked for are yielded whether or not the version has deleted them.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::format::SuperfileId;
use crate::format::manifest::SuperfileEntry;

/// Which rows of one superfile.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    /// Those that the version has not deleted.
    Live,
    /// Those at these positions.
    At(Arc<RoaringBitmap>),
}

/// The positions of all rows of a superfile, deleted ones included.
pub(crate) fn every_position(superfile: &SuperfileEntry) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..u32::try_from(superfile.rows).unwrap_or(u32::MAX));
    all
}

/// Rows of some superfiles of a version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subset(BTreeMap<SuperfileId, Rows>);

impl Subset {
    /// Adds rows of a superfile.
    pub(crate) fn insert(&mut self, superfile: SuperfileId, rows: Rows) {
        self.0.insert(superfile, rows);
    }

    /// How many superfiles there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no superfile.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The superfiles.
    pub(crate) fn superfiles(&self) -> impl Iterator<Item = &SuperfileId> {
        self.0.keys()
    }

    pub(crate) fn get(&self, superfile: &SuperfileId) -> Option<&Rows> {
        self.0.get(superfile)
    }
}
