//! Builds the session that the arguments describe.
//!
//! Owns the session's configuration (environment, limits, defaults of the prompt), its object
//! stores, datafusion-cli's table functions, and registering this crate's extension.
//! Does not own running anything in it.

use std::env;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::common::config_err;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    FairSpillPool, GreedyMemoryPool, MemoryPool, TrackConsumersPool,
};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::ExplainFormat;
use datafusion::prelude::SessionContext;
use datafusion_cli::catalog::DynamicObjectStoreCatalog;
use datafusion_cli::functions::{
    ListFilesCacheFunc, MetadataCacheFunc, ParquetMetadataFunc, StatisticsCacheFunc,
};
use datafusion_cli::object_storage::StdinCarriesCommands;
use datafusion_cli::object_storage::instrumented::InstrumentedObjectStoreRegistry;
use datafusion_cli::pool_type::PoolType;
use datafusion_cli::print_options::{MaxRows, PrintOptions};

use super::Args;
use super::context::CliContext;
use super::registry::StoreRegistry;
#[cfg(feature = "distributed")]
use crate::distributed::{FixedWorkers, use_workers};
use crate::sql::catalog::check_place;
use crate::sql::open_catalog;

/// The name of the catalog that `--catalog` opens.
const CATALOG: &str = "supertable";

/// A session with everything that `supertable` offers, and how to print its results.
pub(super) struct CliSession {
    /// The DataFusion session, with this crate's extension registered.
    pub session: SessionContext,
    pub(super) context: CliContext,
    pub(super) print: PrintOptions,
}

/// The session that `args` ask for.
///
/// # Errors
/// When a `DATAFUSION_*` environment variable has no valid value or a limit cannot be applied.
pub(super) async fn build(args: &Args) -> Result<CliSession> {
    let profiled = Arc::new(
        InstrumentedObjectStoreRegistry::new().with_profile_mode(args.object_store_profiling),
    );
    let runtime = runtime(args, Arc::clone(&profiled))?;
    let session =
        SessionContext::new_with_config_rt(session_config(args)?, runtime).enable_url_table();
    session.refresh_catalogs().await?;
    // Makes `SELECT … FROM 's3://…'` find its object store.
    session.register_catalog_list(Arc::new(DynamicObjectStoreCatalog::new(
        Arc::clone(session.state().catalog_list()),
        session.state_weak_ref(),
    )));
    register_table_functions(&session);
    crate::register(&session)?;
    #[cfg(feature = "distributed")]
    if !args.workers.is_empty() {
        let workers = FixedWorkers::new(&args.workers)?;
        use_workers(&session, workers)?;
    }
    if let Some(location) = args.location.as_ref().or(args.catalog.as_ref()) {
        use_catalog(&session, location).await?;
    }

    Ok(CliSession {
        context: CliContext::new(session.clone(), args.maxrows, args.quiet),
        session,
        print: PrintOptions {
            format: args.format,
            quiet: args.quiet,
            // Said for each statement: the format may change.
            maxrows: MaxRows::Unlimited,
            color: args.color,
            instrumented_registry: profiled,
        },
    })
}

/// Makes the supertables below `location` the session's default catalog.
async fn use_catalog(session: &SessionContext, location: &str) -> Result<()> {
    if location.contains("://") {
        // datafusion-cli builds a URL's store when a table of that name is looked for, and only then. That
        // there is no such table does not matter.
        let list = Arc::clone(session.state().catalog_list());
        let schema = list.catalog("datafusion").and_then(|c| c.schema("public"));
        if let Some(schema) = schema {
            let _ = schema.table(location).await;
        }
    }
    let parent = Path::new(location).parent();
    if !location.contains("://") && parent.is_some_and(|p| p != Path::new("") && !p.is_dir()) {
        return config_err!(
            "{location}: there is no directory to make a catalog in; correct the path"
        );
    }
    let catalog = open_catalog(session, CATALOG, location)?;
    check_place(&catalog).await?;
    let state = session.state_ref();
    let mut state = state.write();
    let options = state.config_mut().options_mut();
    options.catalog.default_catalog = CATALOG.to_owned();
    Ok(())
}

fn session_config(args: &Args) -> Result<SessionConfig> {
    let mut options = ConfigOptions::from_env()?;
    if let Some(batch_size) = args.batch_size {
        options.execution.batch_size = ConfigNonZeroUsize::try_new(batch_size)?;
    }
    // For people: a plan as a tree, and NULL spelled out, unless the environment says otherwise.
    if env::var_os("DATAFUSION_EXPLAIN_FORMAT").is_none() {
        options.explain.format = ExplainFormat::Tree;
    }
    if env::var_os("DATAFUSION_FORMAT_NULL").is_none() {
        options.format.null = String::from("NULL");
    }
    let mut config = SessionConfig::from(options).with_information_schema(true);
    if args.stdin_carries_statements() {
        // Standard input cannot also back a table at LOCATION '/dev/stdin'.
        config = config.with_extension(Arc::new(StdinCarriesCommands));
    }
    Ok(config)
}

fn runtime(args: &Args, profiled: Arc<InstrumentedObjectStoreRegistry>) -> Result<Arc<RuntimeEnv>> {
    runtime_with(args, Arc::new(StoreRegistry::new(profiled)))
}

/// A runtime with the limits of `args`, whose stores are those of `registry`.
///
/// # Errors
/// When a limit cannot be applied.
pub(super) fn runtime_with(
    args: &Args,
    registry: Arc<dyn ObjectStoreRegistry>,
) -> Result<Arc<RuntimeEnv>> {
    let mut builder = RuntimeEnvBuilder::new().with_object_store_registry(registry);
    if let Some(limit) = args.memory_limit {
        builder = builder.with_memory_pool(memory_pool(args, limit));
    }
    if let Some(limit) = args.disk_limit {
        builder = builder.with_disk_manager_builder(
            DiskManagerBuilder::default()
                .with_mode(DiskManagerMode::OsTmpDirectory)
                .with_max_temp_directory_size(limit),
        );
    }
    builder.build_arc()
}

fn memory_pool(args: &Args, limit: usize) -> Arc<dyn MemoryPool> {
    let tracked = NonZeroUsize::new(args.top_memory_consumers);
    match (&args.mem_pool_type, tracked) {
        (PoolType::Fair, None) => Arc::new(FairSpillPool::new(limit)),
        (PoolType::Fair, Some(n)) => {
            Arc::new(TrackConsumersPool::new(FairSpillPool::new(limit), n))
        }
        (PoolType::Greedy, None) => Arc::new(GreedyMemoryPool::new(limit)),
        (PoolType::Greedy, Some(n)) => {
            Arc::new(TrackConsumersPool::new(GreedyMemoryPool::new(limit), n))
        }
    }
}

/// The table functions that datafusion-cli adds to a session.
fn register_table_functions(session: &SessionContext) {
    let caches = || Arc::clone(&session.task_ctx().runtime_env().cache_manager);
    session.register_udtf("parquet_metadata", Arc::new(ParquetMetadataFunc {}));
    session.register_udtf("metadata_cache", Arc::new(MetadataCacheFunc::new(caches())));
    session.register_udtf(
        "statistics_cache",
        Arc::new(StatisticsCacheFunc::new(caches())),
    );
    session.register_udtf(
        "list_files_cache",
        Arc::new(ListFilesCacheFunc::new(caches())),
    );
}
