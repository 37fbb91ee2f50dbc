//! A table in memory: what its superfiles and sidecars hold, and its versions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::format::manifest::*;
use crate::format::tests::samples;
use crate::format::*;
use crate::table::apply::*;

/// A row's identity, kept by UPDATE and compaction.
pub(super) type Row = u32;
/// From here on rows have a key that another row may have had before.
const UPSERTED: Row = 1_000_000;
/// How many such keys there are.
pub(super) const UPSERTED_KEYS: Row = 8;

/// What statements look for to find a row absent. No two rows of a version share it.
pub(super) fn key(row: Row) -> Row {
    match row.checked_sub(UPSERTED) {
        Some(n) => UPSERTED + n % UPSERTED_KEYS,
        None => row,
    }
}

/// The `n`th row with the `key`th of the keys that several statements insert. A row that was
/// deleted and one that came with its key later are two.
pub(super) fn upserted(key: Row, n: Row) -> Row {
    UPSERTED + n * UPSERTED_KEYS + key
}

/// What a table holds: each row's value.
pub(super) type Rows = BTreeMap<Row, u32>;

pub(super) struct World {
    /// Each superfile's rows, by position.
    pub files: HashMap<SuperfileId, Vec<(Row, u32)>>,
    /// Sidecars that are "in the store", staged ones included.
    pub sidecars: HashMap<SidecarId, Arc<RoaringBitmap>>,
    /// All versions, the oldest first.
    pub versions: Vec<Manifest>,
    /// Whether compactions say where they put the rows.
    pub tell_moves: bool,
    next_id: u128,
    next_wal: u64,
    fresh: u64,
}

/// What a statement would do.
#[derive(Default)]
pub(super) struct Effect {
    pub delete: BTreeSet<Row>,
    pub insert: Vec<(Row, u32)>,
    pub drop_all: bool,
}

impl World {
    pub fn new() -> Self {
        let header = ManifestHeader::first(Arc::new(samples::metadata()), 0);
        let first = Manifest::empty(header);
        first.encode().unwrap();
        Self {
            files: HashMap::new(),
            sidecars: HashMap::new(),
            versions: vec![first],
            tell_moves: true,
            next_id: 1,
            next_wal: 1,
            fresh: 0,
        }
    }

    pub fn current(&self) -> &Manifest {
        self.versions.last().unwrap()
    }

    pub fn wal_id(&mut self) -> WalId {
        self.next_wal += 1;
        WalId::new(self.next_wal, 0, 0)
    }

    fn id(&mut self) -> u128 {
        self.next_id += 1;
        self.next_id
    }

    pub fn deleted(&self, entry: &SuperfileEntry) -> RoaringBitmap {
        match &entry.tombstones {
            None => RoaringBitmap::new(),
            Some(t) => {
                let bitmap = self.sidecars[&t.sidecar].as_ref().clone();
                assert_eq!(bitmap.len(), t.cardinality);
                bitmap
            }
        }
    }

    /// The live rows of one superfile: (position, row, value).
    fn live(&self, entry: &SuperfileEntry) -> Vec<(u32, Row, u32)> {
        let deleted = self.deleted(entry);
        let rows = &self.files[&entry.id];
        assert_eq!(rows.len() as u64, entry.rows);
        (0u32..)
            .zip(rows)
            .filter(|(at, _)| !deleted.contains(*at))
            .map(|(at, (row, value))| (at, *row, *value))
            .collect()
    }

    /// What a version holds. No row and no key may stand twice.
    pub fn rows(&self, manifest: &Manifest) -> Rows {
        let mut rows = Rows::new();
        let mut keys = BTreeSet::new();
        for entry in manifest.entries() {
            let live = self.live(entry);
            assert_eq!(live.len() as u64, entry.live_rows());
            assert!(!live.is_empty(), "a superfile without live rows");
            for (_, row, value) in live {
                assert_eq!(rows.insert(row, value), None, "row {row} stands twice");
                assert!(keys.insert(key(row)), "key {} stands twice", key(row));
            }
        }
        rows
    }

    /// Writes a superfile.
    pub fn superfile(&mut self, rows: Vec<(Row, u32)>) -> SuperfileEntry {
        let entry = SuperfileEntry {
            rows: rows.len() as u64,
            stats: stats(&rows),
            ..samples::entry(self.id())
        };
        self.files.insert(entry.id, rows);
        entry
    }

    /// Stages a sidecar.
    fn sidecar(&mut self, bitmap: RoaringBitmap) -> TombstoneRef {
        let reference = samples::tombstone_ref(self.id(), bitmap.len());
        self.sidecars.insert(reference.sidecar, Arc::new(bitmap));
        reference
    }

    /// A change set as a statement of kind `op` on version `base` makes it. Superfiles all of
    /// whose rows go are dropped if `drop_whole`, else tombstoned row by row.
    pub fn change_set(
        &mut self,
        op: OpKind,
        base: &Manifest,
        effect: Effect,
        drop_whole: bool,
        files: usize,
    ) -> ChangeSet {
        let mut change_set = ChangeSet {
            op,
            base_version: base.version(),
            add: Vec::new(),
            tombstone: Vec::new(),
            drop: Vec::new(),
            metadata: None,
            statement: op.to_string(),
            rows_inserted: 0,
            rows_deleted: 0,
            rows_updated: 0,
            started_at_ms: 0,
            serializable: false,
            absent_keys: Vec::new(),
        };
        let mut removed = 0;
        let places: HashMap<Row, u32> = (0u32..)
            .zip(&effect.insert)
            .map(|(place, (row, _))| (*row, place))
            .collect();
        for entry in base.entries() {
            let base_sidecar = entry.tombstones.map(|t| t.sidecar);
            let live = self.live(entry);
            let delta: RoaringBitmap = live
                .iter()
                .filter(|(_, row, _)| effect.drop_all || effect.delete.contains(row))
                .map(|(at, _, _)| *at)
                .collect();
            removed += delta.len();
            if delta.is_empty() {
                continue;
            }
            if effect.drop_all || (drop_whole && delta.len() == live.len() as u64) {
                let moved = (op == OpKind::Compact && self.tell_moves).then(|| {
                    let runs = live.iter().map(|(at, row, _)| MovedRange {
                        from: *at,
                        rows: 1,
                        to: places[row],
                    });
                    Arc::new(RowMoves::new(runs.collect()).unwrap())
                });
                change_set.drop.push(DropChange {
                    superfile: entry.id,
                    base: base_sidecar,
                    live_rows: live.len() as u64,
                    moved,
                });
            } else {
                let union = self.deleted(entry) | &delta;
                change_set.tombstone.push(TombstoneChange {
                    superfile: entry.id,
                    base: base_sidecar,
                    union: self.sidecar(union),
                    delta,
                });
            }
        }
        let inserted = effect.insert.len();
        if inserted > 0 {
            for part in effect.insert.chunks(inserted.div_ceil(files)) {
                let entry = self.superfile(part.to_vec());
                change_set.add.push(entry);
            }
        }
        match op {
            OpKind::Update => change_set.rows_updated = inserted as u64,
            OpKind::Compact => {}
            _ => {
                change_set.rows_inserted = inserted as u64;
                change_set.rows_deleted = removed;
            }
        }
        // Only what survives encoding may matter.
        let (hash, bytes) = change_set.encode().unwrap();
        let decoded = ChangeSet::decode(&bytes, &hash).unwrap();
        assert_eq!(decoded, change_set);
        decoded
    }

    /// Applies change sets in one version, giving `apply` exactly the sidecars it asks for, and
    /// checks what must hold whatever they are.
    pub fn apply(&mut self, changes: &[(WalId, &ChangeSet)], gone: &[WalId]) -> Vec<Outcome> {
        let current = self.current().clone();
        let hash = current.hash().unwrap();
        let sets: Vec<&ChangeSet> = changes.iter().map(|(_, cs)| *cs).collect();
        let loaded: HashMap<_, _> = needed_sidecars(&current, &sets)
            .into_iter()
            .map(|(_, t)| (t.sidecar, Arc::clone(&self.sidecars[&t.sidecar])))
            .collect();
        let ctx = ApplyContext {
            now_ms: 1,
            gone_wal_ids: gone,
            fresh: IdBlock::new(1, self.fresh),
        };
        let applied = apply(&current, &hash, changes, &loaded, ctx).unwrap();
        let again = apply(&current, &hash, changes, &loaded, ctx).unwrap();
        assert_eq!(applied.outcomes, again.outcomes);
        let root = |a: &Applied| a.manifest.as_ref().map(|m| m.encode().unwrap().root);
        assert_eq!(root(&applied), root(&again));

        self.fresh += 1;
        for (reference, superfile, bytes) in &applied.sidecars {
            assert_eq!(ContentHash::of(bytes), reference.hash);
            assert_eq!(bytes.len() as u64, reference.size);
            let next = applied.manifest.as_ref().unwrap();
            let rows = next.get(superfile).unwrap().rows;
            let sidecar = Sidecar::decode_for(bytes, rows).unwrap();
            let bitmap = Arc::new(sidecar.deleted);
            assert_eq!(self.sidecars.insert(reference.sidecar, bitmap), None);
        }
        let committed = applied
            .outcomes
            .iter()
            .filter_map(|(_, outcome)| match outcome {
                Outcome::Committed(record) => Some(record.clone()),
                _ => None,
            });
        let committed: Vec<_> = committed.collect();
        match applied.manifest {
            None => assert!(committed.is_empty()),
            Some(next) => {
                check_successor(&current, &next).unwrap();
                assert_eq!(next.header().commits, committed);
                for (id, _) in changes {
                    assert!(
                        gone.contains(id)
                            || !matches!(outcome_of(&applied.outcomes, id), Outcome::Committed(_))
                            || next.header().commit_record(id).is_some()
                    );
                }
                next.mark_persisted();
                self.versions.push(next);
            }
        }
        applied
            .outcomes
            .into_iter()
            .map(|(_, outcome)| outcome)
            .collect()
    }

    /// Applies one change set as a new mutation.
    pub fn commit(&mut self, change_set: &ChangeSet) -> Outcome {
        let id = self.wal_id();
        self.apply(&[(id, change_set)], &[]).remove(0)
    }

    // Statements by name, for the examples.

    pub fn insert(&mut self, rows: &[(Row, u32)]) -> Outcome {
        let effect = Effect {
            insert: rows.to_vec(),
            ..Effect::default()
        };
        let base = self.current().clone();
        let change_set = self.change_set(OpKind::Insert, &base, effect, false, 1);
        self.commit(&change_set)
    }

    pub fn delete(&mut self, base: &Manifest, rows: &[Row]) -> ChangeSet {
        let effect = Effect {
            delete: rows.iter().copied().collect(),
            ..Effect::default()
        };
        self.change_set(OpKind::Delete, base, effect, false, 1)
    }

    pub fn update(&mut self, base: &Manifest, rows: &[Row], value: u32) -> ChangeSet {
        self.replace(OpKind::Update, base, rows, value)
    }

    pub fn replace(&mut self, op: OpKind, base: &Manifest, rows: &[Row], value: u32) -> ChangeSet {
        let held = self.rows(base);
        let rows: BTreeSet<Row> = rows
            .iter()
            .copied()
            .filter(|r| held.contains_key(r))
            .collect();
        let effect = Effect {
            insert: rows.iter().map(|row| (*row, value)).collect(),
            delete: rows,
            drop_all: false,
        };
        self.change_set(op, base, effect, false, 1)
    }

    /// A MERGE that inserts keys which it found absent.
    pub fn upsert(&mut self, base: &Manifest, keys: &[Row]) -> ChangeSet {
        let effect = Effect {
            insert: keys.iter().map(|key| (*key, 1)).collect(),
            ..Effect::default()
        };
        let mut change_set = self.change_set(OpKind::Merge, base, effect, false, 1);
        change_set.absent_keys = vec![absent(keys.iter().copied())];
        change_set
    }

    pub fn truncate(&mut self, base: &Manifest) -> ChangeSet {
        let effect = Effect {
            drop_all: true,
            ..Effect::default()
        };
        self.change_set(OpKind::Truncate, base, effect, false, 1)
    }

    pub fn overwrite(&mut self, base: &Manifest, rows: &[(Row, u32)]) -> ChangeSet {
        let effect = Effect {
            drop_all: true,
            insert: rows.to_vec(),
            ..Effect::default()
        };
        self.change_set(OpKind::Overwrite, base, effect, false, 1)
    }

    pub fn compact(&mut self, base: &Manifest) -> ChangeSet {
        self.compact_into(base, 1)
    }

    /// A compaction of the whole table, sorted backwards, into so many superfiles.
    pub fn compact_into(&mut self, base: &Manifest, files: usize) -> ChangeSet {
        let effect = Effect {
            drop_all: true,
            insert: self.rows(base).into_iter().rev().collect(),
            ..Effect::default()
        };
        self.change_set(OpKind::Compact, base, effect, false, files)
    }
}

fn outcome_of<'a>(outcomes: &'a [(WalId, Outcome)], id: &WalId) -> &'a Outcome {
    &outcomes.iter().find(|(o, _)| o == id).unwrap().1
}

/// The rows that a committed statement reports.
pub(super) fn affected(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Committed(record) => record.rows_affected(),
        other => panic!("{other:?}"),
    }
}

/// Why a statement conflicts.
pub(super) fn reason(outcome: &Outcome) -> &crate::table::ConflictReason {
    match outcome {
        Outcome::Conflict(conflict) => {
            assert!(conflict.to_string().contains("committed first"));
            &conflict.reason
        }
        other => panic!("{other:?}"),
    }
}

/// `n` rows, all of value 0.
pub(super) fn rows(range: std::ops::Range<Row>) -> Vec<(Row, u32)> {
    range.map(|row| (row, 0)).collect()
}

pub(super) fn keys(world: &World) -> Vec<Row> {
    world.rows(world.current()).into_keys().collect()
}

/// Statistics of the rows' keys, as of a column with field id 1.
fn stats(rows: &[(Row, u32)]) -> SuperfileStats {
    let bound = |row: Option<Row>| row.map(|row| StatValue::Int(row.into()));
    let keys = || rows.iter().map(|(row, _)| key(*row));
    let column = ColumnStats::new(bound(keys().min()), bound(keys().max()), Some(0), 64);
    SuperfileStats {
        columns: [(1, column)].into(),
    }
}

/// What a change set says of the keys of these rows, which it found absent.
pub(super) fn absent(rows: impl IntoIterator<Item = Row>) -> AbsentKeys {
    let keys = (rows.into_iter()).map(|row| StatValue::Int(key(row).into()));
    AbsentKeys::of_column(1, keys).unwrap()
}

/// A uuid for tests that need any.
pub(super) fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}
