//! The whole of a plan made sound, node by node.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::logical_plan::{Aggregate, Limit, Projection, Sort};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, lit};

use super::barrier::{Barrier, Mode};
use super::key::independent;
use super::names::Names;
use super::references::{as_named_before, input_schema};
use super::settings::Settings;
use super::subquery::Subqueries;

/// The rows of a statement that changes a table: conditions and values mean what is written.
pub(crate) fn sound_change(plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
    sound(plan, config, Mode::Change)
}

/// A query: its conditions mean what is written, its values are the engine's business.
pub(crate) fn sound_query(plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
    sound(plan, config, Mode::Read)
}

fn sound(plan: LogicalPlan, config: &ConfigOptions, mode: Mode) -> Result<LogicalPlan> {
    let rewrite = Rewrite {
        names: Names::default(),
        config: Settings::of(config),
        mode,
    };
    rewrite.node(plan)
}

struct Rewrite<'a> {
    names: Names,
    config: Settings<'a>,
    mode: Mode,
}

impl Rewrite<'_> {
    /// From the top down: a subquery's outer references have to be replaced before those within it.
    fn node(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let subqueries = Subqueries {
            names: &self.names,
            config: &self.config,
        };
        let plan = subqueries.replaced(plan)?;
        let plan = plan
            .map_children(|child| Ok(Transformed::yes(self.node(child)?)))?
            .data;
        let plan = plan
            .map_subqueries(|child| Ok(Transformed::yes(self.node(child)?)))?
            .data;
        self.add_barriers(plan)
    }

    fn add_barriers(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = match plan {
            LogicalPlan::Aggregate(aggregate) => grouped_by_all(aggregate)?,
            LogicalPlan::Distinct(Distinct::All(rows)) => distinct_for_sure(&rows)?,
            other => other,
        };
        let changes = self.mode == Mode::Change;
        let schema = match &plan {
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) => input_schema(&plan)?,
            LogicalPlan::Projection(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Window(_)
                if changes =>
            {
                input_schema(&plan)?
            }
            _ => return Ok(plan),
        };
        let barrier = Barrier {
            schema: &schema,
            config: &self.config,
            mode: self.mode,
        };
        let hidden = match plan {
            LogicalPlan::Join(mut join) => {
                join.on = join
                    .on
                    .into_iter()
                    .map(|(l, r)| Ok((barrier.key(l)?, barrier.key(r)?)))
                    .collect::<Result<_>>()?;
                join.filter = match join.filter.take() {
                    Some(filter) => Some(barrier.predicate(filter)?),
                    None => None,
                };
                return Ok(LogicalPlan::Join(join));
            }
            LogicalPlan::Sort(sort) => LogicalPlan::Sort(Sort {
                expr: barrier.order(sort.expr)?,
                ..sort
            }),
            LogicalPlan::Filter(_) => {
                plan.map_expressions(|e| Ok(Transformed::yes(barrier.predicate(e)?)))?
                    .data
            }
            // Its expressions keep their names, and take no alias.
            LogicalPlan::Window(_) => {
                plan.map_expressions(|e| Ok(Transformed::yes(barrier.value(e)?)))?
                    .data
            }
            other => {
                other
                    .map_expressions(|e| {
                        let hidden = barrier.value(e.clone())?;
                        Ok(Transformed::yes(as_named_before(&e, hidden)))
                    })?
                    .data
            }
        };
        let plan = hidden.recompute_schema()?;
        match &plan {
            LogicalPlan::Aggregate(aggregate) if changes && may_answer_nothing(aggregate)? => {
                fenced(plan)
            }
            _ => Ok(plan),
        }
    }
}

/// Whether `aggregate` has a row for no rows; and is not read for each row of an outer query, where a fence is not
/// understood.
fn may_answer_nothing(aggregate: &Aggregate) -> Result<bool> {
    let groups = &aggregate.group_expr;
    let has_row = groups.is_empty() || groups.iter().any(|g| matches!(g, Expr::GroupingSet(_)));
    let outer = |node: &LogicalPlan| Ok(node.contains_outer_reference());
    Ok(has_row && !aggregate.input.exists(outer)?)
}

/// `plan` below a limit that leaves nothing out. The engine moves a condition without columns (what is left of `x = NULL`)
/// below an aggregate, which then still has its row for no rows; it moves none below a limit.
fn fenced(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Limit(Limit {
        skip: None,
        fetch: Some(Box::new(lit(i64::MAX))),
        input: Arc::new(plan),
    }))
}

/// `aggregate` with all of its groups. DataFusion leaves those out that depend on another one, and holds a column
/// for unique that was so before a join.
fn grouped_by_all(mut aggregate: Aggregate) -> Result<LogicalPlan> {
    if aggregate.group_expr.len() < 2 || !may_seem_unique(&aggregate.input)? {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let groups = &aggregate.group_expr;
    aggregate.input = Arc::new(with_independent(&aggregate.input, |c| groups.contains(c))?);
    Ok(LogicalPlan::Aggregate(aggregate))
}

/// The distinct rows of `rows`. DataFusion leaves out making them distinct where a column was unique before a join.
fn distinct_for_sure(rows: &Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let rows = match may_seem_unique(rows)? {
        false => Arc::clone(rows),
        true => Arc::new(with_independent(rows, |_| true)?),
    };
    Ok(LogicalPlan::Distinct(Distinct::All(rows)))
}

/// Whether the engine may hold columns for unique that are not: those that were so before a join, in what it knows
/// now, or will know once it has planned what makes rows distinct there.
fn may_seem_unique(plan: &LogicalPlan) -> Result<bool> {
    if !plan.schema().functional_dependencies().is_empty() {
        return Ok(true);
    }
    let has = |is: fn(&LogicalPlan) -> bool| plan.exists(|node| Ok(is(node)));
    Ok(has(|node| matches!(node, LogicalPlan::Join(_)))?
        && has(|node| matches!(node, LogicalPlan::Distinct(_) | LogicalPlan::Aggregate(_)))?)
}

/// `input`, where the columns that `concerns` names depend on nothing.
fn with_independent(
    input: &Arc<LogicalPlan>,
    concerns: impl Fn(&Expr) -> bool,
) -> Result<LogicalPlan> {
    let columns = input.schema().columns().into_iter().map(|column| {
        let expr = Expr::Column(column.clone());
        match concerns(&expr) {
            true => independent(expr).alias_qualified(column.relation, column.name),
            false => expr,
        }
    });
    let projection = Projection::try_new(columns.collect(), Arc::clone(input))?;
    Ok(LogicalPlan::Projection(projection))
}
