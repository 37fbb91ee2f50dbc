//! The owner's way from an effect to an outcome: stage, become APPENDED, take part in a turn.
//!
//! Owns: the order of the owner's steps, and what each way of failing means for the statement. Does not own
//! the turn at the pointer (`committer`) nor the document's steps (`wal::driver`).
//! Invariants: nothing is staged before the INTENT document is durable; what was never APPENDED is taken
//! back by its owner; what was APPENDED, or may be, never is. In a table that is not visible yet the document stays
//! INTENT and never becomes APPENDED: no process may commit it into a table that another process has created at the place.
//! A crash before APPENDED leaves a document whose lease expires: recovery deletes what was staged. After, it leaves a
//! mutation that anyone commits.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio_util::sync::CancellationToken;

use super::committer::Committer;
use super::draft::Draft;
use super::member::{AbsentFrom, Member, Party};
use super::outcome::{CommitOutcome, Resolution, RowCounts, interrupted};
use super::stage::{Effect, Staged, Statement};
use super::staged_ids::StagedIds;
use super::turn::TurnPlan;
use crate::error::{Error, ErrorKind, Result};
use crate::table::version::head::Created;
use crate::table::version::pointer::{dropped, exists, is_dropped_table};
use crate::table::version::snapshot::Snapshot;
use crate::table::version::tip::Tip;
use crate::wal::{AppendOutcome, Driver};

/// What became of the step to APPENDED.
enum Append {
    Appended(Box<Member>, oneshot::Receiver<Result<Resolution>>),
    /// The statement was cancelled before the step.
    Cancelled,
    /// Another process had taken the document. The mutation is not in the versions up to this one.
    Fenced(u64),
    /// The document had ended already: it was APPENDED after all, and others went on.
    Ended,
}

/// A mutation in its owner's hands.
#[derive(Debug)]
pub(crate) struct Owner {
    committer: Arc<Committer>,
    driver: Arc<Driver>,
    statement: Statement,
}

impl Owner {
    pub(crate) fn new(committer: Arc<Committer>, driver: Driver, statement: Statement) -> Self {
        Self {
            committer,
            driver: Arc::new(driver),
            statement,
        }
    }

    /// Where it is to be committed.
    pub(crate) fn committer(&self) -> &Arc<Committer> {
        &self.committer
    }

    /// Its document.
    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    /// What is to be committed.
    pub(crate) fn statement(&self) -> &Statement {
        &self.statement
    }

    /// From the effect to the outcome.
    pub(crate) async fn run(
        self,
        effect: Effect,
        ids: &StagedIds,
        cancelled: &CancellationToken,
    ) -> Result<CommitOutcome> {
        let had_staged = ids.any();
        let concurrency = self.committer.context.limits.concurrency;
        let staged = Staged::of(&self.statement, effect, ids, concurrency).await;
        let staged = match staged {
            Ok(Some(staged)) => staged,
            Ok(None) => {
                // No caller waits for the removal of a document that is no longer needed.
                self.abandon_in_background(had_staged);
                return Ok(CommitOutcome::NothingToCommit);
            }
            Err(error) => {
                self.abandon_in_background(had_staged);
                return Err(error);
            }
        };
        if self.committer.head.is_unseen() {
            return self.create_filled(staged, cancelled).await;
        }
        match self.committer.try_lead() {
            Some(turn) if self.committer.is_contended() => {
                self.commit_among_others(turn, staged, cancelled).await
            }
            Some(turn) => self.commit_alone(turn, staged, cancelled).await,
            None => self.commit_together(staged, cancelled).await,
        }
    }

    /// The fast path: no other mutation of this process is at the pointer, so the next version is drafted and
    /// uploaded beside the change set, before the document is APPENDED.
    ///
    /// The owner needs no second look at pointer and document: the tip was known before the document's step
    /// to APPENDED, and that step succeeded from the owner's own INTENT etag, so until then no other process can have
    /// committed it; in particular not in the tip's history.
    async fn commit_alone(
        self,
        turn: OwnedMutexGuard<()>,
        staged: Staged,
        cancelled: &CancellationToken,
    ) -> Result<CommitOutcome> {
        let tip = self.tip_since_base().await?;
        let mut draft = match self.draft(&tip.snapshot, &staged).await {
            Ok(draft) => draft,
            Err(error) => {
                self.abandon_in_background(true);
                return Err(error);
            }
        };
        if let Some((_, end)) = draft.take_refused().pop() {
            // Not APPENDED yet: it can simply be taken back.
            self.abandon_in_background(true);
            return end.and_then(|end| self.outcome(end));
        }
        let uploaded = async {
            self.driver.durable().await?;
            futures::try_join!(self.upload(&staged), self.committer.drafter.upload(&draft))
        };
        if let Err(error) = uploaded.await {
            self.abandon_in_background(true);
            return Err(error);
        }
        match self.append(&staged, &tip, cancelled).await? {
            Append::Appended(member, end) => {
                let plan = TurnPlan {
                    prepared: Some(draft),
                    ..TurnPlan::default()
                };
                self.lead_in_background(turn, *member, plan);
                self.end(end).await
            }
            other => {
                drop(turn);
                self.without_append(other).await
            }
        }
    }

    /// Other processes are at the pointer: find them beside the own step to APPENDED, and then either
    /// commit theirs along or be committed by one of them.
    async fn commit_among_others(
        self,
        turn: OwnedMutexGuard<()>,
        staged: Staged,
        cancelled: &CancellationToken,
    ) -> Result<CommitOutcome> {
        let tip = self.tip_since_base().await?;
        let uploaded = async {
            self.driver.durable().await?;
            self.upload(&staged).await
        };
        if let Err(error) = uploaded.await {
            self.abandon_in_background(true);
            return Err(error);
        }
        let (appended, listed) = futures::join!(
            self.append(&staged, &tip, cancelled),
            self.committer.observer.list_others()
        );
        match appended? {
            Append::Appended(member, end) => {
                let plan = TurnPlan {
                    grouped: true,
                    listed: Some(listed),
                    ..TurnPlan::default()
                };
                self.lead_in_background(turn, *member, plan);
                self.end(end).await
            }
            other => {
                drop(turn);
                self.without_append(other).await
            }
        }
    }

    /// In a task of its own: it may go on to lead others after this mutation has ended.
    fn lead_in_background(&self, turn: OwnedMutexGuard<()>, member: Member, plan: TurnPlan) {
        let leader = Arc::clone(&self.committer);
        self.committer
            .context
            .tasks
            .spawn(async move { leader.lead(turn, vec![member], plan).await });
    }

    /// Someone is at the pointer: become APPENDED meanwhile, and be part of the next turn.
    async fn commit_together(
        self,
        staged: Staged,
        cancelled: &CancellationToken,
    ) -> Result<CommitOutcome> {
        let uploaded = async {
            self.driver.durable().await?;
            self.upload(&staged).await
        };
        if let Err(error) = uploaded.await {
            self.abandon_in_background(true);
            return Err(error);
        }
        // Before the step to APPENDED, for the same reason as on the fast path.
        let tip = self.committer.head.tip();
        match self.append(&staged, &tip, cancelled).await? {
            Append::Appended(member, end) => {
                self.committer.enqueue(vec![*member]);
                self.end(end).await
            }
            other => self.without_append(other).await,
        }
    }

    /// A tip that is not older than the base, which another handle on the same table may have read.
    async fn tip_since_base(&self) -> Result<Tip> {
        let tip = self.committer.head.tip();
        if tip.snapshot.version() >= self.statement.base.version() {
            return Ok(tip);
        }
        match self.committer.head.refresh().await {
            Ok(tip) => Ok(tip),
            Err(error) => {
                self.abandon_in_background(true);
                Err(error)
            }
        }
    }

    async fn draft(&self, tip: &Arc<Snapshot>, staged: &Staged) -> Result<Draft> {
        let id = self.driver.id();
        self.committer
            .drafter
            .draft(tip, std::iter::once((id, &staged.change_set)))
            .await
    }

    /// Change set and sidecars, side by side.
    async fn upload(&self, staged: &Staged) -> Result<()> {
        let wal = &self.committer.context.wal;
        let sidecars = futures::stream::iter(staged.sidecars.clone())
            .map(|(id, bytes)| async move { wal.stage_sidecar(&id, bytes).await })
            .buffer_unordered(self.committer.context.limits.concurrency)
            .try_collect::<()>();
        let id = self.driver.id();
        let arrow = wal.put_arrow(&id, staged.bytes.clone());
        futures::try_join!(sidecars, arrow)?;
        Ok(())
    }

    /// `tip` was known before this call.
    async fn append(
        &self,
        staged: &Staged,
        tip: &Tip,
        cancelled: &CancellationToken,
    ) -> Result<Append> {
        if cancelled.is_cancelled() {
            return Ok(Append::Cancelled);
        }
        let id = self.driver.id();
        match self.driver.append(staged.appendix()).await {
            Ok(AppendOutcome::Appended) => {}
            Ok(AppendOutcome::Fenced) => return Ok(Append::Fenced(tip.snapshot.version())),
            Ok(AppendOutcome::Ended) => return Ok(Append::Ended),
            Err(error) => {
                // It may be APPENDED, so it must not be taken back.
                self.committer.registry.deactivate(&id);
                return Err(error);
            }
        }
        let (doc, etag) = self.driver.document().await;
        let (reply, end) = oneshot::channel();
        let member = Member {
            id,
            change_set: Arc::clone(&staged.change_set),
            doc,
            etag,
            out_of_reach: false,
            absent_from: Some(AbsentFrom::Epoch(tip.epoch, tip.snapshot.version())),
            party: Party::Waiting(reply),
        };
        Ok(Append::Appended(Box::new(member), end))
    }

    async fn end(&self, end: oneshot::Receiver<Result<Resolution>>) -> Result<CommitOutcome> {
        match end.await {
            Ok(end) => self.outcome(end?),
            Err(_) => Err(interrupted(&self.driver.id())),
        }
    }

    /// The outcome of a mutation that this owner did not get to hold as APPENDED.
    async fn without_append(self, why: Append) -> Result<CommitOutcome> {
        let id = self.driver.id();
        match why {
            Append::Cancelled => {
                self.abandon_in_background(true);
                Err(self.cancelled())
            }
            Append::Fenced(absent_up_to) => {
                // What was taken can also be an INTENT that landed late, of a mutation that was APPENDED before
                // unheard of, and committed: then what it staged is in use.
                match self.find_outcome(absent_up_to).await {
                    Ok(Resolution::Undone) => {
                        let error = self.undone();
                        self.abandon_in_background(true);
                        Err(error)
                    }
                    end => {
                        self.committer.registry.deactivate(&id);
                        self.outcome(end?)
                    }
                }
            }
            Append::Appended(..) | Append::Ended => {
                self.committer.registry.deactivate(&id);
                let end = self.find_outcome(self.statement.base.version()).await?;
                if matches!(end, Resolution::Undone) {
                    // What was staged after another process had undone the rest.
                    self.abandon_in_background(true);
                }
                self.outcome(end)
            }
        }
    }

    /// The end of this mutation, which is known to have ended, by the versions after `since`.
    async fn find_outcome(&self, since: u64) -> Result<Resolution> {
        let id = self.driver.id();
        let lookup = self.committer.history.find_in_current(&id, since).await;
        lookup
            .and_then(|lookup| Resolution::of_ended(&id, lookup))
            .map_err(|error| self.unknown(&error))
    }

    fn outcome(&self, end: Resolution) -> Result<CommitOutcome> {
        match end {
            Resolution::Committed(record) => Ok(CommitOutcome::Committed {
                version: record.version,
                rows_affected: record.rows_affected(),
                rows: RowCounts::from(&record),
            }),
            Resolution::Conflict(conflict) => Ok(CommitOutcome::Conflict(conflict)),
            Resolution::NothingLeft => Ok(CommitOutcome::NothingToCommit),
            Resolution::Undone => Err(self.undone()),
        }
    }

    fn cancelled(&self) -> Error {
        Error::new(
            ErrorKind::Storage,
            self.driver.id().to_string(),
            "the statement was cancelled; nothing of it is visible",
        )
    }

    fn undone(&self) -> Error {
        Error::new(
            ErrorKind::Conflict,
            self.driver.id().to_string(),
            "another process undid this mutation, because it saw no renewal for a whole lease or because it conflicts with a \
             committed version; nothing of it is visible, and running the statement again may succeed",
        )
    }

    fn unknown(&self, cause: &Error) -> Error {
        if is_dropped_table(cause) {
            return dropped();
        }
        Error::new(
            ErrorKind::OutcomeUnknown,
            self.driver.id().to_string(),
            format!(
                "this mutation may have been committed, and its outcome cannot be looked up: {cause}"
            ),
        )
    }

    /// Commits the first rows of a table that is not visible yet: by creating its pointer.
    async fn create_filled(
        self,
        staged: Staged,
        cancelled: &CancellationToken,
    ) -> Result<CommitOutcome> {
        let id = self.driver.id();
        let first = self.committer.head.tip().snapshot;
        let drafted = async {
            let draft = self.draft(&first, &staged).await?;
            self.driver.durable().await?;
            self.committer.drafter.upload(&draft).await?;
            Ok::<Draft, Error>(draft)
        };
        let mut draft = match drafted.await {
            Ok(draft) => draft,
            Err(error) => {
                self.abandon_in_background(true);
                return Err(error);
            }
        };
        if let Some((_, end)) = draft.take_refused().pop() {
            self.abandon_in_background(true);
            return end.and_then(|end| self.outcome(end));
        }
        if cancelled.is_cancelled() {
            self.abandon_in_background(true);
            return Err(self.cancelled());
        }
        match self.committer.drafter.create(&draft).await {
            Ok(Created::Seen) => {
                let outcome = draft.records().iter().find(|record| record.wal_id == id);
                let outcome = outcome.map_or(CommitOutcome::NothingToCommit, |record| {
                    CommitOutcome::Committed {
                        version: record.version,
                        rows_affected: record.rows_affected(),
                        rows: RowCounts::from(record),
                    }
                });
                self.committer.cleanup.end_creation(self.driver);
                Ok(outcome)
            }
            Ok(Created::Another) => {
                self.abandon_in_background(true);
                Err(exists())
            }
            Err(error) => {
                // It may be seen, so what was staged stays: recovery, or the next creation, knows what it is.
                self.committer.registry.deactivate(&id);
                Err(error)
            }
        }
    }

    /// Takes back what was never APPENDED.
    pub(crate) async fn abandon(&self, staged: bool) -> Result<()> {
        self.committer.registry.deactivate(&self.driver.id());
        Ok(self.driver.abandon(staged).await?)
    }

    /// The same, while the statement's caller goes on.
    pub(crate) fn abandon_in_background(&self, staged: bool) {
        let id = self.driver.id();
        let driver = Arc::clone(&self.driver);
        self.committer.registry.deactivate(&id);
        self.committer.context.tasks.spawn(async move {
            if let Err(error) = driver.abandon(staged).await {
                tracing::debug!(wal_id = %id, %error, "taking a mutation back is left to recovery");
            }
        });
    }
}
