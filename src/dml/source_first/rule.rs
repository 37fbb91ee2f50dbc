//! Which joins read their source first.
//!
//! Owns the rule that finds them: joins of the scan that yields the addresses of a statement's target with anything
//! else, on equal keys. Comes before the engine's own rules, which would decide how else to join.
//!
//! A join that the engine knows to have a smaller target than source is left to it: the target is then what is kept
//! in memory.
//!
//! Invariants: only joins are pruned by keys in which a row of the target without a partner does not survive; and only by
//! a key that is a column of the table, or a cast of one that keeps all its values apart and in order.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality, Result, config_err};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::{JoinFilter, JoinOn, reorder_output_after_swap};
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, PhysicalExpr};

use super::exec::{Join, PrunedBy, SourceFirstJoinExec};
use super::keys::has_ranges;
use crate::dml::sound::loses_nothing;
use crate::scan::read::keys::KeyFilter;
use crate::scan::read::source::SupertableSource;
use crate::scan::row_address::is_reserved;

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct SourceFirst;

impl PhysicalOptimizerRule for SourceFirst {
    fn name(&self) -> &str {
        "supertable_source_first"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        source_first(plan, config)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Leaves all joins of a session to the engine, which knows how to execute them in several processes. Not a setting:
/// it has no entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineJoins;

impl ConfigExtension for EngineJoins {
    const PREFIX: &'static str = "supertable_joins";
}

impl ExtensionOptions for EngineJoins {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(*self)
    }

    fn set(&mut self, key: &str, _value: &str) -> Result<()> {
        config_err!("there is no option {}.{key}", Self::PREFIX)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// `plan`, where each join of a statement's source and target reads the source first.
pub(crate) fn source_first(
    plan: Arc<dyn ExecutionPlan>,
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    if config.extensions.get::<EngineJoins>().is_some() || !has_addresses(&plan)? {
        return Ok(plan);
    }
    let replaced = plan.transform_up(|node| {
        Ok(match replaced(&node)? {
            Some(join) => Transformed::yes(join),
            None => Transformed::no(node),
        })
    })?;
    Ok(replaced.data)
}

/// The rows of `source` with those of the table's scan `target` that have the same keys: each pair of them a column of
/// the one and of the other, of one type.
///
/// # Errors
/// The scan cannot take a filter.
pub(crate) fn joined_source_first(
    source: Arc<dyn ExecutionPlan>,
    target: Arc<dyn ExecutionPlan>,
    on: JoinOn,
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let source: Arc<dyn ExecutionPlan> = match source.output_partitioning().partition_count() {
        1 => source,
        _ => Arc::new(CoalescePartitionsExec::new(source)),
    };
    let join = Join {
        source,
        target,
        on,
        filter: None,
        join_type: JoinType::Inner,
        null_equality: NullEquality::NullEqualsNothing,
    };
    let pruned_by = pruned_by(&join)?;
    let plan = Arc::new(SourceFirstJoinExec::new(join, pruned_by));
    FilterPushdown::new_post_optimization().optimize(plan, config)
}

fn replaced(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some((join, may_leave)) = join_of(node) else {
        return Ok(None);
    };
    let (left, right) = (has_addresses(&join.source)?, has_addresses(&join.target)?);
    let swapped = match (left, right) {
        (false, true) => false,
        (true, false) => true,
        _ => return Ok(None),
    };
    let (first, second) = (join.source.schema(), join.target.schema());
    let join = if swapped { swap(join) } else { join };
    if !matches!(
        join.join_type,
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full | JoinType::RightSemi
    ) || join.on.is_empty()
    {
        return Ok(None);
    }
    if may_leave && is_smaller(&join.target, &join.source) {
        return Ok(None);
    }
    let join_type = join.join_type;
    let pruned_by = pruned_by(&join)?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(SourceFirstJoinExec::new(join, pruned_by));
    // A semi join yields the columns of one side.
    Ok(Some(match swapped && join_type != JoinType::RightSemi {
        true => reorder_output_after_swap(plan, &first, &second)?,
        false => plan,
    }))
}

/// The join that `node` is, its left side for the source; and whether the engine may choose what it keeps in memory.
fn join_of(node: &Arc<dyn ExecutionPlan>) -> Option<(Join, bool)> {
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        if join.contains_projection() || join.null_aware || join.fetch().is_some() {
            return None;
        }
        let join = Join {
            source: Arc::clone(join.left()),
            target: Arc::clone(join.right()),
            on: join.on().to_vec(),
            filter: join.filter().cloned(),
            join_type: *join.join_type(),
            null_equality: join.null_equality(),
        };
        return Some((join, true));
    }
    let join = node.downcast_ref::<SortMergeJoinExec>()?;
    let join = Join {
        source: Arc::clone(join.left()),
        target: Arc::clone(join.right()),
        on: join.on().to_vec(),
        filter: join.filter().clone(),
        join_type: join.join_type(),
        null_equality: join.null_equality(),
    };
    Some((join, false))
}

fn swap(join: Join) -> Join {
    Join {
        source: join.target,
        target: join.source,
        on: join.on.into_iter().map(|(l, r)| (r, l)).collect(),
        filter: join.filter.as_ref().map(JoinFilter::swap),
        join_type: join.join_type.swap(),
        null_equality: join.null_equality,
    }
}

fn scan_of(node: &Arc<dyn ExecutionPlan>) -> Option<&SupertableSource> {
    let scan = node.downcast_ref::<DataSourceExec>()?;
    let config = scan.data_source().downcast_ref::<FileScanConfig>()?;
    config.file_source.downcast_ref::<SupertableSource>()
}

/// Whether `plan` reads a statement's target.
fn has_addresses(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut found = false;
    plan.apply(|node| {
        found |= scan_of(node).is_some_and(SupertableSource::yields_addresses);
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// Whether `one` is known to have fewer rows than `other`.
fn is_smaller(one: &Arc<dyn ExecutionPlan>, other: &Arc<dyn ExecutionPlan>) -> bool {
    let statistics = StatisticsContext::new();
    let rows = |plan: &Arc<dyn ExecutionPlan>| {
        let known = statistics.compute(plan.as_ref(), &StatisticsArgs::new());
        known.ok()?.num_rows.get_value().copied()
    };
    match (rows(one), rows(other)) {
        (Some(one), Some(other)) => one < other,
        _ => false,
    }
}

fn pruned_by(join: &Join) -> Result<Vec<PrunedBy>> {
    let drops_others = matches!(
        join.join_type,
        JoinType::Inner | JoinType::Left | JoinType::RightSemi
    );
    if !drops_others || join.null_equality != NullEquality::NullEqualsNothing {
        return Ok(Vec::new());
    }
    let (source, target) = (join.source.schema(), join.target.schema());
    let mut pruned_by = Vec::new();
    for (key, (of_source, of_target)) in join.on.iter().enumerate() {
        let data_type = of_target.data_type(&target)?;
        if of_source.data_type(&source)? == data_type
            && has_ranges(&data_type)
            && is_column(&join.target, of_target)?
        {
            pruned_by.push(PrunedBy {
                key,
                filter: KeyFilter::new(Arc::clone(of_target)),
            });
        }
    }
    Ok(pruned_by)
}

/// Whether `expr` over `plan` is a column that the table has, or a cast of one to a type with all its values in their
/// order; and filters by it reach the scan, which know columns by their names.
fn is_column(plan: &Arc<dyn ExecutionPlan>, expr: &Arc<dyn PhysicalExpr>) -> Result<bool> {
    let schema = plan.schema();
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let from = cast.expr().data_type(&schema)?;
        return Ok(cast.expr().is::<Column>()
            && has_ranges(&from)
            && loses_nothing(&from, &expr.data_type(&schema)?)
            && is_column(plan, cast.expr())?);
    }
    let Some(column) = expr.downcast_ref::<Column>() else {
        return Ok(false);
    };
    let named = |name: &str| schema.fields().iter().filter(|f| f.name() == name).count();
    if named(column.name()) != 1 {
        return Ok(false);
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return match projection.expr().get(column.index()) {
            Some(projected) => is_column(projection.input(), &projected.expr),
            None => Ok(false),
        };
    }
    let same: Option<&Arc<dyn ExecutionPlan>> = match plan.downcast_ref::<FilterExec>() {
        Some(filter) => filter.projection().is_none().then(|| filter.input()),
        None => plan
            .downcast_ref::<SourceFirstJoinExec>()
            .and_then(SourceFirstJoinExec::filtered_target),
    };
    match same {
        Some(input) => is_column(input, expr),
        None => Ok(scan_of(plan).is_some() && !is_reserved(column.name())),
    }
}
