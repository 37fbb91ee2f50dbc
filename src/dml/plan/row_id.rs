//! `_id(t.c)` in SQL: the stable 128-bit id of a row, wherever an expression may stand.
//!
//! Owns the function and its replacement by the hidden column `_id`. Does not own the ids
//! (`scan::row_address`), nor the sinks that keep them.
//!
//! DataFusion has no hidden columns: what a table's schema holds is in `SELECT *` and takes part in
//! an `INSERT` without a column list, both of them resolved before any rule runs; and what it does
//! not hold cannot be named. So the id is a function, and its columns are never part of a table. (Who
//! wants a column `_id` in queries all the same gets one that calls it: `sql::relations`.)
//!
//! `_id(t.c)` is the id of the row of the supertable `t` whose column `c` is; any column will do. The
//! argument says which table is meant, whatever joins and subqueries there are.
//!
//! A call is replaced by a column that is handed up from the table's scan through whatever keeps
//! rows apart: filters, sorts, limits, joins, windows, aliases and projections. Where rows are
//! merged (`GROUP BY`, `DISTINCT`, `UNION`) there is no one id, and a call above it is refused.
//!
//! Invariant: the replacement changes no plan's output; a call is replaced or refused, never guessed.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, JoinType, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, SubqueryAlias, TableScan, TableScanBuilder, Volatility,
};

use crate::config::{EXPOSE_ROW_ID, RowIdExposure, SupertableOptions};
use crate::dml::plan::pins::{Pins, provider_of, supertable};
use crate::dml::provider::{PinnedProvider, SupertableProvider};
use crate::error::{Error, ErrorKind};
use crate::scan::row_address::{EXPOSED_ROW_ID, ROW_ID, ROW_ID_TYPE};

/// Name of a handed-up id in a projection, which may have a column `_id` of its own.
const CARRIED: &str = "__supertable_row_id";

/// The function `_id`.
pub(crate) fn row_id_udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(RowId {
        aliases: vec!["supertable_row_id".to_owned()],
        // Rows that agree in the argument differ in it: nothing may infer one call from another.
        signature: Signature::any(1, Volatility::Volatile),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RowId {
    aliases: Vec<String>,
    signature: Signature,
}

impl ScalarUDFImpl for RowId {
    fn name(&self) -> &str {
        EXPOSED_ROW_ID
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(ROW_ID_TYPE)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(refused(
            "only a plan that datafusion_supertable::register(&ctx) analyses knows the rows' ids; \
             call it once for the session",
        ))
    }
}

fn refused(why: impl Into<String>) -> datafusion::error::DataFusionError {
    Error::new(ErrorKind::Unsupported, format!("{EXPOSED_ROW_ID}(…)"), why).into()
}

/// Replaces every call of `_id` in `plan`, also in its subqueries.
pub(crate) fn resolve_row_ids(
    plan: LogicalPlan,
    config: &ConfigOptions,
    pins: &Pins,
) -> Result<LogicalPlan> {
    let mut called = false;
    plan.apply_with_subqueries(|node| {
        called |= has_call(node)?;
        Ok(match called {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    if !called {
        return Ok(plan);
    }
    let resolver = Resolver {
        exposed: SupertableOptions::of(config).expose_row_id,
        pins,
    };
    Ok(plan
        .transform_up_with_subqueries(|node| resolver.node(node))?
        .data)
}

/// A call's argument, if `expr` is a call.
fn call(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(f) if f.func.inner().is::<RowId>() => f.args.first(),
        _ => None,
    }
}

fn has_call(node: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        expr.apply(|e| {
            found |= call(e).is_some();
            Ok(match found {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })
    })?;
    Ok(found)
}

/// Refuses to compare a row id with a number that DataFusion has rounded: its SQL planner makes a `Float64` of an integer that
/// takes more than 64 bits. (The text that passes through `sql::statement` has no such literals.)
pub(crate) fn refuse_rounded_ids(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| match compares_rounded(node, expr) {
                true => Err(refused(
                    "the number that it is compared with was rounded by DataFusion, which makes a float of every \
                     integer of more than 64 bits; write the id as text (_id(id) = '33127952630095272843148758351873'), \
                     or run the statement by datafusion_supertable::sql(&ctx, …), which reads the number exactly",
                )),
                false => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    Ok(())
}

fn compares_rounded(node: &LogicalPlan, expr: &Expr) -> bool {
    let sides: Vec<&Expr> = match expr {
        Expr::BinaryExpr(binary) => vec![binary.left.as_ref(), binary.right.as_ref()],
        Expr::InList(list) => std::iter::once(list.expr.as_ref())
            .chain(&list.list)
            .collect(),
        Expr::Between(between) => vec![&between.expr, &between.low, &between.high],
        _ => return false,
    };
    sides.iter().any(|side| is_rounded(side)) && sides.iter().any(|side| is_row_id(node, side))
}

fn without_casts(mut expr: &Expr) -> &Expr {
    while let Expr::Cast(Cast { expr: inner, .. }) = expr {
        expr = inner;
    }
    expr
}

/// Whether it is a row's id: a call, or a column that hands one up to `node`.
fn is_row_id(node: &LogicalPlan, expr: &Expr) -> bool {
    match without_casts(expr) {
        Expr::Column(column) if column.name == EXPOSED_ROW_ID => {
            node.inputs().iter().any(|input| {
                let schema = input.schema();
                schema
                    .maybe_index_of_column(column)
                    .is_some_and(|at| schema.field(at).data_type() == &ROW_ID_TYPE)
            })
        }
        other => call(other).is_some(),
    }
}

/// Whether it is a float as large as ids are, so large that it cannot be compared with one.
fn is_rounded(expr: &Expr) -> bool {
    match without_casts(expr) {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => value.abs() >= 1e23,
        _ => false,
    }
}

struct Resolver<'a> {
    exposed: RowIdExposure,
    pins: &'a Pins,
}

impl Resolver<'_> {
    /// `node` without calls. Its inputs have none any more.
    fn node(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        if !has_call(&node)? {
            return Ok(Transformed::no(node));
        }
        let before = node.schema().columns();
        // Elsewhere an expression's name is not a column's.
        let names_columns = matches!(
            node,
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)
        );
        let mut inputs: Vec<LogicalPlan> = node.inputs().into_iter().cloned().collect();
        let mut exprs = Vec::new();
        for expr in node.expressions() {
            let name = expr.schema_name().to_string();
            let replaced = expr.transform_up(|e| {
                let Some(arg) = call(&e) else {
                    return Ok(Transformed::no(e));
                };
                let id = self.hand_up(&mut inputs, arg)?;
                Ok(Transformed::yes(Expr::Column(id)))
            })?;
            exprs.push(match replaced.transformed && names_columns {
                true => replaced.data.alias_if_changed(name)?,
                false => replaced.data,
            });
        }
        let plan = node.with_new_exprs(exprs, inputs)?;
        if plan.schema().columns() == before {
            return Ok(Transformed::yes(plan));
        }
        // What was handed up for this node must not show in its output.
        let columns: Vec<Expr> = before.into_iter().map(Expr::Column).collect();
        Ok(Transformed::yes(LogicalPlan::Projection(
            Projection::try_new(columns, Arc::new(plan))?,
        )))
    }

    /// Makes one of a node's inputs yield the id that a call with this argument means.
    fn hand_up(&self, inputs: &mut [LogicalPlan], arg: &Expr) -> Result<Column> {
        let column = match arg {
            Expr::Column(column) => column,
            Expr::OuterReferenceColumn(..) => {
                return Err(refused(
                    "a subquery cannot ask for the id of an outer query's row; \
                     join the two tables instead",
                ));
            }
            _ => return Err(refused("takes one column of the table that it is about")),
        };
        let mut found = inputs.iter_mut().filter(|input| reaches(input, column));
        let (Some(input), None) = (found.next(), found.next()) else {
            return Err(refused(format!(
                "{column} is not a column of a supertable whose rows are still apart here; call it \
                 below GROUP BY, DISTINCT and UNION"
            )));
        };
        let (plan, id) = self.carry(input.clone(), column)?;
        *input = plan;
        Ok(id)
    }

    /// `plan` with the id of the table of `arg`, one of its columns, among its columns.
    fn carry(&self, plan: LogicalPlan, arg: &Column) -> Result<(LogicalPlan, Column)> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let Some(arg) = below_projection(&projection, arg) else {
                    return internal_err!("{arg} is not a column below");
                };
                let input = Arc::unwrap_or_clone(projection.input);
                let (input, id) = self.carry(input, &arg)?;
                let mut exprs = projection.expr;
                let id = Expr::Column(id);
                let handed = id.clone().alias(CARRIED);
                if let (true, Expr::Column(id)) = (exprs.contains(&id), &id) {
                    let column = id.clone();
                    let plan = Projection::try_new(exprs, Arc::new(input))?;
                    return Ok((LogicalPlan::Projection(plan), column));
                }
                if !exprs.contains(&handed) {
                    exprs.push(handed);
                }
                let plan = Projection::try_new(exprs, Arc::new(input))?;
                Ok((
                    LogicalPlan::Projection(plan),
                    Column::new_unqualified(CARRIED),
                ))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let Some(arg) = below_alias(&alias, arg) else {
                    return internal_err!("{arg} is not a column below");
                };
                let name = alias.alias.clone();
                let (input, id) = self.carry(Arc::unwrap_or_clone(alias.input), &arg)?;
                let plan = SubqueryAlias::try_new(Arc::new(input), name.clone())?;
                Ok((
                    LogicalPlan::SubqueryAlias(plan),
                    Column::new(Some(name), id.name),
                ))
            }
            other => {
                let exprs = other.expressions();
                let mut inputs: Vec<LogicalPlan> = other.inputs().into_iter().cloned().collect();
                let Some(input) = inputs.iter_mut().find(|input| reaches(input, arg)) else {
                    return internal_err!("no supertable is reachable from here");
                };
                let (plan, id) = self.carry(input.clone(), arg)?;
                *input = plan;
                Ok((other.with_new_exprs(exprs, inputs)?, id))
            }
        }
    }

    fn scan(&self, scan: TableScan) -> Result<(LogicalPlan, Column)> {
        let (provider, pinned) = match target(&scan) {
            Some(Target::Plain(provider)) => (provider, provider.pinned(self.pins.pin(provider))),
            Some(Target::Pinned(pinned)) => (pinned.base(), pinned.clone()),
            None => return internal_err!("{} is not a supertable", scan.table_name),
        };
        self.check_exposed(provider, &scan)?;
        let visible = provider.access().schema.fields().len();
        let pinned = pinned.with_row_id();
        // Hidden columns begin with the id.
        let projection = scan.projection.map(|mut columns| {
            if !columns.contains(&visible) {
                columns.push(visible);
            }
            columns
        });
        let id = Column::new(Some(scan.table_name.clone()), ROW_ID);
        let plan = TableScanBuilder::new(scan.table_name, provider_as_source(Arc::new(pinned)))
            .with_projection(projection)
            .with_filters(scan.filters)
            .with_fetch(scan.fetch)
            .build()?;
        Ok((LogicalPlan::TableScan(plan), id))
    }

    fn check_exposed(&self, provider: &SupertableProvider, scan: &TableScan) -> Result<()> {
        let metadata = provider.table().metadata();
        if self.exposed.on(&metadata.properties) != RowIdExposure::Hidden {
            return Ok(());
        }
        Err(refused(format!(
            "the ids of {} are not exposed; SET supertable.{EXPOSE_ROW_ID} = true, or create the \
             table with OPTIONS ('supertable.{EXPOSE_ROW_ID}' 'true')",
            scan.table_name
        )))
    }
}

enum Target<'s> {
    Plain(&'s SupertableProvider),
    Pinned(&'s PinnedProvider),
}

fn target(scan: &TableScan) -> Option<Target<'_>> {
    supertable(&scan.source)
        .map(Target::Plain)
        .or_else(|| Some(Target::Pinned(provider_of(&scan.source)?.downcast_ref()?)))
}

/// Whether `column` of `plan`'s output is one of a supertable's whose rows are still apart there.
fn reaches(plan: &LogicalPlan, column: &Column) -> bool {
    if !plan.schema().has_column(column) {
        return false;
    }
    match plan {
        LogicalPlan::TableScan(scan) => target(scan).is_some(),
        LogicalPlan::Projection(projection) => below_projection(projection, column)
            .is_some_and(|below| reaches(&projection.input, &below)),
        LogicalPlan::SubqueryAlias(alias) => {
            below_alias(alias, column).is_some_and(|below| reaches(&alias.input, &below))
        }
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                reaches(&join.left, column)
            }
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                reaches(&join.right, column)
            }
            _ => reaches(&join.left, column) || reaches(&join.right, column),
        },
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Window(_) => plan.inputs().iter().any(|input| reaches(input, column)),
        _ => false,
    }
}

/// The column of a projection's input that its output column is, if it is just that.
fn below_projection(projection: &Projection, column: &Column) -> Option<Column> {
    let at = projection.schema.maybe_index_of_column(column)?;
    let mut expr = projection.expr.get(at)?;
    while let Expr::Alias(alias) = expr {
        expr = &alias.expr;
    }
    match expr {
        Expr::Column(below) => Some(below.clone()),
        _ => None,
    }
}

/// The column of an aliased relation under its own name.
fn below_alias(alias: &SubqueryAlias, column: &Column) -> Option<Column> {
    let at = alias.schema.maybe_index_of_column(column)?;
    alias.input.schema().iter().nth(at).map(Column::from)
}
