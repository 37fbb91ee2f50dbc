//! Keys: two that share one always meet, whatever was dropped or widened meanwhile.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::format::keys::{AbsentKeys, DroppedRows, KeyGatherer};
use crate::format::*;

type Key = (i64, String);

fn values(key: &Key) -> Vec<Option<StatValue>> {
    vec![
        Some(StatValue::Int(key.0)),
        Some(StatValue::Utf8(key.1.clone())),
    ]
}

fn absent(keys: &BTreeSet<Key>) -> AbsentKeys {
    let mut gatherer = KeyGatherer::new(vec![1, 2]);
    keys.iter().for_each(|key| gatherer.add(values(key)));
    gatherer.finish(false).unwrap()
}

/// Statistics of rows with these keys, as a writer makes them.
fn stats(keys: &BTreeSet<Key>) -> SuperfileStats {
    let column = |value: fn(&Key) -> StatValue, order: fn(&Key, &Key) -> std::cmp::Ordering| {
        let min = keys.iter().min_by(|a, b| order(a, b)).map(value);
        let max = keys.iter().max_by(|a, b| order(a, b)).map(value);
        ColumnStats::new(min, max, Some(0), 8)
    };
    let first = column(|key| StatValue::Int(key.0), |a, b| a.0.cmp(&b.0));
    let second = column(|key| StatValue::Utf8(key.1.clone()), |a, b| a.1.cmp(&b.1));
    SuperfileStats {
        columns: [(1, first), (2, second)].into(),
    }
}

fn any_keys(most: usize) -> impl Strategy<Value = BTreeSet<Key>> {
    // Long strings with a common beginning, whose bounds are shortened.
    let text = prop_oneof!["[ab]{0,2}", "[a-c\u{10ffff}]{60,90}"];
    prop::collection::btree_set((0i64..6, text), 1..most)
}

proptest! {
    #[test]
    fn what_shares_a_key_meets(
        mine in any_keys(90),
        theirs in any_keys(90),
        others in any_keys(4),
        forget in any::<bool>(),
    ) {
        let mut keys = absent(&mine);
        prop_assert!(keys.is_well_formed());
        if forget {
            keys.hashes = None;
        }
        let (stats, rows) = (stats(&theirs), theirs.len() as u64);
        let shares = !mine.is_disjoint(&theirs);
        let added = absent(&theirs).added(2, std::iter::empty()).unwrap();
        prop_assert!(!shares || keys.may_share(&added));
        prop_assert!(forget || shares == keys.may_share(&added));
        let met = keys.may_be_in(&stats, rows);
        prop_assert!(!shares || met);
        if let Some(only) = keys.only_key(&stats) {
            prop_assert_eq!(theirs.len(), 1);
            prop_assert!(forget || shares == keys.may_have(only));
        }
        // What met once meets for ever, whatever else is dropped.
        let mut dropped = DroppedRows::of(&stats, rows, 3);
        prop_assert!(!met || keys.may_have_been_in(&dropped));
        dropped.join(&DroppedRows::of(&self::stats(&others), others.len() as u64, 2));
        prop_assert_eq!(dropped.added_at, 3);
        prop_assert!(!met || keys.may_have_been_in(&dropped));
    }
}

#[test]
fn a_column_without_values_holds_no_key_and_one_without_bounds_any() {
    let keys = AbsentKeys::of_column(1, [StatValue::Int(7)]).unwrap();
    let of = |min, max, nulls| SuperfileStats {
        columns: [(1, ColumnStats::new(min, max, nulls, 8))].into(),
    };
    assert!(!keys.may_be_in(&of(None, None, Some(3)), 3));
    assert!(keys.may_be_in(&of(None, None, Some(2)), 3));
    assert!(keys.may_be_in(&of(None, None, None), 3));
    let eight = Some(StatValue::Int(8));
    assert!(!keys.may_be_in(&of(eight.clone(), None, None), 3));
    assert!(keys.may_be_in(&of(None, eight, None), 3));
    // Of another type: the column's has changed, or it cannot be compared.
    let unsigned = |n| Some(StatValue::UInt(n));
    assert!(!keys.may_be_in(&of(unsigned(8), unsigned(9), Some(0)), 3));
    let text = Some(StatValue::Utf8("8".to_owned()));
    assert!(keys.may_be_in(&of(text.clone(), text, Some(0)), 3));
}

#[test]
fn floats_are_known_by_bounds_in_which_both_zeros_are_one() {
    let keys = AbsentKeys::of_column(1, [StatValue::Float(0.0)]).unwrap();
    assert_eq!(keys.hashes, None);
    let of = |v: f64| {
        let bound = Some(StatValue::Float(v));
        SuperfileStats {
            columns: [(1, ColumnStats::new(bound.clone(), bound, Some(0), 8))].into(),
        }
    };
    assert!(keys.may_be_in(&of(-0.0), 1));
    assert!(!keys.may_be_in(&of(0.5), 1));
}

#[test]
fn integers_of_one_value_have_one_hash() {
    let hash = |key| AbsentKeys::of_column(1, [key]).unwrap().hashes;
    assert_eq!(hash(StatValue::Int(7)), hash(StatValue::UInt(7)));
    assert_ne!(hash(StatValue::Int(7)), hash(StatValue::Int(8)));
    assert_ne!(hash(StatValue::Utf8("7".into())), hash(StatValue::Int(7)));
}
