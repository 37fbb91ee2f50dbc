//! Table functions: what SQL has no statement for, as relations to select from.
//!
//! | function | rows |
//! | --- | --- |
//! | `supertable_recover('t')` | what crashed statements left behind, finished or undone |
//!
//! - [`list`]: which functions there are.
//! - [`args`]: what a call names: the table, and typed arguments by position or by name.
//! - [`lookup`]: from the table's name to the table.
//! - [`rows`]: rows that are computed when the query runs, not when it is planned.
//! - one file for each function or family of functions.
//!
//! A new function takes its call apart with [`args::Call`], answers with [`rows::lazy_table`] or
//! [`rows::lazy_stream`], and is named in [`list`]. Named arguments reach it through the session's
//! relation planner ([`super::relations`]), because DataFusion's own refuses them.

pub(crate) mod args;
pub(crate) mod list;
pub(crate) mod lookup;
pub(crate) mod recover;
pub(crate) mod rows;
