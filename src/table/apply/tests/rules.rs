//! The rules of `apply`, one by one.

use std::collections::HashMap;
use std::sync::Arc;

use super::world::*;
use crate::error::{Error, ErrorKind};
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

#[test]
fn deletes_of_disjoint_rows_merge() {
    let (mut world, base) = ten();
    let (a, b) = (world.delete(&base, &[1, 2]), world.delete(&base, &[3]));
    assert_eq!(affected(&world.commit(&a)), 2);
    assert_eq!(affected(&world.commit(&b)), 1);
    assert_eq!(keys(&world), [0, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn an_undisturbed_delete_needs_no_sidecar_and_uses_the_staged_one() {
    let (mut world, base) = ten();
    let first = world.delete(&base, &[1]);
    assert!(needed_sidecars(&base, &[&first]).is_empty());
    let _ = world.commit(&first);
    let base = world.current().clone();
    let second = world.delete(&base, &[2]);
    assert!(needed_sidecars(&base, &[&second]).is_empty());
    let _ = world.commit(&second);
    let in_force = world.current().entries().next().unwrap().tombstones;
    assert_eq!(in_force, Some(second.tombstone[0].union));
}

#[test]
fn rows_already_deleted_drop_out_of_a_delete() {
    let (mut world, base) = ten();
    let (a, b) = (world.delete(&base, &[1, 2]), world.delete(&base, &[2, 3]));
    let _ = world.commit(&a);
    assert_eq!(affected(&world.commit(&b)), 1);
    let c = world.delete(&base, &[1, 3]);
    assert_eq!(world.commit(&c), Outcome::NothingLeft);
}

#[test]
fn a_row_already_updated_makes_a_delete_run_again() {
    // Were it to drop out, its new version would survive in any order of the two statements.
    let (mut world, base) = ten();
    let (update, delete) = (world.update(&base, &[1], 7), world.delete(&base, &[1, 2]));
    assert_eq!(affected(&world.commit(&update)), 1);
    assert_eq!(*reason(&world.commit(&delete)), R::RowsMoved);
    let base = world.current().clone();
    let rerun = world.delete(&base, &[1, 2]);
    assert_eq!(affected(&world.commit(&rerun)), 2);
    assert_eq!(keys(&world), [0, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_delete_of_other_rows_than_those_updated_merges() {
    let (mut world, base) = ten();
    let (update, delete) = (world.update(&base, &[1], 7), world.delete(&base, &[2]));
    let _ = world.commit(&update);
    assert_eq!(affected(&world.commit(&delete)), 1);
}

#[test]
fn updates_of_disjoint_rows_merge_and_of_the_same_row_conflict() {
    let (mut world, base) = ten();
    let a = world.update(&base, &[1, 2], 7);
    let b = world.update(&base, &[3], 8);
    let c = world.update(&base, &[2, 4], 9);
    assert_eq!(affected(&world.commit(&a)), 2);
    assert_eq!(affected(&world.commit(&b)), 1);
    assert_eq!(*reason(&world.commit(&c)), R::RowsChanged { rows: 1 });
    let rows = world.rows(world.current());
    assert_eq!((rows[&1], rows[&2], rows[&3], rows[&4]), (7, 7, 8, 0));
}

#[test]
fn an_update_of_a_row_already_deleted_conflicts() {
    let (mut world, base) = ten();
    let (delete, update) = (world.delete(&base, &[1]), world.update(&base, &[1, 2], 7));
    let _ = world.commit(&delete);
    assert_eq!(*reason(&world.commit(&update)), R::RowsChanged { rows: 1 });
}

#[test]
fn a_merge_that_only_deletes_is_as_strict_as_any_merge() {
    let (mut world, base) = ten();
    let delete = world.delete(&base, &[1]);
    let mut merge = world.delete(&base, &[1]);
    merge.op = OpKind::Merge;
    let _ = world.commit(&delete);
    assert_eq!(*reason(&world.commit(&merge)), R::RowsChanged { rows: 1 });
}

#[test]
fn a_superfile_without_live_rows_leaves_the_manifest() {
    let (mut world, base) = ten();
    let (a, b) = (
        world.delete(&base, &[0, 1, 2, 3, 4]),
        world.delete(&base, &[5, 6, 7, 8, 9]),
    );
    let _ = world.commit(&a);
    assert_eq!(affected(&world.commit(&b)), 5);
    assert_eq!(world.current().totals(), Totals::default());
}

#[test]
fn a_superfile_that_was_deleted_whole_drops_out_of_a_delete() {
    let (mut world, base) = ten();
    let (all, some) = (world.truncate(&base), world.delete(&base, &[1, 2]));
    assert_eq!(affected(&world.commit(&all)), 10);
    assert_eq!(world.commit(&some), Outcome::NothingLeft);
}

#[test]
fn a_superfile_that_was_rewritten_makes_a_delete_run_again() {
    for rewrite in ["update", "compact", "overwrite"] {
        let (mut world, base) = ten();
        let delete = world.delete(&base, &[1, 2]);
        let truncate = world.truncate(&base);
        let change = match rewrite {
            "update" => world.update(&base, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 1),
            "compact" => world.compact(&base),
            _ => world.overwrite(&base, &rows(0..5)),
        };
        let _ = world.commit(&change);
        assert_eq!(*reason(&world.commit(&delete)), R::SuperfileGone);
        assert_eq!(*reason(&world.commit(&truncate)), R::SuperfileGone);
    }
}

#[test]
fn an_update_of_a_superfile_that_is_gone_conflicts() {
    let (mut world, base) = ten();
    let (truncate, update) = (world.truncate(&base), world.update(&base, &[1], 7));
    let _ = world.commit(&truncate);
    assert_eq!(*reason(&world.commit(&update)), R::SuperfileGone);
}

#[test]
fn a_truncate_counts_only_rows_that_were_left() {
    let (mut world, base) = ten();
    let (delete, truncate) = (world.delete(&base, &[1, 2]), world.truncate(&base));
    let _ = world.commit(&delete);
    assert_eq!(affected(&world.commit(&truncate)), 8);
    assert!(keys(&world).is_empty());
    let truncate = world.truncate(&base);
    assert_eq!(world.commit(&truncate), Outcome::NothingLeft);
}

/// A DELETE that proved, unread, that all rows of a superfile go.
fn delete_whole(world: &mut World, base: &Manifest) -> ChangeSet {
    let all: std::collections::BTreeSet<_> = world.rows(base).into_keys().collect();
    let effect = Effect {
        delete: all,
        ..Effect::default()
    };
    let change_set = world.change_set(OpKind::Delete, base, effect, true, 1);
    assert_eq!(change_set.drop.len(), 1);
    assert!(needed_sidecars(base, &[&change_set]).is_empty());
    change_set
}

#[test]
fn a_delete_that_drops_a_superfile_merges_with_deletes_and_counts_what_was_left() {
    let (mut world, base) = ten();
    let (some, whole) = (
        world.delete(&base, &[1, 2, 3]),
        delete_whole(&mut world, &base),
    );
    assert_eq!(affected(&world.commit(&some)), 3);
    assert_eq!(affected(&world.commit(&whole)), 7);
    assert!(keys(&world).is_empty());
    let again = world.delete(&base, &[1]);
    assert_eq!(world.commit(&again), Outcome::NothingLeft);
}

#[test]
fn a_delete_that_drops_a_superfile_keeps_rows_inserted_since() {
    let (mut world, base) = ten();
    let whole = delete_whole(&mut world, &base);
    let _ = world.insert(&rows(10..12));
    assert_eq!(affected(&world.commit(&whole)), 10);
    assert_eq!(keys(&world), [10, 11]);
}

#[test]
fn a_delete_that_drops_a_superfile_runs_again_when_its_rows_moved() {
    for rewrite in [OpKind::Update, OpKind::Merge, OpKind::Compact] {
        let (mut world, base) = ten();
        let whole = delete_whole(&mut world, &base);
        let moved = match rewrite {
            OpKind::Compact => world.compact(&base),
            op => world.replace(op, &base, &[4], 7),
        };
        let _ = world.commit(&moved);
        let outcome = world.commit(&whole);
        assert!(
            matches!(reason(&outcome), R::RowsMoved | R::SuperfileGone),
            "{rewrite}: {outcome:?}"
        );
    }
}

#[test]
fn two_deletes_that_drop_the_same_superfile_count_its_rows_once() {
    let (mut world, base) = ten();
    let (a, b) = (
        delete_whole(&mut world, &base),
        delete_whole(&mut world, &base),
    );
    let ids = [world.wal_id(), world.wal_id()];
    let outcomes = world.apply(&[(ids[0], &a), (ids[1], &b)], &[]);
    assert_eq!(affected(&outcomes[0]), 10);
    assert_eq!(outcomes[1], Outcome::NothingLeft);
}

#[test]
fn an_update_loses_against_a_delete_that_dropped_its_superfile() {
    let (mut world, base) = ten();
    let (whole, update) = (
        delete_whole(&mut world, &base),
        world.update(&base, &[4], 7),
    );
    let _ = world.commit(&whole);
    assert_eq!(*reason(&world.commit(&update)), R::SuperfileGone);
}

#[test]
fn a_truncate_keeps_rows_inserted_since_and_runs_again_after_an_update() {
    let (mut world, base) = ten();
    let truncate = world.truncate(&base);
    let _ = world.insert(&rows(10..12));
    assert_eq!(affected(&world.commit(&truncate)), 10);
    assert_eq!(keys(&world), [10, 11]);

    let (mut world, base) = ten();
    let (update, truncate) = (world.update(&base, &[1], 7), world.truncate(&base));
    let _ = world.commit(&update);
    assert_eq!(*reason(&world.commit(&truncate)), R::RowsMoved);
}

#[test]
fn an_overwrite_conflicts_with_whatever_it_may_have_read_or_missed() {
    let (mut world, base) = ten();
    let (delete, overwrite) = (
        world.delete(&base, &[1]),
        world.overwrite(&base, &rows(0..10)),
    );
    let _ = world.commit(&delete);
    // It may have copied row 1.
    assert_eq!(
        *reason(&world.commit(&overwrite)),
        R::RowsChanged { rows: 1 }
    );
    // Two that start from an empty table: each would keep the other's rows.
    let mut world = World::new();
    let base = world.current().clone();
    let (a, b) = (
        world.overwrite(&base, &rows(0..1)),
        world.overwrite(&base, &rows(1..2)),
    );
    assert_eq!(affected(&world.commit(&a)), 1);
    assert_eq!(*reason(&world.commit(&b)), R::Rewritten);
}

#[test]
fn an_overwrite_lets_appends_since_stand() {
    let (mut world, base) = ten();
    let overwrite = world.overwrite(&base, &rows(20..22));
    let _ = world.insert(&rows(10..11));
    assert_eq!(affected(&world.commit(&overwrite)), 2);
    assert_eq!(keys(&world), [10, 20, 21]);
}

#[test]
fn a_compaction_that_does_not_tell_its_moves_conflicts_with_changes_of_its_sources_only() {
    let (mut world, base) = ten();
    let compact = world.compact(&base);
    let delete = world.delete(&base, &[1]);
    let _ = world.insert(&rows(10..11));
    assert_eq!(affected(&world.commit(&compact)), 0);
    assert_eq!(keys(&world).len(), 11);
    assert_eq!(*reason(&world.commit(&delete)), R::SuperfileGone);

    let (mut world, base) = ten();
    world.tell_moves = false;
    let (compact, delete) = (world.compact(&base), world.delete(&base, &[1]));
    let _ = world.commit(&delete);
    assert_eq!(*reason(&world.commit(&compact)), R::CompactionSourceChanged);
}

#[test]
fn rows_deleted_and_updated_while_they_are_compacted_are_carried_over() {
    let (mut world, _) = ten();
    let _ = world.insert(&rows(10..20));
    let base = world.current().clone();
    let early = world.delete(&base, &[3]);
    let _ = world.commit(&early);
    let base = world.current().clone();
    let compact = world.compact_into(&base, 3);
    let delete = world.delete(&base, &[1, 11]);
    let update = world.update(&base, &[2, 12], 7);
    let _ = world.commit(&delete);
    let _ = world.commit(&update);
    // Its sources' sidecars are needed, to see what went.
    assert_eq!(needed_sidecars(world.current(), &[&compact]).len(), 2);
    let before = world.rows(world.current());
    assert_eq!(affected(&world.commit(&compact)), 0);
    assert_eq!(world.rows(world.current()), before);
    assert_eq!((before[&2], before[&12], before.len()), (7, 7, 17));
    assert!(
        base.entries()
            .all(|old| world.current().get(&old.id).is_none())
    );
    // What was carried over can be deleted from like anything else.
    let base = world.current().clone();
    let delete = world.delete(&base, &[0, 2, 19]);
    assert_eq!(affected(&world.commit(&delete)), 3);
}

#[test]
fn a_statement_in_one_version_with_a_compaction_is_carried_over_too() {
    for order in [[0, 1], [1, 0]] {
        let (mut world, base) = ten();
        let compact = world.compact(&base);
        let delete = world.delete(&base, &[1, 2]);
        let both = [&compact, &delete].map(|cs| (world.wal_id(), cs));
        let outcomes = world.apply(&order.map(|i| both[i]), &[]);
        if order[0] == 0 {
            // The compaction is first: where the rows of the DELETE are now, it has to look again.
            assert_eq!(*reason(&outcomes[1]), R::SuperfileGone);
            assert_eq!(keys(&world).len(), 10);
        } else {
            assert_eq!(affected(&outcomes[0]), 2);
            assert_eq!(affected(&outcomes[1]), 0);
            assert_eq!(keys(&world).len(), 8);
        }
    }
}

#[test]
fn a_source_whose_rows_are_all_gone_is_carried_over_as_nothing() {
    let (mut world, _) = ten();
    let _ = world.insert(&rows(10..12));
    let base = world.current().clone();
    let compact = world.compact_into(&base, 2);
    let delete = world.delete(&base, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let _ = world.commit(&delete);
    assert_eq!(affected(&world.commit(&compact)), 0);
    assert_eq!(keys(&world), [10, 11]);
    // The superfile of rows that are all gone does not come in.
    assert_eq!(world.current().entries().count(), 1);

    let (mut world, base) = ten();
    let (compact, truncate) = (world.compact(&base), world.truncate(&base));
    let _ = world.commit(&truncate);
    assert_eq!(world.commit(&compact), Outcome::NothingLeft);
}

#[test]
fn a_source_that_was_rewritten_makes_a_compaction_start_again() {
    let (mut world, base) = ten();
    let (a, b) = (world.compact(&base), world.compact_into(&base, 2));
    let overwrite = world.overwrite(&base, &rows(0..5));
    assert_eq!(affected(&world.commit(&a)), 0);
    assert_eq!(*reason(&world.commit(&b)), R::SuperfileGone);
    assert_eq!(*reason(&world.commit(&overwrite)), R::Rewritten);
    assert_eq!(keys(&world).len(), 10);
}

#[test]
fn rows_that_come_back_while_they_are_compacted_are_not_lost() {
    let (mut world, whole) = ten();
    let delete = world.delete(&whole, &[4, 5]);
    let _ = world.commit(&delete);
    let base = world.current().clone();
    let compact = world.compact(&base);
    // As a restore does: the superfile with fewer tombstones than the compaction saw. No statement of
    // today makes such a version out of this one, so it is built from the one before.
    let mut restored = whole.clone();
    let header = ManifestHeader {
        version: base.version(),
        ..whole.header().clone()
    };
    restored = ManifestEdit::default().apply(&restored, header).unwrap();
    let root = restored.encode().unwrap().root;
    let ctx = ApplyContext {
        now_ms: 0,
        gone_wal_ids: &[],
        fresh: IdBlock::new(0, 0),
    };
    let id = world.wal_id();
    let applied = apply(&restored, &root, &[(id, &compact)], &HashMap::new(), ctx).unwrap();
    assert_eq!(*reason(&applied.outcomes[0].1), R::CompactionSourceChanged);
}

#[test]
fn inserts_never_conflict() {
    let (mut world, base) = ten();
    let truncate = world.truncate(&base);
    let effect = Effect {
        insert: rows(10..12),
        ..Effect::default()
    };
    let insert = world.change_set(OpKind::Insert, &base, effect, false, 2);
    let _ = world.commit(&truncate);
    assert_eq!(affected(&world.commit(&insert)), 2);
}

#[test]
fn a_serializable_statement_conflicts_with_every_change_of_rows() {
    type Change = fn(&mut World, &Manifest) -> ChangeSet;
    let changes: [(&str, Change); 4] = [
        ("delete", |w, base| w.delete(base, &[9])),
        ("update", |w, base| w.update(base, &[9], 7)),
        ("overwrite", |w, base| w.overwrite(base, &rows(20..21))),
        ("insert", |w, base| {
            let effect = Effect {
                insert: rows(20..21),
                ..Effect::default()
            };
            w.change_set(OpKind::Insert, base, effect, false, 1)
        }),
    ];
    for (name, change) in changes {
        let (mut world, base) = ten();
        let change = change(&mut world, &base);
        let mut delete = world.delete(&base, &[1]);
        delete.serializable = true;
        let _ = world.commit(&change);
        assert_eq!(*reason(&world.commit(&delete)), R::ReadChanged, "{name}");
        // Within one group the earlier ones count, too.
        let base = world.current().clone();
        let target = keys(&world)[0];
        let (mut a, mut b) = (
            world.delete(&base, &[target]),
            world.delete(&base, &[target]),
        );
        (a.serializable, b.serializable) = (true, true);
        let ids = [world.wal_id(), world.wal_id()];
        let outcomes = world.apply(&[(ids[0], &a), (ids[1], &b)], &[]);
        assert_eq!(affected(&outcomes[0]), 1);
        assert_eq!(*reason(&outcomes[1]), R::ReadChanged);
    }
}

#[test]
fn a_serializable_statement_is_indifferent_to_compactions_and_metadata() {
    let (mut world, base) = ten();
    let mut insert = world.change_set(
        OpKind::Insert,
        &base,
        Effect {
            insert: rows(20..21),
            ..Effect::default()
        },
        false,
        1,
    );
    insert.serializable = true;
    let compaction = world.compact(&base);
    let _ = world.commit(&compaction);
    let current = world.current().clone();
    let altered = alter(&mut world, &current, Some("x"), false);
    let _ = world.commit(&altered);
    let header = world.current().header();
    assert_eq!((header.version, header.rows_changed_at), (4, 2));
    assert_eq!(affected(&world.commit(&insert)), 1);
    assert_eq!(world.current().header().rows_changed_at, 5);
}

fn alter(world: &mut World, base: &Manifest, property: Option<&str>, field: bool) -> ChangeSet {
    let mut metadata = base.header().metadata.as_ref().clone();
    if let Some(property) = property {
        metadata.properties.insert(property.into(), "1".into());
    }
    if field {
        let mut fields: Vec<_> = metadata.schema.fields().iter().cloned().collect();
        fields.pop();
        metadata.schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields));
        metadata.retire_names_of(&base.header().metadata);
    }
    let mut change_set = world.change_set(OpKind::Alter, base, Effect::default(), false, 1);
    change_set.metadata = Some(metadata);
    change_set
}

#[test]
fn one_metadata_change_at_a_time() {
    let (mut world, base) = ten();
    let a = alter(&mut world, &base, Some("a"), false);
    let b = alter(&mut world, &base, Some("b"), false);
    assert_eq!(affected(&world.commit(&a)), 0);
    assert_eq!(*reason(&world.commit(&b)), R::MetadataChanged);
    let header = world.current().header();
    assert!(header.metadata.properties.contains_key("a"));
    assert_eq!(header.metadata_changed_at, header.version);
    assert_eq!(header.schema_changed_at, 1);
    // Setting what is set already is nothing.
    let base = world.current().clone();
    let again = alter(&mut world, &base, Some("a"), false);
    assert_eq!(world.commit(&again), Outcome::NothingLeft);
}

#[test]
fn a_column_that_old_rows_have_no_value_for_needs_the_empty_table_that_the_statement_saw() {
    let required = |world: &mut World, base: &Manifest, default: bool| {
        let mut change_set = alter(world, base, None, false);
        let mut metadata = base.header().metadata.as_ref().clone();
        let id = metadata.next_field_id;
        metadata.next_field_id += 1;
        let field = datafusion::arrow::datatypes::Field::new(
            "required",
            datafusion::arrow::datatypes::DataType::Int32,
            false,
        )
        .with_metadata(HashMap::from([(FIELD_ID_KEY.to_owned(), id.to_string())]));
        let mut fields: Vec<_> = metadata.schema.fields().iter().cloned().collect();
        fields.push(Arc::new(field));
        metadata.schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields));
        if default {
            metadata.initial_defaults.insert(id, "1".to_owned());
        }
        change_set.metadata = Some(metadata);
        change_set
    };
    let mut world = World::new();
    let empty = world.current().clone();
    let (first, late) = (
        required(&mut world, &empty, false),
        required(&mut world, &empty, false),
    );
    let with_default = required(&mut world, &empty, true);
    assert_eq!(affected(&world.commit(&first)), 0);

    // Rows came in, and even if they are gone again: a conflict stays one.
    let mut world = World::new();
    assert_eq!(affected(&world.insert(&rows(0..1))), 1);
    assert_eq!(*reason(&world.commit(&late)), R::NoLongerEmpty);
    let base = world.current().clone();
    let truncate = world.truncate(&base);
    let _ = world.commit(&truncate);
    assert_eq!(*reason(&world.commit(&late)), R::NoLongerEmpty);
    assert_eq!(affected(&world.commit(&with_default)), 0);
}

#[test]
fn rows_of_an_older_schema_are_not_added() {
    let (mut world, base) = ten();
    let effect = || Effect {
        insert: rows(20..21),
        ..Effect::default()
    };
    let property = alter(&mut world, &base, Some("a"), false);
    let insert = world.change_set(OpKind::Insert, &base, effect(), false, 1);
    let _ = world.commit(&property);
    assert_eq!(affected(&world.commit(&insert)), 1);
    let base = world.current().clone();
    let schema = alter(&mut world, &base, None, true);
    let insert = world.change_set(OpKind::Insert, &base, effect(), false, 1);
    let delete = world.delete(&base, &[1]);
    let _ = world.commit(&schema);
    assert_eq!(*reason(&world.commit(&insert)), R::SchemaChanged);
    assert_eq!(affected(&world.commit(&delete)), 1);
}

#[test]
fn a_group_commits_in_one_version_and_the_later_see_the_earlier() {
    let (mut world, base) = ten();
    let pre = world.delete(&base, &[0]);
    let _ = world.commit(&pre);
    let base = world.current().clone();
    let a = world.delete(&base, &[1, 2]);
    let b = world.delete(&base, &[2, 3]);
    let c = world.update(&base, &[4], 7);
    let d = world.update(&base, &[4, 5], 8);
    let e = world.delete(&base, &[4]);
    let f = world.delete(&base, &[6]);
    let ids: Vec<_> = (0..6).map(|_| world.wal_id()).collect();
    let changes: Vec<_> = ids.iter().copied().zip([&a, &b, &c, &d, &e, &f]).collect();
    // Two of the group change the superfile, so its sidecar is needed.
    assert!(needed_sidecars(&base, &[&a]).is_empty());
    assert_eq!(needed_sidecars(&base, &[&a, &b]).len(), 1);
    let outcomes = world.apply(&changes, &[]);
    assert_eq!(affected(&outcomes[0]), 2);
    assert_eq!(affected(&outcomes[1]), 1);
    assert_eq!(affected(&outcomes[2]), 1);
    assert_eq!(*reason(&outcomes[3]), R::RowsChanged { rows: 1 });
    assert_eq!(*reason(&outcomes[4]), R::RowsMoved);
    assert_eq!(affected(&outcomes[5]), 1);
    assert_eq!(world.current().version(), base.version() + 1);
    let rows = world.rows(world.current());
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [4, 5, 7, 8, 9]);
    assert_eq!(rows[&4], 7);
}

#[test]
fn a_mutation_is_committed_once_until_its_document_is_gone() {
    let (mut world, base) = ten();
    let delete = world.delete(&base, &[1]);
    let id = world.wal_id();
    let outcome = world.apply(&[(id, &delete), (id, &delete)], &[]);
    let Outcome::Committed(record) = &outcome[0] else {
        panic!("{outcome:?}")
    };
    assert_eq!(outcome[1], Outcome::AlreadyCommitted(record.clone()));
    for _ in 0..3 {
        let outcome = world.apply(&[(id, &delete)], &[]).remove(0);
        assert_eq!(outcome, Outcome::AlreadyCommitted(record.clone()));
        let _ = world.insert(&rows(100..101));
        // Rows may not stand twice: make room for the next insert.
        let base = world.current().clone();
        let undo = world.delete(&base, &[100]);
        let _ = world.commit(&undo);
    }
    assert!(world.current().header().commit_record(&id).is_some());
    let insert = world.wal_id();
    let base = world.current().clone();
    let other = world.delete(&base, &[2]);
    let _ = world.apply(&[(insert, &other)], &[id]);
    assert_eq!(world.current().header().commit_record(&id), None);
}

#[test]
fn a_change_set_from_a_later_version_is_not_judged() {
    let (mut world, old) = ten();
    let _ = world.insert(&rows(10..12));
    let base = world.current().clone();
    let delete = world.delete(&base, &[11]);
    let id = world.wal_id();
    let ctx = ApplyContext {
        now_ms: 0,
        gone_wal_ids: &[],
        fresh: IdBlock::new(0, 0),
    };
    let applied = apply(
        &old,
        &old.hash().unwrap(),
        &[(id, &delete)],
        &HashMap::new(),
        ctx,
    )
    .unwrap();
    assert!(applied.manifest.is_none());
    assert_eq!(applied.outcomes, [(id, Outcome::AheadOfManifest)]);
}

#[test]
fn a_change_set_that_contradicts_the_manifest_is_an_error_that_names_it() {
    let (mut world, base) = ten();
    let good = world.delete(&base, &[1]);
    let mut past_the_end = good.clone();
    past_the_end.tombstone[0].delta = [10].into_iter().collect();
    let mut wrong_union = good.clone();
    wrong_union.tombstone[0].union.cardinality = 2;
    let mut wrong_count = world.truncate(&base);
    wrong_count.drop[0].live_rows = 9;
    let mut exists = good.clone();
    exists.tombstone.clear();
    exists.add = vec![base.entries().next().unwrap().as_ref().clone()];
    let mut foreign = good.clone();
    let mut metadata = base.header().metadata.as_ref().clone();
    metadata.table_id = uuid(99).into();
    foreign.metadata = Some(metadata);
    let id = world.wal_id();
    let ctx = ApplyContext {
        now_ms: 0,
        gone_wal_ids: &[],
        fresh: IdBlock::new(0, 0),
    };
    for bad in [past_the_end, wrong_union, wrong_count, exists, foreign] {
        let error = apply(
            &base,
            &base.hash().unwrap(),
            &[(id, &bad)],
            &HashMap::new(),
            ctx,
        )
        .unwrap_err();
        assert!(matches!(error, ApplyError::Inconsistent { wal_id, .. } if wal_id == id));
        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.subject().ends_with(&format!("{id}.arrow")));
    }
}

#[test]
fn missing_and_wrong_sidecars_are_errors() {
    let (mut world, base) = ten();
    let (a, b) = (world.delete(&base, &[1]), world.delete(&base, &[2]));
    let _ = world.commit(&a);
    let current = world.current().clone();
    let (id, hash) = (world.wal_id(), current.hash().unwrap());
    let sidecar = needed_sidecars(&current, &[&b])[0].1.sidecar;
    let ctx = ApplyContext {
        now_ms: 0,
        gone_wal_ids: &[],
        fresh: IdBlock::new(0, 0),
    };
    let try_with =
        |sidecars: HashMap<_, _>| apply(&current, &hash, &[(id, &b)], &sidecars, ctx).unwrap_err();
    assert!(matches!(
        try_with(HashMap::new()),
        ApplyError::MissingSidecar { .. }
    ));
    let wrong: roaring::RoaringBitmap = (0..3).collect();
    assert!(matches!(
        try_with(HashMap::from([(sidecar, Arc::new(wrong))])),
        ApplyError::WrongSidecar {
            recorded: 1,
            actual: 3,
            ..
        }
    ));
}

#[test]
fn a_key_is_declared_only_over_rows_that_were_read_and_rows_are_added_only_with_the_key_in_mind() {
    let declared = |world: &mut World, base: &Manifest, reads: bool| {
        let mut metadata = base.header().metadata.as_ref().clone();
        metadata.keys.push(UniqueKey {
            name: "new".to_owned(),
            is_primary: false,
            columns: vec![1],
        });
        let effect = Effect::default();
        let mut change_set = world.change_set(OpKind::Alter, base, effect, false, 1);
        change_set.metadata = Some(metadata);
        change_set.serializable = reads;
        change_set
    };
    let (mut world, base) = ten();
    let blind = declared(&mut world, &base, false);
    assert_eq!(*reason(&world.commit(&blind)), R::NoLongerEmpty);
    let overtaken = declared(&mut world, &base, true);
    let _ = world.insert(&rows(20..30));
    assert_eq!(*reason(&world.commit(&overtaken)), R::ReadChanged);
    let current = world.current().clone();
    let adds: Vec<ChangeSet> = vec![
        world.upsert(&current, &[40]),
        world.update(&current, &[1], 7),
        world.overwrite(&current, &rows(0..5)),
    ];
    let delete = world.delete(&current, &[2]);
    let alter = declared(&mut world, &current, true);
    assert!(matches!(world.commit(&alter), Outcome::Committed(_)));
    for change_set in adds {
        assert_eq!(*reason(&world.commit(&change_set)), R::SchemaChanged);
    }
    assert_eq!(affected(&world.commit(&delete)), 1);
    // A key that an older one implies changes nothing for those who add rows.
    let base = world.current().clone();
    let update = world.update(&base, &[3], 7);
    let mut metadata = base.header().metadata.as_ref().clone();
    metadata.keys.retain(|key| key.name == "new");
    let effect = Effect::default();
    let mut drop = world.change_set(OpKind::Alter, &base, effect, false, 1);
    drop.metadata = Some(metadata);
    assert!(matches!(world.commit(&drop), Outcome::Committed(_)));
    assert_eq!(affected(&world.commit(&update)), 1);
}
