//! What is found by statistics from the top of the tree, against a look at every superfile.

use std::sync::Arc;

use proptest::prelude::*;

use crate::format::manifest::*;
use crate::format::stats::{ColumnStats, RowStats, StatValue, SuperfileStats};
use crate::format::tests::samples;

/// A superfile's values of a column: each a number, a string or NULL.
type Values = Vec<Option<Result<i64, String>>>;

fn stat(value: &Result<i64, String>) -> StatValue {
    match value {
        Ok(number) => StatValue::Int(*number),
        Err(text) => StatValue::Utf8(text.clone()),
    }
}

/// The statistics of a column of one type; not known of values of several types.
fn stats(values: &Values) -> ColumnStats {
    let present: Vec<_> = values.iter().flatten().collect();
    let nulls = (values.len() - present.len()) as u64;
    let one_type = present.iter().all(|v| v.is_ok()) || present.iter().all(|v| v.is_err());
    let bound = |value: Option<&&Result<i64, String>>| value.filter(|_| one_type).map(|v| stat(v));
    ColumnStats::new(
        bound(present.iter().min()),
        bound(present.iter().max()),
        one_type.then_some(nulls),
        2,
    )
}

fn manifest(superfiles: &[Values]) -> Manifest {
    let add = (superfiles.iter().enumerate()).map(|(n, values)| SuperfileEntry {
        rows: values.len() as u64,
        // Every seventh superfile does not know the column.
        stats: SuperfileStats {
            columns: [(1, stats(values))]
                .into_iter()
                .filter(|_| n % 7 != 6)
                .collect(),
        },
        ..samples::entry(n as u128 * 10)
    });
    let edit = ManifestEdit {
        add: add.collect(),
        ..ManifestEdit::default()
    };
    let header = ManifestHeader::first(Arc::new(samples::metadata()), 0);
    edit.apply(&Manifest::empty(header.clone()), header)
        .unwrap()
}

/// Whether one of the rows may be `wanted`.
fn may_hold(rows: &RowStats<'_>, wanted: &Option<Result<i64, String>>) -> bool {
    let Some(column) = rows.columns.columns.get(&1) else {
        return true;
    };
    let Some(value) = wanted else {
        return column.null_count != Some(0);
    };
    if column.null_count == Some(rows.rows) {
        return false;
    }
    let not_above = |low: &StatValue, high: &StatValue| match (low, high) {
        (StatValue::Int(low), StatValue::Int(high)) => low <= high,
        (StatValue::Utf8(low), StatValue::Utf8(high)) => low <= high,
        _ => false,
    };
    let value = stat(value);
    column.min.as_ref().is_none_or(|min| not_above(min, &value))
        && column.max.as_ref().is_none_or(|max| not_above(&value, max))
}

prop_compose! {
    /// Neighbours hold neighbouring values, as superfiles of one column's order do.
    fn any_superfiles()(
        kinds in prop::collection::vec((0u8..8, -3i64..3, 1usize..4), 300..1_200),
    ) -> Vec<Values> {
        (kinds.into_iter().enumerate()).map(|(n, (kind, by, rows))| {
            (0..rows as i64).map(|row| match kind {
                0 => None,
                1 if row == 0 => None,
                2 => Some(Err(format!("{n:04}"))),
                _ => Some(Ok(n as i64 * 2 + by * row)),
            }).collect()
        }).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_tree_finds_what_a_look_at_every_superfile_finds(
        superfiles in any_superfiles(), number in -5i64..2_500, drop_every in 2usize..9,
    ) {
        let whole = manifest(&superfiles);
        // Nodes of a tree that was edited, too.
        let edit = ManifestEdit {
            drop: whole.entries().step_by(drop_every).map(|e| e.id).collect(),
            ..ManifestEdit::default()
        };
        let edited = edit.apply(&whole, whole.header().clone()).unwrap();
        for manifest in [&whole, &edited] {
            for wanted in [Some(Ok(number)), Some(Err(format!("{number:04}"))), None] {
                let mut asked = 0;
                let found = select(manifest, |all| {
                    asked += all.len();
                    all.iter().map(|rows| may_hold(rows, &wanted)).collect()
                });
                let expected = manifest.entries().enumerate();
                let expected = expected.filter(|(_, e)| may_hold(&e.row_stats(), &wanted));
                prop_assert_eq!(found, expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn places_and_ids_lead_to_each_other(superfiles in any_superfiles()) {
        let manifest = manifest(&superfiles);
        for (at, entry) in manifest.entries().enumerate() {
            prop_assert_eq!(manifest.index_of(&entry.id), Some(at));
            prop_assert_eq!(manifest.nth(at), Some(entry));
        }
        prop_assert_eq!(manifest.nth(superfiles.len()), None);
        prop_assert_eq!(manifest.index_of(&samples::superfile(5)), None);
    }
}

#[test]
fn few_superfiles_of_many_are_looked_at() {
    let superfiles: Vec<Values> = (0..20_000)
        .map(|n| vec![Some(Ok(n)), Some(Ok(n + 1))])
        .collect();
    // All of them know the column.
    let add = superfiles
        .iter()
        .enumerate()
        .map(|(n, values)| SuperfileEntry {
            rows: 2,
            stats: SuperfileStats {
                columns: [(1, stats(values))].into(),
            },
            ..samples::entry(n as u128)
        });
    let edit = ManifestEdit {
        add: add.collect(),
        ..ManifestEdit::default()
    };
    let header = ManifestHeader::first(Arc::new(samples::metadata()), 0);
    let manifest = edit
        .apply(&Manifest::empty(header.clone()), header)
        .unwrap();
    let mut asked = 0;
    let found = select(&manifest, |all| {
        asked += all.len();
        all.iter()
            .map(|rows| may_hold(rows, &Some(Ok(12_345))))
            .collect()
    });
    assert_eq!(
        found.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [12_344, 12_345]
    );
    assert!(asked < 300, "{asked}");
}
