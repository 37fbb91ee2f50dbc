//! How a mutation's ending reaches whoever waits for it, and the background work that follows.
//!
//! Owns: telling, and choosing between retiring and undoing. Does not own that work (`background`), nor how the
//! ending came about (`commit`, `verify`).
//! Invariants: whoever waits is told once; what is told is in the table's history, or is said to be unknown; a
//! mutation that conflicts or has nothing left to do is reported only after its document was taken. A crash leaves a document
//! that recovery ends in the same way.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::WalId;
use crate::table::commit::committer::{Ending, Party, Ready};
use crate::table::handle::Inner;
use crate::table::version::snapshot::Snapshot;

impl Inner {
    /// Takes the member out of the batch and ends it.
    pub(crate) fn settle(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        id: &WalId,
        ending: Result<Ending>,
        committed: Option<&Arc<Snapshot>>,
    ) {
        if let Some(at) = batch.iter().position(|ready| ready.id == *id) {
            let ready = batch.remove(at);
            self.finish(ready, ending, committed);
        }
    }

    /// Tells whoever waits, and cleans up in the background. `committed` is the version that holds it, if
    /// it is at hand.
    pub(crate) fn finish(
        self: &Arc<Self>,
        ready: Ready,
        ending: Result<Ending>,
        committed: Option<&Arc<Snapshot>>,
    ) {
        let Ready {
            id,
            change_set,
            doc,
            etag,
            out_of_reach,
            party,
            ..
        } = ready;
        self.deactivate(&id);
        match &ending {
            Ok(Ending::Committed(record)) => {
                tracing::debug!(
                    wal_id = %id, version = record.version,
                    helped = matches!(party, Party::Foreign), "committed"
                );
                // A live owner elsewhere cleans up itself once it learns of its commit; if it is dead,
                // recovery or a sweep does.
                if matches!(party, Party::Waiting(_)) {
                    let at = committed
                        .filter(|snapshot| snapshot.version() == record.version)
                        .cloned();
                    self.retire_in_background(id, change_set, record.version, at, doc, etag);
                }
            }
            Ok(Ending::Conflict(_) | Ending::NothingLeft) => {
                tracing::debug!(wal_id = %id, ?ending, "will not be committed");
                // The answer waits for the document to be taken: a later version may bring rows back (a
                // restore does), and then it must be too late to commit.
                let inner = Arc::clone(self);
                self.spawn(async move {
                    inner.undo_or_leave(&doc, &etag, out_of_reach).await;
                    if let Party::Waiting(reply) = party {
                        let _ = reply.send(ending);
                    }
                });
                return;
            }
            Ok(Ending::Undone) => {}
            Err(error) => tracing::warn!(wal_id = %id, %error, "a mutation is left to recovery"),
        }
        if let Party::Waiting(reply) = party {
            // Whoever waited may be gone; the ending stands.
            let _ = reply.send(ending);
        }
    }

    pub(crate) fn give_up(self: &Arc<Self>, batch: &mut Vec<Ready>, why: &str) {
        for ready in batch.drain(..) {
            let error = Error::new(
                ErrorKind::OutcomeUnknown,
                ready.id.to_string(),
                format!(
                    "this mutation is durable and may still be committed, by recovery or another writer: {why}"
                ),
            );
            self.finish(ready, Err(error), None);
        }
    }
}
