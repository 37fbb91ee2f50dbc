//! `VALUES` of an `INSERT`, whose columns may hold NULL.
//!
//! Owns that change of the plan's schema.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::LogicalPlan;

/// The rows of an `INSERT`, where its VALUES may hold NULL whatever the table's columns may: the sink says which
/// column may not.
///
/// # Errors
/// What building a plan can raise.
pub(crate) fn with_nullable_values(rows: LogicalPlan) -> Result<LogicalPlan> {
    let rows = rows.transform_up(|node| match node {
        LogicalPlan::Values(mut values) => {
            let fields = values.schema.iter().map(|(qualifier, field)| {
                let field = field.as_ref().clone().with_nullable(true);
                (qualifier.cloned(), Arc::new(field))
            });
            let metadata = values.schema.metadata().clone();
            let schema = DFSchema::new_with_metadata(fields.collect(), metadata)?;
            values.schema = Arc::new(schema);
            Ok(Transformed::yes(LogicalPlan::Values(values)))
        }
        LogicalPlan::TableScan(_) => Ok(Transformed::no(node)),
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    })?;
    Ok(rows.data)
}
