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

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::conflict::Conflict;
use super::draft::Draft;
use super::drop::{dropped, is_grave};
use super::handle::{Inner, Observed};
use super::history::Found;
use super::look::{Seen, usable};
use super::snapshot::Snapshot;
use super::tip::Tip;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::CommitRecord;
use crate::format::{ChangeSet, StateDoc, WalId, WalState};
use crate::wal::backoff::Backoff;
use crate::wal::{Etag, WalError, WalResult};

/// The longest wait after a lost race. Whoever wins helps the losers, so waiting long gains nothing.
const LONGEST_AFTER_LOSS: Duration = Duration::from_millis(100);

/// Races in a row that may be lost before waiting.
const PATIENT_LOSSES: usize = 2;

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
    /// Another process swung the pointer first; what the pointer says now, if that is known.
    Lost(Option<Observed>),
}

/// How a turn is taken.
#[derive(Debug, Default)]
pub(super) struct Approach {
    /// A draft of the whole batch that is uploaded already.
    pub(super) prepared: Option<Draft>,
    /// What the pointer said last.
    pub(super) observed: Option<Observed>,
    /// Whether the pointer must be read, because a swing was lost or failed.
    pub(super) stale: bool,
    /// Whether to commit other processes' mutations too.
    pub(super) help: bool,
    /// Others' mutations that were looked for already.
    pub(super) seen: Option<Seen>,
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
            inner.lead(turn, Vec::new(), Approach::default()).await;
        });
    }

    /// Takes turns until nothing is ready.
    pub(super) async fn lead(
        self: Arc<Self>,
        _turn: OwnedMutexGuard<()>,
        mut batch: Vec<Ready>,
        mut approach: Approach,
    ) {
        let mut after_failure = Backoff::default();
        let mut after_loss = Backoff::up_to(LONGEST_AFTER_LOSS);
        let (mut lost, mut failed) = (0, 0);
        loop {
            if approach.prepared.is_none() {
                batch.append(&mut self.committer.drain());
            }
            if batch.is_empty() {
                return;
            }
            let turn = self
                .take_turn(&mut batch, std::mem::take(&mut approach))
                .await;
            // Others' mutations are helped along by the way, not waited for.
            batch.retain(|ready| matches!(ready.party, Party::Waiting(_)));
            match turn {
                Ok(Turn::Moved) => {
                    (lost, failed) = (0, 0);
                    after_failure = Backoff::default();
                }
                Ok(Turn::Lost(observed)) => {
                    lost += 1;
                    if lost > self.limits.commit_attempts {
                        self.give_up(&mut batch, "the pointer was always swung by others first");
                        (lost, failed) = (0, 0);
                    } else if lost > PATIENT_LOSSES {
                        after_loss.wait(&self.env).await;
                    }
                    approach.observed = observed;
                }
                Err(error) if is_grave(&error) => {
                    // Nobody will ever commit them: a grave stays.
                    for ready in batch.drain(..) {
                        self.finish(ready, Err(dropped()), None);
                    }
                    (lost, failed) = (0, 0);
                }
                Err(error) => {
                    tracing::warn!(%error, mutations = batch.len(), "a commit attempt failed");
                    failed += 1;
                    if failed > self.limits.commit_failures {
                        self.give_up(&mut batch, &error.to_string());
                        (lost, failed) = (0, 0);
                    } else {
                        after_failure.wait(&self.env).await;
                    }
                }
            }
            approach.stale = lost > 0 || failed > 0;
            approach.help = lost > 0;
        }
    }

    async fn take_turn(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        approach: Approach,
    ) -> Result<Turn> {
        let help = approach.help || self.is_contended();
        let draft = match approach.prepared {
            Some(draft) => draft,
            None => {
                let (tip, mut seen) = self.look(batch, approach, help).await?;
                self.verify(batch, &tip, &mut seen).await?;
                if help {
                    // Those that are committed already count as well: their owners will be back.
                    self.contended
                        .store(!seen.others.is_empty(), Ordering::Relaxed);
                }
                if !batch.is_empty() {
                    batch.extend(usable(seen.others, &tip, seen.version));
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
                if help {
                    // Where others swing too, one look beside the upload spares a swing that cannot succeed.
                    let (_, observed) = futures::try_join!(self.upload(&draft), self.observe())?;
                    if observed.version() > tip.snapshot.version() {
                        self.discard_in_background(draft);
                        return Ok(Turn::Lost(Some(observed)));
                    }
                } else {
                    self.upload(&draft).await?;
                }
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
                self.look_around_in_background();
                Ok(Turn::Moved)
            }
            None => {
                self.contended.store(true, Ordering::Relaxed);
                self.discard_in_background(draft);
                Ok(Turn::Lost(None))
            }
        }
    }

    /// Keeps the members that are still to be committed on top of `tip`, and settles the others.
    async fn verify(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        tip: &Tip,
        seen: &mut Seen,
    ) -> Result<()> {
        let mut unclear = None;
        // Documents that were read before the tip's own pointer prove nothing about the tip.
        let usable = seen.version == tip.snapshot.version();
        let members: Vec<_> = std::mem::take(batch)
            .into_iter()
            .map(|ready| {
                let document = seen.documents.remove(&ready.id).filter(|_| usable);
                (ready, document)
            })
            .collect();
        let checked: Vec<_> = futures::stream::iter(members)
            .map(|(ready, document)| self.verify_one(ready, document, tip))
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

    /// `document` was read after the tip's pointer, if it is given.
    async fn verify_one(
        self: &Arc<Self>,
        mut ready: Ready,
        document: Option<WalResult<(StateDoc, Etag)>>,
        tip: &Tip,
    ) -> Verified {
        if ready.clear_of.is_some_and(|clear| clear.covers(tip)) {
            return Verified::Ready(Box::new(ready));
        }
        if let Some(record) = tip.snapshot.record(&ready.id) {
            let ending = Ok(Ending::Committed(record.clone()));
            self.finish(ready, ending, Some(&tip.snapshot));
            return Verified::Settled;
        }
        // The pointer was read before; this is the document's turn.
        let document = match document {
            Some(document) => document,
            None => self.wal.read(&ready.id).await,
        };
        match document {
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

    /// Takes the member out of the batch and ends it.
    pub(super) fn settle(
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
            Ok(Ending::Conflict(_) | Ending::NothingLeft) => {
                tracing::debug!(wal_id = %id, ?ending, "will not be committed");
                // The answer waits for the document to be taken: a later version may bring rows back (a
                // restore does), and then it must be too late to commit.
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
