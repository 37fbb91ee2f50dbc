//! What happens after a caller has its answer: retiring documents, undoing conflicts, dropping orphans.
//!
//! Owns: the tasks that [`Table::settle`](crate::table::Table::settle) waits for, and the set of ids whose
//! documents this process knows to be gone. Does not own any decision about what is committed.
//! Invariants: an id enters the set only after its document was seen durably gone; a sidecar is deleted only
//! if no version names it. Each task can be cut off anywhere: recovery, the next sweep or vacuum goes on.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;

use crate::error::Result;
use crate::format::{ChangeSet, SidecarId, StateDoc, WalId, WalState};
use crate::table::commit::draft::Draft;
use crate::table::handle::Inner;
use crate::table::version::snapshot::Snapshot;
use crate::wal::driver;
use crate::wal::{Driver, Etag, Standing, WalError, WalResult, machine};

/// How long after another process's version others are taken to be writing.
const OTHERS_WRITE_FOR: Duration = Duration::from_secs(30);

impl Inner {
    /// Runs `task` on the table's runtime; [`Table::settle`](crate::table::Table::settle) waits for it.
    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn_on(task, &self.runtime)
    }

    /// Whether the mutation is this process's own and has not ended.
    pub(crate) fn is_active(&self, id: &WalId) -> bool {
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(id)
    }

    pub(crate) fn activate(&self, id: WalId) {
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
    }

    pub(crate) fn deactivate(&self, id: &WalId) {
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    /// Whether the document is known to be gone.
    pub(crate) fn is_known_gone(&self, id: &WalId) -> bool {
        self.gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(id)
    }

    fn note_gone(&self, id: WalId) {
        self.gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
    }

    /// Forgets ids that the tip's records no longer hold: nobody will ask for them.
    fn forget_gone(&self, tip: &Snapshot) {
        self.gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|id| tip.record(id).is_some());
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
        let inner = Arc::clone(self);
        self.spawn(async move {
            // Before the document goes: it is what leads recovery here if this is cut off.
            if let Err(error) = inner.drop_superseded(&change_set, version, committed).await {
                tracing::debug!(wal_id = %id, %error, "superseded sidecars are left to vacuum");
            }
            match driver::retire(&inner.wal, &id, Some((doc, etag))).await {
                Ok(()) => inner.note_gone(id),
                Err(error) => tracing::debug!(wal_id = %id, %error, "retiring is left to recovery"),
            }
        });
    }

    /// Deletes the document of a statement whose table has appeared. What it staged is in use.
    pub(crate) fn end_creation(self: &Arc<Self>, driver: Arc<Driver>) {
        let (inner, id) = (Arc::clone(self), driver.id());
        self.deactivate(&id);
        self.spawn(async move {
            match driver.abandon(false).await {
                Ok(()) => inner.note_gone(id),
                Err(error) => tracing::debug!(wal_id = %id, %error, "retiring is left to recovery"),
            }
        });
    }

    /// Deletes the sidecars of a committed change set that its version does not name. Later versions cannot
    /// name them either: a sidecar in force is always one that the version before named, or a new one.
    pub(crate) async fn drop_superseded(
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
            None => match self.snapshot_of(version).await? {
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
            .map(|id| async move { self.wal.delete_sidecar(&id).await })
            .buffer_unordered(self.limits.concurrency);
        while let Some(deleted) = deletions.next().await {
            deleted?;
        }
        Ok(())
    }

    /// Deletes the merged sidecars of a draft that lost the pointer, once it is certain that it lost:
    /// "lost" alone does not prove that it was never in force.
    pub(crate) fn discard_in_background(self: &Arc<Self>, draft: Draft) {
        if draft.merged().is_empty() {
            return;
        }
        let inner = Arc::clone(self);
        self.spawn(async move {
            let dropped = async {
                let tip = inner.refresh().await?;
                let Some((version, drafted)) = draft.target() else {
                    return Ok(());
                };
                if tip.snapshot.version() < version {
                    return Ok(());
                }
                match inner.root_of(&tip.snapshot, version).await? {
                    // Each draft's root names sidecars with ids of its own, so another root is another draft.
                    Some(root) if root != drafted => {
                        inner
                            .delete_sidecars(draft.merged().iter().map(|(id, _)| *id))
                            .await
                    }
                    _ => Ok(()),
                }
            };
            if let Err(error) = dropped.await {
                tracing::debug!(%error, "the sidecars of a lost draft are left to vacuum");
            }
        });
    }

    /// Deletes the merged sidecars of a draft to which the pointer was never to be swung.
    pub(crate) fn drop_unused_in_background(self: &Arc<Self>, draft: Draft) {
        if draft.merged().is_empty() {
            return;
        }
        let inner = Arc::clone(self);
        self.spawn(async move {
            let ids = draft.merged().iter().map(|(id, _)| *id);
            if let Err(error) = inner.delete_sidecars(ids).await {
                tracing::debug!(%error, "the sidecars of an unused draft are left to vacuum");
            }
        });
    }

    /// Takes a conflicting mutation's document, so that nobody commits it, and removes what it staged, unless
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
        let by = self.fresh_owner();
        let fenced = machine::fence_conflicting(doc, &by, self.env.now(), self.limits.lease);
        // Another state means that another process is ahead of us.
        let Ok(fenced) = fenced else { return Ok(()) };
        match self.wal.update_with_etag(&doc.wal_id, etag, &fenced).await {
            Ok(_) if leave_staged => {
                self.wal.delete_arrow(&doc.wal_id).await?;
                Ok(self.wal.delete_state(&doc.wal_id).await?)
            }
            Ok(_) => {
                driver::undo(&self.wal, doc).await?;
                Ok(())
            }
            Err(WalError::CasFailed { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks after commit records of earlier versions when they grow: each is kept until its document is
    /// gone, which only its owner knows at first.
    pub(crate) fn sweep_in_background(self: &Arc<Self>, tip: &Arc<Snapshot>) {
        self.forget_gone(tip);
        let pending: Vec<_> = tip
            .manifest()
            .header()
            .pending
            .iter()
            .filter(|record| !self.is_known_gone(&record.wal_id))
            .map(|record| record.wal_id)
            .collect();
        if pending.len() <= self.limits.pending_at_most {
            return;
        }
        let inner = Arc::clone(self);
        self.spawn(async move {
            // One sweep at a time is enough.
            let Ok(_sweeping) = inner.sweeping.try_lock() else {
                return;
            };
            futures::stream::iter(pending)
                .for_each_concurrent(inner.limits.concurrency, |id| {
                    let inner = &inner;
                    async move {
                        if let Err(error) = inner.sweep_one(&id).await {
                            tracing::debug!(wal_id = %id, %error, "cannot tell whether a document is gone");
                        }
                    }
                })
                .await;
        });
    }

    async fn sweep_one(&self, id: &WalId) -> Result<()> {
        match self.read_and_watch(id).await {
            Err(WalError::NotFound { .. }) => {
                if self.wal.is_gone(id).await? {
                    self.note_gone(*id);
                }
            }
            Ok((doc, etag, Standing::Abandoned)) => {
                driver::retire(&self.wal, id, Some((doc, etag))).await?;
                self.note_gone(*id);
            }
            // Its owner is at it.
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// A document, and whether its owner is gone as far as this process can tell.
    pub(crate) async fn read_and_watch(&self, id: &WalId) -> WalResult<(StateDoc, Etag, Standing)> {
        let asked = self.env.monotonic();
        let (doc, etag) = self.wal.read(id).await?;
        let answered = self.env.monotonic();
        let standing = self.watch.note(id, Some(&etag), asked, answered);
        Ok((doc, etag, standing))
    }

    /// Whether other processes are at the pointer too, as far as this one knows.
    pub(crate) fn is_contended(&self) -> bool {
        self.contended.load(Ordering::Relaxed)
    }

    /// Looks whether other processes' mutations wait to be committed: now and then, and after each commit while
    /// others are known to write. A fast writer would otherwise win race after race and never hear of them.
    pub(crate) fn look_around_in_background(self: &Arc<Self>) {
        let now = tokio::time::Instant::now();
        let others_write = self
            .others_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|seen| now.duration_since(seen) < OTHERS_WRITE_FOR);
        {
            let mut last = self
                .looked_around
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if !others_write && now.duration_since(*last) < self.limits.look_around_every {
                return;
            }
            *last = now;
        }
        let inner = Arc::clone(self);
        self.spawn(async move {
            let ids = match inner.wal.list_wal_ids().await {
                Ok(ids) => ids,
                Err(error) => {
                    tracing::debug!(%error, "cannot look for other writers' mutations");
                    return;
                }
            };
            let tip = inner.tip();
            let others = ids
                .into_iter()
                .filter(|id| !inner.is_active(id) && tip.snapshot.record(id).is_none())
                .take(inner.limits.help_at_most);
            let waiting =
                futures::stream::iter(others.collect::<Vec<_>>())
                    .map(|id| {
                        let inner = &inner;
                        async move { inner.wal.read(&id).await }
                    })
                    .buffer_unordered(inner.limits.concurrency)
                    .any(|read| async move {
                        read.is_ok_and(|(doc, _)| doc.state == WalState::Appended)
                    })
                    .await;
            if waiting {
                inner.contended.store(true, Ordering::Relaxed);
            }
        });
    }
}
