//! Skip pointers: from each version to a few far older ones, so that any version can be reached in few reads.
//!
//! A root names its parent, and for each power p of [`STRIDE`] the root of the newest version below its own whose
//! number is a multiple of p. Which versions these are follows from the number alone, so a root holds only hashes:
//! 5 in version 2,000, 9 in version a million. Going down by the farthest pointer that does not lead too far takes
//! fewer than `STRIDE` steps for each power.
//!
//! A new version gets its pointers from those of the version before and that version's own root: nothing is read.
//!
//! Owns: that arithmetic. Does not own the reads (`table::version::descent`) nor the encoding (`wire`).
//! Invariant: all versions from one on share the pointers that lead below it, so the chain is cut below a version by
//! removing the roots that this version itself names.

/// Each further pointer leads so many times as far.
pub(crate) const STRIDE: u64 = 4;

/// The versions to which the skip pointers of `version` lead, the nearest first. Neighbours may be the same.
pub(crate) fn skip_versions(version: u64) -> impl Iterator<Item = u64> {
    let before = version.saturating_sub(1);
    std::iter::successors(Some(STRIDE), |power| power.checked_mul(STRIDE))
        .map_while(move |power| Some(before.checked_div(power)?.saturating_mul(power)))
        .take_while(|version| *version > 0)
}
