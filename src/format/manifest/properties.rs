//! The keys of table properties that mean something to this crate.
//!
//! Owns the names. Does not own which statement sets them or what follows from them.

/// `supertable.check.<name>`: a condition that every row must satisfy, as SQL.
pub(crate) const CHECK: &str = "supertable.check.";
