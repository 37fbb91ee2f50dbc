//! The typed failures of the storage layer and what they mean to a caller.
//!
//! Owns [`StorageError`] and its conversion into the public [`Error`]. Does not own lost races:
//! those are values ([`CasOutcome::Lost`](super::CasOutcome), [`Fetched`](super::Fetched)).
//!
//! Invariant: an error of a conditional write says whether the write is known not to be in force
//! ([`StorageError::Store`]) or may be, now or later ([`StorageError::OutcomeUnknown`]).

use object_store::path::Path;

use crate::error::{Error, ErrorKind};

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this session only reads (supertable.read_only); nothing was changed")]
pub(super) struct ReadOnly;

/// A failure of the object store, naming the object by its path relative to the table's root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The store refused or failed, and retrying did not help. Nothing was written, or the
    /// operation writes nothing, or repeating it is harmless.
    #[error("{path}: {operation} failed after {attempts} attempt(s)")]
    Store {
        /// The object.
        path: String,
        /// What was attempted: `get`, `create`, `replace`, `delete`, `list` …
        operation: &'static str,
        /// How many times it was attempted.
        attempts: u32,
        /// The store's last answer.
        #[source]
        source: object_store::Error,
    },
    /// A conditional write may be in force, or may still come into force, and reading back did not
    /// settle it within the bounds of the retry policy.
    #[error("{path}: the outcome of a {operation} is unknown after {attempts} attempt(s)")]
    OutcomeUnknown {
        /// The object.
        path: String,
        /// `create` or `replace`.
        operation: &'static str,
        /// How many times it was attempted.
        attempts: u32,
        /// The store's last answer.
        #[source]
        source: object_store::Error,
    },
    /// The store returns neither an ETag nor a version for its objects, so it cannot compare and
    /// swap.
    #[error(
        "{path}: the object store returns neither an ETag nor a version, which replacing needs"
    )]
    Unversioned {
        /// The object.
        path: String,
    },
    /// The directory of a local table cannot be used.
    #[error("{path}: {reason}")]
    InvalidRoot {
        /// The directory as the user wrote it.
        path: String,
        /// Why not.
        reason: String,
    },
}

impl StorageError {
    /// A conditional write failed; while one of its requests is in flight, it may still come into force.
    pub(super) fn of_write(
        path: &Path,
        operation: &'static str,
        attempts: u32,
        in_flight: bool,
        source: object_store::Error,
    ) -> Self {
        let path = path.to_string();
        match in_flight {
            true => Self::OutcomeUnknown {
                path,
                operation,
                attempts,
                source,
            },
            false => Self::Store {
                path,
                operation,
                attempts,
                source,
            },
        }
    }

    /// A listing of what begins with `prefix` failed.
    pub(super) fn of_list(prefix: &str, source: object_store::Error) -> Self {
        Self::Store {
            path: prefix.to_owned(),
            operation: "list",
            attempts: 1,
            source,
        }
    }

    /// The object, or the directory, that the error is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Store { path, .. }
            | Self::OutcomeUnknown { path, .. }
            | Self::Unversioned { path }
            | Self::InvalidRoot { path, .. } => path,
        }
    }

    /// Whether a write may be in force although it failed.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. })
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store { source, .. } => match source {
                object_store::Error::NotFound { .. } => ErrorKind::NotFound,
                object_store::Error::NotImplemented { .. }
                | object_store::Error::NotSupported { .. } => ErrorKind::Unsupported,
                object_store::Error::InvalidPath { .. } => ErrorKind::InvalidArgument,
                object_store::Error::PermissionDenied { source, .. } if source.is::<ReadOnly>() => {
                    ErrorKind::ReadOnly
                }
                _ => ErrorKind::Storage,
            },
            Self::OutcomeUnknown { .. } => ErrorKind::OutcomeUnknown,
            Self::Unversioned { .. } => ErrorKind::Unsupported,
            Self::InvalidRoot { .. } => ErrorKind::InvalidArgument,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Store {
                operation,
                attempts,
                ..
            } => format!("{operation} failed after {attempts} attempt(s)"),
            Self::OutcomeUnknown {
                operation,
                attempts,
                ..
            } => format!("the outcome of a {operation} is unknown after {attempts} attempt(s)"),
            Self::Unversioned { .. } => {
                "the object store returns neither an ETag nor a version, which replacing needs"
                    .into()
            }
            Self::InvalidRoot { reason, .. } => reason.clone(),
        }
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        let public = Error::new(error.kind(), error.path(), error.detail());
        match error {
            StorageError::Store { source, .. } | StorageError::OutcomeUnknown { source, .. } => {
                public.with_source(source)
            }
            _ => public,
        }
    }
}
