//! What a statement has committed, for a caller that wants more than a count.
//!
//! Owns the receipt: a caller puts one into the session that plans and runs its statement, and the statement's sink,
//! which commits by [`commit`], fills it in. Does not own the commit, nor what the numbers mean to whom.
//!
//! Invariant: a receipt names a version only if the statement is in force since that version.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::execution::{SessionState, TaskContext};

use crate::error::Result;
use crate::table::{CommitOutcome, Effect, Mutation, RowCounts, Snapshot};

/// What a statement has committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The version since which it is in force; `None` if there was nothing to change.
    pub(crate) version: Option<u64>,
    /// The rows that it changed.
    pub(crate) rows: RowCounts,
    /// Superfiles that it wrote.
    pub(crate) files_added: u64,
    /// Superfiles that lost their last row.
    pub(crate) files_removed: u64,
    /// How often it ran again, because other statements were first.
    pub(crate) reruns: u64,
}

/// Where a statement's sink says what it has committed.
#[derive(Debug, Default)]
pub(crate) struct Receipt(Mutex<Committed>);

impl Receipt {
    /// A receipt for the next statement of `session`, which is that statement's alone.
    pub(crate) fn for_statement(session: &mut SessionState) -> Arc<Self> {
        let receipt = Arc::new(Self::default());
        session.config_mut().set_extension(Arc::clone(&receipt));
        receipt
    }

    /// What is known of the statement by now.
    pub(crate) fn committed(&self) -> Committed {
        *self.locked()
    }

    /// The statement of `context` runs again.
    pub(crate) fn add_rerun(context: &TaskContext) {
        if let Some(receipt) = Self::of(context) {
            receipt.locked().reruns += 1;
        }
    }

    fn of(context: &TaskContext) -> Option<Arc<Self>> {
        context.session_config().get_extension()
    }

    fn locked(&self) -> MutexGuard<'_, Committed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits a statement's effect, and fills its receipt in, if it has one.
///
/// # Errors
/// Those of [`Mutation::commit`].
pub(crate) async fn commit(
    mutation: Mutation,
    effect: Effect,
    context: &TaskContext,
) -> Result<CommitOutcome> {
    let Some(receipt) = Receipt::of(context) else {
        return mutation.commit(effect).await;
    };
    let files_added = effect.add.len() as u64;
    let files_removed = files_removed(&effect, mutation.base()?);
    let outcome = mutation.commit(effect).await?;
    if let CommitOutcome::Committed { version, rows, .. } = outcome {
        let mut committed = receipt.locked();
        *committed = Committed {
            version: Some(version),
            rows,
            files_added,
            files_removed,
            reruns: committed.reruns,
        };
    }
    Ok(outcome)
}

/// The superfiles of `base` of which every live row goes.
fn files_removed(effect: &Effect, base: &Snapshot) -> u64 {
    let emptied = effect.delete.iter().filter(|(superfile, positions)| {
        let entry = base.manifest().get(superfile);
        entry.is_some_and(|entry| positions.len() >= entry.live_rows())
    });
    (effect.drop.len() + emptied.count()) as u64
}
