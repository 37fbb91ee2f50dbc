//! What two versions differ in, superfile by superfile.
//!
//! Owns the comparison of two manifests. Does not own reading the rows.
//! Invariant: a superfile that is in both with the same tombstones is not named. No I/O.

use std::collections::HashSet;
use std::sync::Arc;

use crate::format::ContentHash;
use crate::format::manifest::{Manifest, SuperfileEntry};

/// How a later version differs from an earlier one.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Superfiles that only the later one has.
    pub added: Vec<Arc<SuperfileEntry>>,
    /// Superfiles that only the earlier one has.
    pub removed: Vec<Arc<SuperfileEntry>>,
    /// Superfiles with other tombstones: as they were, and as they are.
    pub changed: Vec<(Arc<SuperfileEntry>, Arc<SuperfileEntry>)>,
}

impl Difference {
    /// Whether no row came or went.
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What `after` differs in from `before`. Leaves that the two share are not looked into.
pub(crate) fn difference(before: &Manifest, after: &Manifest) -> Difference {
    let (old, new) = (leaves(before), leaves(after));
    let mut difference = Difference::default();
    for entry in entries_besides(after, &old) {
        match before.get(&entry.id) {
            None => difference.added.push(Arc::clone(entry)),
            Some(was) if sidecar(was) != sidecar(entry) => {
                difference
                    .changed
                    .push((Arc::clone(was), Arc::clone(entry)));
            }
            Some(_) => {}
        }
    }
    for entry in entries_besides(before, &new) {
        if after.get(&entry.id).is_none() {
            difference.removed.push(Arc::clone(entry));
        }
    }
    difference
}

fn sidecar(entry: &SuperfileEntry) -> Option<ContentHash> {
    entry.tombstones.as_ref().map(|t| t.hash)
}

fn leaves(manifest: &Manifest) -> HashSet<ContentHash> {
    let leaves = manifest.groups().iter().flat_map(|group| group.leaves());
    leaves.filter_map(|leaf| leaf.hash()).collect()
}

fn entries_besides<'m>(
    manifest: &'m Manifest,
    known: &HashSet<ContentHash>,
) -> impl Iterator<Item = &'m Arc<SuperfileEntry>> {
    manifest
        .groups()
        .iter()
        .flat_map(|group| group.leaves())
        .filter(|leaf| leaf.hash().is_none_or(|hash| !known.contains(&hash)))
        .flat_map(|leaf| leaf.entries())
}
