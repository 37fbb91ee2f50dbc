//! `RETURNING`: the rows that a statement has changed, as its result.
//!
//! Owns planning the list over them. Does not own keeping the rows (`dml::returning`).

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::dml::MergeIntoAction;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, WriteOp};
use datafusion::sql::sqlparser::ast::{Merge, OutputClause, SelectItem};

use super::planner::{Planner, refused};
use super::target::Target;
use super::tree::{self, Rows};
use crate::dml::write::returning::changed_rows;
use crate::scan::row_address::EXPOSED_ROW_ID;

/// The `RETURNING` of a `MERGE`.
///
/// # Errors
/// It is an `OUTPUT`.
pub(super) fn of_merge(merge: &mut Merge) -> Result<Option<Vec<SelectItem>>> {
    match merge.output.take() {
        None => Ok(None),
        Some(OutputClause::Returning { select_items, .. }) => Ok(Some(select_items)),
        Some(OutputClause::Output { .. }) => Err(refused("MERGE … OUTPUT", "use RETURNING")),
    }
}

/// `plan`, which changes `target`, with the list of `RETURNING` as its result.
///
/// # Errors
/// Says what cannot be understood, or is refused.
pub(super) async fn returned(
    planner: &Planner<'_>,
    target: &Target,
    plan: LogicalPlan,
    items: Option<Vec<SelectItem>>,
) -> Result<LogicalPlan> {
    let Some(items) = items else {
        return Ok(plan);
    };
    target.supertable("RETURNING")?;
    let (factor, _) = target.in_query(None, planner.normalize);
    let rows = Rows {
        items,
        from: vec![tree::alone(factor)],
        ..Rows::default()
    };
    let list = planner.plan(rows.statement()?).await?;
    over_changed(planner, target, plan, list)
}

fn over_changed(
    planner: &Planner<'_>,
    target: &Target,
    plan: LogicalPlan,
    list: LogicalPlan,
) -> Result<LogicalPlan> {
    if let LogicalPlan::Dml(dml) = &plan
        && let WriteOp::MergeInto(merge) = &dml.op
        && (merge.clauses.iter()).any(|c| matches!(c.action, MergeIntoAction::Delete))
    {
        return Err(refused(
            "MERGE … RETURNING",
            "with a clause that deletes; use DELETE … USING … RETURNING for those rows",
        ));
    }
    let LogicalPlan::Projection(list) = list else {
        return Err(only_expressions());
    };
    // DISTINCT, aggregates, windows and unnest() stand between the list and the table.
    let mut below = list.input.as_ref();
    let has_own = loop {
        match below {
            LogicalPlan::SubqueryAlias(alias) => below = alias.input.as_ref(),
            LogicalPlan::Projection(exposing) => below = exposing.input.as_ref(),
            LogicalPlan::TableScan(scan) => {
                let columns = &scan.projected_schema;
                break columns.has_column_with_unqualified_name(EXPOSED_ROW_ID);
            }
            _ => return Err(only_expressions()),
        }
    };
    let mut exprs = list.expr;
    // The changed rows have no ids to show; a column of the table may have that name.
    exprs.retain(|expr| {
        has_own || !matches!(expr, Expr::Column(column) if column.name == EXPOSED_ROW_ID)
    });
    for expr in &exprs {
        expr.apply(|part| match part {
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::ScalarSubquery(_)
            | Expr::SetComparison(_) => Err(only_expressions()),
            _ => Ok(TreeNodeRecursion::Continue),
        })?;
    }
    let name = target.qualifier(planner.normalize);
    let changed = changed_rows(name, target.provider.schema(), plan)?;
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(changed),
    )?))
}

fn only_expressions() -> datafusion::error::DataFusionError {
    refused(
        "RETURNING",
        "its list holds expressions of the changed rows' columns, no subqueries, aggregates or \
         windows; SELECT those afterwards",
    )
}
