//! Row addresses gathered where they arise.
//!
//! Owns the operator between a `DELETE`'s plan and its sink. Each partition's thread turns its addresses into
//! chunks of bitmaps, so that few batches cross over to the sink's thread: waking that for every 8,192 rows,
//! and being interrupted by it, took a DELETE of 30 % of the rows a sixth of its time.
//!
//! Does not own what a chunk is (`collect`). Invariant: each address that comes in leaves in one chunk. A row
//! that comes twice is found here, or by the sink where its two arrivals lie in different chunks.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, stream};

use crate::dml::write::collect::{Addresses, CollectedRows, chunks_schema};

/// Bytes of chunks that a partition holds before it passes them on.
const PASS_ON_BYTES: usize = 1 << 20;

/// Its input's row addresses, as the chunks of [`CollectedRows`].
#[derive(Debug)]
pub(crate) struct GatherAddressesExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GatherAddressesExec {
    /// Over `input`, whose schema has the columns of a row's address.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(chunks_schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            input.boundedness(),
        );
        Self {
            input,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for GatherAddressesExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => f.write_str(self.name()),
            DisplayFormatType::TreeRender => Ok(()),
        }
    }
}

impl ExecutionPlan for GatherAddressesExec {
    fn name(&self) -> &'static str {
        "GatherAddressesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    // Rows that are dealt out to other threads first would be woken for as before.
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
            Ok([input]) => Ok(Arc::new(Self::new(input))),
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
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = self.input.execute(partition, Arc::clone(&context))?;
        let addresses = Addresses::of(&rows.schema())?;
        let gathered = CollectedRows::new(context.memory_pool());
        let chunks = stream::try_unfold(Some((rows, gathered)), move |state| {
            let metrics = metrics.clone();
            async move {
                let Some((mut rows, mut gathered)) = state else {
                    return Ok(None);
                };
                while let Some(batch) = rows.next().await.transpose()? {
                    let _timer = metrics.elapsed_compute().timer();
                    gathered.add(&batch, addresses)?;
                    if gathered.bytes() >= PASS_ON_BYTES {
                        let chunks = gathered.take_chunks()?;
                        metrics.record_output(chunks.num_rows());
                        return Ok(Some((chunks, Some((rows, gathered)))));
                    }
                }
                let chunks = gathered.take_chunks()?;
                metrics.record_output(chunks.num_rows());
                Ok(Some((chunks, None)))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            chunks,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The schema of what [`GatherAddressesExec`] yields.
pub(crate) fn is_gathered(schema: &SchemaRef) -> bool {
    *schema == chunks_schema()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use arrow::array::{Int32Array, Int64Array, RecordBatch};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_plan::collect_partitioned;

    use super::*;
    use crate::scan::row_address::{ADDRESS_FILE, ADDRESS_POSITION};

    fn addresses(positions: &[i64]) -> RecordBatch {
        RecordBatch::try_from_iter([
            (
                ADDRESS_FILE,
                Arc::new(Int32Array::from(vec![0; positions.len()])) as _,
            ),
            (
                ADDRESS_POSITION,
                Arc::new(Int64Array::from(positions.to_vec())) as _,
            ),
        ])
        .unwrap()
    }

    fn gather(partitions: &[Vec<RecordBatch>]) -> Arc<GatherAddressesExec> {
        let schema = addresses(&[]).schema();
        let rows = MemorySourceConfig::try_new_exec(partitions, schema, None).unwrap();
        Arc::new(GatherAddressesExec::new(rows))
    }

    /// 300 rows of each of the 200 first chunks: as bits, more than are held.
    fn many() -> Vec<i64> {
        (0..200_i64)
            .flat_map(|chunk| (0..300).map(move |i| chunk * 65_536 + i * 7))
            .collect()
    }

    #[tokio::test]
    async fn what_leaves_is_what_came_in_though_more_than_is_held() {
        let rows = many();
        let (ones, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| *row % 2 == 0);
        let partitions = [ones, others].map(|rows: Vec<i64>| {
            let batches = rows.chunks(1000).map(addresses);
            batches.collect::<Vec<_>>()
        });
        let context = Arc::new(TaskContext::default());
        let gathered = collect_partitioned(gather(&partitions), Arc::clone(&context));
        let gathered = gathered.await.unwrap();
        assert_eq!(gathered.len(), 2);
        let mut all = CollectedRows::new(context.memory_pool());
        for batch in gathered.iter().flatten() {
            assert!(is_gathered(&batch.schema()));
            all.add_chunks(batch).unwrap();
        }
        let (_, bitmap) = all.into_bitmaps().next().unwrap();
        let got: BTreeSet<i64> = bitmap.iter().map(i64::from).collect();
        assert_eq!(got, rows.into_iter().collect());
        assert_eq!(context.memory_pool().reserved(), 0);
    }

    #[tokio::test]
    async fn a_partition_holds_little_and_passes_the_rest_on() {
        let batches: Vec<_> = many().chunks(1000).map(addresses).collect();
        let pool = Arc::new(GreedyMemoryPool::new(PASS_ON_BYTES * 3 / 2));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc();
        let context = TaskContext::default().with_runtime(runtime.unwrap());
        let gathered = collect_partitioned(gather(&[batches]), Arc::new(context));
        assert_eq!(gathered.await.unwrap().concat().len(), 2);
    }

    #[tokio::test]
    async fn a_row_that_comes_twice_is_found_where_it_is_gathered_and_later() {
        let twice = [vec![addresses(&[5, 9]), addresses(&[9])]];
        let context = Arc::new(TaskContext::default());
        let gathered = collect_partitioned(gather(&twice), Arc::clone(&context)).await;
        assert!(gathered.is_err());
        let apart = [vec![addresses(&[5, 9])], vec![addresses(&[9])]];
        let gathered = collect_partitioned(gather(&apart), Arc::clone(&context)).await;
        let mut all = CollectedRows::new(context.memory_pool());
        let added = gathered.unwrap().concat();
        let added: Vec<_> = added.iter().map(|batch| all.add_chunks(batch)).collect();
        assert!(added.first().unwrap().is_ok() && added.last().unwrap().is_err());
    }
}
