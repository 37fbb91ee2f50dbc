//! Random histories: statements read versions that are behind, and commit in groups. After each
//! commit the table's rows are those of a model that knows nothing of superfiles.
//!
//! What the model demands of a committed statement, whatever was committed since its base:
//! - the rows that a DELETE, TRUNCATE or OVERWRITE was to remove are not there any more;
//! - the rows that an UPDATE changed were as it read them, and have the new value;
//! - the table is as a serializable statement read it;
//! - no row is there yet whose key it inserts because it found none;
//! - a compaction changes nothing; an insert adds its rows; no other row changes;
//! - the count is the number of rows that really went.
//!
//! And of a conflict: that something was committed since the base.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::world::*;
use crate::format::manifest::Manifest;
use crate::format::{ChangeSet, DropChange, OpKind, WalId};
use crate::table::apply::Outcome;

pub(super) struct Statement {
    pub base: Manifest,
    pub change_set: ChangeSet,
    targets: BTreeSet<Row>,
    inserted: Rows,
}

#[derive(Default, Debug)]
struct Seen {
    committed: usize,
    conflicts: usize,
    nothing: usize,
}

pub(super) fn statement(
    world: &mut World,
    rng: &mut StdRng,
    next_row: &mut Row,
    lag: usize,
) -> Statement {
    let back = rng.random_range(0..=lag.min(world.versions.len() - 1));
    let base = world.versions[world.versions.len() - 1 - back].clone();
    let held = world.rows(&base);
    let mut new_rows = |n: u32| {
        let rows: Vec<_> = (0..n).map(|i| (*next_row + i, 0)).collect();
        *next_row += n;
        rows
    };
    let some = |rng: &mut StdRng, most: usize| -> BTreeSet<Row> {
        let n = rng.random_range(1..=most);
        held.keys()
            .copied()
            .choose_multiple(rng, n)
            .into_iter()
            .collect()
    };
    let value = rng.random_range(1..1_000_000);
    let mut drop_whole = rng.random_bool(0.5);
    let files = rng.random_range(1..4);
    let (op, effect) = match rng.random_range(0..100) {
        0..20 => {
            let insert = new_rows(rng.random_range(1..12));
            (
                OpKind::Insert,
                Effect {
                    insert,
                    ..Effect::default()
                },
            )
        }
        20..50 => {
            let delete = some(rng, 6);
            (
                OpKind::Delete,
                Effect {
                    delete,
                    ..Effect::default()
                },
            )
        }
        50..55 => {
            // A range, as a predicate on a sorted column would give.
            let from = held.keys().copied().choose(rng).unwrap_or(0);
            let delete = held
                .keys()
                .copied()
                .filter(|r| *r >= from)
                .take(12)
                .collect();
            (
                OpKind::Delete,
                Effect {
                    delete,
                    ..Effect::default()
                },
            )
        }
        55..77 => {
            let delete = some(rng, 5);
            let insert = delete.iter().map(|row| (*row, value)).collect();
            (
                OpKind::Update,
                Effect {
                    delete,
                    insert,
                    drop_all: false,
                },
            )
        }
        77..87 => {
            // Deletes some, updates some, inserts some.
            let delete = some(rng, 5);
            let mut insert: Vec<_> = delete
                .iter()
                .filter(|row| **row % 2 == 0)
                .map(|row| (*row, value))
                .collect();
            insert.extend(new_rows(rng.random_range(0..3)));
            // Keys that others insert too, if they find them absent.
            let present: BTreeSet<Row> = held.keys().copied().map(key).collect();
            let rows = (0..UPSERTED_KEYS).map(|key| (upserted(key, *next_row), value));
            let absent = rows.filter(|(row, _)| !present.contains(&key(*row)));
            let n = rng.random_range(0..3);
            insert.extend(absent.choose_multiple(rng, n));
            *next_row += 1;
            (
                OpKind::Merge,
                Effect {
                    delete,
                    insert,
                    drop_all: false,
                },
            )
        }
        87..90 => (
            OpKind::Truncate,
            Effect {
                drop_all: true,
                ..Effect::default()
            },
        ),
        90..92 => {
            let insert = new_rows(rng.random_range(0..6));
            (
                OpKind::Overwrite,
                Effect {
                    drop_all: true,
                    insert,
                    ..Effect::default()
                },
            )
        }
        _ => {
            // Rewrites the rows of some superfiles.
            let mut insert = Vec::new();
            let files: Vec<_> = base.entries().cloned().collect();
            for file in files.iter().filter(|_| rng.random_bool(0.4)) {
                let deleted = world.deleted(file);
                let rows = (0u32..).zip(&world.files[&file.id]);
                insert.extend(
                    rows.filter(|(at, _)| !deleted.contains(*at))
                        .map(|(_, r)| *r),
                );
            }
            drop_whole = true;
            world.tell_moves = rng.random_bool(0.8);
            if rng.random_bool(0.5) {
                // As a sort does.
                insert.shuffle(rng);
            }
            let delete = insert.iter().map(|(row, _)| *row).collect();
            (
                OpKind::Compact,
                Effect {
                    delete,
                    insert,
                    drop_all: false,
                },
            )
        }
    };
    let targets = if effect.drop_all {
        held.keys().copied().collect()
    } else {
        effect
            .delete
            .iter()
            .copied()
            .filter(|r| held.contains_key(r))
            .collect()
    };
    let inserted = effect.insert.iter().copied().collect();
    let new: Vec<Row> = (effect.insert.iter().map(|(row, _)| *row))
        .filter(|row| !held.contains_key(row))
        .collect();
    let effect_keys = (!new.is_empty()).then_some(new);
    let mut change_set = world.change_set(op, &base, effect, drop_whole, files);
    change_set.serializable =
        matches!(op, OpKind::Delete | OpKind::Update | OpKind::Merge) && rng.random_bool(0.2);
    let found_absent = effect_keys.filter(|_| op == OpKind::Merge);
    if let Some(keys) = found_absent {
        let mut keys = absent(keys);
        // As if they were many.
        if rng.random_bool(0.2) {
            keys.hashes = None;
        }
        change_set.absent_keys = vec![keys];
    }
    Statement {
        change_set,
        base,
        targets,
        inserted,
    }
}

/// The model: what the table holds after a statement that was committed on `before`.
pub(super) fn model(
    world: &World,
    before: &Rows,
    statement: &Statement,
    outcome: &Outcome,
) -> Rows {
    let Outcome::Committed(record) = outcome else {
        panic!("{outcome:?}")
    };
    let held = world.rows(&statement.base);
    let op = statement.change_set.op;
    if op == OpKind::Compact {
        assert_eq!(record.rows_affected(), 0);
        return before.clone();
    }
    if statement.change_set.serializable {
        assert_eq!(*before, held, "what a serializable {op} read has changed");
    }
    let (gone, left): (BTreeSet<Row>, BTreeSet<Row>) = statement
        .targets
        .iter()
        .copied()
        .partition(|row| !before.contains_key(row));
    // What is removed is as the statement saw it: nobody's change is lost.
    for row in &left {
        assert_eq!(before[row], held[row], "{op} lost an update of row {row}");
    }
    if matches!(op, OpKind::Update | OpKind::Merge) {
        assert!(gone.is_empty(), "{op} of rows that were gone: {gone:?}");
    }
    let present: BTreeSet<Row> = before.keys().copied().map(key).collect();
    let absent = statement.inserted.keys();
    for row in absent.filter(|row| !held.contains_key(row)) {
        assert!(
            !present.contains(&key(*row)),
            "{op} leaves a key of {row} twice"
        );
    }
    let mut after = before.clone();
    after.retain(|row, _| !left.contains(row));
    after.extend(&statement.inserted);
    match op {
        OpKind::Delete | OpKind::Truncate => {
            assert_eq!(record.rows_affected(), left.len() as u64);
        }
        OpKind::Update => assert_eq!(record.rows_affected(), left.len() as u64),
        OpKind::Insert | OpKind::Overwrite => {
            assert_eq!(record.rows_affected(), statement.inserted.len() as u64);
        }
        _ => {}
    }
    after
}

fn run(seed: u64, commits: usize, lag: usize, group: usize) -> Seen {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    let mut next_row = 0;
    let mut seen = Seen::default();
    let mut expected = Rows::new();
    let mut done: Vec<(WalId, ChangeSet, Outcome)> = Vec::new();
    for _ in 0..commits {
        let n = rng.random_range(1..=group);
        let statements: Vec<_> = (0..n)
            .map(|_| statement(&mut world, &mut rng, &mut next_row, lag))
            .collect();
        let ids: Vec<_> = statements.iter().map(|_| world.wal_id()).collect();
        let changes: Vec<_> = ids
            .iter()
            .copied()
            .zip(statements.iter().map(|s| &s.change_set))
            .collect();
        let current = world.current().clone();
        let version = current.version();
        let outcomes = world.apply(&changes, &[]);
        let mut earlier = 0;
        for (statement, outcome) in statements.iter().zip(&outcomes) {
            match outcome {
                Outcome::Committed(_) => {
                    expected = model(&world, &expected, statement, outcome);
                    earlier += 1;
                    seen.committed += 1;
                }
                Outcome::NothingLeft => {
                    assert!(statement.targets.iter().all(|r| !expected.contains_key(r)));
                    let is_compaction = statement.change_set.op == OpKind::Compact;
                    assert!(statement.inserted.is_empty() || is_compaction);
                    seen.nothing += 1;
                }
                Outcome::Conflict(_) => {
                    let change_set = &statement.change_set;
                    if change_set.op == OpKind::Compact && change_set.has_moves() && earlier == 0 {
                        // Only another rewrite of its sources stops it, no DELETE and no UPDATE.
                        let is_gone = |drop: &DropChange| current.get(&drop.superfile).is_none();
                        assert!(change_set.drop.iter().any(is_gone), "{outcome:?}");
                    }
                    let disturbed = statement.base.version() < version || earlier > 0;
                    assert!(disturbed, "a conflict with nobody: {outcome:?}");
                    assert_ne!(statement.change_set.op, OpKind::Insert);
                    seen.conflicts += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(world.rows(world.current()), expected, "seed {seed}");
        done.extend(
            ids.into_iter()
                .zip(statements)
                .zip(outcomes)
                .map(|((id, s), o)| (id, s.change_set, o)),
        );
        // A helper that comes late with an old change set changes nothing, and a conflict stays.
        if let Some((id, change_set, outcome)) = done.iter().choose(&mut rng) {
            let (id, change_set, outcome) = (*id, change_set.clone(), outcome.clone());
            let late = world.apply(&[(id, &change_set)], &[]).remove(0);
            match outcome {
                Outcome::Committed(record) => {
                    assert_eq!(late, Outcome::AlreadyCommitted(record));
                }
                Outcome::Conflict(_) => assert!(matches!(late, Outcome::Conflict(_))),
                // Nothing was left; what happened since may have turned that into a conflict.
                _ => assert!(matches!(late, Outcome::NothingLeft | Outcome::Conflict(_))),
            }
            assert_eq!(world.rows(world.current()), expected);
        }
    }
    // No version has changed under its readers.
    assert!(world.versions.len() <= commits + 1);
    for version in &world.versions {
        let _ = world.rows(version);
    }
    seen
}

#[test]
fn histories_contain_all_outcomes() {
    let seen = run(7, 300, 3, 3);
    assert!(
        seen.committed > 100 && seen.conflicts > 30 && seen.nothing > 5,
        "{seen:?}"
    );
}

#[test]
fn without_concurrency_nothing_conflicts() {
    let seen = run(8, 200, 0, 1);
    assert_eq!(seen.conflicts, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_histories_match_a_model_of_rows(seed in any::<u64>(), lag in 0usize..6, group in 1usize..5) {
        run(seed, 25, lag, group);
    }
}
