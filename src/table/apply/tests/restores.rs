//! Restores among random histories: a restored version holds exactly what it held, and statements from
//! before the restore do what they were to do, or conflict.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::history::{model, statement};
use super::world::*;
use crate::format::manifest::Manifest;
use crate::format::{ChangeSet, DropChange, ExternalFile, OpKind};
use crate::table::apply::Outcome;
use crate::table::apply::conflict::{Conflict, ConflictReason};
use crate::table::version::diff::difference;

/// The change set that makes `base` into `old`, as it is stored.
fn restore(base: &Manifest, old: &Manifest) -> ChangeSet {
    let difference = difference(base, old);
    let changed = difference.changed.iter().map(|(_, then)| then);
    let change_set = ChangeSet {
        op: OpKind::Restore,
        base_version: base.version(),
        add: (difference.added.iter().chain(changed))
            .map(|entry| {
                let mut entry = entry.as_ref().clone();
                // Not stored: the commit says it.
                (entry.moved_at, entry.added_at, entry.delete_count) = (0, 0, 0);
                entry
            })
            .collect(),
        tombstone: Vec::new(),
        drop: (difference.removed.iter())
            .map(|entry| DropChange {
                superfile: entry.id,
                base: entry.tombstones.map(|t| t.sidecar),
                live_rows: entry.live_rows(),
                moved: None,
            })
            .collect(),
        metadata: None,
        serializable: false,
        absent_keys: Vec::new(),
        statement: "RESTORE".to_owned(),
        rows_inserted: 0,
        rows_deleted: 0,
        rows_updated: 0,
        started_at_ms: 0,
    };
    let (hash, bytes) = change_set.encode().unwrap();
    let decoded = ChangeSet::decode(&bytes, &hash).unwrap();
    assert_eq!(decoded, change_set);
    decoded
}

fn is_not_current(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Conflict(Conflict {
            reason: ConflictReason::NotCurrent,
            ..
        })
    )
}

fn run(seed: u64, commits: usize, lag: usize, group: usize) -> (usize, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    let mut next_row = 0;
    let mut expected = Rows::new();
    let (mut restored, mut late) = (0, 0);
    for _ in 0..commits {
        let versions = world.versions.clone();
        if rng.random_bool(0.3) {
            let old = &versions[rng.random_range(0..versions.len())];
            let change_set = restore(world.current(), old);
            let held = world.rows(old);
            if change_set.is_empty() {
                assert_eq!(held, expected);
                continue;
            }
            let outcome = world.commit(&change_set);
            assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
            expected = held;
            restored += 1;
            // It held for the version that it was made from, and for no other.
            assert!(is_not_current(&world.commit(&change_set)));
        }
        let n = rng.random_range(1..=group);
        let statements: Vec<_> = (0..n)
            .map(|_| statement(&mut world, &mut rng, &mut next_row, lag))
            .collect();
        let ids: Vec<_> = statements.iter().map(|_| world.wal_id()).collect();
        let changes: Vec<_> = (ids.iter().copied())
            .zip(statements.iter().map(|s| &s.change_set))
            .collect();
        let version = world.current().version();
        for (statement, outcome) in statements.iter().zip(world.apply(&changes, &[])) {
            if matches!(outcome, Outcome::Committed(_)) {
                expected = model(&world, &expected, statement, &outcome);
                late += usize::from(statement.base.version() < version);
            }
        }
        assert_eq!(world.rows(world.current()), expected, "seed {seed}");
    }
    // No version has changed under its readers.
    for version in &world.versions {
        let _ = world.rows(version);
    }
    (restored, late)
}

#[test]
fn histories_contain_restores_and_statements_from_before_them() {
    let (restored, late) = run(11, 300, 4, 3);
    assert!(restored > 40 && late > 40, "{restored} {late}");
}

#[test]
fn a_restore_and_its_neighbours_in_one_version_do_not_mix() {
    let mut world = World::new();
    let _ = world.insert(&rows(0..4));
    let old = world.current().clone();
    let _ = world.insert(&rows(4..6));
    let base = world.current().clone();
    let delete = world.delete(&base, &[0]);
    let change_set = restore(&base, &old);
    let (a, b, c) = (world.wal_id(), world.wal_id(), world.wal_id());
    let outcomes = world.apply(&[(a, &delete), (b, &change_set)], &[]);
    assert!(matches!(outcomes[0], Outcome::Committed(_)));
    assert!(is_not_current(&outcomes[1]));
    let again = restore(world.current(), &old);
    let late = world.delete(&base, &[1]);
    let outcomes = world.apply(&[(b, &again), (c, &late)], &[]);
    assert!(matches!(outcomes[0], Outcome::Committed(_)));
    assert!(is_not_current(&outcomes[1]));
    // What removes rows runs again after a restore.
    assert_eq!(*reason(&world.commit(&late)), ConflictReason::Restored);
    assert_eq!(keys(&world), [0, 1, 2, 3]);
}

#[test]
fn a_conflict_stays_one_when_a_restore_brings_the_rows_back() {
    let mut world = World::new();
    let _ = world.insert(&rows(0..4));
    let base = world.current().clone();
    let (update, delete) = (world.update(&base, &[1], 7), world.delete(&base, &[1]));
    let gone = world.delete(&base, &[1]);
    let _ = world.commit(&gone);
    // The owner of the update is told of the conflict and runs it again; that of the deletion is told
    // that nothing is left to do.
    assert!(matches!(world.commit(&update), Outcome::Conflict(_)));
    assert!(matches!(world.commit(&delete), Outcome::NothingLeft));
    let back = restore(world.current(), &base);
    assert!(matches!(world.commit(&back), Outcome::Committed(_)));
    // A helper that read their documents before all that must not commit them now.
    assert_eq!(*reason(&world.commit(&update)), ConflictReason::Restored);
    assert_eq!(*reason(&world.commit(&delete)), ConflictReason::Restored);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn random_histories_with_restores_match_a_model_of_rows(
        seed in any::<u64>(), lag in 0usize..6, group in 1usize..5,
    ) {
        run(seed, 25, lag, group);
    }
}

#[test]
fn files_of_others_do_not_come_in_beside_a_restore_that_may_bring_them_back() {
    let mut world = World::new();
    let _ = world.insert(&rows(0..4));
    let base = world.current().clone();
    let mut entry = world.superfile(rows(4..8));
    entry.external = Some(ExternalFile {
        source: "s3://b/f.parquet#tag".to_owned(),
        ..ExternalFile::default()
    });
    let add = |op, entry: &crate::format::manifest::SuperfileEntry| ChangeSet {
        add: vec![entry.clone()],
        ..ChangeSet {
            op,
            drop: Vec::new(),
            ..restore(&base, &base)
        }
    };
    let adoption = add(OpKind::Insert, &entry);
    let plain = world.superfile(rows(8..12));
    let insert = add(OpKind::Insert, &plain);
    let deleted = world.delete(&base, &[0]);
    assert_eq!(affected(&world.commit(&deleted)), 1);
    let back = restore(world.current(), &base);
    assert!(matches!(world.commit(&back), Outcome::Committed(_)));
    assert_eq!(*reason(&world.commit(&adoption)), ConflictReason::Restored);
    // Rows that nobody else has come in all the same.
    assert!(!matches!(world.commit(&insert), Outcome::Conflict(_)));
}
