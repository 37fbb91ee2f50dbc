//! A draft: the next version as one turn would make it, and the swing that makes it current.
//!
//! Owns: loading what `apply` needs, isolating a damaged mutation from its neighbours, uploading the draft,
//! and the compare-and-swap of the pointer. Does not own the judgement (`apply`) or who is told (`commit`).
//! Invariants: the pointer is swung only to a manifest all of whose nodes and sidecars are durable and that may
//! follow the one the pointer names (`check_successor`); a verdict that depends on a neighbour of the same draft
//! is not given until that neighbour is committed.
//! A crash leaves the pointer as it was, or swung; nodes and merged sidecars of a draft that was not swung to
//! are left to vacuum.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{CommitRecord, EncodedManifest, Manifest, check_successor};
use crate::format::pointer::MAX_NEW_NODES;
use crate::format::{
    ChangeSet, ContentHash, FormatError, Pointer, Sidecar, SidecarId, SuperfileId, WalId, paths,
};
use crate::storage::Replaced;
use crate::table::apply::{
    ApplyContext, ApplyError, Outcome, apply, judged_by_rows, needed_sidecars_of_group,
};
use crate::table::commit::committer::Ending;
use crate::table::create::Created;
use crate::table::handle::{Inner, Observed};
use crate::table::version::snapshot::{Named, Snapshot};

/// The next version, if the swing from `base` succeeds.
#[derive(Debug)]
pub(crate) struct Draft {
    base: Arc<Snapshot>,
    next: Option<Next>,
    records: Vec<CommitRecord>,
    /// Unions that nobody staged.
    merged: Vec<(SidecarId, Bytes)>,
    refused: Vec<(WalId, Result<Ending>)>,
}

#[derive(Debug)]
struct Next {
    manifest: Manifest,
    encoded: EncodedManifest,
}

impl Next {
    /// The nodes that the pointer names beside the root.
    fn named_nodes(&self) -> Vec<ContentHash> {
        self.encoded
            .new_nodes
            .iter()
            .map(|(hash, _)| *hash)
            .filter(|hash| *hash != self.encoded.root)
            .take(MAX_NEW_NODES)
            .collect()
    }
}

/// What became of a swing.
#[derive(Debug)]
#[must_use = "a lost race is a value, not an error"]
pub(crate) enum Swung {
    /// The draft is the current version.
    Committed(Arc<Snapshot>),
    /// The pointer is elsewhere; where, if settling the race has shown it.
    Lost(Option<Observed>),
}

impl Draft {
    /// Records of the mutations that the draft commits.
    pub(crate) fn records(&self) -> &[CommitRecord] {
        &self.records
    }

    /// The sidecars that were made for it.
    pub(crate) fn merged(&self) -> &[(SidecarId, Bytes)] {
        &self.merged
    }

    /// Takes the mutations that it cannot commit, and how each ended: final, because judged against a
    /// committed version alone.
    pub(crate) fn take_refused(&mut self) -> Vec<(WalId, Result<Ending>)> {
        std::mem::take(&mut self.refused)
    }

    /// The version that it would be, and its root's hash.
    pub(crate) fn target(&self) -> Option<(u64, ContentHash)> {
        let next = self.next.as_ref()?;
        Some((next.manifest.version(), next.encoded.root))
    }
}

impl Inner {
    /// Drafts the version that follows `base` with these mutations, in order.
    ///
    /// What is in `records` is committed by the draft, what is in `refused` has ended; the others have to be
    /// judged again, against a newer version.
    pub(crate) async fn draft(
        &self,
        base: &Arc<Snapshot>,
        mutations: impl IntoIterator<Item = (WalId, &Arc<ChangeSet>)>,
    ) -> Result<Draft> {
        // One that is there twice (two recoveries of one process) has its second judged after the swing.
        let mut seen = HashSet::new();
        let mut changes: Vec<(WalId, &ChangeSet)> = mutations
            .into_iter()
            .filter(|(id, _)| seen.insert(*id))
            .map(|(id, change_set)| (id, change_set.as_ref()))
            .collect();
        let mut refused = Vec::new();
        let bitmaps = self.load_needed(base, &mut changes, &mut refused).await?;
        let gone = self.known_gone();
        let applied = loop {
            let context = ApplyContext {
                // Never before its parent, whatever the clocks of two writers say.
                now_ms: self
                    .env
                    .now_ms()
                    .max(base.manifest().header().created_at_ms),
                gone_wal_ids: &gone,
                // A block of its own for each draft: no two drafts name different bytes alike.
                fresh: self.env.ids.id_block(),
                fresh_from: 0,
            };
            match apply(base.manifest(), &base.root(), &changes, &bitmaps, context) {
                Ok(applied) => break applied,
                // A mutation that contradicts the table must not stand in its neighbours' way.
                Err(ApplyError::Inconsistent {
                    wal_id,
                    superfile,
                    what,
                }) if changes.iter().any(|(id, _)| *id == wal_id) => {
                    changes.retain(|(id, _)| *id != wal_id);
                    let error = ApplyError::Inconsistent {
                        wal_id,
                        superfile,
                        what,
                    };
                    refused.push((wal_id, Err(error.into())));
                }
                Err(error) => return Err(error.into()),
            }
        };
        let mut records = Vec::new();
        for (id, outcome) in applied.outcomes {
            match outcome {
                Outcome::Committed(record) => records.push(record),
                Outcome::AlreadyCommitted(record) => {
                    refused.push((id, Ok(Ending::Committed(record))))
                }
                // Before the first that is committed, the judgement is one of `base` alone. After it, it may
                // be due to a neighbour that is not committed in the end.
                Outcome::Conflict(conflict) if records.is_empty() => {
                    refused.push((id, Ok(Ending::Conflict(conflict))));
                }
                Outcome::NothingLeft if records.is_empty() => {
                    refused.push((id, Ok(Ending::NothingLeft)));
                }
                Outcome::Conflict(_) | Outcome::NothingLeft | Outcome::AheadOfManifest => {}
            }
        }
        let next = match applied.manifest {
            None => None,
            Some(manifest) => Some(Next {
                encoded: manifest
                    .encode()
                    .map_err(|error| FormatError::from(error).at(&paths::manifest_prefix()))?,
                manifest,
            }),
        };
        Ok(Draft {
            base: Arc::clone(base),
            next,
            records,
            merged: applied
                .sidecars
                .into_iter()
                .map(|(reference, _, bytes)| (reference.sidecar, bytes))
                .collect(),
            refused,
        })
    }

    /// The bitmaps that judging needs. Mutations whose superfiles' sidecars are damaged are refused.
    async fn load_needed(
        &self,
        base: &Arc<Snapshot>,
        changes: &mut Vec<(WalId, &ChangeSet)>,
        refused: &mut Vec<(WalId, Result<Ending>)>,
    ) -> Result<HashMap<SidecarId, Arc<RoaringBitmap>>> {
        let change_sets: Vec<&ChangeSet> = changes.iter().map(|(_, cs)| *cs).collect();
        let needed = needed_sidecars_of_group(base.manifest(), &change_sets);
        let mut loads = futures::stream::iter(needed)
            .map(|(superfile, tombstones)| async move {
                let bitmap = self.reader.bitmap(&tombstones).await;
                (superfile, tombstones.sidecar, bitmap)
            })
            .buffer_unordered(self.limits.concurrency);
        let mut bitmaps = HashMap::new();
        let mut unreadable: HashMap<SuperfileId, String> = HashMap::new();
        let mut missing = false;
        while let Some((superfile, sidecar, bitmap)) = loads.next().await {
            match bitmap {
                Ok(bitmap) => {
                    bitmaps.insert(sidecar, bitmap);
                }
                Err(error) if error.kind() == ErrorKind::Storage => return Err(error),
                Err(error) => {
                    missing |= error.kind() == ErrorKind::NotFound;
                    unreadable.insert(superfile, error.to_string());
                }
            }
        }
        // Of a version that others have followed, a vacuum may have taken what they do not need. That is no
        // damage, and says nothing about the mutations: one of them may have been committed meanwhile.
        if missing && self.refresh().await?.snapshot.version() != base.version() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("version {}", base.version()),
                "vacuum took a part of this version, which is no longer the current one; run the \
                 statement again",
            ));
        }
        changes.retain(|(id, change_set)| {
            let blocked =
                judged_by_rows(change_set).find_map(|(superfile, _)| unreadable.get(&superfile));
            if let Some(why) = blocked {
                let error = Error::new(
                    ErrorKind::Corrupt,
                    id.to_string(),
                    format!("this mutation cannot be committed: {why}"),
                );
                refused.push((*id, Err(error)));
            }
            blocked.is_none()
        });
        Ok(bitmaps)
    }

    /// Uploads what the draft's version consists of beside what is in the store.
    pub(crate) async fn upload(&self, draft: &Draft) -> Result<()> {
        let Some(next) = &draft.next else {
            return Ok(());
        };
        // The bytes are shared, not copied.
        let nodes = futures::stream::iter(next.encoded.new_nodes.clone())
            .map(|(hash, bytes)| async move {
                self.storage
                    .put_immutable(&paths::manifest_node(&hash), bytes)
                    .await
                    .map_err(Error::from)
            })
            .buffer_unordered(self.limits.concurrency)
            .try_collect::<()>();
        let sidecars = futures::stream::iter(draft.merged.clone())
            .map(|(id, bytes)| async move {
                self.wal
                    .stage_sidecar(&id, bytes)
                    .await
                    .map_err(Error::from)
            })
            .buffer_unordered(self.limits.concurrency)
            .try_collect::<()>();
        futures::try_join!(nodes, sidecars)?;
        Ok(())
    }

    /// Creates the pointer, naming the draft: a table that nobody has seen appears.
    ///
    /// # Errors
    /// As [`create_pointer`](Self::create_pointer).
    pub(crate) async fn create_pointer_to(&self, draft: &Draft) -> Result<Created> {
        let path = paths::pointer();
        let Some(next) = &draft.next else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                path.as_ref(),
                "a commit must change something",
            ));
        };
        check_successor(draft.base.manifest(), &next.manifest)
            .map_err(|violation| FormatError::from(violation).at(&path))?;
        let created = self
            .create_pointer(&next.manifest, next.encoded.root, next.named_nodes())
            .await?;
        self.remember(draft, next);
        Ok(created)
    }

    /// Swings the pointer from the draft's base to the draft: the commit.
    ///
    /// # Errors
    /// The outcome may be unknown then: the swing may be in force, or come into force.
    pub(crate) async fn swing(&self, draft: &Draft) -> Result<Swung> {
        let path = paths::pointer();
        let (Some(next), Some(expected)) = (&draft.next, draft.base.pointer()) else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                path.as_ref(),
                "a commit must change something, and build on the current version",
            ));
        };
        check_successor(draft.base.manifest(), &next.manifest)
            .map_err(|violation| FormatError::from(violation).at(&path))?;
        let pointer = Pointer {
            table_id: self.table_id,
            version: next.manifest.version(),
            manifest: next.encoded.root,
            nonce: self.env.ids.nonce(),
            new_nodes: next.named_nodes(),
            claim: draft.base.claim().cloned(),
        };
        let bytes = pointer
            .encode()
            .map_err(|error| FormatError::from(error).at(&path))?;
        let swung = self.storage.replace_or_read(&path, expected, bytes).await?;
        let state = match swung {
            Replaced::Committed(state) => state,
            Replaced::Lost(found) => {
                let found = found.map(|(bytes, state)| self.observed(&bytes, state));
                return Ok(Swung::Lost(found.transpose()?));
            }
        };
        next.manifest.mark_persisted();
        self.remember(draft, next);
        let claim = pointer.claim;
        let snapshot = Arc::new(Snapshot::new(
            next.manifest.clone(),
            next.encoded.root,
            Some(Named { state, claim }),
            Arc::clone(&self.reader),
        ));
        self.advance(Arc::clone(&snapshot));
        Ok(Swung::Committed(snapshot))
    }

    /// Keeps what the next reader or writer would otherwise fetch.
    fn remember(&self, draft: &Draft, next: &Next) {
        if let Some((root, bytes)) = next
            .encoded
            .new_nodes
            .iter()
            .find(|(hash, _)| *hash == next.encoded.root)
        {
            self.reader.remember_node(*root, bytes.clone());
        }
        for (id, bytes) in &draft.merged {
            if let Ok(sidecar) = Sidecar::decode(bytes) {
                self.reader.remember_bitmap(*id, Arc::new(sidecar.deleted));
            }
        }
    }

    fn known_gone(&self) -> Vec<WalId> {
        let gone: HashSet<WalId> = self
            .gone
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        gone.into_iter().collect()
    }
}
