//! From a statement's effect to what is uploaded: the change set, and a sidecar per superfile that loses rows.
//!
//! Owns: what a statement says that it does ([`Effect`]), the union of a snapshot's tombstones with a statement's, and
//! the change set's bytes. Does not own the judgement against later versions (`apply`), nor the uploads (`owner`).
//! Invariants: a delta holds only rows that were live in the snapshot; a staged sidecar is the snapshot's and
//! the delta together; what has no effect is not staged. No writes, so a crash leaves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;

use super::staged_ids::StagedIds;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{RowIds, SuperfileEntry, TableMetadata, TombstoneRef};
use crate::format::{
    AbsentKeys, ChangeSet, ContentHash, DropChange, FormatError, IdSpan, OpKind, RowMoves, Sidecar,
    SidecarId, SuperfileId, TombstoneChange, WalId, paths,
};
use crate::table::version::snapshot::Snapshot;
use crate::wal::machine::Appendix;

/// What a statement does to the snapshot that it read.
#[derive(Clone, Debug, Default)]
pub struct Effect {
    /// Superfiles to add. They are uploaded, under ids of the mutation's block.
    pub add: Vec<SuperfileEntry>,
    /// Rows to remove: positions per superfile of the snapshot. Rows that the snapshot has deleted already
    /// are ignored.
    pub delete: BTreeMap<SuperfileId, RoaringBitmap>,
    /// Superfiles of the snapshot to remove with all their rows.
    pub drop: Vec<SuperfileId>,
    /// Where the rows of the superfiles in `drop` are in those in `add`, if they were copied: of all of
    /// them, or of none.
    pub moves: BTreeMap<SuperfileId, RowMoves>,
    /// Rows that come in.
    pub rows_inserted: u64,
    /// Rows that go.
    pub rows_deleted: u64,
    /// Rows that change.
    pub rows_updated: u64,
    /// New metadata of the table, if it changes.
    pub metadata: Option<TableMetadata>,
    /// Whether the statement read the table, and must not be committed after a change of its rows.
    pub serializable: bool,
    /// The keys that it inserts because it found none with them.
    pub absent_keys: Vec<AbsentKeys>,
}

/// The statement whose effect it is.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) id: WalId,
    pub(crate) op: OpKind,
    pub(crate) text: String,
    /// The snapshot that it reads.
    pub(crate) base: Arc<Snapshot>,
    pub(crate) started_at_ms: i64,
}

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
    /// What is to be staged for `effect`; `None` if it is empty. Sidecars of the base are read side by side, so many
    /// at once.
    pub(crate) async fn of(
        statement: &Statement,
        effect: Effect,
        ids: &StagedIds,
        concurrency: usize,
    ) -> Result<Option<Self>> {
        let base = &statement.base;
        let dropped: BTreeSet<SuperfileId> = effect.drop.iter().copied().collect();
        let mut moves = effect.moves;
        let losses: Vec<Option<Loss>> = futures::stream::iter(
            effect
                .delete
                .into_iter()
                .filter(|(superfile, _)| !dropped.contains(superfile)),
        )
        .map(|(superfile, positions)| loss(base, superfile, positions))
        .buffered(concurrency)
        .try_collect()
        .await?;
        let mut change_set = ChangeSet {
            op: statement.op,
            base_version: base.version(),
            add: effect.add,
            tombstone: Vec::new(),
            drop: Vec::new(),
            metadata: effect.metadata,
            statement: statement.text.clone(),
            rows_inserted: effect.rows_inserted,
            rows_deleted: effect.rows_deleted,
            rows_updated: effect.rows_updated,
            started_at_ms: statement.started_at_ms,
            serializable: effect.serializable,
            absent_keys: effect.absent_keys,
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
            base.sidecars().keep(id, bitmap);
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
            .map_err(|error| FormatError::from(error).at(&paths::wal_arrow(&statement.id)))?;
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
fn encode_sidecar(id: &SidecarId, deleted: &RoaringBitmap) -> Result<Bytes> {
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
            let before = base.sidecars().positions(tombstones).await?;
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
