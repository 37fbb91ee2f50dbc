//! What happens after a caller has its answer: retiring documents, undoing conflicts, deleting unused sidecars.
//!
//! Owns: these tasks, which [`Table::settle`](crate::table::Table::settle) waits for. Does not own any decision about
//! what is committed.
//! Invariants: an id is noted as gone only after its document was seen durably gone; a sidecar is deleted only
//! if no version names it. A crash cuts a task off anywhere: recovery, the next sweep or vacuum goes on.

use std::sync::Arc;

use futures::StreamExt;

use super::draft::Draft;
use super::liveness::Liveness;
use super::registry::MutationRegistry;
use crate::error::Result;
use crate::format::{ChangeSet, SidecarId, StateDoc, WalId};
use crate::table::context::Context;
use crate::table::version::head::TableHead;
use crate::table::version::history::History;
use crate::table::version::snapshot::Snapshot;
use crate::wal::driver;
use crate::wal::{Driver, Etag, Standing, WalError, machine};

/// Cleans up behind commits.
#[derive(Debug)]
pub(crate) struct Cleanup {
    context: Arc<Context>,
    head: Arc<TableHead>,
    history: Arc<History>,
    registry: Arc<MutationRegistry>,
    liveness: Arc<Liveness>,
    /// One sweep at a time is enough.
    sweeping: tokio::sync::Mutex<()>,
}

impl Cleanup {
    pub(crate) fn new(
        context: Arc<Context>,
        head: Arc<TableHead>,
        history: Arc<History>,
        registry: Arc<MutationRegistry>,
        liveness: Arc<Liveness>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            head,
            history,
            registry,
            liveness,
            sweeping: tokio::sync::Mutex::default(),
        })
    }

    /// COMPLETE, then deletes change set and document of a committed mutation, and the sidecars that it
    /// staged but whose place a merged one took.
    pub(crate) fn retire_in_background(
        self: &Arc<Self>,
        id: WalId,
        change_set: Arc<ChangeSet>,
        version: u64,
        committed: Option<Arc<Snapshot>>,
        doc: StateDoc,
        etag: Etag,
    ) {
        let cleanup = Arc::clone(self);
        self.context.tasks.spawn(async move {
            // Before the document goes: it is what leads recovery here if this is cut off.
            if let Err(error) = cleanup
                .delete_superseded(&change_set, version, committed)
                .await
            {
                tracing::debug!(wal_id = %id, %error, "superseded sidecars are left to vacuum");
            }
            match driver::retire(&cleanup.context.wal, &id, Some((doc, etag))).await {
                Ok(()) => cleanup.registry.note_gone(id),
                Err(error) => tracing::debug!(wal_id = %id, %error, "retiring is left to recovery"),
            }
        });
    }

    /// Deletes the document of a statement whose table has appeared. What it staged is in use.
    pub(crate) fn end_creation(self: &Arc<Self>, driver: Arc<Driver>) {
        let (cleanup, id) = (Arc::clone(self), driver.id());
        self.registry.deactivate(&id);
        self.context.tasks.spawn(async move {
            match driver.abandon(false).await {
                Ok(()) => cleanup.registry.note_gone(id),
                Err(error) => tracing::debug!(wal_id = %id, %error, "retiring is left to recovery"),
            }
        });
    }

    /// Deletes the sidecars of a committed change set that its version does not name. Later versions cannot
    /// name them either: a sidecar in force is always one that the version before named, or a new one.
    async fn delete_superseded(
        &self,
        change_set: &ChangeSet,
        version: u64,
        committed: Option<Arc<Snapshot>>,
    ) -> Result<()> {
        if change_set.tombstone.is_empty() {
            return Ok(());
        }
        let committed = match committed {
            Some(committed) => committed,
            None => match self.history.snapshot_at(version).await? {
                Some(committed) => committed,
                None => return Ok(()),
            },
        };
        let superseded = change_set.tombstone.iter().filter(|change| {
            committed
                .manifest()
                .get(&change.superfile)
                .and_then(|entry| entry.tombstones.as_ref())
                .is_none_or(|in_force| in_force.sidecar != change.union.sidecar)
        });
        self.delete_sidecars(superseded.map(|change| change.union.sidecar))
            .await
    }

    async fn delete_sidecars(&self, ids: impl Iterator<Item = SidecarId>) -> Result<()> {
        let mut deletions = futures::stream::iter(ids.collect::<Vec<_>>())
            .map(|id| async move { self.context.wal.delete_sidecar(&id).await })
            .buffer_unordered(self.context.limits.concurrency);
        while let Some(deleted) = deletions.next().await {
            deleted?;
        }
        Ok(())
    }

    /// Deletes the merged sidecars of a draft that lost the pointer, once it is certain that it lost:
    /// "lost" alone does not prove that it was never in force.
    pub(crate) fn delete_lost_in_background(self: &Arc<Self>, draft: Draft) {
        if draft.merged().is_empty() {
            return;
        }
        let cleanup = Arc::clone(self);
        self.context.tasks.spawn(async move {
            let deleted = async {
                let tip = cleanup.head.refresh().await?;
                let Some((version, drafted)) = draft.target() else {
                    return Ok(());
                };
                if tip.snapshot.version() < version {
                    return Ok(());
                }
                match cleanup.history.root_of(&tip.snapshot, version).await? {
                    // Each draft's root names sidecars with ids of its own, so another root is another draft.
                    Some(root) if root != drafted => {
                        cleanup
                            .delete_sidecars(draft.merged().iter().map(|(id, _)| *id))
                            .await
                    }
                    _ => Ok(()),
                }
            };
            if let Err(error) = deleted.await {
                tracing::debug!(%error, "the sidecars of a lost draft are left to vacuum");
            }
        });
    }

    /// Deletes the merged sidecars of a draft to which the pointer was never to be swung.
    pub(crate) fn delete_unused_in_background(self: &Arc<Self>, draft: Draft) {
        if draft.merged().is_empty() {
            return;
        }
        let cleanup = Arc::clone(self);
        self.context.tasks.spawn(async move {
            let ids = draft.merged().iter().map(|(id, _)| *id);
            if let Err(error) = cleanup.delete_sidecars(ids).await {
                tracing::debug!(%error, "the sidecars of an unused draft are left to vacuum");
            }
        });
    }

    /// Takes a conflicting mutation's document, so that no process commits it, and removes what it staged, unless
    /// that is left to vacuum.
    pub(crate) async fn undo_or_leave(&self, doc: &StateDoc, etag: &Etag, leave_staged: bool) {
        if let Err(error) = self.undo_conflicting(doc, etag, leave_staged).await {
            tracing::debug!(wal_id = %doc.wal_id, %error, "undoing is left to recovery");
        }
    }

    async fn undo_conflicting(
        &self,
        doc: &StateDoc,
        etag: &Etag,
        leave_staged: bool,
    ) -> Result<()> {
        let by = self.context.fresh_owner();
        let fenced =
            machine::fence_conflicting(doc, &by, self.context.env.now(), self.context.limits.lease);
        // Another state means that another process is ahead of us.
        let Ok(fenced) = fenced else { return Ok(()) };
        match self
            .context
            .wal
            .update_with_etag(&doc.wal_id, etag, &fenced)
            .await
        {
            Ok(_) if leave_staged => {
                self.context.wal.delete_arrow(&doc.wal_id).await?;
                Ok(self.context.wal.delete_state(&doc.wal_id).await?)
            }
            Ok(_) => {
                driver::undo(&self.context.wal, doc).await?;
                Ok(())
            }
            Err(WalError::CasFailed { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks after commit records of earlier versions when they grow: each is kept until its document is
    /// gone, which only its owner knows at first.
    pub(crate) fn sweep_in_background(self: &Arc<Self>, tip: &Arc<Snapshot>) {
        self.registry.forget_gone(tip);
        let pending: Vec<_> = tip
            .manifest()
            .header()
            .pending
            .iter()
            .filter(|record| !self.registry.is_known_gone(&record.wal_id))
            .map(|record| record.wal_id)
            .collect();
        if pending.len() <= self.context.limits.pending_at_most {
            return;
        }
        let cleanup = Arc::clone(self);
        self.context.tasks.spawn(async move {
            let Ok(_sweeping) = cleanup.sweeping.try_lock() else {
                return;
            };
            futures::stream::iter(pending)
                .for_each_concurrent(cleanup.context.limits.concurrency, |id| {
                    let cleanup = &cleanup;
                    async move {
                        if let Err(error) = cleanup.sweep_one(&id).await {
                            tracing::debug!(wal_id = %id, %error, "cannot tell whether a document is gone");
                        }
                    }
                })
                .await;
        });
    }

    async fn sweep_one(&self, id: &WalId) -> Result<()> {
        match self.liveness.read(id).await {
            Err(WalError::NotFound { .. }) => {
                if self.context.wal.is_gone(id).await? {
                    self.registry.note_gone(*id);
                }
            }
            Ok((doc, etag, Standing::Abandoned)) => {
                driver::retire(&self.context.wal, id, Some((doc, etag))).await?;
                self.registry.note_gone(*id);
            }
            // Its owner is at it.
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
