//! The node that reads a source first, and then joins it with the target.
//!
//! | source | join | what the target's scan leaves out |
//! | --- | --- | --- |
//! | fits in its share of the memory pool | by a hash table of the source | what lies outside of its ranges of keys |
//! | does not fit | it goes to disk, both sides are sorted, which spills | what lies outside of its first and last key |
//!
//! Owns the execution. Does not own which joins it stands for (`rule`).
//!
//! Invariants: the source is evaluated once, whatever it is joined by. The target's scan begins after the keys are known,
//! and only where a row of the target without a partner does not survive the join are there filters by keys.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::common::{
    DataFusionError, JoinType, NullEquality, Result, Statistics, internal_err,
};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, FilterDescription, FilterPushdownPhase,
};
use datafusion::physical_plan::joins::utils::{JoinFilter, JoinOn, build_join_schema};
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};
use datafusion::physical_plan::metrics::{
    ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, SpillMetrics,
};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PhysicalExpr, PlanProperties, SpillManager,
};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::hashed::{HashFilter, MayHaveKey, hashes};
use super::keys::{Bounds, has_ranges, ranges_of};
use super::spilled::SpilledRows;
use crate::dml::sound::with_safe_filter;
use crate::dml::write::spill::SHARE;
use crate::scan::read::keys::{KeyFilter, KeyRanges};

/// A hash table of fewer keys is in the processor's cache.
const MANY_KEYS: usize = 32_768;
/// A target with fewer rows for each key is not worth a filter.
const MORE_ROWS: usize = 2;

/// A join, as `source join_type target`.
#[derive(Debug, Clone)]
pub(super) struct Join {
    pub(super) source: Arc<dyn ExecutionPlan>,
    pub(super) target: Arc<dyn ExecutionPlan>,
    pub(super) on: JoinOn,
    pub(super) filter: Option<JoinFilter>,
    pub(super) join_type: JoinType,
    pub(super) null_equality: NullEquality,
}

/// A filter of the target by a key: by which one of the join's.
#[derive(Debug, Clone)]
pub(super) struct PrunedBy {
    pub(super) key: usize,
    pub(super) filter: KeyFilter,
}

type Joined = Shared<BoxFuture<'static, Result<Arc<dyn ExecutionPlan>, Arc<DataFusionError>>>>;

/// See the module documentation.
pub(crate) struct SourceFirstJoinExec {
    join: Join,
    pruned_by: Vec<PrunedBy>,
    joined: Mutex<Option<Joined>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SourceFirstJoinExec {
    pub(super) fn new(join: Join, pruned_by: Vec<PrunedBy>) -> Self {
        let (source, target) = (join.source.schema(), join.target.schema());
        let (schema, _) = build_join_schema(&source, &target, &join.join_type);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(schema)),
            Partitioning::UnknownPartitioning(join.target.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            join,
            pruned_by,
            joined: Mutex::new(None),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The target of a join that yields nothing but its rows.
    pub(super) fn filtered_target(&self) -> Option<&Arc<dyn ExecutionPlan>> {
        (self.join.join_type == JoinType::RightSemi).then_some(&self.join.target)
    }

    /// The plan that joins, once the source is read.
    fn joined(&self, context: &Arc<TaskContext>) -> Joined {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        joined
            .get_or_insert_with(|| {
                let reading = ReadSource {
                    join: self.join.clone(),
                    pruned_by: self.pruned_by.clone(),
                    metrics: self.metrics.clone(),
                    context: Arc::clone(context),
                };
                reading.run().map(|r| r.map_err(Arc::new)).boxed().shared()
            })
            .clone()
    }
}

impl fmt::Debug for SourceFirstJoinExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFirstJoinExec")
            .field("join", &self.join)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for SourceFirstJoinExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<String> = self
            .join
            .on
            .iter()
            .map(|(source, target)| format!("({source}, {target})"))
            .collect();
        let pruned_by: Vec<String> = self
            .pruned_by
            .iter()
            .map(|by| by.filter.column().to_string())
            .collect();
        let (on, pruned_by) = (on.join(", "), pruned_by.join(", "));
        let join_type = self.join.join_type;
        if matches!(t, DisplayFormatType::TreeRender) {
            writeln!(f, "join_type={join_type}")?;
            writeln!(f, "on={on}")?;
            return writeln!(f, "pruned_by={pruned_by}");
        }
        write!(f, "{}: join_type={join_type}, on=[{on}]", self.name())?;
        if let Some(filter) = &self.join.filter {
            write!(f, ", filter={}", filter.expression())?;
        }
        write!(f, ", pruned_by=[{pruned_by}]")
    }
}

impl ExecutionPlan for SourceFirstJoinExec {
    fn name(&self) -> &'static str {
        "SourceFirstJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.join.source, &self.join.target]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![
            Distribution::SinglePartition,
            Distribution::UnspecifiedDistribution,
        ]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, true]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let keys = self.join.on.iter().flat_map(|(s, t)| [s, t]);
        let filter = self.join.filter.iter().map(JoinFilter::expression);
        for expr in keys.chain(filter) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 2]>::try_from(children) {
            Ok([source, target]) => {
                let join = Join {
                    source,
                    target,
                    ..self.join.clone()
                };
                Ok(Arc::new(Self::new(join, self.pruned_by.clone())))
            }
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

    fn gather_filters_for_pushdown(
        &self,
        phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let source = ChildFilterDescription::all_unsupported(&parent_filters);
        let target = match self.filtered_target() {
            Some(target) if has_own_names(&target.schema()) => {
                ChildFilterDescription::from_child(&parent_filters, target)?
            }
            _ => ChildFilterDescription::all_unsupported(&parent_filters),
        };
        let own: Vec<Arc<dyn PhysicalExpr>> = match phase {
            FilterPushdownPhase::Pre => Vec::new(),
            FilterPushdownPhase::Post => self
                .pruned_by
                .iter()
                .map(|by| Arc::new(by.filter.clone()) as _)
                .collect(),
        };
        Ok(FilterDescription::new()
            .with_child(source)
            .with_child(target.with_self_filters(own)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let joined = self.joined(&context);
        let rows = stream::once(async move {
            let joined = joined.await.map_err(DataFusionError::Shared)?;
            joined.execute(partition, context)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            rows.try_flatten(),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut all = self.metrics.clone_inner();
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(join)) = joined.as_ref().and_then(Shared::peek) {
            for metric in join.metrics().iter().flat_map(MetricsSet::iter) {
                all.push(Arc::clone(metric));
            }
        }
        Some(all)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::Skip, ChildStats::At(partition)]
    }

    /// About as many rows as the target has: what stands above may have to know which of its inputs is large.
    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        if let Some(target) = inputs.last() {
            statistics.num_rows = target.num_rows.to_inexact();
        }
        Ok(Arc::new(statistics))
    }
}

/// Whether each column has a name of its own: filters know them by their names.
fn has_own_names(schema: &SchemaRef) -> bool {
    let names: HashSet<&String> = schema.fields().iter().map(|field| field.name()).collect();
    names.len() == schema.fields().len()
}

/// What is done before the join.
struct ReadSource {
    join: Join,
    pruned_by: Vec<PrunedBy>,
    metrics: ExecutionPlanMetricsSet,
    context: Arc<TaskContext>,
}

/// The rows of a source.
enum Source {
    InMemory(Vec<RecordBatch>),
    OnDisk(SpilledRows),
}

impl ReadSource {
    async fn run(self) -> Result<Arc<dyn ExecutionPlan>> {
        let (source, keys) = self.read().await?;
        let key_ranges = MetricBuilder::new(&self.metrics).global_counter("key_ranges");
        let mut join = self.join;
        if let Source::InMemory(batches) = &source
            && !self.pruned_by.is_empty()
        {
            join.target = without_other_keys(&join, batches, &self.context)?;
        }
        for (by, ranges) in self.pruned_by.into_iter().zip(keys) {
            key_ranges.add(ranges.len());
            if ranges.is_empty() {
                // No row of the source equals any.
                let partitions = join.target.output_partitioning().partition_count();
                let nothing = EmptyExec::new(join.target.schema()).with_partitions(partitions);
                join.target = Arc::new(nothing);
            }
            by.filter.learn(ranges)?;
        }
        match source {
            Source::InMemory(batches) => by_hash_table(join, batches),
            Source::OnDisk(rows) => by_sorting(join, rows),
        }
    }

    /// The source's rows, and the ranges of the keys that the target is pruned by.
    async fn read(&self) -> Result<(Source, Vec<KeyRanges>)> {
        let schema = self.join.source.schema();
        let runtime = self.context.runtime_env();
        let share = match self.context.memory_pool().memory_limit() {
            MemoryLimit::Finite(limit) if runtime.disk_manager.tmp_files_enabled() => limit / SHARE,
            _ => usize::MAX,
        };
        let source_rows = MetricBuilder::new(&self.metrics).global_counter("source_rows");
        let spills = SpillMetrics::new(&self.metrics, 0);
        // The join's own reservation takes this one's place.
        let reservation = MemoryConsumer::new("SourceFirstJoin")
            .with_can_spill(share < usize::MAX)
            .register(self.context.memory_pool());
        let mut memory = RecordBatchMemoryCounter::new();
        let mut batches = Vec::new();
        let mut rows = self.join.source.execute(0, Arc::clone(&self.context))?;
        let first_on_disk = loop {
            let Some(batch) = rows.next().await.transpose()? else {
                let keys = self
                    .keys()
                    .map(|key| ranges_of(key, &batches))
                    .collect::<Result<Vec<_>>>()?;
                return Ok((Source::InMemory(batches), keys));
            };
            source_rows.add(batch.num_rows());
            let bytes = memory.count_batch(&batch);
            let fits = memory.memory_usage() <= share;
            match reservation.try_grow(bytes) {
                Ok(()) if fits => batches.push(batch),
                Err(error) if share == usize::MAX => return Err(error),
                _ => break batch,
            }
        };
        let manager = SpillManager::new(runtime, spills, Arc::clone(&schema));
        let mut file = manager.create_in_progress_file("the source of a join")?;
        let mut bounds: Vec<Bounds> = self.keys().map(|_| Bounds::default()).collect();
        let mut spill = |batch: &RecordBatch| -> Result<()> {
            for (bounds, key) in bounds.iter_mut().zip(self.keys()) {
                bounds.add(key, batch)?;
            }
            if batch.num_rows() > 0 {
                file.append_batch(batch)?;
            }
            Ok(())
        };
        for batch in batches.drain(..) {
            spill(&batch)?;
        }
        drop(memory);
        reservation.free();
        spill(&first_on_disk)?;
        while let Some(batch) = rows.next().await.transpose()? {
            source_rows.add(batch.num_rows());
            spill(&batch)?;
        }
        let file = file.finish()?;
        let keys = bounds.into_iter().map(Bounds::ranges).collect();
        Ok((Source::OnDisk(SpilledRows { manager, file }), keys))
    }

    /// The source's side of the keys that the target is pruned by.
    fn keys(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        let on = &self.join.on;
        self.pruned_by
            .iter()
            .filter_map(|by| Some(&on.get(by.key)?.0))
    }
}

/// The target without most of the rows that have no partner, if there are many keys and many more rows.
fn without_other_keys(
    join: &Join,
    batches: &[RecordBatch],
    context: &TaskContext,
) -> Result<Arc<dyn ExecutionPlan>> {
    let target = || Ok(Arc::clone(&join.target));
    let keys: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let known = StatisticsContext::new().compute(join.target.as_ref(), &StatisticsArgs::new());
    let rows = known
        .ok()
        .and_then(|known| known.num_rows.get_value().copied());
    if keys < MANY_KEYS || rows.is_none_or(|rows| rows < keys.saturating_mul(MORE_ROWS)) {
        return target();
    }
    let (source, target_schema) = (join.source.schema(), join.target.schema());
    for (of_source, of_target) in &join.on {
        let data_type = of_target.data_type(&target_schema)?;
        if of_source.data_type(&source)? != data_type || !has_ranges(&data_type) {
            return target();
        }
    }
    let memory = MemoryConsumer::new("SourceFirstJoin").register(context.memory_pool());
    if memory.try_grow(HashFilter::memory_of(keys)).is_err() {
        return target();
    }
    let mut filter = HashFilter::for_keys(keys);
    for batch in batches {
        let columns = (join.on.iter())
            .map(|(key, _)| key.evaluate(batch)?.into_array(batch.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        for hash in hashes(&columns, batch.num_rows())? {
            filter.insert(hash);
        }
    }
    let key = join.on.iter().map(|(_, key)| Arc::clone(key)).collect();
    let may_have = Arc::new(MayHaveKey::new(key, filter, memory));
    Ok(Arc::new(FilterExec::try_new(may_have, target()?)?))
}

fn by_hash_table(join: Join, batches: Vec<RecordBatch>) -> Result<Arc<dyn ExecutionPlan>> {
    let source = MemorySourceConfig::try_new_exec(&[batches], join.source.schema(), None)?;
    Ok(Arc::new(HashJoinExec::try_new(
        source,
        join.target,
        join.on,
        join.filter,
        &join.join_type,
        None,
        PartitionMode::CollectLeft,
        join.null_equality,
        false,
    )?))
}

fn by_sorting(join: Join, rows: SpilledRows) -> Result<Arc<dyn ExecutionPlan>> {
    let schema: SchemaRef = join.source.schema();
    let source = StreamingTableExec::try_new(schema, vec![Arc::new(rows)], None, [], false, None)?;
    let partitions = join.target.output_partitioning().partition_count();
    let (source_keys, target_keys): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
    let joined: Arc<dyn ExecutionPlan> = Arc::new(SortMergeJoinExec::try_new(
        sorted(Arc::new(source), source_keys, partitions)?,
        sorted(join.target, target_keys, partitions)?,
        join.on.clone(),
        join.filter,
        join.join_type,
        vec![SortOptions::default(); join.on.len()],
        join.null_equality,
    )?);
    with_safe_filter(&joined)
}

fn sorted(
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    partitions: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let order = keys.iter().map(|key| PhysicalSortExpr {
        expr: Arc::clone(key),
        options: SortOptions::default(),
    });
    let Some(order) = LexOrdering::new(order) else {
        return internal_err!("a join that is sorted has no keys");
    };
    let input: Arc<dyn ExecutionPlan> = match partitions {
        1 => input,
        _ => Arc::new(RepartitionExec::try_new(
            input,
            Partitioning::Hash(keys, partitions),
        )?),
    };
    let sort = SortExec::new(order, input).with_preserve_partitioning(true);
    Ok(Arc::new(sort))
}
