//! An expression that the engine evaluates as it is written.
//!
//! Owns a scalar function whose body is an expression over its arguments. DataFusion's rewrites look into
//! expressions, not into functions: what stands in the body is evaluated as the statement says, by the same
//! kernels as ever, and no rule simplifies, unwraps or reorders it. In a plan it carries the text of its body.
//!
//! The body's *holes* become arguments: columns, references to an outer query, parameters, subqueries, and
//! functions of the moment (`now()`), which the engine replaces by one value for the whole statement.
//!
//! Invariant: the function's value is the body's on every row, NULLs and errors included.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_plan::PhysicalExpr;

use super::settings::Settings;

/// Functions that the engine replaces by an expression, which is what they mean: most have no body of their own,
/// and `array_has` of a list that is written out is an `IN`, with its NULLs.
const SUGAR: [&str; 8] = [
    "array_has",
    "arrow_cast",
    "arrow_try_cast",
    "cast_to_type",
    "coalesce",
    "nvl",
    "nvl2",
    "try_cast_to_type",
];

/// What an expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Part of a condition: it may be NULL, whatever the engine infers of it, and goes by its text.
    Condition,
    /// The value of an output column, whose name and nullability others rely on.
    Value,
}

/// The function; see the module documentation.
struct Exact {
    body: Expr,
    arguments: Vec<FieldRef>,
    planned: Arc<dyn PhysicalExpr>,
    result: FieldRef,
    text: String,
    schema_name: String,
    signature: Signature,
}

impl fmt::Debug for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exact").field(&self.body).finish()
    }
}

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body
            && self.arguments == other.arguments
            && self.result == other.result
            && self.schema_name == other.schema_name
    }
}

impl Eq for Exact {}

impl Hash for Exact {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.body.hash(state);
        self.schema_name.hash(state);
    }
}

impl ScalarUDFImpl for Exact {
    fn name(&self) -> &str {
        &self.text
    }

    fn display_name(&self, _args: &[Expr]) -> Result<String> {
        Ok(self.text.clone())
    }

    fn schema_name(&self, _args: &[Expr]) -> Result<String> {
        Ok(self.schema_name.clone())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.result.data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::clone(&self.result))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let volatile = self.signature.volatility == Volatility::Volatile;
        evaluate(&self.planned, args, volatile)
    }
}

/// The value of a body whose holes are `args`.
fn evaluate(
    planned: &Arc<dyn PhysicalExpr>,
    args: ScalarFunctionArgs,
    volatile: bool,
) -> Result<ColumnarValue> {
    let constant = args
        .args
        .iter()
        .all(|a| matches!(a, ColumnarValue::Scalar(_)))
        && !volatile;
    let rows = if constant { 1 } else { args.number_rows };
    let columns = args
        .args
        .into_iter()
        .map(|value| value.into_array(rows))
        .collect::<Result<Vec<ArrayRef>>>()?;
    // The arrays' own types: inner fields of lists may be named otherwise than the plan says.
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(i, column)| Field::new(i.to_string(), column.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch =
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
    let value = planned.evaluate(&batch)?;
    if !constant {
        return Ok(value);
    }
    match value {
        ColumnarValue::Scalar(value) => Ok(ColumnarValue::Scalar(value)),
        ColumnarValue::Array(array) => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
            &array, 0,
        )?)),
    }
}

/// What another process needs in order to evaluate such a function as this one does.
#[cfg(feature = "distributed")]
#[derive(Debug, Clone)]
pub(crate) struct ExactParts {
    /// The name by which a plan calls it.
    pub(crate) name: String,
    /// The body, over columns that are called by their places.
    pub(crate) planned: Arc<dyn PhysicalExpr>,
    /// The holes.
    pub(crate) arguments: Vec<FieldRef>,
    /// The value.
    pub(crate) result: FieldRef,
    /// Whether two calls with the same arguments may have other values.
    pub(crate) volatile: bool,
}

/// The parts of `function`, if it is one.
#[cfg(feature = "distributed")]
pub(crate) fn exact_parts(function: &ScalarUDF) -> Option<ExactParts> {
    let exact = function.inner().downcast_ref::<Exact>()?;
    Some(ExactParts {
        name: exact.text.clone(),
        planned: Arc::clone(&exact.planned),
        arguments: exact.arguments.clone(),
        result: Arc::clone(&exact.result),
        volatile: exact.signature.volatility == Volatility::Volatile,
    })
}

/// The function of which these are the parts.
#[cfg(feature = "distributed")]
pub(crate) fn exact_of(parts: ExactParts) -> ScalarUDF {
    let volatility = match parts.volatile {
        true => Volatility::Volatile,
        false => Volatility::Immutable,
    };
    let signature = match parts.arguments.len() {
        0 => Signature::nullary(volatility),
        n => Signature::any(n, volatility),
    };
    ScalarUDF::new_from_impl(Assembled { parts, signature })
}

/// A function that was planned elsewhere.
#[cfg(feature = "distributed")]
#[derive(Debug)]
struct Assembled {
    parts: ExactParts,
    signature: Signature,
}

#[cfg(feature = "distributed")]
impl PartialEq for Assembled {
    fn eq(&self, other: &Self) -> bool {
        self.parts.name == other.parts.name && self.parts.planned.eq(&other.parts.planned)
    }
}

#[cfg(feature = "distributed")]
impl Eq for Assembled {}

#[cfg(feature = "distributed")]
impl Hash for Assembled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.name.hash(state);
    }
}

#[cfg(feature = "distributed")]
impl ScalarUDFImpl for Assembled {
    fn name(&self) -> &str {
        &self.parts.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.parts.result.data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::clone(&self.parts.result))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        evaluate(&self.parts.planned, args, self.parts.volatile)
    }
}

/// Whether `expr` is one already.
pub(super) fn is_exact(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if f.func.inner().downcast_ref::<Exact>().is_some())
}

/// `expr`, over the columns of `schema`, as an exact function of its holes; `expr` itself if it cannot be one
/// (it aggregates, or is no function of a row).
///
/// # Errors
/// What typing or planning the expression raises.
pub(super) fn exact(
    expr: Expr,
    schema: &DFSchema,
    config: &Settings<'_>,
    role: Role,
) -> Result<Expr> {
    if !is_of_a_row(&expr)? {
        return Ok(expr);
    }
    let mut holes: Vec<Expr> = Vec::new();
    let body = expr
        .clone()
        .transform_down(|part| {
            if !is_hole(&part) {
                return Ok(Transformed::no(part));
            }
            let at = match holes.iter().position(|hole| *hole == part) {
                Some(at) => at,
                None => {
                    holes.push(part);
                    holes.len() - 1
                }
            };
            let argument = Expr::Column(Column::new_unqualified(at.to_string()));
            Ok(Transformed::new(argument, true, TreeNodeRecursion::Jump))
        })?
        .data;
    let arguments = holes
        .iter()
        .enumerate()
        .map(|(i, hole)| {
            let field = hole.to_field(schema)?.1;
            // The engine takes a subquery's value for its column's, which there is none of if it has no row.
            let nullable = field.is_nullable() || matches!(hole, Expr::ScalarSubquery(_));
            let field = field.as_ref().clone().with_nullable(nullable);
            Ok(Arc::new(field.with_name(i.to_string())))
        })
        .collect::<Result<Vec<FieldRef>>>()?;
    let of_holes = DFSchema::from_unqualified_fields(
        arguments.clone().into(),
        std::collections::HashMap::new(),
    )?;
    let of_holes = Arc::new(of_holes);
    let body = without_sugar(body, &of_holes, config)?;
    let inferred = body.to_field(&of_holes)?.1;
    let result = inferred
        .as_ref()
        .clone()
        .with_name("exact")
        .with_nullable(role == Role::Condition || inferred.is_nullable());
    let volatility = match body.is_volatile() {
        true => Volatility::Volatile,
        false => Volatility::Immutable,
    };
    let function = Exact {
        planned: plan(&body, &of_holes, config)?,
        arguments,
        result: Arc::new(result),
        text: expr.to_string(),
        schema_name: match role {
            // A cast has its column's name; as a key of a join it would be taken for the column.
            Role::Condition => expr.to_string(),
            Role::Value => expr.schema_name().to_string(),
        },
        signature: match holes.len() {
            0 => Signature::nullary(volatility),
            n => Signature::any(n, volatility),
        },
        body,
    };
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(
        Arc::new(ScalarUDF::new_from_impl(function)),
        holes,
    )))
}

/// The value of an expression without columns, if it has one that is the same for every statement.
pub(super) fn constant(expr: &Expr, config: &Settings<'_>) -> Option<ScalarValue> {
    let fixed = is_of_a_row(expr).ok()?
        && !expr.exists(|part| Ok(is_hole(part))).ok()?
        && !expr.is_volatile();
    if !fixed {
        return None;
    }
    let empty = Arc::new(DFSchema::empty());
    let body = without_sugar(expr.clone(), &empty, config).ok()?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).ok()?;
    // An error is the statement's to meet, when it runs.
    match plan(&body, &empty, config).ok()?.evaluate(&row).ok()? {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0).ok(),
    }
}

fn plan(
    body: &Expr,
    schema: &Arc<DFSchema>,
    config: &Settings<'_>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let mut props = ExecutionProps::new();
    props.config_options = Some(Arc::clone(config.shared()));
    create_physical_expr(body, schema, &props, &PhysicalPlanningContext::default())
}

/// Whether `expr` is evaluated for each row by itself, so that a function can be made of it.
fn is_of_a_row(expr: &Expr) -> Result<bool> {
    #[expect(deprecated, reason = "a wildcard is no value, whoever made it")]
    let foreign = expr.exists(|part| {
        Ok(matches!(
            part,
            Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::GroupingSet(_)
                | Expr::Unnest(_)
                | Expr::HigherOrderFunction(_)
                | Expr::Lambda(_)
                | Expr::LambdaVariable(_)
                | Expr::SetComparison(_)
                | Expr::Wildcard { .. }
        ))
    })?;
    Ok(!foreign)
}

/// Whether a part of a body is handed to it as an argument.
fn is_hole(part: &Expr) -> bool {
    match part {
        Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Placeholder(_)
        | Expr::ScalarVariable(..)
        | Expr::ScalarSubquery(_)
        | Expr::Exists(_)
        | Expr::InSubquery(_) => true,
        // Only the engine knows the statement's moment.
        Expr::ScalarFunction(f) => {
            f.args.is_empty() && f.func.signature().volatility == Volatility::Stable
        }
        _ => false,
    }
}

fn without_sugar(body: Expr, schema: &Arc<DFSchema>, config: &Settings<'_>) -> Result<Expr> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(schema))
        .with_config_options(Arc::clone(config.shared()))
        .build();
    Ok(body
        .transform_up(|part| match part {
            Expr::ScalarFunction(f) if SUGAR.contains(&f.func.name()) => {
                let mut plain = Expr::ScalarFunction(f);
                // One may stand for another.
                while let Expr::ScalarFunction(f) = &plain
                    && SUGAR.contains(&f.func.name())
                {
                    match f.func.simplify(f.args.clone(), &context)? {
                        ExprSimplifyResult::Simplified(other) => plain = other,
                        ExprSimplifyResult::Original(_) => break,
                    }
                }
                Ok(Transformed::yes(plain))
            }
            Expr::InList(list) if list.expr.get_type(schema)?.is_floating() => {
                Ok(Transformed::yes(Expr::InList(with_one_zero(list, schema)?)))
            }
            other => Ok(Transformed::no(other)),
        })?
        .data)
}

/// A list of floats in which `0.0` and `-0.0` are one value, as they are to `=`: to the engine's lists they are not.
fn with_one_zero(list: InList, schema: &DFSchema) -> Result<InList> {
    let InList {
        expr,
        list,
        negated,
    } = list;
    let zero = ScalarValue::new_zero(&expr.get_type(schema)?)?;
    // -0.0 + 0.0 is 0.0 (IEEE 754-2019, 6.3); every other number stays what it is.
    let normal = |value: Expr| value + Expr::Literal(zero.clone(), None);
    Ok(InList {
        expr: Box::new(normal(*expr)),
        list: list.into_iter().map(normal).collect(),
        negated,
    })
}
