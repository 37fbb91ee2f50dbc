//! The one registration: everything a session needs to use supertables.
//!
//! Owns what is registered and how. It adds to a session and replaces nothing: the planning rule is
//! an analyzer rule, so a session with its own query planner, optimizer rules or catalogs keeps
//! them.

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::prelude::SessionContext;

use crate::config::{SupertableOptions, SupertableTableOptions};
use crate::dml::definition::understand_arrow_types;
use crate::dml::sound::prepared::{KeepPrepared, TakePrepared};
use crate::dml::sound::{JoinFences, NoPiecewiseMerge, NoWaitingJoins};
use crate::dml::source_first::rule::SourceFirst;
use crate::dml::{ANALYZER_RULE, SupertableAnalyzer, row_id_udf};
use crate::error::Result;
use crate::scan::KeepScanOrder;
use crate::sql::factory::SupertableFactory;
use crate::sql::functions::list::{refused_functions, table_functions};
use crate::sql::open_tables::OpenTables;
use crate::sql::relations::SupertableRelations;

/// Name after `STORED AS`; DataFusion looks factories up in upper case.
const FILE_TYPE: &str = "SUPERTABLE";

/// Registers supertables with a session: `CREATE EXTERNAL TABLE … STORED AS SUPERTABLE`, correct
/// `DELETE` and `UPDATE`, the options `supertable.*` and the table functions. Calling it twice
/// changes nothing.
///
/// # Errors
/// None today; the signature leaves room for a session that cannot take the registration.
pub fn register(ctx: &SessionContext) -> Result<()> {
    let state = ctx.state_ref();
    // Sessions of which each serves one request are mostly made of one that is registered.
    if is_registered(&state.read()) {
        return Ok(());
    }
    let mut state = state.write();
    register_state(&mut state);
    Ok(())
}

/// [`register`] without the functions that change a table: `supertable_add_files`, `_alter`, `_optimize`, `_recover`,
/// `_restore` and `_vacuum` are refused. If the session was made from one that has them, they are taken away.
///
/// This is for sessions whose users may only query. A call of such a function is a query to DataFusion, so
/// `SQLOptions` that forbid DDL, DML and statements do not forbid it; those still have to be used, or the session
/// option `supertable.read_only`, to forbid everything else. See the guide on [sessions](crate::guide::sessions).
///
/// # Errors
/// As [`register`].
pub fn register_for_queries(ctx: &SessionContext) -> Result<()> {
    let state = ctx.state_ref();
    let mut state = state.write();
    register_state(&mut state);
    refuse_changes(&mut state);
    Ok(())
}

/// Registers supertables with a session that is being built.
pub trait SupertableSessionExt {
    /// See [`register`].
    #[must_use]
    fn with_supertable(self) -> Self;

    /// See [`register_for_queries`].
    #[must_use]
    fn with_supertable_for_queries(self) -> Self;
}

impl SupertableSessionExt for SessionStateBuilder {
    fn with_supertable(self) -> Self {
        let mut state = self.build();
        register_state(&mut state);
        SessionStateBuilder::new_from_existing(state)
    }

    fn with_supertable_for_queries(self) -> Self {
        let mut state = self.build();
        register_state(&mut state);
        refuse_changes(&mut state);
        SessionStateBuilder::new_from_existing(state)
    }
}

/// Refuses the functions that change a table.
pub(crate) fn refuse_changes(state: &mut SessionState) {
    for (name, refused) in refused_functions() {
        state.register_udtf(name, refused);
    }
}

/// `state` as a registered session has it.
pub(crate) fn registered(mut state: SessionState) -> SessionState {
    register_state(&mut state);
    state
}

fn register_state(state: &mut SessionState) {
    if is_registered(state) {
        return;
    }
    with_rules(state);
    if let Err(error) = state.register_udf(row_id_udf()) {
        tracing::warn!(%error, "the function _id(…) cannot be registered");
    }
    state
        .table_factories_mut()
        .insert(FILE_TYPE.to_owned(), Arc::new(SupertableFactory));
    state.register_table_options_extension(SupertableTableOptions::default());
    let config = state.config_mut();
    if config.get_extension::<OpenTables>().is_none() {
        config.set_extension(Arc::new(OpenTables::default()));
    }
    if config
        .options()
        .extensions
        .get::<SupertableOptions>()
        .is_none()
    {
        config
            .options_mut()
            .extensions
            .insert(SupertableOptions::default());
    }
    for (name, function) in table_functions() {
        state.register_udtf(name, function);
    }
    // Adding it cannot fail; the result says whether planners may be added at all.
    if let Err(error) = state.register_relation_planner(Arc::new(SupertableRelations)) {
        tracing::warn!(%error, "named arguments of table functions will be refused");
    }
}

/// Whether the session plans statements over supertables already. Its rules say so: its configuration can be
/// another session's, copied.
fn is_registered(state: &SessionState) -> bool {
    let rules = &state.analyzer().rules;
    rules.iter().any(|rule| rule.name() == ANALYZER_RULE)
}

/// Adds the planning rules, and the planner of types. A statement has to be taken out of its wrapping before any other rule analyses it, and
/// put into it before any other rule optimises it; such a place only a builder can give.
fn with_rules(state: &mut SessionState) {
    let mut analysis = state.analyzer().rules.clone();
    analysis.insert(0, Arc::new(TakePrepared));
    analysis.push(Arc::new(SupertableAnalyzer));
    let mut optimisation = state.optimizer().rules.clone();
    optimisation.insert(0, Arc::new(KeepPrepared));
    optimisation.push(Arc::new(NoPiecewiseMerge));
    let mut physical = state.physical_optimizers().to_vec();
    physical.insert(0, Arc::new(JoinFences::Put));
    physical.insert(0, Arc::new(SourceFirst));
    physical.push(Arc::new(JoinFences::Take));
    physical.push(Arc::new(NoWaitingJoins));
    physical.push(Arc::new(KeepScanOrder));
    rebuilt(state, |builder| {
        let mut builder = builder
            .with_analyzer_rules(analysis)
            .with_optimizer_rules(optimisation)
            .with_physical_optimizer_rules(physical);
        understand_arrow_types(builder.type_planner());
        builder
    });
    let options = state.config_mut().options_mut();
    // Columns carry their field ids. Of two in a UNION the engine's logical plan keeps one, the physical plan the other,
    // and an aggregate above them is refused for that alone.
    options.execution.skip_physical_aggregate_schema_check = true;
}

/// Makes `state` anew with what `change` does to its builder; what builders forget stays.
pub(crate) fn rebuilt(
    state: &mut SessionState,
    change: impl FnOnce(SessionStateBuilder) -> SessionStateBuilder,
) {
    let creates_defaults = state
        .config_options()
        .catalog
        .create_default_catalog_and_schema;
    let session_id = state.session_id().to_owned();
    let builder = SessionStateBuilder::new_from_existing(state.clone()).with_session_id(session_id);
    let built = change(builder).build();
    let rewrites = state.analyzer().function_rewrites().to_vec();
    *state = built;
    for rewrite in rewrites {
        if let Err(error) = state.register_function_rewrite(rewrite) {
            tracing::warn!(%error, "a function rewrite of the session is lost");
        }
    }
    let options = state.config_mut().options_mut();
    options.catalog.create_default_catalog_and_schema = creates_defaults;
}

/// Waits until the background work of every table that the session opened is done: finished WAL
/// documents are then gone. A process that exits without it loses nothing; the next one to open
/// the table finishes the work.
pub async fn wait_for_background_work(ctx: &SessionContext) {
    let open = ctx.copied_config().get_extension::<OpenTables>();
    if let Some(open) = open {
        for background in open.all() {
            background.settle().await;
        }
    }
}
