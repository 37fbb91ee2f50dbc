//! What keeps a table fast and small: compaction and vacuum.
//!
//! Owns the builders. Does not own either.

use std::fmt;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::handle::Handle;
use super::report::OptimizeReport;
use crate::error::Result;
use crate::sql::functions::optimize::Choice;
use crate::table::compaction::{ClusterBy, Curve};
use crate::table::{VacuumOptions, VacuumReport};

/// A compaction that is yet to be run. [`Supertable::optimize`](crate::Supertable::optimize) makes one.
///
/// Without any choice it joins superfiles that are small, and writes those anew that have lost many rows; in a table
/// that says what it is clustered by, those that are not. Groups of superfiles are written and committed one after the
/// other. Statements go on meanwhile, and rows keep their ids.
///
/// ```
/// # use datafusion_supertable::{Result, Supertable};
/// # async fn example(table: Supertable) -> Result<()> {
/// let report = table.optimize().z_order(["tenant", "at"]).execute().await?;
/// println!("{} files became {}", report.files_removed, report.files_added);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before execute() is awaited"]
pub struct OptimizeBuilder {
    handle: Handle,
    choice: Choice,
}

impl fmt::Debug for OptimizeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OptimizeBuilder")
            .field(&self.choice)
            .finish()
    }
}

impl OptimizeBuilder {
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle,
            choice: Choice::default(),
        }
    }

    /// Superfiles of fewer bytes are small.
    pub fn target_bytes(mut self, bytes: u64) -> Self {
        self.choice.bytes = Some(bytes);
        self
    }

    /// Superfiles of fewer rows are small; of one that is written along an order, the rows.
    pub fn target_rows(mut self, rows: u64) -> Self {
        self.choice.rows = Some(rows);
        self
    }

    /// A superfile with so many deleted rows, in percent, is written anew.
    pub fn deleted_percent(mut self, percent: u64) -> Self {
        self.choice.deleted_percent = Some(percent);
        self
    }

    /// Writes everything anew that is not in the table's own order yet.
    pub fn full(mut self) -> Self {
        self.choice.full = Some(true);
        self
    }

    /// Writes everything anew, also what is in order already: with other write options, for instance.
    pub fn rewrite(mut self) -> Self {
        self.choice.again = true;
        self
    }

    /// Puts all rows along a Z-order curve over these columns.
    pub fn z_order<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.choice.by = Some(curve_over(Curve::ZOrder, columns));
        self
    }

    /// Puts all rows along a Hilbert curve over these columns, which keeps neighbours closer together.
    pub fn hilbert<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.choice.by = Some(curve_over(Curve::Hilbert, columns));
        self
    }

    /// Writes at most so many bytes of superfiles anew in one commit, where an order goes through the table.
    pub fn max_group_bytes(mut self, bytes: u64) -> Self {
        self.choice.max_group_bytes = Some(bytes);
        self
    }

    /// Only tells what would be written anew.
    pub fn dry_run(mut self) -> Self {
        self.choice.dry_run = true;
        self
    }

    /// Runs it. If the future is dropped, the groups that were committed stay.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for choices that contradict one another or a
    /// column that is not there; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for another order than the
    /// one that the table declares. Those of every change, as [`Supertable`](crate::Supertable#errors) lists them; the
    /// groups that were committed before stay.
    pub fn execute(self) -> BoxFuture<'static, Result<OptimizeReport>> {
        let Self { handle, choice } = self;
        async move {
            let access = handle.provider().access();
            let groups = choice.carry_out(access, &handle.task()).await;
            let groups = groups.map_err(|e| handle.failed("OPTIMIZE", e))?;
            Ok(OptimizeReport::of(groups))
        }
        .boxed()
    }
}

/// A vacuum that is yet to be run. [`Supertable::vacuum`](crate::Supertable::vacuum) makes one.
///
/// It deletes the objects that no retained version needs, and ends what dead writers left. Readers of retained versions
/// and writers are not disturbed.
///
/// ```
/// # use std::time::Duration;
/// # use datafusion_supertable::{Result, Supertable};
/// # async fn example(table: Supertable) -> Result<()> {
/// let day = Duration::from_secs(24 * 60 * 60);
/// let report = table.vacuum().retain(day).execute().await?;
/// println!("{} bytes freed", report.removed().bytes);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before execute() is awaited"]
pub struct VacuumBuilder {
    handle: Handle,
    options: VacuumOptions,
}

impl fmt::Debug for VacuumBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VacuumBuilder").field(&self.options).finish()
    }
}

impl VacuumBuilder {
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle,
            options: VacuumOptions::default(),
        }
    }

    /// Versions that were current within this time stay readable; seven days, if it is not said. Less than a few
    /// minutes is for a table that no process reads or writes at the moment.
    pub fn retain(mut self, time: Duration) -> Self {
        self.options.retain = time;
        self
    }

    /// Only tells what would be deleted.
    pub fn dry_run(mut self) -> Self {
        self.options.dry_run = true;
        self
    }

    /// Runs it. If the future is dropped, what was deleted is gone, and the table is whole.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if a retained version cannot be read: nothing was deleted for
    /// it then. [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly) in a session that only reads, but for a dry run. The
    /// store's.
    pub fn execute(self) -> BoxFuture<'static, Result<VacuumReport>> {
        let Self { handle, options } = self;
        async move {
            if !options.dry_run {
                handle.check_writable("VACUUM")?;
            }
            handle.table().vacuum(options).await
        }
        .boxed()
    }
}

/// A curve over columns, whose names are exact.
pub(super) fn curve_over<C: Into<String>>(
    curve: Curve,
    columns: impl IntoIterator<Item = C>,
) -> ClusterBy {
    ClusterBy {
        curve,
        columns: columns.into_iter().map(Into::into).collect(),
    }
}
