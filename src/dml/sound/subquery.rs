//! Subqueries of conditions and values, as joins that the engine evaluates rightly.
//!
//! Owns what those become that are not left to DataFusion ([`trusted`]): columns of joins that are made here.
//!
//! | written | is the column |
//! | --- | --- |
//! | `EXISTS (q)` | whether the row's key is among those that have rows |
//! | `x IN (q)` | TRUE if `(key, x)` is among the results; else FALSE if the key has no rows; else NULL if `x` or a result is NULL; else FALSE |
//! | `(q)` as a value | the one result of the row's key; two are an error |
//! | `x > ANY (q)` | by DataFusion's own definition through `EXISTS` |
//!
//! Sources: ISO/IEC 9075-2, 8.4 (`IN`), 8.9 (quantified comparison), 8.10 (`EXISTS`), 7.19 (scalar subquery).
//!
//! Invariant: each row of the plan has one partner at most in every join that is added, so that no row is
//! doubled and none is lost.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result, ScalarValue, internal_err};
use datafusion::functions_aggregate::count::count;
use datafusion::functions_aggregate::first_last::first_value;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{
    Aggregate, Distinct, Filter, Join, Projection, Subquery,
};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};

use super::exact::{Role, exact};
use super::join::{as_values, join_on_keys};
use super::key::domain_value;
use super::names::Names;
use super::one_row::at_most_one_row;
use super::references::{as_named_before, columns_of, free_references, subquery_of};
use super::refuse::unsupported;
use super::settings::Settings;
use super::trust::{concerns, has_untrusted, is_left_alone, trusted};
use super::unnest::Domain;

const UNSTEADY: &str =
    "rows that differ from one reading to the next (random(), LIMIT without ORDER BY)";

/// Replaces the subqueries of one statement.
pub(super) struct Subqueries<'a> {
    pub(super) names: &'a Names,
    pub(super) config: &'a Settings<'a>,
}

impl Subqueries<'_> {
    /// `plan` with every subquery of its own expressions that the engine is not trusted with replaced.
    pub(super) fn replaced(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if !concerns(&plan, self.config)? {
            return Ok(plan);
        }
        // ANY and ALL are EXISTS in other words; the engine's own rule says so, and says it rightly.
        let plan = match has_set_comparison(&plan)? {
            true => {
                RewriteSetComparison::new()
                    .rewrite(plan, &OptimizerContext::new())?
                    .data
            }
            false => plan,
        };
        match plan {
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(_) | LogicalPlan::Sort(_) => self.of_one_input(plan),
            other => Err(unsupported(&other.display().to_string())),
        }
    }

    fn filter(&self, filter: Filter) -> Result<LogicalPlan> {
        let visible = columns_of(&filter.input);
        let (mut simple, mut trusted_ones, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for part in split_conjunction_owned(filter.predicate) {
            if !has_untrusted(&part, self.config)? {
                simple.push(part);
            } else if trusted(&part)? {
                trusted_ones.push(part);
            } else {
                rest.push(part);
            }
        }
        let mut input = Arc::unwrap_or_clone(filter.input);
        // What needs no subquery goes first: fewer outer rows have to be looked up.
        if let Some(simple) = conjunction(simple) {
            input = LogicalPlan::Filter(Filter::try_new(simple, Arc::new(input))?);
        }
        let mut joined = Joined::over(self, input);
        let mut conditions = Vec::with_capacity(rest.len());
        for part in rest {
            conditions.push(joined.without_subqueries(part)?);
        }
        conditions.extend(trusted_ones);
        let mut plan = joined.plan;
        if let Some(condition) = conjunction(conditions) {
            plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
        }
        LogicalPlanBuilder::from(plan).project(visible)?.build()
    }

    /// A condition of a join with a subquery about one side becomes a column of that side; one about both can
    /// be a filter above an inner join.
    fn join(&self, join: Join) -> Result<LogicalPlan> {
        let columns = columns_of(&LogicalPlan::Join(join.clone()));
        let mut left = Joined::over(self, Arc::unwrap_or_clone(join.left));
        let mut right = Joined::over(self, Arc::unwrap_or_clone(join.right));
        let (mut conditions, mut above) = (Vec::new(), Vec::new());
        for part in join.filter.into_iter().flat_map(split_conjunction_owned) {
            if !has_untrusted(&part, self.config)? {
                conditions.push(part);
            } else if left.has_all_of(&part)? {
                conditions.push(left.as_truth(part)?);
            } else if right.has_all_of(&part)? {
                conditions.push(right.as_truth(part)?);
            } else {
                above.push(part);
            }
        }
        if !above.is_empty() && join.join_type != JoinType::Inner {
            return Err(unsupported(
                "both sides of an outer join (or of MERGE's ON) at once",
            ));
        }
        let mut plan = LogicalPlan::Join(Join::try_new(
            Arc::new(left.plan),
            Arc::new(right.plan),
            join.on,
            conjunction(conditions),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?);
        if let Some(above) = conjunction(above) {
            plan = self.filter(Filter::try_new(above, Arc::new(plan))?)?;
        }
        LogicalPlanBuilder::from(plan).project(columns)?.build()
    }

    fn of_one_input(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let columns = columns_of(&plan);
        let input = plan.inputs().into_iter().next().cloned();
        let mut joined = Joined::over(self, input.unwrap_or_default());
        let mut exprs = Vec::new();
        for expr in plan.expressions() {
            let replaced = joined.without_subqueries(expr.clone())?;
            exprs.push(as_named_before(&expr, replaced));
        }
        let plan = plan.with_new_exprs(exprs, vec![joined.plan])?;
        LogicalPlanBuilder::from(plan).project(columns)?.build()
    }

    fn projection(&self, projection: Projection) -> Result<LogicalPlan> {
        let mut joined = Joined::over(self, Arc::unwrap_or_clone(projection.input));
        let mut exprs = Vec::with_capacity(projection.expr.len());
        for expr in projection.expr {
            let replaced = joined.without_subqueries(expr.clone())?;
            exprs.push(as_named_before(&expr, replaced));
        }
        let plan = Projection::try_new(exprs, Arc::new(joined.plan))?;
        Ok(LogicalPlan::Projection(plan))
    }
}

/// A plan that grows by a join for each subquery.
struct Joined<'a> {
    subqueries: &'a Subqueries<'a>,
    /// The rows that the subqueries are about.
    outer: LogicalPlan,
    plan: LogicalPlan,
}

impl<'a> Joined<'a> {
    fn over(subqueries: &'a Subqueries<'a>, plan: LogicalPlan) -> Self {
        Self {
            subqueries,
            outer: plan.clone(),
            plan,
        }
    }

    fn without_subqueries(&mut self, expr: Expr) -> Result<Expr> {
        Ok(expr
            .transform_up(|part| match part {
                Expr::Exists(exists) => Ok(Transformed::yes(self.exists(exists)?)),
                Expr::InSubquery(within) => Ok(Transformed::yes(self.within(within)?)),
                Expr::ScalarSubquery(subquery) => {
                    match is_left_alone(&subquery, self.subqueries.config)? {
                        true => Ok(Transformed::no(Expr::ScalarSubquery(subquery))),
                        false => Ok(Transformed::yes(self.scalar(subquery)?)),
                    }
                }
                other => Ok(Transformed::no(other)),
            })?
            .data)
    }

    /// Whether `expr`, with its subqueries, is about this plan's rows alone.
    fn has_all_of(&self, expr: &Expr) -> Result<bool> {
        let schema = self.outer.schema();
        let mut all = expr.column_refs().into_iter().all(|c| schema.has_column(c));
        expr.apply(|part| {
            if let Some(subquery) = subquery_of(part) {
                for column in free_references(&subquery.subquery)? {
                    all &= schema.has_column(&column);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(all)
    }

    /// A column that says whether `condition` holds.
    fn as_truth(&mut self, condition: Expr) -> Result<Expr> {
        let condition = self.without_subqueries(condition)?;
        let holds = self.column("holds");
        let mut columns = columns_of(&self.plan);
        columns.push(condition.alias(&holds.name));
        let plan = std::mem::take(&mut self.plan);
        self.plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?);
        Ok(Expr::Column(holds))
    }

    fn column(&self, role: &str) -> Column {
        self.subqueries.names.column(role)
    }

    fn domain<'d>(&'d self, columns: &'d [Column]) -> Result<Domain<'d>> {
        if is_unsteady(&self.outer)? {
            return Err(unsupported(UNSTEADY));
        }
        Ok(Domain {
            outer: &self.outer,
            columns,
            names: self.subqueries.names,
        })
    }

    fn join(
        &mut self,
        right: LogicalPlan,
        left_keys: &[Column],
        right_keys: &[Column],
        more: Vec<(Expr, Expr)>,
    ) -> Result<()> {
        let left = std::mem::take(&mut self.plan);
        self.plan = match left_keys.is_empty() && more.is_empty() {
            // One row, for all.
            true => LogicalPlanBuilder::from(left).cross_join(right)?.build()?,
            false => {
                let schema = self.outer.schema();
                let own = as_values(left_keys).into_iter();
                let own = own.map(|value| domain_value(value, schema));
                let keys = (own.collect::<Result<_>>()?, as_values(right_keys));
                join_on_keys(
                    left,
                    right,
                    JoinType::Left,
                    keys,
                    more,
                    self.subqueries.names,
                )?
            }
        };
        Ok(())
    }

    fn exists(&mut self, exists: Exists) -> Result<Expr> {
        let query = exists.subquery.subquery.as_ref();
        let outer = free_references(query)?;
        let found = if outer.is_empty() {
            let rows = self.column("rows");
            let mut one = LogicalPlanBuilder::from(query.clone());
            if !makes_groups(query)? {
                one = one.limit(0, Some(1))?;
            }
            let one = one
                .aggregate(Vec::<Expr>::new(), [count(lit(1_i64))])?
                .build()?;
            let one = renamed(one, std::slice::from_ref(&rows))?;
            self.join(one, &[], &[], vec![])?;
            Expr::Column(rows).gt(lit(0_i64))
        } else {
            let keyed = self.domain(&outer)?.unnest(query)?;
            let found = self.column("found");
            let keys: Vec<Column> = outer.iter().map(|_| self.column("key")).collect();
            let own = keyed.keys.into_iter().map(Expr::Column).collect();
            let distinct = distinct(own, keyed.plan)?;
            let mut names = keys.clone();
            names.push(found.clone());
            let marked = renamed_with(distinct, &names, vec![lit(true)])?;
            self.join(marked, &outer, &keys, vec![])?;
            Expr::Column(found).is_not_null()
        };
        Ok(match exists.negated {
            true => !found,
            false => found,
        })
    }

    fn within(&mut self, within: InSubquery) -> Result<Expr> {
        let query = within.subquery.subquery.as_ref();
        let outer = free_references(query)?;
        let (value, outer_value) = self.as_column(*within.expr)?;
        // The results, with the keys in front of them.
        let result = first_column(query)?;
        let (results, own_keys) = match outer.is_empty() {
            true => (query.clone(), vec![]),
            false => {
                if is_unsteady(query)? {
                    return Err(unsupported(UNSTEADY));
                }
                let keyed = self.domain(&outer)?.unnest(query)?;
                (keyed.plan, keyed.keys)
            }
        };
        let keys =
            |this: &Self| -> Vec<Column> { own_keys.iter().map(|_| this.column("key")).collect() };
        let own: Vec<Expr> = own_keys.iter().cloned().map(Expr::Column).collect();

        let (found, found_value) = (self.column("found"), self.column("value"));
        let mut columns = own.clone();
        columns.push(as_key(Expr::Column(result.clone()), results.schema())?);
        let known = LogicalPlanBuilder::from(results.clone())
            .filter(Expr::Column(result.clone()).is_not_null())?
            .build()?;
        let distinct = distinct(columns, known)?;
        let found_keys = keys(self);
        let mut names = found_keys.clone();
        names.extend([found_value.clone(), found.clone()]);
        let marked = renamed_with(distinct, &names, vec![lit(true)])?;
        let same = (Expr::Column(outer_value), Expr::Column(found_value));
        self.join(marked, &outer, &found_keys, vec![same])?;

        let (rows, known) = (self.column("rows"), self.column("known"));
        let counted = LogicalPlan::Aggregate(Aggregate::try_new(
            Arc::new(results),
            own,
            vec![count(lit(1_i64)), count(Expr::Column(result))],
        )?);
        let counted_keys = keys(self);
        let mut names = counted_keys.clone();
        names.extend([rows.clone(), known.clone()]);
        self.join(renamed(counted, &names)?, &outer, &counted_keys, vec![])?;

        let (rows, known) = (Expr::Column(rows), Expr::Column(known));
        let unknown = value.is_null().or(known.lt(rows.clone()));
        let is_in = when(Expr::Column(found).is_not_null(), lit(true))
            .when(rows.clone().is_null().or(rows.eq(lit(0_i64))), lit(false))
            .when(unknown, lit(ScalarValue::Boolean(None)))
            .otherwise(lit(false))?;
        Ok(match within.negated {
            true => !is_in,
            false => is_in,
        })
    }

    fn scalar(&mut self, subquery: Subquery) -> Result<Expr> {
        let query = subquery.subquery.as_ref();
        let outer = free_references(query)?;
        let result = first_column(query)?;
        let (results, own_keys) = match outer.is_empty() {
            true => (query.clone(), vec![]),
            false => {
                let keyed = self.domain(&outer)?.unnest(query)?;
                (keyed.plan, keyed.keys)
            }
        };
        let value = self.column("value");
        let keys: Vec<Column> = own_keys.iter().map(|_| self.column("key")).collect();
        let first = first_value(Expr::Column(result), vec![]);
        let counted = LogicalPlan::Aggregate(Aggregate::try_new(
            Arc::new(results),
            own_keys.into_iter().map(Expr::Column).collect(),
            vec![first, count(lit(1_i64))],
        )?);
        let mut columns = columns_of(&counted);
        let (Some(number), Some(first)) = (columns.pop(), columns.pop()) else {
            return internal_err!("an aggregate lost its columns");
        };
        columns.push(at_most_one_row(first, number));
        let mut names = keys.clone();
        names.push(value.clone());
        let columns = columns
            .into_iter()
            .zip(&names)
            .map(|(e, name)| e.alias(&name.name));
        let one = Projection::try_new(columns.collect(), Arc::new(counted))?;
        self.join(LogicalPlan::Projection(one), &outer, &keys, vec![])?;
        Ok(Expr::Column(value))
    }

    /// `expr`, and a column of the plan that is joined by its value.
    fn as_column(&mut self, expr: Expr) -> Result<(Expr, Column)> {
        let key = as_key(expr.clone(), self.plan.schema())?;
        if let Expr::Column(column) = &key {
            return Ok((expr, column.clone()));
        }
        // An exact condition may be NULL, also where the engine takes a subquery without rows for its column.
        let key = exact(
            key,
            self.plan.schema(),
            self.subqueries.config,
            Role::Condition,
        )?;
        let name = self.column("value");
        let mut columns = columns_of(&self.plan);
        columns.push(key.alias(&name.name));
        let plan = std::mem::take(&mut self.plan);
        self.plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?);
        Ok((Expr::Column(name.clone()), name))
    }
}

/// A value as a key of a join: the two zeros of floats, which `=` does not tell apart, as one.
fn as_key(expr: Expr, schema: &datafusion::common::DFSchema) -> Result<Expr> {
    Ok(match expr.get_type(schema)? {
        DataType::Float32 => expr + lit(0.0_f32),
        DataType::Float64 => expr + lit(0.0_f64),
        _ => expr,
    })
}

fn first_column(plan: &LogicalPlan) -> Result<Column> {
    match plan.schema().columns().into_iter().next() {
        Some(column) => Ok(column),
        None => internal_err!("a subquery yields no column"),
    }
}

fn distinct(columns: Vec<Expr>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = Projection::try_new(columns, Arc::new(plan))?;
    Ok(LogicalPlan::Distinct(Distinct::All(Arc::new(
        LogicalPlan::Projection(plan),
    ))))
}

fn renamed(plan: LogicalPlan, names: &[Column]) -> Result<LogicalPlan> {
    renamed_with(plan, names, vec![])
}

fn renamed_with(plan: LogicalPlan, names: &[Column], more: Vec<Expr>) -> Result<LogicalPlan> {
    let exprs = columns_of(&plan)
        .into_iter()
        .chain(more)
        .zip(names)
        .map(|(e, name)| e.alias(&name.name));
    let plan = Projection::try_new(exprs.collect(), Arc::new(plan))?;
    Ok(LogicalPlan::Projection(plan))
}

fn has_set_comparison(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= expr.exists(|e| Ok(matches!(e, Expr::SetComparison(_))))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Whether `plan` has groups somewhere. DataFusion 55 gives a limit above them to the grouping, and fails where its
/// input is in order.
fn makes_groups(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        Ok(matches!(
            node,
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_)
        ))
    })
}

/// Whether `plan` may have other rows when it is read again within the statement.
fn is_unsteady(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= match node {
            LogicalPlan::Limit(limit) => !is_sorted(&limit.input),
            _ => false,
        };
        node.apply_expressions(|expr| {
            found |= expr.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(p) => is_sorted(&p.input),
        LogicalPlan::SubqueryAlias(a) => is_sorted(&a.input),
        _ => false,
    }
}
