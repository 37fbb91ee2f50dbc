//! One process commits for all that meet at the pointer.
//!
//! A *leader* takes along every mutation that is ready, and waits a little for those that are about to be. A
//! *follower* watches the pointer until its own are committed.
//!
//! A leader does not wait idly. It drafts as if those that are coming had come, uploads that draft and meanwhile
//! reads their documents again: if they are APPENDED by then, the draft is the one to swing to, and waiting cost
//! nothing; if not, it drafts again.
//!
//! Owns: the steps of both. Does not own the choice between them (`crowd`), nor the swing (`commit`).
//! Invariants: what the pointer is swung to holds only mutations whose documents were seen APPENDED after the
//! pointer that the swing starts from was known; a mutation that is not APPENDED is never ended here. Nobody is
//! waited for without bound. A crash leaves nodes and merged sidecars of drafts, for vacuum.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::commit::{Party, Ready, Turn};
use super::crowd::{Duty, duty};
use super::draft::Draft;
use super::handle::Inner;
use super::look::{Coming, Others};
use super::tip::Tip;
use crate::error::Result;
use crate::format::{ChangeSet, WalId};
use crate::wal::backoff::jittered;

/// How often a leader drafts anew for mutations that are about to be ready.
const WAITS: usize = 2;

/// A follower waits for its look at the pointer, and no less than this, or half of it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Inner {
    /// Commits the batch, together with what others have ready, or lets another process do it.
    pub(super) async fn commit_with_others(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        tip: &Tip,
        listed: Vec<WalId>,
        insist: bool,
    ) -> Result<Turn> {
        let (others, ()) = futures::join!(
            self.read_others(listed, batch, tip),
            self.warm_up(batch, tip)
        );
        let mine = batch.iter().map(|ready| ready.id);
        let rivals = others.ready.iter().filter(|ready| self.is_attended(ready));
        match duty(mine, rivals.map(|ready| ready.id)) {
            Duty::Follow { looks } if !insist => self.follow_leader(batch, tip, looks).await,
            Duty::Follow { .. } | Duty::Lead => self.lead_others(batch, tip, others).await,
        }
    }

    async fn lead_others(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        tip: &Tip,
        others: Others,
    ) -> Result<Turn> {
        let Others { ready, mut coming } = others;
        batch.extend(ready);
        let mut waits = 0;
        loop {
            if waits == WAITS {
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
            // Where others swing too, one look beside the upload spares a swing that cannot succeed.
            let (_, observed, now) =
                futures::try_join!(self.upload(&draft), self.observe(), async {
                    Ok(self.read_again(coming.clone(), tip).await)
                })?;
            if observed.version() > tip.snapshot.version() {
                self.drop_unused_in_background(draft);
                return Ok(Turn::Lost(Some(observed)));
            }
            let complete = is_complete(&draft, batch, &coming, &now);
            batch.extend(now.ready);
            coming = now.coming;
            if complete {
                return self.swing_and_tell(batch, draft).await;
            }
            self.drop_unused_in_background(draft);
            waits += 1;
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
