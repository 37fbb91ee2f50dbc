//! Writing: a statement's rows become a mutation, which is committed.
//!
//! - [`insert`], `truncate`, [`change`]: the sinks; a [`change`] addresses rows that are there, which [`collect`] and
//!   `gather` turn into bitmaps; [`absent`]: the keys that a `MERGE` found absent.
//! - `partitioned_sink`, `partitions`: rows that come in several partitions, written at the same time.
//! - `superfiles`: what all of them share; [`check`]: conditions that new rows meet.
//! - `rerun`: on a conflict the statement runs again; `receipt`: what it committed, for callers that ask.
//! - `sort`, `sort_memory`, `spill`: bounded memory.
//! - `returning`: the changed rows as a relation.

pub(crate) mod absent;
pub(crate) mod action;
pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod collect;
pub(crate) mod gather;
pub(crate) mod insert;
pub(crate) mod partitioned_sink;
mod partitions;
pub(crate) mod receipt;
pub(crate) mod rerun;
pub(crate) mod returning;
pub(crate) mod sort;
pub(crate) mod sort_memory;
pub(crate) mod spill;
pub(crate) mod superfiles;
pub(crate) mod truncate;
