//! Damaged objects: typed errors that name the object, and never in the way of what is sound.

use bytes::Bytes;
use chrono::TimeDelta;
use datafusion_supertable::unstable::format::{ContentHash, WalState, paths};
use datafusion_supertable::{Error, ErrorKind};

use super::world::{World, committed, delete, insert, put_raw, raw, rows};
use crate::support::fault_store::{Crash, Plan};

/// A world in which two processes died with APPENDED mutations, inserting "first" and "second".
async fn two_appended() -> World {
    let world = World::new().await;
    for label in ["first", "second"] {
        // Ids sort by time.
        world.clock.advance(TimeDelta::seconds(1));
        let healthy = world.fork();
        let plan = Plan::healthy();
        let table = healthy.open_idle(&plan).await;
        let opened = plan.operations();
        committed(insert(&table, label, 4).await);
        table.settle().await;
        let log = plan.log();
        let pointer = paths::pointer().to_string();
        let swing = log
            .iter()
            .rposition(|operation| operation.kind == "put" && operation.path == pointer)
            .unwrap() as u64
            + 1;
        assert!(swing > opened);
        let plan = Plan::crash(Crash::Before(swing));
        // As above, but it dies before the swing. Opening must not commit the other one's.
        let table = world.open_idle(&plan).await;
        assert!(insert(&table, label, 4).await.is_err());
        table.settle().await;
        assert!(plan.crashed());
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_damaged_document_is_reported_kept_and_in_nobodys_way() {
    for damaged_arrow in [false, true] {
        let world = two_appended().await;
        let probe = world.open_idle(&Plan::healthy()).await;
        let ids = probe.wal().list_wal_ids().await.unwrap();
        assert_eq!(ids.len(), 2);
        for id in &ids {
            let (doc, _) = probe.wal().read(id).await.unwrap();
            assert_eq!(doc.state, WalState::Appended);
        }
        let victim = if damaged_arrow {
            paths::wal_arrow(&ids[0])
        } else {
            paths::wal_doc(&ids[0])
        };
        let mut bytes = raw(&world, &victim).await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        put_raw(&world, &victim, Bytes::from(bytes)).await;
        world.let_leases_expire();
        let table = world.open(&Plan::healthy()).await.unwrap();
        table.settle().await;
        let report = table.recover().await.unwrap();
        let [(id, error)] = &report.failed[..] else {
            panic!("{report:?}")
        };
        assert_eq!((id, error.kind()), (&ids[0], ErrorKind::Corrupt));
        assert!(error.subject().contains(&ids[0].to_string()), "{error}");
        let now = rows(&table).await;
        assert!(now.iter().any(|(label, _)| label == "second"));
        assert!(!now.iter().any(|(label, _)| label == "first"));
        assert!(raw(&world, &victim).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_pointer_manifest_or_sidecar_is_an_error_that_names_it() {
    let base = World::new().await;
    let table = base.recovered().await;
    let snapshot = table.snapshot().await.unwrap();
    let entry = snapshot
        .manifest()
        .entries()
        .find(|e| e.tombstones.is_some())
        .unwrap();
    let sidecar = paths::sidecar(&entry.tombstones.as_ref().unwrap().sidecar);
    let leaf = snapshot.manifest().groups()[0].leaves()[0].hash().unwrap();
    let root: ContentHash = snapshot.root();
    for victim in [
        paths::pointer(),
        paths::manifest_node(&root),
        paths::manifest_node(&leaf),
        sidecar.clone(),
    ] {
        let bytes = raw(&base, &victim).await.unwrap();
        for at in 0..bytes.len() {
            let world = base.fork();
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            put_raw(&world, &victim, Bytes::from(damaged)).await;
            let error: Error = match world.open(&Plan::healthy()).await {
                Err(error) => error,
                Ok(table) => {
                    assert_eq!(victim, sidecar);
                    let snapshot = table.snapshot().await.unwrap();
                    let entry = snapshot.manifest().get(&entry.id).unwrap();
                    snapshot
                        .sidecars()
                        .positions(entry.tombstones.as_ref().unwrap())
                        .await
                        .unwrap_err()
                }
            };
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Corrupt | ErrorKind::UnsupportedVersion
                ),
                "byte {at} of {victim}: {error}"
            );
            assert_eq!(error.subject(), victim.to_string());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_on_a_damaged_sidecar_fails_and_others_go_on() {
    let world = World::new().await;
    let probe = world.recovered().await;
    let snapshot = probe.snapshot().await.unwrap();
    let entry = snapshot
        .manifest()
        .entries()
        .find(|e| e.tombstones.is_some())
        .unwrap();
    let sidecar = paths::sidecar(&entry.tombstones.as_ref().unwrap().sidecar);
    put_raw(&world, &sidecar, Bytes::from_static(b"damaged")).await;
    let table = world.recovered().await;
    let error = delete(&table, &[("a", &[5])]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.subject()),
        (ErrorKind::Corrupt, sidecar.as_ref())
    );
    committed(delete(&table, &[("b", &[5])]).await);
    table.settle().await;
    assert!(world.paths("wal").await.is_empty());
}
