//! A mutable SQL table for DataFusion on plain object storage.

#[cfg(feature = "cli")]
pub mod cli;
pub mod error;

/// TEMPORARY (branch only): stands for the SQL layer's registration.
pub fn register(_: &datafusion::prelude::SessionContext) -> error::Result<()> {
    Ok(())
}

/// TEMPORARY (branch only): stands for the SQL layer's shutdown.
pub async fn shutdown(_: &datafusion::prelude::SessionContext) {}
