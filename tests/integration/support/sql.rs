//! Statements in a session, and what they answer.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::Result;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::memory::InMemory;
use url::Url;

use super::fault_store::{FaultStore, Plan};

/// A session as most tests need it, without the registration.
pub(crate) fn context() -> SessionContext {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2))
}

/// A session of this configuration, without the registration; on the workers that `SUPERTABLE_TEST_WORKERS` names, with
/// commas between, if it names some.
pub(crate) fn maybe_on_workers(config: SessionConfig) -> SessionContext {
    #[cfg(feature = "distributed")]
    if let Ok(workers) = std::env::var("SUPERTABLE_TEST_WORKERS") {
        let workers: Vec<String> = workers.split(',').map(str::to_owned).collect();
        return crate::distributed::session(config, &workers);
    }
    SessionContext::new_with_config(config)
}

/// Runs a statement; the count that it answers, if it answers one.
pub(crate) async fn run(ctx: &SessionContext, sql: &str) -> Result<u64> {
    let batches = ctx.sql(sql).await?.collect().await?;
    Ok(batches
        .first()
        .and_then(|b| b.column(0).as_primitive_opt::<UInt64Type>())
        .map_or(0, |c| c.value(0)))
}

/// Runs a statement of any form that this crate understands.
pub(crate) async fn run_own(ctx: &SessionContext, sql: &str) -> Result<()> {
    let frame = datafusion_supertable::sql(ctx, sql).await?;
    frame.collect().await?;
    Ok(())
}

/// The plan of a statement that has read its version and is yet to commit.
pub(crate) async fn begin_own(ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    let frame = datafusion_supertable::sql(ctx, sql).await.unwrap();
    frame.create_physical_plan().await.unwrap()
}

/// The number that a query answers.
pub(crate) async fn number(ctx: &SessionContext, sql: &str) -> i64 {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// Runs a plan of a statement that was planned before; the count that it answers.
pub(crate) async fn finish(ctx: &SessionContext, plan: &Arc<dyn ExecutionPlan>) -> Result<u64> {
    let batches = collect(Arc::clone(plan), ctx.task_ctx()).await?;
    Ok(batches[0].column(0).as_primitive::<UInt64Type>().value(0))
}

/// The sum of a metric over all nodes of a plan that ran.
pub(crate) fn metric(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
    let own = plan.metrics().and_then(|m| m.sum_by_name(name));
    let below = plan.children().into_iter().map(|child| metric(child, name));
    own.map_or(0, |m| m.as_usize()) + below.sum::<usize>()
}

/// How often a statement ran again; its sink may be below a node that evaluates subqueries.
pub(crate) fn reruns(plan: &Arc<dyn ExecutionPlan>) -> usize {
    metric(plan, "conflict_reruns")
}

/// A session with the registration, that finds `store` at `mem://bucket/` with the faults of `plan`.
pub(crate) fn on_store(store: &Arc<InMemory>, plan: &Arc<Plan>) -> SessionContext {
    let ctx = context();
    datafusion_supertable::register(&ctx).unwrap();
    let store = FaultStore::new(Arc::clone(store) as _, Arc::clone(plan));
    ctx.register_object_store(&Url::parse("mem://bucket/").unwrap(), Arc::new(store));
    ctx
}

/// What a statement answers, as a person sees it.
pub(crate) async fn try_show(ctx: &SessionContext, sql: &str) -> Result<String> {
    let batches = ctx.sql(sql).await?.collect().await?;
    Ok(pretty_format_batches(&batches)?.to_string())
}

/// [`try_show`] of a statement that succeeds.
pub(crate) async fn show(ctx: &SessionContext, sql: &str) -> String {
    try_show(ctx, sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
}
