//! The schema of a table, and how it changes.

pub(crate) mod evolution;
