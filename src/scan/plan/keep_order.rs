//! Scans that promise an order keep it, whatever the optimiser does with limits.
//!
//! DataFusion 55 takes the promise back when it pushes a limit through a merge of ordered partitions
//! (apache/datafusion#24272): from then on partitions take files from one another as they get ready, and a
//! partition is in no order any more. The merge above still relies on it, and `ORDER BY … LIMIT` yields other
//! rows, by chance.
//!
//! Owns the rule that runs last and renews the promise for scans of supertables.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::scan::read::source::SupertableSource;

/// The rule; see the module documentation.
#[derive(Debug, Default)]
pub(crate) struct KeepScanOrder;

impl PhysicalOptimizerRule for KeepScanOrder {
    fn name(&self) -> &str {
        "supertable_keep_scan_order"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan
            .transform_up(|node| {
                let Some(scan) = node
                    .downcast_ref::<DataSourceExec>()
                    .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>())
                else {
                    return Ok(Transformed::no(node));
                };
                let is_ours = scan
                    .file_source
                    .downcast_ref::<SupertableSource>()
                    .is_some();
                if !is_ours || scan.preserve_order || scan.output_ordering.is_empty() {
                    return Ok(Transformed::no(node));
                }
                let mut kept = scan.clone();
                kept.preserve_order = true;
                Ok(Transformed::yes(DataSourceExec::from_data_source(kept)))
            })?
            .data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}
