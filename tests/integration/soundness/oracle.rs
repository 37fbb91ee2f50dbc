//! What a predicate means, by definition: evaluated row by row, without the optimiser.
//!
//! Owns the evaluation. A query is planned by DataFusion's SQL planner over tables in memory, its types
//! are made equal, and that is all of the engine's planning that is used. A predicate is evaluated on a
//! batch of one row. A subquery is evaluated as SQL defines it: for each outer row, its references
//! to that row are replaced by the row's values, and what remains is run by itself. So no simplification,
//! no decorrelation, no pushdown, no statistics and no join of a subquery is relied on.
//!
//! Does not own what statements do with the rows.
//!
//! Invariant: a plan that is handed to the physical planner has no subquery in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, Result, ScalarValue, exec_err, internal_err};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::{
    Case, Cast, Exists, InSubquery, SetComparison, SetQuantifier,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    BinaryExpr, EmptyRelation, Expr, LogicalPlan, Operator, Subquery, Values, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_optimizer::output_requirements::OutputRequirements;
use datafusion::physical_plan::collect;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::future::BoxFuture;

/// What a predicate says of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    True,
    /// False, or unknown.
    NotTrue,
    /// A part of it fails, and the others make it true: a statement may fail, or take the row.
    FailsOrTrue,
    /// A part of it fails, and the others make it false: a statement may fail, or leave the row.
    FailsOrNotTrue,
    /// It has no value: a statement fails, or leaves the row.
    Fails(String),
}

/// Rows, and what a predicate says of each.
pub(super) struct Judged {
    pub rows: RecordBatch,
    pub verdicts: Vec<Verdict>,
}

/// A truth value in three-valued logic, or a failure that hides it.
#[derive(Clone)]
enum Truth {
    Known {
        value: Option<bool>,
        /// Whether a part that does not matter to it failed.
        failed: bool,
    },
    Failed(String),
}

/// Tables in memory, and the evaluation of queries over them.
pub(super) struct Oracle {
    context: SessionContext,
    /// The rows of subqueries that were run already, by their plans.
    known: Mutex<HashMap<String, RecordBatch>>,
}

impl Oracle {
    pub(super) fn new(time_zone: &str) -> Self {
        let mut config = SessionConfig::new().with_target_partitions(1);
        config.options_mut().execution.time_zone = Some(time_zone.to_owned());
        config
            .options_mut()
            .execution
            .skip_physical_aggregate_schema_check = true;
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_optimizer_rules(vec![Arc::new(ReplaceDistinctWithAggregate::new())])
            .with_physical_optimizer_rules(vec![
                Arc::new(OutputRequirements::new_add_mode()),
                Arc::new(EnsureRequirements::new()),
                Arc::new(OutputRequirements::new_remove_mode()),
            ])
            .build();
        Self {
            context: SessionContext::new_with_state(state),
            known: Mutex::default(),
        }
    }

    /// The table `name` has these rows from now on.
    pub(super) fn put(&self, name: &str, rows: RecordBatch) {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
        let _ = self.context.deregister_table(name).unwrap();
        self.context.register_table(name, Arc::new(table)).unwrap();
        self.known.lock().unwrap().clear();
    }

    /// Judges the rows that `sql`, which is `SELECT * FROM … WHERE predicate`, would filter.
    pub(super) async fn judge(&self, sql: &str) -> Result<Judged> {
        let plan = self.plan(sql).await?;
        let mut node = &plan;
        let filter = loop {
            match node {
                LogicalPlan::Filter(filter) => break filter,
                LogicalPlan::Projection(projection) => node = &projection.input,
                other => return internal_err!("no filter in {}", other.display()),
            }
        };
        let rows = self.execute(&filter.input).await?;
        let mut verdicts = Vec::new();
        for at in 0..rows.num_rows() {
            let row = only_row(&rows, at)?;
            let truth = self
                .truth(&filter.predicate, filter.input.schema(), &row)
                .await;
            verdicts.push(match truth {
                // That is no failure of the row.
                Truth::Failed(why)
                    if why.contains("Internal") || why.contains("not implemented") =>
                {
                    return internal_err!("{why}");
                }
                Truth::Failed(why) => Verdict::Fails(why),
                Truth::Known { value, failed } => match (value == Some(true), failed) {
                    (true, false) => Verdict::True,
                    (false, false) => Verdict::NotTrue,
                    (true, true) => Verdict::FailsOrTrue,
                    (false, true) => Verdict::FailsOrNotTrue,
                },
            });
        }
        Ok(Judged { rows, verdicts })
    }

    /// The values of the expressions of `sql`, which is `SELECT expressions FROM …`, for each row of its input.
    pub(super) async fn values(&self, sql: &str) -> Result<Vec<Vec<Result<ScalarValue>>>> {
        let LogicalPlan::Projection(projection) = self.plan(sql).await? else {
            return internal_err!("no projection in {sql}");
        };
        let rows = self.execute(&projection.input).await?;
        let mut values = Vec::new();
        for at in 0..rows.num_rows() {
            let row = only_row(&rows, at)?;
            let mut of_row = Vec::new();
            for expr in &projection.expr {
                of_row.push(self.value(expr, projection.input.schema(), &row).await);
            }
            values.push(of_row);
        }
        Ok(values)
    }

    /// The plan of a query with its types made equal, and nothing else done.
    async fn plan(&self, sql: &str) -> Result<LogicalPlan> {
        let state = self.context.state();
        let plan = state.create_logical_plan(sql).await?;
        let plan = ResolveGroupingFunction::new().analyze(plan, state.config_options())?;
        without_shorthands(TypeCoercion::new().analyze(plan, state.config_options())?)
    }

    async fn truth(&self, expr: &Expr, schema: &DFSchemaRef, row: &RecordBatch) -> Truth {
        match expr {
            Expr::BinaryExpr(b) if matches!(b.op, Operator::And | Operator::Or) => {
                let left = Box::pin(self.truth(&b.left, schema, row)).await;
                let right = Box::pin(self.truth(&b.right, schema, row)).await;
                left.join(right, b.op == Operator::Or)
            }
            Expr::Not(inner) => match Box::pin(self.truth(inner, schema, row)).await {
                Truth::Known { value, failed } => Truth::Known {
                    value: value.map(|v| !v),
                    failed,
                },
                failed => failed,
            },
            other => match self.value(other, schema, row).await {
                Ok(ScalarValue::Boolean(value)) => Truth::Known {
                    value,
                    failed: false,
                },
                Ok(ScalarValue::Null) => Truth::Known {
                    value: None,
                    failed: false,
                },
                Ok(other) => Truth::Failed(format!("{other} is no truth value")),
                Err(error) => Truth::Failed(error.to_string()),
            },
        }
    }

    /// The value of an expression for one row.
    fn value<'a>(
        &'a self,
        expr: &'a Expr,
        schema: &'a DFSchemaRef,
        row: &'a RecordBatch,
    ) -> BoxFuture<'a, Result<ScalarValue>> {
        Box::pin(async move {
            let mut known = HashMap::new();
            for subquery in subqueries(expr)? {
                let value = self.subquery(&subquery, schema, row).await?;
                known.insert(subquery, value);
            }
            let plain = expr.clone().transform_down(|e| match known.get(&e) {
                Some(value) => Ok(Transformed::new(
                    Expr::Literal(value.clone(), None),
                    true,
                    TreeNodeRecursion::Jump,
                )),
                None => Ok(Transformed::no(e)),
            })?;
            let physical = create_physical_expr(
                &plain.data,
                schema,
                &ExecutionProps::new(),
                &PhysicalPlanningContext::default(),
            )?;
            let array = physical.evaluate(row)?.into_array(1)?;
            ScalarValue::try_from_array(&array, 0)
        })
    }

    /// The value of a subquery expression for one row of the outer query.
    async fn subquery(
        &self,
        expr: &Expr,
        schema: &DFSchemaRef,
        row: &RecordBatch,
    ) -> Result<ScalarValue> {
        match expr {
            Expr::Exists(Exists { subquery, negated }) => {
                let rows = self.subquery_rows(subquery, schema, row).await?;
                Ok(ScalarValue::from((rows.num_rows() > 0) != *negated))
            }
            Expr::ScalarSubquery(subquery) => {
                let rows = self.subquery_rows(subquery, schema, row).await?;
                match rows.num_rows() {
                    0 => ScalarValue::try_from(rows.column(0).data_type()),
                    1 => ScalarValue::try_from_array(rows.column(0), 0),
                    n => exec_err!("a scalar subquery has {n} rows"),
                }
            }
            Expr::InSubquery(InSubquery {
                expr,
                subquery,
                negated,
            }) => {
                let operand = self.value(expr, schema, row).await?;
                let rows = self.subquery_rows(subquery, schema, row).await?;
                let found = compared(&operand, Operator::Eq, &rows)?;
                let found = any(&found);
                Ok(ScalarValue::Boolean(found.map(|found| found != *negated)))
            }
            Expr::SetComparison(SetComparison {
                expr,
                subquery,
                op,
                quantifier,
            }) => {
                let operand = self.value(expr, schema, row).await?;
                let rows = self.subquery_rows(subquery, schema, row).await?;
                let found = compared(&operand, *op, &rows)?;
                Ok(ScalarValue::Boolean(match quantifier {
                    SetQuantifier::Any => any(&found),
                    SetQuantifier::All => {
                        let differs: Vec<_> = found.iter().map(|v| v.map(|v| !v)).collect();
                        any(&differs).map(|differs| !differs)
                    }
                }))
            }
            other => internal_err!("{other} is no subquery"),
        }
    }

    async fn subquery_rows(
        &self,
        subquery: &Subquery,
        schema: &DFSchemaRef,
        row: &RecordBatch,
    ) -> Result<RecordBatch> {
        let plan = bound(subquery.subquery.as_ref().clone(), schema, row)?;
        // A struct of NULLs is shown as a NULL is.
        let nested = row.columns().iter().filter(|c| c.data_type().is_nested());
        let nested: Vec<_> = nested.map(|c| format!("{c:?}")).collect();
        let key = format!("{} {}", plan.display_indent(), nested.join(" "));
        if let Some(rows) = self.known.lock().unwrap().get(&key) {
            return Ok(rows.clone());
        }
        let rows = self.execute(&plan).await?;
        self.known.lock().unwrap().insert(key, rows.clone());
        Ok(rows)
    }

    /// Runs a plan; its subqueries are evaluated by definition.
    fn execute<'a>(&'a self, plan: &'a LogicalPlan) -> BoxFuture<'a, Result<RecordBatch>> {
        Box::pin(async move {
            let plain = self.without_subqueries(plan).await?;
            let state = self.context.state();
            let plain = state.optimizer().optimize(plain, &state, |_, _| {})?;
            let physical = DefaultPhysicalPlanner::default()
                .create_physical_plan(&plain, &state)
                .await?;
            let schema = physical.schema();
            let batches = collect(physical, self.context.task_ctx()).await?;
            Ok(concat_batches(&schema, &batches)?)
        })
    }

    /// The plan with each node that has subqueries replaced by its rows.
    fn without_subqueries<'a>(
        &'a self,
        plan: &'a LogicalPlan,
    ) -> BoxFuture<'a, Result<LogicalPlan>> {
        Box::pin(async move {
            let mut inputs = Vec::new();
            for input in plan.inputs() {
                inputs.push(self.without_subqueries(input).await?);
            }
            let mut inputs = inputs.into_iter();
            let plan = plan
                .clone()
                .map_children(|_| match inputs.next() {
                    Some(input) => Ok(Transformed::yes(input)),
                    None => internal_err!("a plan has more inputs than it says"),
                })?
                .data;
            let mut has_subquery = false;
            for expr in plan.expressions() {
                has_subquery |= !subqueries(&expr)?.is_empty();
            }
            if !has_subquery {
                return Ok(plan);
            }
            match &plan {
                LogicalPlan::Filter(filter) => {
                    let rows = self.execute(&filter.input).await?;
                    let mut kept = Vec::new();
                    for at in 0..rows.num_rows() {
                        let row = only_row(&rows, at)?;
                        let value = self.value(&filter.predicate, filter.input.schema(), &row);
                        if value.await? == ScalarValue::Boolean(Some(true)) {
                            kept.push(row_values(&row)?);
                        }
                    }
                    Ok(relation(kept, filter.input.schema()))
                }
                LogicalPlan::Projection(projection) => {
                    let rows = self.execute(&projection.input).await?;
                    let mut values = Vec::new();
                    for at in 0..rows.num_rows() {
                        let row = only_row(&rows, at)?;
                        let mut of_row = Vec::new();
                        for expr in &projection.expr {
                            of_row.push(self.value(expr, projection.input.schema(), &row).await?);
                        }
                        values.push(of_row);
                    }
                    Ok(relation(values, &projection.schema))
                }
                other => internal_err!("the oracle knows no subquery in {}", other.display()),
            }
        })
    }
}

impl Truth {
    /// This and `other`, joined by OR or by AND. The value that decides is TRUE for OR, FALSE for AND.
    fn join(self, other: Self, or: bool) -> Self {
        match (self, other) {
            (
                Self::Known {
                    value: a,
                    failed: fa,
                },
                Self::Known {
                    value: b,
                    failed: fb,
                },
            ) => Self::Known {
                value: match (a, b) {
                    _ if a == Some(or) || b == Some(or) => Some(or),
                    (Some(_), Some(_)) => Some(!or),
                    _ => None,
                },
                failed: fa || fb,
            },
            (Self::Known { value, .. }, Self::Failed(_))
            | (Self::Failed(_), Self::Known { value, .. })
                if value == Some(or) =>
            {
                Self::Known {
                    value,
                    failed: true,
                }
            }
            (Self::Failed(why), _) | (_, Self::Failed(why)) => Self::Failed(why),
        }
    }
}

/// The outermost subqueries of an expression; one inside the operand of another is its own affair.
fn subqueries(expr: &Expr) -> Result<Vec<Expr>> {
    let mut found = Vec::new();
    expr.apply(|e| {
        Ok(match e {
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::ScalarSubquery(_)
            | Expr::SetComparison(_) => {
                found.push(e.clone());
                TreeNodeRecursion::Jump
            }
            _ => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// The plan of a subquery with the references to this outer row replaced by its values.
fn bound(plan: LogicalPlan, schema: &DFSchema, row: &RecordBatch) -> Result<LogicalPlan> {
    with_each_expr(plan, |e| match &e {
        Expr::OuterReferenceColumn(_, column) => match schema.maybe_index_of_column(column) {
            Some(at) => {
                let value = ScalarValue::try_from_array(row.column(at), 0)?;
                Ok(Transformed::yes(lit(value)))
            }
            None => Ok(Transformed::no(e)),
        },
        _ => Ok(Transformed::no(e)),
    })
}

/// The plan with `coalesce`, `arrow_cast` and `IN` lists as what they are short for: the first two cannot be evaluated
/// themselves, and the engine's lists tell the two zeros of floats apart, which `=` does not.
fn without_shorthands(plan: LogicalPlan) -> Result<LogicalPlan> {
    with_each_expr(plan, |e| match e {
        Expr::ScalarFunction(f) if f.name() == "coalesce" => {
            let mut args = f.args;
            let last = args.pop().map(Box::new);
            let when_then = args
                .into_iter()
                .map(|arg| (Box::new(arg.clone().is_not_null()), Box::new(arg)))
                .collect();
            Ok(Transformed::yes(Expr::Case(Case::new(
                None, when_then, last,
            ))))
        }
        Expr::ScalarFunction(mut f) if f.name() == "arrow_cast" => {
            match (f.args.pop(), f.args.pop()) {
                (Some(Expr::Literal(kind, _)), Some(arg)) => {
                    let kind = kind.try_as_str().flatten().unwrap_or_default();
                    let cast = Cast::new(Box::new(arg), kind.parse::<DataType>()?);
                    Ok(Transformed::yes(Expr::Cast(cast)))
                }
                _ => internal_err!("arrow_cast without a literal type"),
            }
        }
        Expr::InList(list) => {
            let equal = list
                .list
                .into_iter()
                .map(|value| (*list.expr).clone().eq(value));
            match (equal.reduce(Expr::or), list.negated) {
                (Some(any), false) => Ok(Transformed::yes(any)),
                (Some(any), true) => Ok(Transformed::yes(!any)),
                (None, _) => internal_err!("a list without values"),
            }
        }
        e => Ok(Transformed::no(e)),
    })
}

/// The plan and its subqueries with each expression replaced, under its old name.
fn with_each_expr(
    plan: LogicalPlan,
    mut replace: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let replaced = plan.transform_down_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let replaced = expr.transform_up(&mut replace)?;
            Ok(match replaced.transformed {
                true => replaced.update_data(|e| name.restore(e)),
                false => replaced,
            })
        })
    })?;
    Ok(replaced.data)
}

/// What `operand op value` is for each value of the rows' column.
fn compared(operand: &ScalarValue, op: Operator, rows: &RecordBatch) -> Result<Vec<Option<bool>>> {
    let schema = DFSchema::try_from(SchemaRef::clone(&rows.schema()))?;
    let column = schema.columns().remove(0);
    let expr = Expr::BinaryExpr(BinaryExpr::new(
        Box::new(lit(operand.clone())),
        op,
        Box::new(Expr::Column(column)),
    ));
    let physical = create_physical_expr(
        &expr,
        &schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    let array = physical.evaluate(rows)?.into_array(rows.num_rows())?;
    match array.as_boolean_opt() {
        Some(values) => Ok(values.iter().collect()),
        None => Ok(vec![None; array.len()]),
    }
}

/// Whether one of them is true, in three-valued logic.
fn any(values: &[Option<bool>]) -> Option<bool> {
    if values.contains(&Some(true)) {
        Some(true)
    } else if values.contains(&None) {
        None
    } else {
        Some(false)
    }
}

/// The row by itself. A slice will not do: arrow's cast of binary to text looks at the bytes of the other rows, too.
fn only_row(rows: &RecordBatch, at: usize) -> Result<RecordBatch> {
    let at = UInt64Array::from(vec![at as u64]);
    Ok(take_record_batch(rows, &at)?)
}

fn row_values(row: &RecordBatch) -> Result<Vec<ScalarValue>> {
    row.columns()
        .iter()
        .map(|column| ScalarValue::try_from_array(column, 0))
        .collect()
}

fn relation(rows: Vec<Vec<ScalarValue>>, schema: &DFSchemaRef) -> LogicalPlan {
    if rows.is_empty() {
        return LogicalPlan::EmptyRelation(EmptyRelation {
            produce_one_row: false,
            schema: Arc::clone(schema),
        });
    }
    LogicalPlan::Values(Values {
        schema: Arc::clone(schema),
        values: rows
            .into_iter()
            .map(|row| row.into_iter().map(lit).collect())
            .collect(),
    })
}
