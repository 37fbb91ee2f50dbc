//! Restores: every version comes back exactly, whatever else goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion_supertable::ErrorKind;
use datafusion_supertable::unstable::format::OpKind;
use datafusion_supertable::unstable::table::{CommitOutcome, Moment, Table};

use super::world::{
    Rows, World, committed, delete, delete_from, insert, rows, truncate, update, update_from,
};
use crate::support::fault_store::Plan;

/// Restores `version`; answers the version that was made.
async fn restore(table: &Table, version: u64) -> u64 {
    let restored = table.restore(Moment::Version(version)).await.unwrap();
    assert_eq!(restored.from, version);
    restored.version
}

#[tokio::test(start_paused = true)]
async fn every_version_comes_back_exactly() {
    let world = World::new().await;
    let table = world.recovered().await;
    let mut known: BTreeMap<u64, Rows> = BTreeMap::new();
    let mut remember = async |table: &Table| {
        let version = table.snapshot().await.unwrap().version();
        known.insert(version, rows(table).await);
    };
    remember(&table).await;
    committed(delete(&table, &[("a", &[0, 5]), ("b", &[9])]).await);
    remember(&table).await;
    committed(update(&table, &[("b", &[0, 1]), ("c", &[4])], "u").await);
    remember(&table).await;
    committed(delete(&table, &[("u", &[0])]).await);
    remember(&table).await;
    committed(insert(&table, "d", 3).await);
    remember(&table).await;
    committed(truncate(&table).await);
    remember(&table).await;
    committed(insert(&table, "e", 2).await);
    remember(&table).await;

    // Back and forth, with changes of the restored rows in between.
    let versions: Vec<u64> = known.keys().copied().collect();
    for step in 0..versions.len() * 3 {
        let version = versions[step * 5 % versions.len()];
        restore(&table, version).await;
        assert_eq!(rows(&table).await, known[&version], "version {version}");
        // Another process sees the same, from the store.
        assert_eq!(rows(&world.recovered().await).await, known[&version]);
        match step % 3 {
            0 => {
                committed(insert(&table, &format!("i{step}"), 2).await);
            }
            1 => {
                let _ = delete(&table, &[("a", &[3]), ("b", &[3]), ("e", &[0])]).await;
            }
            _ => {}
        }
    }
    table.settle().await;
    world.assert_clean(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_removes_rows_and_is_from_before_a_restore_conflicts() {
    let world = World::new().await;
    let (a, b) = (world.recovered().await, world.recovered().await);
    let before = a.snapshot().await.unwrap();
    committed(update(&a, &[("b", &[0])], "u").await);
    let moved = a.snapshot().await.unwrap();
    restore(&a, before.version()).await;

    // Though the row is where it was: a statement that lost it in between would look the same.
    let outcome = delete_from(&b, Arc::clone(&before), &[("b", &[0])]).await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Conflict(_))),
        "{outcome:?}"
    );
    let now = b.snapshot().await.unwrap();
    let (_, affected) = committed(delete_from(&b, now, &[("b", &[0])]).await);
    assert_eq!(affected, 1);
    // The row's other place is gone, and it may live elsewhere.
    let outcome = delete_from(&b, Arc::clone(&moved), &[("u", &[0])]).await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Conflict(_))),
        "{outcome:?}"
    );
    // Forward again: a row that is live in the statement's base is deleted in the restored version.
    restore(&a, moved.version()).await;
    let outcome = delete_from(&b, before, &[("b", &[0])]).await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Conflict(_))),
        "{outcome:?}"
    );
    a.settle().await;
    b.settle().await;
    assert!(rows(&a).await.contains(&("u".to_owned(), 0)));
    world.assert_clean(&a).await;
}

#[tokio::test(start_paused = true)]
async fn what_conflicted_before_a_restore_is_never_committed_after_it() {
    let world = World::new().await;
    let (a, b) = (world.recovered().await, world.recovered().await);
    let base = a.snapshot().await.unwrap();
    let as_it_was = rows(&a).await;
    committed(update_from(&a, Arc::clone(&base), &[("b", &[0])], "first").await);
    let outcome = update_from(&b, Arc::clone(&base), &[("b", &[0, 1])], "second").await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Conflict(_))),
        "{outcome:?}"
    );
    // The rows are as the second statement read them; it has been told that it failed.
    restore(&a, base.version()).await;
    let c = world.recovered().await;
    committed(insert(&c, "i", 1).await);
    let mut expected = as_it_was;
    expected.insert(("i".to_owned(), 0));
    assert_eq!(rows(&c).await, expected);
    for table in [&a, &b, &c] {
        table.settle().await;
    }
    world.assert_clean(&a).await;
}

#[tokio::test(start_paused = true)]
async fn restores_and_statements_at_once_are_ordered() {
    let world = World::new().await;
    let plan = Plan::with_latency(Duration::from_millis(20));
    let table = world.open(&plan).await.unwrap();
    let other = world.open(&plan).await.unwrap();
    let first = table.snapshot().await.unwrap().version();
    committed(delete(&table, &[("c", &[0, 1, 2])]).await);
    let outcomes = tokio::join!(
        table.restore(Moment::Version(first)),
        other.restore(Moment::Version(first)),
        insert(&table, "x", 1),
        insert(&other, "y", 1),
        delete(&other, &[("a", &[7])]),
    );
    outcomes.0.unwrap();
    outcomes.1.unwrap();
    committed(outcomes.2);
    committed(outcomes.3);
    assert!(outcomes.4.is_ok());
    table.settle().await;
    other.settle().await;
    let left = rows(&world.recovered().await).await;
    // Whatever the order was, the rows deleted before came back and nothing is there twice.
    assert!((0..3).all(|at| left.contains(&("c".to_owned(), at))));
    world.assert_clean(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_not_there_is_not_restored_and_leaves_nothing() {
    let world = World::new().await;
    let table = world.recovered().await;
    let before = rows(&table).await;
    let error = table.restore(Moment::Version(99)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("versions 1 to 5"), "{error}");
    // What is current already needs no version.
    let current = table.snapshot().await.unwrap().version();
    assert_eq!(restore(&table, current).await, current);
    table.settle().await;
    assert_eq!(rows(&table).await, before);
    world.assert_clean(&table).await;
    let ops: Vec<OpKind> = table
        .snapshot()
        .await
        .unwrap()
        .manifest()
        .header()
        .commits
        .iter()
        .map(|c| c.op)
        .collect();
    assert_eq!(ops, [OpKind::Delete]);
}
