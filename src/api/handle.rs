//! One open table in one session: what every call of the API works with.
//!
//! Owns the session's state for a call, scans of the table, and running a statement to its report. Does not own what a
//! statement's plan is, nor how it is carried out: a plan made here goes the way of one that SQL has made.
//!
//! Invariants: the session is not changed; one that is not registered is copied for each call, and the copy is
//! registered. Nothing happens before a future that was returned is polled.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DataFusionResult, TableReference};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{DmlStatement, LogicalPlan, LogicalPlanBuilder, WriteOp};
use datafusion::prelude::SessionContext;
use futures::FutureExt;
use futures::future::{self, BoxFuture};

use super::report::ChangeReport;
use crate::config::SupertableOptions;
use crate::dml::SupertableProvider;
use crate::dml::definition::Declared;
use crate::dml::write::receipt::Receipt;
use crate::error::{Error, Result};
use crate::sql::session::registered;
use crate::table::Table;

/// An open table in a session. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    session: SessionContext,
    provider: SupertableProvider,
    location: Arc<str>,
    /// By what its columns are qualified where a plan reads it.
    name: TableReference,
}

impl Handle {
    /// Of a table that `session` has opened at `location`.
    pub(super) fn new(
        session: SessionContext,
        provider: SupertableProvider,
        location: &str,
    ) -> Self {
        let (Declared::External { name, .. } | Declared::Catalog { name }) = Declared::at(location);
        Self {
            session,
            provider,
            location: location.into(),
            name,
        }
    }

    /// The same table in another session.
    pub(super) fn in_session(&self, session: &SessionContext) -> Self {
        Self {
            session: session.clone(),
            ..self.clone()
        }
    }

    /// The session's state at this moment, registered.
    pub(super) fn state(&self) -> SessionState {
        state_of(&self.session)
    }

    /// What a task of the session works with.
    pub(super) fn task(&self) -> Arc<TaskContext> {
        self.session.task_ctx()
    }

    /// Refuses `what` in a session that only reads.
    pub(super) fn check_writable(&self, what: &str) -> Result<()> {
        let config = self.session.copied_config();
        SupertableOptions::of(config.options()).check_writable(what)
    }

    /// The table.
    pub(super) fn table(&self) -> &Table {
        self.provider.table()
    }

    /// The table as DataFusion sees it; it follows the table's columns.
    pub(super) fn provider(&self) -> &SupertableProvider {
        &self.provider
    }

    /// Where the table is, as it was given.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// By what its columns are qualified.
    pub(super) fn name(&self) -> &TableReference {
        &self.name
    }

    /// A query of a table, or of a version, that `label` tells from all others.
    pub(super) fn scan(
        &self,
        label: String,
        provider: Arc<dyn TableProvider>,
    ) -> DataFusionResult<LogicalPlanBuilder> {
        // DataFusion takes two scans of one name for the same, so a scan's name says what it reads.
        let scan = TableReference::bare(label);
        LogicalPlanBuilder::scan(scan, provider_as_source(provider), None)?.alias(self.name.clone())
    }

    /// The same as a query that runs in the session.
    pub(super) fn query(
        &self,
        label: String,
        provider: Arc<dyn TableProvider>,
    ) -> Result<DataFrame> {
        let plan = self
            .scan(label, provider)
            .and_then(LogicalPlanBuilder::build);
        let plan = plan.map_err(|e| self.failed("the query of", e))?;
        Ok(DataFrame::new(self.state(), plan))
    }

    /// Plans a statement that changes the table, and runs it. `plan` is given the table with the columns that it has
    /// now, by which all of the statement is planned.
    pub(super) fn change(
        &self,
        what: &'static str,
        plan: impl FnOnce(&Target<'_>) -> DataFusionResult<LogicalPlan> + Send + 'static,
    ) -> BoxFuture<'static, Result<ChangeReport>> {
        let handle = self.clone();
        future::lazy(move |_| {
            let provider = handle.provider.fixed();
            let target = Target {
                handle: &handle,
                provider: &provider,
            };
            let mut state = handle.state();
            let receipt = Receipt::for_statement(&mut state);
            let rows = plan(&target).map(|plan| collected(DataFrame::new(state, plan)));
            (rows, receipt, handle)
        })
        .then(move |(rows, receipt, handle)| async move {
            let done = match rows {
                Ok(rows) => rows.await,
                Err(error) => Err(error),
            };
            done.map_err(|e| handle.failed(what, e))?;
            Ok(ChangeReport::of(receipt.committed()))
        })
        .boxed()
    }

    /// The error of `what` on this table.
    pub(super) fn failed(&self, what: &str, error: datafusion::error::DataFusionError) -> Error {
        Error::of_engine(format!("{what} {}", self.name), error)
    }
}

/// The table that a statement changes, with the columns by which it is planned.
pub(super) struct Target<'a> {
    handle: &'a Handle,
    provider: &'a SupertableProvider,
}

impl Target<'_> {
    /// By what its columns are qualified.
    pub(super) fn name(&self) -> &TableReference {
        self.handle.name()
    }

    /// Its columns.
    pub(super) fn schema(&self) -> SchemaRef {
        self.provider.schema()
    }

    /// The table as DataFusion sees it, with these columns.
    pub(super) fn provider(&self) -> &SupertableProvider {
        self.provider
    }

    /// Its rows.
    pub(super) fn rows(&self) -> DataFusionResult<LogicalPlanBuilder> {
        let provider = Arc::new(self.provider.clone());
        self.handle
            .scan(self.handle.location().to_owned(), provider)
    }

    /// The statement that changes the table, which it calls `name`, by the rows of `input`.
    pub(super) fn changed(
        &self,
        name: TableReference,
        op: WriteOp,
        input: LogicalPlan,
    ) -> LogicalPlan {
        let source = provider_as_source(Arc::new(self.provider.clone()));
        LogicalPlan::Dml(DmlStatement::new(name, source, op, Arc::new(input)))
    }
}

/// A session's state at this moment, registered.
pub(super) fn state_of(session: &SessionContext) -> SessionState {
    registered(session.state())
}

/// The same for callers that only pass it on.
pub(super) fn shared_state_of(session: &SessionContext) -> Arc<dyn Session> {
    Arc::new(state_of(session))
}

/// Behind a trait object, because no caller need look into the plan in it; see `dml::opaque`.
fn collected(frame: DataFrame) -> BoxFuture<'static, DataFusionResult<Vec<RecordBatch>>> {
    frame.collect().boxed()
}
