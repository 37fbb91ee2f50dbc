//! The owner's way from an effect to an outcome: stage, become APPENDED, take part in a turn.
//!
//! Owns: the order of the owner's steps, and what each way of failing means for the statement. Does not own
//! the turn at the pointer (`commit`) nor the document's steps (`wal::driver`).
//! Invariants: nothing is staged before the INTENT document is durable; what was never APPENDED is taken
//! back by its owner; what was APPENDED, or may be, never is.
//! A crash leaves what `mutation` says.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::table::commit::committer::{Approach, Clear, Ending, Party, Ready};
use crate::table::commit::draft::Draft;
use crate::table::commit::mutation::{CommitOutcome, Effect, Parts};
use crate::table::commit::stage::Staged;
use crate::table::commit::staged_ids::StagedIds;
use crate::table::drop::{dropped, is_grave};
use crate::table::recovery::recover::committer_gone;
use crate::table::version::snapshot::Snapshot;
use crate::table::version::tip::Tip;
use crate::wal::AppendOutcome;

/// What became of the step to APPENDED.
enum Appended {
    Ready(Box<Ready>, oneshot::Receiver<Result<Ending>>),
    /// The statement was cancelled before the step.
    Cancelled,
    /// Another process had taken the document. The mutation is not in the versions up to this one.
    Fenced(u64),
    /// The document had ended already: it was APPENDED after all, and others went on.
    Ended,
}

impl Parts {
    /// From the effect to the outcome.
    pub(crate) async fn run(
        self,
        effect: Effect,
        ids: &StagedIds,
        cancelled: &CancellationToken,
    ) -> Result<CommitOutcome> {
        let had_staged = ids.any();
        let staged = Staged::of(&self, effect, ids).await;
        let staged = match staged {
            Ok(Some(staged)) => staged,
            Ok(None) => {
                // Nobody waits for the removal of a document that nobody needs.
                self.abandon_in_background(had_staged);
                return Ok(CommitOutcome::NothingToCommit);
            }
            Err(error) => {
                self.abandon_in_background(had_staged);
                return Err(error);
            }
        };
        if self.inner.is_unseen() {
            return self.create_filled(staged, cancelled).await;
        }
        match self.inner.committer.try_lead() {
            Some(turn) if self.inner.is_contended() => {
                self.commit_among_others(turn, staged, cancelled).await
            }
            Some(turn) => self.commit_alone(turn, staged, cancelled).await,
            None => self.commit_together(staged, cancelled).await,
        }
    }

    /// The fast path: nobody else of this process is at the pointer, so the next version is drafted and
    /// uploaded beside the change set, before the document is APPENDED.
    ///
    /// The owner needs no second look at pointer and document: the tip was known before the document's step
    /// to APPENDED, and that step succeeded from the owner's own INTENT etag, so until then nobody can have
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
        if let Some((_, verdict)) = draft.take_refused().pop() {
            // Not APPENDED yet: it can simply be taken back.
            self.abandon_in_background(true);
            return verdict.and_then(|ending| self.outcome(ending));
        }
        let uploaded = async {
            self.driver.durable().await?;
            futures::try_join!(self.upload(&staged), self.inner.upload(&draft))
        };
        if let Err(error) = uploaded.await {
            self.abandon_in_background(true);
            return Err(error);
        }
        match self.append(&staged, &tip, cancelled).await? {
            Appended::Ready(ready, ending) => {
                let approach = Approach {
                    prepared: Some(draft),
                    ..Approach::default()
                };
                self.lead_in_background(turn, *ready, approach);
                self.ending(ending).await
            }
            other => {
                drop(turn);
                self.without_append(other).await
            }
        }
    }

    /// Other processes are at the pointer: see who they are beside the own step to APPENDED, and then either
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
            self.inner.list_others()
        );
        match appended? {
            Appended::Ready(ready, ending) => {
                let approach = Approach {
                    help: true,
                    listed: Some(listed),
                    ..Approach::default()
                };
                self.lead_in_background(turn, *ready, approach);
                self.ending(ending).await
            }
            other => {
                drop(turn);
                self.without_append(other).await
            }
        }
    }

    /// In a task of its own: it may go on to lead others after this mutation has its ending.
    fn lead_in_background(&self, turn: OwnedMutexGuard<()>, ready: Ready, approach: Approach) {
        let leader = Arc::clone(&self.inner);
        self.inner
            .spawn(async move { leader.lead(turn, vec![ready], approach).await });
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
        let tip = self.inner.tip();
        match self.append(&staged, &tip, cancelled).await? {
            Appended::Ready(ready, ending) => {
                self.inner.enqueue(vec![*ready]);
                self.ending(ending).await
            }
            other => self.without_append(other).await,
        }
    }

    /// A tip that is not older than the base, which another handle on the same table may have read.
    async fn tip_since_base(&self) -> Result<Tip> {
        let tip = self.inner.tip();
        if tip.snapshot.version() >= self.base.version() {
            return Ok(tip);
        }
        match self.inner.refresh().await {
            Ok(tip) => Ok(tip),
            Err(error) => {
                self.abandon_in_background(true);
                Err(error)
            }
        }
    }

    pub(crate) async fn draft(&self, tip: &Arc<Snapshot>, staged: &Staged) -> Result<Draft> {
        let id = self.driver.id();
        self.inner
            .draft(tip, std::iter::once((id, &staged.change_set)))
            .await
    }

    /// Change set and sidecars, side by side.
    async fn upload(&self, staged: &Staged) -> Result<()> {
        let wal = &self.inner.wal;
        let sidecars = futures::stream::iter(staged.sidecars.clone())
            .map(|(id, bytes)| async move { wal.stage_sidecar(&id, bytes).await })
            .buffer_unordered(self.inner.limits.concurrency)
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
    ) -> Result<Appended> {
        if cancelled.is_cancelled() {
            return Ok(Appended::Cancelled);
        }
        let id = self.driver.id();
        match self.driver.append(staged.appendix()).await {
            Ok(AppendOutcome::Appended) => {}
            Ok(AppendOutcome::Fenced) => return Ok(Appended::Fenced(tip.snapshot.version())),
            Ok(AppendOutcome::Ended) => return Ok(Appended::Ended),
            Err(error) => {
                // It may be APPENDED, so it must not be taken back.
                self.inner.deactivate(&id);
                return Err(error);
            }
        }
        let (doc, etag) = self.driver.document().await;
        let (reply, ending) = oneshot::channel();
        let ready = Ready {
            id,
            change_set: Arc::clone(&staged.change_set),
            doc,
            etag,
            out_of_reach: false,
            clear_of: Some(Clear::Epoch(tip.epoch, tip.snapshot.version())),
            party: Party::Waiting(reply),
        };
        Ok(Appended::Ready(Box::new(ready), ending))
    }

    async fn ending(&self, ending: oneshot::Receiver<Result<Ending>>) -> Result<CommitOutcome> {
        match ending.await {
            Ok(ending) => self.outcome(ending?),
            Err(_) => Err(committer_gone(&self.driver.id())),
        }
    }

    /// The outcome of a mutation that this owner did not get to hold as APPENDED.
    async fn without_append(self, why: Appended) -> Result<CommitOutcome> {
        let id = self.driver.id();
        match why {
            Appended::Cancelled => {
                self.abandon_in_background(true);
                Err(self.cancelled())
            }
            Appended::Fenced(clear_of) => {
                // What was taken can also be an INTENT that landed late, of a mutation that was APPENDED before
                // unheard of, and committed: then what it staged is in use.
                let ending = self
                    .inner
                    .ending_in_history(&id, clear_of)
                    .await
                    .map_err(|error| self.unknown(&error));
                match ending {
                    Ok(Ending::Undone) => {
                        let error = self.undone();
                        self.abandon_in_background(true);
                        Err(error)
                    }
                    ended => {
                        self.inner.deactivate(&id);
                        self.outcome(ended?)
                    }
                }
            }
            Appended::Ready(..) | Appended::Ended => {
                self.inner.deactivate(&id);
                let ending = self
                    .inner
                    .ending_in_history(&id, self.base.version())
                    .await
                    .map_err(|error| self.unknown(&error))?;
                if matches!(ending, Ending::Undone) {
                    // What was staged after another process had undone the rest.
                    self.abandon_in_background(true);
                }
                self.outcome(ending)
            }
        }
    }

    pub(crate) fn outcome(&self, ending: Ending) -> Result<CommitOutcome> {
        match ending {
            Ending::Committed(record) => Ok(CommitOutcome::Committed {
                version: record.version,
                rows_affected: record.rows_affected(),
            }),
            Ending::Conflict(conflict) => Ok(CommitOutcome::Conflict(conflict)),
            Ending::NothingLeft => Ok(CommitOutcome::NothingToCommit),
            Ending::Undone => Err(self.undone()),
        }
    }

    pub(crate) fn cancelled(&self) -> Error {
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
        if is_grave(cause) {
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

    /// Takes back what was never APPENDED.
    pub(crate) async fn abandon(&self, staged: bool) -> Result<()> {
        self.inner.deactivate(&self.driver.id());
        Ok(self.driver.abandon(staged).await?)
    }

    /// The same, while the statement's caller goes on.
    pub(crate) fn abandon_in_background(&self, staged: bool) {
        let id = self.driver.id();
        let driver = Arc::clone(&self.driver);
        self.inner.deactivate(&id);
        self.inner.spawn(async move {
            if let Err(error) = driver.abandon(staged).await {
                tracing::debug!(wal_id = %id, %error, "taking a mutation back is left to recovery");
            }
        });
    }
}
