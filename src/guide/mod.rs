//! The reference: what README leaves out. Documentation only, there is no code here.
//!
//! - [`statements`]: what each statement may hold, what it costs, constraints, row ids.
//! - [`columns`]: `ALTER TABLE`, and adopting files that others wrote.
//! - [`functions`]: every table function, with its arguments and its columns.
//! - [`api`]: the Rust type for programs that embed a table: what SQL does, without SQL.
//! - [`options`]: every option of sessions and tables.
//! - [`sessions`]: a query server, with a session for each request, and what forbids changes.
//! - [`events`]: what is said through `tracing`, and the counters of `EXPLAIN ANALYZE`.
//! - [`promises`]: what holds whatever fails, each promise with the test that proves it.
//! - [`tour`]: where to begin reading the code.
//!
//! Isolation is described in the crate's own documentation, formats beside their codecs in
//! [`mod@crate::format`], and the safety of vacuum in [`crate::table::vacuum`].

pub mod api;
pub mod columns;
pub mod events;
pub mod functions;
pub mod options;
pub mod promises;
pub mod sessions;
pub mod statements;
pub mod tour;
