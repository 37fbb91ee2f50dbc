//! Facts of the plan along a key, on superfiles that were never written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::format::manifest::{RowIds, TombstoneRef};
use crate::format::{ColumnStats, ContentHash, SuperfileId};

/// Rows of a superfile that a group writes, and bytes of a row.
const FILE_ROWS: u64 = 1_000;
const ROW_BYTES: u64 = 10;

fn key() -> ClusterKey {
    ClusterKey {
        layout: Layout::ZOrder,
        columns: vec![1, 2],
    }
}

fn along(extent: Extent, group_bytes: u64) -> Along {
    Along {
        key: key(),
        descending: vec![],
        extent,
        group_bytes,
    }
}

fn bounds(low: i64, high: i64) -> ColumnStats {
    let value = |v| Some(StatValue::Int(v));
    ColumnStats::new(value(low), value(high), Some(0), 128)
}

/// A superfile that a statement wrote.
fn fresh(n: u128, rows: u64) -> SuperfileEntry {
    let id = Uuid::from_u128(n).into();
    SuperfileEntry::new(id, rows, rows * ROW_BYTES, 0, RowIds::Stored)
}

fn spanning(mut entry: SuperfileEntry, a: (i64, i64), b: (i64, i64)) -> SuperfileEntry {
    entry.stats.columns.insert(1, bounds(a.0, a.1));
    entry.stats.columns.insert(2, bounds(b.0, b.1));
    entry
}

fn holed(mut entry: SuperfileEntry, deleted: u64) -> SuperfileEntry {
    entry.tombstones = (deleted > 0).then(|| TombstoneRef {
        sidecar: Uuid::from_u128(1).into(),
        hash: ContentHash::of(b""),
        cardinality: deleted,
        size: 1,
    });
    entry
}

fn clustered(mut entry: SuperfileEntry, run: SuperfileId, bytes: u64) -> SuperfileEntry {
    entry.clustering = Some(Clustering {
        key: key(),
        run,
        bytes,
    });
    entry
}

/// A table of superfiles, and what was written to it.
#[derive(Default)]
struct Table {
    files: Vec<SuperfileEntry>,
    next: u128,
    /// Of each run: how many rows came into their first run of so many rows, and were written so many times.
    history: BTreeMap<SuperfileId, Vec<(u64, u64, u32)>>,
    written: u64,
}

impl Table {
    fn add(&mut self, entry: SuperfileEntry) {
        self.files.push(entry);
        self.next += 1;
    }

    fn append(&mut self, rows: u64) {
        let entry = fresh(self.next, rows);
        self.add(entry);
    }

    /// What `dml::optimize` does with a group: all of its live rows in superfiles of `file_rows`.
    fn carry_out(&mut self, group: &Group, file_rows: u64) {
        let mut rows_of_first_runs = Vec::new();
        let (sources, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.files)
            .into_iter()
            .partition(|file| group.sources.contains(&file.id));
        self.files = others;
        let rows: u64 = sources.iter().map(SuperfileEntry::live_rows).sum();
        assert_eq!(rows, group.rows);
        let first: SuperfileId = Uuid::from_u128(self.next).into();
        let run = group.stays.as_ref().map_or(first, |stays| stays.run);
        let bytes = group
            .stays
            .as_ref()
            .map_or(group.bytes, |stays| stays.bytes);
        let mut new_rows = 0;
        let mut old_runs = HashSet::new();
        for source in &sources {
            match source.clustering.clone() {
                None => new_rows += source.live_rows(),
                Some(said) if old_runs.insert(said.run) => {
                    let history = self.history.remove(&said.run).unwrap_or_default();
                    let again = history
                        .into_iter()
                        .map(|(first, n, times)| (first, n, times + 1));
                    rows_of_first_runs.extend(again);
                }
                Some(_) => {}
            }
        }
        if new_rows > 0 {
            rows_of_first_runs.push((rows, new_rows, 1));
        }
        self.written += rows;
        let mut left = rows;
        while left > 0 {
            let rows = left.min(file_rows);
            left -= rows;
            let entry = clustered(fresh(self.next, rows), run, bytes);
            self.add(entry);
        }
        self.history.insert(run, rows_of_first_runs);
    }

    fn optimize(&mut self, along: &Along, targets: &Targets) -> Vec<Group> {
        let groups = plan_clustered(&self.files, along, targets);
        for group in &groups {
            self.carry_out(group, FILE_ROWS);
        }
        groups
    }

    fn rows_of(&self, run: &SuperfileId) -> u64 {
        let of_run = |file: &&SuperfileEntry| {
            file.clustering
                .as_ref()
                .is_some_and(|said| said.run == *run)
        };
        self.files.iter().filter(of_run).map(|f| f.rows).sum()
    }

    fn runs(&self) -> usize {
        let said = self.files.iter().filter_map(|f| f.clustering.clone());
        said.map(|said| said.run).collect::<HashSet<_>>().len()
    }
}

fn ids(groups: &[Group]) -> Vec<Vec<u128>> {
    let of = |group: &Group| {
        group
            .sources
            .iter()
            .map(|id| id.as_uuid().as_u128())
            .collect()
    };
    groups.iter().map(of).collect()
}

#[test]
fn sources_that_overlap_along_the_key_come_into_one_group_wherever_they_stand() {
    // Two squares of the plane, whose superfiles were written in turn.
    let files: Vec<_> = (0..8)
        .map(|n| {
            let at = i64::try_from(n % 2).unwrap() * 1_000;
            spanning(fresh(n, 100), (at, at + 500), (at, at + 500))
        })
        .collect();
    let groups = plan_clustered(&files, &along(Extent::New, 4_000), &Targets::default());
    assert_eq!(ids(&groups), [[0, 2, 4, 6], [1, 3, 5, 7]]);
    // With room for more the group still ends where the next one begins, once it has half of what it may …
    let groups = plan_clustered(&files, &along(Extent::New, 8_000), &Targets::default());
    assert_eq!(ids(&groups), [[0, 2, 4, 6], [1, 3, 5, 7]]);
    // … and not before.
    let groups = plan_clustered(&files, &along(Extent::New, 10_000), &Targets::default());
    assert_eq!(groups.len(), 1);
}

#[test]
fn a_declared_order_is_cut_by_its_first_column_and_from_its_greatest_value_on_if_it_descends() {
    let files: Vec<_> = [5, 3, 9, 1, 7, 2]
        .into_iter()
        .zip(0..)
        .map(|(at, n)| spanning(fresh(n, 100), (at, at), (0, 9)))
        .collect();
    let mut along = along(
        Extent::Whole {
            superfile_rows: None,
        },
        2_200,
    );
    along.key.layout = Layout::Declared;
    let groups = plan_clustered(&files, &along, &Targets::default());
    assert_eq!(ids(&groups), [[3, 5], [0, 1], [2, 4]]);
    along.descending = vec![true, false];
    let groups = plan_clustered(&files, &along, &Targets::default());
    assert_eq!(ids(&groups), [[2, 4], [0, 1], [3, 5]]);
    // As they are stored: in the order of ids.
    along.key = ClusterKey {
        layout: Layout::Stored,
        columns: vec![],
    };
    let groups = plan_clustered(&files, &along, &Targets::default());
    assert_eq!(ids(&groups), [[0, 1], [2, 3], [4, 5]]);
}

#[test]
fn new_superfiles_form_a_run_of_their_own_until_they_are_worth_joining_with_another() {
    let mut table = Table::default();
    let new = along(Extent::New, u64::MAX);
    table.append(100);
    table.optimize(&new, &Targets::default());
    assert_eq!(table.runs(), 1);
    // Not three times as many rows.
    table.append(299);
    let groups = table.optimize(&new, &Targets::default());
    assert_eq!((groups.len(), groups[0].rows), (1, 299));
    // Together with the smaller run, three times as many as the larger one.
    table.append(800);
    let groups = table.optimize(&new, &Targets::default());
    assert_eq!((groups.len(), groups[0].rows), (1, 1_199));
    assert_eq!(table.runs(), 1);
    // A group may not be larger than it may be.
    table.append(10_000);
    let groups = table.optimize(&along(Extent::New, 100_000), &Targets::default());
    assert_eq!((groups.len(), groups[0].rows), (1, 10_000));
    assert_eq!(table.runs(), 2);
}

#[test]
fn what_is_clustered_along_another_key_is_new() {
    let mut table = Table::default();
    table.append(100);
    table.optimize(&along(Extent::New, 10_000), &Targets::default());
    for (layout, columns) in [
        (Layout::Hilbert, vec![1, 2]),
        (Layout::ZOrder, vec![2, 1]),
        (Layout::ZOrder, vec![1]),
    ] {
        let other = Along {
            key: ClusterKey { layout, columns },
            ..along(Extent::New, 10_000)
        };
        assert_eq!(
            plan_clustered(&table.files, &other, &Targets::default()).len(),
            1
        );
    }
}

#[test]
fn while_a_table_is_written_to_new_superfiles_wait_until_they_are_many_or_large() {
    let waiting = Targets {
        bytes: 100_000,
        files_per_tier: Some(4),
        ..Targets::default()
    };
    let new = along(Extent::New, 1_000_000);
    let small: Vec<_> = (0..3).map(|n| fresh(n, 10)).collect();
    assert!(plan_clustered(&small, &new, &waiting).is_empty());
    let four: Vec<_> = (0..4).map(|n| fresh(n, 10)).collect();
    assert_eq!(ids(&plan_clustered(&four, &new, &waiting)), [[0, 1, 2, 3]]);
    let large = [fresh(0, 10), fresh(1, 7_500)];
    assert_eq!(ids(&plan_clustered(&large, &new, &waiting)), [[0, 1]]);
    let one_holed = [fresh(0, 10), holed(fresh(1, 10), 5)];
    assert_eq!(ids(&plan_clustered(&one_holed, &new, &waiting)), [[1]]);
}

#[test]
fn superfiles_of_a_run_that_lost_rows_are_written_anew_and_stay_in_it() {
    let run = |n: u128| SuperfileId::from_uuid(Uuid::from_u128(n));
    let files = [
        clustered(fresh(1, 100), run(1), 9_000),
        clustered(holed(fresh(2, 100), 20), run(1), 9_000),
        clustered(holed(fresh(3, 100), 1), run(1), 9_000),
        clustered(holed(fresh(4, 100), 50), run(4), 8_000),
    ];
    let new = plan_clustered(&files, &along(Extent::New, 10_000), &Targets::default());
    assert_eq!(ids(&new), [[2], [4]]);
    let stays: Vec<_> = new
        .iter()
        .map(|group| group.stays.clone().unwrap())
        .collect();
    assert_eq!((stays[0].run, stays[0].bytes), (run(1), 9_000));
    assert_eq!((stays[1].run, stays[1].bytes), (run(4), 8_000));
    // Asked for all of the table, any row that is gone is one too many.
    let whole = along(
        Extent::Whole {
            superfile_rows: None,
        },
        10_000,
    );
    let whole = plan_clustered(&files, &whole, &Targets::default());
    assert_eq!(ids(&whole), [vec![2, 3], vec![4]]);
}

#[test]
fn a_run_of_superfiles_of_another_size_than_asked_for_is_written_anew() {
    let run = SuperfileId::from_uuid(Uuid::from_u128(1));
    let files: Vec<_> = [100, 100, 40]
        .into_iter()
        .zip(1..)
        .map(|(rows, n)| clustered(fresh(n, rows), run, 1_000))
        .collect();
    for (rows, anew) in [(100, false), (99, true), (134, true), (133, false)] {
        let whole = along(
            Extent::Whole {
                superfile_rows: Some(rows),
            },
            1_000,
        );
        let groups = plan_clustered(&files, &whole, &Targets::default());
        assert_eq!(!groups.is_empty(), anew, "{rows}");
    }
}

#[test]
fn a_thousand_equal_additions_leave_few_runs_and_write_each_row_a_few_times() {
    let mut table = Table::default();
    let new = along(Extent::New, u64::MAX);
    let mut most_runs = 0;
    for n in 1..=1_024_u32 {
        table.append(10);
        table.optimize(&new, &Targets::default());
        // Three of each of the sizes 1, 4, 16, …
        let bound = 3 * (n.ilog(4) as usize + 1);
        assert!(table.runs() <= bound, "{} after {n}", table.runs());
        most_runs = most_runs.max(table.runs());
    }
    assert!(most_runs > 6, "the bound says something: {most_runs}");
    assert!(table.written <= 10_240 * 6, "{}", table.written);
}

#[test]
fn writing_one_addition_after_the_other_is_bounded_by_the_size_of_a_group() {
    let mut table = Table::default();
    // A group may be 64 additions large.
    let new = along(Extent::New, 64 * 10 * ROW_BYTES);
    for _ in 0..2_000 {
        table.append(10);
        table.optimize(&new, &Targets::default());
    }
    // Once, and three times more on the way from 1 to 64, however large the table is.
    assert!(table.written <= 20_000 * 4, "{}", table.written);
}

/// Rows, deleted ones of four hundred, a kind, and what it spans.
type Raw = (u64, u64, u8, (i64, i64), (i64, i64));

fn file() -> impl Strategy<Value = Raw> {
    let extent = || (0_i64..100, 0_i64..40).prop_map(|(low, length)| (low, low + length));
    (1_u64..400, 0_u64..100, 0_u8..6, extent(), extent())
}

/// Superfiles of three runs along the key, of one along another, and new ones; of some nothing is known.
fn files(raw: Vec<Raw>) -> Vec<SuperfileEntry> {
    (0..)
        .zip(raw)
        .map(|(n, (rows, deleted, kind, a, b))| {
            let entry = holed(fresh(n, rows), (rows * deleted / 400).min(rows - 1));
            let entry = match n % 7 {
                0 => entry,
                _ => spanning(entry, a, b),
            };
            let run = SuperfileId::from_uuid(Uuid::from_u128(kind.into()));
            match kind {
                0..3 => clustered(entry, run, u64::from(kind) * 3_000),
                3 => {
                    let mut entry = clustered(entry, run, 5_000);
                    let mut said = entry.clustering.clone().unwrap();
                    said.key.layout = Layout::Hilbert;
                    entry.clustering = Some(said);
                    entry
                }
                _ => entry,
            }
        })
        .collect()
}

fn extent() -> impl Strategy<Value = Extent> {
    prop_oneof![
        Just(Extent::New),
        Just(Extent::Whole {
            superfile_rows: None
        }),
        Just(Extent::Whole {
            superfile_rows: Some(FILE_ROWS)
        }),
        Just(Extent::Again),
    ]
}

proptest! {
    #[test]
    fn each_source_is_in_one_group_and_each_group_within_the_bound(
        raw in proptest::collection::vec(file(), 0..60),
        extent in extent(),
        group_bytes in 1_u64..20_000,
    ) {
        let files = files(raw);
        let targets = Targets::default();
        let along = along(extent, group_bytes);
        let groups = plan_clustered(&files, &along, &targets);
        let mut seen = HashSet::new();
        let of_key = |file: &SuperfileEntry| {
            file.clustering.as_ref().is_some_and(|said| said.key == along.key)
        };
        for group in &groups {
            prop_assert!(!group.sources.is_empty());
            prop_assert!(group.sources.iter().all(|id| seen.insert(*id)));
            prop_assert!(group.sources.is_sorted());
            prop_assert!(group.bytes <= group_bytes || group.sources.len() == 1);
            let sources = || files.iter().filter(|file| group.sources.contains(&file.id));
            prop_assert_eq!(sources().count(), group.sources.len());
            prop_assert_eq!(sources().map(|f| f.size).sum::<u64>(), group.bytes);
            prop_assert_eq!(sources().map(SuperfileEntry::live_rows).sum::<u64>(), group.rows);
            if let Some(stays) = &group.stays {
                let all = sources().all(|f| f.clustering.as_ref() == Some(stays));
                prop_assert!(all);
            }
        }
        // Nothing that is in no run is passed over.
        let passed_over = files.iter().find(|file| !of_key(file) && !seen.contains(&file.id));
        prop_assert!(passed_over.is_none());
        // Two small groups would have been one.
        let small = groups.iter().filter(|g| g.stays.is_none() && g.bytes * 2 < group_bytes);
        prop_assert!(small.count() <= 1);
        // In whichever order the superfiles are looked at.
        let backwards: Vec<_> = files.iter().rev().cloned().collect();
        prop_assert_eq!(plan_clustered(&backwards, &along, &targets), groups);
    }

    #[test]
    fn after_a_plan_was_carried_out_the_next_one_has_nothing_to_do(
        raw in proptest::collection::vec(file(), 0..60),
        whole: bool,
        group_bytes in 1_u64..20_000,
        waiting in proptest::option::of(1_usize..20),
        carried_out in 0_usize..12,
    ) {
        let mut table = Table { files: files(raw), next: 1_000, ..Table::default() };
        let extent = match whole {
            true => Extent::Whole { superfile_rows: None },
            false => Extent::New,
        };
        let along = along(extent, group_bytes);
        let targets = Targets { files_per_tier: waiting, ..Targets::default() };
        // Some of the groups of a first plan, and then it crashed.
        let first = plan_clustered(&table.files, &along, &targets);
        let done: Vec<_> = first.iter().take(carried_out).collect();
        let mut rows = 0;
        for group in &done {
            table.carry_out(group, FILE_ROWS);
            rows += group.rows;
        }
        let all: u64 = first.iter().map(|group| group.rows).sum();
        let second = table.optimize(&along, &targets);
        let left: u64 = second.iter().map(|group| group.rows).sum();
        // What was done is not done again, but for the rest of one group that is small.
        if done.iter().all(|group| group.bytes * 2 >= group_bytes) && waiting.is_none() && whole {
            prop_assert!(left + rows <= all, "{} {} {}", left, rows, all);
        }
        let third = plan_clustered(&table.files, &along, &targets);
        prop_assert_eq!(third, Vec::new());
    }

}

proptest! {
    // A life of a table takes longer than a plan.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_row_is_written_at_most_once_more_than_its_run_grew_fourfold(
        batches in proptest::collection::vec(proptest::collection::vec(1_u64..3_000, 1..5), 1..60),
        group_bytes in 1_000_u64..400_000,
        waiting in proptest::option::of(2_usize..6),
    ) {
        let mut table = Table::default();
        let new = along(Extent::New, group_bytes);
        let targets = Targets { files_per_tier: waiting, bytes: 20_000, ..Targets::default() };
        let mut appended = 0;
        for batch in batches {
            for rows in batch {
                table.append(rows);
                appended += rows;
            }
            table.optimize(&new, &targets);
            for (run, history) in &table.history {
                for (first, _, times) in history {
                    let grown = GROWTH.pow(times - 1) * first;
                    prop_assert!(grown <= table.rows_of(run), "{} times from {}", times, first);
                }
            }
        }
        prop_assert_eq!(table.files.iter().map(|file| file.rows).sum::<u64>(), appended);
        let of_history: u64 = table.history.values().flatten().map(|(_, n, _)| n).sum();
        let new = table.files.iter().filter(|f| f.clustering.is_none());
        prop_assert_eq!(of_history + new.map(|f| f.rows).sum::<u64>(), appended);
    }
}
