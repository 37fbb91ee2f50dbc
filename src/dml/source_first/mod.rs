//! The join of a statement's source with its target, source first.
//!
//! A `MERGE`, an `UPDATE … FROM`, a `DELETE … USING` and an `IN (SELECT …)` join rows of a source with those of the table
//! that they change. The engine would read the whole table for each of them, and sort both sides where memory has a
//! bound. Here the source is evaluated before the table's scan begins:
//! - [`rule`] finds the join, and puts [`exec`]'s node in its place;
//! - [`exec`] reads the source, into memory or to disk, and then joins: by a hash table of the source, or by sorting both
//!   sides if the source is too large;
//! - [`hashed`] leaves out rows of a large target that no key of a large source can have, before they are joined;
//! - [`buckets`] finds ranges of many keys;
//! - [`keys`] are what the source says about the rows that the join can find, by which the scan leaves out superfiles,
//!   row groups and pages.

mod buckets;
pub(crate) mod exec;
pub(crate) mod hashed;
mod keys;
mod line;
pub(crate) mod rule;
mod spilled;
