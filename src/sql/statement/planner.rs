//! From a statement that this crate plans to its plan.
//!
//! Owns what all of them share: queries are planned by DataFusion, where the statement stands (under `EXPLAIN`,
//! under `PREPARE`, whose parameters have types), and the finished change is put there.

use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    LogicalPlan, PlanType, Statement as StatementPlan, ToStringifiedPlan,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement as SqlStatement, With};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::read::Own;
use super::{change, create, insert, merge, returning};
use crate::error::{Error, ErrorKind};

/// Plans a statement.
pub(crate) fn plan(state: &SessionState, own: Own) -> BoxFuture<'_, Result<LogicalPlan>> {
    async move {
        let mut outer = match own {
            Own::Change(statement) => *statement,
            Own::Create(table) => return create::plan(state, *table).await,
        };
        let nothing = nothing()?;
        let inner = match innermost(&mut outer) {
            Some(inner) => std::mem::replace(inner, nothing),
            None => return internal_err!("the statement is none that changes rows"),
        };
        let planner = Planner {
            normalize: state.config_options().sql_parser.enable_ident_normalization,
            state,
            outer,
        };
        let changed = planner.change(inner).await?;
        planner.in_place(changed).await
    }
    .boxed()
}

/// Plans parts of one statement.
pub(super) struct Planner<'a> {
    pub(super) state: &'a SessionState,
    /// Whether names that are not quoted become lower case.
    pub(super) normalize: bool,
    /// What the statement stands in.
    outer: Statement,
}

impl Planner<'_> {
    async fn change(&self, statement: SqlStatement) -> Result<LogicalPlan> {
        let (with, statement) = without_with(statement)?;
        match statement {
            SqlStatement::Delete(mut delete) => {
                let returned = delete.returning.take();
                let (target, plan) = change::delete(self, with, delete).await?;
                returning::returned(self, &target, plan, returned).await
            }
            SqlStatement::Update(mut update) => {
                let returned = update.returning.take();
                let (target, plan) = change::update(self, with, update).await?;
                returning::returned(self, &target, plan, returned).await
            }
            SqlStatement::Merge(mut merge) => {
                let returned = returning::of_merge(&mut merge)?;
                let (target, plan) = merge::merge(self, with, merge).await?;
                returning::returned(self, &target, plan, returned).await
            }
            SqlStatement::Insert(mut insert) => {
                let returned = insert.returning.take();
                let (target, plan) = insert::insert(self, with, insert).await?;
                returning::returned(self, &target, plan, returned).await
            }
            other => internal_err!("{other} changes no rows"),
        }
    }

    /// The plan of a statement that DataFusion knows.
    pub(super) async fn plan(&self, statement: SqlStatement) -> Result<LogicalPlan> {
        let mut outer = self.outer.clone();
        match innermost(&mut outer) {
            Some(inner) => *inner = statement,
            None => return internal_err!("the statement is none that changes rows"),
        }
        Ok(inner_of(self.state.statement_to_plan(outer).await?))
    }

    /// `changed` where the statement stands.
    async fn in_place(&self, changed: LogicalPlan) -> Result<LogicalPlan> {
        let mut outer = self.outer.clone();
        match innermost(&mut outer) {
            // Anything that can be planned.
            Some(inner) => *inner = nothing()?,
            None => return internal_err!("the statement is none that changes rows"),
        }
        with_inner(self.state.statement_to_plan(outer).await?, changed)
    }
}

fn nothing() -> Result<SqlStatement> {
    let dialect = datafusion::sql::sqlparser::dialect::GenericDialect {};
    datafusion::sql::sqlparser::parser::Parser::new(&dialect)
        .try_with_sql("SELECT 1")?
        .parse_statement()
        .map_err(Into::into)
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

fn innermost(statement: &mut Statement) -> Option<&mut SqlStatement> {
    match statement {
        Statement::Explain(explain) => innermost(&mut explain.statement),
        Statement::Statement(statement) => Some(innermost_sql(statement)),
        _ => None,
    }
}

fn innermost_sql(statement: &mut SqlStatement) -> &mut SqlStatement {
    match statement {
        SqlStatement::Explain { statement, .. } | SqlStatement::Prepare { statement, .. } => {
            innermost_sql(statement)
        }
        other => other,
    }
}

fn inner_of(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Explain(explain) => inner_of(Arc::unwrap_or_clone(explain.plan)),
        LogicalPlan::Analyze(analyze) => inner_of(Arc::unwrap_or_clone(analyze.input)),
        LogicalPlan::Statement(StatementPlan::Prepare(prepare)) => {
            inner_of(Arc::unwrap_or_clone(prepare.input))
        }
        other => other,
    }
}

fn with_inner(plan: LogicalPlan, inner: LogicalPlan) -> Result<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Explain(mut explain) => {
            let plan = with_inner(Arc::unwrap_or_clone(explain.plan), inner)?;
            explain.stringified_plans = vec![plan.to_stringified(PlanType::InitialLogicalPlan)];
            explain.plan = Arc::new(plan);
            LogicalPlan::Explain(explain)
        }
        LogicalPlan::Analyze(mut analyze) => {
            analyze.input = Arc::new(with_inner(Arc::unwrap_or_clone(analyze.input), inner)?);
            LogicalPlan::Analyze(analyze)
        }
        LogicalPlan::Statement(StatementPlan::Prepare(mut prepare)) => {
            if prepare.fields.is_empty() {
                prepare.fields = parameters(&inner)?;
            }
            prepare.input = Arc::new(with_inner(Arc::unwrap_or_clone(prepare.input), inner)?);
            LogicalPlan::Statement(StatementPlan::Prepare(prepare))
        }
        _ => inner,
    })
}

/// The parameters of a statement that is prepared without their types, as far as they are known.
fn parameters(plan: &LogicalPlan) -> Result<Vec<FieldRef>> {
    let fields = plan.get_parameter_fields()?;
    Ok((1..=fields.len())
        .filter_map(|number| fields.get(&format!("${number}")).cloned().flatten())
        .collect())
}

/// What is refused, and what to do instead.
pub(super) fn refused(form: &str, why: &str) -> datafusion::error::DataFusionError {
    Error::new(ErrorKind::Unsupported, form, why).into()
}

/// The rows that `SELECT * FROM …` reads, without the list of their columns.
pub(super) fn without_list(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(projection) => Ok(Arc::unwrap_or_clone(projection.input)),
        other => Err(internal_datafusion_err!(
            "a query is planned as {}",
            other.display()
        )),
    }
}
