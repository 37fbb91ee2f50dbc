//! What is left of a table for whoever has to wait for its end, and must not prolong it.
//!
//! Owns: waiting for background work, and the answer whether a table is still referred to. Does not own the work, nor
//! the table. A crash leaves nothing.

use std::any::Any;
use std::sync::Weak;

use tokio_util::task::TaskTracker;

/// What a table does in the background. Keeps nothing of the table in memory.
#[derive(Clone, Debug)]
pub struct Background {
    table: Weak<dyn Any + Send + Sync>,
    tracker: TaskTracker,
}

impl Background {
    pub(super) fn new(table: Weak<dyn Any + Send + Sync>, tracker: TaskTracker) -> Self {
        Self { table, tracker }
    }

    /// Waits until nothing of the table goes on.
    pub async fn settle(&self) {
        self.tracker.wait().await;
    }

    /// Whether nothing goes on, and nobody refers to the table any more.
    pub fn is_over(&self) -> bool {
        self.tracker.is_empty() && self.table.strong_count() == 0
    }

    /// Whether both are of one table.
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.table.as_ptr(), other.table.as_ptr())
    }
}
