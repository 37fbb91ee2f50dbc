//! Dropping a table: whoever still works on it finds that it is gone, and nothing of it comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion_supertable::ErrorKind;
use datafusion_supertable::unstable::format::paths;
use datafusion_supertable::unstable::table::{CommitOutcome, CreateTable, Table};
use datafusion_supertable::unstable::table::{is_dropped_table, sweep};

use super::world::{World, delete, insert, rows};
use crate::support::fault_store::Plan;

#[tokio::test(start_paused = true)]
async fn a_dropped_table_is_gone_for_everyone() {
    let world = World::new().await;
    let (a, b) = (world.recovered().await, world.recovered().await);
    let before = b.snapshot().await.unwrap();
    a.drop_table().await.unwrap();

    let pointer = paths::pointer();
    assert_eq!(world.paths("").await, std::slice::from_ref(&pointer));
    for outcome in [
        insert(&b, "late", 1).await,
        delete(&b, &[("b", &[0])]).await,
    ] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotFound);
    }
    // A statement that read the table before it was dropped and commits after.
    let mutation = b.begin(
        datafusion_supertable::unstable::format::OpKind::Truncate,
        Arc::clone(&before),
        "TRUNCATE".to_owned(),
    );
    let effect = datafusion_supertable::unstable::table::Effect {
        drop: before.manifest().entries().map(|entry| entry.id).collect(),
        ..Default::default()
    };
    let outcome: Result<CommitOutcome, _> = mutation.commit(effect).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(is_dropped_table(&b.snapshot().await.unwrap_err()));
    assert!(is_dropped_table(&a.drop_table().await.unwrap_err()));
    assert!(is_dropped_table(
        &world.open(&Plan::healthy()).await.unwrap_err()
    ));
    let spec = CreateTable {
        schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])),
        properties: BTreeMap::new(),
        defaults: Default::default(),
        sort_order: Vec::new(),
        keys: Vec::new(),
    };
    let again = Table::create(world.storage(&Plan::healthy()), world.env(), spec).await;
    assert!(is_dropped_table(&again.unwrap_err()));

    // What was written by those who did not know yet is swept away; the drop marker stays.
    a.settle().await;
    b.settle().await;
    sweep(&world.storage(&Plan::healthy())).await.unwrap();
    assert_eq!(world.paths("").await, [pointer]);
}

#[tokio::test(start_paused = true)]
async fn a_drop_and_a_statement_at_once_are_ordered() {
    let world = World::new().await;
    let plan = Plan::with_latency(Duration::from_millis(20));
    let (a, b) = (
        world.open(&plan).await.unwrap(),
        world.open(&plan).await.unwrap(),
    );
    let (dropped, inserted, own) =
        tokio::join!(a.drop_table(), insert(&b, "x", 1), insert(&a, "y", 1));
    dropped.unwrap();
    for outcome in [inserted, own] {
        match outcome {
            Ok(CommitOutcome::Committed { .. }) => {}
            other => assert_eq!(other.unwrap_err().kind(), ErrorKind::NotFound),
        }
    }
    assert!(is_dropped_table(&a.snapshot().await.unwrap_err()));
}

#[tokio::test(start_paused = true)]
async fn only_an_unchanged_table_is_taken_back() {
    let world = World::new().await;
    let (a, b) = (world.recovered().await, world.recovered().await);
    let seen = a.snapshot().await.unwrap();
    let outcome = insert(&b, "x", 1).await;
    assert!(outcome.is_ok());
    assert!(!a.drop_unchanged(&seen).await.unwrap());
    assert!(rows(&a).await.contains(&("x".to_owned(), 0)));
    let seen = a.snapshot().await.unwrap();
    assert!(a.drop_unchanged(&seen).await.unwrap());
    assert!(is_dropped_table(&b.snapshot().await.unwrap_err()));
}

#[tokio::test(start_paused = true)]
async fn sweeping_leaves_a_table_alone() {
    let world = World::new().await;
    let before = world.paths("").await;
    sweep(&world.storage(&Plan::healthy())).await.unwrap();
    assert_eq!(world.paths("").await, before);
}
