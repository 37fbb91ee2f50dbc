//! How the end of a mutation reaches the callers that wait for it, and the background work that follows.
//!
//! Owns: telling, and choosing between retiring and undoing. Does not own that work (`cleanup`), nor how the
//! end came about (`committer`, `verify`).
//! Invariants: each waiting owner is told once; what it is told is in the table's history, or is said to be unknown; a
//! mutation that conflicts or has nothing left to do is reported only after its document was taken. A crash leaves a
//! document that recovery ends in the same way.

use std::sync::Arc;

use super::cleanup::Cleanup;
use super::member::{Member, Party};
use super::outcome::Resolution;
use super::registry::MutationRegistry;
use crate::error::{Error, ErrorKind, Result};
use crate::format::WalId;
use crate::table::context::Context;
use crate::table::version::snapshot::Snapshot;

/// Ends members of a batch.
#[derive(Debug)]
pub(crate) struct Completion {
    context: Arc<Context>,
    registry: Arc<MutationRegistry>,
    cleanup: Arc<Cleanup>,
}

impl Completion {
    pub(crate) fn new(
        context: Arc<Context>,
        registry: Arc<MutationRegistry>,
        cleanup: Arc<Cleanup>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            registry,
            cleanup,
        })
    }

    /// Takes the member out of the batch and ends it.
    pub(crate) fn complete_in(
        &self,
        batch: &mut Vec<Member>,
        id: &WalId,
        end: Result<Resolution>,
        committed: Option<&Arc<Snapshot>>,
    ) {
        if let Some(at) = batch.iter().position(|member| member.id == *id) {
            let member = batch.remove(at);
            self.complete(member, end, committed);
        }
    }

    /// Tells the owner that waits, and cleans up in the background. `committed` is the version that holds it, if
    /// it is at hand.
    pub(crate) fn complete(
        &self,
        member: Member,
        end: Result<Resolution>,
        committed: Option<&Arc<Snapshot>>,
    ) {
        let Member {
            id,
            change_set,
            doc,
            etag,
            out_of_reach,
            party,
            ..
        } = member;
        self.registry.deactivate(&id);
        match &end {
            Ok(Resolution::Committed(record)) => {
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
                    self.cleanup.retire_in_background(
                        id,
                        change_set,
                        record.version,
                        at,
                        doc,
                        etag,
                    );
                }
            }
            Ok(Resolution::Conflict(_) | Resolution::NothingLeft) => {
                tracing::debug!(wal_id = %id, ending = ?end, "will not be committed");
                // The answer waits for the document to be taken: a later version may bring rows back (a
                // restore does), and then it must be too late to commit.
                let cleanup = Arc::clone(&self.cleanup);
                self.context.tasks.spawn(async move {
                    cleanup.undo_or_leave(&doc, &etag, out_of_reach).await;
                    if let Party::Waiting(reply) = party {
                        let _ = reply.send(end);
                    }
                });
                return;
            }
            Ok(Resolution::Undone) => {}
            Err(error) => tracing::warn!(wal_id = %id, %error, "a mutation is left to recovery"),
        }
        if let Party::Waiting(reply) = party {
            // The callers that waited may be gone; the end stands.
            let _ = reply.send(end);
        }
    }

    /// Ends all that this process could not commit.
    pub(crate) fn give_up(&self, batch: &mut Vec<Member>, why: &str) {
        for member in batch.drain(..) {
            let error = Error::new(
                ErrorKind::OutcomeUnknown,
                member.id.to_string(),
                format!(
                    "this mutation is durable and may still be committed, by recovery or another writer: {why}"
                ),
            );
            self.complete(member, Err(error), None);
        }
    }
}
