//! The reference: what README leaves out. Documentation only, there is no code here.
//!
//! - [`examples`]: statements by purpose.
//! - [`statements`]: what each statement may hold, what it costs, constraints, row ids.
//! - [`columns`]: `ALTER TABLE`, and adopting files that others wrote.
//! - [`functions`]: every table function, with its arguments and its columns.
//! - [`api`]: the Rust type for programs that embed a table: what SQL does, without SQL.
//! - [`options`]: every option of sessions and tables.
//! - [`sessions`]: a query server, with a session for each request, and what forbids changes.
//! - [`mod@distributed`]: statements over several processes, with the feature `distributed`.
//! - [`events`]: what is said through `tracing`, and the counters of `EXPLAIN ANALYZE`.
//! - [`limits`]: what does not work, and what of DataFusion shows through.
//! - [`promises`]: what holds whatever fails, each promise with the test that proves it.
//! - [`mod@format`]: the specification of the format, for programs that read or write tables without this crate.
//! - [`glossary`]: one meaning for each word.
//! - [`tour`]: where to begin reading the code.
//!
//! The crate's own documentation describes isolation.

pub mod api;
pub mod columns;
pub mod distributed;
pub mod events;
pub mod examples;
pub mod format;
pub mod functions;
pub mod glossary;
pub mod limits;
pub mod options;
pub mod promises;
pub mod sessions;
pub mod statements;
pub mod tour;
