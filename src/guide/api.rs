//! The API: a table in a program, without SQL.
//!
//! [`Supertable`](crate::Supertable) is a table at a location, opened or created in a session. It needs no name in a
//! catalog, nothing is registered, and the session is not changed. Each call does what the SQL statement of that name
//! does, by the same plan: what holds for [statements](super::statements) and [always](super::promises) holds for it.
//!
//! | to | call | answer |
//! | --- | --- | --- |
//! | make or open a table | [`create`](crate::Supertable::create) … `execute`, [`open`](crate::Supertable::open) | the table |
//! | add rows, replace all | [`append`](crate::Supertable::append), [`overwrite`](crate::Supertable::overwrite), of batches, a stream or a `DataFrame` | [`ChangeReport`](crate::ChangeReport) |
//! | change rows | [`delete`](crate::Supertable::delete), [`update`](crate::Supertable::update), [`merge`](crate::Supertable::merge) … `execute`, [`truncate`](crate::Supertable::truncate) | [`ChangeReport`](crate::ChangeReport) |
//! | read | [`dataframe`](crate::Supertable::dataframe); [`snapshot`](crate::Supertable::snapshot), [`at_version`](crate::Supertable::at_version), [`at_time`](crate::Supertable::at_time); [`changes`](crate::Supertable::changes) | `DataFrame`; [`SupertableSnapshot`](crate::SupertableSnapshot); `DataFrame` |
//! | look back | [`history`](crate::Supertable::history) | [`HistoryEntry`](crate::HistoryEntry) |
//! | change columns and options | [`alter`](crate::Supertable::alter) … `execute` | [`AlterReport`](crate::AlterReport) |
//! | keep it small and fast | [`optimize`](crate::Supertable::optimize) … `execute`, [`vacuum`](crate::Supertable::vacuum) … `execute` | [`OptimizeReport`](crate::OptimizeReport), [`VacuumReport`](crate::VacuumReport) |
//! | go back | [`restore_to_version`](crate::Supertable::restore_to_version), [`restore_to_time`](crate::Supertable::restore_to_time) | [`RestoreReport`](crate::RestoreReport) |
//!
//! - **Names.** In a predicate or a value, `col("v")` is a column of the table. In a [`merge`](crate::Supertable::merge)
//!   both sides have columns: `col("target.v")` and `col("source.v")`. What is set, inserted, added or dropped is named
//!   exactly, in a string. Rows that are handed over are matched by their columns' names.
//! - **Conflicts.** A statement that others were faster than runs again by itself ([isolation](crate#isolation)); the
//!   report says how often. Rows of a stream cannot be read again: where that would be needed, the error is of kind
//!   [`Conflict`](crate::ErrorKind::Conflict), and nothing was changed.
//! - **Futures.** Nothing happens before they are polled. Dropped, they leave everything of a change or nothing.
//!
//! # An embedded query server
//!
//! The server opens its table once. Each request has a session of its own, made of the server's, and a deadline; what
//! the session says (memory, options, `supertable.read_only`) holds for the request alone.
//!
//! ```
//! use std::time::Duration;
//!
//! use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
//! use datafusion::arrow::datatypes::{DataType, Field, Schema};
//! use datafusion::prelude::*;
//! use datafusion_supertable::{ErrorKind, Supertable, register};
//! # use std::error::Error;
//! # use std::sync::Arc;
//!
//! /// The rows of one tenant, and for a request that may write, without those that are too old.
//! async fn serve(base: &SessionContext, table: &Supertable, tenant: i64, reads_only: bool) -> Result<usize, Box<dyn Error>> {
//!     let request = SessionContext::new_with_state(base.state());
//!     if reads_only {
//!         request.sql("SET supertable.read_only = true").await?;
//!     }
//!     let table = table.in_session(&request);
//!     let deadline = Duration::from_secs(30);
//!
//!     let old = col("tenant").eq(lit(tenant)).and(col("at").lt(lit(100)));
//!     match tokio::time::timeout(deadline, table.delete(old)).await? {
//!         Ok(report) => println!("{} rows went in version {:?}", report.rows_deleted, report.version),
//!         Err(error) if error.kind() == ErrorKind::ReadOnly => {}
//!         Err(error) => return Err(error.into()),
//!     }
//!
//!     let rows = table.dataframe()?.filter(col("tenant").eq(lit(tenant)))?;
//!     let rows = tokio::time::timeout(deadline, rows.collect()).await??;
//!     Ok(rows.iter().map(RecordBatch::num_rows).sum())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let location = format!("{}/events/", directory.path().display());
//! // Once. A session that is registered spares each call a copy.
//! let base = SessionContext::new();
//! register(&base)?;
//! let schema = Schema::new(vec![
//!     Field::new("tenant", DataType::Int64, false),
//!     Field::new("at", DataType::Int64, false),
//! ]);
//! let table = Supertable::create(&base, &location, schema)
//!     .sort_by(vec![col("tenant").sort(true, false), col("at").sort(true, false)])
//!     .if_not_exists()
//!     .execute()
//!     .await?;
//! # let numbers = |numbers: Vec<i64>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
//! # let columns = [("tenant", numbers(vec![1, 1, 2])), ("at", numbers(vec![50, 150, 150]))];
//! # table.append(RecordBatch::try_from_iter(columns)?).await?;
//!
//! // For each request.
//! assert_eq!(serve(&base, &table, 1, true).await?, 2);
//! assert_eq!(serve(&base, &table, 1, false).await?, 1);
//!
//! // At the end.
//! datafusion_supertable::wait_for_background_work(&base).await;
//! # Ok(())
//! # }
//! ```
