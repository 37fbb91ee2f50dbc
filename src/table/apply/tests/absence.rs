//! Keys that a statement found absent: who may have added one, and who cannot. Rows
//! with small numbers are their own keys.

use super::world::*;
use crate::format::keys::{AbsentKeys, MAX_HASHES, MAX_RANGES};
use crate::format::manifest::*;
use crate::format::*;
use crate::table::ConflictReason as R;
use crate::table::apply::*;

/// A table of one superfile with rows 0..10.
fn ten() -> (World, Manifest) {
    let mut world = World::new();
    assert_eq!(affected(&world.insert(&rows(0..10))), 10);
    let base = world.current().clone();
    (world, base)
}

fn some(keys: &[Row]) -> Vec<(Row, u32)> {
    keys.iter().map(|key| (*key, 1)).collect()
}

fn conflicts(outcome: &Outcome) {
    assert_eq!(*reason(outcome), R::KeyAdded);
}

#[test]
fn a_key_that_any_statement_added_conflicts_and_another_one_does_not() {
    type Adds = fn(&mut World, &Manifest) -> Outcome;
    let adds: [Adds; 4] = [
        |world, _| world.insert(&some(&[20, 40])),
        |world, base| {
            let upsert = world.upsert(base, &[20, 40]);
            world.commit(&upsert)
        },
        |world, base| {
            let overwrite = world.overwrite(base, &some(&[20, 40]));
            world.commit(&overwrite)
        },
        |world, base| {
            // An UPDATE that gives rows other keys.
            let effect = Effect {
                delete: [1, 2].into(),
                insert: some(&[20, 40]),
                drop_all: false,
            };
            let update = world.change_set(OpKind::Update, base, effect, false, 1);
            world.commit(&update)
        },
    ];
    for add in adds {
        for (key, expected) in [(20, true), (40, true), (11, false), (50, false)] {
            let (mut world, base) = ten();
            let upsert = world.upsert(&base, &[key]);
            assert!(matches!(add(&mut world, &base), Outcome::Committed(_)));
            match (world.commit(&upsert), expected) {
                (outcome, true) => conflicts(&outcome),
                (outcome, false) => assert_eq!(affected(&outcome), 1),
            }
        }
    }
}

#[test]
fn upserts_of_one_key_conflict_in_one_call_and_of_different_keys_do_not() {
    let (mut world, base) = ten();
    let upserts: Vec<_> = (100..164).map(|key| world.upsert(&base, &[key])).collect();
    let changes: Vec<_> = upserts.iter().map(|cs| (world.wal_id(), cs)).collect();
    let outcomes = world.apply(&changes, &[]);
    assert!(outcomes.iter().all(|outcome| affected(outcome) == 1));
    // Their keys are known from the statistics of their superfiles.
    assert_eq!(world.current().header().added_keys, []);

    let upserts: Vec<_> = (0..64).map(|_| world.upsert(&base, &[200])).collect();
    let changes: Vec<_> = upserts.iter().map(|cs| (world.wal_id(), cs)).collect();
    let outcomes = world.apply(&changes, &[]);
    assert_eq!(affected(&outcomes[0]), 1);
    outcomes[1..].iter().for_each(conflicts);
}

#[test]
fn upserts_of_many_keys_that_interleave_conflict_only_if_they_share_one() {
    let (mut world, base) = ten();
    let keys = |from: Row| -> Vec<Row> { (0..100).map(|i| 1_000 + from + 7 * i).collect() };
    let sets: Vec<_> = (0..4)
        .map(|from| world.upsert(&base, &keys(from)))
        .collect();
    let late = world.upsert(&base, &keys(4));
    let mut sharing = keys(5);
    sharing.push(1_003);
    let sharing = world.upsert(&base, &sharing);
    let changes: Vec<_> = sets.iter().map(|cs| (world.wal_id(), cs)).collect();
    let outcomes = world.apply(&changes, &[]);
    assert!(outcomes.iter().all(|outcome| affected(outcome) == 100));
    // In a later version, too, which remembers the keys.
    assert_eq!(world.current().header().added_keys.len(), 4);
    conflicts(&world.commit(&sharing));
    assert_eq!(affected(&world.commit(&late)), 100);
}

#[test]
fn a_row_among_others_of_which_only_bounds_are_known_conflicts_within_them() {
    let (mut world, base) = ten();
    let (within, outside) = (world.upsert(&base, &[30]), world.upsert(&base, &[60]));
    let _ = world.insert(&some(&[20, 40]));
    conflicts(&world.commit(&within));
    assert_eq!(affected(&world.commit(&outside)), 1);
}

#[test]
fn a_compaction_adds_no_key() {
    let (mut world, base) = ten();
    let _ = world.insert(&rows(10..20));
    let newer = world.current().clone();
    let upsert = world.upsert(&newer, &[5_000]);
    let within = Effect {
        insert: vec![(15, 1)],
        ..Effect::default()
    };
    let mut within = world.change_set(OpKind::Merge, &newer, within, false, 1);
    within.absent_keys = vec![absent([15])];
    let compaction = world.compact(&newer);
    assert!(matches!(world.commit(&compaction), Outcome::Committed(_)));
    assert_eq!(affected(&world.commit(&upsert)), 1);
    // All rows of the table are older than what it read: within their bounds, it is right about what it found.
    let delete = world.delete(&world.current().clone(), &[15]);
    let _ = world.commit(&delete);
    assert_eq!(affected(&world.commit(&within)), 1);
    // What came after its base is in the compaction's superfile.
    let old = world.upsert(&base, &[16]);
    conflicts(&world.commit(&old));
}

#[test]
fn a_key_that_came_and_went_conflicts_for_ever() {
    let (mut world, base) = ten();
    let (upsert, other) = (world.upsert(&base, &[30]), world.upsert(&base, &[60]));
    let _ = world.insert(&some(&[30]));
    conflicts(&world.commit(&upsert));
    let current = world.current().clone();
    let delete = world.delete(&current, &[30]);
    let _ = world.commit(&delete);
    conflicts(&world.commit(&upsert));
    assert_eq!(affected(&world.commit(&other)), 1);
    for round in 0..40 {
        let _ = world.insert(&some(&[1_000 + round]));
        let current = world.current().clone();
        let truncate = world.truncate(&current);
        let _ = world.commit(&truncate);
        conflicts(&world.commit(&upsert));
    }
    assert!(world.current().header().dropped.len() <= 8);
}

#[test]
fn a_row_that_came_with_the_key_of_a_deleted_one_is_another_row() {
    let mut world = World::new();
    let (old, new) = (upserted(0, 0), upserted(0, 1));
    let _ = world.insert(&some(&[old]));
    let base = world.current().clone();
    let [delete, late] = [0; 2].map(|_| world.delete(&base, &[old]));
    let update = world.update(&base, &[old], 7);
    assert_eq!(affected(&world.commit(&delete)), 1);
    let current = world.current().clone();
    let upsert = world.upsert(&current, &[new]);
    assert_eq!(affected(&world.commit(&upsert)), 1);
    // Those who saw the old row have nothing to say of the new one.
    assert!(matches!(world.commit(&late), Outcome::NothingLeft));
    assert!(matches!(world.commit(&update), Outcome::Conflict(_)));
    assert_eq!(keys(&world), [new]);
}

#[test]
fn keys_of_which_nothing_is_known_conflict_with_every_row_that_comes_and_with_nothing_else() {
    let (mut world, base) = ten();
    let mut unknown = world.upsert(&base, &[30]);
    unknown.absent_keys = vec![AbsentKeys::unknown()];
    let delete = world.delete(&base, &[1]);
    let _ = world.commit(&delete);
    let current = world.current().clone();
    let compaction = world.compact(&current);
    let _ = world.commit(&compaction);
    let again = unknown.clone();
    assert_eq!(affected(&world.commit(&unknown)), 1);
    conflicts(&world.commit(&again));
}

#[test]
fn superfiles_without_statistics_may_hold_any_key() {
    let (mut world, base) = ten();
    let upsert = world.upsert(&base, &[30]);
    let effect = Effect {
        insert: some(&[20]),
        ..Effect::default()
    };
    let mut insert = world.change_set(OpKind::Insert, &base, effect, false, 1);
    insert.add[0].stats = SuperfileStats::default();
    let _ = world.commit(&insert);
    conflicts(&world.commit(&upsert));
}

#[test]
fn a_file_of_others_with_one_key_is_known_by_its_bounds_only() {
    let (mut world, base) = ten();
    let upserts = [world.upsert(&base, &[30]), world.upsert(&base, &[31])];
    let effect = Effect {
        insert: some(&[30]),
        ..Effect::default()
    };
    let mut adopted = world.change_set(OpKind::Insert, &base, effect, false, 1);
    adopted.add[0].external = Some(ExternalFile::default());
    let _ = world.commit(&adopted);
    conflicts(&world.commit(&upserts[0]));
    assert_eq!(affected(&world.commit(&upserts[1])), 1);
}

#[test]
fn what_a_version_remembers_of_keys_is_bounded() {
    let (mut world, _) = ten();
    for round in 0..60 {
        let base = world.current().clone();
        let keys: Vec<Row> = (0..300).map(|i| 1_000 + round + 61 * i).collect();
        let upsert = world.upsert(&base, &keys);
        assert_eq!(affected(&world.commit(&upsert)), 300);
        let known = &world.current().header().added_keys;
        assert!(known.iter().map(|k| k.hashes.len()).sum::<usize>() <= 4096);
    }
    for _ in 0..40 {
        let current = world.current().clone();
        let row = *world.rows(&current).keys().next().unwrap();
        let delete = world.delete(&current, &[row]);
        let _ = world.commit(&delete);
    }
    assert_eq!(world.current().header().added_keys, []);
}

#[test]
fn more_keys_than_are_kept_one_by_one_are_kept_as_bounds() {
    let few = absent(0..MAX_RANGES as Row);
    assert_eq!(few.ranges.len(), MAX_RANGES);
    assert_eq!(few.hashes.as_ref().map(Vec::len), Some(MAX_RANGES));
    let more = absent(0..=MAX_RANGES as Row);
    assert_eq!(more.ranges.len(), 1);
    assert!(more.hashes.is_some());
    let many = absent(0..=MAX_HASHES as Row);
    assert_eq!((many.ranges.len(), many.hashes), (1, None));
}

#[test]
fn of_several_keys_each_is_asked_for() {
    let (mut world, base) = ten();
    let mut two = world.upsert(&base, &[30]);
    // Of another column, of which the rows of these worlds have no statistics.
    let other = AbsentKeys::of_column(77, [StatValue::Int(1)]).unwrap();
    two.absent_keys.push(other.clone());
    let mut alone = world.upsert(&base, &[31]);
    let unlike = AbsentKeys::of_column(77, [StatValue::Int(5)]);
    alone.absent_keys.extend(unlike);
    let mut same = world.upsert(&base, &[32]);
    same.absent_keys.push(other);
    assert_eq!(affected(&world.commit(&two)), 1);
    // One of them may have been added, though the other one was not.
    let rows = &world.current().header().added_keys;
    assert!(rows.iter().all(|keys| keys.columns.len() == 1));
    let again = world.commit(&alone);
    assert!(matches!(again, Outcome::Committed(_)), "{again:?}");
    conflicts(&world.commit(&same));
    let _ = world.insert(&some(&[20]));
    let mut late = world.upsert(&base, &[60]);
    late.absent_keys
        .push(AbsentKeys::of_column(77, [StatValue::Int(2)]).unwrap());
    conflicts(&world.commit(&late));
}
