//! The crate's public error: what kind of failure, which object or name it was about, and why.
//!
//! Owns the error type that crosses the public surface and its conversion into DataFusion's.
//! Does not own the typed errors of codecs and stores: those live beside the code that raises
//! them and arrive here as the `source`.
//!
//! Invariant: an [`Error`] never carries credentials; the subject is a path relative to the
//! table's root, or a name the user wrote.

use std::error::Error as StdError;
use std::fmt;

use datafusion::error::DataFusionError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the terms that decide what a caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The table or one of its objects does not exist.
    NotFound,
    /// Something of that name exists already; nothing was changed.
    AlreadyExists,
    /// Stored bytes are damaged, or objects contradict each other.
    Corrupt,
    /// The object was written by a newer version of this format.
    UnsupportedVersion,
    /// Another statement committed first; running the statement again may succeed.
    Conflict,
    /// A row violates `NOT NULL` or another constraint, or a statement would change a row twice;
    /// nothing was changed.
    Constraint,
    /// Two rows would have one primary key, or one key that is declared `UNIQUE`; nothing was changed.
    DuplicateKey,
    /// The request cannot be carried out; the message says what to do instead.
    Unsupported,
    /// An argument, option or name is not valid.
    InvalidArgument,
    /// The session only reads, and this would write; nothing was changed.
    ReadOnly,
    /// DataFusion could not evaluate the statement: it ran out of memory, divided by zero, had no fitting value; nothing
    /// was changed.
    Query,
    /// The object store failed, or refused, and retrying did not help.
    Storage,
    /// The statement may or may not have been committed; the message names its WAL id.
    OutcomeUnknown,
}

/// An error of this crate: kind, subject, detail and the error that caused it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    subject: String,
    detail: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` about `subject` (an object's path or a name), with a sentence saying why.
    pub fn new(kind: ErrorKind, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind,
            subject: subject.into(),
            detail: detail.into(),
            source: None,
        }
    }

    /// The same error, with the failure that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The object or name that the error is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What is said about it, without the cause.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What DataFusion answered to `statement`, as this crate's error: its own where there is one in it.
    pub(crate) fn of_engine(statement: impl Into<String>, error: DataFusionError) -> Self {
        let error = match own(error) {
            Ok(own) => return own,
            Err(error) => error,
        };
        // One that others share cannot be taken out; its causes are in its text.
        if let Some(own) = Self::find_in(&error) {
            let text = own.to_string();
            let detail = text.strip_prefix(&format!("{}: ", own.subject));
            return Self::new(own.kind, &own.subject, detail.unwrap_or(&own.detail));
        }
        let (kind, detail) = match error.find_root() {
            DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::SQL(..)
            | DataFusionError::Configuration(_) => {
                (ErrorKind::InvalidArgument, "cannot be planned")
            }
            DataFusionError::NotImplemented(_) => (ErrorKind::Unsupported, "cannot be planned"),
            DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
                (ErrorKind::Storage, "cannot read what it needs")
            }
            _ => (ErrorKind::Query, "cannot be evaluated"),
        };
        Self::new(kind, statement, detail).with_source(error)
    }

    /// The crate's error inside a DataFusion error, if there is one anywhere in its chain.
    pub fn find_in(error: &DataFusionError) -> Option<&Error> {
        let mut current: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(e) = current {
            if let Some(found) = e.downcast_ref::<Error>() {
                return Some(found);
            }
            // A shared error hides what it wraps from `source()`.
            if let Some(DataFusionError::Shared(inner)) = e.downcast_ref::<DataFusionError>() {
                return Error::find_in(inner);
            }
            if let Some(DataFusionError::External(inner)) = e.downcast_ref::<DataFusionError>()
                && let Some(found) = inner.downcast_ref::<Error>()
            {
                return Some(found);
            }
            current = e.source();
        }
        None
    }
}

/// This crate's error, taken out of those that wrap it.
fn own(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)
            if Error::find_in(&inner).is_some() =>
        {
            own(*inner)
        }
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(found) => Ok(*found),
            Err(inner) => match inner.downcast::<DataFusionError>() {
                Ok(inner) => own(*inner),
                Err(inner) => Err(DataFusionError::External(inner)),
            },
        },
        DataFusionError::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
            Ok(inner) => own(inner),
            Err(inner) => Err(DataFusionError::Shared(inner)),
        },
        other => Err(other),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = format!("{}: {}", self.subject, self.detail);
        let mut source = self.source();
        while let Some(cause) = source {
            // Some errors tell their cause themselves.
            let text = cause.to_string();
            if !said.contains(&text) {
                said.push_str(": ");
                said.push_str(&text);
            }
            source = cause.source();
        }
        f.write_str(&said)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}
