//! What a turn looks at before it drafts: the pointer, its members' documents, and what others have ready.
//!
//! Owns: the order of those reads, and that they go side by side where order does not matter. Does not own the
//! verdict about a member (`commit`).
//! Invariant: what is said about a document is said of a moment after the pointer that it is compared with was
//! read. Reads only, so a crash leaves nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;

use super::commit::{Approach, Clear, Party, Ready};
use super::handle::{Inner, Observed};
use super::tip::Tip;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ChangeSet, FormatError, StateDoc, WalId, WalState, paths};
use crate::wal::{Etag, WalResult};

/// Documents that were read after the pointer of `version`, or when that version was known.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) version: u64,
    pub(super) documents: HashMap<WalId, WalResult<(StateDoc, Etag)>>,
    pub(super) others: Vec<Ready>,
}

impl Inner {
    /// The tip to build on. If the pointer is read for it, the members' documents are read after it. That, and
    /// the look for others' mutations, goes on beside the loading of what the pointer names.
    pub(super) async fn look(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        approach: Approach,
        help: bool,
    ) -> Result<(Tip, Seen)> {
        let observed = match approach.observed {
            Some(observed) => observed,
            None if approach.stale || !self.ahead(batch).is_empty() => self.observe().await?,
            None => Observed::Known(self.tip()),
        };
        if let (Observed::Known(_), Some(seen)) = (&observed, approach.seen) {
            return Ok((self.tip(), seen));
        }
        let version = observed.version();
        // What is known already needs no second look at its documents.
        let is_new = matches!(observed, Observed::New(..));
        let documents = async {
            if !is_new {
                return HashMap::new();
            }
            futures::stream::iter(batch.iter().map(|ready| ready.id).collect::<Vec<_>>())
                .map(|id| async move { (id, self.wal.read(&id).await) })
                .buffer_unordered(self.limits.concurrency)
                .collect()
                .await
        };
        let mine: HashSet<WalId> = batch.iter().map(|ready| ready.id).collect();
        let others = async {
            match help {
                true => self.ready_elsewhere(&mine).await,
                false => Vec::new(),
            }
        };
        let (tip, documents, others) = futures::join!(self.follow(observed), documents, others);
        let tip = tip?;
        for id in self.ahead(batch) {
            let error = Error::new(
                ErrorKind::Corrupt,
                id.to_string(),
                "this mutation was made from a version that the table does not have",
            );
            self.settle(batch, &id, Err(error), None);
        }
        let seen = Seen {
            version,
            documents,
            others,
        };
        Ok((tip, seen))
    }

    /// Members that were made from a version that this process has not seen.
    fn ahead(&self, batch: &[Ready]) -> Vec<WalId> {
        let version = self.tip().snapshot.version();
        batch
            .iter()
            .filter(|ready| ready.change_set.base_version > version)
            .map(|ready| ready.id)
            .collect()
    }

    /// APPENDED mutations of other processes, oldest first, as many as the limits allow. Best effort: what
    /// cannot be read is left to its owner and to recovery.
    ///
    /// Unlike recovery this does not look through the history for documents that landed after their
    /// mutation ended: without their change set, which is deleted before them, they are not ready.
    pub(super) async fn ready_elsewhere(&self, mine: &HashSet<WalId>) -> Vec<Ready> {
        let ids = match self.wal.list_wal_ids().await {
            Ok(ids) => ids,
            Err(error) => {
                tracing::debug!(%error, "cannot look for other writers' mutations");
                return Vec::new();
            }
        };
        let candidates: Vec<_> = ids
            .into_iter()
            .filter(|id| !self.is_active(id) && !mine.contains(id))
            .take(self.limits.help_at_most)
            .collect();
        let found: Vec<Option<Ready>> = futures::stream::iter(candidates)
            .map(|id| async move { self.read_ready(&id, Party::Foreign).await.ok().flatten() })
            .buffered(self.limits.concurrency)
            .collect()
            .await;
        found.into_iter().flatten().collect()
    }

    /// A mutation as its objects tell it; `None` unless its document is APPENDED.
    pub(super) async fn read_ready(&self, id: &WalId, party: Party) -> Result<Option<Ready>> {
        // Together, because a round trip costs more than a change set that turns out not to be needed.
        let (doc, bytes) = futures::join!(self.wal.read(id), self.wal.get_arrow(id, None));
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
        Ok(Some(Ready {
            id: *id,
            change_set: Arc::new(change_set),
            doc,
            etag,
            clear_of: None,
            party,
        }))
    }
}

/// Those of other processes' mutations that are known not to be in the tip: their documents were read after
/// the pointer of version `seen_after`, and the tip is that version.
pub(super) fn usable(others: Vec<Ready>, tip: &Tip, seen_after: u64) -> Vec<Ready> {
    let version = tip.snapshot.version();
    if seen_after != version {
        return Vec::new();
    }
    others
        .into_iter()
        .filter(|ready| {
            ready.change_set.base_version <= version && tip.snapshot.record(&ready.id).is_none()
        })
        .map(|ready| Ready {
            clear_of: Some(Clear::Version(version)),
            ..ready
        })
        .collect()
}
