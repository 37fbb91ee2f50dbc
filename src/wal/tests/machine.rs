//! The pure transitions and leases, over arbitrary sequences of steps.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use crate::format::{ContentHash, IdBlock, OpKind, RowId, StateDoc, WalId, WalState};
use crate::wal::lease;
use crate::wal::machine::{self, Appendix, Intention};

const TTL: TimeDelta = TimeDelta::seconds(60);

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000 + ms).unwrap()
}

fn intent() -> StateDoc {
    let what = Intention {
        wal_id: WalId::new(1, 2, 3),
        op: OpKind::Update,
        base_version: 7,
        block: IdBlock::new(5, 6),
        statement: "UPDATE t SET a = 1",
        owner: "me",
    };
    machine::intent(&what, at(0), TTL)
}

#[derive(Clone, Copy, Debug)]
enum Transition {
    Renew,
    Append,
    Complete,
    Fence,
    FenceConflicting,
}

fn take(doc: &StateDoc, step: Transition, now: DateTime<Utc>) -> Option<StateDoc> {
    match step {
        Transition::Renew => machine::renew(doc, now, TTL),
        Transition::Append => machine::append(doc, Appendix::default(), now, TTL),
        Transition::Complete => machine::complete(doc),
        Transition::Fence => machine::fence(doc, "other", now, TTL),
        Transition::FenceConflicting => machine::fence_conflicting(doc, "other", now, TTL),
    }
    .ok()
}

fn steps() -> impl Strategy<Value = Vec<(Transition, i64)>> {
    let step = prop_oneof![
        Just(Transition::Renew),
        Just(Transition::Append),
        Just(Transition::Complete),
        Just(Transition::Fence),
        Just(Transition::FenceConflicting),
    ];
    prop::collection::vec((step, -100_000i64..100_000), 0..12)
}

proptest! {
    #[test]
    fn complete_is_reached_from_appended_only_and_left_by_nothing(steps in steps()) {
        let mut doc = intent();
        for (step, ms) in steps {
            let before = doc.state;
            let Some(next) = take(&doc, step, at(ms)) else { continue };
            prop_assert_ne!(before, WalState::Complete);
            if next.state == WalState::Complete {
                prop_assert_eq!(before, WalState::Appended);
            }
            if next.state == WalState::Appended {
                prop_assert_eq!(before, WalState::Intent);
            }
            doc = next;
        }
    }

    #[test]
    fn what_identifies_a_mutation_never_changes(steps in steps()) {
        let first = intent();
        let mut doc = first.clone();
        for (step, ms) in steps {
            if let Some(next) = take(&doc, step, at(ms)) {
                doc = next;
            }
            prop_assert_eq!(doc.wal_id, first.wal_id);
            prop_assert_eq!(doc.op_kind, first.op_kind);
            prop_assert_eq!(doc.base_version, first.base_version);
            prop_assert_eq!(doc.created_at, first.created_at);
            prop_assert_eq!(doc.id_block(), first.id_block());
        }
    }

    #[test]
    fn a_fenced_document_is_an_intent_of_another_owner(steps in steps(), ms in 0i64..100_000) {
        let mut doc = intent();
        for (step, ms) in steps {
            doc = take(&doc, step, at(ms)).unwrap_or(doc);
        }
        for step in [Transition::Fence, Transition::FenceConflicting] {
            if let Some(fenced) = take(&doc, step, at(ms)) {
                prop_assert_eq!(fenced.state, WalState::Intent);
                prop_assert!(lease::is_held_by(&fenced, "other"));
                prop_assert!(!lease::is_held_by(&fenced, "me"));
            }
        }
    }

    #[test]
    fn renewing_never_shortens_a_lease(times in prop::collection::vec(-200_000i64..200_000, 1..10)) {
        let mut doc = intent();
        for ms in times {
            let before = doc.lease.clone().unwrap().expires_at;
            doc = machine::renew(&doc, at(ms), TTL).unwrap();
            let after = doc.lease.clone().unwrap().expires_at;
            prop_assert!(after >= before && after >= at(ms));
            prop_assert!(lease::is_held_by(&doc, "me"));
        }
    }
}

#[test]
fn appending_names_the_change_set() {
    let appendix = Appendix {
        change_set: Some(ContentHash::of(b"x")),
        new_rows: 5,
        ..Appendix::default()
    };
    let doc = machine::append(&intent(), appendix, at(1), TTL).unwrap();
    assert_eq!(doc.state, WalState::Appended);
    assert_eq!(doc.new_row_content_hash, Some(ContentHash::of(b"x")));
    assert_eq!(doc.new_row_count, Some(5));
}

#[test]
fn a_mutation_of_many_rows_lists_none_of_them() {
    let ids = |n: u32| (0..n).map(|i| RowId::new(1, 1, i)).collect::<Vec<_>>();
    let listed = |targets| {
        let appendix = Appendix {
            targets,
            ..Appendix::default()
        };
        machine::append(&intent(), appendix, at(1), TTL)
            .unwrap()
            .target_ids
            .len()
    };
    assert_eq!(listed(ids(1_000)), 1_000);
    assert_eq!(listed(ids(1_001)), 0);
}

#[test]
fn a_long_statement_is_cut_and_the_document_stays_small() {
    let statement = "ü".repeat(1 << 20);
    let what = Intention {
        wal_id: WalId::new(1, 2, 3),
        op: OpKind::Update,
        base_version: 7,
        block: IdBlock::new(5, 6),
        statement: &statement,
        owner: "me",
    };
    let doc = machine::intent(&what, at(0), TTL);
    assert!(doc.encode().unwrap().len() < 4_096);
}

#[test]
fn an_illegal_step_names_the_state_it_was_tried_from() {
    let error = machine::complete(&intent()).unwrap_err();
    assert_eq!(error.from, WalState::Intent);
}
