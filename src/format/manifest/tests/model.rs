//! Random edits of the tree against a sorted map.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::Nodes;
use crate::format::manifest::entry::{MAX_ENTRIES_PER_LEAF, MAX_LEAVES_PER_GROUP};
use crate::format::manifest::*;
use crate::format::tests::samples;
use crate::format::{SuperfileId, SuperfileStats};

type Model = BTreeMap<SuperfileId, SuperfileEntry>;

fn entry(n: u128) -> SuperfileEntry {
    SuperfileEntry {
        stats: SuperfileStats::default(),
        rows: 100 + (n % 7) as u64,
        ..samples::entry(n)
    }
}

fn next_header(manifest: &Manifest) -> ManifestHeader {
    ManifestHeader {
        version: manifest.version() + 1,
        parent: manifest.hash(),
        skips: (manifest.hash())
            .and_then(|root| manifest.header().skips_after(root))
            .unwrap_or_default(),
        commits: Vec::new(),
        pending: Vec::new(),
        ..manifest.header().clone()
    }
}

fn first() -> Manifest {
    Manifest::empty(ManifestHeader::first(Arc::new(samples::metadata()), 0))
}

fn check_against(manifest: &Manifest, model: &Model) {
    assert!(manifest.entries().map(|e| e.as_ref()).eq(model.values()));
    let totals = Totals::sum(model.values().map(Totals::of)).unwrap();
    assert_eq!(manifest.totals(), totals);
    assert_eq!(manifest.header().totals, totals);
    for group in manifest.groups() {
        assert!((1..=MAX_LEAVES_PER_GROUP).contains(&group.leaves().len()));
        for leaf in group.leaves() {
            assert!((1..=MAX_ENTRIES_PER_LEAF).contains(&leaf.entries().len()));
        }
    }
}

/// One random edit: (adds at the end, adds anywhere, tombstones, drops), each a list of numbers
/// that pick where.
type Edit = (u8, Vec<u32>, Vec<u32>, Vec<u32>);

fn steps(max_append: u8, max_picks: usize, count: usize) -> impl Strategy<Value = Vec<Edit>> {
    let picks = move || prop::collection::vec(any::<u32>(), 0..max_picks);
    prop::collection::vec((0..=max_append, picks(), picks(), picks()), 1..count)
}

fn make_edit(model: &Model, next: &mut u128, step: &Edit) -> ManifestEdit {
    let mut edit = ManifestEdit::default();
    for _ in 0..step.0 {
        edit.add.push(entry(*next));
        *next += 1_000;
    }
    for pick in &step.1 {
        // Below `next`: that id is the one that a later step adds at the end.
        let n = u128::from(*pick) % *next;
        let new = entry(n);
        if !model.contains_key(&new.id) && edit.add.iter().all(|e| e.id != new.id) {
            edit.add.push(new);
        }
    }
    let ids: Vec<_> = model.keys().copied().collect();
    let mut used = std::collections::HashSet::new();
    if !ids.is_empty() {
        for pick in &step.2 {
            let id = ids[*pick as usize % ids.len()];
            if used.insert(id) {
                let more = model[&id].deleted_rows() + 1;
                if more <= model[&id].rows {
                    edit.set_tombstones.push(TombstoneUpdate {
                        superfile: id,
                        tombstones: samples::tombstone_ref(u128::from(*pick), more),
                        moved_at: 1,
                    });
                }
            }
        }
        for pick in &step.3 {
            let id = ids[*pick as usize % ids.len()];
            if used.insert(id) {
                edit.drop.push(id);
            }
        }
    }
    edit
}

fn apply_to_model(model: &mut Model, edit: &ManifestEdit) {
    for id in &edit.drop {
        model.remove(id).unwrap();
    }
    for update in &edit.set_tombstones {
        let entry = model.get_mut(&update.superfile).unwrap();
        entry.tombstones = Some(update.tombstones);
        entry.moved_at = update.moved_at;
        entry.delete_count += 1;
    }
    for entry in &edit.add {
        model.insert(entry.id, entry.clone());
    }
}

fn run(initial: u128, steps: Vec<Edit>) {
    let mut nodes = Nodes::default();
    let mut model = Model::new();
    let mut next = 1_000;
    let mut manifest = first();
    check_first(&manifest).unwrap();
    nodes.put(&manifest.encode().unwrap());
    let fill = ManifestEdit {
        add: (0..initial).map(|i| entry(next + i * 1_000)).collect(),
        ..ManifestEdit::default()
    };
    next += initial * 1_000;
    let edits = std::iter::once(fill)
        .map(Ok)
        .chain(steps.into_iter().map(Err));
    for step in edits {
        let edit = step.unwrap_or_else(|step: Edit| make_edit(&model, &mut next, &step));
        apply_to_model(&mut model, &edit);
        let changed = edit.add.len() + edit.set_tombstones.len() + edit.drop.len();
        let before: Vec<_> = manifest.entries().cloned().collect();
        let proposed = edit.apply(&manifest, next_header(&manifest)).unwrap();
        // The old version is untouched.
        assert!(manifest.entries().eq(&before));
        check_against(&proposed, &model);
        check_successor(&manifest, &proposed).unwrap();

        let encoded = proposed.encode().unwrap();
        // Encoding again before the nodes are stored offers the same nodes again.
        assert_eq!(proposed.encode().unwrap().new_nodes, encoded.new_nodes);
        // A changed entry costs at most a leaf and its split or neighbour, and the same above.
        if before.len() > 200 {
            assert!(
                encoded.new_nodes.len() <= 1 + 5 * changed,
                "{changed} changes"
            );
        }
        nodes.put(&encoded);
        let (loaded, fetched) = nodes.load(&encoded.root, Some(&manifest)).unwrap();
        // What is new has to be fetched, and nothing else.
        assert!(fetched <= encoded.new_nodes.len());
        check_against(&loaded, &model);
        assert_eq!(loaded.header(), proposed.header());
        proposed.mark_persisted();
        assert!(proposed.encode().unwrap().new_nodes.is_empty());
        manifest = if changed % 2 == 0 { proposed } else { loaded };
    }
    let (loaded, _) = nodes.load(&manifest.hash().unwrap(), None).unwrap();
    check_against(&loaded, &model);
    for (id, entry) in &model {
        assert_eq!(loaded.get(id).unwrap().as_ref(), entry);
    }
    for n in [0, 1, 500, next, next + 1, u128::MAX >> 40] {
        let id = samples::superfile(n);
        assert_eq!(loaded.get(&id).map(|e| e.as_ref()), model.get(&id));
    }
}

#[test]
fn appends_leave_full_leaves_and_groups_behind() {
    let mut manifest = first();
    for i in 0..200 {
        let edit = ManifestEdit {
            add: (0..37).map(|j| entry(i * 100 + j)).collect(),
            ..ManifestEdit::default()
        };
        manifest = edit.apply(&manifest, next_header(&manifest)).unwrap();
        manifest.encode().unwrap();
    }
    let leaves: Vec<_> = manifest.groups().iter().flat_map(|g| g.leaves()).collect();
    assert_eq!(leaves.len(), (200 * 37usize).div_ceil(64));
    let (_, full) = leaves.split_last().unwrap();
    assert!(full.iter().all(|leaf| leaf.entries().len() == 64));
    let (_, full) = manifest.groups().split_last().unwrap();
    assert!(full.iter().all(|group| group.leaves().len() == 64));
}

#[test]
fn dropping_most_superfiles_leaves_no_tree_of_crumbs() {
    let edit = ManifestEdit {
        add: (0..10_000).map(entry).collect(),
        ..ManifestEdit::default()
    };
    let manifest = edit.apply(&first(), next_header(&first())).unwrap();
    let edit = ManifestEdit {
        drop: (0..10_000)
            .filter(|n| n % 50 != 0)
            .map(samples::superfile)
            .collect(),
        ..ManifestEdit::default()
    };
    manifest.encode().unwrap();
    let manifest = edit.apply(&manifest, next_header(&manifest)).unwrap();
    assert_eq!(manifest.entries().count(), 200);
    let leaves: usize = manifest.groups().iter().map(|g| g.leaves().len()).sum();
    assert!(leaves <= 200 / 16 + 1, "{leaves} leaves");
    assert_eq!(manifest.groups().len(), 1);
}

#[test]
fn edits_that_contradict_the_manifest_are_refused() {
    let manifest = samples::manifest(3);
    manifest.encode().unwrap();
    let try_edit = |edit: ManifestEdit| edit.apply(&manifest, next_header(&manifest)).unwrap_err();
    let tombstones = |n, cardinality| TombstoneUpdate {
        superfile: samples::superfile(n),
        tombstones: samples::tombstone_ref(1, cardinality),
        moved_at: 0,
    };
    let add = |n| ManifestEdit {
        add: vec![entry(n)],
        ..ManifestEdit::default()
    };
    assert!(matches!(
        try_edit(add(1)),
        EditError::AlreadyThere { superfile } if superfile == samples::superfile(1)
    ));
    assert!(matches!(
        try_edit(ManifestEdit {
            add: vec![entry(7), entry(7)],
            ..ManifestEdit::default()
        }),
        EditError::AlreadyThere { .. }
    ));
    assert!(matches!(
        try_edit(ManifestEdit {
            drop: vec![samples::superfile(9)],
            ..ManifestEdit::default()
        }),
        EditError::NotThere { .. }
    ));
    assert!(matches!(
        try_edit(ManifestEdit {
            set_tombstones: vec![tombstones(9, 1)],
            ..ManifestEdit::default()
        }),
        EditError::NotThere { .. }
    ));
    assert!(matches!(
        try_edit(ManifestEdit {
            set_tombstones: vec![tombstones(1, 6)],
            drop: vec![samples::superfile(1)],
            ..ManifestEdit::default()
        }),
        EditError::NamedTwice { .. }
    ));
    assert!(matches!(
        try_edit(ManifestEdit {
            set_tombstones: vec![tombstones(1, 1_001)],
            ..ManifestEdit::default()
        }),
        EditError::Invalid(ManifestError::MoreTombstonesThanRows { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_edits_of_a_small_tree_match_a_sorted_map(initial in 0u128..300, steps in steps(40, 30, 12)) {
        run(initial, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn random_edits_of_a_large_tree_match_a_sorted_map(initial in 4_000u128..9_000, steps in steps(90, 8, 5)) {
        run(initial, steps);
    }
}
