//! From a statement that this crate plans to its plan.
//!
//! Owns which module plans which statement.

use datafusion::common::{Result, internal_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement as SqlStatement, With};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::planner::Planner;
use super::read::Own;
use super::{change, create, insert, merge, returning};

/// Plans a statement.
pub(crate) fn plan(state: &SessionState, own: Own) -> BoxFuture<'_, Result<LogicalPlan>> {
    async move {
        let outer = match own {
            Own::Change(statement) => *statement,
            Own::Create(table) => return create::plan(state, *table).await,
        };
        let (planner, statement) = Planner::of(state, outer)?;
        let changed = change(&planner, statement).await?;
        planner.in_place(changed).await
    }
    .boxed()
}

async fn change(planner: &Planner<'_>, statement: SqlStatement) -> Result<LogicalPlan> {
    let (with, statement) = without_with(statement)?;
    match statement {
        SqlStatement::Delete(mut delete) => {
            let returned = delete.returning.take();
            let (target, plan) = change::delete(planner, with, delete).await?;
            returning::returned(planner, &target, plan, returned).await
        }
        SqlStatement::Update(mut update) => {
            let returned = update.returning.take();
            let (target, plan) = change::update(planner, with, update).await?;
            returning::returned(planner, &target, plan, returned).await
        }
        SqlStatement::Merge(mut merge) => {
            let returned = returning::of_merge(&mut merge)?;
            let (target, plan) = merge::merge(planner, with, merge).await?;
            returning::returned(planner, &target, plan, returned).await
        }
        SqlStatement::Insert(mut insert) => {
            let returned = insert.returning.take();
            let (target, plan) = insert::insert(planner, with, insert).await?;
            returning::returned(planner, &target, plan, returned).await
        }
        other => internal_err!("{other} changes no rows"),
    }
}

/// A `WITH` before a statement, and the statement.
fn without_with(statement: SqlStatement) -> Result<(Option<With>, SqlStatement)> {
    let SqlStatement::Query(query) = statement else {
        return Ok((None, statement));
    };
    let Query { with, body, .. } = *query;
    match *body {
        SetExpr::Insert(statement)
        | SetExpr::Update(statement)
        | SetExpr::Delete(statement)
        | SetExpr::Merge(statement) => Ok((with, statement)),
        other => internal_err!("{other} changes no rows"),
    }
}
