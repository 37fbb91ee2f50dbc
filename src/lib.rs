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
//! datafusion_supertable::shutdown(&ctx).await;
//! # Ok(())
//! # }
//! ```
//!
//! Layers, each importing only from those before it: [`storage`] (compare-and-swap on object
//! stores) and [`mod@format`] (the bytes of every object), [`wal`] (one mutation's document), [`table`]
//! (versions and commits), [`scan`] (reading), [`dml`] (changing), [`sql`] (registration), and the
//! command line behind the feature `cli`.
//!
//! # What a statement promises
//!
//! It reads one version of each table, whatever else commits meanwhile; it becomes visible wholly
//! or not at all; once it has returned it is durable. Two statements that change the same row are
//! ordered: the first to commit wins, and the other runs again on the new version. A statement is
//! judged by the rows it changes, not by those it only read (snapshot isolation).

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod dml;
pub mod error;
pub mod format;
pub mod scan;
pub mod sql;
pub mod storage;
pub mod table;
pub mod wal;

pub use error::{Error, ErrorKind, Result};
pub use sql::{SupertableCatalog, SupertableSessionExt, execute, register, shutdown, sql};
