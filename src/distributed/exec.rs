//! The top of a plan that workers execute a part of.
//!
//! Owns what is done around the engine's own node: the session's settings and the statement's functions go with the
//! plan, and errors of workers become this crate's again. To the planner it has no inputs: what is below is planned already, and no rule may change
//! it.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
};
use datafusion_distributed::display_plan_ascii;
use futures::StreamExt;

use super::errors::received;
use super::settings::with_sent;
use super::shipped::has_remade;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct OnWorkersExec {
    plan: Arc<dyn ExecutionPlan>,
    /// What workers need beside it.
    functions: String,
}

impl OnWorkersExec {
    /// The top of `plan`, whose stages call `functions`.
    pub(super) fn new(plan: Arc<dyn ExecutionPlan>, functions: String) -> Self {
        Self { plan, functions }
    }

    /// What runs where, for people.
    pub(super) fn shown(&self) -> String {
        display_plan_ascii(self.plan.as_ref(), false)
    }
}

/// `batch`, whose columns are described as the plan describes them. What is written beside a column may be lost on the
/// way.
fn described_as(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns().to_vec();
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

impl DisplayAs for OnWorkersExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for OnWorkersExec {
    fn name(&self) -> &'static str {
        "OnWorkersExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
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
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("{} has no inputs", self.name()),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let config = context.session_config().clone();
        let config = with_sent(config, &self.functions, has_remade(&context))?;
        let context = Arc::new(TaskContext::new(
            context.task_id(),
            context.session_id(),
            config,
            context.scalar_functions().clone(),
            context.higher_order_functions().clone(),
            context.aggregate_functions().clone(),
            context.window_functions().clone(),
            context.runtime_env(),
        ));
        let rows = self.plan.execute(partition, context).map_err(received)?;
        let schema = self.schema();
        let described = Arc::clone(&schema);
        let rows = rows.map(move |batch| described_as(batch.map_err(received)?, &described));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.plan.metrics()
    }
}
