//! The session as datafusion-cli's functions see it.
//!
//! Owns the additions to a plain session: a statement with `azure.*` options gets the store
//! that they describe, registered before the statement runs; tables of a `--catalog` are created and
//! dropped by this crate; statements that only this crate plans run under a name that stands for them in the text;
//! and how many rows are shown: datafusion-cli cuts every format, and says so of tables only.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::common::plan_datafusion_err;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, Statement};
use datafusion::prelude::SessionContext;
use datafusion_cli::cli_context::CliSessionContext;
use datafusion_cli::exec;
use datafusion_cli::print_format::PrintFormat;
use datafusion_cli::print_options::{MaxRows, PrintOptions};
use object_store::ObjectStore;
use url::Url;

use crate::dml::plan::names::with_names_as_meant;
use crate::dml::plan::parameters::untyped_unless_all_are_known;
use crate::sql::catalog::catalog_of;
use crate::sql::written::understood;
use crate::sql::zones::with_zone;

use super::azure::{self, AzureOptions};
use crate::sql::statement::{self, Own};

/// The rows of a table that a terminal shows, unless told otherwise.
const ROWS_ON_A_TERMINAL: usize = 40;

/// A session for datafusion-cli's `exec` functions.
pub(super) struct CliContext {
    session: SessionContext,
    /// The rows of a table to show, if that was said.
    max_rows: Option<MaxRows>,
    /// Whether only results are printed.
    quiet: bool,
    /// Whether the user knows that a table is kept in memory.
    hinted: AtomicBool,
    /// What the text that runs now has names for.
    stood_for: Mutex<HashMap<String, Own>>,
    /// Whether the statements that are being planned declare columns with a time zone.
    zoned: AtomicBool,
}

impl CliContext {
    pub(super) fn new(session: SessionContext, max_rows: Option<MaxRows>, quiet: bool) -> Self {
        Self {
            session,
            quiet,
            hinted: AtomicBool::new(false),
            max_rows,
            stood_for: Mutex::default(),
            zoned: AtomicBool::new(false),
        }
    }

    /// How the next result is printed: only tables are ever cut.
    pub(super) fn shown(&self, print: &PrintOptions) -> PrintOptions {
        let is_table = matches!(print.format, PrintFormat::Table | PrintFormat::Automatic);
        let max_rows = match self.max_rows {
            Some(max_rows) => max_rows,
            None if std::io::stdout().is_terminal() => MaxRows::Limited(ROWS_ON_A_TERMINAL),
            None => MaxRows::Unlimited,
        };
        PrintOptions {
            maxrows: if is_table {
                max_rows
            } else {
                MaxRows::Unlimited
            },
            ..print.clone()
        }
    }

    /// Runs statements, as DataFusion has to read them; see [`understood`].
    pub(super) async fn run(&self, text: &str, print: &PrintOptions) -> Result<()> {
        let understood = understood(&self.session, text).await?;
        let options = self.session.copied_config();
        let options = &options.options().sql_parser;
        let text = statement::with_exact_row_ids(&understood.text, options).into_owned();
        let text = self.with_stand_ins(text)?;
        self.zoned.store(understood.zoned, Ordering::Relaxed);
        let done = exec::exec_from_commands(self, vec![text], &self.shown(print)).await;
        self.zoned.store(false, Ordering::Relaxed);
        done
    }

    /// `text` with a name in place of each statement of a form that only this crate knows.
    fn with_stand_ins(&self, text: String) -> Result<String> {
        let options = self.session.copied_config();
        let found = statement::with_stand_ins(&text, &options.options().sql_parser)?;
        let mut stood_for = self
            .stood_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stood_for.clear();
        Ok(match found {
            Some((readable, own)) => {
                stood_for.extend(own);
                readable
            }
            None => text,
        })
    }

    /// The statement that `plan` only stands for.
    fn stands_for(&self, plan: &LogicalPlan) -> Option<Own> {
        let LogicalPlan::Statement(Statement::Execute(execute)) = plan else {
            return None;
        };
        let mut stood_for = self
            .stood_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stood_for.remove(&execute.name)
    }

    /// Says, once, that a table is kept in memory only, and how to keep one.
    fn hint_at_memory(&self, plan: &LogicalPlan) {
        let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) = plan else {
            return;
        };
        let config = self.session.copied_config();
        let defaults = &config.options().catalog;
        let (catalog, schema) = (&defaults.default_catalog, &defaults.default_schema);
        let name = create.name.clone().resolve(catalog, schema);
        let is_kept = catalog_of(&self.session.state(), &name.catalog).is_some();
        if is_kept || self.quiet || self.hinted.swap(true, Ordering::Relaxed) {
            return;
        }
        eprintln!(
            "note: {} is kept in memory, and gone when this process ends; start supertable DIR to keep tables in DIR",
            create.name
        );
    }

    fn register_azure(&self, location: &str, options: &HashMap<String, String>) -> Result<()> {
        let location = ListingTableUrl::parse(location)?;
        if !azure::is_azure_scheme(location.scheme()) {
            return Ok(());
        }
        if let Some(options) = AzureOptions::of_statement(options)? {
            let url: &Url = location.as_ref();
            let store = azure::store(url, &options)
                .map_err(|e| plan_datafusion_err!("the store of {url} cannot be opened: {e}"))?;
            self.session.register_object_store(url, store);
        }
        Ok(())
    }
}

#[async_trait]
impl CliSessionContext for CliContext {
    fn task_ctx(&self) -> Arc<TaskContext> {
        self.session.task_ctx()
    }

    fn session_state(&self) -> SessionState {
        match self.zoned.load(Ordering::Relaxed) {
            true => with_zone(self.session.state()),
            false => self.session.state(),
        }
    }

    fn register_object_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        self.session.register_object_store(url, store)
    }

    fn register_table_options_extension_from_scheme(&self, scheme: &str) {
        if azure::is_azure_scheme(scheme) {
            self.session
                .register_table_options_extension(AzureOptions::default());
        } else {
            CliSessionContext::register_table_options_extension_from_scheme(&self.session, scheme);
        }
    }

    async fn execute_logical_plan(&self, plan: LogicalPlan) -> Result<DataFrame, DataFusionError> {
        let plan = match self.stands_for(&plan) {
            Some(own) => statement::plan(&self.session_state(), own).await?,
            None => plan,
        };
        match &plan {
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => {
                for location in &create.locations {
                    self.register_azure(location, &create.options)?;
                }
            }
            LogicalPlan::Copy(copy) => self.register_azure(&copy.output_url, &copy.options)?,
            _ => {}
        }
        self.hint_at_memory(&plan);
        // All text comes here by `understood`.
        let plan = untyped_unless_all_are_known(with_names_as_meant(plan)?)?;
        crate::sql::execute(&self.session, plan).await
    }
}
