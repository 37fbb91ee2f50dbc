//! A statement that lost against another one runs again.
//!
//! Owns the loop: attempt, and on a conflict a pause, a plan over the versions that are current
//! then, and another attempt; how often is `table::attempts`' to say. Does not own what an attempt does, nor what a conflict is.
//!
//! Invariant: an attempt that lost left nothing visible. What a caller sees after the last one is an
//! error of kind `Conflict`: nothing was changed, and the statement may be run again.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_expr::{LexOrdering, LexRequirement};
use datafusion::physical_plan::metrics::Count;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::future::BoxFuture;

use crate::dml::write::receipt::Receipt;
use crate::dml::write::sort::SortInPartExec;
use crate::error::{Error, ErrorKind};
use crate::scan::Pin;
use crate::table::{AttemptEnd, Attempts, CommitOutcome, ConflictReason, Table};

/// How an attempt ended whose rows were made for the table's columns, and whose commit ended like this.
///
/// # Errors
/// Those of `outcome` that another attempt would not heal: rows of the old columns cannot be added, however often
/// they are made.
pub(crate) fn attempt_end(outcome: crate::error::Result<CommitOutcome>) -> Result<AttemptEnd> {
    match outcome {
        Ok(CommitOutcome::Conflict(c)) if c.reason == ConflictReason::SchemaChanged => {
            Err(Error::new(
                ErrorKind::Conflict,
                "table",
                format!("{c}, once this session has opened the table again"),
            )
            .into())
        }
        outcome => Ok(AttemptEnd::of(outcome)?),
    }
}

/// One attempt at a statement.
#[async_trait]
pub(crate) trait Attempt: Send + Sync {
    /// Reads `rows`, the partitions of what the statement's plan yields over the version of `pin`, and commits.
    async fn attempt(
        &self,
        rows: Vec<SendableRecordBatchStream>,
        pin: &Pin,
        context: &Arc<TaskContext>,
    ) -> Result<AttemptEnd>;
}

/// A statement that was planned over the versions that are current now.
pub(crate) struct Again {
    /// The version of the table that it changes.
    pub(crate) pin: Arc<Pin>,
    /// The plan of its rows.
    pub(crate) rows: BoxFuture<'static, Result<Arc<dyn ExecutionPlan>>>,
}

/// A statement whose rows can be planned again.
pub(crate) trait PlanAgain: fmt::Debug + Send + Sync {
    /// Plans them, in `session`, over the versions that are current when they are read.
    fn plan_again(&self, session: Arc<dyn Session>) -> Result<Again>;
}

/// What a statement needs to be planned anew.
pub(crate) struct Rerun {
    table: Table,
    statement: String,
    again: Arc<dyn PlanAgain>,
    /// A session of another kind than DataFusion's own gets the conflict instead.
    session: Option<Arc<dyn Session>>,
    /// The order that the sink's first input was given by its plan.
    order: Option<LexOrdering>,
}

/// The span of a statement that changes rows.
pub(crate) fn statement_span(statement: &str) -> tracing::Span {
    tracing::debug_span!("statement", statement)
}

impl Rerun {
    /// For a statement that changes `table`, with the rows that `again` plans.
    pub(crate) fn new(
        table: Table,
        statement: String,
        again: Arc<dyn PlanAgain>,
        session: &dyn Session,
        order: Option<LexRequirement>,
    ) -> Self {
        Self {
            table,
            statement,
            again,
            session: session
                .as_any()
                .downcast_ref::<SessionState>()
                .map(|s| Arc::new(s.clone()) as Arc<dyn Session>),
            order: order.map(LexOrdering::from),
        }
    }

    /// The statement in words.
    pub(crate) fn statement(&self) -> &str {
        &self.statement
    }

    /// Attempts the statement until it is committed, or has lost too often.
    pub(crate) async fn run(
        &self,
        attempt: &dyn Attempt,
        pin: &Arc<Pin>,
        rows: Vec<SendableRecordBatchStream>,
        context: &Arc<TaskContext>,
        reruns: Count,
    ) -> Result<u64> {
        let mut attempts = Attempts::of(self.statement.as_str(), &self.table);
        let mut rows = rows;
        let mut pin = Arc::clone(pin);
        loop {
            let conflict = match attempt.attempt(rows, &pin, context).await? {
                AttemptEnd::Committed { rows_affected, .. } => return Ok(rows_affected),
                AttemptEnd::Nothing => return Ok(0),
                AttemptEnd::Lost(conflict) => conflict,
            };
            let Some(session) = &self.session else {
                return Err(attempts.given_up(conflict).into());
            };
            attempts.after_loss(conflict).await?;
            reruns.add(1);
            Receipt::add_rerun(context);
            let again = self.again.plan_again(Arc::clone(session))?;
            pin = again.pin;
            let plan = self.in_order(again.rows.await?);
            rows = vec![execute_stream(plan, Arc::clone(context))?];
        }
    }

    fn in_order(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        match &self.order {
            None => plan,
            Some(order) => Arc::new(SortInPartExec::new(plan, order.clone())),
        }
    }
}
