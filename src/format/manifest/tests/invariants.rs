//! `check_successor` refuses what must not follow.

use std::sync::Arc;

use crate::format::ids::ContentHash;
use crate::format::manifest::InvariantViolation as V;
use crate::format::manifest::*;
use crate::format::tests::samples;

fn current() -> Manifest {
    let manifest = samples::manifest(10);
    manifest.encode().unwrap();
    manifest
}

fn header(current: &Manifest) -> ManifestHeader {
    ManifestHeader {
        version: 4,
        parent: current.hash(),
        commits: vec![samples::commit(4)],
        pending: vec![samples::commit(3), samples::commit(1)],
        ..current.header().clone()
    }
}

fn check(change: impl FnOnce(&mut ManifestHeader)) -> Result<(), V> {
    check_edit(ManifestEdit::default(), change)
}

fn check_edit(edit: ManifestEdit, change: impl FnOnce(&mut ManifestHeader)) -> Result<(), V> {
    let current = current();
    let mut header = header(&current);
    change(&mut header);
    check_successor(&current, &edit.apply(&current, header).unwrap())
}

#[test]
fn a_proper_successor_passes() {
    check(|_| ()).unwrap();
}

#[test]
fn versions_and_parents_make_a_chain() {
    assert!(matches!(check(|h| h.version = 5), Err(V::Version { .. })));
    assert!(matches!(check(|h| h.version = 3), Err(V::Version { .. })));
    assert!(matches!(check(|h| h.parent = None), Err(V::Parent { .. })));
    assert!(matches!(
        check(|h| h.parent = Some(ContentHash::of(b"other"))),
        Err(V::Parent { .. })
    ));
    assert!(matches!(
        check(|h| h.skips.push(ContentHash::of(b"other"))),
        Err(V::Skips { .. })
    ));
}

#[test]
fn a_table_keeps_its_id_and_never_reuses_field_ids() {
    assert!(matches!(
        check(|h| {
            let mut metadata = samples::metadata();
            metadata.table_id = uuid::Uuid::from_u128(9).into();
            h.metadata = Arc::new(metadata);
        }),
        Err(V::TableId)
    ));
    assert!(matches!(
        check(|h| {
            let mut metadata = samples::metadata();
            metadata.next_field_id -= 1;
            h.metadata = Arc::new(metadata);
        }),
        Err(V::FieldIds { .. })
    ));
    // A dropped column's physical name is forgotten; and so is one that was retired before.
    let drop_first = |metadata: &mut TableMetadata| {
        let fields = metadata.schema.fields().iter().skip(1).cloned();
        let fields: Vec<_> = fields.collect();
        metadata.schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields));
    };
    let forget = |metadata: &mut TableMetadata| metadata.retired_names.clear();
    let forgetful: [&dyn Fn(&mut TableMetadata); 2] = [&drop_first, &forget];
    for change in forgetful {
        assert!(matches!(
            check(|h| {
                let mut metadata = samples::metadata();
                change(&mut metadata);
                h.metadata = Arc::new(metadata);
            }),
            Err(V::PhysicalNames)
        ));
    }
}

#[test]
fn a_mutation_is_committed_once() {
    // Again after it was committed, while its record is pending, and twice in one version.
    for again in [samples::commit(3), samples::commit(2)] {
        let wal_id = again.wal_id;
        let again = CommitRecord {
            version: 4,
            ..again
        };
        assert!(matches!(
            check(move |h| h.commits = vec![again]),
            Err(V::CommittedTwice { wal_id: w }) if w == wal_id
        ));
    }
    assert!(matches!(
        check(|h| h.commits = vec![samples::commit(4), samples::commit(4)]),
        Err(V::CommittedTwice { .. })
    ));
    // A record that no version made.
    assert!(matches!(
        check(|h| h.pending.push(samples::commit(77))),
        Err(V::CommittedTwice { .. })
    ));
    assert!(matches!(
        check(|h| h.commits[0].version = 3),
        Err(V::RecordVersion { recorded: 3, .. })
    ));
}

#[test]
fn rows_do_not_come_back() {
    // Superfile 1 has 5 tombstones.
    let edit = ManifestEdit {
        set_tombstones: vec![TombstoneUpdate {
            superfile: samples::superfile(1),
            tombstones: samples::tombstone_ref(3, 4),
            moved_at: 0,
        }],
        ..ManifestEdit::default()
    };
    assert!(matches!(
        check_edit(edit, |_| ()),
        Err(V::Superfile { superfile }) if superfile == samples::superfile(1)
    ));
}

#[test]
fn a_superfile_is_immutable() {
    let current = current();
    let drop = ManifestEdit {
        drop: vec![samples::superfile(2)],
        ..ManifestEdit::default()
    };
    let dropped = drop.apply(&current, header(&current)).unwrap();
    let changed = SuperfileEntry {
        rows: 1_001,
        ..samples::entry(2)
    };
    let add = ManifestEdit {
        add: vec![changed],
        ..ManifestEdit::default()
    };
    let replaced = add.apply(&dropped, header(&current)).unwrap();
    assert!(matches!(
        check_successor(&current, &replaced),
        Err(V::Superfile { .. })
    ));
}

#[test]
fn the_first_version_has_no_parent() {
    let header = ManifestHeader::first(Arc::new(samples::metadata()), 0);
    check_first(&Manifest::empty(header.clone())).unwrap();
    let second = ManifestHeader {
        version: 2,
        ..header.clone()
    };
    assert!(check_first(&Manifest::empty(second)).is_err());
    let child = ManifestHeader {
        parent: Some(ContentHash::of(b"")),
        ..header
    };
    assert!(check_first(&Manifest::empty(child)).is_err());
}
