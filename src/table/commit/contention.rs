//! Whether other processes are at the pointer too, as far as this one knows.
//!
//! Owns: that guess, and when to look again. Does not own the look (`observe`).
//! Invariant: nothing here is a safety argument; a wrong guess costs a lost swing or a listing. A crash leaves nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What this process guesses about others at the pointer.
#[derive(Debug)]
pub(crate) struct Contention {
    /// Then it is worth observing before drafting, and committing in a group.
    contended: AtomicBool,
    /// When this process last looked whether others wait.
    polled_at: Mutex<tokio::time::Instant>,
}

impl Contention {
    /// For a table that is being opened, which lists the documents.
    pub(crate) fn new() -> Self {
        Self {
            contended: AtomicBool::default(),
            polled_at: Mutex::new(tokio::time::Instant::now()),
        }
    }

    pub(crate) fn is_contended(&self) -> bool {
        self.contended.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, contended: bool) {
        self.contended.store(contended, Ordering::Relaxed);
    }

    /// Whether it is time to look whether others wait: `every` so often, and always while `others_write`. Counts as
    /// a look if it is.
    pub(crate) fn is_poll_due(&self, others_write: bool, every: Duration) -> bool {
        let now = tokio::time::Instant::now();
        let mut last = self
            .polled_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !others_write && now.duration_since(*last) < every {
            return false;
        }
        *last = now;
        true
    }
}
