//! The codecs' errors together, on their way to the crate's public error.
//!
//! Owns which public kind each becomes. Does not own what can be wrong: each codec has its own
//! enum.
//!
//! Invariant: malformed bytes are `Corrupt` and newer versions are `UnsupportedVersion`, always
//! with the path of the object.

use object_store::path::Path;

use super::change_set::ChangeSetError;
use super::envelope::EnvelopeError;
use super::manifest::{InvariantViolation, ManifestError};
use super::pointer::PointerError;
use super::state_doc::StateDocError;
use super::tombstones::SidecarCodecError;
use crate::error::{Error, ErrorKind};

/// Any codec's error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    /// A pointer is malformed.
    #[error(transparent)]
    Pointer(#[from] PointerError),
    /// A manifest node is malformed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A sidecar is malformed.
    #[error(transparent)]
    Sidecar(#[from] SidecarCodecError),
    /// A change set is malformed.
    #[error(transparent)]
    ChangeSet(#[from] ChangeSetError),
    /// A WAL document is malformed.
    #[error(transparent)]
    StateDoc(#[from] StateDocError),
    /// A version must not follow another one.
    #[error(transparent)]
    Invariant(#[from] InvariantViolation),
}

impl FormatError {
    /// Whether a newer version of a format is the reason.
    pub(crate) fn is_unsupported_version(&self) -> bool {
        match self {
            Self::Pointer(e) => matches!(e, PointerError::UnsupportedVersion { .. }),
            Self::Manifest(e) => e.is_unsupported_version(),
            Self::Sidecar(e) => matches!(e, SidecarCodecError::UnsupportedVersion { .. }),
            Self::ChangeSet(e) => e.is_unsupported_version(),
            Self::StateDoc(e) => matches!(e, StateDocError::UnsupportedVersion { .. }),
            Self::Invariant(InvariantViolation::Tree(e)) => e.is_unsupported_version(),
            Self::Invariant(_) => false,
        }
    }

    /// The public error about the object at `path`.
    pub(crate) fn at(self, path: &Path) -> Error {
        if self.is_unsupported_version() {
            Error::new(
                ErrorKind::UnsupportedVersion,
                path.as_ref(),
                "written by a newer version of this software; upgrade to read it",
            )
        } else {
            Error::new(
                ErrorKind::Corrupt,
                path.as_ref(),
                "the stored bytes are damaged",
            )
        }
        .with_source(self)
    }
}

impl From<EnvelopeError> for FormatError {
    fn from(error: EnvelopeError) -> Self {
        Self::Manifest(error.into())
    }
}
