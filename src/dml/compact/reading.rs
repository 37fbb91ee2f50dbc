//! What a compaction reads: the live rows of its sources, in the order in which they are to be written.
//!
//! Owns the plan of that scan and its sort. Does not own which sources, nor the writing.
//!
//! Invariant: each live row of the sources comes exactly once, with its id and address. Nothing is written, so a crash
//! leaves nothing.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};

use super::cluster::{self, ClusterBy};
use crate::dml::provider::TableAccess;
use crate::error::{Error, ErrorKind};
use crate::format::SuperfileId;
use crate::scan::schema::session_schema;
use crate::scan::{HiddenColumns, Only, ScanRequest, plan_scan};
use crate::table::Snapshot;

/// What a compaction reads: the live rows of `sources`.
pub(super) struct Reading<'a> {
    pub(super) access: &'a TableAccess,
    pub(super) context: &'a Arc<TaskContext>,
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) sources: &'a HashSet<SuperfileId>,
    /// One sort at a time, because several and the merge of what they sorted were too much for memory.
    pub(super) in_little_memory: bool,
}

impl Reading<'_> {
    pub(super) fn live_rows(&self) -> u64 {
        let entries = self.snapshot.manifest().entries();
        entries
            .filter(|entry| self.sources.contains(&entry.id))
            .map(|entry| entry.live_rows())
            .sum()
    }

    /// All columns with ids and addresses, or some columns without; as they are stored if `in_turn`.
    fn scan(&self, columns: Option<&[usize]>, in_turn: bool) -> Result<Arc<dyn ExecutionPlan>> {
        let access = self.access;
        if session_schema(&self.snapshot.schema()).fields() != access.schema.fields() {
            return Err(Error::new(
                ErrorKind::Conflict,
                access.location.root.to_string(),
                "the table's columns have changed since this session opened it; open it again",
            )
            .into());
        }
        let mut config = self.context.session_config().clone();
        if in_turn {
            // One partition reads the superfiles one after the other, and so keeps their order.
            config = config.with_target_partitions(1);
        }
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(self.context.runtime_env())
            .build();
        let all = columns.is_none();
        let request = ScanRequest {
            snapshot: Arc::clone(self.snapshot),
            schema: Arc::clone(&access.schema),
            hidden: HiddenColumns {
                row_id: all,
                address: all,
            },
            projection: columns,
            filters: &[],
            limit: None,
            dropped: None,
            subset: None,
            location: &access.location,
        };
        let only = Only {
            superfiles: self.sources.clone(),
            ..Only::default()
        };
        plan_scan(&state, request, Some(&only))
    }

    /// The rows in the declared order, or else as they are stored.
    pub(super) fn in_declared_order(&self) -> Result<Arc<dyn ExecutionPlan>> {
        let sort_order = &self.snapshot.metadata().sort_order;
        let scan = self.scan(None, sort_order.is_empty())?;
        let schema = scan.schema();
        let order = sort_order
            .iter()
            .map(|column| {
                Ok(PhysicalSortExpr::new(
                    Arc::new(Column::new_with_schema(&column.name, &schema)?),
                    SortOptions {
                        descending: column.descending,
                        nulls_first: column.nulls_first,
                    },
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(match LexOrdering::new(order) {
            None => scan,
            Some(order) => self.sorted(scan, order),
        })
    }

    /// The rows in the order of their places on a curve, and those places as one more column.
    pub(super) async fn along_curve(&self, by: &ClusterBy) -> Result<Arc<dyn ExecutionPlan>> {
        // First, because it finds out whether the table's columns are those that the session knows.
        let scan = self.scan(None, false)?;
        let columns = by.indices(&self.access.schema)?;
        let values = execute_stream(self.scan(Some(&columns), false)?, Arc::clone(self.context))?;
        let schema = scan.schema();
        let config = self.context.session_config().options();
        let key = cluster::key(by, values, self.live_rows(), &schema, config).await?;
        let mut exprs = (schema.fields().iter())
            .map(|field| {
                let column = Column::new_with_schema(field.name(), &schema)?;
                Ok(ProjectionExpr::new(Arc::new(column), field.name()))
            })
            .collect::<Result<Vec<_>>>()?;
        let at = exprs.len();
        exprs.push(ProjectionExpr::new(key, cluster::KEY));
        let keyed = Arc::new(ProjectionExec::try_new(exprs, scan)?);
        let by_key = PhysicalSortExpr::new_default(Arc::new(Column::new(cluster::KEY, at)));
        Ok(match LexOrdering::new([by_key]) {
            None => keyed,
            Some(order) => self.sorted(keyed, order),
        })
    }

    /// Sorted within the memory pool, with spilling: part by part, or in one.
    fn sorted(&self, rows: Arc<dyn ExecutionPlan>, order: LexOrdering) -> Arc<dyn ExecutionPlan> {
        if self.in_little_memory {
            let one = Arc::new(CoalescePartitionsExec::new(rows));
            return Arc::new(SortExec::new(order, one));
        }
        let sorted = SortExec::new(order.clone(), rows).with_preserve_partitioning(true);
        Arc::new(SortPreservingMergeExec::new(order, Arc::new(sorted)))
    }
}
