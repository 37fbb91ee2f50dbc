//! The sort of rows that are to be written in a declared order, where memory is bounded.
//!
//! DataFusion's sort takes what the pool has, and its merge of what it spilled takes more while the encoders of
//! the rows that come out of it take theirs: which of them gets none is a matter of chance. So here the sort has a
//! part of the pool, in which it keeps enough for its merge (see `sort_memory`), and the encoders have the
//! rest. Owns the plan's node for that, and when there is one. Without a bound on memory DataFusion's own sort is
//! as good, and sorts partitions side by side.
//!
//! Invariant: what the sort's input needs is not counted in the sort's part.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, LexRequirement};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PhysicalExpr, PlanProperties,
};

use crate::dml::write::sort_memory::for_sorting;

/// `input`, sorted as `order` requires if the pool is bounded and it is not in that order; otherwise as it is.
pub(crate) fn sorted_in_part(
    pool: &Arc<dyn MemoryPool>,
    input: Arc<dyn ExecutionPlan>,
    order: Option<&LexRequirement>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (Some(order), MemoryLimit::Finite(_)) = (order, pool.memory_limit()) else {
        return Ok(input);
    };
    let order = LexOrdering::from(order.clone());
    if input
        .equivalence_properties()
        .ordering_satisfy(order.clone())?
    {
        return Ok(input);
    }
    Ok(Arc::new(SortInPartExec::new(input, order)))
}

/// Sorts all rows in a part of the memory pool.
#[derive(Debug)]
pub(crate) struct SortInPartExec {
    input: Arc<dyn ExecutionPlan>,
    order: LexOrdering,
    properties: Arc<PlanProperties>,
}

impl SortInPartExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, order: LexOrdering) -> Self {
        let input: Arc<dyn ExecutionPlan> = match input.output_partitioning().partition_count() {
            1 => input,
            _ => Arc::new(CoalescePartitionsExec::new(input)),
        };
        let mut equivalences = EquivalenceProperties::new(input.schema());
        equivalences.add_ordering(order.clone());
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            input,
            order,
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for SortInPartExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupertableSort: expr=[{}]", self.order)
    }
}

impl ExecutionPlan for SortInPartExec {
    fn name(&self) -> &str {
        "SupertableSort"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for sort in self.order.iter() {
            if f(&sort.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.order.clone()))),
            _ => internal_err!("SupertableSort has one input"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, Arc::clone(&context))?;
        let schema = rows.schema();
        let once = Once {
            schema: Arc::clone(&schema),
            rows: Mutex::new(Some(rows)),
        };
        let rows =
            StreamingTableExec::try_new(schema, vec![Arc::new(once)], None, vec![], false, None)?;
        let sort = SortExec::new(self.order.clone(), Arc::new(rows));
        sort.execute(0, for_sorting(&context)?)
    }
}

/// Rows that are under way already, whatever the context is in which they are asked for.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self
            .rows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        rows.unwrap_or_else(|| {
            Box::pin(datafusion::physical_plan::EmptyRecordBatchStream::new(
                Arc::clone(&self.schema),
            ))
        })
    }
}
