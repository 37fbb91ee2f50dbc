//! The whole of a plan made sound, node by node.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::logical_plan::Sort;

use super::names::Names;
use super::references::{as_named_before, input_schema};
use super::seal::{Mode, Sealer};
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
        self.seal(plan)
    }

    fn seal(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
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
        let sealer = Sealer {
            schema: &schema,
            config: &self.config,
            mode: self.mode,
        };
        let sealed = match plan {
            LogicalPlan::Join(mut join) => {
                join.on = join
                    .on
                    .into_iter()
                    .map(|(l, r)| Ok((sealer.key(l)?, sealer.key(r)?)))
                    .collect::<Result<_>>()?;
                join.filter = match join.filter.take() {
                    Some(filter) => Some(sealer.predicate(filter)?),
                    None => None,
                };
                return Ok(LogicalPlan::Join(join));
            }
            LogicalPlan::Sort(sort) => LogicalPlan::Sort(Sort {
                expr: sealer.order(sort.expr)?,
                ..sort
            }),
            LogicalPlan::Filter(_) => {
                plan.map_expressions(|e| Ok(Transformed::yes(sealer.predicate(e)?)))?
                    .data
            }
            // Its expressions keep their names, and take no alias.
            LogicalPlan::Window(_) => {
                plan.map_expressions(|e| Ok(Transformed::yes(sealer.value(e)?)))?
                    .data
            }
            other => {
                other
                    .map_expressions(|e| {
                        let sealed = sealer.value(e.clone())?;
                        Ok(Transformed::yes(as_named_before(&e, sealed)))
                    })?
                    .data
            }
        };
        sealed.recompute_schema()
    }
}
