//! Whether a stage arrives at a worker as what it is.
//!
//! Owns the trial: a stage is written down, read again, and compared. What cannot be written down, or comes out as
//! something else, runs on the coordinator. Functions are compared too: a worker knows them by name.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{DistributedCodec, DistributedLeafExec, NetworkBoundaryExt};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_proto_converter, physical_plan_to_bytes_with_proto_converter,
};
use datafusion_proto::physical_plan::DeduplicatingProtoConverter;

use super::deal::scan_of;
use super::functions::{own_function, own_functions};
use super::leaf::WorkerScanExec;
use super::spread::Reason;

/// A worker's view of the functions that a session has.
pub(super) fn worker_context(session: &TaskContext) -> TaskContext {
    let mut functions = session.scalar_functions().clone();
    for own in own_functions() {
        functions.insert(own.name().to_owned(), own);
    }
    TaskContext::new(
        None,
        session.session_id(),
        session.session_config().clone(),
        functions,
        session.higher_order_functions().clone(),
        session.aggregate_functions().clone(),
        session.window_functions().clone(),
        session.runtime_env(),
    )
}

/// Sends `stage` to nowhere.
///
/// # Errors
/// Why a worker would not execute what it says.
pub(super) fn arrives(stage: &Arc<dyn ExecutionPlan>, worker: &TaskContext) -> Result<(), Reason> {
    tried(stage, worker).map_err(|e| e.to_string())?
}

fn tried(stage: &Arc<dyn ExecutionPlan>, worker: &TaskContext) -> Result<Result<(), Reason>> {
    let stage = of_one_task(stage)?;
    if let Some(other) = other_function(&stage, worker)? {
        return Ok(Err(format!("workers may not have the function {other}")));
    }
    let codec = DistributedCodec::new_combined_with_user(worker.session_config());
    let bytes = physical_plan_to_bytes_with_proto_converter(
        Arc::clone(&stage),
        &codec,
        &DeduplicatingProtoConverter::default(),
    )?;
    let arrived = physical_plan_from_bytes_with_proto_converter(
        &bytes,
        worker,
        &codec,
        &DeduplicatingProtoConverter::default(),
    )?;
    Ok(same(&stage, &arrived))
}

/// A stage as its first task has it. What comes from other stages is told apart from them.
fn of_one_task(stage: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = Arc::clone(stage).transform_down(|node| {
        if node.is_network_boundary() {
            let partitions = node.output_partitioning().partition_count();
            let empty = EmptyExec::new(node.schema()).with_partitions(partitions);
            return Ok(Transformed::new(
                Arc::new(empty),
                true,
                TreeNodeRecursion::Jump,
            ));
        }
        let leaf = node.downcast_ref::<DistributedLeafExec>();
        Ok(match leaf.and_then(|leaf| leaf.variants().first()) {
            Some(first) => Transformed::yes(Arc::clone(first)),
            None => Transformed::no(node),
        })
    })?;
    Ok(plan.data)
}

/// A function of `plan` that a worker would take for another, or does not have.
fn other_function(plan: &Arc<dyn ExecutionPlan>, worker: &TaskContext) -> Result<Option<String>> {
    let mut other = None;
    plan.apply(|node| {
        node.apply_expressions(&mut |expr| {
            expr.apply(|part| {
                if let Some(call) = part.downcast_ref::<ScalarFunctionExpr>() {
                    let known = worker.scalar_functions().get(call.fun().name());
                    let is_known = match own_function(call.fun().name()) {
                        // Of any number of arguments, so that signatures differ.
                        Some(own) => own.inner().type_id() == call.fun().inner().type_id(),
                        None => known.is_some_and(|known| known.as_ref() == call.fun()),
                    };
                    if !is_known {
                        other = Some(call.fun().name().to_owned());
                        return Ok(TreeNodeRecursion::Stop);
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(other)
}

/// Compares what was sent with what arrived, node by node, by what they say of themselves.
fn same(sent: &Arc<dyn ExecutionPlan>, arrived: &Arc<dyn ExecutionPlan>) -> Result<(), Reason> {
    let differs = |what: &str| Err(format!("{} arrives with {what}", sent.name()));
    if sent.schema() != arrived.schema() {
        return differs("other columns");
    }
    let partitions = |plan: &Arc<dyn ExecutionPlan>| plan.output_partitioning().partition_count();
    if partitions(sent) != partitions(arrived) {
        return differs("other partitions");
    }
    if let Some(scan) = scan_of(sent) {
        let leaf = arrived.downcast_ref::<WorkerScanExec>();
        let Some(again) = leaf.and_then(|leaf| scan_of(leaf.scan())) else {
            return differs("another scan");
        };
        // Which row groups come first is for the reader, and may be forgotten.
        let text = |scan: &datafusion::datasource::physical_plan::FileScanConfig| {
            format!(
                "{:?} {:?} {:?} {:?} {:?} {:?}",
                scan.file_groups,
                scan.output_ordering,
                scan.file_source.projection().map(ToString::to_string),
                scan.file_source.filter().map(|filter| filter.to_string()),
                scan.limit,
                scan.preserve_order,
            )
        };
        return match text(scan) == text(again) {
            true => Ok(()),
            false => differs("other files, columns or conditions"),
        };
    }
    let line = |plan: &Arc<dyn ExecutionPlan>| {
        DisplayableExecutionPlan::new(plan.as_ref())
            .one_line()
            .to_string()
    };
    if sent.name() != arrived.name() || line(sent) != line(arrived) {
        return differs(&format!("another meaning: {}", line(arrived).trim()));
    }
    let (inputs, again) = (sent.children(), arrived.children());
    if inputs.len() != again.len() {
        return differs("other inputs");
    }
    inputs
        .into_iter()
        .zip(again)
        .try_for_each(|(sent, arrived)| same(sent, arrived))
}
