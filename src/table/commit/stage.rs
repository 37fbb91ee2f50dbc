//! From a statement's effect to what is uploaded: the change set, and a sidecar per superfile that loses rows.
//!
//! Owns: the union of a snapshot's tombstones with a statement's, and the change set's bytes. Does not own
//! the judgement against later versions (`apply`), nor the uploads (`owner`).
//! Invariants: a delta holds only rows that were live in the snapshot; a staged sidecar is the snapshot's and
//! the delta together; what has no effect is not staged. No writes, so a crash leaves nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{RowIds, SuperfileEntry, TombstoneRef};
use crate::format::{
    ChangeSet, ContentHash, DropChange, FormatError, IdSpan, OpKind, Sidecar, SidecarId,
    SuperfileId, TombstoneChange, paths,
};
use crate::table::commit::mutation::{Effect, Parts};
use crate::table::commit::staged_ids::StagedIds;
use crate::table::version::snapshot::Snapshot;
use crate::wal::machine::Appendix;

/// What one statement uploads before its document becomes APPENDED.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) change_set: Arc<ChangeSet>,
    pub(crate) bytes: Bytes,
    pub(crate) hash: ContentHash,
    pub(crate) sidecars: Vec<(SidecarId, Bytes)>,
}

/// The statement's part in one superfile that loses rows.
struct Loss {
    entry: Arc<SuperfileEntry>,
    delta: RoaringBitmap,
    union: RoaringBitmap,
}

impl Staged {
    /// What is to be staged for `effect`; `None` if it is empty.
    pub(crate) async fn of(parts: &Parts, effect: Effect, ids: &StagedIds) -> Result<Option<Self>> {
        let base = &parts.base;
        let dropped: BTreeSet<SuperfileId> = effect.drop.iter().copied().collect();
        let mut moves = effect.moves;
        let losses: Vec<Option<Loss>> = futures::stream::iter(
            effect
                .delete
                .into_iter()
                .filter(|(superfile, _)| !dropped.contains(superfile)),
        )
        .map(|(superfile, positions)| loss(base, superfile, positions))
        .buffered(parts.inner.limits.concurrency)
        .try_collect()
        .await?;
        let mut change_set = ChangeSet {
            op: parts.op,
            base_version: base.version(),
            add: effect.add,
            tombstone: Vec::new(),
            drop: Vec::new(),
            metadata: effect.metadata,
            statement: parts.statement.clone(),
            rows_inserted: effect.rows_inserted,
            rows_deleted: effect.rows_deleted,
            rows_updated: effect.rows_updated,
            started_at_ms: parts.started_at_ms,
            serializable: effect.serializable,
        };
        for superfile in &dropped {
            let moved = moves.remove(superfile);
            change_set.drop.push(DropChange {
                moved: moved.map(Arc::new),
                ..drop_of(entry(base, superfile)?)
            });
        }
        let mut sidecars = Vec::new();
        for loss in losses.into_iter().flatten() {
            if loss.union.len() == loss.entry.rows {
                // Nothing of it is left: no later reader needs to open it, or a sidecar.
                change_set.drop.push(drop_of(&loss.entry));
                continue;
            }
            let id = ids.sidecar()?;
            let cardinality = loss.union.len();
            let bitmap = Arc::new(loss.union);
            let bytes = encode_sidecar(&id, &bitmap)?;
            let union = TombstoneRef {
                sidecar: id,
                hash: ContentHash::of(&bytes),
                cardinality,
                size: bytes.len() as u64,
            };
            parts.inner.reader.remember_bitmap(id, bitmap);
            sidecars.push((id, bytes));
            change_set.tombstone.push(TombstoneChange {
                superfile: loss.entry.id,
                base: loss.entry.tombstones.map(|t| t.sidecar),
                union,
                delta: loss.delta,
            });
        }
        if change_set.is_empty() {
            return Ok(None);
        }
        let (hash, bytes) = change_set
            .encode()
            .map_err(|error| FormatError::from(error).at(&paths::wal_arrow(&parts.driver.id())))?;
        Ok(Some(Self {
            change_set: Arc::new(change_set),
            bytes,
            hash,
            sidecars,
        }))
    }

    /// What the WAL document says of it.
    pub(crate) fn appendix(&self) -> Appendix {
        let minted = self.change_set.add.iter().filter_map(|entry| {
            let RowIds::Span(first) = entry.row_ids else {
                return None;
            };
            if self.change_set.op == OpKind::Restore {
                // They come back under the ids that they have.
                return None;
            }
            let last = first.checked_add(entry.rows.checked_sub(1)?)?;
            Some(IdSpan { first, last })
        });
        Appendix {
            change_set: Some(self.hash),
            new_rows: self.change_set.add.iter().map(|entry| entry.rows).sum(),
            minted: minted.collect(),
            targets: Vec::new(),
            progress: Vec::new(),
        }
    }
}

/// A sidecar's bytes.
pub(crate) fn encode_sidecar(id: &SidecarId, deleted: &RoaringBitmap) -> Result<Bytes> {
    Sidecar::new(deleted.clone())
        .encode()
        .map_err(|error| FormatError::from(error).at(&paths::sidecar(id)))
}

fn entry<'a>(base: &'a Snapshot, superfile: &SuperfileId) -> Result<&'a Arc<SuperfileEntry>> {
    base.manifest().get(superfile).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidArgument,
            paths::superfile(superfile).as_ref(),
            format!("is not part of version {}", base.version()),
        )
    })
}

fn drop_of(entry: &Arc<SuperfileEntry>) -> DropChange {
    DropChange {
        superfile: entry.id,
        base: entry.tombstones.map(|t| t.sidecar),
        live_rows: entry.live_rows(),
        moved: None,
    }
}

/// The rows that `positions` really remove from a superfile; `None` if they are gone already.
async fn loss(
    base: &Arc<Snapshot>,
    superfile: SuperfileId,
    positions: RoaringBitmap,
) -> Result<Option<Loss>> {
    let entry = Arc::clone(entry(base, &superfile)?);
    if let Some(beyond) = positions.max().filter(|max| u64::from(*max) >= entry.rows) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            paths::superfile(&superfile).as_ref(),
            format!(
                "has {} rows, and so no row at position {beyond}",
                entry.rows
            ),
        ));
    }
    let (delta, union) = match &entry.tombstones {
        None => (positions.clone(), positions),
        Some(tombstones) => {
            let before = base.tombstones(tombstones).await?;
            let delta = positions - before.as_ref();
            let union = &delta | before.as_ref();
            (delta, union)
        }
    };
    if delta.is_empty() {
        return Ok(None);
    }
    Ok(Some(Loss {
        entry,
        delta,
        union,
    }))
}
