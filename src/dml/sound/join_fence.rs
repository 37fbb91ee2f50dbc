//! Sort-merge joins keep the columns that their filters read.
//!
//! DataFusion 55.2 pushes a projection through a sort-merge join, and leaves the join's filter as it was: it then reads
//! whatever columns stand in those places now. Where types differ the statement fails; where they do not, the join is
//! of other rows. A `MERGE` meets it in a bounded pool, where it sorts in order to spill.
//!
//! And the piecewise merge join (`datafusion.optimizer.enable_piecewise_merge_join`, off unless a session asks for it)
//! loses rows of an outer join that have no partner: a nested-loop join takes its place.
//!
//! Owns the node that stands above such a join while a plan is optimised, and lets no projection through; and the
//! rules that put it there first and take it away last.
//!
//! Invariant: the node changes nothing of the rows; a plan that runs has none.
//! What takes it away also lets the filter see rows without a partner.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::joins::{
    NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
};

/// Puts the node above each sort-merge join that has a filter.
#[derive(Debug, Default)]
pub(crate) struct FenceJoins;

/// Takes the nodes away.
#[derive(Debug, Default)]
pub(crate) struct TakeFences;

impl PhysicalOptimizerRule for FenceJoins {
    fn name(&self) -> &str {
        "supertable_fence_joins"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan
            .transform_up(|node| {
                if let Some(join) = node.downcast_ref::<PiecewiseMergeJoinExec>() {
                    return Ok(Transformed::yes(nested_loops(join)?));
                }
                let is_filtered = node
                    .downcast_ref::<SortMergeJoinExec>()
                    .is_some_and(|join| join.filter().is_some());
                Ok(match is_filtered {
                    true => Transformed::yes(Arc::new(FenceExec { input: node })),
                    false => Transformed::no(node),
                })
            })?
            .data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl PhysicalOptimizerRule for TakeFences {
    fn name(&self) -> &str {
        "supertable_take_fences"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan
            .transform_up(|node| {
                Ok(match node.downcast_ref::<FenceExec>() {
                    Some(fence) => Transformed::yes(with_nullable_filter(&fence.input)?),
                    None => Transformed::no(node),
                })
            })?
            .data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The same join, whose filter may see rows without a partner: DataFusion evaluates an outer join's filter for those
/// too, in a batch with the inputs' own nullability, and fails where a column is never NULL.
fn with_nullable_filter(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some((join, filter)) = plan
        .downcast_ref::<SortMergeJoinExec>()
        .and_then(|join| Some((join, join.filter().as_ref()?)))
    else {
        return Ok(Arc::clone(plan));
    };
    let fields = filter.schema().fields().iter();
    let nullable = fields.map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Schema::new_with_metadata(
        nullable.collect::<Vec<_>>(),
        filter.schema().metadata().clone(),
    );
    let filter = JoinFilter::new(
        Arc::clone(filter.expression()),
        filter.column_indices().to_vec(),
        Arc::new(schema),
    );
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

/// The same join, as nested loops.
fn nested_loops(join: &PiecewiseMergeJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let (left, right) = (join.buffered.schema(), join.streamed.schema());
    let width = left.fields().len();
    let of_right = Arc::clone(&join.on.1).transform_up(|expr| {
        Ok(match expr.downcast_ref::<Column>() {
            Some(column) => {
                let column = Column::new(column.name(), column.index() + width);
                Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>)
            }
            None => Transformed::no(expr),
        })
    })?;
    let condition = BinaryExpr::new(Arc::clone(&join.on.0), join.operator, of_right.data);
    let all = left.fields().iter().chain(right.fields()).cloned();
    let column = |side| move |index| ColumnIndex { index, side };
    let columns = (0..width)
        .map(column(JoinSide::Left))
        .chain((0..right.fields().len()).map(column(JoinSide::Right)));
    let filter = JoinFilter::new(
        Arc::new(condition),
        columns.collect(),
        Arc::new(Schema::new(all.collect::<Vec<_>>())),
    );
    Ok(Arc::new(NestedLoopJoinExec::try_new(
        Arc::clone(&join.buffered),
        Arc::clone(&join.streamed),
        Some(filter),
        &join.join_type,
        None,
    )?))
}

/// See the module documentation.
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
