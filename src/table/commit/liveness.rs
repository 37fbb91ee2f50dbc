//! Reading other writers' documents, and watching whether those writers live.
//!
//! Owns: the reads that tell how long a document has stood unchanged, by this process's own monotonic time. Does not own
//! the rule (`wal::watch`), nor what follows from it.
//! Invariant: the clock is asked before a read and after it, so a document is never taken for older than it is. Reads
//! only, so a crash leaves nothing.

use std::collections::HashSet;
use std::sync::Arc;

use crate::format::{StateDoc, WalId};
use crate::table::context::Context;
use crate::wal::{Etag, Standing, WalError, WalResult, Watch};

/// How long this process has seen documents stand still.
#[derive(Debug)]
pub(crate) struct Liveness {
    context: Arc<Context>,
    watch: Watch,
}

impl Liveness {
    pub(crate) fn new(context: Arc<Context>) -> Arc<Self> {
        let lease = context.limits.lease.to_std().unwrap_or_default();
        Arc::new(Self {
            context,
            watch: Watch::new(lease),
        })
    }

    /// A document, and whether its owner is gone as far as this process can tell.
    pub(crate) async fn read(&self, id: &WalId) -> WalResult<(StateDoc, Etag, Standing)> {
        let asked = self.context.env.monotonic();
        let (doc, etag) = self.context.wal.read(id).await?;
        let answered = self.context.env.monotonic();
        let standing = self.watch.note(id, Some(&etag), asked, answered);
        Ok((doc, etag, standing))
    }

    /// How long there has been no document of this id; `None` if there is one, or that cannot be told.
    pub(crate) async fn read_missing(&self, id: &WalId) -> Option<Standing> {
        let asked = self.context.env.monotonic();
        match self.context.wal.read(id).await {
            Err(WalError::NotFound { .. }) => {}
            _ => return None,
        }
        let answered = self.context.env.monotonic();
        Some(self.watch.note(id, None, asked, answered))
    }

    /// Whether this state of a document has stood for a lease.
    pub(crate) fn is_abandoned(&self, id: &WalId, etag: &Etag) -> bool {
        self.watch.is_abandoned(id, etag)
    }

    /// Forgets all ids but these.
    pub(crate) fn retain(&self, ids: &HashSet<WalId>) {
        self.watch.retain(ids);
    }
}
