//! Recovery: ends what dead or slow writers began.
//!
//! Owns: the decision per document, and [`RecoveryReport`]. Does not own the steps, which are those of an owner:
//! the committer commits, `wal::driver` retires and undoes.
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
//! clock is asked. So a process that has just begun needs a lease to end what a dead writer left: opening a table
//! starts that in the background, a recovery that is asked for waits for it.
//!
//! Invariants: an INTENT is undone only after it was fenced, and its staged objects are deleted only if no
//! version since its base committed it. Any number of processes may recover at once. A crash leaves fewer
//! documents than before; the next recovery goes on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{StateDoc, WalId, WalState};
use crate::table::commit::committer::{Ending, Party, Ready};
use crate::table::handle::Inner;
use crate::table::version::lookup::Found;
use crate::wal::{Etag, Standing, WalError, WalListing, driver, machine};

/// The first look at a watched document comes after so much of a lease, each further one after twice the time.
const FIRST_LOOK: u32 = 64;
/// But no later than after so much of it: an owner renews three times in a lease.
const LAST_LOOK: u32 = 6;

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
    /// Whether its owner is at it shows within a lease.
    Watched,
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
            Self::Watched => "watching",
            Self::Gone => "gone",
            Self::Appended(..) => "committing",
        }
    }
}

/// What is to be looked at: ids of documents, and of change sets without one.
#[derive(Debug, Default)]
struct Watched {
    documents: Vec<WalId>,
    orphans: Vec<WalId>,
}

impl Watched {
    fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.orphans.is_empty()
    }
}

impl Inner {
    /// Ends what dead writers left, and waits for as long as it takes to tell who is dead: one lease at most.
    #[tracing::instrument(level = "debug", name = "recovery", skip_all, fields(table = %self.table_id))]
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<RecoveryReport> {
        let mut report = RecoveryReport::default();
        let mut watched = self.recover_listed(&mut report).await?;
        let mut looks = self.looks();
        while !watched.is_empty() {
            tokio::time::sleep(looks.next().unwrap_or_default()).await;
            watched = self.recover_these(watched, &mut report, false).await;
        }
        if !report.is_empty() {
            tracing::info!(%report, "recovered");
        }
        Ok(report)
    }

    /// The same, beside everything else. [`Table::settle`](crate::table::Table::settle) waits only for what can be ended at
    /// once; the rest is watched for as long as the table is open.
    pub(crate) fn recover_in_background(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        self.spawn(async move {
            let mut report = RecoveryReport::default();
            let watched = match inner.recover_listed(&mut report).await {
                Ok(watched) => watched,
                Err(error) => {
                    tracing::warn!(%error, "recovery on open did not succeed");
                    return;
                }
            };
            if !report.is_empty() {
                tracing::info!(%report, "recovered");
            }
            if !watched.is_empty() {
                inner.watch_in_background(watched);
            }
        });
    }

    /// Not tracked: whoever waits for background work need not wait for a lease. Ends with the table.
    fn watch_in_background(self: &Arc<Self>, mut watched: Watched) {
        let mut looks = self.looks();
        let table = Arc::downgrade(self);
        self.runtime.spawn(async move {
            while !watched.is_empty() {
                tokio::time::sleep(looks.next().unwrap_or_default()).await;
                let Some(inner) = table.upgrade() else { return };
                let mut report = RecoveryReport::default();
                watched = inner.recover_these(watched, &mut report, false).await;
                if !report.is_empty() {
                    tracing::info!(%report, "recovered");
                }
            }
        });
    }

    /// The times between looks at watched documents.
    fn looks(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        let lease = self.limits.lease.to_std().unwrap_or_default();
        // A lease of no time is for tests; the loop must not spin even then.
        let least = Duration::from_millis(1);
        let last = (lease / LAST_LOOK).max(least);
        std::iter::successors(Some((lease / FIRST_LOOK).max(least)), move |pause| {
            Some(pause.saturating_mul(2).min(last))
        })
    }

    /// Ends what can be ended at once; what is to be watched.
    async fn recover_listed(self: &Arc<Self>, report: &mut RecoveryReport) -> Result<Watched> {
        let WalListing {
            documents,
            orphan_arrows: orphans,
        } = self.wal.list_wal().await?;
        self.watch
            .retain(&documents.iter().chain(&orphans).copied().collect());
        let listed = Watched { documents, orphans };
        Ok(self.recover_these(listed, report, true).await)
    }

    /// Looks at these, and ends what can be ended; what is to be looked at again. At the `first` look, a document that
    /// moved since an earlier recovery says nothing about its owner now.
    async fn recover_these(
        self: &Arc<Self>,
        these: Watched,
        report: &mut RecoveryReport,
        first: bool,
    ) -> Watched {
        let _turn = self.recovering.lock().await;
        let steps: Vec<_> = futures::stream::iter(these.documents)
            .map(|id| async move { (id, self.recover_one(&id, first).await) })
            .buffered(self.limits.concurrency)
            .collect()
            .await;
        let mut again = Watched::default();
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
                Ok(Step::Watched) => again.documents.push(id),
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
        for id in these.orphans {
            match self.remove_orphan(&id).await {
                Ok(Orphan::Removed) => report.orphans.push(id),
                Ok(Orphan::Watched) => again.orphans.push(id),
                Ok(Orphan::None) => {}
                Err(error) => report.failed.push((id, error)),
            }
        }
        again
    }

    async fn recover_one(self: &Arc<Self>, id: &WalId, first: bool) -> Result<Step> {
        if self.is_active(id) {
            return Ok(Step::InFlight);
        }
        let (doc, etag, standing) = match self.read_and_watch(id).await {
            Ok(read) => read,
            Err(WalError::NotFound { .. }) => return Ok(Step::Gone),
            Err(error) => return Err(error.into()),
        };
        match (doc.state, standing) {
            (WalState::Complete, _) => {
                driver::retire(&self.wal, id, Some((doc, etag))).await?;
                Ok(Step::Retired)
            }
            (WalState::Appended, _) => self.adopt(id).await,
            (WalState::Intent, Standing::Abandoned) => self.undo_abandoned(&doc, &etag).await,
            (WalState::Intent, Standing::Moved) if !first => Ok(Step::InFlight),
            (WalState::Intent, _) => Ok(Step::Watched),
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
            Found::Absent | Found::OutOfReach if self.watch.is_abandoned(&id, &etag) => {
                Step::LeftToVacuum
            }
            Found::Absent | Found::OutOfReach => {
                tracing::debug!(wal_id = %id, error = %missing, "an APPENDED mutation is watched");
                return Ok(Step::Watched);
            }
        };
        tracing::warn!(wal_id = %id, "an APPENDED mutation without its change set is ended");
        driver::retire(&self.wal, &id, Some((doc, etag))).await?;
        Ok(step)
    }

    async fn undo_abandoned(self: &Arc<Self>, doc: &StateDoc, etag: &Etag) -> Result<Step> {
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
    async fn remove_orphan(&self, id: &WalId) -> Result<Orphan> {
        if self.is_active(id) {
            return Ok(Orphan::None);
        }
        // The listing saw the two names at two moments.
        let asked = self.env.monotonic();
        match self.wal.read(id).await {
            Err(WalError::NotFound { .. }) => {}
            _ => return Ok(Orphan::None),
        }
        let answered = self.env.monotonic();
        if self.watch.note(id, None, asked, answered) != Standing::Abandoned {
            return Ok(Orphan::Watched);
        }
        self.wal.delete_arrow(id).await?;
        Ok(Orphan::Removed)
    }
}

/// What was done about a change set without a document.
enum Orphan {
    Removed,
    /// Whether its document is on its way shows within a lease.
    Watched,
    /// It is none.
    None,
}

/// The committer's task ended without an answer: the runtime is being shut down.
pub(crate) fn committer_gone(id: &WalId) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        id.to_string(),
        "the commit was interrupted; this mutation is durable, and recovery will end it",
    )
}
