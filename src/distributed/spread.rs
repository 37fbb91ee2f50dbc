//! Whether a plan that was cut into stages means what it meant before.
//!
//! The engine that cuts a plan has rules about which nodes may run in several tasks at once. This is a second opinion,
//! made for one question: does each row come once? Owns the answer for the nodes that it knows; a plan with others
//! runs on the coordinator.
//!
//! | rows of a node, over the tasks of its stage | are |
//! | --- | --- |
//! | a scan that was dealt out, or a shuffle | spread: each in one task |
//! | a broadcast | everywhere: all in each task |
//!
//! Invariants: what a stage hands on is spread; a node that has to see all rows at once sees rows that are everywhere;
//! one that has to see all rows of a key sees rows that a shuffle brought together; and a join gives out rows of a side
//! that is everywhere only with a row of one that is spread.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::partial_sort::PartialSortExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{Distribution, ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{
    BroadcastExec, DistributedLeafExec, NetworkBoundaryExt, NetworkBroadcastExec,
    NetworkShuffleExec, Stage,
};

use crate::dml::write::gather::GatherAddressesExec;

/// Where the rows of a node are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// Each in one task; those of one key in one, if `by_key`.
    Spread { by_key: bool },
    /// All in each task.
    Everywhere,
}

/// Why a plan stays on the coordinator.
pub(super) type Reason = String;

/// The stages below `plan`, which is itself one of one task.
///
/// # Errors
/// The node that may see too few rows, or give out too many.
pub(super) fn stages(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Arc<dyn ExecutionPlan>>, Reason> {
    let mut found = Vec::new();
    collect(plan, &mut found)?;
    Ok(found)
}

fn collect(
    node: &Arc<dyn ExecutionPlan>,
    found: &mut Vec<Arc<dyn ExecutionPlan>>,
) -> Result<(), Reason> {
    let Some(boundary) = node.as_network_boundary() else {
        let before = found.len();
        node.children()
            .into_iter()
            .try_for_each(|child| collect(child, found))?;
        // The rows of a stage come once; a query that calls itself, for one, would ask for them again.
        return match found.len() == before || reads_once(node) {
            true => Ok(()),
            false => Err(format!("{} is not known", node.name())),
        };
    };
    let Stage::Local(stage) = boundary.input_stage() else {
        return Err("a stage was begun while it was planned".to_owned());
    };
    if stage.tasks > 1 && rows(&stage.plan, stage.tasks)? == Rows::Everywhere {
        return Err(format!(
            "{} would give out its rows more than once",
            stage.plan.name()
        ));
    }
    found.push(Arc::clone(&stage.plan));
    collect(&stage.plan, found)
}

/// Whether a node is known to read each of its inputs once.
fn reads_once(node: &Arc<dyn ExecutionPlan>) -> bool {
    const OTHERS: [&str; 7] = [
        "DistributedExec",
        "DistributedAnalyzeExec",
        "AnalyzeExec",
        "DataSinkExec",
        "PartitionedSinkExec",
        "SupertableSort",
        "OutputRequirementExec",
    ];
    is_union(node)
        || has_one_input(node)
        || join_type(node).is_some()
        || OTHERS.contains(&node.name())
}

/// Where the rows of `node` are, in a stage of several tasks.
fn rows(node: &Arc<dyn ExecutionPlan>, tasks: usize) -> Result<Rows, Reason> {
    let name = node.name();
    if node.is::<NetworkShuffleExec>() {
        return Ok(Rows::Spread { by_key: true });
    }
    if node.is::<NetworkBroadcastExec>() {
        return Ok(Rows::Everywhere);
    }
    if let Some(leaf) = node.downcast_ref::<DistributedLeafExec>() {
        // What stands above a scan of one partition may rely on that; a limit may be left to the scan itself.
        let partitions = leaf.original().output_partitioning().partition_count();
        return match leaf.variants().len() == tasks && partitions > 1 {
            true => Ok(Rows::Spread { by_key: false }),
            false => Err(format!("{name} cannot be executed {tasks} times")),
        };
    }
    let children = node.children();
    if children.is_empty() || node.is_network_boundary() {
        return Err(format!("{name} would be executed {tasks} times"));
    }
    let below = children
        .iter()
        .map(|child| rows(child, tasks))
        .collect::<Result<Vec<_>, _>>()?;
    for (wanted, rows) in node
        .input_distribution_requirements()
        .into_per_child()
        .iter()
        .zip(&below)
    {
        let enough = match wanted {
            Distribution::SinglePartition => *rows == Rows::Everywhere,
            Distribution::UnspecifiedDistribution => true,
            _ => matches!(rows, Rows::Everywhere | Rows::Spread { by_key: true }),
        };
        if !enough {
            return Err(format!("{name} would not see all rows that it has to"));
        }
    }
    match below.as_slice() {
        [rows] => one_input(node, *rows),
        [left, right] if !is_union(node) => joined(node, *left, *right),
        all if is_union(node) => union(node, all),
        _ => Err(format!("{name} is not known")),
    }
}

fn is_union(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<UnionExec>() || node.is::<InterleaveExec>()
}

fn union(node: &Arc<dyn ExecutionPlan>, all: &[Rows]) -> Result<Rows, Reason> {
    if all.contains(&Rows::Everywhere) {
        return Err("a UNION would have rows of an input more than once".to_owned());
    }
    let by_key = all
        .iter()
        .all(|rows| *rows == Rows::Spread { by_key: true });
    Ok(Rows::Spread {
        by_key: by_key && node.is::<InterleaveExec>(),
    })
}

fn one_input(node: &Arc<dyn ExecutionPlan>, rows: Rows) -> Result<Rows, Reason> {
    // Merges the partitions of one task, after which those of others would be missed.
    let merges = node.is::<CoalescePartitionsExec>() || node.is::<SortPreservingMergeExec>();
    if merges && rows != Rows::Everywhere {
        return Err(format!("{} would merge the rows of one task", node.name()));
    }
    if node.is::<RepartitionExec>() && rows != Rows::Everywhere {
        return Ok(Rows::Spread { by_key: false });
    }
    match has_one_input(node) {
        true => Ok(rows),
        false => Err(format!("{} is not known", node.name())),
    }
}

/// Whether it is one of the known nodes with one input. (What a broadcast hands on, its consumers have everywhere; in
/// its own stage each task has its part.)
fn has_one_input(node: &Arc<dyn ExecutionPlan>) -> bool {
    const OTHERS: [&str; 3] = ["CooperativeExec", "CoalesceBatchesExec", "BufferExec"];
    node.is::<CoalescePartitionsExec>()
        || node.is::<SortPreservingMergeExec>()
        || node.is::<RepartitionExec>()
        || node.is::<BroadcastExec>()
        || node.is::<GatherAddressesExec>()
        || node.is::<AggregateExec>()
        || node.is::<FilterExec>()
        || node.is::<ProjectionExec>()
        || node.is::<SortExec>()
        || node.is::<PartialSortExec>()
        || node.is::<LocalLimitExec>()
        || node.is::<GlobalLimitExec>()
        || node.is::<UnnestExec>()
        || node.is::<WindowAggExec>()
        || node.is::<BoundedWindowAggExec>()
        || OTHERS.contains(&node.name())
}

/// How a join joins; none, if it is not a known one.
fn join_type(node: &Arc<dyn ExecutionPlan>) -> Option<JoinType> {
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        Some(*join.join_type())
    } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        Some(*join.join_type())
    } else if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        Some(join.join_type())
    } else if node.is::<CrossJoinExec>() {
        Some(JoinType::Inner)
    } else {
        None
    }
}

fn joined(node: &Arc<dyn ExecutionPlan>, left: Rows, right: Rows) -> Result<Rows, Reason> {
    let spread = |rows: Rows| matches!(rows, Rows::Spread { .. });
    let Some(join_type) = join_type(node) else {
        return Err(format!("{} is not known", node.name()));
    };
    let null_aware = node.downcast_ref::<HashJoinExec>();
    if null_aware.is_some_and(|join| join.null_aware) && (spread(left) || spread(right)) {
        return Err("NOT IN has to see all rows of both sides".to_owned());
    }
    let both_by_key = [left, right]
        .iter()
        .all(|rows| *rows == Rows::Spread { by_key: true });
    let keys_wanted = node
        .input_distribution_requirements()
        .into_per_child()
        .iter()
        .all(|wanted| {
            !matches!(
                wanted,
                Distribution::SinglePartition | Distribution::UnspecifiedDistribution
            )
        });
    // Of a side that is everywhere only pairs may be given out, or what says something about a row of the other.
    let gives_out_right = matches!(
        join_type,
        JoinType::Inner
            | JoinType::Right
            | JoinType::RightSemi
            | JoinType::RightAnti
            | JoinType::RightMark
    );
    match (left, right) {
        (Rows::Everywhere, Rows::Everywhere) => Ok(Rows::Everywhere),
        _ if both_by_key && keys_wanted => Ok(Rows::Spread { by_key: true }),
        (Rows::Everywhere, right) if spread(right) && gives_out_right => Ok(right),
        _ => Err(format!(
            "{} would miss pairs of rows, or give some out twice",
            node.name()
        )),
    }
}
