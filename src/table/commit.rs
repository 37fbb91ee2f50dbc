//! The commit: APPENDED change sets become one next version, by one compare-and-swap of the pointer.
//!
//! Vocabulary: a [`Ready`] mutation has an APPENDED document. A *turn* takes every ready mutation, drafts
//! one next version and swings the pointer once. The *leader* holds the turn's lock; whoever comes
//! meanwhile queues, and is committed by the next turn. A *foreign* mutation belongs to another
//! process; a leader that lost a race commits those too, so the losers find themselves done.
//!
//! Owns: the order of steps around the pointer. Does not own what applies or conflicts (`apply`,
//! `conflict`), nor the document's steps (`wal::driver`).
//!
//! Invariants:
//! - The pointer was known *before* the document was seen APPENDED and uncommitted (see [`Tip`]'s epoch),
//!   or the document is read again *after* the pointer. Together with the commit records, which keep an
//!   id until its document is gone, this makes a second application impossible.
//! - An APPENDED mutation is never undone for being slow, only after `apply` found a conflict with a
//!   committed version. A conflict with a neighbour of the same draft is judged again after the swing.
//! - What a caller is told is in the table's history, or is said to be unknown.
//!
//! A crash leaves the pointer before or after the swing. Before: APPENDED documents that anyone commits.
//! After: documents whose ids are in the commit records. Either way nodes and merged sidecars of a
//! lost draft may be left; vacuum removes them.

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::conflict::Conflict;
use super::draft::Draft;
use super::handle::Inner;
use super::history::Found;
use super::snapshot::Snapshot;
use super::tip::Tip;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::CommitRecord;
use crate::format::{ChangeSet, FormatError, StateDoc, WalId, WalState, paths};
use crate::wal::backoff::Backoff;
use crate::wal::{Etag, WalError};

/// How a mutation ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// It is in the table's history.
    Committed(CommitRecord),
    /// It conflicts with a committed version, and will not be committed.
    Conflict(Conflict),
    /// All rows that it removes are gone already and it adds none: there is nothing to commit.
    NothingLeft,
    /// Another process found that it cannot be committed, and undid it.
    Undone,
}

/// Tips that are known not to contain a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clear {
    /// All tips of this epoch: the mutation is this process's own, and only its one [`Ready`] commits it.
    Epoch(u64),
    /// The tip of this version only: it was read from the store, so this process can hold it twice (two
    /// recoveries), and one of the two may commit it without a new epoch.
    Version(u64),
}

impl Clear {
    fn covers(self, tip: &Tip) -> bool {
        match self {
            Self::Epoch(epoch) => epoch == tip.epoch,
            Self::Version(version) => version == tip.snapshot.version(),
        }
    }
}

/// Whose mutation it is, which decides who hears of its ending and who cleans up.
#[derive(Debug)]
pub(super) enum Party {
    /// Someone in this process waits for the ending.
    Waiting(oneshot::Sender<Result<Ending>>),
    /// Another process's: its owner cleans up, or recovery does.
    Foreign,
}

/// A mutation whose document is APPENDED.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) id: WalId,
    pub(super) change_set: Arc<ChangeSet>,
    pub(super) doc: StateDoc,
    pub(super) etag: Etag,
    /// How far it is known to be uncommitted; `None` before its document was compared with a tip.
    pub(super) clear_of: Option<Clear>,
    pub(super) party: Party,
}

/// Where ready mutations of this process meet.
#[derive(Debug, Default)]
pub(super) struct Committer {
    turn: Arc<tokio::sync::Mutex<()>>,
    queue: Mutex<Vec<Ready>>,
}

impl Committer {
    /// The right to lead, if nobody leads or waits for it.
    pub(super) fn try_lead(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    fn push(&self, ready: Vec<Ready>) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(ready);
    }

    fn drain(&self) -> Vec<Ready> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one turn achieved.
enum Turn {
    /// Every member was settled, or is judged against a new version next.
    Moved,
    /// Another process swung the pointer first.
    Lost,
}

/// What comparing a member with a tip showed.
enum Verified {
    Ready(Box<Ready>),
    Settled,
    Unclear(Box<Ready>, Error),
}

impl Inner {
    /// Queues mutations, and sees to it that someone leads.
    pub(super) fn enqueue(self: &Arc<Self>, ready: Vec<Ready>) {
        self.committer.push(ready);
        let inner = Arc::clone(self);
        // A task of its own: a caller that goes away must not take its neighbours' commit along.
        self.spawn(async move {
            let turn = Arc::clone(&inner.committer.turn).lock_owned().await;
            inner.lead(turn, Vec::new(), None).await;
        });
    }

    /// Takes turns until nothing is ready. `prepared` is a draft of `batch` that is uploaded already.
    pub(super) async fn lead(
        self: Arc<Self>,
        _turn: OwnedMutexGuard<()>,
        mut batch: Vec<Ready>,
        mut prepared: Option<Draft>,
    ) {
        let mut backoff = Backoff::default();
        let (mut lost, mut failed) = (0, 0);
        loop {
            if prepared.is_none() {
                batch.append(&mut self.committer.drain());
            }
            if batch.is_empty() {
                return;
            }
            let stale = lost > 0 || failed > 0;
            let turn = self
                .take_turn(&mut batch, prepared.take(), stale, lost > 0)
                .await;
            // Others' mutations are helped along by the way, not waited for.
            batch.retain(|ready| matches!(ready.party, Party::Waiting(_)));
            match turn {
                Ok(Turn::Moved) => {
                    (lost, failed) = (0, 0);
                    backoff = Backoff::default();
                }
                Ok(Turn::Lost) => {
                    lost += 1;
                    if lost > self.limits.commit_attempts {
                        self.give_up(&mut batch, "the pointer was always swung by others first");
                    } else if lost > 1 {
                        // The first loser goes again at once: it also commits what it finds ready.
                        backoff.wait(&self.env).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, mutations = batch.len(), "a commit attempt failed");
                    failed += 1;
                    if failed > self.limits.commit_failures {
                        self.give_up(&mut batch, &error.to_string());
                        (lost, failed) = (0, 0);
                    } else {
                        backoff.wait(&self.env).await;
                    }
                }
            }
        }
    }

    async fn take_turn(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        prepared: Option<Draft>,
        stale: bool,
        help: bool,
    ) -> Result<Turn> {
        let draft = match prepared {
            Some(draft) => draft,
            None => {
                if stale || !self.ahead(batch).is_empty() {
                    self.refresh().await?;
                }
                for id in self.ahead(batch) {
                    let error = Error::new(
                        ErrorKind::Corrupt,
                        id.to_string(),
                        "this mutation was made from a version that the table does not have",
                    );
                    self.settle(batch, &id, Err(error), None);
                }
                let tip = self.tip();
                self.verify(batch, &tip).await?;
                if help && !batch.is_empty() {
                    let others = self.ready_elsewhere(batch, &tip).await;
                    batch.extend(others);
                }
                if batch.is_empty() {
                    return Ok(Turn::Moved);
                }
                let mut draft = self
                    .draft(
                        &tip.snapshot,
                        batch.iter().map(|ready| (ready.id, &ready.change_set)),
                    )
                    .await?;
                for (id, verdict) in draft.take_refused() {
                    self.settle(batch, &id, verdict, None);
                }
                if draft.records().is_empty() {
                    return Ok(Turn::Moved);
                }
                self.upload(&draft).await?;
                draft
            }
        };
        match self.swing(&draft).await? {
            Some(committed) => {
                for record in draft.records() {
                    let ending = Ok(Ending::Committed(record.clone()));
                    self.settle(batch, &record.wal_id, ending, Some(&committed));
                }
                self.sweep_in_background(&committed);
                Ok(Turn::Moved)
            }
            None => {
                self.discard_in_background(draft);
                Ok(Turn::Lost)
            }
        }
    }

    /// Members that were made from a version that this process has not seen.
    fn ahead(&self, batch: &[Ready]) -> Vec<WalId> {
        let version = self.tip().snapshot.version();
        batch
            .iter()
            .filter(|ready| ready.change_set.base_version > version)
            .map(|ready| ready.id)
            .collect()
    }

    /// Keeps the members that are still to be committed on top of `tip`, and settles the others.
    async fn verify(self: &Arc<Self>, batch: &mut Vec<Ready>, tip: &Tip) -> Result<()> {
        let mut unclear = None;
        let checked: Vec<_> = futures::stream::iter(std::mem::take(batch))
            .map(|ready| self.verify_one(ready, tip))
            .buffered(self.limits.concurrency)
            .collect()
            .await;
        for verified in checked {
            match verified {
                Verified::Ready(ready) => batch.push(*ready),
                Verified::Settled => {}
                Verified::Unclear(ready, error) => {
                    batch.push(*ready);
                    unclear = Some(error);
                }
            }
        }
        unclear.map_or(Ok(()), Err)
    }

    async fn verify_one(self: &Arc<Self>, mut ready: Ready, tip: &Tip) -> Verified {
        if ready.clear_of.is_some_and(|clear| clear.covers(tip)) {
            return Verified::Ready(Box::new(ready));
        }
        if let Some(record) = tip.snapshot.record(&ready.id) {
            let ending = Ok(Ending::Committed(record.clone()));
            self.finish(ready, ending, Some(&tip.snapshot));
            return Verified::Settled;
        }
        // The pointer was read before; this is the document's turn.
        match self.wal.read(&ready.id).await {
            Ok((doc, etag)) if doc.state == WalState::Appended => {
                let own = matches!(ready.clear_of, Some(Clear::Epoch(_)));
                if !own {
                    // An APPENDED document can also be one that landed after its mutation ended.
                    let since = ready.change_set.base_version;
                    match self.find_record(&tip.snapshot, &ready.id, since).await {
                        Ok(Found::Record(record)) => {
                            self.finish(ready, Ok(Ending::Committed(record)), None);
                            return Verified::Settled;
                        }
                        Ok(Found::Absent | Found::OutOfReach) => {}
                        Err(error) => return Verified::Unclear(Box::new(ready), error),
                    }
                }
                (ready.doc, ready.etag) = (doc, etag);
                ready.clear_of = Some(if own {
                    Clear::Epoch(tip.epoch)
                } else {
                    Clear::Version(tip.snapshot.version())
                });
                Verified::Ready(Box::new(ready))
            }
            Ok(_) | Err(WalError::NotFound { .. }) => match self.learn_ending(&ready).await {
                Ok(ending) => {
                    self.finish(ready, Ok(ending), None);
                    Verified::Settled
                }
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                    self.finish(ready, Err(error), None);
                    Verified::Settled
                }
                Err(error) => Verified::Unclear(Box::new(ready), error),
            },
            Err(error @ WalError::Storage(_)) => Verified::Unclear(Box::new(ready), error.into()),
            Err(damage) => {
                self.finish(ready, Err(damage.into()), None);
                Verified::Settled
            }
        }
    }

    /// The ending of a mutation whose document is COMPLETE, fenced or gone, from the table's history.
    async fn learn_ending(self: &Arc<Self>, ready: &Ready) -> Result<Ending> {
        self.ending_in_history(&ready.id, ready.change_set.base_version)
            .await
    }

    /// The ending of a mutation that is known to have ended, from the table's history since `base_version`.
    pub(super) async fn ending_in_history(
        self: &Arc<Self>,
        id: &WalId,
        base_version: u64,
    ) -> Result<Ending> {
        // The pointer is read after the document was found ended: if it was committed, this pointer's
        // history has it.
        self.refresh().await?;
        let tip = self.tip();
        match self.find_record(&tip.snapshot, id, base_version).await? {
            Found::Record(record) => Ok(Ending::Committed(record)),
            Found::Absent => Ok(Ending::Undone),
            Found::OutOfReach => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                id.to_string(),
                "this mutation has ended, and the versions that would tell how are gone",
            )),
        }
    }

    /// APPENDED mutations of other processes, oldest first, as many as the limits allow. Best effort: what
    /// cannot be read is left to its owner and to recovery.
    async fn ready_elsewhere(&self, batch: &[Ready], tip: &Tip) -> Vec<Ready> {
        let ids = match self.wal.list_wal_ids().await {
            Ok(ids) => ids,
            Err(error) => {
                tracing::debug!(%error, "cannot look for other writers' mutations");
                return Vec::new();
            }
        };
        let candidates: Vec<_> = ids
            .into_iter()
            .filter(|id| {
                !self.is_active(id)
                    && batch.iter().all(|ready| ready.id != *id)
                    && tip.snapshot.record(id).is_none()
            })
            .take(self.limits.help_at_most)
            .collect();
        let found: Vec<Option<Ready>> = futures::stream::iter(candidates)
            .map(|id| async move {
                let mut ready = self.read_ready(&id, Party::Foreign).await.ok()??;
                let since = ready.change_set.base_version;
                // The tip was known before the document was read just now.
                ready.clear_of = Some(Clear::Version(tip.snapshot.version()));
                if since > tip.snapshot.version() {
                    return None;
                }
                match self.find_record(&tip.snapshot, &id, since).await {
                    Ok(Found::Absent) => Some(ready),
                    _ => None,
                }
            })
            .buffered(self.limits.concurrency)
            .collect()
            .await;
        found.into_iter().flatten().collect()
    }

    /// A mutation as its objects tell it; `None` unless its document is APPENDED.
    pub(super) async fn read_ready(&self, id: &WalId, party: Party) -> Result<Option<Ready>> {
        // Together, because a round trip costs more than a change set that turns out not to be needed.
        let (doc, bytes) = futures::join!(self.wal.read(id), self.wal.get_arrow(id, None));
        let (doc, etag) = doc?;
        if doc.state != WalState::Appended {
            return Ok(None);
        }
        let Some(hash) = doc.new_row_content_hash else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                id.to_string(),
                "the WAL document is APPENDED and names no change set",
            ));
        };
        let change_set = ChangeSet::decode(&bytes?, &hash)
            .map_err(|error| FormatError::from(error).at(&paths::wal_arrow(id)))?;
        Ok(Some(Ready {
            id: *id,
            change_set: Arc::new(change_set),
            doc,
            etag,
            clear_of: None,
            party,
        }))
    }

    /// Takes the member out of the batch and ends it.
    fn settle(
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
    fn finish(
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
            party,
            ..
        } = ready;
        self.deactivate(&id);
        match &ending {
            Ok(Ending::Committed(record)) => {
                tracing::debug!(wal_id = %id, version = record.version, "committed");
                // A live owner elsewhere cleans up itself once it learns of its commit; if it is dead,
                // recovery or a sweep does.
                if matches!(party, Party::Waiting(_)) {
                    let at = committed
                        .filter(|snapshot| snapshot.version() == record.version)
                        .cloned();
                    self.retire_in_background(id, change_set, record.version, at, doc, etag);
                }
            }
            Ok(Ending::Conflict(conflict)) => {
                tracing::debug!(wal_id = %id, %conflict, "conflicts with a committed version");
                self.undo_conflicting_in_background(doc, etag);
            }
            Ok(Ending::NothingLeft) => {
                tracing::debug!(wal_id = %id, "all rows to be removed are gone already");
                // The answer waits for the document to be taken: a later version may bring such rows back
                // (a restore does), and then it must be too late to commit.
                let inner = Arc::clone(self);
                self.spawn(async move {
                    inner.undo_or_leave(&doc, &etag).await;
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

    fn give_up(self: &Arc<Self>, batch: &mut Vec<Ready>, why: &str) {
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
