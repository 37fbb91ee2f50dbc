//! Outcomes of conditional requests, as values.
//!
//! Owns what [`Storage`](super::Storage) answers; how it comes to an answer is in `cas`. Invariant: an outcome
//! that is not known is none of these, but an error.

use bytes::Bytes;

use super::version::ObjectVersion;

/// What became of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a lost race is a value, not an error"]
pub enum CasOutcome {
    /// The bytes came into force; this is their version.
    Committed(ObjectVersion),
    /// Another state is in force. This does not prove that ours never was, for a moment.
    Lost,
}

/// What became of a replacement whose caller wants to go on from whatever won.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a lost race is a value, not an error"]
pub enum Replaced {
    /// The bytes came into force; this is their version.
    Committed(ObjectVersion),
    /// As [`CasOutcome::Lost`]; with what was there instead, where the outcome was settled by reading it.
    Lost(Option<(Bytes, ObjectVersion)>),
}

impl From<Replaced> for CasOutcome {
    fn from(replaced: Replaced) -> Self {
        match replaced {
            Replaced::Committed(version) => Self::Committed(version),
            Replaced::Lost(_) => Self::Lost,
        }
    }
}

/// What a conditional read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// There is no such object.
    Missing,
    /// The object is still in the state that the caller knows.
    Unchanged,
    /// The object's bytes and the version they have.
    Changed(Bytes, ObjectVersion),
}
