//! A scan that is about to leave the process.
//!
//! Written down by DataFusion alone, a scan would lose its tombstones. Owns the question whether the codec of this crate
//! is there to write it down: a node that only that codec knows.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};

use crate::error::{Error, ErrorKind};

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct CodecProbe(Arc<PlanProperties>);

impl CodecProbe {
    /// The node, to be written down.
    pub(crate) fn plan() -> Arc<dyn ExecutionPlan> {
        let nothing = EquivalenceProperties::new(Arc::new(Schema::empty()));
        let partitioning = Partitioning::UnknownPartitioning(1);
        let (emission, bounded) = (EmissionType::Final, Boundedness::Bounded);
        Arc::new(Self(Arc::new(PlanProperties::new(
            nothing,
            partitioning,
            emission,
            bounded,
        ))))
    }
}

impl DisplayAs for CodecProbe {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for CodecProbe {
    fn name(&self) -> &'static str {
        "SupertableCodecProbe"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.0
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        _partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        internal_err!("{} has no rows", self.name())
    }
}

/// Why a scan does not leave.
pub(crate) fn without_codec() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "scan",
        "a plan with a scan of a supertable is written down without the codec for it, and would read deleted rows; \
         register datafusion_supertable::distributed::SupertableCodec (feature `distributed`) at both ends",
    )
}
