//! Skip pointers: from each version to a few far older ones, so that any version can be reached in few reads.
//!
//! A root names its parent, and for each power p of [`STRIDE`] the root of the newest version below its own whose
//! number is a multiple of p. Which versions these are follows from the number alone, so a root holds only hashes:
//! 5 in version 2,000, 9 in version a million. Going down by the farthest pointer that does not lead too far takes
//! fewer than `STRIDE` steps for each power.
//!
//! A new version gets its pointers from those of the version before and that version's own root: nothing is read.
//!
//! Owns: that arithmetic. Does not own the reads (`table::descent`) nor the encoding (`wire`).
//! Invariant: all versions from one on share the pointers that lead below it, so the chain is cut below a version by
//! removing the roots that this version itself names.

use super::types::ManifestHeader;
use crate::format::ids::ContentHash;

/// Each further pointer leads so many times as far.
pub const STRIDE: u64 = 4;

/// The versions to which the skip pointers of `version` lead, the nearest first. Neighbours may be the same.
pub fn skip_versions(version: u64) -> impl Iterator<Item = u64> {
    let before = version.saturating_sub(1);
    std::iter::successors(Some(STRIDE), |power| power.checked_mul(STRIDE))
        .map_while(move |power| Some(before.checked_div(power)?.saturating_mul(power)))
        .take_while(|version| *version > 0)
}

impl ManifestHeader {
    /// The skip pointers of the version after this one, whose root is `root`. `None` if its own are not what its
    /// number says.
    pub fn skips_after(&self, root: ContentHash) -> Option<Vec<ContentHash>> {
        if self.skips.len() != skip_versions(self.version).count() {
            return None;
        }
        skip_versions(self.version.checked_add(1)?)
            .enumerate()
            .map(|(i, version)| match version == self.version {
                true => Some(root),
                false => self.skips.get(i).copied(),
            })
            .collect()
    }

    /// The older versions that this one names, with their roots: the oldest first, its parent last.
    pub fn ancestors(&self) -> Vec<(u64, ContentHash)> {
        let skips = skip_versions(self.version).zip(self.skips.iter().copied());
        let mut ancestors: Vec<_> = skips.collect();
        ancestors.reverse();
        let parent = self
            .parent
            .map(|root| (self.version.saturating_sub(1), root));
        ancestors.extend(parent);
        ancestors.dedup_by_key(|(version, _)| *version);
        ancestors
    }
}
