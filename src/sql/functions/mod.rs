//! Table functions: what SQL has no statement for, as relations to select from.
//!
//! | function | rows |
//! | --- | --- |
//! | `supertable_add_files('t', 's3://…/*.parquet')` | files that others wrote, and that are the table's now |
//! | `supertable_alter('t', 'ADD COLUMN x INT')` | the version that the changes made |
//! | `supertable_at('t', version or timestamp)` | the table as it was |
//! | `supertable_changes('t', from, to)` | the rows that came, went or changed after `from`, up to `to` |
//! | `supertable_files('t')` | its superfiles: rows, bytes, tombstones, bounds of columns |
//! | `supertable_history('t')` | what was done to it, newest first |
//! | `supertable_properties('t')` | what it is, as keys and values |
//! | `supertable_restore('t', version or timestamp)` | the version that was made; the table is as it was |
//! | `supertable_wal('t')` | the mutations in flight |
//! | `supertable_recover('t')` | what crashed statements left behind, finished or undone |
//! | `supertable_optimize('t', …)` | small superfiles and those with many deleted rows, written anew |
//! | `supertable_vacuum('t', …)` | objects that no retained version refers to, deleted |
//!
//! - [`list`]: which functions there are.
//! - [`args`]: what a call names: the table, and typed arguments by position or by name.
//! - [`lookup`]: from the table's name to the table.
//! - [`rows`]: rows that are computed when the query runs, not when it is planned.
//! - [`refused`]: what stands in their place where tables may only be queried.
//! - one file for each function or family of functions.
//!
//! A new function takes its call apart with [`args::Call`], answers with [`rows::lazy_table`] or
//! [`rows::lazy_stream`], and is named in [`list`]. Named arguments reach it through the session's
//! relation planner ([`super::relations`]), because DataFusion's own refuses them.

pub(crate) mod add_files;
pub(crate) mod alter;
pub(crate) mod args;
pub(crate) mod at;
pub(crate) mod changes;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod lookup;
pub(crate) mod optimize;
pub(crate) mod properties;
pub(crate) mod recover;
pub(crate) mod refused;
pub(crate) mod restore;
pub(crate) mod rows;
pub(crate) mod vacuum;
pub(crate) mod wal;
