//! Rows on disk, as a plan's input.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream;

/// The rows of a spill file. The file lives as long as this.
pub(super) struct SpilledRows {
    pub(super) manager: SpillManager,
    pub(super) file: Option<Arc<dyn SpillFile>>,
}

impl fmt::Debug for SpilledRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpilledRows").finish_non_exhaustive()
    }
}

impl PartitionStream for SpilledRows {
    fn schema(&self) -> &SchemaRef {
        self.manager.schema()
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(self.manager.schema());
        let Some(file) = &self.file else {
            return Box::pin(RecordBatchStreamAdapter::new(schema, stream::empty()));
        };
        match self.manager.read_spill_as_stream(Arc::clone(file), None) {
            Ok(rows) => rows,
            Err(error) => {
                let failed = stream::once(async { Err(error) });
                Box::pin(RecordBatchStreamAdapter::new(schema, failed))
            }
        }
    }
}
