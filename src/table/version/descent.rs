//! The way from a version down to an older one, by skip pointers.
//!
//! Owns: which root to read next, as a function of what was read. Does not own the reads (`history`) nor which
//! versions a root names (`format::manifest`).
//! Invariants: versions are never younger than their successors (`commit::draft` sees to it), so the newest version that is
//! old enough can be closed in on from both sides; what is found was reached by roots that were there. A vacuum cuts
//! the farthest pointers first and the parent last, so a pointer that leads nowhere proves nothing: nearer ones are
//! tried, and only a parent that is not there ends the history.

use std::collections::BTreeSet;

use super::moment::{Moment, VersionInfo};
use crate::format::ContentHash;
use crate::format::manifest::ManifestHeader;

/// Where a descent leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// To the version that is meant.
    Moment(Moment),
    /// To the oldest version that remains.
    Oldest,
}

/// What a descent asks for, or comes to.
#[derive(Debug)]
pub(crate) enum Direction {
    /// The root of this version is to be read, and supplied.
    Read(u64, ContentHash),
    /// The version that was looked for.
    Arrived(VersionInfo),
    /// It is not there: this is the oldest version that was reached.
    End(VersionInfo),
}

/// A descent under way.
#[derive(Debug)]
pub(crate) struct Descent {
    goal: Goal,
    /// The oldest version known to be younger than the goal, or the goal itself.
    at: VersionInfo,
    /// The newest version known to be old enough.
    below: Option<VersionInfo>,
    /// Versions whose roots are not there.
    gone: BTreeSet<u64>,
}

impl Descent {
    /// Starts at a version that is there.
    pub(crate) fn new(from: VersionInfo, goal: Goal) -> Self {
        Self {
            goal,
            at: from,
            below: None,
            gone: BTreeSet::new(),
        }
    }

    /// What to do next.
    pub(crate) fn next(&self) -> Direction {
        let at = &self.at.header;
        if self.is_old_enough(at) {
            return match self.is_goal(at) {
                true => Direction::Arrived(self.at.clone()),
                false => Direction::End(self.at.clone()),
            };
        }
        let below = match &self.below {
            Some(below) if self.is_goal(&below.header) && self.is_next_to(below) => {
                return Direction::Arrived(below.clone());
            }
            Some(below) => below.header.version,
            None => 0,
        };
        let next = at.ancestors().into_iter().find(|(version, _)| {
            *version > below && !self.gone.contains(version) && !self.is_too_far(*version)
        });
        match next {
            Some((version, root)) => Direction::Read(version, root),
            None => Direction::End(self.at.clone()),
        }
    }

    /// Takes what was asked for; `None` if it is not there.
    pub(crate) fn supply(&mut self, version: u64, found: Option<VersionInfo>) {
        match found {
            Some(info) if self.is_old_enough(&info.header) => self.below = Some(info),
            Some(info) => self.at = info,
            None => {
                self.gone.insert(version);
            }
        }
    }

    fn is_old_enough(&self, header: &ManifestHeader) -> bool {
        match self.goal {
            Goal::Moment(Moment::Version(version)) => header.version <= version,
            Goal::Moment(Moment::Time(ms)) => header.created_at_ms <= ms,
            Goal::Oldest => false,
        }
    }

    /// Whether a version that is old enough can be what is looked for.
    fn is_goal(&self, header: &ManifestHeader) -> bool {
        match self.goal {
            Goal::Moment(Moment::Version(version)) => header.version == version,
            Goal::Moment(Moment::Time(_)) => true,
            Goal::Oldest => false,
        }
    }

    /// Whether there is no version between that one and the ones that are too young.
    fn is_next_to(&self, below: &VersionInfo) -> bool {
        match self.goal {
            // A number says it all.
            Goal::Moment(Moment::Version(_)) => true,
            _ => below.header.version.checked_add(1) == Some(self.at.header.version),
        }
    }

    /// Whether it is known without reading it that a version is older than the goal.
    fn is_too_far(&self, version: u64) -> bool {
        matches!(self.goal, Goal::Moment(Moment::Version(wanted)) if version < wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::format::manifest::{TableMetadata, skip_versions};
    use crate::format::tests::samples;

    fn root(version: u64) -> ContentHash {
        ContentHash::of(&version.to_le_bytes())
    }

    /// One version of a table that gets two versions in each millisecond.
    fn version(version: u64, metadata: &Arc<TableMetadata>) -> VersionInfo {
        let first = ManifestHeader::first(Arc::clone(metadata), (version / 2) as i64);
        let header = ManifestHeader {
            version,
            parent: (version > 1).then(|| root(version - 1)),
            skips: skip_versions(version).map(root).collect(),
            ..first
        };
        VersionInfo {
            root: root(version),
            header,
        }
    }

    /// Goes down from `tip` where versions below `floor`, and those in `cut`, are gone; what it came to, and how
    /// many roots it read.
    fn descend(tip: u64, goal: Goal, floor: u64, cut: &[u64]) -> (Result<u64, u64>, usize) {
        let metadata = Arc::new(samples::metadata());
        let mut descent = Descent::new(version(tip, &metadata), goal);
        let mut reads = 0;
        loop {
            match descent.next() {
                Direction::Read(wanted, hash) => {
                    assert_eq!(hash, root(wanted));
                    reads += 1;
                    let there = wanted >= floor && !cut.contains(&wanted);
                    descent.supply(wanted, there.then(|| version(wanted, &metadata)));
                }
                Direction::Arrived(info) => return (Ok(info.header.version), reads),
                Direction::End(info) => return (Err(info.header.version), reads),
            }
        }
    }

    #[test]
    fn each_version_gets_its_pointers_from_the_one_before() {
        let metadata = Arc::new(samples::metadata());
        let mut header = version(1, &metadata).header;
        for number in 2..5_000 {
            let skips = header.skips_after(root(number - 1)).unwrap();
            header = version(number, &metadata).header;
            assert_eq!(skips, header.skips, "{number}");
        }
        assert_eq!(version(1_000_000, &metadata).header.skips.len(), 9);
        let damaged = ManifestHeader {
            skips: Vec::new(),
            ..header
        };
        assert_eq!(damaged.skips_after(root(1)), None);
    }

    proptest! {
        #[test]
        fn any_version_of_a_million_takes_few_reads(
            tip in 900_000u64..1_100_000, far in 0u64..900_000, near in 0u64..70,
        ) {
            for wanted in [tip - far, tip - near, near + 1] {
                let (found, reads) = descend(tip, Goal::Moment(Moment::Version(wanted)), 1, &[]);
                prop_assert_eq!(found, Ok(wanted));
                prop_assert!(reads <= 50, "{} reads", reads);
                let moment = Goal::Moment(Moment::Time((wanted / 2) as i64));
                let (found, reads) = descend(tip, moment, 1, &[]);
                prop_assert_eq!(found, Ok((wanted / 2 * 2 + 1).min(tip)));
                prop_assert!(reads <= 80, "{} reads", reads);
            }
        }

        #[test]
        fn the_oldest_version_and_one_that_is_gone_take_few_reads(
            tip in 900_000u64..1_100_000, floor in 2u64..900_000, back in 1u64..900_000,
        ) {
            let (oldest, reads) = descend(tip, Goal::Oldest, floor, &[]);
            prop_assert_eq!(oldest, Err(floor));
            prop_assert!(reads <= 60, "{} reads", reads);
            let gone = floor.saturating_sub(back).max(1);
            let (found, reads) = descend(tip, Goal::Moment(Moment::Version(gone)), floor, &[]);
            prop_assert!(found.is_err());
            prop_assert!(reads <= 60, "{} reads", reads);
            let (found, _) = descend(tip, Goal::Moment(Moment::Time(-1)), floor, &[]);
            prop_assert_eq!(found, Err(floor));
        }

        #[test]
        fn pointers_that_a_vacuum_cut_before_it_died_hide_nothing(
            tip in 3_000u64..4_000, floor in 2u64..3_000, cut in 0usize..6, wanted in 1u64..4_000,
        ) {
            let metadata = Arc::new(samples::metadata());
            let cut: Vec<u64> = version(floor, &metadata)
                .header
                .ancestors()
                .into_iter()
                .map(|(version, _)| version)
                .filter(|version| version + 1 < floor)
                .take(cut)
                .collect();
            let oldest = cut.last().map_or(1, |last| last + 1);
            let (found, _) = descend(tip, Goal::Moment(Moment::Version(wanted)), 1, &cut);
            if (oldest..=tip).contains(&wanted) {
                prop_assert_eq!(found, Ok(wanted));
            }
        }
    }
}
