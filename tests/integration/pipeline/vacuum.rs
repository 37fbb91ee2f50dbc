//! Vacuum: what it leaves, what it keeps for whom, and that it disturbs nobody, wherever it meets them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use datafusion_supertable::unstable::format::paths;
use datafusion_supertable::unstable::format::{OpKind, SuperfileId};
use datafusion_supertable::unstable::table::{
    CommitOutcome, Effect, Snapshot, Table, VacuumOptions,
};
use datafusion_supertable::{ErrorKind, Result};
use object_store::path::Path;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::world::{
    World, committed, delete, insert, labels, put_raw, raw, rows, stage, truncate, update,
};
use crate::support::fault_store::{Crash, Plan};

const NOTHING_RETAINED: VacuumOptions = VacuumOptions {
    retain: Duration::ZERO,
    dry_run: false,
};

/// Every object that a version needs.
fn needed(snapshot: &Snapshot) -> BTreeSet<Path> {
    let manifest = snapshot.manifest();
    let mut needed = BTreeSet::from([paths::manifest_node(&snapshot.root())]);
    for group in manifest.groups() {
        needed.insert(paths::manifest_node(&group.hash().unwrap()));
        for leaf in group.leaves() {
            needed.insert(paths::manifest_node(&leaf.hash().unwrap()));
        }
    }
    for entry in manifest.entries() {
        needed.insert(paths::superfile(&entry.id));
        needed.extend(entry.tombstones.map(|t| paths::sidecar(&t.sidecar)));
    }
    needed
}

async fn objects(world: &World) -> BTreeSet<Path> {
    world.paths("").await.into_iter().collect()
}

/// The pointer and what the current version needs, and nothing else.
async fn assert_only_the_current_version(world: &World, table: &Table) {
    let mut expected = needed(&table.snapshot().await.unwrap());
    expected.insert(paths::pointer());
    assert_eq!(objects(world).await, expected);
}

/// A table with some versions behind it.
async fn with_history(world: &World) -> Table {
    let table = world.open(&Plan::healthy()).await.unwrap();
    committed(update(&table, &[("a", &[3, 4])], "d").await);
    committed(delete(&table, &[("b", &[0, 1, 2])]).await);
    committed(delete(&table, &[("b", &[3])]).await);
    committed(insert(&table, "e", 4).await);
    committed(delete(&table, &[("e", &[0, 1, 2, 3])]).await);
    table.settle().await;
    table
}

#[tokio::test(start_paused = true)]
async fn retaining_nothing_leaves_the_current_version_alone() {
    let world = World::new().await;
    let table = with_history(&world).await;
    let before = rows(&table).await;
    let version = table.snapshot().await.unwrap().version();
    let there = objects(&world).await;

    let dry = VacuumOptions {
        dry_run: true,
        ..NOTHING_RETAINED
    };
    let mut announced = table.vacuum(dry).await.unwrap();
    assert_eq!(objects(&world).await, there);
    let report = table.vacuum(NOTHING_RETAINED).await.unwrap();
    announced.dry_run = false;
    assert_eq!(announced, report);
    assert!(report.superfiles.objects >= 1 && report.sidecars.objects >= 2);
    assert_eq!(
        (report.oldest_version, report.current_version),
        (version, version)
    );
    assert_only_the_current_version(&world, &table).await;
    assert_eq!(
        there.len() as u64 - report.removed().objects,
        objects(&world).await.len() as u64
    );

    for table in [table, world.open(&Plan::healthy()).await.unwrap()] {
        assert_eq!(rows(&table).await, before);
        assert!(table.snapshot_at(version - 1).await.unwrap().is_none());
        let again = table.vacuum(NOTHING_RETAINED).await.unwrap();
        assert_eq!(again.removed().objects, 0);
        committed(insert(&table, "f", 1).await);
        committed(delete(&table, &[("f", &[0])]).await);
        table.settle().await;
        table.vacuum(NOTHING_RETAINED).await.unwrap();
        assert_only_the_current_version(&world, &table).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_stays_as_long_as_someone_may_have_opened_it_within_the_retention() {
    let world = World::new().await;
    // Ahead of the store's clock, which stamps the objects.
    world.clock.advance(TimeDelta::days(10_000));
    let table = world.open(&Plan::healthy()).await.unwrap();
    committed(insert(&table, "first", 1).await);
    let first = table.snapshot().await.unwrap();
    // It is current for nine days, and old for six.
    world.clock.advance(TimeDelta::days(9));
    committed(delete(&table, &[("a", &[5])]).await);
    committed(update(&table, &[("b", &[5])], "d").await);
    committed(truncate(&table).await);
    table.settle().await;
    world.clock.advance(TimeDelta::days(6));
    let report = table.vacuum(VacuumOptions::default()).await.unwrap();
    assert_eq!(report.oldest_version, first.version());
    assert!(needed(&first).is_subset(&objects(&world).await));
    let reader = world.open(&Plan::healthy()).await.unwrap();
    let old = reader.snapshot_at(first.version()).await.unwrap().unwrap();
    assert_eq!(labels(&reader, &old).await.unwrap().len(), 4);
    assert!(
        reader
            .snapshot_at(first.version() - 1)
            .await
            .unwrap()
            .is_none()
    );

    world.clock.advance(TimeDelta::days(2));
    let report = table.vacuum(VacuumOptions::default()).await.unwrap();
    assert_eq!(report.oldest_version, report.current_version);
    assert_only_the_current_version(&world, &table).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_live_statement_has_staged_and_what_it_reads_stay() {
    let world = World::new().await;
    let (writer, other) = (
        world.open(&Plan::healthy()).await.unwrap(),
        world.open(&Plan::healthy()).await.unwrap(),
    );
    let base = writer.snapshot().await.unwrap();
    let mutation = writer.begin(OpKind::Insert, Arc::clone(&base), "INSERT".to_owned());
    let entry = stage(&writer, &mutation, "new", 5).await.unwrap();
    committed(truncate(&other).await);
    other.settle().await;
    let report = other.vacuum(NOTHING_RETAINED).await.unwrap();
    assert_eq!(report.in_flight.objects, 1);
    assert_eq!(report.oldest_version, base.version());
    assert!(needed(&base).is_subset(&objects(&world).await));
    committed(
        mutation
            .commit(Effect {
                add: vec![entry],
                rows_inserted: 5,
                ..Effect::default()
            })
            .await,
    );
    assert_eq!(rows(&writer).await.len(), 5);
    writer.settle().await;
    writer.vacuum(NOTHING_RETAINED).await.unwrap();
    assert_only_the_current_version(&world, &writer).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_writer_left_goes_with_its_document() {
    let base = World::new().await;
    for k in 1.. {
        let world = base.fork();
        let plan = Plan::crash(Crash::After(k));
        if let Ok(table) = world.open(&plan).await {
            let _ = update(&table, &[("a", &[5]), ("b", &[6, 7])], "new").await;
            table.settle().await;
        }
        if !plan.crashed() {
            break;
        }
        world.let_leases_expire();
        let table = world.open(&Plan::healthy()).await.unwrap();
        table.vacuum(NOTHING_RETAINED).await.unwrap();
        let now = rows(&table).await;
        table.settle().await;
        table.vacuum(NOTHING_RETAINED).await.unwrap();
        assert_eq!(rows(&table).await, now);
        assert_only_the_current_version(&world, &table).await;
    }
}

#[tokio::test(start_paused = true)]
async fn foreign_objects_stay_and_unused_ones_go_only_when_they_are_old() {
    let world = World::new().await;
    let table = with_history(&world).await;
    let foreign = Path::from("superfiles/README.txt");
    put_raw(&world, &foreign, Bytes::from_static(b"not ours")).await;
    let orphan = paths::superfile(&SuperfileId::from_uuid(Uuid::from_u128(7)));
    put_raw(&world, &orphan, Bytes::from_static(b"of nobody")).await;
    // The store's clock says that they are of today; the table's is years behind.
    let report = table.vacuum(VacuumOptions::default()).await.unwrap();
    assert!(report.young.objects >= 1);
    assert!(raw(&world, &orphan).await.is_some());
    table.vacuum(NOTHING_RETAINED).await.unwrap();
    assert!(raw(&world, &orphan).await.is_none());
    assert!(raw(&world, &foreign).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_document_that_cannot_be_read_keeps_what_it_may_be_about() {
    let world = World::new().await;
    let table = with_history(&world).await;
    let id = table.env().ids.wal_id();
    put_raw(&world, &paths::wal_doc(&id), Bytes::from_static(b"{")).await;
    let before = objects(&world).await;
    let report = table.vacuum(NOTHING_RETAINED).await.unwrap();
    assert_eq!(report.unreadable_documents, 1);
    let after = objects(&world).await;
    // All that went is the roots at which the history is cut: those that the current version names.
    let current = table.snapshot().await.unwrap();
    let cut: BTreeSet<Path> = current
        .manifest()
        .header()
        .ancestors()
        .iter()
        .map(|(_, root)| paths::manifest_node(root))
        .collect();
    let gone: BTreeSet<Path> = before.difference(&after).cloned().collect();
    assert_eq!(gone, cut);
    assert_eq!(report.removed().objects, cut.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_vacuum_that_dies_anywhere_leaves_no_reachable_version_that_lacks_an_object() {
    let base = World::new().await;
    drop(with_history(&base).await);
    let expected = rows(&base.open(&Plan::healthy()).await.unwrap()).await;
    for crash in [Crash::Before as fn(u64) -> Crash, Crash::After] {
        for k in 1.. {
            let world = base.fork();
            let plan = Plan::crash(crash(k));
            if let Ok(table) = world.open(&plan).await {
                table.settle().await;
                let _ = table.vacuum(NOTHING_RETAINED).await;
                table.settle().await;
            }
            if !plan.crashed() {
                assert!(k > 10);
                break;
            }
            let table = world.open(&Plan::healthy()).await.unwrap();
            let current = table.snapshot().await.unwrap().version();
            let there = objects(&world).await;
            for version in 1..=current {
                if let Some(reachable) = table.snapshot_at(version).await.unwrap() {
                    assert!(
                        needed(&reachable).is_subset(&there),
                        "{k}: version {version}"
                    );
                }
            }
            assert_eq!(rows(&table).await, expected);
            table.vacuum(NOTHING_RETAINED).await.unwrap();
            assert_only_the_current_version(&world, &table).await;
        }
    }
}

/// How statements may fail while nothing is retained.
const EXPECTED: [ErrorKind; 3] = [
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::OutcomeUnknown,
];

/// A process that writes: statements of all kinds, some of which conflict with the other writer's.
async fn writer(table: Table, seed: u64, name: &str) -> Result<usize> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut done = 0;
    for n in 0..5 {
        let label = format!("{name}{n}");
        let at = rng.random_range(0..8);
        let outcome = match rng.random_range(0..10) {
            0..3 => insert(&table, &label, 3).await,
            3..6 => delete(&table, &[("a", &[at, at + 1]), ("b", &[at])]).await,
            6..9 => update(&table, &[("b", &[at]), ("c", &[at])], &label).await,
            _ => delete(&table, &[("c", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])]).await,
        };
        match outcome {
            Ok(CommitOutcome::Committed { .. }) => done += 1,
            Ok(_) => {}
            // A statement that begins on a version which is vacuumed at once finds its files gone.
            // And one that a vacuum's recovery finds to conflict, it undoes.
            // One that another process committed finds the versions gone that would say so.
            Err(error) if EXPECTED.contains(&error.kind()) => {}
            Err(error) => return Err(error),
        }
    }
    table.settle().await;
    Ok(done)
}

#[tokio::test(start_paused = true)]
async fn wherever_vacuums_and_writers_meet_no_version_loses_an_object() {
    let base = World::new().await;
    let (mut statements, mut removed) = (0, 0);
    for seed in 0..150 {
        let world = base.fork();
        let open = async |n: u64| world.open(&Plan::jittered(seed * 10 + n)).await.unwrap();
        let (a, b, v, w) = (open(1).await, open(2).await, open(3).await, open(4).await);
        let vacuums = async |table: &Table| {
            let mut removed = 0;
            for _ in 0..4 {
                match table.vacuum(NOTHING_RETAINED).await {
                    Ok(report) => removed += report.removed().objects,
                    // The other vacuum deleted a version that this one was about to mark.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
            removed
        };
        let (x, y, z, q) = futures::join!(
            writer(a, seed, "x"),
            writer(b, seed + 1_000, "y"),
            vacuums(&v),
            vacuums(&w)
        );
        statements += x.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        statements += y.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        removed += z + q;
        let table = world.recovered().await;
        let there = objects(&world).await;
        let current = table.snapshot().await.unwrap();
        let missing: Vec<_> = needed(&current).difference(&there).cloned().collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?}");
        rows(&table).await;
        table.vacuum(NOTHING_RETAINED).await.unwrap();
        assert_only_the_current_version(&world, &table).await;
    }
    assert!(
        statements > 500 && removed > 1_000,
        "{statements} {removed}"
    );
}
