//! One mutation as its statement sees it: begun, filled with an effect, committed or aborted.
//!
//! Owns: the statement's side, to the moment at which it may go away. Does not own the ids of what the statement stages
//! (`staged_ids`), the steps to APPENDED and to the outcome (`owner`), nor the superfiles' bytes (the writer uploads them).
//! Invariants: nothing is staged by a commit before the INTENT document is durable; a statement can be
//! cancelled (its future dropped) until APPENDED, and runs to its end in the background after.
//! A crash leaves what `owner` says.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::committer::Committer;
use super::outcome::{CommitOutcome, interrupted};
use super::owner::Owner;
use super::stage::{Effect, Statement};
use super::staged_ids::StagedIds;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{OpKind, WalId};
use crate::table::version::snapshot::Snapshot;
use crate::wal::Driver;
use crate::wal::machine::Intention;

/// A mutation under way. Dropping it without a commit aborts it in the background.
#[derive(Debug)]
pub struct Mutation {
    /// Until it ends.
    owner: Option<Owner>,
    ids: StagedIds,
}

impl Mutation {
    pub(crate) fn begin(
        committer: &Arc<Committer>,
        op: OpKind,
        base: Arc<Snapshot>,
        text: String,
    ) -> Self {
        let context = &committer.context;
        let id = context.env.ids.wal_id();
        let block = context.env.ids.id_block();
        committer.registry.activate(id);
        let what = Intention {
            wal_id: id,
            op,
            base_version: base.version(),
            block,
            statement: &text,
            owner: &context.fresh_owner(),
        };
        let driver = Driver::start(
            context.wal.clone(),
            context.env.clone(),
            context.tasks.tracker(),
            context.tasks.runtime(),
            &what,
            context.limits.lease,
        );
        let statement = Statement {
            id,
            op,
            text,
            base,
            started_at_ms: context.env.now_ms(),
        };
        Self {
            owner: Some(Owner::new(Arc::clone(committer), driver, statement)),
            ids: StagedIds::new(block),
        }
    }

    /// The mutation's id.
    ///
    /// # Errors
    /// None while the mutation is under way.
    pub fn wal_id(&self) -> Result<WalId> {
        Ok(self.owner()?.driver().id())
    }

    /// The ids of everything that the mutation stages, also for its writers.
    pub fn ids(&self) -> &StagedIds {
        &self.ids
    }

    /// The snapshot that the statement reads.
    ///
    /// # Errors
    /// None while the mutation is under way.
    pub fn base(&self) -> Result<&Arc<Snapshot>> {
        Ok(&self.owner()?.statement().base)
    }

    /// Waits until the INTENT document is durable. A superfile's upload may be *completed* only after that:
    /// otherwise a crash leaves an object that no document leads to.
    ///
    /// # Errors
    /// The document cannot be written: the statement fails, and nothing of it is visible.
    pub async fn durable(&self) -> Result<()> {
        self.owner()?.driver().durable().await
    }

    /// Commits the effect. Dropping the returned future cancels the statement if it is not APPENDED yet;
    /// after that it ends in the background.
    ///
    /// # Errors
    /// Nothing is visible, and nothing will be, except for `OutcomeUnknown`: then the mutation named by the
    /// error's subject may still be committed, by recovery or another writer.
    pub async fn commit(mut self, effect: Effect) -> Result<CommitOutcome> {
        let owner = self.take()?;
        let id = owner.driver().id();
        let ids = self.ids.clone();
        let context = Arc::clone(&owner.committer().context);
        let cancelled = CancellationToken::new();
        let cancel = cancelled.clone().drop_guard();
        let task = context
            .tasks
            .spawn(async move { owner.run(effect, &ids, &cancelled).await });
        let outcome = task.await.unwrap_or_else(|_| Err(interrupted(&id)));
        cancel.disarm();
        outcome
    }

    /// Ends the mutation without a trace.
    ///
    /// # Errors
    /// The store's; nothing is visible, and recovery removes what is left.
    pub async fn abort(mut self) -> Result<()> {
        let staged = self.ids.any();
        let owner = self.take()?;
        let context = Arc::clone(&owner.committer().context);
        let id = owner.driver().id();
        context
            .tasks
            .spawn(async move { owner.abandon(staged).await })
            .await
            .unwrap_or_else(|_| Err(interrupted(&id)))
    }

    fn owner(&self) -> Result<&Owner> {
        self.owner.as_ref().ok_or_else(ended)
    }

    fn take(&mut self) -> Result<Owner> {
        self.owner.take().ok_or_else(ended)
    }
}

impl Drop for Mutation {
    fn drop(&mut self) {
        let staged = self.ids.any();
        if let Some(owner) = self.owner.take() {
            owner.abandon_in_background(staged);
        }
    }
}

fn ended() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "mutation",
        "this mutation has ended already",
    )
}
