//! Recovery: ends what dead or slow writers began.
//!
//! Owns: the decision per document, and [`RecoveryReport`]. Does not own the steps, which are those of an owner:
//! the committer commits, `wal::driver` retires and undoes.
//!
//! | document | what is done |
//! | --- | --- |
//! | COMPLETE | its change set and the document are deleted |
//! | APPENDED | committed exactly as its owner would, or retired if the history has it, or undone if it conflicts |
//! | APPENDED, without its change set | retired if the history has it, else reported, and deleted once the lease expired |
//! | INTENT, lease live | left alone |
//! | INTENT, lease expired | taken by compare-and-swap; then what it staged is deleted, the document last |
//! | damaged | reported, never deleted, never in the way of the others |
//! | change set without a document | deleted once it is older than a lease |
//!
//! Invariants: an INTENT is undone only after it was fenced, and its staged objects are deleted only if no
//! version since its base committed it. Any number of processes may recover at once. A crash leaves fewer
//! documents than before; the next recovery goes on.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::oneshot;

use super::commit::{Ending, Party, Ready};
use super::handle::Inner;
use super::history::Found;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{StateDoc, WalId, WalState};
use crate::wal::{Etag, WalError, driver, lease, machine};

/// What one recovery found and did.
#[derive(Debug, Default)]
pub struct RecoveryReport {
    /// Mutations that were APPENDED and are now in the table, with the version that committed them.
    pub committed: Vec<(WalId, u64)>,
    /// Mutations that were in the table already and whose documents were left over.
    pub retired: Vec<WalId>,
    /// Mutations that had not come to APPENDED, and were removed with what they had staged.
    pub undone: Vec<WalId>,
    /// Mutations that were APPENDED, conflict with a committed version or have nothing left to do, and are
    /// being removed.
    pub conflicting: Vec<WalId>,
    /// Mutations that their owners are still at, or that another process took first.
    pub in_flight: Vec<WalId>,
    /// Change sets without a document that were removed.
    pub orphans: Vec<WalId>,
    /// Mutations whose staged objects are left to vacuum, because the versions that would tell whether
    /// they are in use are gone.
    pub left_to_vacuum: Vec<WalId>,
    /// Superfiles and sidecars that were deleted.
    pub staged_objects_deleted: usize,
    /// Mutations that could not be ended, and why. Nothing of them was deleted.
    pub failed: Vec<(WalId, Error)>,
}

impl RecoveryReport {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty()
            && self.retired.is_empty()
            && self.undone.is_empty()
            && self.conflicting.is_empty()
            && self.orphans.is_empty()
            && self.left_to_vacuum.is_empty()
            && self.failed.is_empty()
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "committed {}, retired {}, undone {} ({} staged objects deleted), conflicting {}, in flight {}, \
             orphans {}, left to vacuum {}, failed {}",
            self.committed.len(),
            self.retired.len(),
            self.undone.len(),
            self.staged_objects_deleted,
            self.conflicting.len(),
            self.in_flight.len(),
            self.orphans.len(),
            self.left_to_vacuum.len(),
            self.failed.len(),
        )
    }
}

/// What was done about one document.
enum Step {
    Retired,
    Undone {
        staged: usize,
    },
    LeftToVacuum,
    InFlight,
    /// Its owner ended it meanwhile.
    Gone,
    Appended(oneshot::Receiver<Result<Ending>>, Box<Ready>),
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Undone { .. } => "undone",
            Self::LeftToVacuum => "left to vacuum",
            Self::InFlight => "in flight",
            Self::Gone => "gone",
            Self::Appended(..) => "committing",
        }
    }
}

impl Inner {
    #[tracing::instrument(level = "debug", name = "recovery", skip_all, fields(table = %self.table_id))]
    pub(super) async fn recover(self: &Arc<Self>) -> Result<RecoveryReport> {
        let listing = self.wal.list_wal().await?;
        let mut report = RecoveryReport::default();
        let steps: Vec<_> = futures::stream::iter(listing.documents)
            .map(|id| async move { (id, self.recover_one(&id).await) })
            .buffered(self.limits.concurrency)
            .collect()
            .await;
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        for (id, step) in steps {
            if let Ok(step) = &step {
                tracing::debug!(wal_id = %id, action = step.name(), "recovering");
            }
            match step {
                Ok(Step::Retired) => report.retired.push(id),
                Ok(Step::Undone { staged }) => {
                    report.undone.push(id);
                    report.staged_objects_deleted += staged;
                }
                Ok(Step::LeftToVacuum) => report.left_to_vacuum.push(id),
                Ok(Step::InFlight) => report.in_flight.push(id),
                Ok(Step::Gone) => {}
                Ok(Step::Appended(reply, mutation)) => {
                    ready.push(*mutation);
                    waiting.push((id, reply));
                }
                Err(error) => {
                    tracing::warn!(wal_id = %id, %error, "a mutation cannot be recovered");
                    report.failed.push((id, error));
                }
            }
        }
        // All of them in as few versions as their conflicts allow.
        if !ready.is_empty() {
            self.enqueue(ready);
        }
        for (id, reply) in waiting {
            match reply.await {
                Ok(Ok(Ending::Committed(record))) => report.committed.push((id, record.version)),
                Ok(Ok(Ending::Conflict(_) | Ending::NothingLeft)) => report.conflicting.push(id),
                Ok(Ok(Ending::Undone)) => {}
                Ok(Err(error)) => report.failed.push((id, error)),
                Err(_) => report.failed.push((id, committer_gone(&id))),
            }
        }
        for id in listing.orphan_arrows {
            match self.remove_orphan(&id).await {
                Ok(true) => report.orphans.push(id),
                Ok(false) => {}
                Err(error) => report.failed.push((id, error)),
            }
        }
        if !report.is_empty() {
            tracing::info!(%report, "recovered");
        }
        Ok(report)
    }

    async fn recover_one(self: &Arc<Self>, id: &WalId) -> Result<Step> {
        if self.is_active(id) {
            return Ok(Step::InFlight);
        }
        let (doc, etag) = match self.wal.read(id).await {
            Ok(read) => read,
            Err(WalError::NotFound { .. }) => return Ok(Step::Gone),
            Err(error) => return Err(error.into()),
        };
        match doc.state {
            WalState::Complete => {
                driver::retire(&self.wal, id, Some((doc, etag))).await?;
                Ok(Step::Retired)
            }
            WalState::Appended => self.adopt(id).await,
            WalState::Intent if lease::is_expired(&doc, self.env.now(), self.limits.lease) => {
                self.undo_expired(&doc, &etag).await
            }
            WalState::Intent => Ok(Step::InFlight),
        }
    }

    async fn adopt(self: &Arc<Self>, id: &WalId) -> Result<Step> {
        let (reply, ending) = oneshot::channel();
        match self.read_ready(id, Party::Waiting(reply)).await {
            Ok(Some(ready)) => Ok(Step::Appended(ending, Box::new(ready))),
            Ok(None) => Ok(Step::Gone),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Ended between two reads, or its change set is missing: the document tells.
                match self.wal.read(id).await {
                    Ok((doc, etag)) if doc.state == WalState::Appended => {
                        self.end_without_change_set(doc, etag, error).await
                    }
                    Ok(_) | Err(WalError::NotFound { .. }) => Ok(Step::Gone),
                    Err(unreadable) => Err(unreadable.into()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// An APPENDED document whose change set is missing: that is damage, or the mutation ended, and then an
    /// INTENT of its own landed late and was made APPENDED, by its owner or by a request that landed late too.
    async fn end_without_change_set(
        self: &Arc<Self>,
        doc: StateDoc,
        etag: Etag,
        missing: Error,
    ) -> Result<Step> {
        let id = doc.wal_id;
        self.refresh().await?;
        let tip = self.tip();
        let step = match self
            .find_record(&tip.snapshot, &id, doc.base_version)
            .await?
        {
            Found::Record(_) => Step::Retired,
            // Nobody can commit it, and it must not keep what it reads and staged from vacuum for ever.
            Found::Absent | Found::OutOfReach
                if lease::is_expired(&doc, self.env.now(), self.limits.lease) =>
            {
                Step::LeftToVacuum
            }
            Found::Absent | Found::OutOfReach => return Err(missing),
        };
        tracing::warn!(wal_id = %id, "an APPENDED mutation without its change set is ended");
        driver::retire(&self.wal, &id, Some((doc, etag))).await?;
        Ok(step)
    }

    async fn undo_expired(self: &Arc<Self>, doc: &StateDoc, etag: &Etag) -> Result<Step> {
        let id = doc.wal_id;
        let by = self.fresh_owner();
        let fenced = match machine::fence(doc, &by, self.env.now(), self.limits.lease) {
            Ok(fenced) => fenced,
            Err(_) => return Ok(Step::InFlight),
        };
        match self.wal.update_with_etag(&id, etag, &fenced).await {
            Ok(_) => {}
            Err(WalError::CasFailed { .. }) => return Ok(Step::InFlight),
            Err(error) => return Err(error.into()),
        }
        // From here on its owner cannot come to APPENDED. But an INTENT can also be an old request that
        // landed after its mutation was committed and retired: then what it staged is in use.
        self.refresh().await?;
        let tip = self.tip();
        match self
            .find_record(&tip.snapshot, &id, doc.base_version)
            .await?
        {
            Found::Absent => Ok(Step::Undone {
                staged: driver::undo(&self.wal, doc).await?,
            }),
            Found::Record(_) => {
                self.wal.delete_arrow(&id).await?;
                self.wal.delete_state(&id).await?;
                Ok(Step::Retired)
            }
            Found::OutOfReach => {
                self.wal.delete_arrow(&id).await?;
                self.wal.delete_state(&id).await?;
                Ok(Step::LeftToVacuum)
            }
        }
    }

    /// Deletes a change set that has no document, unless a document may still be on its way.
    async fn remove_orphan(&self, id: &WalId) -> Result<bool> {
        let age_ms = self.env.now_ms().saturating_sub_unsigned(id.millis());
        if self.is_active(id) || age_ms < self.limits.lease.num_milliseconds() {
            return Ok(false);
        }
        // The listing saw the two names at two moments.
        match self.wal.read(id).await {
            Err(WalError::NotFound { .. }) => {
                self.wal.delete_arrow(id).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// The committer's task ended without an answer: the runtime is being shut down.
pub(super) fn committer_gone(id: &WalId) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        id.to_string(),
        "the commit was interrupted; this mutation is durable, and recovery will end it",
    )
}
