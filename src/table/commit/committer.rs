//! The commit: APPENDED change sets become one next version, by one compare-and-swap of the pointer.
//!
//! Vocabulary: a [`Member`] is a mutation whose document is APPENDED. A *turn* takes every member that is ready, drafts
//! one next version and swings the pointer once. The *leader* holds the turn's lock; mutations that come
//! meanwhile queue, and the next turn commits them. A *foreign* mutation belongs to another
//! process; where several processes write, one commits for all (`group`), so the others find themselves done.
//!
//! Owns: the order of steps around the pointer, and what is waited for between them. Does not own what applies
//! or conflicts (`apply`), which members are still to be committed (`verify`), what follows an end
//! (`complete`), nor the document's steps (`wal::driver`).
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
//!
//! [`Tip`]: crate::table::version::tip::Tip

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::cleanup::Cleanup;
use super::complete::Completion;
use super::contention::Contention;
use super::draft::{Draft, Drafter};
use super::group::GroupCommit;
use super::liveness::Liveness;
use super::member::Member;
use super::observe::{Observation, Observer};
use super::outcome::Resolution;
use super::registry::MutationRegistry;
use super::turn::{Prepared, TurnPlan, TurnResult};
use super::verify::Verifier;
use crate::error::{Error, ErrorKind, Result};
use crate::format::WalId;
use crate::table::context::Context;
use crate::table::version::head::{Swung, TableHead};
use crate::table::version::history::History;
use crate::table::version::pointer::{dropped, is_dropped_table};
use crate::wal::backoff::Backoff;

/// The longest wait after a lost race. The winner commits for the losers, so waiting long gains nothing.
const LONGEST_AFTER_LOSS: Duration = Duration::from_millis(100);

/// Races in a row that may be lost before waiting.
const LOSSES_BEFORE_WAIT: usize = 2;

/// Turns in a row in which this process lets others lead that do not commit what it has ready, before it leads itself.
const FOLLOWED_IN_A_ROW: usize = 4;

/// Where ready mutations of this process meet, and everything that committing them takes.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) context: Arc<Context>,
    pub(crate) head: Arc<TableHead>,
    pub(crate) history: Arc<History>,
    pub(crate) registry: Arc<MutationRegistry>,
    pub(crate) drafter: Arc<Drafter>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) cleanup: Arc<Cleanup>,
    completion: Arc<Completion>,
    contention: Arc<Contention>,
    verifier: Verifier,
    group: GroupCommit,
    turn: Arc<tokio::sync::Mutex<()>>,
    queue: Mutex<Vec<Member>>,
}

impl Committer {
    pub(crate) fn new(
        context: &Arc<Context>,
        head: &Arc<TableHead>,
        history: &Arc<History>,
        registry: &Arc<MutationRegistry>,
        liveness: &Arc<Liveness>,
    ) -> Arc<Self> {
        let (context, head) = (Arc::clone(context), Arc::clone(head));
        let (history, registry) = (Arc::clone(history), Arc::clone(registry));
        let contention = Arc::new(Contention::new());
        let drafter = Drafter::new(
            Arc::clone(&context),
            Arc::clone(&head),
            Arc::clone(history.reader()),
            Arc::clone(&registry),
        );
        let cleanup = Cleanup::new(
            Arc::clone(&context),
            Arc::clone(&head),
            Arc::clone(&history),
            Arc::clone(&registry),
            Arc::clone(liveness),
        );
        let completion = Completion::new(
            Arc::clone(&context),
            Arc::clone(&registry),
            Arc::clone(&cleanup),
        );
        let observer = Observer::new(
            Arc::clone(&context),
            Arc::clone(&head),
            Arc::clone(&history),
            Arc::clone(&registry),
            Arc::clone(liveness),
            Arc::clone(&contention),
        );
        let verifier = Verifier::new(
            Arc::clone(&context),
            Arc::clone(&history),
            Arc::clone(&completion),
        );
        let group = GroupCommit::new(
            Arc::clone(&context),
            Arc::clone(&head),
            Arc::clone(&observer),
            Arc::clone(&drafter),
            Arc::clone(&completion),
            Arc::clone(&cleanup),
            Arc::clone(&contention),
        );
        Arc::new(Self {
            context,
            head,
            history,
            registry,
            drafter,
            observer,
            cleanup,
            completion,
            contention,
            verifier,
            group,
            turn: Arc::default(),
            queue: Mutex::default(),
        })
    }

    /// Whether other processes are at the pointer too, as far as this one knows.
    pub(crate) fn is_contended(&self) -> bool {
        self.contention.is_contended()
    }

    /// The right to lead, if no task leads or waits for it.
    pub(crate) fn try_lead(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    fn push(&self, members: Vec<Member>) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(members);
    }

    fn drain(&self) -> Vec<Member> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Queues mutations, and makes sure that one task leads.
    pub(crate) fn enqueue(self: &Arc<Self>, members: Vec<Member>) {
        self.push(members);
        let committer = Arc::clone(self);
        // A task of its own: a caller that goes away must not take its neighbours' commit along.
        self.context.tasks.spawn(async move {
            let turn = Arc::clone(&committer.turn).lock_owned().await;
            committer.lead(turn, Vec::new(), TurnPlan::default()).await;
        });
    }

    /// Takes turns until nothing is ready.
    pub(crate) async fn lead(
        self: Arc<Self>,
        _turn: OwnedMutexGuard<()>,
        mut batch: Vec<Member>,
        mut plan: TurnPlan,
    ) {
        let mut after_failure = Backoff::default();
        let mut after_loss = Backoff::up_to(LONGEST_AFTER_LOSS);
        let (mut lost, mut failed, mut followed) = (0, 0, 0);
        loop {
            if plan.prepared.is_none() {
                batch.append(&mut self.drain());
            }
            if batch.is_empty() {
                return;
            }
            let turn = self.take_turn(&mut batch, std::mem::take(&mut plan)).await;
            // Others' mutations are helped along by the way, not waited for.
            batch.retain(Member::is_own);
            match turn {
                Ok(TurnResult::Advanced) => {
                    (lost, failed, followed) = (0, 0, 0);
                    after_failure = Backoff::default();
                }
                Ok(TurnResult::Followed(observed)) => {
                    followed += 1;
                    plan.grouped = true;
                    plan.must_lead = followed % FOLLOWED_IN_A_ROW == 0;
                    plan.observed = Some(observed);
                }
                Ok(TurnResult::LeaderMissing) => {
                    plan.grouped = true;
                    plan.must_lead = true;
                }
                Ok(TurnResult::Lost(observed)) => {
                    lost += 1;
                    if lost > self.context.limits.commit_attempts {
                        self.completion
                            .give_up(&mut batch, "the pointer was always swung by others first");
                        (lost, failed) = (0, 0);
                    } else if lost > LOSSES_BEFORE_WAIT {
                        after_loss.wait(&self.context.env).await;
                    }
                    plan.observed = observed;
                }
                Err(error) if is_dropped_table(&error) => {
                    // Nobody will ever commit them: a dropped table stays dropped.
                    for member in batch.drain(..) {
                        self.completion.complete(member, Err(dropped()), None);
                    }
                    (lost, failed) = (0, 0);
                }
                Err(error) => {
                    tracing::warn!(%error, mutations = batch.len(), "a commit attempt failed");
                    failed += 1;
                    if failed > self.context.limits.commit_failures {
                        self.completion.give_up(&mut batch, &error.to_string());
                        (lost, failed) = (0, 0);
                    } else {
                        after_failure.wait(&self.context.env).await;
                    }
                }
            }
            plan.stale = lost > 0 || failed > 0;
            plan.grouped |= lost > 0;
        }
    }

    async fn take_turn(&self, batch: &mut Vec<Member>, mut plan: TurnPlan) -> Result<TurnResult> {
        if let Some(draft) = plan.prepared.take() {
            return self.swing(batch, draft).await;
        }
        let grouped = plan.grouped || self.is_contended();
        let must_lead = plan.must_lead;
        let observation = self.observer.observe(batch, plan, grouped).await?;
        let Observation {
            tip,
            documents,
            listed,
            ahead,
        } = observation;
        for id in ahead {
            let error = Err(from_no_version(&id));
            self.completion.complete_in(batch, &id, error, None);
        }
        self.verifier.verify(batch, &tip, documents).await?;
        if batch.is_empty() {
            return Ok(TurnResult::Advanced);
        }
        if grouped {
            return match self.group.prepare(batch, &tip, listed, must_lead).await? {
                Prepared::Swing(draft) => self.swing(batch, draft).await,
                Prepared::Ended(result) => Ok(result),
            };
        }
        let members = batch.iter().map(|member| (member.id, &member.change_set));
        let mut draft = self.drafter.draft(&tip.snapshot, members).await?;
        for (id, end) in draft.take_refused() {
            self.completion.complete_in(batch, &id, end, None);
        }
        if draft.records().is_empty() {
            return Ok(TurnResult::Advanced);
        }
        self.drafter.upload(&draft).await?;
        self.swing(batch, draft).await
    }

    /// Makes an uploaded draft the current version, and ends the members that it commits.
    async fn swing(&self, batch: &mut Vec<Member>, draft: Draft) -> Result<TurnResult> {
        match self.head.swing(draft.base(), draft.next()).await? {
            Swung::Committed(committed) => {
                self.drafter.remember_merged(&draft);
                tracing::debug!(
                    phase = "swing",
                    outcome = "committed",
                    version = committed.version(),
                    mutations = draft.records().len(),
                    "phase"
                );
                for record in draft.records() {
                    let end = Ok(Resolution::Committed(record.clone()));
                    self.completion
                        .complete_in(batch, &record.wal_id, end, Some(&committed));
                }
                self.cleanup.sweep_in_background(&committed);
                self.observer.poll_other_writers();
                Ok(TurnResult::Advanced)
            }
            Swung::Lost(observed) => {
                tracing::debug!(
                    phase = "swing",
                    outcome = "lost",
                    mutations = draft.records().len(),
                    "phase"
                );
                self.contention.note(true);
                self.cleanup.delete_lost_in_background(draft);
                Ok(TurnResult::Lost(observed))
            }
        }
    }
}

fn from_no_version(id: &WalId) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        id.to_string(),
        "this mutation was made from a version that the table does not have",
    )
}
