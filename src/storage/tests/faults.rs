//! Lost and false answers: no acknowledged write is lost, no write in force is called lost.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::fault_store::{Fault, FaultStore};
use crate::storage::{CasOutcome, ObjectVersion, Replaced, RetryPolicy, Storage, StorageError};

fn storage() -> (Arc<FaultStore>, Storage) {
    let store = Arc::new(FaultStore::default());
    let policy = RetryPolicy {
        jitter_seed: Some(7),
        ..RetryPolicy::default()
    };
    let storage = Storage::new(Arc::clone(&store) as _, &Path::default(), policy);
    (store, storage)
}

fn key() -> Path {
    Path::from("_supertable/current")
}

fn fresh() -> Bytes {
    Bytes::from(Uuid::new_v4().to_string())
}

async fn created(storage: &Storage) -> ObjectVersion {
    match storage.create(&key(), fresh()).await.unwrap() {
        CasOutcome::Committed(version) => version,
        CasOutcome::Lost => panic!("lost alone"),
    }
}

/// One replace under `faults`, from the current version; what it says, and its body.
async fn replace_under(
    faults: impl IntoIterator<Item = Fault>,
) -> (Arc<FaultStore>, Result<CasOutcome, StorageError>, Bytes) {
    let (store, storage) = storage();
    let version = created(&storage).await;
    store.plan(faults);
    let body = fresh();
    let outcome = storage.replace(&key(), &version, body.clone()).await;
    (store, outcome, body)
}

#[tokio::test(start_paused = true)]
async fn a_loser_is_told_what_won() {
    let (_, storage) = storage();
    let version = created(&storage).await;
    let winner = fresh();
    let won = storage.replace(&key(), &version, winner.clone()).await;
    let Ok(CasOutcome::Committed(now)) = won else {
        panic!("lost alone: {won:?}")
    };
    let lost = storage.replace_or_read(&key(), &version, fresh()).await;
    assert_eq!(lost.unwrap(), Replaced::Lost(Some((winner, now))));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_success_is_a_success() {
    for fault in [
        Fault::AnswerLost,
        Fault::RefusedAfterSuccess,
        Fault::AnswerLostThenReadsFail(3),
        Fault::NoVersion,
    ] {
        let (store, outcome, body) = replace_under([fault]).await;
        assert!(matches!(outcome, Ok(CasOutcome::Committed(_))), "{fault:?}");
        assert_eq!(store.current(&key()).await, Some(body.clone()));
        assert_eq!(store.times_in_force(&body), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_version_of_a_settled_success_can_be_replaced() {
    let (store, storage) = storage();
    for fault in [
        Fault::AnswerLost,
        Fault::RefusedAfterSuccess,
        Fault::NoVersion,
    ] {
        storage.delete(&key()).await.unwrap();
        store.plan([fault]);
        let version = created(&storage).await;
        let outcome = storage.replace(&key(), &version, fresh()).await;
        assert!(matches!(outcome, Ok(CasOutcome::Committed(_))), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_not_done_is_done_again() {
    for fault in [Fault::NotDone, Fault::FalseConflict, Fault::Late] {
        let (store, outcome, body) = replace_under([fault, fault]).await;
        assert!(matches!(outcome, Ok(CasOutcome::Committed(_))), "{fault:?}");
        store.flush().await;
        assert_eq!(store.times_in_force(&body), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_create_although_nothing_exists_is_tried_again() {
    let (store, storage) = storage();
    store.plan([Fault::FalseConflict]);
    created(&storage).await;
    store.plan([Fault::FalseConflict, Fault::NotDone, Fault::AnswerLost]);
    let object = Path::from("immutable");
    storage.put_immutable(&object, fresh()).await.unwrap();
    assert!(store.current(&object).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_another_writer_replaced_at_once_is_lost_and_only_history_knows_better() {
    let (store, outcome, body) = replace_under([Fault::ThirdWriter]).await;
    assert_eq!(outcome.unwrap(), CasOutcome::Lost);
    assert_eq!(store.times_in_force(&body), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_the_outcome_is_then_unknown() {
    let (store, outcome, body) = replace_under([Fault::NotDone; 100]).await;
    assert!(matches!(
        outcome,
        Err(StorageError::OutcomeUnknown { attempts: 6, .. })
    ));
    assert_eq!(store.planned(), 94);
    assert_eq!(store.times_in_force(&body), 0);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_read_back_is_unknown() {
    let (store, outcome, body) = replace_under([Fault::AnswerLostThenReadsFail(1000)]).await;
    assert!(matches!(outcome, Err(StorageError::OutcomeUnknown { .. })));
    assert_eq!(store.times_in_force(&body), 1);
}

#[tokio::test(start_paused = true)]
async fn a_final_answer_is_not_tried_again() {
    let (store, outcome, body) = replace_under([Fault::Forbidden]).await;
    assert!(matches!(
        outcome,
        Err(StorageError::Store { attempts: 1, .. })
    ));
    assert_eq!(store.times_in_force(&body), 0);
    // Unless something may still be under way.
    let (store, outcome, body) = replace_under([Fault::Late, Fault::Forbidden]).await;
    assert!(matches!(outcome, Err(StorageError::OutcomeUnknown { .. })));
    store.flush().await;
    assert_eq!(store.times_in_force(&body), 1);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_names_no_state_is_refused() {
    let (_, storage) = storage();
    created(&storage).await;
    let nameless = ObjectVersion::from_put(&object_store::PutResult {
        e_tag: None,
        version: None,
    });
    assert!(matches!(
        storage.replace(&key(), &nameless, fresh()).await,
        Err(StorageError::Unversioned { .. })
    ));
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::None),
        2 => Just(Fault::AnswerLost),
        2 => Just(Fault::RefusedAfterSuccess),
        2 => Just(Fault::NotDone),
        2 => Just(Fault::FalseConflict),
        2 => Just(Fault::Late),
        1 => Just(Fault::Forbidden),
        1 => Just(Fault::NoVersion),
        1 => (1..40_u32).prop_map(Fault::AnswerLostThenReadsFail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// One writer: what it is told is what happened.
    #[test]
    fn a_single_writer_never_loses_and_never_wins_twice(
        faults in proptest::collection::vec(any_fault(), 0..24),
        flush_before in proptest::collection::vec(any::<bool>(), 8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (store, storage) = storage();
            let mut version = created(&storage).await;
            store.plan(faults);
            for flush in flush_before {
                let body = fresh();
                match storage.replace(&key(), &version, body.clone()).await {
                    Ok(CasOutcome::Committed(new)) => {
                        assert_eq!(store.current(&key()).await, Some(body.clone()));
                        version = new;
                    }
                    Ok(CasOutcome::Lost) => panic!("a single writer was told that it lost"),
                    Err(StorageError::Store { .. }) => {
                        store.flush().await;
                        assert_eq!(store.times_in_force(&body), 0);
                    }
                    Err(StorageError::OutcomeUnknown { .. }) => {
                        store.flush().await;
                        while storage.get(&key()).await.is_err() {}
                        version = storage.get(&key()).await.unwrap().unwrap().1;
                    }
                    Err(other) => panic!("{other}"),
                }
                if flush {
                    store.flush().await;
                }
                assert!(store.times_in_force(&body) <= 1);
            }
        });
    }
}

/// Writers that add a line to one object and, told anything but success, look whether their line is
/// there: the protocol of the crate in miniature.
async fn add_lines_under_faults(seed: u64) {
    let (store, storage) = storage();
    created(&storage).await;
    let mut rng = StdRng::seed_from_u64(seed);
    store.plan((0..60).map(|_| match rng.random_range(0..10) {
        0 | 1 => Fault::AnswerLost,
        2 | 3 => Fault::RefusedAfterSuccess,
        4 => Fault::NotDone,
        5 => Fault::FalseConflict,
        6 => Fault::Late,
        7 => Fault::NoVersion,
        _ => Fault::None,
    }));
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (store, storage) = (Arc::clone(&store), storage.clone());
        let mut rng = StdRng::seed_from_u64(seed * 31 + writer);
        writers.spawn(async move {
            for line in 0..8 {
                let line = format!("\n{writer}-{line}");
                let mut acknowledged = false;
                loop {
                    let (text, version) = storage.get(&key()).await.unwrap().unwrap();
                    let text = String::from_utf8(text.to_vec()).unwrap();
                    let (_, lines) = text.split_at(36);
                    if format!("{lines}\n").contains(&format!("{line}\n")) {
                        break;
                    }
                    assert!(
                        !acknowledged,
                        "seed {seed}: {line} was acknowledged and is gone"
                    );
                    tokio::task::yield_now().await;
                    let body = Bytes::from(format!("{}{lines}{line}", Uuid::new_v4()));
                    match storage.replace(&key(), &version, body).await {
                        Ok(CasOutcome::Committed(_)) => acknowledged = true,
                        Ok(CasOutcome::Lost) | Err(_) => {}
                    }
                    if rng.random_bool(0.3) {
                        store.flush().await;
                    }
                }
            }
        });
    }
    while let Some(joined) = writers.join_next().await {
        joined.unwrap();
    }
    store.flush().await;
    let text = store.current(&key()).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let mut lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(lines.len(), 32, "seed {seed}: {lines:?}");
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 32, "seed {seed}: a line is there twice");
}

#[tokio::test(start_paused = true)]
async fn every_line_of_many_writers_is_added_once_whatever_the_answers() {
    for seed in 0..200 {
        add_lines_under_faults(seed).await;
    }
}
