//! Work that goes on after a caller has its answer, and waiting for its end.
//!
//! Owns: where a table's background tasks run ([`BackgroundTasks`]), the one turn of upkeep that may wait ([`Upkeep`]),
//! and what is left of a table for the tasks that wait for its end and must not prolong it ([`Background`]). Does not own
//! what the tasks do.
//! Invariant: a wait ends only after every task that was spawned before. A crash leaves what the tasks leave.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tokio_util::task::TaskTracker;

use crate::error::{Error, ErrorKind, Result};

/// Runs a table's background tasks, on the runtime in which the table was opened.
#[derive(Clone, Debug)]
pub(crate) struct BackgroundTasks {
    tracker: TaskTracker,
    runtime: tokio::runtime::Handle,
}

impl BackgroundTasks {
    /// On the current runtime.
    pub(crate) fn on_current_runtime() -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|source| {
            Error::new(
                ErrorKind::Unsupported,
                "table",
                "a table must be opened within a tokio runtime",
            )
            .with_source(source)
        })?;
        let tracker = TaskTracker::new();
        // A closed tracker still takes tasks; closed, it can be waited for.
        tracker.close();
        Ok(Self { tracker, runtime })
    }

    /// Runs `task`; [`settle`](Self::settle) waits for it.
    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn_on(task, &self.runtime)
    }

    /// Waits until no task is left.
    pub(crate) async fn settle(&self) {
        self.tracker.wait().await;
    }

    /// What counts the tasks.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Where they run.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }
}

/// Whether upkeep waits for its turn.
#[derive(Debug, Default)]
pub(crate) struct Upkeep(Arc<AtomicBool>);

impl Upkeep {
    /// The right to wait for background upkeep; `None` if another has it.
    pub(crate) fn begin(&self) -> Option<UpkeepTurn> {
        let first = !self.0.swap(true, Ordering::AcqRel);
        first.then(|| UpkeepTurn(Arc::clone(&self.0)))
    }
}

/// The right to wait for background upkeep.
#[derive(Debug)]
pub(crate) struct UpkeepTurn(Arc<AtomicBool>);

impl Drop for UpkeepTurn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What a table does in the background. Keeps nothing of the table in memory.
#[derive(Clone, Debug)]
pub struct Background {
    table: Weak<dyn Any + Send + Sync>,
    tracker: TaskTracker,
}

impl Background {
    pub(crate) fn new(table: Weak<dyn Any + Send + Sync>, tasks: &BackgroundTasks) -> Self {
        Self {
            table,
            tracker: tasks.tracker.clone(),
        }
    }

    /// Waits until nothing of the table goes on.
    pub async fn settle(&self) {
        self.tracker.wait().await;
    }

    /// Whether nothing goes on, and no handle refers to the table any more.
    pub fn is_over(&self) -> bool {
        self.tracker.is_empty() && self.table.strong_count() == 0
    }

    /// Whether both are of one table.
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.table.as_ptr(), other.table.as_ptr())
    }
}
