//! What one vacuum found and did.
//!
//! Owns the numbers and their words. Does not own how they come about. Invariant: none. A crash
//! leaves nothing.

use std::fmt;

use super::plan::Kind;

/// Objects of one kind, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// How many objects.
    pub objects: u64,
    /// How many bytes they take.
    pub bytes: u64,
}

impl Removed {
    pub(super) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What one vacuum found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VacuumReport {
    /// Nothing was deleted: these are the objects that would be.
    pub dry_run: bool,
    /// The current version.
    pub current_version: u64,
    /// The oldest version that can still be read.
    pub oldest_version: u64,
    /// Superfiles deleted.
    pub superfiles: Removed,
    /// Sidecars deleted.
    pub sidecars: Removed,
    /// Manifest nodes deleted.
    pub manifest_nodes: Removed,
    /// WAL documents and change sets of mutations that had ended, or were ended now.
    pub wal_objects: u64,
    /// Unused objects that stay because a mutation is under way that may come to use them.
    pub in_flight: Removed,
    /// Unused objects that stay because they are too young.
    pub young: Removed,
    /// WAL documents that cannot be read. What they may refer to stays.
    pub unreadable_documents: u64,
}

impl VacuumReport {
    /// Everything that was deleted.
    pub fn removed(&self) -> Removed {
        let parts = [self.superfiles, self.sidecars, self.manifest_nodes];
        Removed {
            objects: parts.iter().map(|p| p.objects).sum(),
            bytes: parts.iter().map(|p| p.bytes).sum(),
        }
    }

    pub(super) fn of_kind(&mut self, kind: Kind) -> &mut Removed {
        match kind {
            Kind::Superfile => &mut self.superfiles,
            Kind::Sidecar => &mut self.sidecars,
            Kind::ManifestNode => &mut self.manifest_nodes,
        }
    }
}

impl fmt::Display for VacuumReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Removed { objects, bytes } = self.removed();
        write!(
            f,
            "{} {objects} objects ({bytes} bytes): superfiles {}, sidecars {}, manifest nodes {}; versions \
             {} to {} remain; kept in flight {}, kept young {}",
            if self.dry_run {
                "would delete"
            } else {
                "deleted"
            },
            self.superfiles.objects,
            self.sidecars.objects,
            self.manifest_nodes.objects,
            self.oldest_version,
            self.current_version,
            self.in_flight.objects,
            self.young.objects,
        )
    }
}
