//! The sort of rows that are to be written in a declared order, where memory is bounded.
//!
//! DataFusion's sort takes what the pool has, and its merge of what it spilled takes more while the encoders of
//! the rows that come out of it take theirs: which of them gets none is a matter of chance. So here the sort has a
//! part of the pool, in which it keeps enough for its merge (see `sort_memory`), and the encoders have the
//! rest; without a bound on memory a sort has a bound of its own, for it would keep all rows twice. Partitions are sorted
//! side by side while there is memory for it. Owns the plan's node for that, and when there is one.
//!
//! Invariant: what the sort's input needs is not counted in the sort's part.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, LexRequirement};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PhysicalExpr, PlanProperties,
};

use crate::dml::write::sort_memory::sorting_parts;

/// `input`, sorted as `order` requires if it is not in that order; otherwise as it is.
pub(crate) fn sorted_in_part(
    input: Arc<dyn ExecutionPlan>,
    order: Option<&LexRequirement>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(order) = order else {
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

    // Any number of partitions is sorted; more of them are sorted faster.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![true]
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
        if partition != 0 {
            return internal_err!("{} has one partition", self.name());
        }
        let partitions = self.input.output_partitioning().partition_count();
        let parts = sorting_parts(&context, partitions)?;
        let rows = match parts.len() == partitions {
            true => (0..partitions)
                .map(|partition| self.input.execute(partition, Arc::clone(&context)))
                .collect::<Result<Vec<_>>>()?,
            false => {
                let all = CoalescePartitionsExec::new(Arc::clone(&self.input));
                vec![all.execute(0, Arc::clone(&context))?]
            }
        };
        let mut sorted = rows
            .into_iter()
            .zip(parts)
            .map(|(rows, part)| {
                let sort = SortExec::new(self.order.clone(), once(vec![rows])?);
                sort.execute(0, part)
            })
            .collect::<Result<Vec<_>>>()?;
        match sorted.len() {
            1 => Ok(sorted.swap_remove(0)),
            _ => {
                SortPreservingMergeExec::new(self.order.clone(), once(sorted)?).execute(0, context)
            }
        }
    }
}

/// Partitions that are under way as a plan.
fn once(partitions: Vec<SendableRecordBatchStream>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(schema) = partitions.first().map(|rows| rows.schema()) else {
        return internal_err!("there is nothing to sort");
    };
    let partitions = partitions.into_iter().map(|rows| {
        Arc::new(Once {
            schema: rows.schema(),
            rows: Mutex::new(Some(rows)),
        }) as Arc<dyn PartitionStream>
    });
    let rows =
        StreamingTableExec::try_new(schema, partitions.collect(), None, vec![], false, None)?;
    Ok(Arc::new(rows))
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
