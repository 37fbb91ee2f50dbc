//! The catalog as DataFusion sees it.
//!
//! Owns the answers to DataFusion's synchronous questions, and what its own `CREATE` and `DROP` may do.
//! Invariant: nothing durable is created or dropped here. DataFusion does not say for which session it asks, and that
//! may be one that only reads; and it drops a table in the same way whether the statement is `DROP TABLE` or
//! `CREATE OR REPLACE TABLE … AS`, whose query may yet fail. So this is refused, and [`super::statements`] does it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::TableType;

use super::errors::exists;
use super::state::DEFAULT_SCHEMA;
use super::tables::SupertableCatalog;
use crate::error::{Error, ErrorKind};
use crate::sql::wait::wait;

/// A catalog, for a session's list.
#[derive(Debug)]
pub(super) struct CatalogView {
    catalog: SupertableCatalog,
}

impl CatalogView {
    pub(super) fn new(catalog: SupertableCatalog) -> Self {
        Self { catalog }
    }

    pub(super) fn catalog(&self) -> &SupertableCatalog {
        &self.catalog
    }
}

impl CatalogProvider for CatalogView {
    fn schema_names(&self) -> Vec<String> {
        match wait(self.catalog.name(), self.catalog.schemas()) {
            Ok(schemas) => schemas.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "schemas cannot be listed");
                let mut schemas = self.catalog.state().declared().clone();
                schemas.insert(DEFAULT_SCHEMA.to_owned());
                schemas.into_iter().collect()
            }
        }
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let known = name == DEFAULT_SCHEMA || self.catalog.state().declared().contains(name);
        if !known && !self.schema_names().iter().any(|schema| schema == name) {
            return None;
        }
        Some(Arc::new(SchemaView {
            catalog: self.catalog.clone(),
            schema: name.to_owned(),
        }))
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        if !schema.table_names().is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                name,
                "a schema of this catalog is a directory; another one cannot stand in for it",
            )
            .into());
        }
        self.catalog.state().declared().insert(name.to_owned());
        Ok(None)
    }

    fn deregister_schema(
        &self,
        name: &str,
        _cascade: bool,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        let tables = wait(name, self.catalog.tables(name))?;
        if name == DEFAULT_SCHEMA || !tables.is_empty() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                name,
                "only an empty schema can be dropped; drop its tables first",
            )
            .into());
        }
        let schema = self.schema(name);
        self.catalog.state().declared().remove(name);
        Ok(schema)
    }
}

struct SchemaView {
    catalog: SupertableCatalog,
    schema: String,
}

impl fmt::Debug for SchemaView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaView")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl SchemaView {
    fn key(&self, name: &str) -> (String, String) {
        (self.schema.clone(), name.to_owned())
    }

    fn other(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.catalog.state().others().get(&self.key(name)).cloned()
    }
}

#[async_trait]
impl SchemaProvider for SchemaView {
    fn table_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .catalog
            .state()
            .others()
            .keys()
            .filter(|(schema, _)| *schema == self.schema)
            .map(|(_, name)| name.clone())
            .collect();
        match wait(&self.schema, self.catalog.tables(&self.schema)) {
            Ok(tables) => names.extend(tables),
            Err(error) => tracing::warn!(%error, "tables cannot be listed"),
        }
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(other) = self.other(name) {
            return Ok(Some(other));
        }
        let table = self.catalog.table(&self.schema, name).await?;
        Ok(table.map(|table| Arc::new(table) as Arc<dyn TableProvider>))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.table(name).await?.map(|table| table.table_type()))
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.table_exist(&name) {
            return Err(exists(&self.schema, &name).into());
        }
        if table.is::<MemTable>() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                name,
                "CREATE TABLE in this catalog goes through datafusion_supertable::sql(&ctx, \"…\"): DataFusion does \
                 not say for which session it asks, and that one may only read",
            )
            .into());
        }
        // A view, or a table of another format: it is stored nowhere.
        Ok(self.catalog.state().others().insert(self.key(&name), table))
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(other) = self.catalog.state().others().remove(&self.key(name)) {
            return Ok(Some(other));
        }
        if !self.table_exist(name) {
            return Ok(None);
        }
        // DataFusion does not pass the reason on where the statement is a DROP.
        tracing::warn!(
            table = name,
            "not dropped: the statement must go through datafusion_supertable::sql"
        );
        Err(Error::new(
            ErrorKind::Unsupported,
            name,
            "DROP TABLE and CREATE OR REPLACE TABLE of a stored table go through \
             datafusion_supertable::sql(&ctx, \"…\"), which cannot lose it if the statement fails",
        )
        .into())
    }

    fn table_exist(&self, name: &str) -> bool {
        if self.other(name).is_some() {
            return true;
        }
        match wait(name, self.catalog.table(&self.schema, name)) {
            Ok(table) => table.is_some(),
            Err(error) => {
                tracing::warn!(%error, "whether a table exists cannot be read");
                false
            }
        }
    }
}
