//! What a statement costs: requests, and how many of them wait for one another.

use std::sync::Arc;
use std::time::Duration;

use datafusion_supertable::unstable::format::{OpKind, paths};
use datafusion_supertable::unstable::table::Effect;

use super::world::{World, committed, insert, targets};
use crate::support::fault_store::Plan;

const LATENCY: Duration = Duration::from_millis(50);

fn trips(since: tokio::time::Instant) -> u128 {
    since.elapsed().as_millis() / LATENCY.as_millis()
}

#[tokio::test(start_paused = true)]
async fn a_point_delete_takes_five_round_trips() {
    let world = World::new().await;
    let plan = Plan::with_latency(LATENCY);
    let table = world.open(&plan).await.unwrap();
    table.settle().await;
    let warm = table.snapshot().await.unwrap();
    // Planning knows which superfile it is; the labels are the test's way to find it.
    let victims = targets(&table, &warm, &[("b", &[4])]).await.unwrap();
    let superfile = *victims.keys().next().unwrap();
    let before = plan.log().len();
    let start = tokio::time::Instant::now();
    let base = table.snapshot().await.unwrap();
    assert_eq!(trips(start), 1);
    let mutation = table.begin(OpKind::Delete, base, "DELETE".into());
    // The scan reads beside the upload of the INTENT document.
    table
        .storage()
        .get(&paths::superfile(&superfile))
        .await
        .unwrap();
    assert_eq!(trips(start), 2);
    let effect = Effect {
        delete: victims,
        rows_deleted: 1,
        ..Effect::default()
    };
    committed(mutation.commit(effect).await);
    assert_eq!(trips(start), 5);
    table.settle().await;
    let log = plan.log();
    println!("point delete: 5 round trips, then two more in the background");
    for operation in &log[before..] {
        println!(
            "  {:6} {} ({} bytes)",
            operation.kind, operation.path, operation.bytes
        );
    }
    let bytes: usize = log[before..].iter().map(|operation| operation.bytes).sum();
    assert!(bytes < 20_000, "{bytes} bytes written");
    assert!(
        log[before..]
            .iter()
            .all(|operation| operation.kind != "list")
    );
    // INTENT, sidecar, change set, three manifest nodes, APPENDED, pointer; COMPLETE and two deletes.
    let kinds: Vec<_> = log[before + 2..]
        .iter()
        .map(|operation| operation.kind)
        .collect();
    assert_eq!(kinds, [vec!["put"; 9], vec!["delete"; 2]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_second_delete_in_the_same_superfile_costs_the_same() {
    let world = World::new().await;
    let plan = Plan::with_latency(LATENCY);
    let table = world.open(&plan).await.unwrap();
    table.settle().await;
    for position in [4, 5, 6] {
        let base = table.snapshot().await.unwrap();
        let delete = targets(&table, &base, &[("b", &[position])]).await.unwrap();
        let start = tokio::time::Instant::now();
        let mutation = table.begin(OpKind::Delete, base, "DELETE".into());
        mutation.durable().await.unwrap();
        committed(
            mutation
                .commit(Effect {
                    delete,
                    rows_deleted: 1,
                    ..Effect::default()
                })
                .await,
        );
        // INTENT, uploads, APPENDED, pointer: the union with the sidecar in force needs no read.
        assert_eq!(trips(start), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_table_costs_one_conditional_request() {
    let world = World::new().await;
    let plan = Plan::healthy();
    let table = world.open(&plan).await.unwrap();
    table.settle().await;
    let before = plan.operations();
    let first = table.snapshot().await.unwrap();
    let second = table.snapshot().await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(plan.operations() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn another_processes_version_costs_one_round_trip_more() {
    let world = World::new().await;
    let other = world.recovered().await;
    let table = world.open(&Plan::with_latency(LATENCY)).await.unwrap();
    table.settle().await;
    committed(insert(&other, "meanwhile", 3).await);
    let start = tokio::time::Instant::now();
    let snapshot = table.snapshot().await.unwrap();
    // The pointer, which names root, group and leaf: side by side.
    assert_eq!(trips(start), 2);
    assert_eq!(snapshot.manifest().entries().count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_document_that_just_lies_there_slows_nobody_down() {
    let world = World::new().await;
    let other = world.recovered().await;
    let base = other.snapshot().await.unwrap();
    let long = other.begin(OpKind::Insert, base, "a long statement".into());
    long.durable().await.unwrap();
    world.clock.advance(chrono::TimeDelta::seconds(10));
    let table = world.open(&Plan::with_latency(LATENCY)).await.unwrap();
    table.settle().await;
    let mut taken = Vec::new();
    for position in [4, 5, 6] {
        let base = table.snapshot().await.unwrap();
        let delete = targets(&table, &base, &[("b", &[position])]).await.unwrap();
        let mutation = table.begin(OpKind::Delete, base, "DELETE".into());
        mutation.durable().await.unwrap();
        if position == 4 {
            // Loses the pointer, and minds others from here on.
            committed(insert(&other, "meanwhile", 3).await);
        }
        let start = tokio::time::Instant::now();
        let effect = Effect {
            delete,
            rows_deleted: 1,
            ..Effect::default()
        };
        committed(mutation.commit(effect).await);
        taken.push(trips(start));
        table.settle().await;
    }
    // The second still looks whether the other process is back.
    assert_eq!(taken[2], 3, "{taken:?}");
    long.abort().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_loser_of_the_pointer_takes_few_round_trips_more() {
    let world = World::new().await;
    let other = world.recovered().await;
    let plan = Plan::with_latency(LATENCY);
    let table = world.open(&plan).await.unwrap();
    table.settle().await;
    let base = table.snapshot().await.unwrap();
    let delete = targets(&table, &base, &[("b", &[4])]).await.unwrap();
    let mutation = table.begin(OpKind::Delete, base, "DELETE".into());
    mutation.durable().await.unwrap();
    committed(insert(&other, "meanwhile", 3).await);
    other.settle().await;
    let start = tokio::time::Instant::now();
    committed(
        mutation
            .commit(Effect {
                delete,
                rows_deleted: 1,
                ..Effect::default()
            })
            .await,
    );
    let taken = trips(start);
    println!("a loser: {taken} round trips from the effect to the answer");
    // Uploads, APPENDED, lost pointer and its read back; its nodes beside the document and the list of
    // others; theirs; uploads, pointer.
    assert!(taken <= 9, "{taken}");
}
