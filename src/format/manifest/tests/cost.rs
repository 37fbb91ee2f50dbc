//! A commit's bytes follow the change, not the table.

use std::sync::Arc;

use crate::format::manifest::*;
use crate::format::tests::samples;
use crate::format::{ColumnStats, StatValue, SuperfileStats};

/// Statistics of 15 columns, as a table of a benchmark might have them.
fn fifteen_columns(n: i64) -> SuperfileStats {
    let column = |i: i32| {
        let value = |v: i64| match i % 3 {
            0 => StatValue::Int(v * 1_000_003),
            1 => StatValue::Utf8(format!("customer-name-{v:012}")),
            _ => StatValue::Float(v as f64 * 1.5),
        };
        ColumnStats::new(Some(value(n)), Some(value(n + 100)), Some(0), 32)
    };
    SuperfileStats {
        columns: (1..=15).map(|i| (i, column(i))).collect(),
    }
}

fn entry(n: u128) -> SuperfileEntry {
    SuperfileEntry {
        stats: fifteen_columns(n as i64),
        ..samples::entry(n)
    }
}

fn next(manifest: &Manifest) -> ManifestHeader {
    ManifestHeader {
        version: manifest.version() + 1,
        parent: manifest.hash(),
        skips: (manifest.hash())
            .and_then(|root| manifest.header().skips_after(root))
            .unwrap(),
        commits: vec![samples::commit(manifest.version() + 1)],
        ..manifest.header().clone()
    }
}

/// The bytes of one tombstone change and of one add, with `n` superfiles in the table.
fn bytes_at(n: u128) -> (u64, u64) {
    let empty = Manifest::empty(ManifestHeader::first(Arc::new(samples::metadata()), 0));
    empty.encode().unwrap();
    let fill = ManifestEdit {
        add: (0..n).map(entry).collect(),
        ..ManifestEdit::default()
    };
    let manifest = fill.apply(&empty, next(&empty)).unwrap();
    manifest.encode().unwrap();
    manifest.mark_persisted();
    let cost = |edit: ManifestEdit| {
        let proposed = edit.apply(&manifest, next(&manifest)).unwrap();
        check_successor(&manifest, &proposed).unwrap();
        let encoded = proposed.encode().unwrap();
        assert!(encoded.new_nodes.len() <= 4);
        encoded.new_bytes()
    };
    let tombstone = cost(ManifestEdit {
        set_tombstones: vec![TombstoneUpdate {
            superfile: samples::superfile(n / 3),
            tombstones: samples::tombstone_ref(1, 1),
            moved_at: 0,
        }],
        ..ManifestEdit::default()
    });
    let add = cost(ManifestEdit {
        add: vec![entry(n + 5)],
        ..ManifestEdit::default()
    });
    (tombstone, add)
}

#[test]
fn a_commit_at_100_000_superfiles_writes_at_most_three_times_that_at_100() {
    let small = bytes_at(100);
    let large = bytes_at(100_000);
    println!("bytes of (tombstone, add): {small:?} at 100, {large:?} at 100,000 superfiles");
    assert!(large.0 <= 3 * small.0);
    assert!(large.1 <= 3 * small.1);
    // A point delete is promised below 100 KB in all.
    assert!(large.0 < 60_000);
}
