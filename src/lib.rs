//! A mutable SQL table for DataFusion on plain object storage.
//!
//! A *supertable* is a directory of immutable Parquet files (superfiles), with bitmaps of deleted
//! rows (tombstones) beside them and one small pointer that names the current version. [`register`]
//! teaches a session to create, query and change such tables:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use datafusion::prelude::SessionContext;
//!
//! let ctx = SessionContext::new();
//! datafusion_supertable::register(&ctx)?;
//! ctx.sql("CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v DOUBLE) STORED AS SUPERTABLE LOCATION 'data/t/'").await?;
//! ctx.sql("INSERT INTO t VALUES (1, 0.5), (2, NULL)").await?.collect().await?;
//! ctx.sql("DELETE FROM t WHERE v IS NULL").await?.collect().await?;
//! datafusion_supertable::wait_for_background_work(&ctx).await;
//! # Ok(())
//! # }
//! ```
//!
//! Programs that embed a table need no SQL: [`Supertable`] does the same with expressions, batches and streams (see
//! [the API](guide::api)).
//!
//! Layers, each importing only from those before it: `storage` (compare-and-swap on object
//! stores) and `format` (the bytes of every object), `wal` (one mutation's document), `table`
//! (versions and commits), `scan` (reading), `dml` (changing), `sql` (registration, table
//! functions, catalog), `api` (the Rust type [`Supertable`]), `distributed` (other processes that execute parts of statements,
//! behind the feature of that name), and the command line behind the feature `cli`.
//!
//! README is a short guide with examples. The [`guide`] is the reference: [statements](guide::statements),
//! [columns](guide::columns), [table functions](guide::functions), [options](guide::options), [sessions](guide::sessions),
//! [workers](guide::distributed), and
//! [what holds whatever fails](guide::promises), each promise with its test.
//!
//! # What a statement promises
//!
//! It reads one version of each table, whatever else commits meanwhile; it becomes visible wholly
//! or not at all; once it has returned it is durable. Two statements that change the same row are
//! ordered: the first to commit wins, and the other runs again on the new version, at most ten times
//! in all; then it ends in an error of [`ErrorKind::Conflict`], has changed nothing, and may be run
//! again.
//!
//! # Isolation
//!
//! `SET supertable.isolation = 'snapshot' | 'serializable'`, or the table option of that name for the
//! sessions that say nothing. There are no transactions of several statements: a level is about one
//! statement among others.
//!
//! | | `snapshot` (the default) | `serializable` |
//! | --- | --- | --- |
//! | reads of a statement | one version of each table | the same |
//! | two statements change one row | the second runs again | the same |
//! | one adds rows while another reads, deletes or updates others | both commit | the reader runs again |
//! | write skew: two statements each change what the other one read | both commit | the second runs again |
//! | a `MERGE` inserts a row because none had its key, and another statement adds one with that key | the `MERGE` runs again | the same |
//! | an append that does not read its table (`INSERT … VALUES`, or from others) | conflicts with no change of rows, only with one of the table's columns | the same |
//! | compaction meanwhile | none of a statement's business, unless it rewrites the statement's rows | the same |
//!
//! A *key* here is a row's values of the columns that the `ON` of a `MERGE` compares by `=` with something of its source. So two
//! processes that upsert one new key at once leave it once, without a declared key; upserts of different keys commit
//! together. Where the keys are many (more than 32,768), or where others add rows of many keys by an `INSERT` or `UPDATE`, bounds
//! of the keys decide, and a `MERGE` may run again in vain. So it does after every commit that adds rows, if `ON` has no such
//! comparison, as in `ON lower(t.name) = s.name`. A plain `INSERT` looks for no key, and adds one that is there already.
//!
//! Under `serializable` the `DELETE`, `UPDATE`, `MERGE`, `INSERT … SELECT` and `INSERT OVERWRITE` that
//! read the table they change take effect as if each ran alone, at the moment of its commit: they
//! conflict with every change of that table's rows since the version they read, whichever rows. That
//! costs reruns where writers meet; changes that commit as `snapshot` count as changes, too.
//!
//! The promise is about one table. What a statement reads of *other* supertables is a snapshot of
//! them, and may have changed when it commits. A query alone is serializable on each table at either
//! level, because it reads one version.

// Without `unstable`, nothing reaches what only tests and benches use; clippy runs with it.
#![cfg_attr(any(test, not(feature = "unstable")), allow(unreachable_pub))]
#![cfg_attr(not(feature = "unstable"), allow(dead_code, unused_imports))]

mod api;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod config;
#[cfg(feature = "distributed")]
pub mod distributed;
mod dml;
mod error;
mod format;
#[cfg(any(test, feature = "unstable"))]
#[doc(hidden)]
mod fuzzing;
pub mod guide;
mod scan;
mod sql;
mod storage;
mod table;
#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod unstable;
mod wal;

pub use api::{
    AlterBuilder, AlterReport, ChangeReport, CreateBuilder, HistoryEntry, MergeBuilder,
    OptimizeBuilder, OptimizeReport, RestoreReport, RowSource, Supertable, SupertableSnapshot,
    VacuumBuilder,
};
pub use config::{Isolation, RowIdExposure, SupertableOptions, WriteOptions};
pub use error::{Error, ErrorKind, Result};
pub use sql::{
    SupertableCatalog, SupertableSessionExt, execute, open_catalog, register, register_for_queries,
    sql, sql_with_options, wait_for_background_work,
};
pub use table::{Removed, VacuumReport};
