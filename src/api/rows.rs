//! Rows that a caller hands over: batches, a stream, or a query.
//!
//! Owns making a plan of them. Invariant: a stream is read once. A statement that would have to read it again, because
//! another one was first, fails instead, and has changed nothing.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use futures::{StreamExt, future, stream};

use crate::error::{Error, ErrorKind};
use crate::sql::functions::rows::lazy_stream;

/// Rows for a table: `RecordBatch`es, a `SendableRecordBatchStream`, or a `DataFrame`; each converts into it.
///
/// - Batches are held in memory until the statement ends.
/// - A stream is read once, as it comes: it may be larger than memory. If other statements commit first, so that this
///   one has to run again, it ends in an error of [`ErrorKind::Conflict`] instead and has changed nothing. (An
///   [`append`](crate::Supertable::append) conflicts with no change of rows.)
/// - Of a `DataFrame` the plan is taken, and runs in the session of the table: with that one's memory, object stores and
///   options.
pub struct RowSource(Source);

enum Source {
    Batches(Vec<RecordBatch>),
    Stream(SendableRecordBatchStream),
    Query(Box<LogicalPlan>),
}

impl fmt::Debug for RowSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Source::Batches(_) => "RowSource(batches)",
            Source::Stream(_) => "RowSource(stream)",
            Source::Query(_) => "RowSource(query)",
        })
    }
}

impl From<RecordBatch> for RowSource {
    fn from(batch: RecordBatch) -> Self {
        vec![batch].into()
    }
}

impl From<Vec<RecordBatch>> for RowSource {
    fn from(batches: Vec<RecordBatch>) -> Self {
        Self(Source::Batches(batches))
    }
}

impl From<SendableRecordBatchStream> for RowSource {
    fn from(stream: SendableRecordBatchStream) -> Self {
        Self(Source::Stream(stream))
    }
}

impl From<DataFrame> for RowSource {
    fn from(frame: DataFrame) -> Self {
        Self(Source::Query(Box::new(frame.into_unoptimized_plan())))
    }
}

impl RowSource {
    /// The plan of the rows; no batches at all are none of `columns`.
    pub(super) fn plan(self, columns: &SchemaRef) -> Result<LogicalPlan> {
        match self.0 {
            Source::Batches(batches) => {
                let schema = batches
                    .first()
                    .map_or_else(|| Arc::clone(columns), RecordBatch::schema);
                let table = MemTable::try_new(schema, vec![batches])?;
                LogicalPlanBuilder::scan("batches", provider_as_source(Arc::new(table)), None)?
                    .build()
            }
            Source::Stream(stream) => {
                let schema = stream.schema();
                let rows = Mutex::new(Some(stream));
                let table = lazy_stream(schema, move |_| {
                    let rows = rows.lock().unwrap_or_else(PoisonError::into_inner).take();
                    match rows {
                        Some(rows) => rows.boxed(),
                        None => stream::once(future::ready(Err(read_already().into()))).boxed(),
                    }
                })?;
                LogicalPlanBuilder::scan("stream", provider_as_source(table), None)?.build()
            }
            Source::Query(plan) => Ok(*plan),
        }
    }
}

fn read_already() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "the stream of rows",
        "other statements committed first, and this one cannot run again, because its stream has been read; nothing \
         was changed: hand the rows over again, or as a DataFrame or batches, which can be read several times",
    )
}
