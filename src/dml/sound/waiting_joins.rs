//! Joins of a statement that writes do not wait for one another.
//!
//! DataFusion's hash join tells the scan of its second input which keys its first one has (a dynamic filter). For that
//! each partition of the join, once it has its part of the first input, waits until all partitions have theirs. Where
//! two such joins feed one another in turn, through unions and repartitions that stop while their buffers are full,
//! each waits for the other: the statement never ends, and says nothing. (Found by the random search; the joins have
//! to be partitioned, as large ones are.)
//!
//! Owns the rule that takes these filters from the joins of statements that write; which superfiles of a target hold
//! keys of a source, this crate finds out by itself. Queries keep them: they are DataFusion's.
//!
//! Invariant: a dynamic filter only leaves out rows that the join would drop; without it the rows are the same.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;

use crate::dml::write::partitioned_sink::PartitionedSinkExec;

/// Whether it is the sink of a statement that writes: DataFusion's, or an `INSERT`'s.
fn writes(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<DataSinkExec>() || node.is::<PartitionedSinkExec>()
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct NoWaitingJoins;

impl PhysicalOptimizerRule for NoWaitingJoins {
    fn name(&self) -> &str {
        "supertable_no_waiting_joins"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !plan.exists(|node| Ok(writes(node)))? {
            return Ok(plan);
        }
        let plan = plan.transform_up(|node| {
            let filters = !node.dynamic_expressions_produced().is_empty();
            Ok(
                match node.downcast_ref::<HashJoinExec>().filter(|_| filters) {
                    Some(join) => Transformed::yes(join.builder().reset_state().build_exec()?),
                    None => Transformed::no(node),
                },
            )
        })?;
        Ok(plan.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}
