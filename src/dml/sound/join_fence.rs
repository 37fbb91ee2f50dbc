//! Joins that the engine gets wrong are planned otherwise, or kept from its rules.
//!
//! | join | what DataFusion 55.2 does | instead |
//! | --- | --- | --- |
//! | sort-merge, with a filter | pushes a projection through it and leaves the filter as it was, which then reads whatever columns stand in those places: the statement fails, or joins other rows | a node above it lets no projection through while the plan is optimised |
//! | outer sort-merge, with a filter | evaluates the filter for rows without a partner too, in a batch with the inputs' own nullability, and fails where a column is never NULL | the filter's columns may be NULL |
//! | sort-merge, with a filter of no columns, as `ON t.k = s.k AND NULL` | leaves the filter out | it reads a column, for nothing |
//! | piecewise merge (`datafusion.optimizer.enable_piecewise_merge_join`, off by default) | an outer one loses rows without a partner; planning one panics where a side of the comparison has no column | nested loops |
//!
//! A `MERGE` meets the first two in a bounded pool, where it sorts in order to spill.
//!
//! Owns the rules that do this, and the node. Invariant: the node changes nothing of the rows; a plan that runs has
//! none.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::SortMergeJoinExec;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// The rules, each with its place among the others.
#[derive(Debug)]
pub(crate) enum JoinFences {
    /// Comes first: puts the node above each sort-merge join that has a filter.
    Put,
    /// Comes last: takes the nodes away.
    Take,
}

impl PhysicalOptimizerRule for JoinFences {
    fn name(&self) -> &str {
        match self {
            Self::Put => "supertable_put_join_fences",
            Self::Take => "supertable_take_join_fences",
        }
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = match self {
            Self::Put => plan.transform_up(put),
            Self::Take => plan.transform_up(take),
        };
        Ok(plan?.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The last rule of the optimiser. The engine plans a piecewise merge join for one comparison and nothing else: here
/// each has a second condition, that is always true.
#[derive(Debug, Default)]
pub(crate) struct NoPiecewiseMerge;

impl OptimizerRule for NoPiecewiseMerge {
    fn name(&self) -> &str {
        "supertable_no_piecewise_merge"
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if !config.options().optimizer.enable_piecewise_merge_join {
            return Ok(Transformed::no(plan));
        }
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(mut join) if join.on.is_empty() => match join.filter.take() {
                Some(Expr::BinaryExpr(condition)) => {
                    join.filter = Some(Expr::BinaryExpr(condition).and(lit(true)));
                    Ok(Transformed::yes(LogicalPlan::Join(join)))
                }
                filter => {
                    join.filter = filter;
                    Ok(Transformed::no(LogicalPlan::Join(join)))
                }
            },
            other => Ok(Transformed::no(other)),
        })
    }
}

fn put(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let join = node.downcast_ref::<SortMergeJoinExec>();
    Ok(match join.is_some_and(|join| join.filter().is_some()) {
        true => Transformed::yes(Arc::new(FenceExec { input: node })),
        false => Transformed::no(node),
    })
}

fn take(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    Ok(match node.downcast_ref::<FenceExec>() {
        Some(fence) => Transformed::yes(with_safe_filter(&fence.input)?),
        None => Transformed::no(node),
    })
}

/// The same join, whose filter has columns, which may be NULL.
pub(crate) fn with_safe_filter(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some((join, filter)) = plan
        .downcast_ref::<SortMergeJoinExec>()
        .and_then(|join| Some((join, join.filter().as_ref()?)))
    else {
        return Ok(Arc::clone(plan));
    };
    let left = join.left().schema();
    let (fields, columns) = match filter.column_indices() {
        [] => {
            let (index, side) = (0, JoinSide::Left);
            let first = left.fields().iter().take(1).cloned().collect();
            (first, vec![ColumnIndex { index, side }])
        }
        columns => (filter.schema().fields().to_vec(), columns.to_vec()),
    };
    let nullable = fields
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Schema::new_with_metadata(
        nullable.collect::<Vec<_>>(),
        filter.schema().metadata().clone(),
    );
    let filter = JoinFilter::new(Arc::clone(filter.expression()), columns, Arc::new(schema));
    Ok(Arc::new(SortMergeJoinExec::try_new(
        Arc::clone(join.left()),
        Arc::clone(join.right()),
        join.on().to_vec(),
        Some(filter),
        join.join_type(),
        join.sort_options().to_vec(),
        join.null_equality(),
    )?))
}

/// Stands above a join, through which no projection goes then.
#[derive(Debug)]
struct FenceExec {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for FenceExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => f.write_str(self.name()),
            DisplayFormatType::TreeRender => Ok(()),
        }
    }
}

impl ExecutionPlan for FenceExec {
    fn name(&self) -> &'static str {
        "FenceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

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

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self { input })),
            Err(children) => internal_err!("{} has not {} inputs", self.name(), children.len()),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match inputs.first() {
            Some(statistics) => Ok(Arc::clone(statistics)),
            None => Ok(Arc::new(Statistics::new_unknown(&self.schema()))),
        }
    }
}
