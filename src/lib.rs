//! A mutable SQL table for DataFusion on plain object storage.

pub mod error;
pub mod format;
pub mod storage;
pub mod table;
pub mod wal;
