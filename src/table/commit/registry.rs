//! The mutations in flight: those that this process began, and those whose documents it knows to be gone.
//!
//! Owns: these two sets of ids. Does not own the documents, nor any step of a mutation.
//! Invariant: an id is noted as gone only after its document was seen durably gone. A crash leaves nothing: the sets
//! are memory only.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::WalId;
use crate::table::version::snapshot::Snapshot;

/// Ids of mutations.
#[derive(Debug, Default)]
pub(crate) struct MutationRegistry {
    /// Mutations of this process that have not ended.
    active: Mutex<HashSet<WalId>>,
    /// Mutations in the tip's records whose documents are gone.
    gone: Mutex<HashSet<WalId>>,
}

impl MutationRegistry {
    /// Whether the mutation is this process's own and has not ended.
    pub(crate) fn is_active(&self, id: &WalId) -> bool {
        lock(&self.active).contains(id)
    }

    pub(crate) fn activate(&self, id: WalId) {
        lock(&self.active).insert(id);
    }

    pub(crate) fn deactivate(&self, id: &WalId) {
        lock(&self.active).remove(id);
    }

    /// Whether the document is known to be gone.
    pub(crate) fn is_known_gone(&self, id: &WalId) -> bool {
        lock(&self.gone).contains(id)
    }

    /// All ids whose documents are known to be gone.
    pub(crate) fn known_gone(&self) -> Vec<WalId> {
        lock(&self.gone).iter().copied().collect()
    }

    pub(crate) fn note_gone(&self, id: WalId) {
        lock(&self.gone).insert(id);
    }

    /// Forgets ids that the tip's records no longer hold: no caller will ask for them.
    pub(crate) fn forget_gone(&self, tip: &Snapshot) {
        lock(&self.gone).retain(|id| tip.record(id).is_some());
    }
}

fn lock(ids: &Mutex<HashSet<WalId>>) -> MutexGuard<'_, HashSet<WalId>> {
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}
