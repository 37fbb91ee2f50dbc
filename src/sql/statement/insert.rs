//! `INSERT`: columns by the names of the query, and defaults as values.

use datafusion::common::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Insert, ObjectName, Parens, Query, SetExpr, Statement, TableObject, Values, With,
};

use super::columns::named;
use super::default::{default_of, value_or_default};
use super::merge::merge;
use super::on_conflict;
use super::planner::{Planner, refused};
use super::read::stands_for_names;
use super::target::Target;
use super::tree::{self, Rows};
use super::with::around;

/// Plans an `INSERT`.
///
/// # Errors
/// Says what cannot be understood, or is refused.
pub(super) async fn insert(
    planner: &Planner<'_>,
    with: Option<With>,
    mut insert: Insert,
) -> Result<(Target, LogicalPlan)> {
    let name = match &insert.table {
        TableObject::TableName(name) => name.clone(),
        other => {
            return Err(refused(
                &format!("INSERT INTO {other}"),
                "rows are inserted into a table, by its name",
            ));
        }
    };
    let alias = insert.table_alias.take().map(|alias| alias.alias);
    let target = Target::named(planner, name, alias).await?;
    let source = match insert.source.take() {
        Some(source) => around(*source, with),
        None => defaults(&target)?,
    };
    if stands_for_names(&insert.columns) {
        let rows = planner
            .plan(Statement::Query(Box::new(source.clone())))
            .await?;
        insert.columns = columns_of(&target, &rows)?;
    }
    let source = with_defaults(planner, &target, &insert.columns, source)?;
    if let Some(on) = insert.on.take() {
        if insert.overwrite {
            return Err(refused(
                "INSERT OVERWRITE … ON CONFLICT",
                "no row is left that could have a new row's key; leave ON CONFLICT out",
            ));
        }
        let columns = target.named_columns(&insert.columns, planner.normalize);
        let same = on_conflict::merge(planner, &target, &columns, source, on)?;
        return merge(planner, None, same).await;
    }
    insert.source = Some(Box::new(source));
    let plan = planner.plan(Statement::Insert(insert)).await?;
    Ok((target, plan))
}

/// `VALUES` of the columns' defaults.
fn defaults(target: &Target) -> Result<Query> {
    let content = target
        .provider
        .schema()
        .fields()
        .iter()
        .map(|field| default_of(target.provider.as_ref(), field.name()))
        .collect::<Result<Vec<_>>>()?;
    let rows = vec![Parens {
        opening_token: AttachedToken::empty(),
        content,
        closing_token: AttachedToken::empty(),
    }];
    let mut query = Rows::default().query()?;
    query.body = Box::new(SetExpr::Values(Values {
        explicit_row: false,
        value_keyword: false,
        rows,
    }));
    Ok(query)
}

/// The table's columns that have the names of a query's.
fn columns_of(target: &Target, rows: &LogicalPlan) -> Result<Vec<ObjectName>> {
    let rename = "in INSERT … BY NAME name the query's columns with AS";
    let schema = target.provider.schema();
    let names = named(&target.reference, &schema, rows.schema(), rename)?;
    let exactly = |name: String| ObjectName::from(tree::exactly(name));
    Ok(names.into_iter().map(exactly).collect())
}

/// `source` with the columns' defaults in place of `DEFAULT` in its values.
fn with_defaults(
    planner: &Planner<'_>,
    target: &Target,
    columns: &[ObjectName],
    mut source: Query,
) -> Result<Query> {
    let SetExpr::Values(values) = source.body.as_mut() else {
        return Ok(source);
    };
    let names = target.named_columns(columns, planner.normalize);
    for row in &mut values.rows {
        // DataFusion counts them.
        for (value, name) in row.content.iter_mut().zip(&names) {
            let given = std::mem::replace(value, null());
            *value = value_or_default(given, target.provider.as_ref(), name)?;
        }
    }
    Ok(source)
}

fn null() -> datafusion::sql::sqlparser::ast::Expr {
    datafusion::sql::sqlparser::ast::Expr::Value(
        datafusion::sql::sqlparser::ast::Value::Null.into(),
    )
}
