//! The plan of a compaction along a key: a curve, the declared order, or the order in which rows are stored.
//!
//! Owns the choice of sources, and of groups. Does not own reading, sorting or writing.
//!
//! A *run* is what one group became: superfiles that follow one another along the key (see [`Clustering`]). A group is
//! one commit and one sort, so its size is bounded ([`Along::group_bytes`]); and so a large table is several runs, each of
//! which spans what its sources spanned. Groups are therefore cut from the sources in the order of where they begin along
//! the key: sources that overlap come into one group as far as the bound allows, and where a source begins behind all
//! that a group has, and the group has half of what it may, it ends there.
//!
//! | [`Extent`] | written anew |
//! | --- | --- |
//! | `New` | superfiles that are in no run along the key, and runs that are worth it; in a run, superfiles that have lost too many rows |
//! | `Whole` | the same, and every run that is less than half of a group; in a run, superfiles that have lost any row |
//! | `Again` | everything |
//!
//! A run is worth it when what it is joined with has at least three times its rows ([`GROWTH`] less one). So each time a
//! row that is in a run is written anew, other than because rows beside it were deleted, its run grows fourfold at least:
//! a row is written at most once more than the logarithm to the base four of how many times as large the largest run is as
//! its first. And of runs of one size there are three at most, beside those that are as large as a group may be: what a
//! query reads of a run is what its filter leaves over, so few runs are what makes a filter worth most.
//!
//! While a table is written to, the plan waits for [`Targets::files_per_tier`] new superfiles, or for as many bytes as make
//! one that is not small; new ones that have lost too many rows do not wait.
//!
//! What is left to a superfile in a run after deletions is written anew with what was beside it in the run, and stays in
//! it.
//!
//! Invariant: no superfile is in two groups; a group with two sources is within the bound; the same input gives the
//! same plan; and after a plan was carried out, the next one has nothing to do (but for `Again`, which always has).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{Group, Targets, is_rewritten, live_bytes};
use crate::format::manifest::SuperfileEntry;
use crate::format::{ClusterKey, Clustering, Layout, StatValue};
use crate::table::compaction::Curve;

/// A run is joined with others once all together have so many times its rows.
pub(crate) const GROWTH: u64 = 4;

/// Sources of one group, at most: its commit names each. Many, because many small superfiles make one run.
const MAX_SOURCES: usize = 16_384;

/// Along what, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Along {
    /// What the rows are to be ordered along.
    pub key: ClusterKey,
    /// For each column of the key, whether its greatest value comes first.
    pub descending: Vec<bool>,
    /// Which superfiles are looked at.
    pub extent: Extent,
    /// Bytes of a group's sources, at most, unless it has one.
    pub group_bytes: u64,
}

/// Which superfiles are written anew; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What is not clustered, and what it pays to join with that.
    New,
    /// Whatever makes the table fewer runs.
    Whole {
        /// Rows of a superfile, if that was asked for: runs of smaller or larger ones are written anew, too.
        superfile_rows: Option<u64>,
    },
    /// All.
    Again,
}

/// Superfiles that were written together.
struct Run<'e> {
    clustering: Clustering,
    superfiles: Vec<&'e SuperfileEntry>,
    rows: u64,
    bytes: u64,
}

/// The groups in which `entries` are to be written anew.
pub(crate) fn plan_clustered<'e>(
    entries: impl IntoIterator<Item = &'e SuperfileEntry>,
    along: &Along,
    targets: &Targets,
) -> Vec<Group> {
    let (mut fresh, mut runs) = (Vec::new(), BTreeMap::new());
    for entry in entries {
        let clustering = entry.clustering.clone();
        match clustering.filter(|clustering| clustering.key == along.key) {
            Some(clustering) if along.extent != Extent::Again => {
                let run = runs
                    .entry(clustering.run)
                    .or_insert_with(|| Run::new(clustering));
                run.add(entry);
            }
            _ => fresh.push(entry),
        }
    }
    let runs: Vec<Run<'e>> = runs.into_values().collect();
    let (mut groups, kept) = match along.extent {
        Extent::New => new(fresh, runs, along, targets),
        Extent::Whole { superfile_rows } => whole(fresh, runs, along, superfile_rows),
        Extent::Again => (pack(fresh, along), Vec::new()),
    };
    let is_holed = |entry: &SuperfileEntry| match along.extent {
        Extent::New => is_rewritten(entry, targets),
        _ => entry.deleted_rows() > 0,
    };
    for mut run in kept {
        run.superfiles.retain(|entry| is_holed(entry));
        let holed = pack(run.superfiles, along).into_iter();
        groups.extend(holed.map(|group| Group {
            stays: Some(run.clustering.clone()),
            ..group
        }));
    }
    groups
}

/// Groups of what is new and of the runs that are worth joining with it; and the other runs.
fn new<'e>(
    mut fresh: Vec<&'e SuperfileEntry>,
    mut runs: Vec<Run<'e>>,
    along: &Along,
    targets: &Targets,
) -> (Vec<Group>, Vec<Run<'e>>) {
    if let Some(files) = targets.files_per_tier {
        let bytes: u64 = fresh.iter().map(|entry| live_bytes(entry)).sum();
        let enough = fresh.len() >= files.max(1) || bytes >= targets.bytes - targets.bytes / 4;
        if !enough {
            fresh.retain(|entry| is_rewritten(entry, targets));
        }
    }
    if fresh.is_empty() {
        return (Vec::new(), runs);
    }
    runs.sort_by_key(|run| (run.rows, run.clustering.run));
    let mut rows: u64 = fresh.iter().map(|entry| entry.live_rows()).sum();
    let mut bytes: u64 = fresh.iter().map(|entry| entry.size).sum();
    let mut sources = fresh.len();
    let mut worth = 0;
    for (before, run) in runs.iter().enumerate() {
        bytes += run.bytes;
        sources += run.superfiles.len();
        if bytes > along.group_bytes || sources > MAX_SOURCES {
            break;
        }
        if run.rows.saturating_mul(GROWTH - 1) <= rows {
            worth = before + 1;
        }
        rows += run.rows;
    }
    if worth == 0 {
        return (pack(fresh, along), runs);
    }
    let kept = runs.split_off(worth);
    let mut group = Group::default();
    for run in &runs {
        fresh.extend(&run.superfiles);
    }
    // One group, not cut where it could be: that a run grows is what bounds how often its rows are written.
    fresh.sort_by_key(|entry| entry.id);
    fresh.iter().for_each(|entry| group.take_in(entry));
    (vec![group], kept)
}

/// Groups of all that is not in a run as large as a group may be; and those runs.
fn whole<'e>(
    mut fresh: Vec<&'e SuperfileEntry>,
    runs: Vec<Run<'e>>,
    along: &Along,
    superfile_rows: Option<u64>,
) -> (Vec<Group>, Vec<Run<'e>>) {
    let odd = |run: &Run<'_>| superfile_rows.is_some_and(|rows| run.is_odd(rows));
    let (open, mut kept): (Vec<_>, Vec<_>) = runs
        .into_iter()
        .partition(|run| run.clustering.bytes < along.group_bytes.div_ceil(2) || odd(run));
    // One run alone is what it would become.
    if fresh.is_empty() && open.len() == 1 && !open.iter().any(odd) {
        kept.extend(open);
        return (Vec::new(), kept);
    }
    for run in open {
        fresh.extend(run.superfiles);
    }
    (pack(fresh, along), kept)
}

impl<'e> Run<'e> {
    fn new(clustering: Clustering) -> Self {
        Self {
            clustering,
            superfiles: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    fn add(&mut self, entry: &'e SuperfileEntry) {
        self.superfiles.push(entry);
        self.rows += entry.live_rows();
        self.bytes += entry.size;
    }

    /// Whether its superfiles are not of so many rows: one is larger, or two are much smaller.
    fn is_odd(&self, rows: u64) -> bool {
        let small = |entry: &&&SuperfileEntry| entry.live_rows() < rows - rows / 4;
        self.superfiles.iter().any(|entry| entry.rows > rows)
            || self.superfiles.iter().filter(small).count() > 1
    }
}

/// `sources` in groups; at most one of them is less than half of what a group may be, unless sources are very many.
fn pack(sources: Vec<&SuperfileEntry>, along: &Along) -> Vec<Group> {
    let half = along.group_bytes.div_ceil(2);
    let (mut groups, mut small) = (Vec::new(), Vec::new());
    let mut close = |group: Group| match group.bytes < half {
        _ if group.sources.is_empty() => {}
        true => small.push(group),
        false => groups.push(group),
    };
    let (mut open, mut hull): (Group, Vec<Extension>) = Default::default();
    for place in key_ranges(sources, along) {
        let bytes = open.bytes.saturating_add(place.entry.size);
        let full = bytes > along.group_bytes || open.sources.len() >= MAX_SOURCES;
        let behind = open.bytes >= half && place.is_apart_from(&hull);
        if !open.sources.is_empty() && (full || behind) {
            close(std::mem::take(&mut open));
            hull.clear();
        }
        open.take_in(place.entry);
        place.widen(&mut hull);
    }
    close(open);
    // Where large sources stand between, small groups are left. Two of them are not more than one group.
    let mut joined = Group::default();
    for group in small {
        if joined.sources.len() + group.sources.len() > MAX_SOURCES {
            groups.push(std::mem::take(&mut joined));
        }
        joined.join(group);
        if joined.bytes >= half {
            groups.push(std::mem::take(&mut joined));
        }
    }
    groups.extend((!joined.sources.is_empty()).then_some(joined));
    for group in &mut groups {
        group.sources.sort_unstable();
    }
    groups
}

/// From where to where a superfile reaches in one column: ranks among the bounds of all sources.
type Extension = (usize, usize);

/// A source, and where it is along the key.
struct KeyRange<'e> {
    entry: &'e SuperfileEntry,
    extensions: Vec<Extension>,
    /// Where it begins, and where it ends.
    begins: Vec<u8>,
    ends: Vec<u8>,
}

impl KeyRange<'_> {
    /// Whether it overlaps with nothing that is in a hull; without columns there is nothing to tell by.
    fn is_apart_from(&self, hull: &[Extension]) -> bool {
        let mut pairs = self.extensions.iter().zip(hull);
        pairs.any(|((low, high), (least, greatest))| low > greatest || high < least)
    }

    fn widen(&self, hull: &mut Vec<Extension>) {
        if hull.is_empty() {
            hull.extend(&self.extensions);
            return;
        }
        for ((least, greatest), (low, high)) in hull.iter_mut().zip(&self.extensions) {
            *least = (*least).min(*low);
            *greatest = (*greatest).max(*high);
        }
    }
}

/// The sources in the order in which they begin along the key.
fn key_ranges<'e>(sources: Vec<&'e SuperfileEntry>, along: &Along) -> Vec<KeyRange<'e>> {
    let columns: Vec<Vec<Extension>> = along
        .key
        .columns
        .iter()
        .enumerate()
        .map(|(at, id)| {
            let descending = along.descending.get(at).copied().unwrap_or(false);
            extensions(&sources, *id, descending)
        })
        .collect();
    let mut key_ranges: Vec<KeyRange<'e>> = sources
        .into_iter()
        .enumerate()
        .map(|(i, entry)| {
            let extensions: Vec<Extension> = columns
                .iter()
                .filter_map(|column| column.get(i).copied())
                .collect();
            let begins = corner(along.key.layout, extensions.iter().map(|(low, _)| *low));
            let ends = corner(along.key.layout, extensions.iter().map(|(_, high)| *high));
            KeyRange {
                entry,
                extensions,
                begins,
                ends,
            }
        })
        .collect();
    key_ranges
        .sort_by(|a, b| (&a.begins, &a.ends, a.entry.id).cmp(&(&b.begins, &b.ends, b.entry.id)));
    key_ranges
}

/// Ranks are scaled to this, the largest coordinate of a curve.
const TOP: usize = u16::MAX as usize;

/// The place of a corner of what a superfile spans, as bytes that compare as places do.
fn corner(layout: Layout, ranks: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut point: Vec<u16> = ranks
        .map(|rank| u16::try_from(rank).unwrap_or(u16::MAX))
        .collect();
    let mut bytes = Vec::new();
    match layout {
        Layout::ZOrder => Curve::ZOrder.place(&mut point, &mut bytes),
        Layout::Hilbert => Curve::Hilbert.place(&mut point, &mut bytes),
        Layout::Declared => bytes.extend(point.iter().flat_map(|rank| rank.to_be_bytes())),
        Layout::Stored => {}
    }
    bytes
}

/// From where to where each source reaches in a column; one of which nothing is known reaches everywhere.
fn extensions(sources: &[&SuperfileEntry], id: i32, descending: bool) -> Vec<Extension> {
    let of = |entry: &&SuperfileEntry| {
        let stats = entry.stats.columns.get(&id)?;
        Some((stats.min.clone()?, stats.max.clone()?))
    };
    let bounds: Vec<Option<(StatValue, StatValue)>> = sources.iter().map(of).collect();
    let mut values: Vec<&StatValue> = bounds
        .iter()
        .flatten()
        .flat_map(|(min, max)| [min, max])
        .collect();
    values.sort_by(|a, b| compare(a, b));
    values.dedup_by(|a, b| compare(a, b).is_eq());
    let last = values.len().saturating_sub(1).max(1);
    let rank = |value: &StatValue| {
        let rank = values.partition_point(|other| compare(other, value).is_lt());
        // Few values are spread, so that a curve turns where it should; more than there are places share some.
        let scaled = rank * TOP / last;
        match descending {
            true => TOP - scaled.min(TOP),
            false => scaled.min(TOP),
        }
    };
    bounds
        .iter()
        .map(|bounds| match bounds {
            None => (0, TOP),
            Some((min, max)) => {
                let (a, b) = (rank(min), rank(max));
                (a.min(b), a.max(b))
            }
        })
        .collect()
}

/// The order of a column's values.
fn compare(a: &StatValue, b: &StatValue) -> Ordering {
    a.compare(b).unwrap_or_else(|| kind(a).cmp(&kind(b)))
}

/// What keeps the order total where values cannot be compared.
fn kind(value: &StatValue) -> u8 {
    match value {
        StatValue::Bool(_) => 0,
        StatValue::Int(_) | StatValue::UInt(_) => 1,
        StatValue::Float(_) => 2,
        StatValue::Decimal(_) => 3,
        StatValue::Utf8(_) => 4,
        StatValue::Binary(_) => 5,
    }
}

#[cfg(test)]
mod tests;
