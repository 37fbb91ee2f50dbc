//! One document that a writer left: what is to be done about it, and doing it.
//!
//! | document | what is done |
//! | --- | --- |
//! | COMPLETE | its change set and the document are deleted |
//! | APPENDED | committed exactly as its owner would, or retired if the history has it, or undone if it conflicts |
//! | APPENDED, without its change set | retired if the history has it, else deleted once it is abandoned |
//! | INTENT | left alone while its owner renews it |
//! | INTENT, abandoned | taken by compare-and-swap; then what it staged is deleted, the document last |
//! | damaged | reported, never deleted, never in the way of the others |
//! | change set without a document | deleted once it is abandoned |
//!
//! *Abandoned* is what stood unchanged for one lease of the observer's own monotonic time (`wal::watch`); no wall
//! clock is asked.
//!
//! Owns: the decision per document, and the order of its steps. Does not own the steps, which are those of an owner:
//! the committer commits, `wal::driver` retires and undoes; nor which documents there are (`recover`).
//! Invariant: an INTENT is undone only after it was fenced, and its staged objects are deleted only if no
//! version since its base committed it. A crash leaves the document, or less of what it leads to; the next recovery
//! goes on.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{StateDoc, WalId, WalState};
use crate::table::commit::liveness::Liveness;
use crate::table::commit::member::{Member, Party};
use crate::table::commit::observe::Observer;
use crate::table::commit::outcome::Resolution;
use crate::table::commit::registry::MutationRegistry;
use crate::table::context::Context;
use crate::table::version::history::{History, Lookup};
use crate::wal::{Etag, Standing, WalError, driver, machine};

/// What was done about one document.
pub(super) enum Recovered {
    Retired,
    Undone {
        staged: usize,
    },
    LeftToVacuum,
    InFlight,
    /// Whether its owner is at it shows within a lease.
    Watched,
    /// Its owner ended it meanwhile.
    Gone,
    Appended(oneshot::Receiver<Result<Resolution>>, Box<Member>),
}

impl Recovered {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Undone { .. } => "undone",
            Self::LeftToVacuum => "left to vacuum",
            Self::InFlight => "in flight",
            Self::Watched => "watching",
            Self::Gone => "gone",
            Self::Appended(..) => "committing",
        }
    }
}

/// What is to be done about a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Retire,
    Commit,
    Undo,
    LeaveToOwner,
    Watch,
}

/// What is to be done about a document in this state, whose owner stands so. At the `first` look, a document that
/// moved since an earlier recovery says nothing about its owner now.
fn decide(state: WalState, standing: Standing, first: bool) -> Action {
    match (state, standing) {
        (WalState::Complete, _) => Action::Retire,
        (WalState::Appended, _) => Action::Commit,
        (WalState::Intent, Standing::Abandoned) => Action::Undo,
        (WalState::Intent, Standing::Moved) if !first => Action::LeaveToOwner,
        (WalState::Intent, _) => Action::Watch,
    }
}

/// Ends documents one by one.
#[derive(Debug)]
pub(super) struct DocumentRecovery {
    context: Arc<Context>,
    history: Arc<History>,
    registry: Arc<MutationRegistry>,
    liveness: Arc<Liveness>,
    observer: Arc<Observer>,
}

impl DocumentRecovery {
    pub(super) fn new(
        context: Arc<Context>,
        history: Arc<History>,
        registry: Arc<MutationRegistry>,
        liveness: Arc<Liveness>,
        observer: Arc<Observer>,
    ) -> Self {
        Self {
            context,
            history,
            registry,
            liveness,
            observer,
        }
    }

    /// Ends one document, if that can be done now.
    pub(super) async fn recover(&self, id: &WalId, first: bool) -> Result<Recovered> {
        if self.registry.is_active(id) {
            return Ok(Recovered::InFlight);
        }
        let (doc, etag, standing) = match self.liveness.read(id).await {
            Ok(read) => read,
            Err(WalError::NotFound { .. }) => return Ok(Recovered::Gone),
            Err(error) => return Err(error.into()),
        };
        match decide(doc.state, standing, first) {
            Action::Retire => {
                driver::retire(&self.context.wal, id, Some((doc, etag))).await?;
                Ok(Recovered::Retired)
            }
            Action::Commit => self.take_over(id).await,
            Action::Undo => self.undo_abandoned(&doc, &etag).await,
            Action::LeaveToOwner => Ok(Recovered::InFlight),
            Action::Watch => Ok(Recovered::Watched),
        }
    }

    /// Takes an APPENDED mutation over, to be committed.
    async fn take_over(&self, id: &WalId) -> Result<Recovered> {
        let (reply, end) = oneshot::channel();
        match self.observer.read_appended(id, Party::Waiting(reply)).await {
            Ok(Some(member)) => Ok(Recovered::Appended(end, Box::new(member))),
            Ok(None) => Ok(Recovered::Gone),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Ended between two reads, or its change set is missing: the document tells.
                match self.context.wal.read(id).await {
                    Ok((doc, etag)) if doc.state == WalState::Appended => {
                        self.end_without_change_set(doc, etag, error).await
                    }
                    Ok(_) | Err(WalError::NotFound { .. }) => Ok(Recovered::Gone),
                    Err(unreadable) => Err(unreadable.into()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// An APPENDED document whose change set is missing: that is damage, or the mutation ended, and then an
    /// INTENT of its own landed late and was made APPENDED, by its owner or by a request that landed late too.
    async fn end_without_change_set(
        &self,
        doc: StateDoc,
        etag: Etag,
        missing: Error,
    ) -> Result<Recovered> {
        let id = doc.wal_id;
        let lookup = self.history.find_in_current(&id, doc.base_version).await?;
        let recovered = match lookup {
            Lookup::Recorded(_) => Recovered::Retired,
            // Nobody can commit it, and it must not keep what it reads and staged from vacuum for ever.
            Lookup::NotCommitted | Lookup::OutOfReach if self.liveness.is_abandoned(&id, &etag) => {
                Recovered::LeftToVacuum
            }
            Lookup::NotCommitted | Lookup::OutOfReach => {
                tracing::debug!(wal_id = %id, error = %missing, "an APPENDED mutation is watched");
                return Ok(Recovered::Watched);
            }
        };
        tracing::warn!(wal_id = %id, "an APPENDED mutation without its change set is ended");
        driver::retire(&self.context.wal, &id, Some((doc, etag))).await?;
        Ok(recovered)
    }

    async fn undo_abandoned(&self, doc: &StateDoc, etag: &Etag) -> Result<Recovered> {
        let id = doc.wal_id;
        let by = self.context.fresh_owner();
        let fenced =
            match machine::fence(doc, &by, self.context.env.now(), self.context.limits.lease) {
                Ok(fenced) => fenced,
                Err(_) => return Ok(Recovered::InFlight),
            };
        match self.context.wal.update_with_etag(&id, etag, &fenced).await {
            Ok(_) => {}
            Err(WalError::CasFailed { .. }) => return Ok(Recovered::InFlight),
            Err(error) => return Err(error.into()),
        }
        // From here on its owner cannot come to APPENDED. But an INTENT can also be an old request that
        // landed after its mutation was committed and retired: then what it staged is in use.
        match self.history.find_in_current(&id, doc.base_version).await? {
            Lookup::NotCommitted => Ok(Recovered::Undone {
                staged: driver::undo(&self.context.wal, doc).await?,
            }),
            Lookup::Recorded(_) => {
                self.context.wal.delete_arrow(&id).await?;
                self.context.wal.delete_state(&id).await?;
                Ok(Recovered::Retired)
            }
            Lookup::OutOfReach => {
                self.context.wal.delete_arrow(&id).await?;
                self.context.wal.delete_state(&id).await?;
                Ok(Recovered::LeftToVacuum)
            }
        }
    }

    /// Deletes a change set that has no document, unless a document may still be on its way.
    pub(super) async fn remove_orphan(&self, id: &WalId) -> Result<Orphan> {
        if self.registry.is_active(id) {
            return Ok(Orphan::None);
        }
        // The listing saw the two names at two moments.
        match self.liveness.read_missing(id).await {
            None => return Ok(Orphan::None),
            Some(Standing::Abandoned) => {}
            Some(_) => return Ok(Orphan::Watched),
        }
        self.context.wal.delete_arrow(id).await?;
        Ok(Orphan::Removed)
    }
}

/// What was done about a change set without a document.
pub(super) enum Orphan {
    Removed,
    /// Whether its document is on its way shows within a lease.
    Watched,
    /// It is none.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_intent_that_stood_still_for_a_lease_is_undone() {
        for first in [false, true] {
            for standing in [Standing::Moved, Standing::Abandoned] {
                assert_eq!(decide(WalState::Complete, standing, first), Action::Retire);
                assert_eq!(decide(WalState::Appended, standing, first), Action::Commit);
            }
            let abandoned = decide(WalState::Intent, Standing::Abandoned, first);
            assert_eq!(abandoned, Action::Undo);
        }
        let moved = |first| decide(WalState::Intent, Standing::Moved, first);
        assert_eq!(moved(false), Action::LeaveToOwner);
        assert_eq!(moved(true), Action::Watch);
    }
}
