//! The functions that were made for a statement, as they travel.
//!
//! A condition that the engine's rewrites could change is hidden from them in a function whose body it is
//! (`dml::sound::exact`). A plan calls it by the text of the condition. The engine sends functions by their names, so their bodies
//! go beside the plan, and a worker's session is made with them.
//!
//! Owns which functions those are, and their encoding. Invariants: two functions of one plan have different names, and
//! none has the name of a function that the session has anyway.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::DistributedCodec;
use datafusion_proto::physical_plan::{
    DeduplicatingProtoConverter, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf;
use prost::Message;

use super::envelope::{Kind, damaged, open, seal};
use super::spread::Reason;
use crate::dml::sound::{ExactParts, exact_of, exact_parts};
use crate::format::hex;

/// What functions may take. They go in a header, of which a server takes 16 KiB unless it is told otherwise.
const AT_MOST: usize = 12 << 10;

#[derive(Clone, PartialEq, Message)]
struct FunctionsWire {
    #[prost(message, repeated, tag = "1")]
    functions: Vec<FunctionWire>,
}

#[derive(Clone, PartialEq, Message)]
struct FunctionWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    arguments: Option<protobuf::Schema>,
    /// A schema of one field.
    #[prost(message, optional, tag = "3")]
    result: Option<protobuf::Schema>,
    #[prost(message, optional, tag = "4")]
    body: Option<protobuf::PhysicalExprNode>,
    #[prost(bool, tag = "5")]
    volatile: bool,
}

/// The functions of `stages`, that a worker does not have.
///
/// # Errors
/// Why they cannot be sent.
pub(super) fn functions_of(
    stages: &[Arc<dyn ExecutionPlan>],
    session: &TaskContext,
) -> Result<String, Reason> {
    let mut found: BTreeMap<String, ScalarUDF> = BTreeMap::new();
    let mut twice = None;
    for stage in stages {
        stage
            .apply(|node| {
                node.apply_expressions(&mut |expr| {
                    expr.apply(|part| {
                        let Some(call) = part.downcast_ref::<ScalarFunctionExpr>() else {
                            return Ok(TreeNodeRecursion::Continue);
                        };
                        let function = call.fun();
                        if exact_parts(function).is_some() {
                            let name = function.name().to_owned();
                            let known = found.insert(name, function.clone());
                            if known.is_some_and(|known| known != *function)
                                || call.name() != function.name()
                            {
                                twice = Some(function.name().to_owned());
                            }
                        }
                        Ok(TreeNodeRecursion::Continue)
                    })
                })
            })
            .map_err(|e| e.to_string())?;
    }
    if let Some(name) = twice {
        return Err(format!("two conditions are written as {name}"));
    }
    if found.is_empty() {
        return Ok(String::new());
    }
    if let Some(name) = found
        .keys()
        .find(|name| session.scalar_functions().contains_key(*name))
    {
        return Err(format!("a condition is written as the function {name}"));
    }
    let wire = encoded(&found, session).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    seal(Kind::Functions, &wire.encode_to_vec(), &mut bytes);
    let text = hex::encode(&bytes);
    match text.len() <= AT_MOST {
        true => Ok(text),
        false => Err("its conditions are too long".to_owned()),
    }
}

fn encoded(found: &BTreeMap<String, ScalarUDF>, session: &TaskContext) -> Result<FunctionsWire> {
    let codec = DistributedCodec::new_combined_with_user(session.session_config());
    let functions = found.values().filter_map(exact_parts).map(|parts| {
        let converter = DeduplicatingProtoConverter::default();
        Ok(FunctionWire {
            arguments: Some((&Schema::new(parts.arguments)).try_into()?),
            result: Some((&Schema::new(vec![parts.result])).try_into()?),
            body: Some(converter.physical_expr_to_proto(&parts.planned, &codec)?),
            name: parts.name,
            volatile: parts.volatile,
        })
    });
    Ok(FunctionsWire {
        functions: functions.collect::<Result<_>>()?,
    })
}

/// The functions of [`functions_of`], in a worker whose other functions `context` has.
///
/// # Errors
/// `Corrupt` if they are none; a body needs a function that the worker does not have.
pub(super) fn functions(text: &str, context: &TaskContext) -> Result<Vec<Arc<ScalarUDF>>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let bytes = hex::decode(text).ok_or_else(|| damaged("functions are none"))?;
    let (Kind::Functions, content) = open(&bytes)? else {
        return Err(damaged("functions are something else").into());
    };
    let wire =
        FunctionsWire::decode(content).map_err(|e| damaged("functions are none").with_source(e))?;
    let codec = DistributedCodec::new_combined_with_user(context.session_config());
    let within = PhysicalPlanDecodeContext::new(context, &codec);
    let function = |wire: FunctionWire| {
        let schema = |wire: Option<protobuf::Schema>| -> Result<Schema> {
            let wire = wire.ok_or_else(|| damaged("a function has no schema"))?;
            Ok(Schema::try_from(&wire)?)
        };
        let arguments = schema(wire.arguments)?;
        let results = schema(wire.result)?;
        let [result]: &[FieldRef] = results.fields() else {
            return Err(damaged("a function has not one value").into());
        };
        let body = wire.body.ok_or_else(|| damaged("a function has no body"))?;
        let converter = DeduplicatingProtoConverter::default();
        Ok(Arc::new(exact_of(ExactParts {
            name: wire.name,
            planned: converter.proto_to_physical_expr(&body, &arguments, &within)?,
            arguments: arguments.fields().iter().cloned().collect(),
            result: Arc::clone(result),
            volatile: wire.volatile,
        })))
    };
    wire.functions.into_iter().map(function).collect()
}
