//! What all statements share that this crate plans.
//!
//! Owns the place where a statement stands: queries are planned by DataFusion, where the statement stands (under `EXPLAIN`,
//! under `PREPARE`, whose parameters have types), and the finished change is put there.

use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    LogicalPlan, PlanType, Statement as StatementPlan, ToStringifiedPlan,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use crate::error::{Error, ErrorKind};

/// Plans parts of one statement.
pub(super) struct Planner<'a> {
    pub(super) state: &'a SessionState,
    /// Whether names that are not quoted become lower case.
    pub(super) normalize: bool,
    /// What the statement stands in.
    outer: Statement,
}

impl<'a> Planner<'a> {
    /// For `outer`, which is, or stands around, a statement that changes rows; that statement comes with it.
    pub(super) fn of(
        state: &'a SessionState,
        mut outer: Statement,
    ) -> Result<(Self, SqlStatement)> {
        let nothing = nothing()?;
        let inner = match innermost(&mut outer) {
            Some(inner) => std::mem::replace(inner, nothing),
            None => return internal_err!("the statement is none that changes rows"),
        };
        let planner = Self {
            normalize: state.config_options().sql_parser.enable_ident_normalization,
            state,
            outer,
        };
        Ok((planner, inner))
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
    pub(super) async fn in_place(&self, changed: LogicalPlan) -> Result<LogicalPlan> {
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
