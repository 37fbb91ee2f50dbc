//! Both sides of a cluster: the session that plans, and the worker that executes parts.
//!
//! Owns what is registered with either, in one call each.

use std::fmt;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry, SessionState};
#[cfg(feature = "cli")]
use datafusion::prelude::SessionContext;
use datafusion_distributed::{
    DistributedExt, SessionStateBuilderExt, Worker, WorkerQueryContext, WorkerResolver,
};
use url::Url;

use super::codec::SupertableCodec;
use super::deal::{scaled_up, task_count};
use super::functions::own_functions;
use super::functions_wire::functions;
use super::planner::WorkerPlanner;
use super::settings::{Beside, take_settings};
use super::shipped::engine_functions;
use crate::dml::source_first::rule::EngineJoins;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::SupertableSessionExt;
#[cfg(feature = "cli")]
use crate::sql::session::rebuilt;

/// The addresses of workers that are always the same.
#[derive(Clone, PartialEq, Eq)]
pub struct FixedWorkers(Vec<Url>);

impl FixedWorkers {
    /// Workers at these addresses, as `http://10.0.0.1:50051`.
    ///
    /// # Errors
    /// `InvalidArgument` if there is none, or one is not a URL.
    pub fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Self> {
        let workers = addresses.into_iter().map(|address| {
            let address = address.as_ref().trim();
            let invalid = |why: &str| Error::new(ErrorKind::InvalidArgument, address, why);
            let url = Url::parse(address)
                .map_err(|e| invalid("is not the address of a worker").with_source(e))?;
            match (url.scheme(), url.has_host()) {
                ("http" | "https", true) => Ok(url),
                _ => Err(invalid(
                    "is not the address of a worker, as http://host:port",
                )),
            }
        });
        let workers = workers.collect::<Result<Vec<_>>>()?;
        match workers.is_empty() {
            true => Err(Error::new(
                ErrorKind::InvalidArgument,
                "workers",
                "there is no address",
            )),
            false => Ok(Self(workers)),
        }
    }
}

impl fmt::Debug for FixedWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(Url::as_str))
            .finish()
    }
}

impl WorkerResolver for FixedWorkers {
    fn get_urls(&self) -> datafusion::common::Result<Vec<Url>, DataFusionError> {
        Ok(self.0.clone())
    }
}

/// Registers supertables with a session that is being built, and has `workers` execute scans, filters, joins and
/// aggregates of its statements. Call it last: it plans by the planner that the session has.
///
/// Each worker is a [`worker`]. What changes a table is committed by this session's process.
#[must_use]
pub fn coordinator(
    builder: SessionStateBuilder,
    workers: impl WorkerResolver + 'static,
) -> SessionStateBuilder {
    with_workers(builder.with_supertable(), workers)
}

/// [`coordinator`], of a session that is there. What it plans from then on is executed by `workers`.
///
/// # Errors
/// Those of [`register`](crate::register).
#[cfg(feature = "cli")]
pub(crate) fn use_workers(
    ctx: &SessionContext,
    workers: impl WorkerResolver + 'static,
) -> Result<()> {
    crate::sql::register(ctx)?;
    let state = ctx.state_ref();
    rebuilt(&mut state.write(), |builder| with_workers(builder, workers));
    Ok(())
}

fn with_workers(
    mut builder: SessionStateBuilder,
    workers: impl WorkerResolver + 'static,
) -> SessionStateBuilder {
    let own = builder.query_planner().take();
    let mut builder = builder.with_distributed_planner();
    let config = builder.config().get_or_insert_default();
    config.set_distributed_worker_resolver(workers);
    config.set_distributed_user_codec(SupertableCodec::default());
    config.set_distributed_desired_task_count_handler(
        task_count as fn(datafusion_distributed::DesiredTaskCountEvent<'_>) -> _,
    );
    config.set_distributed_scale_up_leaf_node_handler(
        scaled_up as fn(datafusion_distributed::ScaleUpLeafNodeEvent<'_>) -> _,
    );
    let options = config.options_mut();
    options.extensions.insert(EngineJoins);
    // With one partition there is nothing to deal out.
    options.execution.target_partitions = options.execution.target_partitions.max(2);
    if let Some(engine) = options
        .extensions
        .get_mut::<datafusion_distributed::DistributedConfig>()
    {
        // Stages are looked at as a whole.
        engine.children_isolator_unions = false;
    }
    builder.with_query_planner(Arc::new(WorkerPlanner::over(own)))
}

/// A worker that executes parts of the plans of a [`coordinator`]. Give it the runtime whose object stores hold the
/// tables (`with_runtime_env`), and serve it (`into_worker_server`).
///
/// A worker only reads, and only objects that a plan names. Whoever reaches its address has it read them, so do not let
/// others reach it.
pub fn worker() -> Worker {
    let codec: Arc<SupertableCodec> = Arc::default();
    Worker::from_session_builder(move |query: WorkerQueryContext| {
        let codec = Arc::clone(&codec);
        async move { worker_session(query, codec) }
    })
}

/// The session in which a worker executes one query.
fn worker_session(
    query: WorkerQueryContext,
    codec: Arc<SupertableCodec>,
) -> datafusion::common::Result<SessionState> {
    let WorkerQueryContext {
        mut builder,
        headers,
    } = query;
    let config = builder.config().get_or_insert_default();
    config.set_distributed_option_extension_from_headers::<Beside>(&headers)?;
    let beside = config.options().extensions.get::<Beside>().cloned();
    let beside = beside.unwrap_or_default();
    take_settings(&beside, config)?;
    config.set_distributed_user_codec_arc(codec);
    builder
        .scalar_functions()
        .get_or_insert_default()
        .extend(own_functions());
    let mut state = builder.build();
    if beside.remade {
        let settings = Arc::clone(state.config_options());
        for (_, function) in engine_functions(Some(&settings)) {
            state.register_udf(function)?;
        }
    }
    for function in functions(&beside.functions, &state.task_ctx())? {
        state.register_udf(function)?;
    }
    Ok(state)
}
