//! One superfile on its way into the store.
//!
//! Encoding is DataFusion's own `ParquetSink`, which encodes the columns of one file in parallel and accounts for its
//! buffers in the session's memory pool. Owns the task in which it runs. Does not own what is written, nor how.
//!
//! Invariant: a file is complete only if its writer said so: an encoder that is dropped leaves none, or one that no
//! manifest names.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::common::runtime::SpawnedTask;
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::physical_plan::parquet::ParquetSink;
use datafusion::datasource::physical_plan::{FileGroup, FileOutputMode, FileSinkConfig};
use datafusion::datasource::sink::DataSink;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::{
    DefaultObjectStoreRegistry, ObjectStoreRegistry, ObjectStoreUrl,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use object_store::ObjectStore;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::ids::SuperfileId;
use crate::format::paths;

/// Batches buffered between the producer and the encoder.
const BUFFERED_BATCHES: usize = 4;

type Rows = mpsc::Sender<Result<RecordBatch, DataFusionError>>;
type Task = SpawnedTask<Result<ParquetMetaData, DataFusionError>>;

/// A superfile that is being encoded.
pub(super) struct Encoder {
    id: SuperfileId,
    /// None once it is complete or given up.
    running: Option<(Rows, Task)>,
}

/// The encoder takes no more rows; its end tells why.
pub(super) struct Stopped;

impl Encoder {
    /// Begins the superfile `id`; `task` reaches the table's store only ([`private_context`]).
    ///
    /// # Errors
    /// Its name is no address.
    pub(super) fn start(
        id: SuperfileId,
        schema: &SchemaRef,
        parquet: TableParquetOptions,
        sorting_columns: Option<Vec<SortingColumn>>,
        task: &Arc<TaskContext>,
    ) -> Result<Self> {
        let url = private_url()?;
        let target = format!("{}{}", url.as_str(), paths::superfile(&id));
        let config = FileSinkConfig {
            original_url: target.clone(),
            object_store_url: url,
            file_group: FileGroup::default(),
            table_paths: vec![ListingTableUrl::parse(&target).map_err(|e| encoding(&id, e))?],
            output_schema: Arc::clone(schema),
            table_partition_cols: vec![],
            insert_op: InsertOp::Append,
            keep_partition_by_columns: false,
            file_extension: "parquet".to_owned(),
            file_output_mode: FileOutputMode::SingleFile,
        };
        let sink = ParquetSink::new(config, parquet).with_sorting_columns(sorting_columns);
        let (batches, receiver) = mpsc::channel(BUFFERED_BATCHES);
        let stream = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|batch| (batch, receiver))
        });
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), stream));
        let context = Arc::clone(task);
        let task = SpawnedTask::spawn(async move {
            DataSink::write_all(&sink, stream, &context).await?;
            sink.written().into_values().next().ok_or_else(|| {
                DataFusionError::Internal("the Parquet sink wrote no file".to_owned())
            })
        });
        Ok(Self {
            id,
            running: Some((batches, task)),
        })
    }

    /// The superfile's id.
    pub(super) fn id(&self) -> SuperfileId {
        self.id
    }

    /// Hands the next rows over.
    pub(super) async fn send(&self, batch: RecordBatch) -> std::result::Result<(), Stopped> {
        match &self.running {
            Some((rows, _)) => rows.send(Ok(batch)).await.map_err(|_| Stopped),
            None => Err(Stopped),
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    /// The encoder's or the store's failure.
    pub(super) async fn finish(mut self) -> Result<ParquetMetaData> {
        let Some((rows, task)) = self.running.take() else {
            return Err(encoding(&self.id, "it was given up"));
        };
        drop(rows);
        let metadata = task.join().await.map_err(|e| encoding(&self.id, e))?;
        metadata.map_err(|e| encoding(&self.id, e))
    }

    /// Gives the file up, and returns once its encoder has ended.
    pub(super) async fn abandon(mut self) {
        if let Some((rows, task)) = self.running.take() {
            // It takes rows until it sees this, or has stopped.
            let _ = rows.send(Err(abandoned())).await;
            drop(rows);
            let _ = task.join().await;
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // An abandoned file must not look complete: the stream ends in an error, not at its end.
        if let Some((rows, task)) = self.running.take() {
            let _ = rows.try_send(Err(abandoned()));
            drop(task);
        }
    }
}

fn abandoned() -> DataFusionError {
    DataFusionError::Execution("the statement was abandoned".to_owned())
}

/// A task context whose only store is the table's own, so that the sink cannot reach another.
pub(super) fn private_context(
    task: &TaskContext,
    store: Arc<dyn ObjectStore>,
) -> Result<Arc<TaskContext>> {
    let registry = DefaultObjectStoreRegistry::new();
    registry.register_store(private_url()?.as_ref(), store);
    let runtime: RuntimeEnv = RuntimeEnvBuilder::from_runtime_env(&task.runtime_env())
        .with_object_store_registry(Arc::new(registry))
        .build()
        .map_err(|e| {
            Error::new(ErrorKind::Storage, "writer", "cannot build its runtime").with_source(e)
        })?;
    Ok(Arc::new(TaskContext::new(
        task.task_id(),
        task.session_id(),
        task.session_config().clone(),
        task.scalar_functions().clone(),
        Default::default(),
        task.aggregate_functions().clone(),
        task.window_functions().clone(),
        Arc::new(runtime),
    )))
}

fn private_url() -> Result<ObjectStoreUrl> {
    ObjectStoreUrl::parse("supertable://root/").map_err(|e| {
        Error::new(ErrorKind::InvalidArgument, "writer", "private store name").with_source(e)
    })
}

pub(super) fn encoding(
    id: &SuperfileId,
    e: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::new(
        ErrorKind::Storage,
        paths::superfile(id).to_string(),
        "writing the superfile failed",
    )
    .with_source(e)
}
