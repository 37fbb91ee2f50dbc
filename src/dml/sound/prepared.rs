//! A prepared statement keeps its plan as it was written until it has its parameters.
//!
//! `PREPARE` in DataFusion 55 stores a plan that the optimiser has rewritten before any analysis: comparisons
//! are simplified, subqueries are joins already, and what was written cannot be told any more. Here the first
//! rule of the optimiser puts such a plan, if it is about supertables, into a node that no other rule looks into; the
//! first rule of the analysis takes it out again, with the values of the parameters in it. So a prepared
//! statement is planned as a direct one is. Relations that the parameters decide become tables then (`parameters`).
//!
//! Invariant: a plan whose supertables are pinned already, as every analysed plan's are, is left alone.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, ParamValues, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{Cast, Placeholder, TryCast};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore, WriteOp};
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};

use crate::dml::plan::parameters;
use crate::dml::plan::pins::supertable;
use crate::error::{Error, ErrorKind};

/// A plan that waits for its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Prepared {
    plan: Arc<LogicalPlan>,
    /// The names of the plan's parameters, and what stands for each.
    names: Vec<String>,
    values: Vec<Expr>,
}

impl PartialOrd for Prepared {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.plan.partial_cmp(&other.plan)
    }
}

impl UserDefinedLogicalNodeCore for Prepared {
    fn name(&self) -> &str {
        "Prepared"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        self.plan.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.values.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared: {}", self.names.join(", "))
    }

    fn with_exprs_and_inputs(&self, values: Vec<Expr>, _inputs: Vec<LogicalPlan>) -> Result<Self> {
        if values.len() != self.names.len() {
            return internal_err!("a prepared statement has as many values as parameters");
        }
        Ok(Self {
            values,
            ..self.clone()
        })
    }
}

impl Prepared {
    /// The statement with its values; those that have none stay parameters.
    fn statement(&self) -> Result<LogicalPlan> {
        let mut known: Vec<(&str, ScalarAndMetadata)> = Vec::new();
        for (name, value) in self.names.iter().zip(&self.values) {
            // Under the parameter's name, as DataFusion puts it there.
            let Expr::Literal(value, metadata) = value.clone().unalias() else {
                return Ok(self.plan.as_ref().clone());
            };
            if matches!(value, ScalarValue::Int64(_)) {
                refuse_unclear_unit(&self.plan, name)?;
            }
            let value = ScalarAndMetadata::new(value, metadata);
            known.push((name.trim_start_matches('$'), value));
        }
        let numbers: Option<Vec<usize>> = known.iter().map(|(n, _)| n.parse().ok()).collect();
        let values = match numbers {
            Some(numbers) => {
                let null = || ScalarAndMetadata::new(ScalarValue::Null, None);
                let mut list: Vec<ScalarAndMetadata> = Vec::new();
                for (number, (_, value)) in numbers.into_iter().zip(known) {
                    list.resize_with(list.len().max(number), null);
                    if let Some(slot) = list.get_mut(number.wrapping_sub(1)) {
                        *slot = value;
                    }
                }
                ParamValues::List(list)
            }
            None => {
                let named = known.into_iter().map(|(name, v)| (name.to_owned(), v));
                ParamValues::Map(named.collect::<HashMap<_, _>>())
            }
        };
        self.plan
            .as_ref()
            .clone()
            .replace_params_with_values(&values)
    }
}

/// Refuses a statement that changes rows and takes an integer, the value of the parameter `name`, for a time. A direct
/// statement counts seconds there, and so does a query whose parameter has a declared type; where DataFusion 55 plans
/// DELETE and UPDATE it drops declared types, and would count nanoseconds.
fn refuse_unclear_unit(plan: &LogicalPlan, name: &str) -> Result<()> {
    if !matches!(plan, LogicalPlan::Dml(_) | LogicalPlan::Extension(_)) {
        return Ok(());
    }
    let takes_for_a_time = |part: &Expr| match part {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            matches!(
                field.data_type(),
                DataType::Timestamp(TimeUnit::Nanosecond, _)
            ) && matches!(&**expr, Expr::Placeholder(Placeholder { id, field: None }) if id == name)
        }
        _ => false,
    };
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|part| Ok(takes_for_a_time(part)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    match found {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::Unsupported,
            name,
            "an integer parameter that is cast to a timestamp may count seconds or nanoseconds; write \
             to_timestamp_seconds(..) or to_timestamp_nanos(..) around it",
        )
        .into()),
    }
}

/// The first rule of the optimiser; see the module documentation.
#[derive(Debug, Default)]
pub(crate) struct KeepPrepared;

impl OptimizerRule for KeepPrepared {
    fn name(&self) -> &str {
        "supertable_keep_prepared"
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if !is_unpinned(&plan)? {
            return Ok(Transformed::no(plan));
        }
        let mut values: Vec<Expr> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|part| {
                    if let Expr::Placeholder(Placeholder { id, .. }) = part
                        && !names.contains(id)
                    {
                        names.push(id.clone());
                        values.push(part.clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(Transformed::yes(LogicalPlan::Extension(Extension {
            node: Arc::new(Prepared {
                plan: Arc::new(plan),
                names,
                values,
            }),
        })))
    }
}

/// The first rule of the analysis; see the module documentation.
#[derive(Debug, Default)]
pub(crate) struct TakePrepared;

impl AnalyzerRule for TakePrepared {
    fn name(&self) -> &str {
        "supertable_take_prepared"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let written = plan
            .transform_down(|node| match &node {
                LogicalPlan::Extension(extension) => {
                    match extension.node.as_any().downcast_ref::<Prepared>() {
                        Some(prepared) => Ok(Transformed::yes(prepared.statement()?)),
                        None => Ok(Transformed::no(node)),
                    }
                }
                _ => Ok(Transformed::no(node)),
            })?
            .data;
        parameters::with_values(written, config)
    }
}

/// Whether `plan` reads or changes a supertable, and has not been analysed.
fn is_unpinned(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= match node {
            LogicalPlan::TableScan(scan) => supertable(&scan.source).is_some(),
            // TRUNCATE has nothing to rewrite, and keeps its target when it is analysed.
            LogicalPlan::Dml(dml) => {
                dml.op != WriteOp::Truncate && supertable(&dml.target).is_some()
            }
            other => parameters::waits(other),
        };
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}
