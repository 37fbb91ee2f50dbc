//! One version of a table, to be read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;

use super::handle::Handle;
use super::report::time_of;
use crate::dml::VersionProvider;
use crate::error::Result;
use crate::scan::Pin;
use crate::scan::schema::session_schema;
use crate::table::Snapshot;

/// One version of a table: what it says of itself, and its rows.
///
/// All reads of one snapshot see the same rows, whatever is committed meanwhile.
/// [`Supertable::snapshot`](crate::Supertable::snapshot) takes the newest version,
/// [`at_version`](crate::Supertable::at_version) and [`at_time`](crate::Supertable::at_time) an earlier one. A vacuum
/// deletes the files of versions that were not current within the time that it retains: a snapshot that is kept longer
/// can no longer be read, and says so with an error of [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
///
/// ```
/// # use datafusion::prelude::*;
/// # use datafusion_supertable::{Result, Supertable};
/// # async fn example(table: Supertable) -> Result<()> {
/// let before = table.snapshot().await?;
/// table.delete(col("v").lt(lit(0))).await?;
/// println!("version {} has {} rows in {} files", before.version(), before.num_rows(), before.num_files());
/// let rows = before.dataframe()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SupertableSnapshot {
    handle: Handle,
    snapshot: Arc<Snapshot>,
}

impl fmt::Debug for SupertableSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupertableSnapshot")
            .field("location", &self.handle.location())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl SupertableSnapshot {
    pub(super) fn new(handle: Handle, snapshot: Arc<Snapshot>) -> Self {
        Self { handle, snapshot }
    }

    /// The version's number: 1 for the one that made the table.
    pub fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// When the version was made, by the clock of the process that committed it.
    pub fn committed_at(&self) -> SystemTime {
        time_of(self.snapshot.manifest().header().created_at_ms)
    }

    /// The columns that the table had.
    pub fn schema(&self) -> SchemaRef {
        session_schema(&self.snapshot.schema())
    }

    /// How many rows it holds; deleted ones are not counted.
    pub fn num_rows(&self) -> u64 {
        self.snapshot.manifest().totals().live_rows
    }

    /// How many superfiles it consists of.
    pub fn num_files(&self) -> u64 {
        self.snapshot.manifest().totals().superfiles
    }

    /// How many bytes those take.
    pub fn num_bytes(&self) -> u64 {
        self.snapshot.manifest().totals().bytes
    }

    /// The table's properties, as they were: options such as `supertable.auto_compact`, and what the table keeps
    /// itself.
    pub fn properties(&self) -> BTreeMap<String, String> {
        self.snapshot.metadata().properties.clone()
    }

    /// A query of its rows, in the session of the table.
    ///
    /// # Errors
    /// Two columns have one name, which a table cannot have; the signature leaves room for more.
    pub fn dataframe(&self) -> Result<DataFrame> {
        let label = format!("{}@v{}", self.handle.location(), self.version());
        self.handle.query(label, self.table_provider())
    }

    /// The version as a table that a session can register under a name. It cannot be changed.
    pub fn table_provider(&self) -> Arc<dyn TableProvider> {
        let provider = self.handle.provider();
        let pin = Pin::to(self.handle.table().clone(), Arc::clone(&self.snapshot));
        Arc::new(VersionProvider::new(provider, pin, self.schema()))
    }
}
