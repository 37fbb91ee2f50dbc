//! From a table's name to the table.
//!
//! Owns the search in the session's catalogs. It is done when the query runs, so it finds what the
//! name means then; it holds no session, so a plan does not keep one alive.

use std::sync::Arc;

use datafusion::catalog::{CatalogProviderList, Session};
use datafusion::common::{ResolvedTableReference, TableReference};

use crate::config::SupertableOptions;
use crate::dml::SupertableProvider;
use crate::error::{Error, ErrorKind, Result};
use crate::table::Table;

/// Finds the table that a call names.
#[derive(Debug, Clone)]
pub(crate) struct TableLookup {
    catalogs: Arc<dyn CatalogProviderList>,
    default_catalog: String,
    default_schema: String,
    name: TableReference,
    options: SupertableOptions,
}

impl TableLookup {
    /// Looks `name` up where `session` would.
    pub(crate) fn new(name: &str, session: &dyn Session) -> Self {
        let options = session.config_options();
        let defaults = &options.catalog;
        let as_written = !options.sql_parser.enable_ident_normalization;
        Self {
            catalogs: session.catalog_list(),
            default_catalog: defaults.default_catalog.clone(),
            default_schema: defaults.default_schema.clone(),
            name: TableReference::parse_str_normalized(name, as_written),
            options: SupertableOptions::of(session.config_options()),
        }
    }

    /// The name, as it was written.
    pub(crate) fn name(&self) -> &TableReference {
        &self.name
    }

    /// The name with its schema and catalog.
    pub(crate) fn resolved(&self) -> ResolvedTableReference {
        self.name
            .clone()
            .resolve(&self.default_catalog, &self.default_schema)
    }

    /// The table.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::InvalidArgument`] if it is not a
    /// supertable.
    pub(crate) async fn find(&self) -> Result<Table> {
        Ok(self.provider().await?.table().clone())
    }

    /// The table, to be changed by `function`.
    ///
    /// # Errors
    /// As [`find`](Self::find); [`ErrorKind::ReadOnly`] in a session that only reads.
    pub(crate) async fn find_for(&self, function: &str) -> Result<Table> {
        Ok(self.provider_for(function).await?.table().clone())
    }

    /// The table as the session knows it, to be changed by `function`.
    ///
    /// # Errors
    /// As [`find_for`](Self::find_for).
    pub(crate) async fn provider_for(&self, function: &str) -> Result<SupertableProvider> {
        self.options.check_writable(function)?;
        self.provider().await
    }

    /// The table as the session knows it.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(crate) async fn provider(&self) -> Result<SupertableProvider> {
        let name = self.resolved();
        let missing = || {
            Error::new(
                ErrorKind::NotFound,
                name.to_string(),
                "there is no such table",
            )
        };
        let schema = self
            .catalogs
            .catalog(&name.catalog)
            .and_then(|c| c.schema(&name.schema))
            .ok_or_else(missing)?;
        let provider = schema
            .table(&name.table)
            .await
            .map_err(|e| match Error::find_in(&e) {
                // A table that is there and cannot be opened.
                Some(known) if known.kind() != ErrorKind::NotFound => {
                    Error::new(known.kind(), name.to_string(), "the table cannot be opened")
                        .with_source(e)
                }
                _ => missing().with_source(e),
            })?
            .ok_or_else(missing)?;
        match provider.downcast_ref::<SupertableProvider>() {
            Some(provider) => Ok(provider.clone()),
            None => Err(Error::new(
                ErrorKind::InvalidArgument,
                name.to_string(),
                "is not a supertable",
            )),
        }
    }
}
