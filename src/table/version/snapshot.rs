//! One version of a table, pinned.
//!
//! Owns: what a statement reads. Does not own how a version becomes current (`head`, `commit`).
//! Invariant: everything that a snapshot leads to is immutable, so it answers the same for ever, as long as
//! vacuum keeps its version. A crash leaves nothing.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;

use super::reader::Reader;
use super::sidecars::Sidecars;
use crate::error::Result;
use crate::format::manifest::{
    CommitRecord, Manifest, ManifestEdit, SuperfileEntry, TableMetadata,
};
use crate::format::{Claim, ContentHash, WalId};
use crate::storage::ObjectVersion;
use crate::table::apply::ApplyError;

/// One version of a table. Every reference to a table within a statement reads the same one.
#[derive(Debug)]
pub struct Snapshot {
    manifest: Manifest,
    root: ContentHash,
    /// The pointer that names this version; `None` for a version from the history.
    pointer: Option<Named>,
    reader: Arc<Reader>,
    /// Another version's metadata, with which this one is looked at.
    seen_with: Option<Arc<TableMetadata>>,
}

/// The pointer that names a version: its state, and what it says besides, which every swing from that state keeps.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) state: ObjectVersion,
    pub(crate) claim: Option<Claim>,
}

impl Snapshot {
    pub(crate) fn new(
        manifest: Manifest,
        root: ContentHash,
        pointer: Option<Named>,
        reader: Arc<Reader>,
    ) -> Self {
        Self {
            manifest,
            root,
            pointer,
            reader,
            seen_with: None,
        }
    }

    /// The same version, named by another state of the pointer.
    pub(crate) fn under(&self, pointer: Named) -> Self {
        Self {
            manifest: self.manifest.clone(),
            root: self.root,
            pointer: Some(pointer),
            reader: Arc::clone(&self.reader),
            seen_with: None,
        }
    }

    /// The rows of this version in the columns of another one of the table. To be read only: what is based on
    /// it would be committed with columns that were not there.
    #[must_use]
    pub fn seen_with(&self, metadata: &Arc<TableMetadata>) -> Self {
        Self {
            manifest: self.manifest.clone(),
            root: self.root,
            pointer: None,
            reader: Arc::clone(&self.reader),
            seen_with: Some(Arc::clone(metadata)),
        }
    }

    /// This version with superfiles that a statement has staged. To be read only.
    ///
    /// # Errors
    /// `Corrupt` if one of them cannot be of this table.
    pub(crate) fn with_staged(&self, staged: &[SuperfileEntry]) -> Result<Self> {
        let edit = ManifestEdit {
            add: staged.to_vec(),
            ..ManifestEdit::default()
        };
        let header = self.manifest.header().clone();
        let manifest = edit
            .apply(&self.manifest, header)
            .map_err(ApplyError::from)?;
        Ok(Self {
            manifest,
            root: self.root,
            pointer: None,
            reader: Arc::clone(&self.reader),
            seen_with: self.seen_with.clone(),
        })
    }

    /// The version, from 1.
    pub fn version(&self) -> u64 {
        self.manifest.version()
    }

    /// Its superfiles and what it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The hash of its manifest root.
    pub fn root(&self) -> ContentHash {
        self.root
    }

    /// The table's schema in this version, with field ids.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.metadata().schema)
    }

    /// The table's metadata in this version, or that with which it is looked at.
    pub fn metadata(&self) -> &Arc<TableMetadata> {
        let own = &self.manifest.header().metadata;
        self.seen_with.as_ref().unwrap_or(own)
    }

    /// What reads the tombstones of this version.
    pub fn sidecars(&self) -> &Arc<Sidecars> {
        self.reader.sidecars()
    }

    /// The commit record of a mutation, if this version or the list of those pending has it.
    pub(crate) fn record(&self, id: &WalId) -> Option<&CommitRecord> {
        self.manifest.header().commit_record(id)
    }

    pub(crate) fn pointer(&self) -> Option<&ObjectVersion> {
        self.pointer.as_ref().map(|pointer| &pointer.state)
    }

    /// Where the pointer that names this version says that the table stands in its catalog; `None` if that is
    /// its own directory, and for a version from the history.
    pub fn claim(&self) -> Option<&Claim> {
        self.pointer.as_ref()?.claim.as_ref()
    }

    /// What neither falls in any write of the pointer: the version, and in it the number of the claim.
    pub(crate) fn order(&self) -> (u64, u64) {
        (self.version(), self.claim().map_or(0, |claim| claim.number))
    }
}
