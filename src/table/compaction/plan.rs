//! The plan of a compaction: groups of superfiles, each of which becomes one commit.
//!
//! Owns the choice. Does not own reading or writing.
//!
//! | a superfile is taken up | when |
//! | --- | --- |
//! | because it is small | its live rows take less than three quarters of the target |
//! | because it is holed | its share of deleted rows reaches the threshold |
//! | because it is worn | deleting its rows has cost as much as writing it anew, and a thousandth is deleted |
//!
//! Wear is what makes many small statements affordable to clean up after. Rows deleted one by one all over a
//! superfile slow down each scan from the first per mille on, long before a fifth of it is gone; but each of
//! those statements wrote a sidecar, a change set, a document and manifest nodes. Once they have written as
//! much as the superfile is large, writing it anew at most doubles what was written. A statement that deletes
//! many rows at once wears a superfile no more than one that deletes a single row, and so does not have it
//! written anew.
//!
//! What is taken up is packed in the order of ids, which is the order of time, into groups of at most the
//! target: so each group makes about one superfile, rows stay near those that were inserted with them, a
//! crash loses one group's work, and a second run finds little or nothing to do.
//!
//! While a table is written to, the eager choice would write the same rows again and again. The *tiered*
//! one waits until [`Targets::files_per_tier`] small superfiles of about one size have come together, a
//! size being within a factor of eight. So a row is written once for each tier it rises through, and the
//! number of superfiles stays at some dozens beside those that are full. A superfile that is holed or worn
//! does not wait, and takes small ones along, the smallest first, as long as they are not larger together
//! than it is.
//!
//! All this is for a table whose superfiles each stand for themselves. Where rows are to be in an order that goes through
//! superfiles, what counts is not how large one is but what it was written along: see [`clustered`].
//!
//! Invariant: no superfile is in two groups; a group has two sources, or one that is holed; the same
//! input gives the same plan.

pub(crate) mod clustered;

use std::collections::BTreeMap;

use crate::format::Clustering;
use crate::format::ids::{MAX_SUPERFILE_ROWS, SuperfileId};
use crate::format::manifest::SuperfileEntry;

/// Sources of one group, at most: its commit names each.
const MAX_SOURCES: usize = 1_024;

/// Below this size all superfiles are of the lowest tier.
const LOWEST_TIER: u64 = 64 << 10;

/// Bytes that a statement writes at least when it deletes rows of a superfile, its sidecar not counted: change
/// set, document (three times), manifest nodes, pointer, and mostly a superfile.
const STATEMENT_BYTES: u64 = 8 << 10;

/// Only a superfile of which so many versions have deleted rows is worn: a compaction is a commit, too.
const WORN_VERSIONS: u32 = 16;

/// Only a superfile of which at least one in so many rows is deleted is worn.
const WORN_SHARE: u64 = 1_000;

/// What a compaction is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Bytes of a superfile that is large enough.
    pub bytes: u64,
    /// Rows of one that is.
    pub rows: u64,
    /// Percentage of deleted rows from which on a superfile is written anew; over 100: none is, worn ones
    /// neither.
    pub deleted_percent: u64,
    /// Join small superfiles only when so many of one size are there; `None`: as soon as there are two.
    pub files_per_tier: Option<usize>,
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            rows: MAX_SUPERFILE_ROWS,
            deleted_percent: 20,
            files_per_tier: None,
        }
    }
}

/// Superfiles whose live rows are written anew, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// The superfiles, in the order of their ids.
    pub sources: Vec<SuperfileId>,
    /// Their live rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Along what their rows are written, and with which superfiles beside them, if they stay what they are.
    pub stays: Option<Clustering>,
    /// What their live rows will take, about.
    live_bytes: u64,
    holed: bool,
}

impl Group {
    /// Takes in a source that is written anew whatever it is.
    fn take_in(&mut self, entry: &SuperfileEntry) {
        self.sources.push(entry.id);
        self.rows += entry.live_rows();
        self.bytes += entry.size;
        self.live_bytes += live_bytes(entry);
        self.holed = true;
    }

    /// Takes in the sources of another one.
    fn join(&mut self, other: Self) {
        self.sources.extend(other.sources);
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.live_bytes += other.live_bytes;
        self.holed = true;
    }

    fn takes(&self, entry: &SuperfileEntry, targets: &Targets) -> bool {
        self.sources.is_empty()
            || (self.sources.len() < MAX_SOURCES
                && self.rows.saturating_add(entry.live_rows()) <= targets.rows
                && self.live_bytes.saturating_add(live_bytes(entry)) <= targets.bytes)
    }

    fn add(&mut self, entry: &SuperfileEntry, targets: &Targets) {
        self.sources.push(entry.id);
        self.rows += entry.live_rows();
        self.bytes += entry.size;
        self.live_bytes += live_bytes(entry);
        self.holed |= is_rewritten(entry, targets);
    }

    fn is_worth_it(&self) -> bool {
        self.sources.len() > 1 || self.holed
    }
}

/// The groups in which `entries`, by ascending id, are to be compacted.
pub(crate) fn plan<'e>(
    entries: impl IntoIterator<Item = &'e SuperfileEntry>,
    targets: &Targets,
) -> Vec<Group> {
    let Some(files_per_tier) = targets.files_per_tier else {
        let chosen = entries
            .into_iter()
            .filter(|entry| is_small(entry, targets) || is_rewritten(entry, targets));
        return pack(chosen, targets);
    };
    let (mut rewritten, mut small) = (Vec::new(), Vec::new());
    for entry in entries {
        if is_rewritten(entry, targets) {
            rewritten.push(entry);
        } else if is_small(entry, targets) {
            small.push(entry);
        }
    }
    let mut room: u64 = rewritten.iter().map(|entry| live_bytes(entry)).sum();
    small.sort_by_key(|entry| (live_bytes(entry), entry.id));
    let taken_along = small.iter().take_while(|entry| {
        let left = room.checked_sub(live_bytes(entry));
        room = left.unwrap_or(room);
        left.is_some()
    });
    let taken_along = taken_along.count();
    rewritten.extend(small.drain(..taken_along));
    rewritten.sort_by_key(|entry| entry.id);
    small.sort_by_key(|entry| entry.id);
    let mut tiers: BTreeMap<u32, Vec<&SuperfileEntry>> = BTreeMap::new();
    for entry in small {
        tiers.entry(tier(entry)).or_default().push(entry);
    }
    tiers
        .into_values()
        .filter(|tier| tier.len() >= files_per_tier.max(2))
        .chain([rewritten])
        .flat_map(|chosen| pack(chosen.into_iter(), targets))
        .collect()
}

fn pack<'e>(chosen: impl Iterator<Item = &'e SuperfileEntry>, targets: &Targets) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut open = Group::default();
    for entry in chosen {
        if !open.takes(entry, targets) {
            groups.push(std::mem::take(&mut open));
        }
        open.add(entry, targets);
    }
    groups.push(open);
    groups.retain(Group::is_worth_it);
    groups
}

/// The bytes that a superfile's live rows take, if all take the same.
fn live_bytes(entry: &SuperfileEntry) -> u64 {
    let share = u128::from(entry.size) * u128::from(entry.live_rows());
    // A superfile has rows; the quotient is not above its size.
    u64::try_from(share / u128::from(entry.rows.max(1))).unwrap_or(entry.size)
}

fn is_small(entry: &SuperfileEntry, targets: &Targets) -> bool {
    live_bytes(entry) < targets.bytes - targets.bytes / 4
        && entry.live_rows() < targets.rows - targets.rows / 4
}

/// Whether a superfile is written anew for its deleted rows alone.
fn is_rewritten(entry: &SuperfileEntry, targets: &Targets) -> bool {
    is_holed(entry, targets) || (targets.deleted_percent <= 100 && is_worn(entry))
}

/// Whether deleting its rows has cost as much as it costs to write the superfile anew.
fn is_worn(entry: &SuperfileEntry) -> bool {
    let Some(tombstones) = &entry.tombstones else {
        return false;
    };
    // Each version wrote a sidecar of all that was deleted by then: half of the last one on average.
    let spent = u64::from(entry.delete_count).saturating_mul(STATEMENT_BYTES + tombstones.size / 2);
    spent >= live_bytes(entry)
        && entry.delete_count >= WORN_VERSIONS
        && entry.deleted_rows() >= entry.rows / WORN_SHARE
}

fn is_holed(entry: &SuperfileEntry, targets: &Targets) -> bool {
    let deleted = u128::from(entry.deleted_rows()) * 100;
    entry.deleted_rows() > 0
        && deleted >= u128::from(entry.rows) * u128::from(targets.deleted_percent)
}

fn tier(entry: &SuperfileEntry) -> u32 {
    (live_bytes(entry) / LOWEST_TIER)
        .checked_ilog(8)
        .map_or(0, |log| log + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::ContentHash;
    use crate::format::manifest::{RowIds, TombstoneRef};
    use uuid::Uuid;

    fn entry(n: u128, rows: u64, deleted: u64, size: u64) -> SuperfileEntry {
        SuperfileEntry {
            tombstones: (deleted > 0).then(|| TombstoneRef {
                sidecar: Uuid::from_u128(n).into(),
                hash: ContentHash::of(b""),
                cardinality: deleted,
                size: 1,
            }),
            ..SuperfileEntry::new(Uuid::from_u128(n).into(), rows, size, 0, RowIds::Stored)
        }
    }

    fn targets(bytes: u64, files_per_tier: Option<usize>) -> Targets {
        Targets {
            bytes,
            rows: 1_000_000,
            deleted_percent: 20,
            files_per_tier,
        }
    }

    fn sizes(groups: &[Group]) -> Vec<usize> {
        groups.iter().map(|group| group.sources.len()).collect()
    }

    #[test]
    fn small_superfiles_are_joined_up_to_the_target_and_large_ones_left_alone() {
        let files: Vec<_> = [400, 300, 300, 900, 200, 500]
            .into_iter()
            .enumerate()
            .map(|(i, size)| entry(i as u128, 10, 0, size))
            .collect();
        let groups = plan(&files, &targets(1_000, None));
        assert_eq!(sizes(&groups), [3, 2]);
        assert_eq!(groups[0].sources[0], files[0].id);
        assert_eq!(groups[1].sources, [files[4].id, files[5].id]);
    }

    #[test]
    fn a_lone_superfile_is_written_anew_only_for_its_deleted_rows() {
        assert!(plan(&[entry(1, 100, 19, 10)], &targets(1_000, None)).is_empty());
        assert_eq!(
            sizes(&plan(&[entry(1, 100, 20, 10)], &targets(1_000, None))),
            [1]
        );
        assert_eq!(
            sizes(&plan(&[entry(1, 100, 20, 5_000)], &targets(1_000, None))),
            [1]
        );
        let never = Targets {
            deleted_percent: 101,
            ..targets(1_000, None)
        };
        assert!(plan(&[entry(1, 100, 99, 5_000)], &never).is_empty());
    }

    #[test]
    fn tiers_wait_until_enough_of_one_size_are_there() {
        let mut files: Vec<_> = (0..7).map(|n| entry(n, 1, 0, 5_000)).collect();
        files.push(entry(7, 1_000, 0, 300_000));
        assert!(plan(&files, &targets(256 << 20, Some(8))).is_empty());
        files.push(entry(8, 1, 0, 6_000));
        let groups = plan(&files, &targets(256 << 20, Some(8)));
        assert_eq!(sizes(&groups), [8]);
        assert!(!groups[0].sources.contains(&files[7].id));
    }

    #[test]
    fn one_statement_that_deletes_much_wears_a_superfile_less_than_many_that_delete_little() {
        let worn = |delete_count, deleted| {
            let file = SuperfileEntry {
                delete_count,
                ..entry(1, 100_000, deleted, 1 << 20)
            };
            !plan(&[file], &targets(256 << 20, Some(8))).is_empty()
        };
        assert!(!worn(1, 19_000));
        assert!(!worn(126, 1_000));
        assert!(worn(127, 1_000));
        assert!(!worn(128, 99), "too few rows to be worth it");
    }

    #[test]
    fn what_is_written_anew_takes_small_ones_along_but_not_more_than_itself() {
        let worn = SuperfileEntry {
            delete_count: 1_000,
            ..entry(3, 10_000, 500, 100_000)
        };
        let files = [
            entry(1, 10, 0, 60_000),
            entry(2, 10, 0, 30_000),
            worn,
            entry(4, 10, 0, 40_000),
        ];
        let groups = plan(&files, &targets(256 << 20, Some(8)));
        assert_eq!(sizes(&groups), [3]);
        assert_eq!(
            groups[0].sources,
            [files[1].id, files[2].id, files[3].id],
            "the smallest ones first"
        );
    }

    /// The table that the benchmark makes: a million rows in 15 MB, of which ten thousand are updated.
    #[test]
    fn ten_thousand_updates_all_over_leave_few_superfiles_few_tombstones_and_write_little_more() {
        const BASE: (u64, u64) = (1_000_000, 15 << 20);
        let targets = targets(256 << 20, Some(16));
        let mut files = vec![entry(0, BASE.0, 0, BASE.1)];
        let (mut next, mut statements, mut compactions) = (1, 0_u64, 0_u64);
        let (mut most_files, mut most_deleted) = (0, 0);
        for _ in 0..10_000 {
            // Nearly all rows are in the largest superfile.
            let large = files.iter_mut().max_by_key(|file| file.rows).unwrap();
            let deleted = large.deleted_rows() + 1;
            let sidecar = 64 + 2 * deleted;
            large.delete_count += 1;
            large.tombstones = Some(TombstoneRef {
                sidecar: Uuid::from_u128(next).into(),
                hash: ContentHash::of(b""),
                cardinality: deleted,
                size: sidecar,
            });
            files.push(entry(next, 1, 0, 3_500));
            next += 1;
            statements += STATEMENT_BYTES + sidecar;
            for group in plan(&files, &targets) {
                files.retain(|file| !group.sources.contains(&file.id));
                let size = 3_500 + group.rows * BASE.1 / BASE.0;
                compactions += size;
                files.push(entry(next, group.rows, 0, size));
                next += 1;
            }
            most_files = most_files.max(files.len());
            let deleted: u64 = files.iter().map(SuperfileEntry::deleted_rows).sum();
            most_deleted = most_deleted.max(deleted);
        }
        assert!(most_files <= 32, "{most_files}");
        assert!(most_deleted * 500 <= BASE.0, "{most_deleted}");
        assert!(
            compactions <= statements * 3 / 2,
            "{compactions} for {statements}"
        );
        assert_eq!(
            files.iter().map(SuperfileEntry::live_rows).sum::<u64>(),
            BASE.0
        );
    }

    #[test]
    fn a_thousand_additions_of_one_row_leave_some_dozens_of_superfiles_and_write_less_than_they_did()
     {
        let targets = targets(256 << 20, Some(16));
        let mut files: Vec<SuperfileEntry> = Vec::new();
        let (mut next, mut written) = (0, 0);
        for _ in 0..1_000 {
            files.push(entry(next, 1, 0, 3_000));
            next += 1;
            for group in plan(&files, &targets) {
                files.retain(|file| !group.sources.contains(&file.id));
                let size = 3_000 + group.rows * 100;
                written += size;
                files.push(entry(next, group.rows, 0, size));
                next += 1;
            }
        }
        assert!(files.len() < 48, "{}", files.len());
        assert!(written < 1_000 * 3_000, "{written}");
        assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 1_000);
    }

    proptest! {
        #[test]
        fn no_superfile_is_in_two_groups_and_no_row_is_passed_over(
            files in proptest::collection::vec((1_u64..500, 0_u64..100, 1_u64..2_000), 0..60),
        ) {
            let files: Vec<_> = (0..)
                .zip(files)
                .map(|(n, (rows, deleted, size))| {
                    entry(n, rows, (rows * deleted / 100).min(rows - 1), size)
                })
                .collect();
            let targets = targets(1_000, None);
            let groups = plan(&files, &targets);
            let mut seen = std::collections::HashSet::new();
            for group in &groups {
                prop_assert!(group.sources.iter().all(|id| seen.insert(*id)));
                prop_assert!(group.sources.len() > 1 || group.live_bytes <= group.bytes);
            }
            let rows: u64 = groups.iter().map(|group| group.rows).sum();
            let untouched = files.iter().filter(|file| !seen.contains(&file.id));
            let kept: u64 = untouched.map(SuperfileEntry::live_rows).sum();
            prop_assert_eq!(rows + kept, files.iter().map(SuperfileEntry::live_rows).sum::<u64>());
            // Neighbours could not have been one group.
            for (group, next) in groups.iter().zip(groups.iter().skip(1)) {
                let together = group.live_bytes + next.live_bytes;
                let cut = files.iter().any(|file| {
                    file.id > *group.sources.last().unwrap()
                        && file.id < next.sources[0]
                        && (is_small(file, &targets) || is_rewritten(file, &targets))
                });
                prop_assert!(together > targets.bytes || cut);
            }
        }
    }
}
