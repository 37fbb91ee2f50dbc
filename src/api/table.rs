//! A table, as a program works with it that embeds it.

mod create;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};

pub use self::create::CreateBuilder;
use super::alter::AlterBuilder;
use super::change;
use super::handle::{Handle, shared_state_of};
use super::merge::MergeBuilder;
use super::report::{ChangeReport, HistoryEntry, RestoreReport, ms_of};
use super::rows::RowSource;
use super::snapshot::SupertableSnapshot;
use super::upkeep::{OptimizeBuilder, VacuumBuilder};
use crate::error::Result;
use crate::sql::functions::changes::changes_between;
use crate::sql::functions::history::entries;
use crate::sql::table::open_table;
use crate::table::Moment;

/// A table at a location, in a session. It needs no name, in no catalog: see the guide's page on
/// [the API](crate::guide::api).
///
/// Each method that changes the table does what the SQL statement of that name does, in the same way: whatever holds
/// for statements ([isolation](crate#isolation), checks, defaults, running again after a conflict) holds here. Futures
/// may be dropped, as a deadline does: the change then takes place as a whole or not at all, and
/// [`history`](Self::history) tells.
///
/// In a predicate or a value `col("v")` is the table's column `v`. (DataFusion's `col` makes names lower case unless
/// they are quoted; `ident` takes them as they are. Names in strings, as those that `update` sets, are exact.)
///
/// # Sessions
///
/// The session gives memory, object stores, and options (`supertable.read_only`, `supertable.isolation`, those of
/// DataFusion) to what is done; they are read at each call. It need not be [registered](crate::register), and is not
/// changed; but one that is spares each call a copy, and [`wait_for_background_work`](crate::wait_for_background_work) knows its tables. Handles are
/// cheap to clone; a query server opens a table once, and gives each request a handle of its own session by
/// [`in_session`](Self::in_session). All clones share one set of caches, and commit together.
///
/// # Errors
///
/// All methods answer this crate's [`Error`](crate::Error), whose [kind](crate::ErrorKind) says what to do next. What
/// every change can end in:
///
/// - [`Conflict`](crate::ErrorKind::Conflict): other statements kept committing first, or the table's columns have just
///   changed. Nothing was changed; try again.
/// - [`Constraint`](crate::ErrorKind::Constraint): a new row is NULL where that is not allowed, or violates a check.
///   Nothing was changed.
/// - [`InvalidArgument`](crate::ErrorKind::InvalidArgument): an expression or a name does not fit the table.
/// - [`Query`](crate::ErrorKind::Query): DataFusion could not evaluate the statement, which ran out of memory, divided
///   by zero, or had no fitting value. Nothing was changed.
/// - [`ReadOnly`](crate::ErrorKind::ReadOnly): the session only reads. Nothing was changed.
/// - [`Storage`](crate::ErrorKind::Storage): the object store failed. Nothing was changed.
/// - [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown): the change may or may not take place; the message names it
///   as the history will.
///
/// # Example
///
/// ```
/// use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch};
/// use datafusion::arrow::datatypes::{DataType, Field, Schema};
/// use datafusion::prelude::*;
/// use datafusion_supertable::Supertable;
/// # use std::sync::Arc;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let location = format!("{}/events/", directory.path().display());
/// let ctx = SessionContext::new();
/// let schema = Arc::new(Schema::new(vec![
///     Field::new("id", DataType::Int64, false),
///     Field::new("v", DataType::Float64, true),
/// ]));
/// let table = Supertable::create(&ctx, &location, Arc::clone(&schema)).execute().await?;
///
/// let rows = RecordBatch::try_new(
///     schema,
///     vec![
///         Arc::new(Int64Array::from(vec![1, 2, 3])),
///         Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-1.0)])),
///     ],
/// )?;
/// table.append(rows).await?;
/// table.update([("v", lit(0.0))], col("v").lt(lit(0.0))).await?;
/// let report = table.delete(col("v").is_null()).await?;
/// assert_eq!((report.rows_deleted, report.version), (1, Some(4)));
///
/// assert_eq!(table.dataframe()?.filter(col("id").gt(lit(1)))?.count().await?, 1);
/// assert_eq!(table.at_version(2).await?.num_rows(), 3);
/// table.settle().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Supertable {
    handle: Handle,
}

impl fmt::Debug for Supertable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supertable")
            .field("location", &self.handle.location())
            .finish_non_exhaustive()
    }
}

impl Supertable {
    pub(super) fn of(handle: Handle) -> Self {
        Self { handle }
    }

    /// Begins a new table at an empty location, a directory or a URL whose object store the session knows, with these
    /// columns. Nothing happens before [`execute`](CreateBuilder::execute).
    ///
    /// ```
    /// # use datafusion::arrow::datatypes::{DataType, Field, Schema};
    /// # use datafusion::prelude::*;
    /// # use datafusion_supertable::{Result, Supertable};
    /// # async fn example(ctx: SessionContext) -> Result<()> {
    /// let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
    /// let table = Supertable::create(&ctx, "data/events/", schema).if_not_exists().execute().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create(
        ctx: &SessionContext,
        location: impl Into<String>,
        schema: impl Into<Arc<Schema>>,
    ) -> CreateBuilder {
        CreateBuilder::new(ctx, location.into(), schema.into())
    }

    /// Opens the table at a location.
    ///
    /// Opened in a session that only reads, it can be written to in no other session either.
    ///
    /// ```
    /// # use datafusion::prelude::*;
    /// # use datafusion_supertable::{ErrorKind, Result, Supertable};
    /// # async fn example(ctx: SessionContext) -> Result<()> {
    /// match Supertable::open(&ctx, "s3://bucket/events/").await {
    ///     Ok(table) => println!("{} columns", table.schema().fields().len()),
    ///     Err(error) if error.kind() == ErrorKind::NotFound => println!("there is no table"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none;
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) or
    /// [`ErrorKind::UnsupportedVersion`](crate::ErrorKind::UnsupportedVersion) if it cannot be read;
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the session has no object store for the location.
    pub async fn open(ctx: &SessionContext, location: impl AsRef<str>) -> Result<Self> {
        let location = location.as_ref();
        let state = shared_state_of(ctx);
        let provider = open_table(state.as_ref(), location).await?;
        Ok(Self::of(Handle::new(ctx.clone(), provider, location)))
    }

    /// The same open table in another session, at the cost of a clone.
    #[must_use]
    pub fn in_session(&self, ctx: &SessionContext) -> Self {
        Self::of(self.handle.in_session(ctx))
    }

    /// Where the table is, as it was given.
    pub fn location(&self) -> &str {
        self.handle.location()
    }

    /// By what the table's columns are qualified in the queries that this type makes: its directory's name.
    pub fn name(&self) -> &str {
        self.handle.name().table()
    }

    /// The table's columns in the newest version that this process knows.
    pub fn schema(&self) -> SchemaRef {
        self.handle.provider().schema()
    }

    /// A query of the table. It reads the version that is newest when it runs; several of the table in one query read
    /// the same one.
    ///
    /// ```
    /// # use datafusion::functions_aggregate::expr_fn::sum;
    /// # use datafusion::prelude::*;
    /// # use datafusion_supertable::Supertable;
    /// # async fn example(table: Supertable) -> Result<(), Box<dyn std::error::Error>> {
    /// let totals = table.dataframe()?.aggregate(vec![col("tenant")], vec![sum(col("v"))])?;
    /// let rows = totals.collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Two columns have one name, which a table cannot have; the signature leaves room for more.
    pub fn dataframe(&self) -> Result<DataFrame> {
        let label = self.handle.location().to_owned();
        self.handle.query(label, self.table_provider())
    }

    /// The table as one that a session can register under a name. It follows the table's versions; and its columns, in a
    /// session that is [registered](crate::register), where SQL can change it by that name.
    pub fn table_provider(&self) -> Arc<dyn TableProvider> {
        Arc::new(self.handle.provider().anew())
    }

    /// The newest version.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the table was dropped;
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) for damaged objects; the store's.
    pub async fn snapshot(&self) -> Result<SupertableSnapshot> {
        let snapshot = self.handle.table().snapshot().await?;
        Ok(SupertableSnapshot::new(self.handle.clone(), snapshot))
    }

    /// The version of this number.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) says which versions there are, if this is none; as
    /// [`snapshot`](Self::snapshot).
    pub async fn at_version(&self, version: u64) -> Result<SupertableSnapshot> {
        self.at(Moment::Version(version)).await
    }

    /// The version that was the newest at this moment, by the clocks of the processes that made the versions: a `SystemTime`, or
    /// a `chrono::DateTime`.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use datafusion_supertable::{Result, Supertable};
    /// # async fn example(table: Supertable) -> Result<()> {
    /// let yesterday = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
    /// let then = table.at_time(yesterday).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`at_version`](Self::at_version).
    pub fn at_time(
        &self,
        time: impl Into<SystemTime>,
    ) -> BoxFuture<'static, Result<SupertableSnapshot>> {
        let (table, moment) = (self.clone(), Moment::Time(ms_of(time.into())));
        async move { table.at(moment).await }.boxed()
    }

    async fn at(&self, moment: Moment) -> Result<SupertableSnapshot> {
        let snapshot = self.handle.table().snapshot_of(moment).await?;
        Ok(SupertableSnapshot::new(self.handle.clone(), snapshot))
    }

    /// What was done to the table, newest first: at most so many statements, or all that a vacuum has left.
    ///
    /// ```
    /// # use datafusion_supertable::{Result, Supertable};
    /// # async fn example(table: Supertable) -> Result<()> {
    /// for entry in table.history(10).await? {
    ///     println!("{}: {} {}", entry.version, entry.operation, entry.statement);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub fn history(
        &self,
        limit: impl Into<Option<usize>>,
    ) -> BoxFuture<'static, Result<Vec<HistoryEntry>>> {
        let (handle, limit) = (self.handle.clone(), limit.into().unwrap_or(usize::MAX));
        async move {
            let mut history = Vec::new();
            let current = handle.table().snapshot().await?;
            let mut versions = handle.table().versions(&current);
            while history.len() < limit {
                let Some(version) = versions.try_next().await? else {
                    break;
                };
                let left = limit - history.len();
                history.extend(entries(&version).take(left).map(HistoryEntry::of));
            }
            Ok(history)
        }
        .boxed()
    }

    /// The rows that came, went or changed after version `from`, up to and including version `to` (`None`: the newest).
    /// 0 is before the first version. The table's columns, then `_change_type` (`insert`, `delete`, `update_preimage`,
    /// `update_postimage`), `_id` (the row's id, which an update keeps) and `_version`.
    ///
    /// ```
    /// # use datafusion::prelude::*;
    /// # use datafusion_supertable::Supertable;
    /// # async fn example(table: Supertable, seen: u64) -> Result<(), Box<dyn std::error::Error>> {
    /// let news = table.changes(seen, None).await?;
    /// let gone = news.filter(col("_change_type").eq(lit("delete")))?.collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if one of the versions is not there;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a column of the table has the name of one of those
    /// that are added; as [`snapshot`](Self::snapshot). The query's own errors come when it runs.
    pub fn changes(
        &self,
        from: u64,
        to: impl Into<Option<u64>>,
    ) -> BoxFuture<'static, Result<DataFrame>> {
        let (table, to) = (self.clone(), to.into());
        async move {
            let handle = &table.handle;
            let to = match to {
                Some(version) => handle.table().snapshot_of(Moment::Version(version)).await?,
                None => handle.table().snapshot().await?,
            };
            let label = format!("{} from {from} to {}", handle.location(), to.version());
            let changes = changes_between(handle.provider(), Moment::Version(from), to);
            handle.query(
                label,
                changes.map_err(|e| handle.failed("the changes of", e))?,
            )
        }
        .boxed()
    }

    /// Adds rows: a `RecordBatch`, several, a `SendableRecordBatchStream` or a `DataFrame`. Their columns are found by
    /// name, in any order; a column that they do not have gets its default, or NULL. Values are cast to the types of the
    /// table's columns. (`INSERT INTO`)
    ///
    /// ```
    /// # use datafusion::prelude::*;
    /// # use datafusion_supertable::Supertable;
    /// # async fn example(ctx: SessionContext, table: Supertable) -> Result<(), Box<dyn std::error::Error>> {
    /// let news = ctx.read_parquet("incoming/", ParquetReadOptions::default()).await?;
    /// let report = table.append(news).await?;
    /// println!("{} rows in version {:?}", report.rows_inserted, report.version);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the rows have a column that the table has
    /// not. Those of [every change](Self#errors).
    pub fn append(&self, rows: impl Into<RowSource>) -> BoxFuture<'static, Result<ChangeReport>> {
        change::insert(&self.handle, rows.into(), InsertOp::Append)
    }

    /// Puts rows, given as for [`append`](Self::append), in the place of all rows that the table has. The query that
    /// yields them may read the table. Rows that others insert meanwhile stay. (`INSERT OVERWRITE`)
    ///
    /// ```
    /// # use datafusion::prelude::*;
    /// # use datafusion_supertable::Supertable;
    /// # async fn example(table: Supertable) -> Result<(), Box<dyn std::error::Error>> {
    /// let distinct = table.dataframe()?.distinct()?;
    /// table.overwrite(distinct).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn overwrite(
        &self,
        rows: impl Into<RowSource>,
    ) -> BoxFuture<'static, Result<ChangeReport>> {
        change::insert(&self.handle, rows.into(), InsertOp::Overwrite)
    }

    /// Deletes the rows for which `predicate` is true: those for which it is NULL stay. It may hold subqueries.
    ///
    /// ```
    /// # use datafusion::prelude::*;
    /// # use datafusion_supertable::Supertable;
    /// # use std::sync::Arc;
    /// # async fn example(table: Supertable, gone: DataFrame) -> Result<(), Box<dyn std::error::Error>> {
    /// table.delete(col("at").lt(lit(1_700_000_000_i64))).await?;
    ///
    /// let tenants = gone.select_columns(&["tenant"])?.into_unoptimized_plan();
    /// let report = table.delete(in_subquery(col("tenant"), Arc::new(tenants))).await?;
    /// println!("{} rows went", report.rows_deleted);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [every change](Self#errors).
    pub fn delete(&self, predicate: Expr) -> BoxFuture<'static, Result<ChangeReport>> {
        change::delete(&self.handle, predicate)
    }

    /// Sets columns of the rows for which `predicate` is true, or of all (`None`). Values are expressions of the row
    /// as it was, cast to the types of the columns; rows keep their ids.
    ///
    /// ```
    /// # use datafusion::prelude::*;
    /// # use datafusion_supertable::{Result, Supertable};
    /// # async fn example(table: Supertable) -> Result<()> {
    /// table.update([("v", col("v") * lit(2)), ("seen", lit(true))], col("id").eq(lit(7))).await?;
    /// table.update([("seen", lit(false))], None).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if a column is not there, or set twice. Those
    /// of [every change](Self#errors).
    pub fn update<C: Into<String>>(
        &self,
        assignments: impl IntoIterator<Item = (C, Expr)>,
        predicate: impl Into<Option<Expr>>,
    ) -> BoxFuture<'static, Result<ChangeReport>> {
        let assignments = assignments.into_iter();
        let assignments = assignments.map(|(column, value)| (column.into(), value));
        change::update(&self.handle, assignments.collect(), predicate.into())
    }

    /// Begins a `MERGE` of rows, given as for [`append`](Self::append), which are partners of the table's where `on` is
    /// true. See [`MergeBuilder`], also for how the columns of both sides are called.
    pub fn merge(&self, source: impl Into<RowSource>, on: Expr) -> MergeBuilder {
        MergeBuilder::new(self.handle.clone(), source.into(), on)
    }

    /// Removes all rows, without reading any.
    ///
    /// # Errors
    /// Those of [every change](Self#errors).
    pub fn truncate(&self) -> BoxFuture<'static, Result<ChangeReport>> {
        change::truncate(&self.handle)
    }

    /// Begins changes of the table's columns and properties; see [`AlterBuilder`].
    pub fn alter(&self) -> AlterBuilder {
        AlterBuilder::new(self.handle.clone())
    }

    /// Begins a compaction; see [`OptimizeBuilder`].
    pub fn optimize(&self) -> OptimizeBuilder {
        OptimizeBuilder::new(self.handle.clone())
    }

    /// Begins a vacuum; see [`VacuumBuilder`].
    pub fn vacuum(&self) -> VacuumBuilder {
        VacuumBuilder::new(self.handle.clone())
    }

    /// Makes the table what it was in a version, rows and columns, in a new version. Later versions stay in the
    /// history, and can be restored in turn.
    ///
    /// ```
    /// # use datafusion_supertable::{Result, Supertable};
    /// # async fn example(table: Supertable) -> Result<()> {
    /// let report = table.restore_to_version(7).await?;
    /// println!("{} rows in version {}", report.num_rows, report.version);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) says which versions there are, if this is none. Those of
    /// [every change](Self#errors).
    pub async fn restore_to_version(&self, version: u64) -> Result<RestoreReport> {
        self.restore(Moment::Version(version)).await
    }

    /// The same for the version that was the newest at a moment, as for [`at_time`](Self::at_time).
    ///
    /// # Errors
    /// As [`restore_to_version`](Self::restore_to_version).
    pub fn restore_to_time(
        &self,
        time: impl Into<SystemTime>,
    ) -> BoxFuture<'static, Result<RestoreReport>> {
        let (table, moment) = (self.clone(), Moment::Time(ms_of(time.into())));
        async move { table.restore(moment).await }.boxed()
    }

    async fn restore(&self, moment: Moment) -> Result<RestoreReport> {
        self.handle.check_writable("RESTORE")?;
        Ok(self.handle.table().restore(moment).await?.into())
    }

    /// Waits until nothing of this table goes on in the background: what ended statements leave is then cleaned up. A
    /// process that exits without it loses nothing.
    pub async fn settle(&self) {
        self.handle.table().settle().await;
    }
}
