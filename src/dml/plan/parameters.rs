//! A relation that is known only when the statement has its parameters: `supertable_at('t', $1)`.
//!
//! DataFusion asks a table function for a table while it plans, and a parameter has no value then. Such a relation
//! stands in the plan as a node of its own, with the function's arguments as expressions: the values of parameters
//! get there as they get everywhere. The first rule of the analysis (`sound::prepared`) puts the table in its place.
//!
//! Owns the node, the provider by which a table function says that it waits, and the scan that a call becomes. Does
//! not own what the table is.
//!
//! Invariant: the plan around the node was made with the columns that it has; the table that takes its place has the
//! same, or the statement fails.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference, internal_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, Statement, TableSource,
    UserDefinedLogicalNodeCore,
};
use futures::future;

use crate::dml::plan::pins::provider_of;
use crate::error::{Error, ErrorKind};
use crate::scan::scan_method::scan_method;

/// What becomes a table with the values of its arguments.
pub(crate) trait Parameterized: fmt::Debug + Send + Sync {
    /// The columns that a statement is planned with.
    fn schema(&self) -> SchemaRef;

    /// The table; `args` are the function's, as they were written, without parameters.
    ///
    /// # Errors
    /// An argument's value is none that the function takes.
    fn with_values(&self, args: &[Expr], config: &ConfigOptions) -> Result<Arc<dyn TableProvider>>;
}

/// How a table function says that its table waits for parameters.
#[derive(Debug)]
pub(crate) struct ParameterizedProvider(Arc<dyn Parameterized>);

impl ParameterizedProvider {
    pub(crate) fn new(waits: impl Parameterized + 'static) -> Self {
        Self(Arc::new(waits))
    }
}

#[async_trait]
impl TableProvider for ParameterizedProvider {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    scan_method!(|_this, _state, _projection, _filters, _limit| {
        Box::pin(future::ready(Err(without_value().into())))
    });
}

fn without_value() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "the parameters of a table function",
        "have no values; give them by EXECUTE, or by DataFrame::with_param_values",
    )
}

/// The node; see the module documentation.
#[derive(Debug, Clone)]
struct ParameterizedScan {
    waits: Arc<dyn Parameterized>,
    function: String,
    name: TableReference,
    args: Vec<Expr>,
    schema: DFSchemaRef,
}

impl PartialEq for ParameterizedScan {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.waits, &other.waits) && self.name == other.name && self.args == other.args
    }
}

impl Eq for ParameterizedScan {}

impl Hash for ParameterizedScan {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.args.hash(state);
    }
}

impl PartialOrd for ParameterizedScan {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self == other {
            true => Some(Ordering::Equal),
            false => self
                .args
                .partial_cmp(&other.args)
                .filter(|order| order.is_ne()),
        }
    }
}

impl UserDefinedLogicalNodeCore for ParameterizedScan {
    fn name(&self) -> &str {
        "ParameterizedScan"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.args.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParameterizedScan: {}", self.name)
    }

    fn with_exprs_and_inputs(&self, args: Vec<Expr>, _inputs: Vec<LogicalPlan>) -> Result<Self> {
        if args.len() != self.args.len() {
            return internal_err!("a function keeps the number of its arguments");
        }
        Ok(Self {
            args,
            ..self.clone()
        })
    }
}

/// A scan of what the table function `function` made of `args`, which are as they were written. The statement calls
/// it `name`.
pub(crate) fn scan(
    function: &str,
    name: TableReference,
    source: Arc<dyn TableSource>,
    args: Vec<Expr>,
) -> Result<LogicalPlan> {
    let waits = provider_of(&source).and_then(|p| p.downcast_ref::<ParameterizedProvider>());
    let Some(ParameterizedProvider(waits)) = waits else {
        return scan_of_call(function, name, source, &args);
    };
    let schema = DFSchema::try_from_qualified_schema(name.clone(), &waits.schema())?;
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(ParameterizedScan {
            waits: Arc::clone(waits),
            function: function.to_owned(),
            name,
            args,
            schema: Arc::new(schema),
        }),
    }))
}

/// A scan under a name that tells one call from another. DataFusion takes two scans for the same if they have the same
/// name, whatever they read: of two subqueries that differ in nothing but an argument it would evaluate one for both.
fn scan_of_call(
    function: &str,
    name: TableReference,
    source: Arc<dyn TableSource>,
    args: &[Expr],
) -> Result<LogicalPlan> {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let call = TableReference::bare(format!("{function}({})", args.join(", ")));
    LogicalPlanBuilder::scan(call, source, None)?
        .alias(name)?
        .build()
}

/// Whether a node of a plan waits for parameters.
pub(crate) fn waits(node: &LogicalPlan) -> bool {
    scan_of(node).is_some()
}

fn scan_of(node: &LogicalPlan) -> Option<&ParameterizedScan> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// Whether an expression has a parameter in it.
pub(crate) fn has_parameter(expr: &Expr) -> Result<bool> {
    expr.exists(|part| Ok(matches!(part, Expr::Placeholder(_))))
}

/// `plan` with the tables whose arguments are known by now.
///
/// # Errors
/// The arguments are not known, or none that the function takes.
pub(crate) fn with_values(plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
    let resolved = plan.transform_down_with_subqueries(|node| {
        let Some(scan) = scan_of(&node) else {
            return Ok(Transformed::no(node));
        };
        for arg in &scan.args {
            if has_parameter(arg)? {
                return Err(without_value().into());
            }
        }
        let table = scan.waits.with_values(&scan.args, config)?;
        let source = provider_as_source(table);
        let scan = scan_of_call(&scan.function, scan.name.clone(), source, &scan.args)?;
        Ok(Transformed::yes(scan))
    })?;
    Ok(resolved.data)
}

/// A `PREPARE` without the types of its parameters, if only some of them could be told: the values decide then.
///
/// # Errors
/// What looking through the plan can raise.
pub(crate) fn untyped_unless_all_are_known(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Statement(Statement::Prepare(mut prepare)) = plan else {
        return Ok(plan);
    };
    let known = prepare.fields.len();
    if known > 0 && known < prepare.input.get_parameter_names()?.len() {
        let mut found = false;
        prepare.input.apply_with_subqueries(|node| {
            found |= waits(node);
            Ok(match found {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })?;
        if found {
            prepare.fields.clear();
        }
    }
    Ok(LogicalPlan::Statement(Statement::Prepare(prepare)))
}
