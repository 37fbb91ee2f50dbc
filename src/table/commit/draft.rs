//! A draft: the next version as one turn would make it.
//!
//! Owns: loading what `apply` needs, isolating a damaged mutation from its neighbours, and uploading the draft. Does not
//! own the judgement (`apply`), the compare-and-swap of the pointer (`version::head`) or which callers are told (`complete`).
//! Invariants: a draft is swung to only after [`Drafter::upload`]; a resolution that depends on a neighbour of the same
//! draft is not given until that neighbour is committed.
//! A crash leaves nodes and merged sidecars of a draft that was not swung to; vacuum removes them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;

use super::outcome::Resolution;
use super::registry::MutationRegistry;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::CommitRecord;
use crate::format::{ChangeSet, ContentHash, Sidecar, SidecarId, SuperfileId, WalId, paths};
use crate::table::apply::{
    ApplyContext, ApplyError, Outcome, apply, judged_by_rows, needed_sidecars,
};
use crate::table::context::Context;
use crate::table::version::head::{Created, NextVersion, TableHead};
use crate::table::version::reader::Reader;
use crate::table::version::snapshot::Snapshot;

/// The next version, if the swing from `base` succeeds.
#[derive(Debug)]
pub(crate) struct Draft {
    base: Arc<Snapshot>,
    next: Option<NextVersion>,
    records: Vec<CommitRecord>,
    /// Unions that no statement staged.
    merged: Vec<(SidecarId, Bytes)>,
    refused: Vec<(WalId, Result<Resolution>)>,
}

impl Draft {
    /// The version from which the pointer is to be swung.
    pub(crate) fn base(&self) -> &Snapshot {
        &self.base
    }

    /// The version to which it is to be swung, if the draft commits anything.
    pub(crate) fn next(&self) -> Option<&NextVersion> {
        self.next.as_ref()
    }

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
    pub(crate) fn take_refused(&mut self) -> Vec<(WalId, Result<Resolution>)> {
        std::mem::take(&mut self.refused)
    }

    /// The version that it would be, and its root's hash.
    pub(crate) fn target(&self) -> Option<(u64, ContentHash)> {
        let next = self.next.as_ref()?;
        Some((next.manifest.version(), next.encoded.root))
    }
}

/// Drafts versions.
#[derive(Debug)]
pub(crate) struct Drafter {
    context: Arc<Context>,
    head: Arc<TableHead>,
    reader: Arc<Reader>,
    registry: Arc<MutationRegistry>,
}

impl Drafter {
    pub(crate) fn new(
        context: Arc<Context>,
        head: Arc<TableHead>,
        reader: Arc<Reader>,
        registry: Arc<MutationRegistry>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            head,
            reader,
            registry,
        })
    }

    /// Makes a draft of the version that follows `base` with these mutations, in order.
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
        let gone = self.registry.known_gone();
        let applied = loop {
            let context = ApplyContext {
                // Never before its parent, whatever the clocks of two writers say.
                now_ms: self
                    .context
                    .env
                    .now_ms()
                    .max(base.manifest().header().created_at_ms),
                gone_wal_ids: &gone,
                // A block of its own for each draft: no two drafts name different bytes alike.
                fresh: self.context.env.ids.id_block(),
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
                    refused.push((id, Ok(Resolution::Committed(record))))
                }
                // Before the first that is committed, the judgement is one of `base` alone. After it, it may
                // be due to a neighbour that is not committed in the end.
                Outcome::Conflict(conflict) if records.is_empty() => {
                    refused.push((id, Ok(Resolution::Conflict(conflict))));
                }
                Outcome::NothingLeft if records.is_empty() => {
                    refused.push((id, Ok(Resolution::NothingLeft)));
                }
                Outcome::Conflict(_) | Outcome::NothingLeft | Outcome::AheadOfManifest => {}
            }
        }
        let next = match applied.manifest {
            None => None,
            Some(manifest) => Some(NextVersion::new(manifest)?),
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
        refused: &mut Vec<(WalId, Result<Resolution>)>,
    ) -> Result<HashMap<SidecarId, Arc<RoaringBitmap>>> {
        let change_sets: Vec<&ChangeSet> = changes.iter().map(|(_, cs)| *cs).collect();
        let needed = needed_sidecars(base.manifest(), &change_sets);
        let mut loads = futures::stream::iter(needed)
            .map(|(superfile, tombstones)| async move {
                let bitmap = self.reader.sidecars().positions(&tombstones).await;
                (superfile, tombstones.sidecar, bitmap)
            })
            .buffer_unordered(self.context.limits.concurrency);
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
        if missing && self.head.refresh().await?.snapshot.version() != base.version() {
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
                self.context
                    .storage
                    .put_immutable(&paths::manifest_node(&hash), bytes)
                    .await
                    .map_err(Error::from)
            })
            .buffer_unordered(self.context.limits.concurrency)
            .try_collect::<()>();
        let sidecars = futures::stream::iter(draft.merged.clone())
            .map(|(id, bytes)| async move {
                self.context
                    .wal
                    .stage_sidecar(&id, bytes)
                    .await
                    .map_err(Error::from)
            })
            .buffer_unordered(self.context.limits.concurrency)
            .try_collect::<()>();
        futures::try_join!(nodes, sidecars)?;
        Ok(())
    }

    /// Creates the pointer, naming the draft: a table that was not visible appears.
    ///
    /// # Errors
    /// As [`TableHead::create`].
    pub(crate) async fn create(&self, draft: &Draft) -> Result<Created> {
        let created = self.head.create(&draft.base, draft.next.as_ref()).await?;
        self.remember_merged(draft);
        Ok(created)
    }

    /// Keeps what the next reader or writer would otherwise fetch.
    pub(crate) fn remember_merged(&self, draft: &Draft) {
        for (id, bytes) in &draft.merged {
            if let Ok(sidecar) = Sidecar::decode(bytes) {
                self.reader.sidecars().keep(*id, Arc::new(sidecar.deleted));
            }
        }
    }
}
