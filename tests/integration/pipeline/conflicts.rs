//! Statements that meet on the same rows, and effects that are empty.

use std::sync::Arc;

use datafusion_supertable::unstable::format::OpKind;
use datafusion_supertable::unstable::table::{CommitOutcome, Effect};

use super::world::{
    World, committed, delete, delete_from, insert, rows, stage, targets, truncate, update,
    update_from,
};
use crate::support::fault_store::Plan;

#[tokio::test(start_paused = true)]
async fn disjoint_deletes_of_one_superfile_merge() {
    let world = World::new().await;
    let (a, b) = (world.recovered().await, world.recovered().await);
    let base = a.snapshot().await.unwrap();
    committed(delete_from(&a, Arc::clone(&base), &[("b", &[0])]).await);
    let (_, affected) = committed(delete_from(&b, base, &[("b", &[1, 2])]).await);
    assert_eq!(affected, 2);
    let left = rows(&a)
        .await
        .iter()
        .filter(|(label, _)| label == "b")
        .count();
    assert_eq!(left, 7);
    a.settle().await;
    b.settle().await;
    world.assert_clean(&a).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_a_row_already_gone_counts_zero() {
    let world = World::new().await;
    let (a, b) = (world.recovered().await, world.recovered().await);
    let base = a.snapshot().await.unwrap();
    committed(delete_from(&a, Arc::clone(&base), &[("b", &[0, 1])]).await);
    let (_, affected) = committed(delete_from(&b, Arc::clone(&base), &[("b", &[1, 2])]).await);
    assert_eq!(affected, 1);
    let outcome = delete_from(&b, base, &[("b", &[0, 1, 2])]).await.unwrap();
    assert_eq!(outcome, CommitOutcome::NothingToCommit);
    a.settle().await;
    b.settle().await;
    world.assert_clean(&a).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_updates_of_a_row_the_second_conflicts_and_leaves_nothing() {
    let world = World::new().await;
    let (a, b) = (world.recovered().await, world.recovered().await);
    let base = a.snapshot().await.unwrap();
    committed(update_from(&a, Arc::clone(&base), &[("b", &[0])], "first").await);
    // Another process that has not heard of it: the conflict is found after APPENDED.
    let outcome = update_from(&b, Arc::clone(&base), &[("b", &[0, 1])], "second").await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Conflict(_))),
        "{outcome:?}"
    );
    // The same process, which knows before.
    let outcome = update_from(&a, base, &[("b", &[0, 1])], "third").await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Conflict(_))),
        "{outcome:?}"
    );
    a.settle().await;
    b.settle().await;
    let labels: Vec<_> = rows(&a).await.into_iter().map(|(label, _)| label).collect();
    assert!(labels.contains(&"first".to_owned()) && !labels.contains(&"second".to_owned()));
    world.assert_clean(&a).await;
}

#[tokio::test(start_paused = true)]
async fn two_conflicting_updates_that_are_ready_together_commit_one() {
    let world = World::new().await;
    let plan = Plan::with_latency(std::time::Duration::from_millis(20));
    let table = world.open(&plan).await.unwrap();
    table.settle().await;
    let base = table.snapshot().await.unwrap();
    let run = |label: &'static str| update_from(&table, Arc::clone(&base), &[("b", &[4])], label);
    // The first leads alone; the second and third meet in its next turn.
    let outcomes = tokio::join!(insert(&table, "i", 1), run("x"), run("y"), run("z"));
    committed(outcomes.0);
    let all = [
        outcomes.1.unwrap(),
        outcomes.2.unwrap(),
        outcomes.3.unwrap(),
    ];
    let won = all
        .iter()
        .filter(|o| matches!(o, CommitOutcome::Committed { .. }))
        .count();
    let conflicts = all
        .iter()
        .filter(|o| matches!(o, CommitOutcome::Conflict(_)))
        .count();
    assert_eq!((won, conflicts), (1, 2));
    table.settle().await;
    world.assert_clean(&table).await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_effect_commits_nothing_and_leaves_nothing() {
    let world = World::new().await;
    let table = world.recovered().await;
    let base = table.snapshot().await.unwrap();
    let mutation = table.begin(OpKind::Delete, Arc::clone(&base), "DELETE".into());
    let outcome = mutation.commit(Effect::default()).await.unwrap();
    assert_eq!(outcome, CommitOutcome::NothingToCommit);
    // Rows that the snapshot has deleted already.
    let mutation = table.begin(OpKind::Delete, Arc::clone(&base), "DELETE".into());
    mutation.durable().await.unwrap();
    let effect = Effect {
        delete: targets(&table, &base, &[("a", &[1, 2])]).await.unwrap(),
        rows_deleted: 2,
        ..Effect::default()
    };
    let outcome = mutation.commit(effect).await.unwrap();
    assert_eq!(outcome, CommitOutcome::NothingToCommit);
    table.settle().await;
    assert_eq!(table.snapshot().await.unwrap().version(), base.version());
    world.assert_clean(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_or_aborted_mutation_leaves_nothing() {
    let world = World::new().await;
    let table = world.recovered().await;
    let base = table.snapshot().await.unwrap();
    for abort in [false, true] {
        let mutation = table.begin(OpKind::Insert, Arc::clone(&base), "INSERT".into());
        stage(&table, &mutation, "never", 3).await.unwrap();
        if abort {
            mutation.abort().await.unwrap();
        } else {
            drop(mutation);
        }
    }
    table.settle().await;
    world.assert_clean(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_dropped_at_any_moment_happens_wholly_or_not_at_all() {
    let base = World::new().await;
    let latency = std::time::Duration::from_millis(10);
    let (mut cancelled, mut finished) = (0, 0);
    for ms in 0..60 {
        let world = base.fork();
        let table = world.open(&Plan::with_latency(latency)).await.unwrap();
        table.settle().await;
        let before = rows(&table).await;
        let statement = insert(&table, "new", 3);
        let _ = tokio::time::timeout(std::time::Duration::from_millis(ms), statement).await;
        table.settle().await;
        let now = rows(&table).await;
        let new = now.len() - before.len();
        assert!(new == 0 || new == 3, "{new} rows after {ms} ms");
        *(if new == 0 {
            &mut cancelled
        } else {
            &mut finished
        }) += 1;
        world.assert_clean(&table).await;
    }
    assert!(cancelled > 0 && finished > 0);
}

#[tokio::test(start_paused = true)]
async fn deleting_every_row_of_a_superfile_drops_it() {
    let world = World::new().await;
    let table = world.recovered().await;
    committed(delete(&table, &[("b", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])]).await);
    let snapshot = table.snapshot().await.unwrap();
    assert_eq!(snapshot.manifest().totals().superfiles, 2);
    let (_, affected) = committed(truncate(&table).await);
    assert_eq!(affected, 18);
    assert!(rows(&table).await.is_empty());
    table.settle().await;
    world.assert_clean(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_does_not_change_while_others_commit() {
    let world = World::new().await;
    let table = world.recovered().await;
    let pinned = table.snapshot().await.unwrap();
    let live = pinned.manifest().totals().live_rows;
    committed(delete(&table, &[("a", &[5, 6])]).await);
    committed(update(&table, &[("b", &[5, 6])], "u").await);
    assert_eq!(pinned.manifest().totals().live_rows, live);
    let again = table.snapshot_at(pinned.version()).await.unwrap().unwrap();
    assert_eq!(again.root(), pinned.root());
    for entry in again.manifest().entries() {
        if let Some(tombstones) = &entry.tombstones {
            assert_eq!(
                again.sidecars().positions(tombstones).await.unwrap().len(),
                2
            );
        }
    }
}
