//! Recovery: ends what dead or slow writers began.
//!
//! A process that has just begun needs a lease to end what a dead writer left, because it has to see that nothing moves:
//! opening a table starts that in the background, a recovery that is asked for waits for it.
//!
//! Owns: which documents are looked at, when they are looked at again, and in how few versions they are committed. Does
//! not own what is done about one (`document`).
//! Invariant: any number of processes may recover at once; in one process recoveries take turns, so that each sees what
//! another one did wholly done. A crash leaves fewer documents than before; the next recovery goes on.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::document::{DocumentRecovery, Orphan, Recovered};
use super::report::RecoveryReport;
use crate::error::Result;
use crate::format::WalId;
use crate::table::commit::committer::Committer;
use crate::table::commit::liveness::Liveness;
use crate::table::commit::outcome::{Resolution, interrupted};
use crate::table::context::Context;
use crate::wal::WalListing;

/// The first look at a watched document comes after so much of a lease, each further one after twice the time.
const FIRST_LOOK: u32 = 64;
/// But no later than after so much of it: an owner renews three times in a lease.
const LAST_LOOK: u32 = 6;

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

/// Recovers one table.
#[derive(Debug)]
pub(crate) struct Recovery {
    context: Arc<Context>,
    committer: Arc<Committer>,
    liveness: Arc<Liveness>,
    documents: DocumentRecovery,
    recovering: tokio::sync::Mutex<()>,
}

impl Recovery {
    pub(crate) fn new(committer: &Arc<Committer>, liveness: &Arc<Liveness>) -> Arc<Self> {
        let documents = DocumentRecovery::new(
            Arc::clone(&committer.context),
            Arc::clone(&committer.history),
            Arc::clone(&committer.registry),
            Arc::clone(liveness),
            Arc::clone(&committer.observer),
        );
        Arc::new(Self {
            context: Arc::clone(&committer.context),
            committer: Arc::clone(committer),
            liveness: Arc::clone(liveness),
            documents,
            recovering: tokio::sync::Mutex::default(),
        })
    }

    /// Ends what dead writers left, and waits for as long as it takes to tell which owners are dead: one lease at most.
    #[tracing::instrument(level = "debug", name = "recovery", skip_all, fields(table = %self.context.table_id))]
    pub(crate) async fn recover(&self) -> Result<RecoveryReport> {
        let mut report = RecoveryReport::default();
        let mut watched = self.recover_listed(&mut report).await?;
        let mut observation_delays = self.observation_delays();
        while !watched.is_empty() {
            tokio::time::sleep(observation_delays.next().unwrap_or_default()).await;
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
        let recovery = Arc::clone(self);
        self.context.tasks.spawn(async move {
            let mut report = RecoveryReport::default();
            let watched = match recovery.recover_listed(&mut report).await {
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
                recovery.watch_in_background(watched);
            }
        });
    }

    /// Not tracked: a wait for background work need not wait for a lease. Ends with the table.
    fn watch_in_background(self: &Arc<Self>, mut watched: Watched) {
        let mut observation_delays = self.observation_delays();
        let recovery = Arc::downgrade(self);
        self.context.tasks.runtime().spawn(async move {
            while !watched.is_empty() {
                tokio::time::sleep(observation_delays.next().unwrap_or_default()).await;
                let Some(recovery) = recovery.upgrade() else {
                    return;
                };
                let mut report = RecoveryReport::default();
                watched = recovery.recover_these(watched, &mut report, false).await;
                if !report.is_empty() {
                    tracing::info!(%report, "recovered");
                }
            }
        });
    }

    /// The times between looks at watched documents.
    fn observation_delays(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        let lease = self.context.limits.lease.to_std().unwrap_or_default();
        // A lease of no time is for tests; the loop must not spin even then.
        let least = Duration::from_millis(1);
        let last = (lease / LAST_LOOK).max(least);
        std::iter::successors(Some((lease / FIRST_LOOK).max(least)), move |pause| {
            Some(pause.saturating_mul(2).min(last))
        })
    }

    /// Ends what can be ended at once; what is to be watched.
    async fn recover_listed(&self, report: &mut RecoveryReport) -> Result<Watched> {
        let WalListing {
            documents,
            orphan_arrows: orphans,
        } = self.context.wal.list_wal().await?;
        self.liveness
            .retain(&documents.iter().chain(&orphans).copied().collect());
        let listed = Watched { documents, orphans };
        Ok(self.recover_these(listed, report, true).await)
    }

    /// Looks at these, and ends what can be ended; what is to be looked at again. At the `first` look, a document that
    /// moved since an earlier recovery says nothing about its owner now.
    async fn recover_these(
        &self,
        these: Watched,
        report: &mut RecoveryReport,
        first: bool,
    ) -> Watched {
        let _turn = self.recovering.lock().await;
        let recovered: Vec<_> = futures::stream::iter(these.documents)
            .map(|id| async move { (id, self.documents.recover(&id, first).await) })
            .buffered(self.context.limits.concurrency)
            .collect()
            .await;
        let mut again = Watched::default();
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        for (id, done) in recovered {
            if let Ok(done) = &done {
                tracing::debug!(wal_id = %id, action = done.name(), "recovering");
            }
            match done {
                Ok(Recovered::Retired) => report.retired.push(id),
                Ok(Recovered::Undone { staged }) => {
                    report.undone.push(id);
                    report.staged_objects_deleted += staged;
                }
                Ok(Recovered::LeftToVacuum) => report.left_to_vacuum.push(id),
                Ok(Recovered::InFlight) => report.in_flight.push(id),
                Ok(Recovered::Watched) => again.documents.push(id),
                Ok(Recovered::Gone) => {}
                Ok(Recovered::Appended(reply, mutation)) => {
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
            self.committer.enqueue(ready);
        }
        for (id, reply) in waiting {
            match reply.await {
                Ok(Ok(Resolution::Committed(record))) => {
                    report.committed.push((id, record.version))
                }
                Ok(Ok(Resolution::Conflict(_) | Resolution::NothingLeft)) => {
                    report.conflicting.push(id)
                }
                Ok(Ok(Resolution::Undone)) => {}
                Ok(Err(error)) => report.failed.push((id, error)),
                Err(_) => report.failed.push((id, interrupted(&id))),
            }
        }
        for id in these.orphans {
            match self.documents.remove_orphan(&id).await {
                Ok(Orphan::Removed) => report.orphans.push(id),
                Ok(Orphan::Watched) => again.orphans.push(id),
                Ok(Orphan::None) => {}
                Err(error) => report.failed.push((id, error)),
            }
        }
        again
    }
}
