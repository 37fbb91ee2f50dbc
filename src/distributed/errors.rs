//! This crate's errors, on their way from a worker.
//!
//! An engine sends the text of an error that is not DataFusion's own, and with it neither its kind nor what it is about.
//! Owns the text that says both, and how the coordinator finds it in what arrives. Invariant: what a person reads of an
//! error is the same as without a worker.

use std::fmt;

use datafusion::common::DataFusionError;

use crate::error::{Error, ErrorKind};

const BEGIN: &str = "\u{1}supertable{";
const END: &str = "}supertable\u{1}";

/// Kinds and their names.
const KINDS: [(ErrorKind, &str); 13] = [
    (ErrorKind::NotFound, "not_found"),
    (ErrorKind::AlreadyExists, "already_exists"),
    (ErrorKind::Corrupt, "corrupt"),
    (ErrorKind::UnsupportedVersion, "unsupported_version"),
    (ErrorKind::Conflict, "conflict"),
    (ErrorKind::Constraint, "constraint"),
    (ErrorKind::DuplicateKey, "duplicate_key"),
    (ErrorKind::Unsupported, "unsupported"),
    (ErrorKind::InvalidArgument, "invalid_argument"),
    (ErrorKind::ReadOnly, "read_only"),
    (ErrorKind::Query, "query"),
    (ErrorKind::Storage, "storage"),
    (ErrorKind::OutcomeUnknown, "outcome_unknown"),
];

/// An error whose text says what kind it is.
#[derive(Debug)]
struct Sent(String);

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Sent {}

/// `error` as a worker lets it out.
pub(super) fn sent(error: DataFusionError) -> DataFusionError {
    let Some(own) = Error::find_in(&error) else {
        return error;
    };
    let Some((_, kind)) = KINDS.iter().find(|(kind, _)| *kind == own.kind()) else {
        return error;
    };
    let text = own.to_string();
    let detail = text.strip_prefix(&format!("{}: ", own.subject()));
    let parts = [kind, own.subject(), detail.unwrap_or(own.detail())];
    match serde_json::to_string(&parts) {
        Ok(json) => DataFusionError::External(Box::new(Sent(format!("{BEGIN}{json}{END}")))),
        Err(_) => error,
    }
}

/// `error` as it was before a worker let it out, if it is of this crate.
pub(super) fn received(error: DataFusionError) -> DataFusionError {
    if Error::find_in(&error).is_some() {
        return error;
    }
    match parsed(&error.to_string()) {
        Some(own) => own.into(),
        None => error,
    }
}

fn parsed(text: &str) -> Option<Error> {
    let (_, rest) = text.split_once(BEGIN)?;
    let (json, _) = rest.split_once(END)?;
    let [kind, subject, detail]: [String; 3] = serde_json::from_str(json).ok()?;
    let (kind, _) = KINDS.into_iter().find(|(_, name)| *name == kind)?;
    Some(Error::new(kind, subject, detail))
}
