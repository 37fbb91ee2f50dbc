//! Owners that are slow, and requests that land late.

use std::time::Duration;

use chrono::TimeDelta;
use datafusion_supertable::ErrorKind;
use datafusion_supertable::unstable::format::{OpKind, StateDoc, WalState, paths};
use datafusion_supertable::unstable::table::Effect;

use super::world::{World, committed, insert, put_raw, raw, rows, stage, superfiles, truncate};
use crate::support::fault_store::{Crash, Plan};

#[tokio::test(start_paused = true)]
async fn an_owner_whose_lease_expired_is_undone_and_cannot_commit_any_more() {
    let world = World::new().await;
    let slow = world.recovered().await;
    let before = rows(&slow).await;
    let base = slow.snapshot().await.unwrap();
    let mutation = slow.begin(OpKind::Insert, base, "INSERT".into());
    let entry = stage(&slow, &mutation, "slow", 3).await.unwrap();
    let other = world.open(&Plan::healthy()).await.unwrap();
    other.settle().await;
    // No tokio time passes, so the owner does not renew: it is paused.
    world.clock.advance(TimeDelta::minutes(5));
    let report = other.recover().await.unwrap();
    assert_eq!(report.undone.len(), 1, "{report:?}");
    assert_eq!(superfiles(&world).await.len(), 3);
    let late = stage(&slow, &mutation, "late", 3).await.unwrap();
    let effect = Effect {
        add: vec![entry, late],
        rows_inserted: 6,
        ..Effect::default()
    };
    let error = mutation.commit(effect).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    slow.settle().await;
    let table = world.recovered().await;
    assert_eq!(rows(&table).await, before);
    world.assert_clean(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a_live_lease_is_left_alone() {
    let world = World::new().await;
    let table = world.recovered().await;
    let base = table.snapshot().await.unwrap();
    let mutation = table.begin(OpKind::Insert, base, "INSERT".into());
    let entry = stage(&table, &mutation, "mine", 3).await.unwrap();
    let other = world.open(&Plan::healthy()).await.unwrap();
    let report = other.recover().await.unwrap();
    assert_eq!(report.in_flight.len(), 1, "{report:?}");
    let effect = Effect {
        add: vec![entry],
        rows_inserted: 3,
        ..Effect::default()
    };
    committed(mutation.commit(effect).await);
    table.settle().await;
    world.assert_clean(&table).await;
}

/// A statement takes long, and others recover again and again, whose clocks are ahead or behind.
#[tokio::test(start_paused = true)]
async fn no_machine_whose_clock_is_wrong_undoes_a_live_statement() {
    for wrong in [
        TimeDelta::minutes(2),
        TimeDelta::hours(9),
        -TimeDelta::hours(9),
    ] {
        let world = World::new().await;
        let table = world.recovered().await;
        let base = table.snapshot().await.unwrap();
        let mutation = table.begin(OpKind::Insert, base, "INSERT".into());
        let entry = stage(&table, &mutation, "mine", 3).await.unwrap();
        world.clock.set_by(wrong);
        for _ in 0..5 {
            let other = world.open(&Plan::healthy()).await.unwrap();
            other.settle().await;
            let report = other.recover().await.unwrap();
            assert_eq!(report.in_flight.len(), 1, "{wrong}: {report:?}");
            assert!(report.is_empty(), "{wrong}: {report:?}");
            tokio::time::sleep(Duration::from_secs(200)).await;
            other.settle().await;
        }
        let effect = Effect {
            add: vec![entry],
            rows_inserted: 3,
            ..Effect::default()
        };
        committed(mutation.commit(effect).await);
        table.settle().await;
        world.assert_clean(&table).await;
    }
}

#[tokio::test(start_paused = true)]
async fn opening_undoes_what_a_dead_writer_left_within_a_lease_and_no_one_waits_for_it() {
    let world = World::new().await;
    let writer = world.recovered().await;
    let base = writer.snapshot().await.unwrap();
    let mutation = writer.begin(OpKind::Insert, base, "INSERT".into());
    stage(&writer, &mutation, "dead", 3).await.unwrap();
    // Here the writer does not live on.
    let world = world.fork();
    let started = tokio::time::Instant::now();
    let first = world.open(&Plan::healthy()).await.unwrap();
    first.settle().await;
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(superfiles(&world).await.len(), 4);
    tokio::time::sleep(Duration::from_secs(75)).await;
    assert_eq!(superfiles(&world).await.len(), 3);
    world.assert_clean(&first).await;
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_lands_after_its_mutation_ended_takes_nothing_away() {
    let world = World::new().await;
    let table = world.recovered().await;
    let base = table.snapshot().await.unwrap();
    let mutation = table.begin(OpKind::Insert, base, "INSERT".into());
    let entry = stage(&table, &mutation, "kept", 3).await.unwrap();
    let path = paths::wal_doc(&mutation.wal_id().unwrap());
    let intent = raw(&world, &path).await.unwrap();
    let effect = Effect {
        add: vec![entry],
        rows_inserted: 3,
        ..Effect::default()
    };
    committed(mutation.commit(effect).await);
    table.settle().await;
    // Later versions forget the mutation, because its document is gone.
    for i in 0..3 {
        committed(insert(&table, &format!("i{i}"), 1).await);
        table.settle().await;
    }
    let after = rows(&table).await;
    put_raw(&world, &path, intent).await;
    world.let_leases_expire();
    let table = world.recovered().await;
    assert_eq!(rows(&table).await, after);
    world.assert_clean(&table).await;
}

#[tokio::test(start_paused = true)]
async fn an_appended_document_that_lands_after_its_mutation_ended_is_not_applied_again() {
    let base = World::new().await;
    // Find the crash that leaves an APPENDED document: its objects are what lands again.
    for k in 1.. {
        let world = base.fork();
        let plan = Plan::crash(Crash::After(k));
        if let Ok(table) = world.open(&plan).await {
            table.settle().await;
            let _ = insert(&table, "once", 4).await;
            table.settle().await;
        }
        assert!(plan.crashed(), "no crash left an APPENDED document");
        let table = world.open(&Plan::healthy()).await.unwrap();
        let mut zombie = None;
        for id in table.wal().list_wal_ids().await.unwrap() {
            let (doc, _) = table.wal().read(&id).await.unwrap();
            if doc.state == WalState::Appended {
                let (doc, arrow) = (paths::wal_doc(&id), paths::wal_arrow(&id));
                zombie = Some((
                    (doc.clone(), raw(&world, &doc).await.unwrap()),
                    (arrow.clone(), raw(&world, &arrow).await.unwrap()),
                ));
            }
        }
        let Some((doc, arrow)) = zombie else { continue };
        table.settle().await;
        for i in 0..3 {
            committed(insert(&table, &format!("i{i}"), 1).await);
            table.settle().await;
        }
        let after = rows(&table).await;
        put_raw(&world, &doc.0, doc.1).await;
        put_raw(&world, &arrow.0, arrow.1).await;
        let table = world.recovered().await;
        assert_eq!(rows(&table).await, after);
        world.assert_clean(&table).await;
        return;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_set_without_a_document_goes_once_it_is_old() {
    let world = World::new().await;
    let table = world.recovered().await;
    let id = table.env().ids.wal_id();
    put_raw(&world, &paths::wal_arrow(&id), "x".into()).await;
    let started = tokio::time::Instant::now();
    assert_eq!(table.recover().await.unwrap().orphans, vec![id]);
    assert!(started.elapsed() >= Duration::from_secs(60));
    world.assert_clean(&table).await;
}

/// What is in an owner's way when it hears of its APPENDED document at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zombie {
    /// The first try of its INTENT.
    Intent,
    /// The same, and another process has taken it since.
    Taken,
}

/// An owner does not hear that it became APPENDED. Meanwhile others commit its mutation, end it and forget it, and
/// then the first try of its INTENT lands.
async fn an_intent_lands_late_while_its_owner_waits(zombie: Zombie) {
    let base = World::new().await;
    let mut met = 0;
    for k in 1.. {
        let world = base.fork();
        let plan = Plan::lost_answers_slowly([k], Duration::from_secs(1));
        let owner = world.open(&plan).await.unwrap();
        let statement = {
            let owner = owner.clone();
            tokio::spawn(async move { insert(&owner, "once", 4).await })
        };
        let mut intent = None;
        let appended = loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if statement.is_finished() {
                break false;
            }
            let Some(path) =
                (world.paths("wal").await.into_iter()).find(|path| path.as_ref().ends_with("json"))
            else {
                continue;
            };
            let bytes = raw(&world, &path).await.unwrap();
            match StateDoc::decode(&bytes).unwrap().state {
                WalState::Intent => intent = Some((path, bytes)),
                WalState::Appended => break true,
                WalState::Complete => break false,
            }
        };
        let mut expected = 4;
        if let (true, Some((path, mut bytes))) = (appended, intent) {
            met += 1;
            let other = world.recovered().await;
            if zombie == Zombie::Intent {
                committed(truncate(&other).await);
                expected = 0;
            }
            for i in 0..3 {
                committed(insert(&other, &format!("i{i}"), 1).await);
                other.settle().await;
            }
            assert!(raw(&world, &path).await.is_none());
            if zombie == Zombie::Taken {
                let mut doc = StateDoc::decode(&bytes).unwrap();
                doc.lease.as_mut().unwrap().owner = "another".to_owned();
                bytes = doc.encode().unwrap();
            }
            put_raw(&world, &path, bytes).await;
        }
        let (version, rows_affected) = committed(statement.await.unwrap());
        assert_eq!(rows_affected, 4);
        owner.settle().await;
        world.let_leases_expire();
        let table = world.recovered().await;
        let left = rows(&table).await;
        let once = left.iter().filter(|(label, _)| label == "once").count();
        assert_eq!(once, expected, "{k}: version {version}");
        world.assert_clean(&table).await;
        if plan.operations() < k {
            break;
        }
    }
    assert!(met > 3, "{met}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_becomes_appended_again_from_a_late_intent_is_not_committed_twice() {
    an_intent_lands_late_while_its_owner_waits(Zombie::Intent).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_finds_a_late_intent_taken_deletes_nothing_that_was_committed() {
    an_intent_lands_late_while_its_owner_waits(Zombie::Taken).await;
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_lands_again_after_it_was_undone_does_not_revive_its_mutation() {
    let world = World::new().await;
    let slow = world.recovered().await;
    let before = rows(&slow).await;
    let base = slow.snapshot().await.unwrap();
    let mutation = slow.begin(OpKind::Insert, base, "INSERT".into());
    let entry = stage(&slow, &mutation, "slow", 3).await.unwrap();
    let path = paths::wal_doc(&mutation.wal_id().unwrap());
    let intent = raw(&world, &path).await.unwrap();
    let other = world.open(&Plan::healthy()).await.unwrap();
    other.settle().await;
    world.let_leases_expire();
    other.recover().await.unwrap();
    assert!(raw(&world, &path).await.is_none());
    // What was staged is gone; another try of the document's creation lands only now.
    put_raw(&world, &path, intent).await;
    let effect = Effect {
        add: vec![entry],
        rows_inserted: 3,
        ..Effect::default()
    };
    let error = mutation.commit(effect).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    slow.settle().await;
    assert_eq!(rows(&other).await, before);
    world.let_leases_expire();
    let table = world.recovered().await;
    world.assert_clean(&table).await;
}
