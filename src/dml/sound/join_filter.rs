//! Sort-merge joins whose filter may see rows without a partner.
//!
//! DataFusion 55.2 evaluates the filter of an outer sort-merge join for such rows too, and builds their batch with
//! the inputs' own nullability: a `NOT NULL` column of the other side then fails the statement ("declared as
//! non-nullable but contains null values"). A `MERGE` meets it in a bounded pool, where it sorts in order to spill.
//!
//! Owns the rule that declares the columns of such a filter nullable. The filter's answer stays as it is.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::SortMergeJoinExec;
use datafusion::physical_plan::joins::utils::JoinFilter;

/// The rule; see the module documentation.
#[derive(Debug, Default)]
pub(crate) struct NullableJoinFilter;

impl PhysicalOptimizerRule for NullableJoinFilter {
    fn name(&self) -> &str {
        "supertable_nullable_join_filter"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan
            .transform_up(|node| {
                let Some(join) = node.downcast_ref::<SortMergeJoinExec>() else {
                    return Ok(Transformed::no(node));
                };
                Ok(match with_nullable_filter(join)? {
                    Some(join) => Transformed::yes(Arc::new(join)),
                    None => Transformed::no(node),
                })
            })?
            .data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn with_nullable_filter(join: &SortMergeJoinExec) -> Result<Option<SortMergeJoinExec>> {
    let Some(filter) = join.filter() else {
        return Ok(None);
    };
    let fields = filter.schema().fields();
    if join.join_type() == JoinType::Inner || fields.iter().all(|field| field.is_nullable()) {
        return Ok(None);
    }
    let nullable: Fields = fields.iter().map(nullable).collect();
    let schema = Schema::new_with_metadata(nullable, filter.schema().metadata().clone());
    let filter = JoinFilter::new(
        Arc::clone(filter.expression()),
        filter.column_indices().to_vec(),
        Arc::new(schema),
    );
    SortMergeJoinExec::try_new(
        Arc::clone(join.left()),
        Arc::clone(join.right()),
        join.on().to_vec(),
        Some(filter),
        join.join_type(),
        join.sort_options().to_vec(),
        join.null_equality(),
    )
    .map(Some)
}

fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_nullable(true))
}
