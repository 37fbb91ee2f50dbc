//! Changing a table: from SQL statements to mutations.
//!
//! DataFusion's own hooks for `DELETE` and `UPDATE` receive filters that were scraped off an
//! optimised plan, and lose predicates. Here the statement's own plan is kept: the source of the
//! target's scan is replaced by one that also yields the row's address, the whole predicate stays
//! an ordinary query, and its result flows into a sink that builds the change.
//!
//! - [`provider`]: the table as DataFusion sees it; reading, `INSERT` and `TRUNCATE` are its hooks.
//! - [`definition`]: the statement that makes a table like this one.
//! - [`plan`]: the rule that rewrites `DELETE`, `UPDATE` and `MERGE`, and pins one version per statement.
//! - `sound`: what keeps the engine's rewrites from changing the meaning of a statement.
//! - [`keys`]: `PRIMARY KEY` and `UNIQUE`, enforced.
//! - [`source_first`]: how a statement's source and target are joined.
//! - [`mod@write`]: where a rewritten statement's rows arrive and the mutation is committed; on a conflict
//!   the statement runs again.
//! - [`compact`]: compaction, on demand and after writes.
//! - [`opaque`]: values whose types the compiler need not look into.

pub(crate) mod compact;
pub(crate) mod definition;
pub(crate) mod keys;
pub(crate) mod opaque;
pub(crate) mod plan;
pub(crate) mod provider;
pub(crate) mod sound;
pub(crate) mod source_first;
pub(crate) mod write;

pub(crate) use plan::analyzer::{ANALYZER_RULE, SupertableAnalyzer};
pub(crate) use plan::row_id::row_id_udf;
pub(crate) use provider::VersionProvider;
pub use provider::{SupertableProvider, TableAccess};
