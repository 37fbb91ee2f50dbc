//! Joins that fit into a bounded memory pool.
//!
//! Owns one decision: whether a statement's plan holds a hash join whose first input may be too
//! large for the session's memory pool, and the session that plans it with sort-merge joins instead.
//! DataFusion's hash join keeps its first input in memory and fails when the pool is exhausted; its
//! sorts and sort-merge joins spill to disk. (Its nested loop join, for conditions without an
//! equality, spills by itself.)
//!
//! Without a bound on memory hash joins stay: they are faster. The join of a statement's source and target decides for
//! itself, while it runs (`source_first`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics};
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::dml::opaque::Opaque;

/// What part of the pool a hash join's first input may take: there are other operators, other
/// statements, and the hash table itself.
pub(crate) const SHARE: usize = 8;
/// Taken for a value whose type does not tell its size.
const VALUE_BYTES: usize = 64;

/// The session that plans `plan`'s statement without hash joins, if that is needed.
pub(crate) fn spilling_session(
    session: &dyn Session,
    plan: &Arc<dyn ExecutionPlan>,
) -> Result<Option<Arc<dyn Session>>> {
    let MemoryLimit::Finite(limit) = session.runtime_env().memory_pool.memory_limit() else {
        return Ok(None);
    };
    let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
        return Ok(None);
    };
    // DataFusion plans a sort-merge join only where it may repartition.
    let config = state.config();
    if config.target_partitions() < 2
        || !config.repartition_joins()
        || !config.options().optimizer.prefer_hash_join
        || !builds_more_than(plan, limit / SHARE)?
    {
        return Ok(None);
    }
    let mut spilling = state.clone();
    spilling
        .config_mut()
        .options_mut()
        .optimizer
        .prefer_hash_join = false;
    Ok(Some(Arc::new(spilling)))
}

/// Plans a statement in a session of its own. (Not an async function, which would hold the plan; see
/// `opaque`.)
pub(crate) fn plan_in(
    session: Arc<dyn Session>,
    template: &Opaque<LogicalPlan>,
) -> BoxFuture<'static, Result<Arc<dyn ExecutionPlan>>> {
    let plan = template.get().clone();
    async move { session.create_physical_plan(&plan).await }.boxed()
}

/// Whether a hash join in `plan` may keep more than `bytes` in memory.
fn builds_more_than(plan: &Arc<dyn ExecutionPlan>, bytes: usize) -> Result<bool> {
    let statistics = StatisticsContext::new();
    let mut found = false;
    plan.apply(|node| {
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            let build = join.left();
            // What cannot be told may be large.
            let size = match statistics.compute(build.as_ref(), &StatisticsArgs::new()) {
                Ok(known) => size(&known, &build.schema()),
                Err(_) => None,
            };
            found |= size.is_none_or(|size| size > bytes);
        }
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// How much memory rows take, if that can be told.
fn size(statistics: &Statistics, schema: &Schema) -> Option<usize> {
    if let Some(bytes) = statistics.total_byte_size.get_value() {
        return Some(*bytes);
    }
    let row: usize = schema.fields().iter().map(|f| width(f.data_type())).sum();
    statistics.num_rows.get_value()?.checked_mul(row)
}

fn width(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(match data_type {
        DataType::Boolean | DataType::Null => 1,
        _ => VALUE_BYTES,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::datatypes::Field;
    use datafusion::common::stats::Precision;

    #[test]
    fn a_size_is_that_of_the_bytes_or_else_of_the_rows_or_unknown() {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int64, false),
            Field::new("b", DataType::Utf8, false),
        ]);
        let mut statistics = Statistics::new_unknown(&schema);
        assert_eq!(size(&statistics, &schema), None);
        statistics.num_rows = Precision::Inexact(10);
        assert_eq!(size(&statistics, &schema), Some(10 * (8 + VALUE_BYTES)));
        statistics.total_byte_size = Precision::Exact(7);
        assert_eq!(size(&statistics, &schema), Some(7));
        statistics.total_byte_size = Precision::Absent;
        statistics.num_rows = Precision::Exact(usize::MAX);
        assert_eq!(size(&statistics, &schema), None);
    }
}
