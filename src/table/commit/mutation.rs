//! One mutation as its statement sees it: begun, filled with an effect, committed or aborted.
//!
//! Owns: the order of steps up to APPENDED. Does not own the ids of what the statement stages (`staged_ids`),
//! the turn at the pointer (`commit`) nor the superfiles' bytes (the writer uploads them).
//! Invariants: nothing is staged by a commit before the INTENT document is durable; a statement can be
//! cancelled (its future dropped) until APPENDED, and runs to its end in the background after.
//! A crash before APPENDED leaves a document whose lease expires: recovery deletes what was staged. After,
//! it leaves a mutation that anyone commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{SuperfileEntry, TableMetadata};
use crate::format::{OpKind, RowMoves, SuperfileId, WalId};
use crate::table::apply::conflict::Conflict;
use crate::table::commit::staged_ids::StagedIds;
use crate::table::handle::Inner;
use crate::table::recovery::recover::committer_gone;
use crate::table::version::snapshot::Snapshot;
use crate::wal::Driver;
use crate::wal::machine::Intention;

/// What a statement does to the snapshot that it read.
#[derive(Clone, Debug, Default)]
pub struct Effect {
    /// Superfiles to add. They are uploaded, under ids of the mutation's block.
    pub add: Vec<SuperfileEntry>,
    /// Rows to remove: positions per superfile of the snapshot. Rows that the snapshot has deleted already
    /// are ignored.
    pub delete: BTreeMap<SuperfileId, RoaringBitmap>,
    /// Superfiles of the snapshot to remove with all their rows.
    pub drop: Vec<SuperfileId>,
    /// Where the rows of the superfiles in `drop` are in those in `add`, if they were copied: of all of
    /// them, or of none.
    pub moves: BTreeMap<SuperfileId, RowMoves>,
    /// Rows that come in.
    pub rows_inserted: u64,
    /// Rows that go.
    pub rows_deleted: u64,
    /// Rows that change.
    pub rows_updated: u64,
    /// New metadata of the table, if it changes.
    pub metadata: Option<TableMetadata>,
    /// Whether the statement read the table, and must not be committed after a change of its rows.
    pub serializable: bool,
}

/// How a statement ended.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a conflicting statement was not committed"]
pub enum CommitOutcome {
    /// Its effect is visible from this version on.
    Committed {
        /// The version.
        version: u64,
        /// The rows that the statement reports: those that were still there to be removed, and so on.
        rows_affected: u64,
    },
    /// The effect is empty; no version was made.
    NothingToCommit,
    /// A version that was committed since the snapshot is in the way. Nothing of the statement is visible;
    /// it may be run again on a new snapshot.
    Conflict(Conflict),
}

/// A mutation under way. Dropping it without a commit aborts it in the background.
#[derive(Debug)]
pub struct Mutation {
    parts: Option<Parts>,
    ids: StagedIds,
}

/// What a mutation is made of until it ends.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) inner: Arc<Inner>,
    pub(crate) driver: Arc<Driver>,
    pub(crate) base: Arc<Snapshot>,
    pub(crate) op: OpKind,
    pub(crate) statement: String,
    pub(crate) started_at_ms: i64,
}

impl Mutation {
    pub(crate) fn begin(
        inner: &Arc<Inner>,
        op: OpKind,
        base: Arc<Snapshot>,
        statement: String,
    ) -> Self {
        let id = inner.env.ids.wal_id();
        let block = inner.env.ids.id_block();
        inner.activate(id);
        let what = Intention {
            wal_id: id,
            op,
            base_version: base.version(),
            block,
            statement: &statement,
            owner: &inner.fresh_owner(),
        };
        let driver = Driver::start(
            inner.wal.clone(),
            inner.env.clone(),
            &inner.tracker,
            &inner.runtime,
            &what,
            inner.limits.lease,
        );
        let started_at_ms = inner.env.now_ms();
        Self {
            parts: Some(Parts {
                inner: Arc::clone(inner),
                driver: Arc::new(driver),
                base,
                op,
                statement,
                started_at_ms,
            }),
            ids: StagedIds::new(block),
        }
    }

    /// The mutation's id.
    ///
    /// # Errors
    /// None while the mutation is under way.
    pub fn wal_id(&self) -> Result<WalId> {
        Ok(self.parts()?.driver.id())
    }

    /// The ids of everything that the mutation stages, also for those who write it.
    pub fn ids(&self) -> &StagedIds {
        &self.ids
    }

    /// The snapshot that the statement reads.
    ///
    /// # Errors
    /// None while the mutation is under way.
    pub fn base(&self) -> Result<&Arc<Snapshot>> {
        Ok(&self.parts()?.base)
    }

    /// Waits until the INTENT document is durable. A superfile's upload may be *completed* only after that:
    /// otherwise a crash leaves an object that no document leads to.
    ///
    /// # Errors
    /// The document cannot be written: the statement fails, and nothing of it is visible.
    pub async fn durable(&self) -> Result<()> {
        self.parts()?.driver.durable().await
    }

    /// Commits the effect. Dropping the returned future cancels the statement if it is not APPENDED yet;
    /// after that it ends in the background.
    ///
    /// # Errors
    /// Nothing is visible, and nothing will be, except for `OutcomeUnknown`: then the mutation named by the
    /// error's subject may still be committed, by recovery or another writer.
    pub async fn commit(mut self, effect: Effect) -> Result<CommitOutcome> {
        let parts = self.take()?;
        let id = parts.driver.id();
        let ids = self.ids.clone();
        let inner = Arc::clone(&parts.inner);
        let cancelled = CancellationToken::new();
        let cancel = cancelled.clone().drop_guard();
        let task = inner.spawn(async move { parts.run(effect, &ids, &cancelled).await });
        let outcome = task.await.unwrap_or_else(|_| Err(committer_gone(&id)));
        cancel.disarm();
        outcome
    }

    /// Ends the mutation without a trace.
    ///
    /// # Errors
    /// The store's; nothing is visible, and recovery removes what is left.
    pub async fn abort(mut self) -> Result<()> {
        let staged = self.ids.any();
        let parts = self.take()?;
        let inner = Arc::clone(&parts.inner);
        let id = parts.driver.id();
        inner
            .spawn(async move { parts.abandon(staged).await })
            .await
            .unwrap_or_else(|_| Err(committer_gone(&id)))
    }

    fn parts(&self) -> Result<&Parts> {
        self.parts.as_ref().ok_or_else(ended)
    }

    fn take(&mut self) -> Result<Parts> {
        self.parts.take().ok_or_else(ended)
    }
}

impl Drop for Mutation {
    fn drop(&mut self) {
        let staged = self.ids.any();
        if let Some(parts) = self.parts.take() {
            parts.abandon_in_background(staged);
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
