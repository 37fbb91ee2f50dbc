//! Planning: statements that change rows become queries that flow into a sink.
//!
//! - [`analyzer`]: the rule that rewrites `DELETE`, `UPDATE` and `MERGE`; `spine`, [`merge`] and `values` are its
//!   rewrites.
//! - `absent`: the keys of which a `MERGE` finds no row.
//! - `pins`: one version of each table for a statement.
//! - `parameters`: relations that are known only when the statement has its parameters.
//! - [`row_id`]: the function `_id(…)`.
//! - `names`, `lost`: what is refused because it would be taken for something else, or lost.
//! - `words`: the statement in words.

mod absent;
pub(crate) mod analyzer;
pub(crate) mod lost;
pub(crate) mod merge;
pub(crate) mod names;
pub(crate) mod parameters;
pub(crate) mod pins;
pub(crate) mod row_id;
mod spine;
mod values;
mod words;
