//! Plans that workers execute a part of.
//!
//! Owns the planner of a session that has workers: it plans as the session does, has the engine cut the plan into stages,
//! and looks at what came of it. Whatever is not certain to be the same stays on the coordinator.
//!
//! Invariant: a plan has the same rows with workers as without.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::display::{PlanType, StringifiedPlan};
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::explain::ExplainExec;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion_distributed::{DistributedExec, SessionStateBuilderExt};

use super::exec::OnWorkersExec;
use super::functions_wire::functions_of;
use super::shipped::{arrives, worker_context};
use super::spread::{Reason, stages};

/// See the module documentation.
pub(super) struct WorkerPlanner {
    /// The session's own; DataFusion's if there is none.
    own: Option<Arc<dyn QueryPlanner + Send + Sync>>,
}

impl fmt::Debug for WorkerPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPlanner")
            .field("own", &self.own)
            .finish()
    }
}

impl WorkerPlanner {
    pub(super) fn over(own: Option<Arc<dyn QueryPlanner + Send + Sync>>) -> Self {
        Self { own }
    }

    async fn planned(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.own {
            Some(own) => own.create_physical_plan(plan, session).await,
            None => {
                let planner = DefaultPhysicalPlanner::default();
                planner.create_physical_plan(plan, session).await
            }
        }
    }
}

#[async_trait]
impl QueryPlanner for WorkerPlanner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let local = self.planned(logical, session).await?;
        if let (LogicalPlan::Explain(explain), Some(shown)) =
            (logical, local.downcast_ref::<ExplainExec>())
        {
            let explained = self.planned(&explain.plan, session).await?;
            let explained = distributed(explained, &explain.plan, session).await?;
            return Ok(match explained.downcast_ref::<OnWorkersExec>() {
                Some(plan) => with_stages(shown, plan),
                None => local,
            });
        }
        distributed(local, logical, session).await
    }
}

/// What `EXPLAIN` shows, with the stages for the plan.
fn with_stages(explain: &ExplainExec, plan: &OnWorkersExec) -> Arc<dyn ExecutionPlan> {
    let shown = explain.stringified_plans().iter().map(|part| {
        match part.plan_type == PlanType::FinalPhysicalPlan {
            true => StringifiedPlan::new(PlanType::FinalPhysicalPlan, plan.shown()),
            false => part.clone(),
        }
    });
    Arc::new(ExplainExec::new(
        explain.schema(),
        shown.collect(),
        explain.verbose(),
    ))
}

/// `local`, of which workers execute a part; or itself.
async fn distributed(
    local: Arc<dyn ExecutionPlan>,
    logical: &LogicalPlan,
    session: &dyn Session,
) -> Result<Arc<dyn ExecutionPlan>> {
    // A statement's sink that planned its rows anew has them on workers already.
    if local.exists(|node| Ok(node.is::<OnWorkersExec>()))? {
        return Ok(local);
    }
    let Some(planner) = SessionStateBuilder::new()
        .with_query_planner(Arc::new(Planned(Arc::clone(&local))))
        .with_distributed_planner()
        .query_planner()
        .take()
    else {
        return Ok(local);
    };
    let plan = match planner.create_physical_plan(logical, session).await {
        Ok(plan) => plan,
        Err(error) => return Ok(stays(local, &error.to_string())),
    };
    if !plan.exists(|node| Ok(node.is::<DistributedExec>()))? {
        return Ok(local);
    }
    Ok(match certain(&plan, session) {
        Ok(functions) => Arc::new(OnWorkersExec::new(plan, functions)),
        Err(reason) => stays(local, &reason),
    })
}

fn stays(local: Arc<dyn ExecutionPlan>, reason: &str) -> Arc<dyn ExecutionPlan> {
    tracing::debug!(reason, "a plan stays on the coordinator");
    local
}

/// Whether all stages of `plan` are the plan that they were made of, and arrive as that; and the functions that they call.
fn certain(plan: &Arc<dyn ExecutionPlan>, session: &dyn Session) -> Result<String, Reason> {
    let stages = stages(plan)?;
    if stages.is_empty() {
        return Err("there are no stages".to_owned());
    }
    let session = session.task_ctx();
    let functions = functions_of(&stages, &session)?;
    let worker = worker_context(&session, &functions).map_err(|e| e.to_string())?;
    for stage in &stages {
        arrives(stage, &worker)?;
    }
    Ok(functions)
}

/// A planner of one plan.
#[derive(Debug)]
struct Planned(Arc<dyn ExecutionPlan>);

#[async_trait]
impl QueryPlanner for Planned {
    async fn create_physical_plan(
        &self,
        _logical: &LogicalPlan,
        _session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::clone(&self.0))
    }
}
