//! Which version of a table is meant, and what a version says of itself.
//!
//! Owns these two values. Does not own finding the one or reading the other (`history`). No I/O.

use crate::format::ContentHash;
use crate::format::manifest::ManifestHeader;

/// Which version of a table is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The version of this number.
    Version(u64),
    /// The last version that is not younger than this: milliseconds since the Unix epoch.
    Time(i64),
}

/// What one version says of itself, without its superfiles.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// The manifest root.
    pub root: ContentHash,
    /// What stands in it.
    pub header: ManifestHeader,
}
