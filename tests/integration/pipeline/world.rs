//! A table of labelled rows on a shared in-memory store, seen by any number of simulated processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion_supertable::Result;
use datafusion_supertable::unstable::format::manifest::{RowIds, SuperfileEntry};
use datafusion_supertable::unstable::format::paths::{self, ObjectName};
use datafusion_supertable::unstable::format::{OpKind, SuperfileId};
use datafusion_supertable::unstable::storage::{RetryPolicy, Storage};
use datafusion_supertable::unstable::table::{
    CommitOutcome, CreateTable, Effect, Limits, Mutation, Snapshot, Table,
};
use datafusion_supertable::unstable::wal::{Env, ManualClock};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use roaring::RoaringBitmap;

use crate::support::fault_store::{FaultStore, Plan};

/// Live rows: label of the superfile, position.
pub(super) type Rows = BTreeSet<(String, u32)>;

/// The store that outlives every process, and the time.
pub(super) struct World {
    pub store: Arc<InMemory>,
    pub clock: ManualClock,
    seeds: std::sync::atomic::AtomicU64,
}

impl World {
    /// A table with superfiles a, b and c of ten rows each, of which a lacks 1 and 2.
    pub(super) async fn new() -> Self {
        let world = Self {
            store: Arc::new(InMemory::new()),
            clock: ManualClock::at_ms(1_700_000_000_000),
            seeds: 1.into(),
        };
        let spec = CreateTable {
            schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])),
            properties: BTreeMap::new(),
            defaults: Default::default(),
            sort_order: Vec::new(),
            keys: Vec::new(),
        };
        let storage = world.storage(&Plan::healthy());
        let table = Table::create(storage, world.env(), spec).await.unwrap();
        for label in ["a", "b", "c"] {
            committed(insert(&table, label, 10).await);
        }
        committed(delete(&table, &[("a", &[1, 2])]).await);
        table.settle().await;
        world
    }

    /// The same world, from here on another one.
    pub(super) fn fork(&self) -> Self {
        Self {
            store: Arc::new(self.store.fork()),
            clock: self.clock.clone(),
            seeds: self.seeds.load(std::sync::atomic::Ordering::SeqCst).into(),
        }
    }

    pub(super) fn env(&self) -> Env {
        let seed = self.seeds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Env::seeded(seed, self.clock.clone())
    }

    pub(super) fn storage(&self, plan: &Arc<Plan>) -> Storage {
        let store = FaultStore::new(
            Arc::clone(&self.store) as Arc<dyn ObjectStore>,
            Arc::clone(plan),
        );
        let policy = RetryPolicy {
            jitter_seed: Some(1),
            ..RetryPolicy::default()
        };
        Storage::new(Arc::new(store), &Path::default(), policy)
    }

    pub(super) async fn open(&self, plan: &Arc<Plan>) -> Result<Table> {
        Table::open(self.storage(plan), self.env()).await
    }

    pub(super) async fn open_with(&self, plan: &Arc<Plan>, limits: Limits) -> Result<Table> {
        Table::open_with(self.storage(plan), self.env(), limits).await
    }

    /// A process that finds nothing to recover when it opens, because it sees no WAL then.
    pub(super) async fn open_idle(&self, plan: &Arc<Plan>) -> Table {
        let hidden = self.paths("wal").await;
        let mut bodies = Vec::new();
        for path in hidden {
            let body = raw(self, &path).await.unwrap();
            self.store.delete(&path).await.unwrap();
            bodies.push((path, body));
        }
        let table = self.open(plan).await.unwrap();
        table.settle().await;
        for (path, body) in bodies {
            put_raw(self, &path, body).await;
        }
        table
    }

    /// A healthy process that has recovered.
    pub(super) async fn recovered(&self) -> Table {
        let table = self.open(&Plan::healthy()).await.unwrap();
        let report = table.recover().await.unwrap();
        assert!(report.failed.is_empty(), "{report:?}");
        table.settle().await;
        table
    }

    /// Long enough for every lease to expire.
    pub(super) fn let_leases_expire(&self) {
        self.clock.advance(TimeDelta::hours(1));
    }

    pub(super) async fn paths(&self, prefix: &str) -> Vec<Path> {
        self.store
            .list(Some(&Path::from(prefix)))
            .map_ok(|meta| meta.location)
            .try_collect()
            .await
            .unwrap()
    }

    /// Nothing is left of finished or dead mutations: no document, no object that no version names.
    pub(super) async fn assert_clean(&self, table: &Table) {
        let wal = self.paths("wal").await;
        assert!(wal.is_empty(), "left over: {wal:?}");
        let mut named = BTreeSet::new();
        let current = table.snapshot().await.unwrap();
        for version in 1..=current.version() {
            let snapshot = table.snapshot_at(version).await.unwrap().unwrap();
            for entry in snapshot.manifest().entries() {
                named.insert(paths::superfile(&entry.id));
                if let Some(tombstones) = &entry.tombstones {
                    named.insert(paths::sidecar(&tombstones.sidecar));
                }
            }
        }
        let there: BTreeSet<Path> = self.paths("superfiles").await.into_iter().collect();
        let orphans: Vec<_> = there.difference(&named).collect();
        let missing: Vec<_> = named.difference(&there).collect();
        assert!(orphans.is_empty(), "orphans: {orphans:?}");
        assert!(missing.is_empty(), "missing: {missing:?}");
    }
}

/// A superfile's object and entry, under the mutation's next id.
pub(super) async fn stage(
    table: &Table,
    mutation: &Mutation,
    label: &str,
    rows: u64,
) -> Result<SuperfileEntry> {
    mutation.durable().await?;
    let id = mutation.ids().superfile()?;
    let body = Bytes::from(format!("{label}:{rows}"));
    table
        .storage()
        .put_immutable(&paths::superfile(&id), body.clone())
        .await?;
    let row_ids = RowIds::Span(table.env().ids.row_span());
    let now = table.env().now_ms();
    Ok(SuperfileEntry::new(
        id,
        rows,
        body.len() as u64,
        now,
        row_ids,
    ))
}

/// Labels of a snapshot's superfiles.
pub(super) async fn labels(
    table: &Table,
    snapshot: &Snapshot,
) -> Result<BTreeMap<String, SuperfileId>> {
    let mut labels = BTreeMap::new();
    for entry in snapshot.manifest().entries() {
        let (body, _) = table
            .storage()
            .get(&paths::superfile(&entry.id))
            .await?
            .expect("a superfile of the current version is there");
        let body = String::from_utf8(body.to_vec()).unwrap();
        let (label, rows) = body.split_once(':').unwrap();
        assert_eq!(rows.parse::<u64>().unwrap(), entry.rows);
        let twice = labels.insert(label.to_owned(), entry.id);
        assert!(twice.is_none(), "superfile {label} is there twice");
    }
    Ok(labels)
}

/// The live rows of the current version.
pub(super) async fn rows(table: &Table) -> Rows {
    let snapshot = table.snapshot().await.unwrap();
    let mut rows = Rows::new();
    for (label, id) in labels(table, &snapshot).await.unwrap() {
        let entry = snapshot.manifest().get(&id).unwrap();
        let deleted = match &entry.tombstones {
            Some(tombstones) => snapshot.sidecars().positions(tombstones).await.unwrap(),
            None => Arc::default(),
        };
        rows.extend(
            (0..entry.rows as u32)
                .filter(|position| !deleted.contains(*position))
                .map(|position| (label.clone(), position)),
        );
    }
    assert_eq!(rows.len() as u64, snapshot.manifest().totals().live_rows);
    rows
}

/// The version and the rows affected of a statement that must have been committed.
#[track_caller]
pub(super) fn committed(outcome: Result<CommitOutcome>) -> (u64, u64) {
    match outcome {
        Ok(CommitOutcome::Committed {
            version,
            rows_affected,
            ..
        }) => (version, rows_affected),
        other => panic!("not committed: {other:?}"),
    }
}

pub(super) async fn insert(table: &Table, label: &str, rows: u64) -> Result<CommitOutcome> {
    let base = table.snapshot().await?;
    let mutation = table.begin(OpKind::Insert, base, format!("INSERT {label}"));
    let entry = stage(table, &mutation, label, rows).await?;
    mutation
        .commit(Effect {
            add: vec![entry],
            rows_inserted: rows,
            ..Effect::default()
        })
        .await
}

/// Positions to delete, per label, in terms of a snapshot.
pub(super) async fn targets(
    table: &Table,
    base: &Snapshot,
    what: &[(&str, &[u32])],
) -> Result<BTreeMap<SuperfileId, RoaringBitmap>> {
    let labels = labels(table, base).await?;
    Ok(what
        .iter()
        .filter_map(|(label, positions)| {
            let id = labels.get(*label)?;
            Some((*id, positions.iter().copied().collect()))
        })
        .collect())
}

pub(super) async fn delete(table: &Table, what: &[(&str, &[u32])]) -> Result<CommitOutcome> {
    let base = table.snapshot().await?;
    delete_from(table, base, what).await
}

pub(super) async fn delete_from(
    table: &Table,
    base: Arc<Snapshot>,
    what: &[(&str, &[u32])],
) -> Result<CommitOutcome> {
    let delete = targets(table, &base, what).await?;
    let rows_deleted = delete.values().map(RoaringBitmap::len).sum();
    let mutation = table.begin(OpKind::Delete, base, "DELETE".to_owned());
    mutation
        .commit(Effect {
            delete,
            rows_deleted,
            ..Effect::default()
        })
        .await
}

/// Moves rows into a new superfile.
pub(super) async fn update(
    table: &Table,
    what: &[(&str, &[u32])],
    label: &str,
) -> Result<CommitOutcome> {
    let base = table.snapshot().await?;
    update_from(table, base, what, label).await
}

pub(super) async fn update_from(
    table: &Table,
    base: Arc<Snapshot>,
    what: &[(&str, &[u32])],
    label: &str,
) -> Result<CommitOutcome> {
    let delete = targets(table, &base, what).await?;
    let rows: u64 = delete.values().map(RoaringBitmap::len).sum();
    let mutation = table.begin(OpKind::Update, base, "UPDATE".to_owned());
    let entry = stage(table, &mutation, label, rows).await?;
    mutation
        .commit(Effect {
            add: vec![entry],
            delete,
            rows_updated: rows,
            ..Effect::default()
        })
        .await
}

pub(super) async fn truncate(table: &Table) -> Result<CommitOutcome> {
    let base = table.snapshot().await?;
    let drop: Vec<_> = base.manifest().entries().map(|entry| entry.id).collect();
    let rows_deleted = base.manifest().totals().live_rows;
    let mutation = table.begin(OpKind::Truncate, base, "TRUNCATE".to_owned());
    mutation
        .commit(Effect {
            drop,
            rows_deleted,
            ..Effect::default()
        })
        .await
}

/// Ids of superfiles in the store.
pub(super) async fn superfiles(world: &World) -> Vec<SuperfileId> {
    world
        .paths("superfiles")
        .await
        .iter()
        .filter_map(|path| match paths::parse(path) {
            Some(ObjectName::Superfile(id)) => Some(id),
            _ => None,
        })
        .collect()
}

/// An object's bytes, past every process.
pub(super) async fn raw(world: &World, path: &Path) -> Option<Bytes> {
    match world.store.get(path).await {
        Ok(found) => Some(found.bytes().await.unwrap()),
        Err(_) => None,
    }
}

/// Writes an object past every process.
pub(super) async fn put_raw(world: &World, path: &Path, body: Bytes) {
    world.store.put(path, body.into()).await.unwrap();
}
