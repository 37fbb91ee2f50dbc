//! Changing a table: from SQL statements to mutations.
//!
//! DataFusion's own hooks for `DELETE` and `UPDATE` receive filters that were scraped off an
//! optimised plan, and lose predicates. Here the statement's own plan is kept: the source of the
//! target's scan is replaced by one that also yields the row's address, the whole predicate stays
//! an ordinary query, and its result flows into a sink that builds the change.
//!
//! - [`provider`]: the table as DataFusion sees it; reading, `INSERT` and `TRUNCATE` are its hooks.
//! - [`analyzer`]: the rule that rewrites `DELETE`, `UPDATE` and `MERGE`, and pins one version per statement.
//! - [`optimize`]: compaction, on demand and after writes; [`cluster`]: its order by several columns at once.
//! - [`version`]: the table as it was; it can only be read.
//! - [`definition`]: the statement that makes a table like this one.
//! - [`row_id`]: the function `_id(…)`.
//! - `parameters`: relations that are known only when the statement has its parameters.
//! - `sound`: what keeps the engine's rewrites from changing the meaning of a statement.
//! - [`check`]: conditions that new rows meet.
//! - [`sink`]: where a rewritten statement's rows arrive and the mutation is committed; on a conflict
//!   the statement runs again.
//! - `returning`: the changed rows as a relation.

pub mod analyzer;
pub mod check;
pub mod cluster;
pub mod collect;
pub mod definition;
mod gather;
pub mod insert;
mod lost;
pub mod merge;
mod moved;
pub(crate) mod names;
pub mod opaque;
pub mod optimize;
pub(crate) mod parameters;
pub mod provider;
mod rerun;
pub(crate) mod returning;
pub mod row_id;
pub mod sink;
mod sort;
pub(crate) mod sound;
mod spill;
pub mod version;
mod words;

pub use analyzer::{ANALYZER_RULE, SupertableAnalyzer};
pub use provider::{SupertableProvider, TableAccess};
pub use row_id::row_id_udf;
pub use version::VersionProvider;
