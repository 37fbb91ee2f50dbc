//! The tombstones of a table, for scans: a scan needs neither pointer, manifest nor WAL document.
//!
//! Owns: fetching sidecars, their check against what a manifest entry says, and keeping them. Does not own which
//! sidecar is in force (the manifest), nor what a scan does with the positions.
//! Invariant: positions that leave this file are those of the sidecar whose hash was asked for.

use std::sync::Arc;

use roaring::RoaringBitmap;

#[cfg(feature = "distributed")]
use super::cache::Cache;
use super::cache::TableCache;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::TombstoneRef;
use crate::format::{SidecarId, SuperfileId, paths};
use crate::storage::Storage;
#[cfg(feature = "distributed")]
use crate::wal::Env;
use crate::wal::WalStore;

/// Reads sidecars.
#[derive(Debug)]
pub struct Sidecars {
    storage: Storage,
    wal: WalStore,
    /// A sidecar's id stands for its bytes: it is written once.
    cache: Arc<TableCache>,
}

impl Sidecars {
    pub(crate) fn new(storage: Storage, wal: WalStore, cache: Arc<TableCache>) -> Self {
        Self {
            storage,
            wal,
            cache,
        }
    }

    /// Those of a table that this process reads without opening it: nothing of it can be written through this.
    #[cfg(feature = "distributed")]
    pub(crate) fn without_table(storage: Storage) -> Self {
        let storage = storage.read_only();
        // The source of ids is for writers.
        let wal = WalStore::new(storage.clone(), Env::system().ids);
        Self::new(storage, wal, Arc::new(Cache::of_process().open_table()))
    }

    /// The positions that a sidecar deletes: from memory, or read and verified.
    ///
    /// # Errors
    /// `Corrupt` if the bytes are not those that the manifest recorded, `NotFound` if they are gone.
    pub async fn positions(&self, tombstones: &TombstoneRef) -> Result<Arc<RoaringBitmap>> {
        if let Some(bitmap) = self.cache.bitmap(&tombstones.sidecar) {
            return Ok(bitmap);
        }
        let sidecar = self
            .wal
            .load_sidecar(&tombstones.sidecar, &tombstones.hash)
            .await?;
        if sidecar.deleted.len() != tombstones.cardinality {
            return Err(Error::new(
                ErrorKind::Corrupt,
                paths::sidecar(&tombstones.sidecar).as_ref(),
                format!(
                    "holds {} positions, the manifest says {}",
                    sidecar.deleted.len(),
                    tombstones.cardinality
                ),
            ));
        }
        let bitmap = Arc::new(sidecar.deleted);
        self.keep(tombstones.sidecar, Arc::clone(&bitmap));
        Ok(bitmap)
    }

    /// Checks that a superfile lies inside the table's root; see
    /// [`Storage::check_inside`](crate::storage::Storage::check_inside).
    ///
    /// # Errors
    /// A symbolic link leads to it.
    pub fn check_superfile(&self, id: &SuperfileId) -> Result<()> {
        Ok(self.storage.check_inside(&paths::superfile(id))?)
    }

    /// What of the table stays in memory.
    pub(crate) fn kept(&self) -> &TableCache {
        &self.cache
    }

    /// Keeps a bitmap that this process has just made.
    pub(crate) fn keep(&self, sidecar: SidecarId, bitmap: Arc<RoaringBitmap>) {
        self.cache.keep_bitmap(sidecar, bitmap);
    }
}
