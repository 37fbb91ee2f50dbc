//! What one recovery found and did.
//!
//! Owns the lists and their words. Does not own how they come about. No I/O.

use std::fmt;

use crate::error::Error;
use crate::format::WalId;

/// What one recovery found and did.
#[derive(Debug, Default)]
pub struct RecoveryReport {
    /// Mutations that were APPENDED and are now in the table, with the version that committed them.
    pub committed: Vec<(WalId, u64)>,
    /// Mutations that were in the table already and whose documents were left over.
    pub retired: Vec<WalId>,
    /// Mutations that had not come to APPENDED, and were removed with what they had staged.
    pub undone: Vec<WalId>,
    /// Mutations that were APPENDED, conflict with a committed version or have nothing left to do, and are
    /// being removed.
    pub conflicting: Vec<WalId>,
    /// Mutations that their owners are still at, or that another process took first.
    pub in_flight: Vec<WalId>,
    /// Change sets without a document that were removed.
    pub orphans: Vec<WalId>,
    /// Mutations whose staged objects are left to vacuum, because the versions that would tell whether
    /// they are in use are gone.
    pub left_to_vacuum: Vec<WalId>,
    /// Superfiles and sidecars that were deleted.
    pub staged_objects_deleted: usize,
    /// Mutations that could not be ended, and why. Nothing of them was deleted.
    pub failed: Vec<(WalId, Error)>,
}

impl RecoveryReport {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty()
            && self.retired.is_empty()
            && self.undone.is_empty()
            && self.conflicting.is_empty()
            && self.orphans.is_empty()
            && self.left_to_vacuum.is_empty()
            && self.failed.is_empty()
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "committed {}, retired {}, undone {} ({} staged objects deleted), conflicting {}, in flight {}, \
             orphans {}, left to vacuum {}, failed {}",
            self.committed.len(),
            self.retired.len(),
            self.undone.len(),
            self.staged_objects_deleted,
            self.conflicting.len(),
            self.in_flight.len(),
            self.orphans.len(),
            self.left_to_vacuum.len(),
            self.failed.len(),
        )
    }
}
