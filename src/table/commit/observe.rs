//! What a turn observes before it drafts: the pointer, its members' documents, and what others have ready.
//!
//! Owns: the order of those reads, and that they go side by side where order does not matter. Does not own the
//! verdict about a member (`verify`), nor what follows for others (`group`).
//! Invariant: what is said about a document is said of a moment after the pointer that it is compared with was
//! read. Reads only, so a crash leaves nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::contention::Contention;
use super::election::is_upcoming;
use super::liveness::Liveness;
use super::member::{AbsentFrom, Member, Party};
use super::registry::MutationRegistry;
use super::turn::TurnPlan;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ChangeSet, ContentHash, FormatError, StateDoc, WalId, WalState, paths};
use crate::table::apply::needed_sidecars;
use crate::table::context::Context;
use crate::table::version::head::{Observed, TableHead};
use crate::table::version::history::{History, Lookup};
use crate::table::version::tip::Tip;
use crate::wal::{Etag, WalResult};

/// How long after another process's version others are taken to be writing.
const OTHERS_WRITE_FOR: Duration = Duration::from_secs(30);

/// Documents as they were read after the pointer of one version.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    pub(crate) version: u64,
    pub(crate) read: HashMap<WalId, WalResult<(StateDoc, Etag)>>,
}

/// What a turn starts from.
#[derive(Debug)]
pub(crate) struct Observation {
    /// The version to build on.
    pub(crate) tip: Tip,
    /// The members' documents, as far as they were read.
    pub(crate) documents: Documents,
    /// Ids of others' documents, if the turn is one of a group.
    pub(crate) listed: Vec<WalId>,
    /// Members that were made from a version that the table does not have.
    pub(crate) ahead: Vec<WalId>,
}

/// Other processes' mutations. All of them were read after the pointer of the version that they are seen with.
#[derive(Debug, Default)]
pub(crate) struct ForeignMutations {
    /// APPENDED and not committed, oldest first.
    pub(crate) ready: Vec<Member>,
    /// Likely to be APPENDED soon.
    pub(crate) upcoming: Vec<Upcoming>,
}

/// A mutation whose document is INTENT and young.
#[derive(Clone, Debug)]
pub(crate) struct Upcoming {
    pub(crate) id: WalId,
    /// Its change set, if that is there already: it will be APPENDED next.
    pub(crate) early: Option<EarlyChangeSet>,
}

impl Upcoming {
    /// One whose objects were not read yet.
    pub(crate) fn unread(id: WalId) -> Self {
        Self { id, early: None }
    }
}

/// A change set that no document names yet.
#[derive(Clone, Debug)]
pub(crate) struct EarlyChangeSet {
    pub(crate) change_set: Arc<ChangeSet>,
    hash: ContentHash,
}

/// One of them.
enum Other {
    Appended(Box<Member>),
    Upcoming(Upcoming),
}

/// Reads what a turn has to know.
#[derive(Debug)]
pub(crate) struct Observer {
    context: Arc<Context>,
    head: Arc<TableHead>,
    history: Arc<History>,
    registry: Arc<MutationRegistry>,
    liveness: Arc<Liveness>,
    contention: Arc<Contention>,
}

impl Observer {
    pub(crate) fn new(
        context: Arc<Context>,
        head: Arc<TableHead>,
        history: Arc<History>,
        registry: Arc<MutationRegistry>,
        liveness: Arc<Liveness>,
        contention: Arc<Contention>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            head,
            history,
            registry,
            liveness,
            contention,
        })
    }

    /// The tip to build on. If the pointer is read for it, the members' documents are read after it. That, and
    /// the listing of others' documents, goes on beside the loading of what the pointer names.
    pub(crate) async fn observe(
        &self,
        batch: &[Member],
        plan: TurnPlan,
        grouped: bool,
    ) -> Result<Observation> {
        let observed = match plan.observed {
            Some(observed) => observed,
            None if plan.stale || !self.ahead(batch).is_empty() => self.head.observe().await?,
            None => Observed::Known(self.head.tip()),
        };
        let version = observed.version();
        // What is known already needs no second look at its documents.
        let is_new = matches!(observed, Observed::New(..));
        let documents = async {
            if !is_new {
                return HashMap::new();
            }
            futures::stream::iter(batch.iter().map(|member| member.id).collect::<Vec<_>>())
                .map(|id| async move { (id, self.context.wal.read(&id).await) })
                .buffer_unordered(self.context.limits.concurrency)
                .collect()
                .await
        };
        let listed = async {
            match plan.listed {
                _ if !grouped => Vec::new(),
                Some(listed) => listed,
                None => self.list_others().await,
            }
        };
        let (tip, read, listed) = futures::join!(self.head.follow(observed), documents, listed);
        Ok(Observation {
            tip: tip?,
            documents: Documents { version, read },
            listed,
            ahead: self.ahead(batch),
        })
    }

    /// Members that were made from a version that this process has not seen.
    fn ahead(&self, batch: &[Member]) -> Vec<WalId> {
        let version = self.head.tip().snapshot.version();
        batch
            .iter()
            .filter(|member| member.change_set.base_version > version)
            .map(|member| member.id)
            .collect()
    }

    /// Ids of documents that are not this process's own, oldest first. Best effort: no process is helped if they
    /// cannot be listed.
    pub(crate) async fn list_others(&self) -> Vec<WalId> {
        match self.context.wal.list_wal_ids().await {
            Ok(mut ids) => {
                ids.retain(|id| !self.registry.is_active(id));
                ids
            }
            Err(error) => {
                tracing::debug!(%error, "cannot look for other writers' mutations");
                Vec::new()
            }
        }
    }

    /// What has become of mutations that `tip` does not hold. Best effort: what cannot be read is left to its
    /// owner and to recovery.
    pub(crate) async fn reread(&self, candidates: Vec<Upcoming>, tip: &Tip) -> ForeignMutations {
        let found: Vec<Option<Other>> = futures::stream::iter(candidates)
            .map(|candidate| self.read_other(candidate, tip))
            .buffered(self.context.limits.concurrency)
            .collect()
            .await;
        let mut others = ForeignMutations::default();
        for other in found.into_iter().flatten() {
            match other {
                Other::Appended(member) => others.ready.push(*member),
                Other::Upcoming(upcoming) => others.upcoming.push(upcoming),
            }
        }
        others
    }

    async fn read_other(&self, candidate: Upcoming, tip: &Tip) -> Option<Other> {
        let Upcoming { id, early } = candidate;
        // Together, because a round trip costs more than a change set that turns out not to be needed.
        let (doc, bytes) = futures::join!(self.liveness.read(&id), async {
            match early {
                Some(_) => None,
                None => self.context.wal.get_arrow(&id, None).await.ok(),
            }
        });
        let (doc, etag, _) = doc.ok()?;
        let appended = doc.state == WalState::Appended;
        let now = self.context.env.now();
        // A change set that was named once was APPENDED once: that mutation is being undone.
        let upcoming = doc.new_row_content_hash.is_none()
            && is_upcoming(&doc, now, self.context.limits.wait_for_younger_than);
        if !appended && !upcoming {
            return None;
        }
        let early = early.or_else(|| {
            let bytes = bytes?;
            let hash = doc
                .new_row_content_hash
                .unwrap_or_else(|| ContentHash::of(&bytes));
            let change_set = Arc::new(ChangeSet::decode(&bytes, &hash).ok()?);
            Some(EarlyChangeSet { change_set, hash })
        });
        let version = tip.snapshot.version();
        if early
            .as_ref()
            .is_some_and(|early| early.change_set.base_version > version)
        {
            return None;
        }
        if !appended {
            return Some(Other::Upcoming(Upcoming { id, early }));
        }
        let early = early.filter(|it| doc.new_row_content_hash == Some(it.hash))?;
        // It can be of a mutation that ended and was forgotten, as in `verify`.
        let since = early.change_set.base_version;
        match self.history.find_record(&tip.snapshot, &id, since).await {
            Ok(Lookup::NotCommitted) => {}
            Ok(Lookup::Recorded(_) | Lookup::OutOfReach) | Err(_) => return None,
        }
        Some(Other::Appended(Box::new(Member {
            id,
            change_set: early.change_set,
            doc,
            etag,
            out_of_reach: false,
            // Its document was read after the tip's pointer, and the tip does not hold it.
            absent_from: Some(AbsentFrom::Version(version)),
            party: Party::Foreign,
        })))
    }

    /// Reads ahead the tombstones that judging these mutations takes.
    pub(crate) async fn prefetch_tombstones(&self, batch: &[Member], tip: &Tip) {
        let change_sets: Vec<&ChangeSet> = batch
            .iter()
            .map(|member| member.change_set.as_ref())
            .collect();
        let needed = needed_sidecars(tip.snapshot.manifest(), &change_sets);
        futures::stream::iter(needed)
            .for_each_concurrent(
                self.context.limits.concurrency,
                |(_, tombstones)| async move {
                    // The draft asks again, and hears of the error.
                    let _ = self
                        .history
                        .reader()
                        .sidecars()
                        .positions(&tombstones)
                        .await;
                },
            )
            .await;
    }

    /// Whether another process is likely to lead for this mutation.
    pub(crate) fn is_attended(&self, member: &Member) -> bool {
        !self.liveness.is_abandoned(&member.id, &member.etag)
    }

    /// A mutation as its objects tell it; `None` unless its document is APPENDED.
    pub(crate) async fn read_appended(&self, id: &WalId, party: Party) -> Result<Option<Member>> {
        // Together, because a round trip costs more than a change set that turns out not to be needed.
        let (doc, bytes) = futures::join!(
            self.context.wal.read(id),
            self.context.wal.get_arrow(id, None)
        );
        let (doc, etag) = doc?;
        if doc.state != WalState::Appended {
            return Ok(None);
        }
        let Some(hash) = doc.new_row_content_hash else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                id.to_string(),
                "the WAL document is APPENDED and names no change set",
            ));
        };
        let change_set = ChangeSet::decode(&bytes?, &hash)
            .map_err(|error| FormatError::from(error).at(&paths::wal_arrow(id)))?;
        Ok(Some(Member {
            id: *id,
            change_set: Arc::new(change_set),
            doc,
            etag,
            out_of_reach: false,
            absent_from: None,
            party,
        }))
    }

    /// Looks whether other processes' mutations wait to be committed: now and then, and after each commit while
    /// others are known to write. A fast writer would otherwise win race after race and never hear of them.
    pub(crate) fn poll_other_writers(self: &Arc<Self>) {
        let others_write = self.head.others_wrote_within(OTHERS_WRITE_FOR);
        let every = self.context.limits.poll_others_every;
        if !self.contention.is_poll_due(others_write, every) {
            return;
        }
        let observer = Arc::clone(self);
        self.context.tasks.spawn(async move {
            let ids = observer.list_others().await;
            let tip = observer.head.tip();
            let others = ids
                .into_iter()
                .filter(|id| tip.snapshot.record(id).is_none())
                .take(observer.context.limits.group_at_most);
            let waiting =
                futures::stream::iter(others.collect::<Vec<_>>())
                    .map(|id| {
                        let observer = &observer;
                        async move { observer.context.wal.read(&id).await }
                    })
                    .buffer_unordered(observer.context.limits.concurrency)
                    .any(|read| async move {
                        read.is_ok_and(|(doc, _)| doc.state == WalState::Appended)
                    })
                    .await;
            if waiting {
                observer.contention.note(true);
            }
        });
    }
}
