//! Rows that are computed when the query runs, not when it is planned: `EXPLAIN` does nothing.
//!
//! Owns the relation around a function's work. [`lazy_table`] is for an answer of one batch,
//! [`lazy_stream`] for one that may be long: the stream is polled no further than the query's
//! `LIMIT` needs, and dropped when the query is cancelled. [`effect_table`] is for work that changes something.
//!
//! Invariant: what changes something is done once for each run of a statement, however often the plan reads the
//! relation (a query in `WITH` that is used twice is in the plan twice). A query that needs none of its rows
//! (`LIMIT 0`) does not read it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
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

/// A relation of one batch, whose computation changes something: all readers in one run of a statement share one
/// computation.
pub(crate) fn effect_table<E: Into<DataFusionError> + Send + 'static>(
    schema: SchemaRef,
    work: impl Fn(Arc<TaskContext>) -> BoxFuture<'static, std::result::Result<RecordBatch, E>>
    + Send
    + Sync
    + 'static,
) -> DataFusionResult<Arc<dyn TableProvider>> {
    let once = Arc::new(Once::default());
    lazy_stream(schema, move |context| {
        let run = once.of(&context, || work(Arc::clone(&context)));
        stream::once(async move { run.await.map_err(DataFusionError::Shared) }).boxed()
    })
}

type Outcome = std::result::Result<RecordBatch, Arc<DataFusionError>>;
type Computation = Shared<BoxFuture<'static, Outcome>>;

/// The computation of the last run of a statement; a run is told from others by its context.
#[derive(Default)]
struct Once(Mutex<Option<(Weak<TaskContext>, Progress)>>);

enum Progress {
    /// It ends with the readers that wait for it, so that a cancelled statement leaves nothing behind.
    Running(WeakShared<BoxFuture<'static, Outcome>>),
    Done(Outcome),
}

impl Once {
    /// The computation of this run, which `begin` begins if it has not begun.
    fn of<E: Into<DataFusionError> + Send + 'static>(
        self: &Arc<Self>,
        context: &Arc<TaskContext>,
        begin: impl FnOnce() -> BoxFuture<'static, std::result::Result<RecordBatch, E>>,
    ) -> Computation {
        let this = Arc::downgrade(context);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((run, progress)) = last.as_ref()
            && run.ptr_eq(&this)
        {
            match progress {
                Progress::Done(outcome) => {
                    return futures::future::ready(outcome.clone()).boxed().shared();
                }
                Progress::Running(running) => {
                    if let Some(running) = running.upgrade() {
                        return running;
                    }
                }
            }
        }
        let (once, run) = (Arc::clone(self), Weak::clone(&this));
        let work = begin();
        let computation = async move {
            let outcome = work.await.map_err(|error| Arc::new(error.into()));
            let mut last = once.0.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((run, Progress::Done(outcome.clone())));
            outcome
        };
        let computation = computation.boxed().shared();
        *last = computation
            .downgrade()
            .map(|running| (this, Progress::Running(running)));
        computation
    }
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
