//! A sink for all partitions of a plan.
//!
//! DataFusion's own sink operator has its input merged into one partition first, in which the rows of several are mixed.
//! Owns the operator that hands the partitions over as they are, and that the rows of one partition stay in one: what
//! the planner deals out to several threads one batch after another, to work on more of them, would be rows of every
//! part of the input in each superfile, and any read of few rows would decode some of each. The encoders are work
//! enough for the other threads. Does not own what is done with the rows.
//!
//! Invariant: a query that says in which order its rows come (`ORDER BY`) hands over one partition, in that order.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexRequirement, OrderingRequirements};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PhysicalExpr, PlanProperties,
};
use futures::stream;

/// Takes the rows of all partitions of a plan.
#[async_trait]
pub(crate) trait PartitionedSink: DisplayAs + fmt::Debug + Send + Sync {
    /// What is measured.
    fn metrics(&self) -> MetricsSet;

    /// Takes them, and says how many there were.
    async fn write_all(
        &self,
        rows: Vec<SendableRecordBatchStream>,
        context: &Arc<TaskContext>,
    ) -> Result<u64>;
}

/// Runs its input into a sink; yields the count.
#[derive(Debug)]
pub(crate) struct PartitionedSinkExec {
    input: Arc<dyn ExecutionPlan>,
    sink: Arc<dyn PartitionedSink>,
    /// The order that the input has to have.
    order: Option<LexRequirement>,
    /// Whether the input's rows are one sequence.
    one: bool,
    properties: Arc<PlanProperties>,
}

impl PartitionedSinkExec {
    /// `input` into `sink`, in `order` if there is one.
    ///
    /// # Errors
    /// A plan node of the input refuses another input.
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        sink: Arc<dyn PartitionedSink>,
        order: Option<LexRequirement>,
    ) -> Result<Self> {
        let ordered = input.output_ordering().is_some();
        let one =
            order.is_some() || (ordered && input.output_partitioning().partition_count() == 1);
        Self::over(input, sink, order, one)
    }

    fn over(
        input: Arc<dyn ExecutionPlan>,
        sink: Arc<dyn PartitionedSink>,
        order: Option<LexRequirement>,
        one: bool,
    ) -> Result<Self> {
        // A declared order takes a sort, which all threads do.
        let input = match order {
            Some(_) => input,
            None => not_dealt_out(input)?,
        };
        let count = Field::new("count", DataType::UInt64, false);
        let schema = Arc::new(Schema::new(vec![count]));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            sink,
            order,
            one,
            properties: Arc::new(properties),
        })
    }
}

/// `plan` without what only deals its rows out, batch by batch, to as many partitions as there are threads.
fn not_dealt_out(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(dealt) = plan.downcast_ref::<RepartitionExec>()
        && matches!(dealt.partitioning(), Partitioning::RoundRobinBatch(_))
    {
        return not_dealt_out(Arc::clone(dealt.input()));
    }
    if let Some(merged) = plan.downcast_ref::<CoalescePartitionsExec>()
        && merged.fetch().is_none()
    {
        let input = not_dealt_out(Arc::clone(merged.input()))?;
        if input.output_partitioning().partition_count() == 1 {
            return Ok(input);
        }
    }
    let children = plan.children();
    // Of a join's inputs none: it has more to do than to hand rows over.
    let hands_over = children.len() == 1 || plan.downcast_ref::<UnionExec>().is_some();
    let keeps_order = plan.maintains_input_order().iter().all(|keeps| *keeps);
    let takes_any = plan
        .input_distribution_requirements()
        .into_per_child()
        .iter()
        .all(|wanted| matches!(wanted, Distribution::UnspecifiedDistribution));
    if !hands_over || !keeps_order || !takes_any {
        return Ok(plan);
    }
    let new = children
        .iter()
        .map(|child| not_dealt_out(Arc::clone(child)))
        .collect::<Result<Vec<_>>>()?;
    match new
        .iter()
        .zip(&children)
        .all(|(new, old)| Arc::ptr_eq(new, old))
    {
        true => Ok(plan),
        false => plan.replace_children(
            new,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        ),
    }
}

impl DisplayAs for PartitionedSinkExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sink.fmt_as(t, f)
    }
}

impl ExecutionPlan for PartitionedSinkExec {
    fn name(&self) -> &str {
        "PartitionedSinkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![match self.one {
            true => Distribution::SinglePartition,
            false => Distribution::UnspecifiedDistribution,
        }]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.order.clone().map(OrderingRequirements::from)]
    }

    // A sort below is one that somebody wants.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                let sink = Arc::clone(&self.sink);
                let new = Self::over(input, sink, self.order.clone(), self.one)?;
                Ok(Arc::new(new))
            }
            _ => internal_err!("{} has one input", self.name()),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.sink.metrics())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("{} has one partition", self.name());
        }
        let partitions = self.input.output_partitioning().partition_count();
        let rows = (0..partitions)
            .map(|partition| self.input.execute(partition, Arc::clone(&context)))
            .collect::<Result<Vec<_>>>()?;
        let sink = Arc::clone(&self.sink);
        let schema = self.schema();
        let count = stream::once(async move {
            let count = sink.write_all(rows, &context).await?;
            let count: ArrayRef = Arc::new(UInt64Array::from(vec![count]));
            Ok(RecordBatch::try_from_iter_with_nullable([(
                "count", count, false,
            )])?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, count)))
    }
}
