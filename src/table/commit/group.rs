//! Group commit: one process commits for all that meet at the pointer.
//!
//! A *leader* takes along every mutation that is ready, and waits a little for those that are about to be. A
//! *follower* watches the pointer until its own are committed.
//!
//! If most of the group is missing, a leader waits for it: two groups that miss each other by a little would
//! go on to do so, each at the pace of both. Otherwise it does not wait idly: it drafts as if those that are
//! upcoming had come, uploads that draft and meanwhile reads their documents again. If they are APPENDED by then,
//! the draft is the one to swing to, and waiting cost nothing; if not, it drafts again.
//!
//! Owns: the steps of both. Does not own the choice between them (`election`), nor the swing (`committer`).
//! Invariants: what the pointer is swung to holds only mutations whose documents were seen APPENDED after the
//! pointer that the swing starts from was known; a mutation that is not APPENDED is never ended here. Nobody is
//! waited for without bound. A crash leaves nodes and merged sidecars of drafts, for vacuum.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::cleanup::Cleanup;
use super::complete::Completion;
use super::contention::Contention;
use super::draft::{Draft, Drafter};
use super::election::{Role, elect};
use super::member::Member;
use super::observe::{ForeignMutations, Observer, Upcoming};
use super::turn::{Prepared, TurnResult};
use crate::error::Result;
use crate::format::{ChangeSet, WalId};
use crate::table::context::Context;
use crate::table::version::head::TableHead;
use crate::table::version::tip::Tip;
use crate::wal::backoff::jittered;

/// How many round trips a leader waits while most of the group is missing.
const WAITS_FOR_MOST: usize = 3;

/// How often a leader drafts as if those had come that are about to.
const DRAFTS_IN_ADVANCE: usize = 2;

/// A follower waits for its look at the pointer, and no less than this, or half of it.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// Commits together with other processes.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    context: Arc<Context>,
    head: Arc<TableHead>,
    observer: Arc<Observer>,
    drafter: Arc<Drafter>,
    completion: Arc<Completion>,
    cleanup: Arc<Cleanup>,
    contention: Arc<Contention>,
}

impl GroupCommit {
    pub(crate) fn new(
        context: Arc<Context>,
        head: Arc<TableHead>,
        observer: Arc<Observer>,
        drafter: Arc<Drafter>,
        completion: Arc<Completion>,
        cleanup: Arc<Cleanup>,
        contention: Arc<Contention>,
    ) -> Self {
        Self {
            context,
            head,
            observer,
            drafter,
            completion,
            cleanup,
            contention,
        }
    }

    /// Brings the batch, together with what others have ready, to a draft to swing to, or lets another process do it.
    pub(crate) async fn prepare(
        &self,
        batch: &mut Vec<Member>,
        tip: &Tip,
        listed: Vec<WalId>,
        must_lead: bool,
    ) -> Result<Prepared> {
        let mut known: HashSet<WalId> = batch.iter().map(|member| member.id).collect();
        // The owners of what the tip committed will be back.
        let just_committed = listed.iter().any(|id| {
            let record = tip.snapshot.record(id);
            !known.contains(id) && record.is_some_and(|it| it.version == tip.snapshot.version())
        });
        let listed = self.newly_listed(&mut known, listed, tip);
        let (mut others, (), late) = futures::join!(
            self.observer.reread(listed, tip),
            self.observer.prefetch_tombstones(batch, tip),
            self.observer.list_others()
        );
        // A document that just lies there, of a statement that takes long or whose process died, is no contention.
        let contended = just_committed || !others.ready.is_empty() || !others.upcoming.is_empty();
        self.contention.note(contended);
        let mine = batch.iter().map(|member| member.id);
        let rivals = others
            .ready
            .iter()
            .filter(|member| self.observer.is_attended(member));
        match elect(mine, rivals.map(|member| member.id)) {
            Role::Follow { polls } if !must_lead => self.follow(batch, tip, polls).await,
            Role::Follow { .. } | Role::Lead => {
                others
                    .upcoming
                    .extend(self.newly_listed(&mut known, late, tip));
                self.lead(batch, tip, others, known).await
            }
        }
    }

    /// Those that were not `known` and that `tip` does not hold, as many as the limits allow.
    fn newly_listed(
        &self,
        known: &mut HashSet<WalId>,
        listed: Vec<WalId>,
        tip: &Tip,
    ) -> Vec<Upcoming> {
        listed
            .into_iter()
            .filter(|id| tip.snapshot.record(id).is_none() && known.insert(*id))
            .take(self.context.limits.group_at_most)
            .map(Upcoming::unread)
            .collect()
    }

    async fn lead(
        &self,
        batch: &mut Vec<Member>,
        tip: &Tip,
        others: ForeignMutations,
        mut known: HashSet<WalId>,
    ) -> Result<Prepared> {
        let ForeignMutations {
            ready,
            mut upcoming,
        } = others;
        batch.extend(ready);
        let mut waits = 0;
        let last_time = tip.snapshot.manifest().header().commits.len();
        while waits < WAITS_FOR_MOST && most_are_missing(batch, &upcoming, last_time) {
            let (observed, now, late) = futures::join!(
                self.head.observe(),
                self.observer.reread(std::mem::take(&mut upcoming), tip),
                self.observer.list_others()
            );
            let observed = observed?;
            if observed.version() > tip.snapshot.version() {
                return Ok(Prepared::Ended(TurnResult::Lost(Some(observed))));
            }
            batch.extend(now.ready);
            upcoming = now.upcoming;
            upcoming.extend(self.newly_listed(&mut known, late, tip));
            waits += 1;
        }
        let mut drafts = 0;
        loop {
            if drafts == DRAFTS_IN_ADVANCE {
                upcoming.clear();
            }
            let mut draft = self.draft_for_all(batch, &upcoming, tip).await?;
            for (id, end) in draft.take_refused() {
                // One that is not APPENDED is its owner's affair.
                upcoming.retain(|it| it.id != id);
                self.completion.complete_in(batch, &id, end, None);
            }
            if !has_own(batch) || draft.records().is_empty() {
                return Ok(Prepared::Ended(TurnResult::Advanced));
            }
            let others = async {
                Ok(futures::join!(
                    self.observer.reread(upcoming.clone(), tip),
                    self.observer.list_others()
                ))
            };
            // Where others swing too, one look beside the upload spares a swing that cannot succeed.
            let (_, observed, (now, late)) =
                futures::try_join!(self.drafter.upload(&draft), self.head.observe(), others)?;
            if observed.version() > tip.snapshot.version() {
                self.cleanup.delete_unused_in_background(draft);
                return Ok(Prepared::Ended(TurnResult::Lost(Some(observed))));
            }
            let complete = is_complete(&draft, batch, &upcoming, &now);
            batch.extend(now.ready);
            if complete {
                return Ok(Prepared::Swing(draft));
            }
            self.cleanup.delete_unused_in_background(draft);
            upcoming = now.upcoming;
            upcoming.extend(self.newly_listed(&mut known, late, tip));
            drafts += 1;
        }
    }

    /// Oldest first: the mutation that began first is not the one to conflict.
    async fn draft_for_all(
        &self,
        batch: &[Member],
        upcoming: &[Upcoming],
        tip: &Tip,
    ) -> Result<Draft> {
        let mut members: Vec<(WalId, &Arc<ChangeSet>)> = batch
            .iter()
            .map(|member| (member.id, &member.change_set))
            .collect();
        members.extend(upcoming.iter().filter_map(|it| {
            let early = it.early.as_ref()?;
            Some((it.id, &early.change_set))
        }));
        members.sort_by_key(|(id, _)| *id);
        self.drafter.draft(&tip.snapshot, members).await
    }

    /// Watches the pointer while another process leads.
    async fn follow(&self, batch: &mut Vec<Member>, tip: &Tip, polls: u32) -> Result<Prepared> {
        let version = tip.snapshot.version();
        if batch
            .iter()
            .any(|member| member.change_set.base_version < version)
        {
            // A conflict with what is committed need not wait for a leader.
            let members = batch.iter().map(|member| (member.id, &member.change_set));
            let mut judged = self.drafter.draft(&tip.snapshot, members).await?;
            for (id, end) in judged.take_refused() {
                self.completion.complete_in(batch, &id, end, None);
            }
            if batch.is_empty() {
                return Ok(Prepared::Ended(TurnResult::Advanced));
            }
        }
        for _ in 0..polls {
            let pause = tokio::time::sleep(jittered(&self.context.env, POLL_EVERY));
            let observed = self.head.observe().await?;
            if observed.version() > version {
                return Ok(Prepared::Ended(TurnResult::Followed(observed)));
            }
            // Only what the look did not take: on a store across a network, nothing.
            pause.await;
        }
        Ok(Prepared::Ended(TurnResult::LeaderMissing))
    }
}

/// Whether those that have a change set are fewer than half of the group: of all that have begun, or of as many
/// as met `last_time`, who are likely to be back.
fn most_are_missing(batch: &[Member], upcoming: &[Upcoming], last_time: usize) -> bool {
    let here = batch.len() + early(upcoming).count();
    let group = last_time.max(batch.len() + upcoming.len());
    2 * here < group
}

fn has_own(batch: &[Member]) -> bool {
    batch.iter().any(Member::is_own)
}

/// Whether a draft, made of the `batch` that was ready and of those that were `upcoming`, is the one to swing to
/// now that the latter were looked at again.
fn is_complete(
    draft: &Draft,
    batch: &[Member],
    upcoming: &[Upcoming],
    now: &ForeignMutations,
) -> bool {
    let mut tried: HashSet<WalId> = batch.iter().map(|member| member.id).collect();
    let mut ready = tried.clone();
    ready.extend(now.ready.iter().map(|member| member.id));
    tried.extend(early(upcoming));
    let all_came = draft
        .records()
        .iter()
        .all(|record| ready.contains(&record.wal_id));
    // One that was tried and is not in the draft conflicts with a neighbour, and would again.
    let newcomers = now
        .ready
        .iter()
        .map(|member| member.id)
        .chain(early(&now.upcoming))
        .any(|id| !tried.contains(&id));
    all_came && !newcomers
}

fn early(upcoming: &[Upcoming]) -> impl Iterator<Item = WalId> {
    upcoming
        .iter()
        .filter(|it| it.early.is_some())
        .map(|it| it.id)
}
