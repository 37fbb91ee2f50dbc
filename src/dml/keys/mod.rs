//! Declared keys: `PRIMARY KEY` and `UNIQUE`, enforced.
//!
//! A statement that adds rows to a table with keys finds out, before it commits, that no two rows of the table as it
//! leaves it have one key. Its change set says which keys it found absent, so that of two statements that add one key at
//! the same time one runs again (`table::apply`), and finds the other's row.
//!
//! - [`declared`]: what can be a key, and what the engine is told of keys.
//! - [`gather`]: from columns to keys, also those that a `MERGE` finds absent.
//! - [`written`]: the keys of the rows that a statement writes, and how much of a check they spare.
//! - `differ`: whether keys in memory are all different.
//! - [`check`]: comparing rows with rows.

pub(crate) mod check;
pub(crate) mod declared;
mod differ;
pub(crate) mod gather;
pub(crate) mod written;
