//! Rows that are computed when the query runs, not when it is planned: `EXPLAIN` does nothing.
//!
//! Owns the relation around a function's work. [`lazy_table`] is for an answer of one batch,
//! [`lazy_stream`] for one that may be long: the stream is polled no further than the query's
//! `LIMIT` needs, and dropped when the query is cancelled.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};

use crate::error::{Error, ErrorKind, Result};

type Batches = BoxStream<'static, DataFusionResult<RecordBatch>>;
type Work = Arc<dyn Fn(Arc<TaskContext>) -> Batches + Send + Sync>;

/// A relation of one batch, which `work` computes each time the relation is executed.
pub(crate) fn lazy_table(
    schema: SchemaRef,
    work: impl Fn() -> BoxFuture<'static, Result<RecordBatch>> + Send + Sync + 'static,
) -> DataFusionResult<Arc<dyn TableProvider>> {
    lazy_stream(schema, move |_| {
        let batch = work();
        stream::once(async move { Ok(batch.await?) }).boxed()
    })
}

/// A relation of many batches, which `work` begins to stream each time the relation is executed.
pub(crate) fn lazy_stream(
    schema: SchemaRef,
    work: impl Fn(Arc<TaskContext>) -> Batches + Send + Sync + 'static,
) -> DataFusionResult<Arc<dyn TableProvider>> {
    let rows = LazyRows {
        schema: Arc::clone(&schema),
        work: Arc::new(work),
    };
    Ok(Arc::new(StreamingTable::try_new(
        schema,
        vec![Arc::new(rows)],
    )?))
}

/// The type of a moment in a function's answer.
pub(crate) fn moment_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// A batch of a function's answer.
///
/// # Errors
/// The columns are not those of the schema, which is a mistake in the function.
pub(crate) fn batch(
    function: &str,
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| {
        Error::new(
            ErrorKind::Corrupt,
            function,
            "its rows do not fit its columns",
        )
        .with_source(e)
    })
}

struct LazyRows {
    schema: SchemaRef,
    work: Work,
}

impl fmt::Debug for LazyRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyRows").finish_non_exhaustive()
    }
}

impl PartitionStream for LazyRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            (self.work)(context),
        ))
    }
}
