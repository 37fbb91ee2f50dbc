//! `MERGE`: all columns by their names, defaults as values, and the queries of a `WITH`.

use datafusion::common::{Column, Result, TableReference};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, Ident, Merge, MergeAction, MergeClauseKind,
    MergeInsertKind, ObjectName, Statement, TableFactor, Value, With,
};

use super::default::value_or_default;
use super::planner::{Planner, refused};
use super::read::{assigns_all, stands_for_all};
use super::target::Target;
use super::tree::{self, Rows};
use super::with::push;

/// Plans a `MERGE`.
///
/// # Errors
/// Says what cannot be understood, or is refused.
pub(super) async fn merge(
    planner: &Planner<'_>,
    with: Option<With>,
    mut merge: Merge,
) -> Result<(Target, LogicalPlan)> {
    let target = Target::of(planner, &merge.table, "MERGE").await?;
    if let Some(with) = &with {
        push(with, planner.normalize, &mut merge.source)?;
        push(with, planner.normalize, &mut merge.on)?;
        push(with, planner.normalize, &mut merge.clauses)?;
    }
    if (merge.clauses.iter()).any(|clause| {
        clause.clause_kind == MergeClauseKind::NotMatchedBySource && is_for_all(&clause.action)
    }) {
        return Err(refused(
            "MERGE … WHEN NOT MATCHED BY SOURCE THEN UPDATE SET *",
            "there is no source row to take the values from; name the columns and their values",
        ));
    }
    let common = match merge.clauses.iter().any(|c| is_for_all(&c.action)) {
        true => common(planner, &target, merge.source.clone()).await?,
        false => Vec::new(),
    };
    for clause in &mut merge.clauses {
        complete(planner, &target, &common, &mut clause.action)?;
    }
    let plan = planner.plan(Statement::Merge(merge)).await?;
    Ok((target, plan))
}

fn is_for_all(action: &MergeAction) -> bool {
    match action {
        MergeAction::Update(update) => update.assignments.iter().any(assigns_all),
        MergeAction::Insert(insert) => stands_for_all(&insert.columns),
        MergeAction::Delete { .. } => false,
    }
}

/// The columns that the table and the source have in common, and their values in the source.
async fn common(
    planner: &Planner<'_>,
    target: &Target,
    source: TableFactor,
) -> Result<Vec<(String, Expr)>> {
    let rows = Rows {
        from: vec![tree::alone(source)],
        ..Rows::default()
    };
    let rows = planner.plan(rows.statement()?).await?;
    named_alike(target, &rows)
}

fn named_alike(target: &Target, rows: &LogicalPlan) -> Result<Vec<(String, Expr)>> {
    let schema = target.provider.schema();
    let common = super::columns::common(&target.reference, &schema, rows.schema())?;
    let named = |(name, column): (String, Column)| {
        let qualifier = column.relation.as_ref().map(parts_of).unwrap_or_default();
        let value = tree::column(&qualifier, tree::exactly(&name));
        (name, value)
    };
    Ok(common.into_iter().map(named).collect())
}

fn parts_of(name: &TableReference) -> Vec<Ident> {
    [name.catalog(), name.schema(), Some(name.table())]
        .into_iter()
        .flatten()
        .map(tree::exactly)
        .collect()
}

/// Puts what they stand for in the place of `*` and `DEFAULT`.
fn complete(
    planner: &Planner<'_>,
    target: &Target,
    common: &[(String, Expr)],
    action: &mut MergeAction,
) -> Result<()> {
    let for_all = is_for_all(action);
    match action {
        MergeAction::Update(update) if for_all => {
            update.assignments = common
                .iter()
                .map(|(name, value)| Assignment {
                    target: AssignmentTarget::ColumnName(tree::exactly(name).into()),
                    value: value.clone(),
                })
                .collect();
        }
        MergeAction::Update(update) => {
            for assignment in &mut update.assignments {
                let AssignmentTarget::ColumnName(name) = &assignment.target else {
                    continue;
                };
                let column = tree::last_of(name, planner.normalize);
                set_default(target, &column, &mut assignment.value)?;
            }
        }
        MergeAction::Insert(insert) if for_all => {
            let named = |(name, _): &(String, Expr)| ObjectName::from(tree::exactly(name));
            insert.columns = common.iter().map(named).collect();
            if let MergeInsertKind::Values(values) = &mut insert.kind {
                for row in &mut values.rows {
                    row.content = common.iter().map(|(_, value)| value.clone()).collect();
                }
            }
        }
        MergeAction::Insert(insert) => {
            let columns = target.named_columns(&insert.columns, planner.normalize);
            if let MergeInsertKind::Values(values) = &mut insert.kind {
                for row in &mut values.rows {
                    for (value, column) in row.content.iter_mut().zip(&columns) {
                        set_default(target, column, value)?;
                    }
                }
            }
        }
        MergeAction::Delete { .. } => {}
    }
    Ok(())
}

fn set_default(target: &Target, column: &str, value: &mut Expr) -> Result<()> {
    let given = std::mem::replace(value, Expr::Value(Value::Null.into()));
    *value = value_or_default(given, target.provider.as_ref(), column)?;
    Ok(())
}
