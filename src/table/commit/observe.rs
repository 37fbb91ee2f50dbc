//! What a turn looks at before it drafts: the pointer, its members' documents, and what others have ready.
//!
//! Owns: the order of those reads, and that they go side by side where order does not matter. Does not own the
//! verdict about a member (`verify`), nor what follows for others (`help`).
//! Invariant: what is said about a document is said of a moment after the pointer that it is compared with was
//! read. Reads only, so a crash leaves nothing.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{ChangeSet, ContentHash, FormatError, WalId, WalState, paths};
use crate::table::apply::needed_sidecars_of_group;
use crate::table::commit::committer::{Approach, Clear, Party, Ready};
use crate::table::commit::election::is_coming;
use crate::table::commit::verify::Documents;
use crate::table::handle::{Inner, Observed};
use crate::table::version::lookup::Found;
use crate::table::version::tip::Tip;

/// What a turn starts from.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The version to build on.
    pub(crate) tip: Tip,
    /// The members' documents, as far as they were read.
    pub(crate) documents: Documents,
    /// Ids of others' documents, if they are to be minded.
    pub(crate) listed: Vec<WalId>,
}

/// Other processes' mutations. All of them were read after the pointer of the version that they are seen with.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// APPENDED and not committed, oldest first.
    pub(crate) ready: Vec<Ready>,
    /// Likely to be APPENDED soon.
    pub(crate) coming: Vec<Coming>,
}

/// A mutation whose document is INTENT and young.
#[derive(Clone, Debug)]
pub(crate) struct Coming {
    pub(crate) id: WalId,
    /// Its change set, if that is there already: it will be APPENDED next.
    pub(crate) foreseen: Option<Foreseen>,
}

impl Coming {
    /// One whose objects were not read yet.
    pub(crate) fn unread(id: WalId) -> Self {
        Self { id, foreseen: None }
    }
}

/// A change set that no document names yet.
#[derive(Clone, Debug)]
pub(crate) struct Foreseen {
    pub(crate) change_set: Arc<ChangeSet>,
    hash: ContentHash,
}

/// One of them.
enum Other {
    Ready(Box<Ready>),
    Coming(Coming),
}

impl Inner {
    /// The tip to build on. If the pointer is read for it, the members' documents are read after it. That, and
    /// the listing of others' documents, goes on beside the loading of what the pointer names.
    pub(crate) async fn look(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        approach: Approach,
        help: bool,
    ) -> Result<Seen> {
        let observed = match approach.observed {
            Some(observed) => observed,
            None if approach.stale || !self.ahead(batch).is_empty() => self.observe().await?,
            None => Observed::Known(self.tip()),
        };
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
        let listed = async {
            match approach.listed {
                _ if !help => Vec::new(),
                Some(listed) => listed,
                None => self.list_others().await,
            }
        };
        let (tip, read, listed) = futures::join!(self.follow(observed), documents, listed);
        let tip = tip?;
        for id in self.ahead(batch) {
            let error = Error::new(
                ErrorKind::Corrupt,
                id.to_string(),
                "this mutation was made from a version that the table does not have",
            );
            self.settle(batch, &id, Err(error), None);
        }
        Ok(Seen {
            tip,
            documents: Documents { version, read },
            listed,
        })
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

    /// Ids of documents that are not this process's own, oldest first. Best effort: nobody is helped if they
    /// cannot be listed.
    pub(crate) async fn list_others(&self) -> Vec<WalId> {
        match self.wal.list_wal_ids().await {
            Ok(mut ids) => {
                ids.retain(|id| !self.is_active(id));
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
    pub(crate) async fn read_again(&self, candidates: Vec<Coming>, tip: &Tip) -> Others {
        let found: Vec<Option<Other>> = futures::stream::iter(candidates)
            .map(|candidate| self.read_other(candidate, tip))
            .buffered(self.limits.concurrency)
            .collect()
            .await;
        let mut others = Others::default();
        for other in found.into_iter().flatten() {
            match other {
                Other::Ready(ready) => others.ready.push(*ready),
                Other::Coming(coming) => others.coming.push(coming),
            }
        }
        others
    }

    async fn read_other(&self, candidate: Coming, tip: &Tip) -> Option<Other> {
        let Coming { id, foreseen } = candidate;
        // Together, because a round trip costs more than a change set that turns out not to be needed.
        let (doc, bytes) = futures::join!(self.read_and_watch(&id), async {
            match foreseen {
                Some(_) => None,
                None => self.wal.get_arrow(&id, None).await.ok(),
            }
        });
        let (doc, etag, _) = doc.ok()?;
        let appended = doc.state == WalState::Appended;
        let now = self.env.now();
        // A change set that was named once was APPENDED once: that mutation is being undone.
        let coming = doc.new_row_content_hash.is_none()
            && is_coming(&doc, now, self.limits.wait_for_younger_than);
        if !appended && !coming {
            return None;
        }
        let foreseen = foreseen.or_else(|| {
            let bytes = bytes?;
            let hash = doc
                .new_row_content_hash
                .unwrap_or_else(|| ContentHash::of(&bytes));
            let change_set = Arc::new(ChangeSet::decode(&bytes, &hash).ok()?);
            Some(Foreseen { change_set, hash })
        });
        let version = tip.snapshot.version();
        if foreseen
            .as_ref()
            .is_some_and(|foreseen| foreseen.change_set.base_version > version)
        {
            return None;
        }
        if !appended {
            return Some(Other::Coming(Coming { id, foreseen }));
        }
        let foreseen = foreseen.filter(|it| doc.new_row_content_hash == Some(it.hash))?;
        // It can be of a mutation that ended and was forgotten, as in `verify`.
        let since = foreseen.change_set.base_version;
        match self.find_record(&tip.snapshot, &id, since).await {
            Ok(Found::Absent) => {}
            Ok(Found::Record(_) | Found::OutOfReach) | Err(_) => return None,
        }
        Some(Other::Ready(Box::new(Ready {
            id,
            change_set: foreseen.change_set,
            doc,
            etag,
            out_of_reach: false,
            // Its document was read after the tip's pointer, and the tip does not hold it.
            clear_of: Some(Clear::Version(version)),
            party: Party::Foreign,
        })))
    }

    /// Reads ahead the tombstones that judging these mutations takes.
    pub(crate) async fn warm_up(&self, batch: &[Ready], tip: &Tip) {
        let change_sets: Vec<&ChangeSet> = batch
            .iter()
            .map(|ready| ready.change_set.as_ref())
            .collect();
        let needed = needed_sidecars_of_group(tip.snapshot.manifest(), &change_sets);
        futures::stream::iter(needed)
            .for_each_concurrent(self.limits.concurrency, |(_, tombstones)| async move {
                // Whoever needs it asks again, and hears of the error.
                let _ = self.reader.bitmap(&tombstones).await;
            })
            .await;
    }

    /// Whether somebody is likely to lead for this mutation.
    pub(crate) fn is_attended(&self, ready: &Ready) -> bool {
        !self.watch.is_abandoned(&ready.id, &ready.etag)
    }

    /// A mutation as its objects tell it; `None` unless its document is APPENDED.
    pub(crate) async fn read_ready(&self, id: &WalId, party: Party) -> Result<Option<Ready>> {
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
            out_of_reach: false,
            clear_of: None,
            party,
        }))
    }
}
