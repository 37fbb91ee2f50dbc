//! `DELETE` and `UPDATE`: their rows are planned as a query, in which a `WITH`, an alias, the tables of `USING` and
//! `FROM`, an order and a limit mean what they always do.
//!
//! Invariants: a row that several rows of `USING` match is deleted once; one that several rows of `FROM` match
//! reaches the change several times, which refuses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, internal_err};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Filter, JoinType, LogicalPlan, LogicalPlanBuilder, WriteOp, lit,
};
use datafusion::sql::sqlparser::ast::{
    AssignmentTarget, Delete, Expr as SqlExpr, FromTable, SelectItem, TableWithJoins, Update,
    UpdateTableFromKind, With,
};

use super::columns::{set_twice, typed};
use super::default::value_or_default;
use super::planner::{Planner, refused, without_list};
use super::target::Target;
use super::tree::{self, Rows};

/// Plans a `DELETE`.
///
/// # Errors
/// Says what cannot be understood, or is refused.
pub(super) async fn delete(
    planner: &Planner<'_>,
    with: Option<With>,
    delete: Delete,
) -> Result<(Target, LogicalPlan)> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = delete.from;
    let [table] = from.as_slice() else {
        return Err(refused(
            "DELETE",
            "it deletes from one table; run one DELETE for each",
        ));
    };
    if !table.joins.is_empty() || !delete.tables.is_empty() {
        return Err(refused(
            "DELETE FROM … JOIN",
            "name the other tables in USING, and the condition in WHERE",
        ));
    }
    if delete.output.is_some() || !delete.optimizer_hints.is_empty() {
        return Err(refused("DELETE … OUTPUT", "use RETURNING, and no hints"));
    }
    let target = Target::of(planner, &table.relation, "DELETE").await?;
    let (factor, _) = target.in_query(with.as_ref(), planner.normalize);
    let limited = delete.limit.is_some();
    let rows = Rows {
        with,
        from: vec![tree::alone(factor)],
        selection: delete.selection,
        // Without a limit the order does not matter.
        order_by: if limited { delete.order_by } else { Vec::new() },
        limit: delete.limit,
        ..Rows::default()
    };
    let input = match delete.using {
        Some(_) if limited => {
            return Err(refused(
                "DELETE … USING … LIMIT",
                "which rows of both tables count is not defined; use WHERE … IN (SELECT … LIMIT …)",
            ));
        }
        Some(using) => matched(planner, rows, using).await?,
        None => {
            let plan = planner.plan(rows.statement()?).await?;
            match limited {
                true => plan,
                false => without_list(plan)?,
            }
        }
    };
    let plan = target.changed(WriteOp::Delete, input)?;
    Ok((target, plan))
}

/// The rows of `rows`' table for which there is a match in the tables of `using`.
async fn matched(
    planner: &Planner<'_>,
    rows: Rows,
    using: Vec<TableWithJoins>,
) -> Result<LogicalPlan> {
    let targets = Rows {
        selection: None,
        ..rows.clone()
    };
    let sources = Rows {
        from: using.clone(),
        ..targets.clone()
    };
    // What a column of the condition means is decided where all tables are in one FROM: one that two of them have
    // is ambiguous, and not the nearest table's.
    let mut joined = rows;
    joined.from.extend(using);
    let joined = without_list(planner.plan(joined.statement()?).await?)?;
    let targets = without_list(planner.plan(targets.statement()?).await?)?;
    let sources = without_list(planner.plan(sources.statement()?).await?)?;
    let condition = match joined {
        LogicalPlan::Filter(filter) => Some(filter.predicate),
        LogicalPlan::Join(_) => None,
        other => return internal_err!("two tables are planned as {}", other.display()),
    };
    semi_join(targets, sources, condition)
}

fn semi_join(
    targets: LogicalPlan,
    sources: LogicalPlan,
    condition: Option<Expr>,
) -> Result<LogicalPlan> {
    let (mut of_targets, mut of_sources, mut of_both) = (Vec::new(), Vec::new(), Vec::new());
    for part in condition.map(split_conjunction_owned).unwrap_or_default() {
        let (columns, has_subquery) = columns_of(&part)?;
        let all_in = |schema: &DFSchema| columns.iter().all(|column| schema.has_column(column));
        if all_in(targets.schema()) {
            of_targets.push(part);
        } else if all_in(sources.schema()) {
            of_sources.push(part);
        } else if has_subquery {
            return Err(refused(
                "DELETE … USING",
                "a subquery that refers to both the table and one of USING; use \
                 WHERE EXISTS (SELECT … FROM … WHERE …) instead of USING",
            ));
        } else {
            of_both.push(part);
        }
    }
    let targets = filtered(targets, of_targets)?;
    let sources = filtered(sources, of_sources)?;
    let on = conjunction(of_both).unwrap_or_else(|| lit(true));
    LogicalPlanBuilder::from(targets)
        .join_on(sources, JoinType::LeftSemi, [on])?
        .build()
}

fn filtered(plan: LogicalPlan, conditions: Vec<Expr>) -> Result<LogicalPlan> {
    match conjunction(conditions) {
        Some(condition) => Ok(LogicalPlan::Filter(Filter::try_new(
            condition,
            Arc::new(plan),
        )?)),
        None => Ok(plan),
    }
}

/// The columns that an expression refers to, its subqueries included, and whether it has any of those.
fn columns_of(expr: &Expr) -> Result<(Vec<Column>, bool)> {
    let (mut columns, mut has_subquery) = (Vec::new(), false);
    expr.apply(|part| {
        let subquery = match part {
            Expr::Column(column) => {
                columns.push(column.clone());
                None
            }
            Expr::Exists(exists) => Some(&exists.subquery),
            Expr::InSubquery(list) => Some(&list.subquery),
            Expr::SetComparison(comparison) => Some(&comparison.subquery),
            Expr::ScalarSubquery(subquery) => Some(subquery),
            _ => None,
        };
        if let Some(subquery) = subquery {
            has_subquery = true;
            for outer in &subquery.outer_ref_columns {
                outer.apply(|part| {
                    if let Expr::OuterReferenceColumn(_, column) = part {
                        columns.push(column.clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok((columns, has_subquery))
}

/// Plans an `UPDATE`.
///
/// # Errors
/// Says what cannot be understood, or is refused.
pub(super) async fn update(
    planner: &Planner<'_>,
    with: Option<With>,
    mut update: Update,
) -> Result<(Target, LogicalPlan)> {
    if !update.table.joins.is_empty() {
        return Err(refused(
            "UPDATE … JOIN",
            "name the other tables in FROM, and the condition in WHERE",
        ));
    }
    if update.output.is_some() || update.or.is_some() || !update.optimizer_hints.is_empty() {
        return Err(refused(
            "UPDATE … OUTPUT or UPDATE OR …",
            "use RETURNING; nothing else is in the way of a row",
        ));
    }
    let target = Target::of(planner, &update.table.relation, "UPDATE").await?;
    let from = match update.from.take() {
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => from,
        None => Vec::new(),
    };
    if !from.is_empty() && update.limit.is_some() {
        return Err(refused(
            "UPDATE … FROM … LIMIT",
            "which rows of both tables count is not defined; use WHERE … IN (SELECT … LIMIT …)",
        ));
    }
    let rows = updated(planner, &target, with, update, from)?;
    let rows = planner.plan(rows.statement()?).await?;
    let plan = typed(&target.provider.schema(), rows)?;
    let plan = target.changed(WriteOp::Update, plan)?;
    Ok((target, plan))
}

/// The query of the new rows.
fn updated(
    planner: &Planner<'_>,
    target: &Target,
    with: Option<With>,
    update: Update,
    from: Vec<TableWithJoins>,
) -> Result<Rows> {
    let (factor, mut qualifier) = target.in_query(with.as_ref(), planner.normalize);
    let mut tables = vec![tree::alone(factor)];
    let mut selection = update.selection;
    if update.limit.is_some() {
        // An order means the old values.
        let limited = Rows {
            from: tables,
            selection: selection.take(),
            order_by: update.order_by,
            limit: update.limit,
            ..Rows::default()
        };
        qualifier = qualifier.pop().into_iter().collect();
        let alias = qualifier.first().cloned().map(tree::alias);
        tables = vec![tree::alone(tree::derived(limited.query()?, alias))];
    }
    tables.extend(from);
    let mut assigned = BTreeMap::new();
    for assignment in update.assignments {
        let AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err(refused(
                "UPDATE … SET (…) = …",
                "set one column after the other",
            ));
        };
        let column = target.assigned(name, planner.normalize)?;
        let value = value_or_default(assignment.value, target.provider.as_ref(), &column)?;
        if assigned.insert(column.clone(), value).is_some() {
            return Err(set_twice(&target.reference, &column).into());
        }
    }
    let items = target
        .provider
        .schema()
        .fields()
        .iter()
        .map(|field| SelectItem::ExprWithAlias {
            expr: assigned
                .remove(field.name())
                .map(|value| SqlExpr::Nested(Box::new(value)))
                .unwrap_or_else(|| tree::column(&qualifier, tree::exactly(field.name()))),
            alias: tree::exactly(field.name()),
        })
        .collect();
    Ok(Rows {
        with,
        items,
        from: tables,
        selection,
        ..Rows::default()
    })
}
