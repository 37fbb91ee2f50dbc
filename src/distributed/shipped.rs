//! Whether a stage arrives at a worker as what it is.
//!
//! Owns the trial: a stage is written down, read again, and compared. What cannot be written down, or comes out as
//! something else, runs on the coordinator. Functions are compared too: a worker knows them by name.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::execution::{SessionStateDefaults, TaskContext};
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{DistributedCodec, DistributedLeafExec, NetworkBoundaryExt};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_proto_converter, physical_plan_to_bytes_with_proto_converter,
};
use datafusion_proto::physical_plan::DeduplicatingProtoConverter;

use super::deal::scan_of;
use super::functions::{own_function, own_functions};
use super::functions_wire::functions;
use super::leaf::WorkerScanExec;
use super::spread::Reason;
use crate::dml::plan::names::AS_MEANT;
use crate::dml::sound::exact_parts;
use crate::format::manifest::FIELD_ID_KEY;

/// The functions of DataFusion as a worker has them, by their names: `remade` for the settings of a session, as by `SET`, or
/// not.
pub(super) fn engine_functions(
    remade: Option<&ConfigOptions>,
) -> impl Iterator<Item = (String, Arc<ScalarUDF>)> {
    let functions = SessionStateDefaults::default_scalar_functions();
    functions.into_iter().flat_map(move |function| {
        let remade = remade.and_then(|settings| function.inner().with_updated_config(settings));
        let function = remade.map_or(function, Arc::new);
        let names: Vec<String> = std::iter::once(function.name())
            .chain(function.aliases().iter().map(String::as_str))
            .map(str::to_owned)
            .collect();
        names
            .into_iter()
            .map(move |name| (name, Arc::clone(&function)))
    })
}

/// Whether a session has made its functions anew for its settings.
pub(super) fn has_remade(session: &TaskContext) -> bool {
    engine_functions(None).any(|(name, function)| {
        let known = session.scalar_functions().get(&name);
        known.is_some_and(|known| *known != function)
    })
}

/// The context of a worker of a session, with the functions that are `sent` with a plan.
///
/// # Errors
/// What is sent is not what functions are.
pub(super) fn worker_context(session: &TaskContext, sent: &str) -> Result<TaskContext> {
    let with = |all: HashMap<String, Arc<ScalarUDF>>| {
        TaskContext::new(
            None,
            session.session_id(),
            session.session_config().clone(),
            all,
            session.higher_order_functions().clone(),
            session.aggregate_functions().clone(),
            session.window_functions().clone(),
            session.runtime_env(),
        )
    };
    let settings = session.session_config().options();
    let remade = has_remade(session).then_some(settings.as_ref());
    // Those of the user's are at the worker as the session has them.
    let mut all = session.scalar_functions().clone();
    all.extend(engine_functions(remade));
    let named = |function: Arc<ScalarUDF>| (function.name().to_owned(), function);
    all.extend(own_functions().into_iter().map(named));
    let worker = with(all.clone());
    all.extend(functions(sent, &worker)?.into_iter().map(named));
    Ok(with(all))
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
                if let Some(call) = part.downcast_ref::<ScalarFunctionExpr>()
                    && !is_known(call, worker)
                {
                    other = Some(call.name().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(other)
}

/// Whether a worker finds the function of `call` by the name that is sent.
fn is_known(call: &ScalarFunctionExpr, worker: &TaskContext) -> bool {
    let Some(known) = worker.scalar_functions().get(call.name()) else {
        return false;
    };
    let function = call.fun();
    // Those of any number of arguments differ in their signatures; those that were sent were compared there.
    let is_same = match own_function(call.name()) {
        Some(own) => own.inner().type_id() == function.inner().type_id(),
        None => known.as_ref() == function || exact_parts(function).is_some(),
    };
    is_same && call.name() == function.name()
}

/// What a node says of itself.
fn line(plan: &Arc<dyn ExecutionPlan>) -> String {
    DisplayableExecutionPlan::new(plan.as_ref())
        .one_line()
        .to_string()
}

/// Whether two nodes have the same columns, but for what this crate writes beside columns and reads where a scan or
/// a statement begins, which is compared there.
fn same_columns(one: &Schema, other: &Schema) -> bool {
    let said = |field: &FieldRef| {
        let mut metadata = field.metadata().clone();
        metadata.remove(AS_MEANT);
        metadata.remove(FIELD_ID_KEY);
        metadata
    };
    one.fields().len() == other.fields().len()
        && one.fields().iter().zip(other.fields()).all(|(a, b)| {
            a.name() == b.name()
                && a.data_type() == b.data_type()
                && a.is_nullable() == b.is_nullable()
                && said(a) == said(b)
        })
}

/// `arrived` without the projection that a union puts above an input whose columns are described in other words: it
/// hands on all columns as they are.
fn unwrapped(arrived: &Arc<dyn ExecutionPlan>) -> &Arc<dyn ExecutionPlan> {
    let Some(projection) = arrived.downcast_ref::<ProjectionExec>() else {
        return arrived;
    };
    let input = projection.input().schema();
    let handed_on = |(at, projected): (usize, &ProjectionExpr)| {
        let (expr, cast_to) = match projected.expr.downcast_ref::<CastExpr>() {
            Some(cast) => (cast.expr(), Some(cast.cast_type())),
            None => (&projected.expr, None),
        };
        let column = expr.downcast_ref::<Column>();
        let field = input.fields().get(at);
        column.is_some_and(|column| column.index() == at && column.name() == projected.alias)
            && field.is_some_and(|field| cast_to.is_none_or(|to| to == field.data_type()))
    };
    let exprs = projection.expr();
    match exprs.len() == input.fields().len() && exprs.iter().enumerate().all(handed_on) {
        true => projection.input(),
        false => arrived,
    }
}

/// Compares what was sent with what arrived, node by node, by what they say of themselves.
fn same(sent: &Arc<dyn ExecutionPlan>, arrived: &Arc<dyn ExecutionPlan>) -> Result<(), Reason> {
    let arrived = match sent.is::<ProjectionExec>() {
        true => arrived,
        false => unwrapped(arrived),
    };
    let differs = |what: &str| Err(format!("{} arrives with {what}", sent.name()));
    if !same_columns(&sent.schema(), &arrived.schema()) {
        return differs("other columns");
    }
    let partitions = |plan: &Arc<dyn ExecutionPlan>| plan.output_partitioning().partition_count();
    if partitions(sent) != partitions(arrived) {
        return differs("other partitions");
    }
    if let Some(scan) = scan_of(sent) {
        let leaf = arrived.downcast_ref::<WorkerScanExec>();
        let Some(again) = leaf.and_then(|leaf| scan_of(leaf.scan())) else {
            return differs(&format!("another scan: {}", line(arrived).trim()));
        };
        // Which row groups come first is for the reader, and may be forgotten.
        let files = |scan: &FileScanConfig| -> Vec<String> {
            let groups = scan.file_groups.iter().enumerate();
            let files = groups.flat_map(|(group, files)| files.iter().map(move |f| (group, f)));
            files
                .map(|(group, file)| {
                    let meta = &file.object_meta;
                    let (range, values) = (&file.range, &file.partition_values);
                    format!(
                        "{group} {} {} {range:?} {values:?}",
                        meta.location, meta.size
                    )
                })
                .collect()
        };
        let text = |scan: &FileScanConfig| {
            let source = &scan.file_source;
            format!(
                "{:?} {:?} {:?} {:?} {:?}",
                scan.output_ordering,
                source.projection().map(ToString::to_string),
                source.filter().map(|filter| filter.to_string()),
                scan.limit,
                scan.preserve_order,
            )
        };
        return match files(scan) == files(again) && text(scan) == text(again) {
            true => Ok(()),
            false => differs("other files, columns or conditions"),
        };
    }
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
