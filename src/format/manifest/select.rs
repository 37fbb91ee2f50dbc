//! The superfiles of a version whose statistics pass a test, found from the top of the tree.
//!
//! Owns the descent. Does not own the test.
//!
//! Invariant: what holds for all rows below a node holds for those of each superfile below it, so a test that may
//! only refuse what holds no wanted row refuses no superfile for its node that has one.

use std::sync::Arc;

use super::entry::SuperfileEntry;
use super::tree::Manifest;
use crate::format::stats::RowStats;

/// Nodes above so few superfiles are not tested: the superfiles are.
const FEW: u64 = 256;

/// The superfiles that `keep` keeps, each with its index among all, in their order. `keep` says of each of the
/// statistics that it is given whether one of their rows may be wanted; it is asked about the nodes of the tree level
/// by level, and about the superfiles below those that it keeps.
pub(crate) fn select(
    manifest: &Manifest,
    mut keep: impl FnMut(&[RowStats<'_>]) -> Vec<bool>,
) -> Vec<(usize, &Arc<SuperfileEntry>)> {
    let groups = manifest.groups().iter();
    let groups = numbered(0, groups, |g| g.totals().superfiles);
    let leaves: Vec<_> = kept(
        groups,
        |g| g.totals().superfiles,
        |g| g.row_stats(),
        &mut keep,
    )
    .into_iter()
    .flat_map(|(start, g)| numbered(start, g.leaves().iter(), |l| l.totals().superfiles))
    .collect();
    let entries = kept(
        leaves,
        |l| l.totals().superfiles,
        |l| l.row_stats(),
        &mut keep,
    )
    .into_iter()
    .flat_map(|(start, leaf)| numbered(start, leaf.entries().iter(), |_| 1))
    .collect::<Vec<_>>();
    let all: Vec<RowStats<'_>> = entries.iter().map(|(_, e)| e.row_stats()).collect();
    if all.is_empty() {
        return Vec::new();
    }
    filtered(entries, &keep(&all))
}

/// `nodes`, each with the index of its first superfile.
fn numbered<'m, T: 'm>(
    start: usize,
    nodes: impl Iterator<Item = &'m T>,
    superfiles: impl Fn(&T) -> u64,
) -> Vec<(usize, &'m T)> {
    let mut next = start;
    let number = |node| {
        let at = next;
        next = at.saturating_add(usize::try_from(superfiles(node)).unwrap_or(usize::MAX));
        (at, node)
    };
    nodes.map(number).collect()
}

/// The nodes that `keep` keeps.
fn kept<'m, T>(
    nodes: Vec<(usize, &'m T)>,
    superfiles: impl Fn(&T) -> u64,
    stats: impl Fn(&'m T) -> RowStats<'m>,
    keep: &mut impl FnMut(&[RowStats<'_>]) -> Vec<bool>,
) -> Vec<(usize, &'m T)> {
    if nodes.iter().map(|(_, node)| superfiles(node)).sum::<u64>() <= FEW {
        return nodes;
    }
    let all: Vec<RowStats<'_>> = nodes.iter().map(|(_, node)| stats(node)).collect();
    let keep = keep(&all);
    filtered(nodes, &keep)
}

fn filtered<T>(items: Vec<T>, keep: &[bool]) -> Vec<T> {
    let mut keep = keep.iter();
    // Of what nothing was said nothing is refused.
    (items.into_iter())
        .filter(|_| keep.next().copied().unwrap_or(true))
        .collect()
}
