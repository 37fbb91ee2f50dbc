//! A mutable SQL table for DataFusion on plain object storage.

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
pub use sql::{SupertableSessionExt, register, shutdown};
