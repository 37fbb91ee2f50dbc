//! What it costs to go to an older version: reads that grow with the logarithm of the distance.

use std::sync::Arc;

use datafusion_supertable::ErrorKind;
use datafusion_supertable::unstable::format::manifest::{
    ManifestEdit, ManifestHeader, check_successor,
};
use datafusion_supertable::unstable::format::{Pointer, paths};
use datafusion_supertable::unstable::table::{Moment, Table, VacuumOptions};

use super::world::{World, put_raw, rows};
use crate::support::fault_store::Plan;

/// The newest version.
const VERSIONS: u64 = 6_000;

/// A table of so many versions, ten milliseconds apart, made without statements.
async fn long_history() -> World {
    let world = World::new().await;
    let table = world.recovered().await;
    let tip = table.snapshot().await.unwrap();
    let (mut manifest, mut root) = (tip.manifest().clone(), tip.root());
    while manifest.version() < VERSIONS {
        let old = manifest.header();
        let header = ManifestHeader {
            version: old.version + 1,
            parent: Some(root),
            skips: old.skips_after(root).unwrap(),
            created_at_ms: old.created_at_ms + 10,
            commits: Vec::new(),
            pending: Vec::new(),
            ..old.clone()
        };
        let next = ManifestEdit::default().apply(&manifest, header).unwrap();
        let encoded = next.encode().unwrap();
        check_successor(&manifest, &next).unwrap();
        next.mark_persisted();
        for (hash, bytes) in encoded.new_nodes {
            put_raw(&world, &paths::manifest_node(&hash), bytes).await;
        }
        (manifest, root) = (next, encoded.root);
    }
    let pointer = Pointer {
        table_id: manifest.header().metadata.table_id,
        version: VERSIONS,
        manifest: root,
        nonce: table.env().ids.nonce(),
        new_nodes: Vec::new(),
        claim: None,
    };
    put_raw(&world, &paths::pointer(), pointer.encode().unwrap()).await;
    world
}

/// A process that knows only the current version; its plan counts from now on.
async fn fresh(world: &World) -> (Table, Arc<Plan>, usize) {
    let plan = Plan::healthy();
    let table = world.open(&plan).await.unwrap();
    table.settle().await;
    let before = plan.log().len();
    (table, plan, before)
}

#[tokio::test(start_paused = true)]
async fn any_version_or_moment_of_thousands_takes_few_reads() {
    let world = long_history().await;
    let (table, ..) = fresh(&world).await;
    let oldest = table.snapshot_at(1).await.unwrap().unwrap();
    let newest = table.snapshot().await.unwrap();
    let created = |snapshot: &datafusion_supertable::unstable::table::Snapshot| {
        snapshot.manifest().header().created_at_ms
    };
    assert_eq!(oldest.version(), 1);
    // The first of those that were made without statements.
    let base = created(&newest) - 10 * (VERSIONS as i64 - 5);
    let mut most = 0;
    for wanted in [
        1, 2, 17, 63, 64, 65, 1_023, 1_904, 3_000, 4_097, 5_990, 5_999,
    ] {
        for by_time in [false, true] {
            if by_time && wanted < 6 {
                continue;
            }
            let moment = match by_time {
                false => Moment::Version(wanted),
                true => Moment::Time(base + 10 * (wanted as i64 - 5) + 3),
            };
            let (table, plan, before) = fresh(&world).await;
            let found = table.snapshot_of(moment).await.unwrap();
            assert_eq!(found.version(), wanted, "{moment:?}");
            let log = plan.log();
            assert!(
                log[before..]
                    .iter()
                    .all(|operation| operation.kind == "get")
            );
            let reads = log.len() - before;
            assert!(reads <= 45, "{moment:?}: {reads} reads");
            most = most.max(reads);
        }
        let (table, plan, before) = fresh(&world).await;
        let found = table.snapshot_at(wanted).await.unwrap().unwrap();
        assert_eq!(found.version(), wanted);
        assert!(plan.log().len() - before <= 45);
    }
    println!("of {VERSIONS} versions, each takes {most} reads at most");
    let (table, plan, before) = fresh(&world).await;
    let error = table.snapshot_of(Moment::Time(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("versions 1 to 6000"), "{error}");
    assert!(plan.log().len() - before <= 90);
}

#[tokio::test(start_paused = true)]
async fn what_a_vacuum_cut_is_out_of_reach_also_by_skip_pointers() {
    let world = long_history().await;
    let (table, ..) = fresh(&world).await;
    let now = rows(&table).await;
    world.let_leases_expire();
    // The current version and nothing else.
    let options = VacuumOptions {
        retain: std::time::Duration::ZERO,
        dry_run: false,
    };
    table.vacuum(options).await.unwrap();
    assert_eq!(world.paths("_supertable/manifest").await.len(), 3);
    for wanted in [1, 64, 4_096, 5_000, 5_999] {
        let (table, plan, before) = fresh(&world).await;
        let error = table
            .snapshot_of(Moment::Version(wanted))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("only version 6000"), "{error}");
        assert!(plan.log().len() - before <= 30);
    }
    assert_eq!(rows(&fresh(&world).await.0).await, now);
}
