//! The version under construction: judges one change set after the other, and takes in those
//! that can be committed.
//!
//! Owns the rules in [`super`]'s table. Does not own the order of change sets or what is already
//! committed.
//!
//! Invariant: judging changes nothing; only [`Next::take`] does, with a whole change set.

mod finish;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use roaring::RoaringBitmap;

pub(super) use self::finish::finish;
use super::ApplyError;
use super::absence::{Additions, added_at, was_dropped};
use super::carry::{Carried, carry, carry_all};
use super::conflict::{Conflict, ConflictReason};
use crate::format::change_set::moves::RowMoves;
use crate::format::change_set::{ChangeSet, DropChange, TombstoneChange};
use crate::format::ids::{SidecarId, SuperfileId, WalId};
use crate::format::manifest::{Manifest, SuperfileEntry, TableMetadata, TombstoneRef};
use crate::format::state_doc::OpKind;

/// What change sets have made of one superfile so far.
#[derive(Clone, Debug)]
struct State {
    tombstones: Tombstones,
    /// How many of its rows are deleted.
    deleted: u64,
    moved_at: u64,
}

#[derive(Clone, Debug)]
enum Tombstones {
    /// As in the manifest.
    Unchanged,
    /// A staged union of the manifest's sidecar with this delta.
    Staged(TombstoneRef, RoaringBitmap),
    /// A union that no statement staged.
    Computed(RoaringBitmap),
    /// The superfile is dropped.
    Dropped,
}

/// What a change set does, if it is committed.
#[derive(Default)]
pub(super) struct Effect {
    states: Vec<(SuperfileId, State)>,
    /// Rows it was to remove that are gone already.
    pub(super) lost: u64,
    /// Rows of its new superfiles that are deleted from the start.
    carried: Carried,
    adds: bool,
    /// Superfiles of the manifest that get another entry: a restore's.
    replaced: BTreeSet<SuperfileId>,
    changes_metadata: bool,
}

impl Effect {
    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty() && !self.adds && !self.changes_metadata
    }
}

pub(super) enum Judgement {
    Effect(Effect),
    Conflict(Conflict),
}

/// A superfile's state so far, borrowed.
#[derive(Clone, Copy)]
struct View<'s> {
    entry: &'s SuperfileEntry,
    tombstones: &'s Tombstones,
    deleted: u64,
    moved_at: u64,
}

impl View<'_> {
    /// Whether the sidecar in force is still `base`.
    fn is_as_of(&self, base: Option<SidecarId>) -> bool {
        matches!(self.tombstones, Tombstones::Unchanged)
            && self.entry.tombstones.map(|t| t.sidecar) == base
    }
}

static UNCHANGED: Tombstones = Tombstones::Unchanged;

/// What one change of a superfile comes to.
enum EntryJudgement {
    /// The superfile is in this state, and so many rows were gone already.
    Change(State, u64),
    /// Nothing is left to do; so many rows were gone already.
    Nothing(u64),
    Conflict(ConflictReason),
}

/// The version under construction.
pub(super) struct Next<'a> {
    manifest: &'a Manifest,
    current: &'a HashMap<SidecarId, Arc<RoaringBitmap>>,
    pub(super) version: u64,
    states: BTreeMap<SuperfileId, State>,
    added: BTreeMap<SuperfileId, SuperfileEntry>,
    carried: BTreeMap<SuperfileId, RoaringBitmap>,
    replaced: BTreeSet<SuperfileId>,
    /// Whether a change set was taken in, and whether one was a restore.
    changed: bool,
    restored: bool,
    metadata: Arc<TableMetadata>,
    metadata_changed_at: u64,
    schema_changed_at: u64,
    moved_at: u64,
    rows_changed_at: u64,
    restored_at: u64,
    additions: Additions,
}

impl<'a> Next<'a> {
    pub(super) fn new(
        manifest: &'a Manifest,
        current: &'a HashMap<SidecarId, Arc<RoaringBitmap>>,
    ) -> Self {
        let header = manifest.header();
        Self {
            manifest,
            current,
            version: header.version.saturating_add(1),
            states: BTreeMap::new(),
            added: BTreeMap::new(),
            carried: BTreeMap::new(),
            replaced: BTreeSet::new(),
            changed: false,
            restored: false,
            metadata: Arc::clone(&header.metadata),
            metadata_changed_at: header.metadata_changed_at,
            schema_changed_at: header.schema_changed_at,
            moved_at: header.moved_at,
            rows_changed_at: header.rows_changed_at,
            restored_at: header.restored_at,
            additions: Additions::of(manifest),
        }
    }

    /// What `change_set` does to the version so far. Changes nothing.
    pub(super) fn judge(
        &self,
        wal_id: WalId,
        change_set: &ChangeSet,
    ) -> Result<Judgement, ApplyError> {
        let conflict = |reason| Ok(Judgement::Conflict(Conflict::of_table(reason)));
        let base = change_set.base_version;
        let inconsistent = |superfile, what| ApplyError::Inconsistent {
            wal_id,
            superfile,
            what,
        };
        let restores = change_set.op == OpKind::Restore;
        let is_current = self.manifest.version() == base && !self.changed;
        if self.restored || (restores && !is_current) {
            return conflict(ConflictReason::NotCurrent);
        }
        let removes = !change_set.tombstone.is_empty() || !change_set.drop.is_empty();
        if removes && self.restored_at > base {
            return conflict(ConflictReason::Restored);
        }
        if let Some(metadata) = &change_set.metadata {
            if self.metadata_changed_at > base {
                return conflict(ConflictReason::MetadataChanged);
            }
            if metadata.table_id != self.metadata.table_id
                || metadata.next_field_id < self.metadata.next_field_id
                || !metadata.remembers_names_of(&self.metadata)
            {
                return Err(inconsistent(None, "its metadata is not this table's"));
            }
            // Any commit since the base counts, not only one that added rows: those may be gone
            // again in a later version, and a conflict must stay one.
            let unread = !change_set.serializable && self.metadata.rows_may_break(metadata);
            if change_set.op == OpKind::Alter
                && (unread || self.metadata.needs_empty_table(metadata))
                && (self.manifest.header().version > base || self.has_superfiles())
            {
                return conflict(ConflictReason::NoLongerEmpty);
            }
        }
        let adds_external = (change_set.add.iter()).any(|entry| entry.external.is_some());
        if adds_external && !restores && self.restored_at > base {
            return conflict(ConflictReason::Restored);
        }
        if !change_set.add.is_empty() && self.schema_changed_at > base {
            return conflict(ConflictReason::SchemaChanged);
        }
        if change_set.op == OpKind::Overwrite && self.moved_at > base {
            return conflict(ConflictReason::Rewritten);
        }
        let mut replaced = BTreeSet::new();
        if change_set.serializable && self.rows_changed_at > base {
            return conflict(ConflictReason::ReadChanged);
        }
        if let Some(absent) = self.judge_absence(change_set) {
            return Ok(Judgement::Conflict(absent));
        }
        for entry in &change_set.add {
            match self.manifest.get(&entry.id) {
                Some(existing) if restores => {
                    if !is_same_file(existing, entry) {
                        return Err(inconsistent(Some(entry.id), "it is another file"));
                    }
                    replaced.insert(entry.id);
                }
                None if !self.added.contains_key(&entry.id) => {}
                _ => {
                    return Err(inconsistent(
                        Some(entry.id),
                        "a new superfile exists already",
                    ));
                }
            }
        }
        let mut effect = Effect {
            replaced,
            changes_metadata: change_set
                .metadata
                .as_ref()
                .is_some_and(|m| *m != *self.metadata),
            ..Effect::default()
        };
        let tombstones = change_set.tombstone.iter().map(|change| {
            let verdict = self.judge_tombstones(change_set, change, &inconsistent)?;
            Ok::<_, ApplyError>((change.superfile, verdict))
        });
        let mut deleted_places = RoaringBitmap::new();
        let drops = change_set.drop.iter().map(|change| {
            let verdict = match &change.moved {
                Some(moved) if change_set.op == OpKind::Compact => {
                    let places = &mut deleted_places;
                    self.judge_compaction_source(change_set, change, moved, places, &inconsistent)?
                }
                _ => self.judge_drop(change_set, change, &inconsistent)?,
            };
            Ok::<_, ApplyError>((change.superfile, verdict))
        });
        let mut seen = HashSet::new();
        for verdict in tombstones.chain(drops) {
            let (superfile, verdict) = verdict?;
            if !seen.insert(superfile) {
                return Err(inconsistent(Some(superfile), "it is named twice"));
            }
            match verdict {
                EntryJudgement::Conflict(reason) => {
                    return Ok(Judgement::Conflict(Conflict::of(superfile, reason)));
                }
                EntryJudgement::Nothing(lost) => effect.lost += lost,
                EntryJudgement::Change(state, lost) => {
                    effect.lost += lost;
                    effect.states.push((superfile, state));
                }
            }
        }
        effect.carried = Carried::over(&change_set.add, &deleted_places)
            .ok_or_else(|| inconsistent(None, "its new superfiles have too many rows"))?;
        effect.adds = (change_set.add.iter()).any(|entry| !effect.carried.leaves_nothing_of(entry));
        Ok(Judgement::Effect(effect))
    }

    /// The conflict of a change set that found keys absent of which one may be there now.
    fn judge_absence(&self, change_set: &ChangeSet) -> Option<Conflict> {
        let base = change_set.base_version;
        if !change_set.absent_keys.is_empty() && self.restored_at > base {
            return Some(Conflict::of_table(ConflictReason::Restored));
        }
        change_set.absent_keys.iter().find_map(|keys| {
            if was_dropped(keys, base, self.manifest) {
                return Some(Conflict::of_table(ConflictReason::KeyAdded));
            }
            let holder = (self.additions).holder(keys, base, self.manifest, &self.added)?;
            Some(Conflict::of(holder, ConflictReason::KeyAdded))
        })
    }

    fn has_superfiles(&self) -> bool {
        let dropped = |id| {
            self.states
                .get(id)
                .is_some_and(|state| matches!(state.tombstones, Tombstones::Dropped))
        };
        !self.added.is_empty() || self.manifest.entries().any(|entry| !dropped(&entry.id))
    }

    fn judge_tombstones(
        &self,
        change_set: &ChangeSet,
        change: &TombstoneChange,
        inconsistent: &impl Fn(Option<SuperfileId>, &'static str) -> ApplyError,
    ) -> Result<EntryJudgement, ApplyError> {
        let inconsistent = |what| inconsistent(Some(change.superfile), what);
        let Some(state) = self.look_up(&change.superfile) else {
            return Ok(self.judge_missing_superfile(change_set, change.delta.len()));
        };
        let entry = state.entry;
        if change
            .delta
            .max()
            .is_none_or(|max| u64::from(max) >= entry.rows)
        {
            return Err(inconsistent("positions that are no rows, or none"));
        }
        let moved_at = self.moved_at_after(change_set, &state);
        if state.is_as_of(change.base) {
            // Nobody came between: what was staged is the union.
            let deleted = entry.deleted_rows() + change.delta.len();
            if change.union.cardinality != deleted || deleted > entry.rows {
                return Err(inconsistent("the staged sidecar is not the union"));
            }
            let tombstones = if deleted == entry.rows {
                Tombstones::Dropped
            } else {
                Tombstones::Staged(change.union, change.delta.clone())
            };
            return Ok(EntryJudgement::Change(
                State {
                    tombstones,
                    deleted,
                    moved_at,
                },
                0,
            ));
        }
        let mut union = self.bitmap(&state)?;
        let lost = union.intersection_len(&change.delta);
        if lost > 0 {
            if needs_rows_unchanged(change_set) {
                return Ok(EntryJudgement::Conflict(ConflictReason::RowsChanged {
                    rows: lost,
                }));
            }
            if state.moved_at > change_set.base_version {
                return Ok(EntryJudgement::Conflict(ConflictReason::RowsMoved));
            }
        }
        if lost == change.delta.len() {
            return Ok(EntryJudgement::Nothing(lost));
        }
        union |= &change.delta;
        let deleted = union.len();
        let tombstones = if deleted == entry.rows {
            Tombstones::Dropped
        } else {
            Tombstones::Computed(union)
        };
        Ok(EntryJudgement::Change(
            State {
                tombstones,
                deleted,
                moved_at,
            },
            lost,
        ))
    }

    fn judge_drop(
        &self,
        change_set: &ChangeSet,
        change: &DropChange,
        inconsistent: &impl Fn(Option<SuperfileId>, &'static str) -> ApplyError,
    ) -> Result<EntryJudgement, ApplyError> {
        let inconsistent = |what| inconsistent(Some(change.superfile), what);
        let Some(state) = self.look_up(&change.superfile) else {
            return Ok(self.judge_missing_superfile(change_set, change.live_rows));
        };
        let live = state.entry.rows.saturating_sub(state.deleted);
        let unchanged = state.is_as_of(change.base);
        if unchanged && live != change.live_rows {
            return Err(inconsistent("another number of rows was live"));
        }
        if !unchanged {
            if change_set.op == OpKind::Compact {
                return Ok(EntryJudgement::Conflict(
                    ConflictReason::CompactionSourceChanged,
                ));
            }
            if needs_rows_unchanged(change_set) {
                let rows = change.live_rows.saturating_sub(live);
                return Ok(EntryJudgement::Conflict(ConflictReason::RowsChanged {
                    rows,
                }));
            }
            // More live rows than at the base: tombstones were taken back (a restore).
            if state.moved_at > change_set.base_version || live > change.live_rows {
                return Ok(EntryJudgement::Conflict(ConflictReason::RowsMoved));
            }
        }
        Ok(EntryJudgement::Change(
            State {
                tombstones: Tombstones::Dropped,
                deleted: state.entry.rows,
                moved_at: self.moved_at_after(change_set, &state),
            },
            change.live_rows.saturating_sub(live),
        ))
    }

    /// What became of a compaction's source: rows that went since are deleted in the copy too.
    fn judge_compaction_source(
        &self,
        change_set: &ChangeSet,
        change: &DropChange,
        moved: &RowMoves,
        deleted_places: &mut RoaringBitmap,
        inconsistent: &impl Fn(Option<SuperfileId>, &'static str) -> ApplyError,
    ) -> Result<EntryJudgement, ApplyError> {
        let inconsistent = |what| inconsistent(Some(change.superfile), what);
        let Some(state) = self.look_up(&change.superfile) else {
            if self.moved_at > change_set.base_version {
                return Ok(EntryJudgement::Conflict(ConflictReason::SuperfileGone));
            }
            carry_all(moved, deleted_places);
            return Ok(EntryJudgement::Nothing(change.live_rows));
        };
        let rows = state.entry.rows;
        let past_the_end = (moved.ranges().last())
            .is_some_and(|run| u64::from(run.from) + u64::from(run.rows) > rows);
        if past_the_end || moved.rows() != change.live_rows {
            return Err(inconsistent("it moved rows that are none"));
        }
        if state.is_as_of(change.base) {
            if rows.saturating_sub(state.deleted) != change.live_rows {
                return Err(inconsistent("another number of rows was live"));
            }
        } else {
            let carried = carry(moved, &self.bitmap(&state)?, deleted_places);
            // Rows that were deleted at the base and are back (a restore) have no copy.
            if state.deleted.saturating_sub(carried) != rows.saturating_sub(change.live_rows) {
                return Ok(EntryJudgement::Conflict(
                    ConflictReason::CompactionSourceChanged,
                ));
            }
        }
        Ok(EntryJudgement::Change(
            State {
                tombstones: Tombstones::Dropped,
                deleted: rows,
                moved_at: self.moved_at_after(change_set, &state),
            },
            0,
        ))
    }

    /// A target superfile is not there any more, and with it `rows` that the change set removes.
    fn judge_missing_superfile(&self, change_set: &ChangeSet, rows: u64) -> EntryJudgement {
        if needs_rows_unchanged(change_set) || self.moved_at > change_set.base_version {
            EntryJudgement::Conflict(ConflictReason::SuperfileGone)
        } else {
            EntryJudgement::Nothing(rows)
        }
    }

    /// The state so far of a superfile that is still there.
    fn look_up(&self, id: &SuperfileId) -> Option<View<'_>> {
        let entry = self.manifest.get(id)?;
        match self.states.get(id) {
            None => Some(View {
                entry,
                tombstones: &UNCHANGED,
                deleted: entry.deleted_rows(),
                moved_at: entry.moved_at,
            }),
            Some(state) if matches!(state.tombstones, Tombstones::Dropped) => None,
            Some(state) => Some(View {
                entry,
                tombstones: &state.tombstones,
                deleted: state.deleted,
                moved_at: state.moved_at,
            }),
        }
    }

    fn moved_at_after(&self, change_set: &ChangeSet, state: &View<'_>) -> u64 {
        if change_set.moves_rows() {
            self.version
        } else {
            state.moved_at
        }
    }

    /// The positions that are deleted so far.
    fn bitmap(&self, state: &View<'_>) -> Result<RoaringBitmap, ApplyError> {
        match state.tombstones {
            Tombstones::Computed(bitmap) => Ok(bitmap.clone()),
            Tombstones::Staged(_, delta) => Ok(self.bitmap_in_manifest(state.entry)? | delta),
            Tombstones::Unchanged | Tombstones::Dropped => self.bitmap_in_manifest(state.entry),
        }
    }

    fn bitmap_in_manifest(&self, entry: &SuperfileEntry) -> Result<RoaringBitmap, ApplyError> {
        let Some(in_force) = &entry.tombstones else {
            return Ok(RoaringBitmap::new());
        };
        let (superfile, sidecar) = (entry.id, in_force.sidecar);
        let bitmap = self
            .current
            .get(&sidecar)
            .ok_or(ApplyError::MissingSidecar { superfile, sidecar })?;
        if bitmap.len() != in_force.cardinality {
            return Err(ApplyError::WrongSidecar {
                superfile,
                sidecar,
                recorded: in_force.cardinality,
                actual: bitmap.len(),
            });
        }
        Ok(bitmap.as_ref().clone())
    }

    /// Makes a change set's effect part of the version.
    pub(super) fn take(&mut self, change_set: &ChangeSet, effect: Effect) {
        let restores = change_set.op == OpKind::Restore;
        self.changed = true;
        self.restored |= restores;
        if restores {
            self.restored_at = self.version;
        }
        if change_set.op != OpKind::Compact && (effect.adds || !effect.states.is_empty()) {
            self.rows_changed_at = self.version;
        }
        self.states.extend(effect.states);
        self.replaced.extend(effect.replaced);
        let added = change_set
            .add
            .iter()
            .filter(|entry| !effect.carried.leaves_nothing_of(entry));
        let added_at = added_at(change_set, self.manifest, self.version);
        self.additions.take(change_set, self.version);
        self.added.extend(added.map(|entry| {
            let mut entry = entry.clone();
            entry.added_at = added_at;
            if restores {
                entry.moved_at = self.version;
            }
            (entry.id, entry)
        }));
        self.carried.extend(effect.carried.into_bitmaps());
        if change_set.moves_rows() || matches!(change_set.op, OpKind::Overwrite | OpKind::Restore) {
            self.moved_at = self.version;
        }
        if let Some(metadata) = &change_set.metadata
            && effect.changes_metadata
        {
            self.metadata_changed_at = self.version;
            // Rows that are added were made for the columns, the keys and the checks of their base.
            if metadata.schema != self.metadata.schema || self.metadata.rows_may_break(metadata) {
                self.schema_changed_at = self.version;
            }
            self.metadata = Arc::new(metadata.clone());
        }
    }
}

/// Whether two entries are about one file, whatever rows of it are deleted.
fn is_same_file(one: &SuperfileEntry, other: &SuperfileEntry) -> bool {
    one.rows == other.rows
        && one.size == other.size
        && one.row_ids == other.row_ids
        && one.created_at_ms == other.created_at_ms
        && one.in_place == other.in_place
}

/// Whether every row that the change set removes must still be as it was: it may have copied it.
fn needs_rows_unchanged(change_set: &ChangeSet) -> bool {
    matches!(
        change_set.op,
        OpKind::Update | OpKind::Merge | OpKind::Compact
    ) || change_set.moves_rows()
}
