//! The commit: APPENDED change sets become one next version, by one compare-and-swap of the pointer.
//!
//! Vocabulary: a [`Ready`] mutation has an APPENDED document. A *turn* takes every ready mutation, drafts
//! one next version and swings the pointer once. The *leader* holds the turn's lock; whoever comes
//! meanwhile queues, and is committed by the next turn. A *foreign* mutation belongs to another
//! process; where several processes write, one commits for all (`help`), so the others find themselves done.
//!
//! Owns: the order of steps around the pointer, and what is waited for between them. Does not own what applies
//! or conflicts (`apply`, `conflict`), which members are still to be committed (`verify`), what follows an ending
//! (`ending`), nor the document's steps (`wal::driver`).
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

use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::error::Result;
use crate::format::manifest::CommitRecord;
use crate::format::{ChangeSet, StateDoc, WalId};
use crate::table::apply::conflict::Conflict;
use crate::table::commit::draft::{Draft, Swung};
use crate::table::commit::observe::Seen;
use crate::table::drop::{dropped, is_grave};
use crate::table::handle::{Inner, Observed};
use crate::table::version::tip::Tip;
use crate::wal::Etag;
use crate::wal::backoff::Backoff;

/// The longest wait after a lost race. Whoever wins commits for the losers, so waiting long gains nothing.
const LONGEST_AFTER_LOSS: Duration = Duration::from_millis(100);

/// Races in a row that may be lost before waiting.
const PATIENT_LOSSES: usize = 2;

/// How often in a row others may lead without committing what this process has ready, before it leads itself.
const MODESTY: usize = 4;

/// How a mutation ended.
#[derive(Debug)]
pub(crate) enum Ending {
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
pub(crate) enum Clear {
    /// All tips of this epoch: the mutation is this process's own, and only its one [`Ready`] commits it. And
    /// all versions up to this one, whoever made them.
    Epoch(u64, u64),
    /// The tip of this version only: it was read from the store, so this process can hold it twice (two
    /// recoveries), and one of the two may commit it without a new epoch.
    Version(u64),
}

impl Clear {
    pub(crate) fn covers(self, tip: &Tip) -> bool {
        match self {
            Self::Epoch(epoch, _) => epoch == tip.epoch,
            Self::Version(version) => version == tip.snapshot.version(),
        }
    }
}

/// Whose mutation it is, which decides who hears of its ending and who cleans up.
#[derive(Debug)]
pub(crate) enum Party {
    /// Someone in this process waits for the ending.
    Waiting(oneshot::Sender<Result<Ending>>),
    /// Another process's: its owner cleans up, or recovery does.
    Foreign,
}

/// A mutation whose document is APPENDED.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) id: WalId,
    pub(crate) change_set: Arc<ChangeSet>,
    pub(crate) doc: StateDoc,
    pub(crate) etag: Etag,
    /// Whether the history since its base could not be seen: if it conflicts, that may be with itself, so what it
    /// staged is left to vacuum.
    pub(crate) out_of_reach: bool,
    /// How far it is known to be uncommitted; `None` before its document was compared with a tip.
    pub(crate) clear_of: Option<Clear>,
    pub(crate) party: Party,
}

/// Where ready mutations of this process meet.
#[derive(Debug, Default)]
pub(crate) struct Committer {
    turn: Arc<tokio::sync::Mutex<()>>,
    queue: Mutex<Vec<Ready>>,
}

impl Committer {
    /// The right to lead, if nobody leads or waits for it.
    pub(crate) fn try_lead(&self) -> Option<OwnedMutexGuard<()>> {
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
pub(crate) enum Turn {
    /// Every member was settled, or is judged against a new version next.
    Moved,
    /// Another process swung the pointer first; what the pointer says now, if that is known.
    Lost(Option<Observed>),
    /// Another process led, as this one left it to, and swung the pointer: what it says now.
    Led(Observed),
    /// Another process should have led, and the pointer did not move.
    Unled,
}

/// How a turn is taken.
#[derive(Debug, Default)]
pub(crate) struct Approach {
    /// A draft of the whole batch that is uploaded already.
    pub(crate) prepared: Option<Draft>,
    /// What the pointer said last.
    pub(crate) observed: Option<Observed>,
    /// Whether the pointer must be read, because a swing was lost or failed.
    pub(crate) stale: bool,
    /// Whether to mind other processes' mutations too.
    pub(crate) help: bool,
    /// Whether to lead, whoever else could.
    pub(crate) insist: bool,
    /// Others' documents that were listed already.
    pub(crate) listed: Option<Vec<WalId>>,
}

impl Inner {
    /// Queues mutations, and sees to it that someone leads.
    pub(crate) fn enqueue(self: &Arc<Self>, ready: Vec<Ready>) {
        self.committer.push(ready);
        let inner = Arc::clone(self);
        // A task of its own: a caller that goes away must not take its neighbours' commit along.
        self.spawn(async move {
            let turn = Arc::clone(&inner.committer.turn).lock_owned().await;
            inner.lead(turn, Vec::new(), Approach::default()).await;
        });
    }

    /// Takes turns until nothing is ready.
    pub(crate) async fn lead(
        self: Arc<Self>,
        _turn: OwnedMutexGuard<()>,
        mut batch: Vec<Ready>,
        mut approach: Approach,
    ) {
        let mut after_failure = Backoff::default();
        let mut after_loss = Backoff::up_to(LONGEST_AFTER_LOSS);
        let (mut lost, mut failed, mut led) = (0, 0, 0);
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
                    (lost, failed, led) = (0, 0, 0);
                    after_failure = Backoff::default();
                }
                Ok(Turn::Led(observed)) => {
                    led += 1;
                    approach.help = true;
                    approach.insist = led % MODESTY == 0;
                    approach.observed = Some(observed);
                }
                Ok(Turn::Unled) => {
                    approach.help = true;
                    approach.insist = true;
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
            approach.help |= lost > 0;
        }
    }

    async fn take_turn(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        mut approach: Approach,
    ) -> Result<Turn> {
        if let Some(draft) = approach.prepared.take() {
            return self.swing_and_tell(batch, draft).await;
        }
        let help = approach.help || self.is_contended();
        let insist = approach.insist;
        let Seen {
            tip,
            documents,
            listed,
        } = self.look(batch, approach, help).await?;
        self.verify(batch, &tip, documents).await?;
        if batch.is_empty() {
            return Ok(Turn::Moved);
        }
        if help {
            return self.commit_with_others(batch, &tip, listed, insist).await;
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
        self.swing_and_tell(batch, draft).await
    }

    /// Makes an uploaded draft the current version, and ends the members that it commits.
    pub(crate) async fn swing_and_tell(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        draft: Draft,
    ) -> Result<Turn> {
        match self.swing(&draft).await? {
            Swung::Committed(committed) => {
                tracing::debug!(
                    phase = "swing",
                    outcome = "committed",
                    version = committed.version(),
                    mutations = draft.records().len(),
                    "phase"
                );
                for record in draft.records() {
                    let ending = Ok(Ending::Committed(record.clone()));
                    self.settle(batch, &record.wal_id, ending, Some(&committed));
                }
                self.sweep_in_background(&committed);
                self.look_around_in_background();
                Ok(Turn::Moved)
            }
            Swung::Lost(observed) => {
                tracing::debug!(
                    phase = "swing",
                    outcome = "lost",
                    mutations = draft.records().len(),
                    "phase"
                );
                self.contended.store(true, Ordering::Relaxed);
                self.discard_in_background(draft);
                Ok(Turn::Lost(observed))
            }
        }
    }
}
