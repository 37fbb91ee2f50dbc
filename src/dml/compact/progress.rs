//! How far a compaction is, for listeners.
//!
//! Owns the counting, in rows of all that is written anew, from group to group. Does not own what is drawn of it.
//!
//! Invariant: an operation is over, for listeners, when all of its rows are done, and not before.

use super::request::Optimized;
use crate::table::PROGRESS;

/// How far a compaction is, for listeners: rows of all that it writes anew.
#[derive(Default)]
pub(super) struct Progress {
    quiet: bool,
    done: u64,
    total: u64,
    bytes: u64,
}

impl Progress {
    /// Of a compaction of so many rows; one that is quiet has no listeners.
    pub(super) fn of(total: u64, quiet: bool) -> Self {
        Self {
            quiet,
            total,
            ..Self::default()
        }
    }

    /// So many rows of the group under way are written.
    pub(super) fn tell(&self, rows: u64) {
        // All is done when the last group is committed.
        self.say((self.done + rows).min(self.total.saturating_sub(1)));
    }

    pub(super) fn add(&mut self, group: &Optimized) {
        self.done += group.rows;
        self.bytes += group.bytes_before;
        self.tell(0);
    }

    pub(super) fn end(&self) {
        self.say(self.total.max(1));
    }

    fn say(&self, done: u64) {
        if !self.quiet {
            let (total, bytes) = (self.total.max(1), self.bytes);
            tracing::info!(target: PROGRESS, operation = "optimize", done, total, bytes);
        }
    }
}
