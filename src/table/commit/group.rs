//! One process commits for all that meet at the pointer.
//!
//! A *leader* takes along every mutation that is ready, and waits a little for those that are about to be. A
//! *follower* watches the pointer until its own are committed.
//!
//! If most of the crowd is missing, a leader waits for it: two groups that miss each other by a little would
//! go on to do so, each at the pace of both. Otherwise it does not wait idly: it drafts as if those that are
//! coming had come, uploads that draft and meanwhile reads their documents again. If they are APPENDED by then,
//! the draft is the one to swing to, and waiting cost nothing; if not, it drafts again.
//!
//! Owns: the steps of both. Does not own the choice between them (`crowd`), nor the swing (`commit`).
//! Invariants: what the pointer is swung to holds only mutations whose documents were seen APPENDED after the
//! pointer that the swing starts from was known; a mutation that is not APPENDED is never ended here. Nobody is
//! waited for without bound. A crash leaves nodes and merged sidecars of drafts, for vacuum.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::Result;
use crate::format::{ChangeSet, WalId};
use crate::table::commit::committer::{Party, Ready, Turn};
use crate::table::commit::draft::Draft;
use crate::table::commit::election::{Duty, duty};
use crate::table::commit::observe::{Coming, Others};
use crate::table::handle::Inner;
use crate::table::version::tip::Tip;
use crate::wal::backoff::jittered;

/// How many round trips a leader waits while most of the crowd is missing.
const WAITS_FOR_MOST: usize = 3;

/// How often a leader drafts as if those had come that are about to.
const DRAFTS_IN_ADVANCE: usize = 2;

/// A follower waits for its look at the pointer, and no less than this, or half of it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Inner {
    /// Commits the batch, together with what others have ready, or lets another process do it.
    pub(crate) async fn commit_with_others(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        tip: &Tip,
        listed: Vec<WalId>,
        insist: bool,
    ) -> Result<Turn> {
        let mut known: HashSet<WalId> = batch.iter().map(|ready| ready.id).collect();
        // The owners of what the tip committed will be back.
        let just_committed = listed.iter().any(|id| {
            let record = tip.snapshot.record(id);
            !known.contains(id) && record.is_some_and(|it| it.version == tip.snapshot.version())
        });
        let listed = self.newly_listed(&mut known, listed, tip);
        let (mut others, (), late) = futures::join!(
            self.read_again(listed, tip),
            self.warm_up(batch, tip),
            self.list_others()
        );
        // A document that just lies there, of a statement that takes long or whose process died, is no contention.
        let contended = just_committed || !others.ready.is_empty() || !others.coming.is_empty();
        self.contended.store(contended, Ordering::Relaxed);
        let mine = batch.iter().map(|ready| ready.id);
        let rivals = others.ready.iter().filter(|ready| self.is_attended(ready));
        match duty(mine, rivals.map(|ready| ready.id)) {
            Duty::Follow { looks } if !insist => self.follow_leader(batch, tip, looks).await,
            Duty::Follow { .. } | Duty::Lead => {
                others
                    .coming
                    .extend(self.newly_listed(&mut known, late, tip));
                self.lead_others(batch, tip, others, known).await
            }
        }
    }

    /// Those that were not `known` and that `tip` does not hold, as many as the limits allow.
    fn newly_listed(
        &self,
        known: &mut HashSet<WalId>,
        listed: Vec<WalId>,
        tip: &Tip,
    ) -> Vec<Coming> {
        listed
            .into_iter()
            .filter(|id| tip.snapshot.record(id).is_none() && known.insert(*id))
            .take(self.limits.help_at_most)
            .map(Coming::unread)
            .collect()
    }

    async fn lead_others(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        tip: &Tip,
        others: Others,
        mut known: HashSet<WalId>,
    ) -> Result<Turn> {
        let Others { ready, mut coming } = others;
        batch.extend(ready);
        let mut waits = 0;
        let last_time = tip.snapshot.manifest().header().commits.len();
        while waits < WAITS_FOR_MOST && most_are_missing(batch, &coming, last_time) {
            let (observed, now, late) = futures::join!(
                self.observe(),
                self.read_again(std::mem::take(&mut coming), tip),
                self.list_others()
            );
            let observed = observed?;
            if observed.version() > tip.snapshot.version() {
                return Ok(Turn::Lost(Some(observed)));
            }
            batch.extend(now.ready);
            coming = now.coming;
            coming.extend(self.newly_listed(&mut known, late, tip));
            waits += 1;
        }
        let mut drafts = 0;
        loop {
            if drafts == DRAFTS_IN_ADVANCE {
                coming.clear();
            }
            let mut draft = self.draft_for_all(batch, &coming, tip).await?;
            for (id, verdict) in draft.take_refused() {
                // One that is not APPENDED is its owner's affair.
                coming.retain(|it| it.id != id);
                self.settle(batch, &id, verdict, None);
            }
            if !has_own(batch) || draft.records().is_empty() {
                return Ok(Turn::Moved);
            }
            let others = async {
                Ok(futures::join!(
                    self.read_again(coming.clone(), tip),
                    self.list_others()
                ))
            };
            // Where others swing too, one look beside the upload spares a swing that cannot succeed.
            let (_, observed, (now, late)) =
                futures::try_join!(self.upload(&draft), self.observe(), others)?;
            if observed.version() > tip.snapshot.version() {
                self.drop_unused_in_background(draft);
                return Ok(Turn::Lost(Some(observed)));
            }
            let complete = is_complete(&draft, batch, &coming, &now);
            batch.extend(now.ready);
            if complete {
                return self.swing_and_tell(batch, draft).await;
            }
            self.drop_unused_in_background(draft);
            coming = now.coming;
            coming.extend(self.newly_listed(&mut known, late, tip));
            drafts += 1;
        }
    }

    /// Oldest first: whoever began first is not the one to conflict.
    async fn draft_for_all(&self, batch: &[Ready], coming: &[Coming], tip: &Tip) -> Result<Draft> {
        let mut members: Vec<(WalId, &Arc<ChangeSet>)> = batch
            .iter()
            .map(|ready| (ready.id, &ready.change_set))
            .collect();
        members.extend(coming.iter().filter_map(|it| {
            let foreseen = it.foreseen.as_ref()?;
            Some((it.id, &foreseen.change_set))
        }));
        members.sort_by_key(|(id, _)| *id);
        self.draft(&tip.snapshot, members).await
    }

    /// Watches the pointer while another process leads.
    async fn follow_leader(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        tip: &Tip,
        looks: u32,
    ) -> Result<Turn> {
        let version = tip.snapshot.version();
        if batch
            .iter()
            .any(|ready| ready.change_set.base_version < version)
        {
            // A conflict with what is committed need not wait for a leader.
            let members = batch.iter().map(|ready| (ready.id, &ready.change_set));
            let mut judged = self.draft(&tip.snapshot, members).await?;
            for (id, verdict) in judged.take_refused() {
                self.settle(batch, &id, verdict, None);
            }
            if batch.is_empty() {
                return Ok(Turn::Moved);
            }
        }
        for _ in 0..looks {
            let pause = tokio::time::sleep(jittered(&self.env, LOOK_EVERY));
            let observed = self.observe().await?;
            if observed.version() > version {
                return Ok(Turn::Led(observed));
            }
            // Only what the look did not take: on a store across a network, nothing.
            pause.await;
        }
        Ok(Turn::Unled)
    }
}

/// Whether those that have a change set are fewer than half of the crowd: of all that have begun, or of as many
/// as met `last_time`, who are likely to be back.
fn most_are_missing(batch: &[Ready], coming: &[Coming], last_time: usize) -> bool {
    let here = batch.len() + foreseen(coming).count();
    let crowd = last_time.max(batch.len() + coming.len());
    2 * here < crowd
}

fn has_own(batch: &[Ready]) -> bool {
    batch
        .iter()
        .any(|ready| matches!(ready.party, Party::Waiting(_)))
}

/// Whether a draft, made of the `batch` that was ready and of those that were `coming`, is the one to swing to
/// now that the latter were looked at again.
fn is_complete(draft: &Draft, batch: &[Ready], coming: &[Coming], now: &Others) -> bool {
    let mut tried: HashSet<WalId> = batch.iter().map(|ready| ready.id).collect();
    let mut ready = tried.clone();
    ready.extend(now.ready.iter().map(|ready| ready.id));
    tried.extend(foreseen(coming));
    let all_came = draft
        .records()
        .iter()
        .all(|record| ready.contains(&record.wal_id));
    // One that was tried and is not in the draft conflicts with a neighbour, and would again.
    let newcomers = now
        .ready
        .iter()
        .map(|ready| ready.id)
        .chain(foreseen(&now.coming))
        .any(|id| !tried.contains(&id));
    all_came && !newcomers
}

fn foreseen(coming: &[Coming]) -> impl Iterator<Item = WalId> {
    coming
        .iter()
        .filter(|it| it.foreseen.is_some())
        .map(|it| it.id)
}
