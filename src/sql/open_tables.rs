//! What a session has opened: tables, of whose background work it knows, and catalogs.
//!
//! Owns the list, which sessions share that were made from one another. Does not own tables or catalogs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::catalog::CatalogProvider;

use crate::table::{Background, Table};

/// What the tables that a session has opened do in the background, also those whose name was dropped since. It
/// keeps no table in memory.
#[derive(Debug, Default)]
pub(crate) struct OpenTables {
    tables: Arc<Mutex<Vec<Background>>>,
    /// The session's catalogs of supertables, by their names.
    catalogs: Mutex<HashMap<String, Arc<dyn CatalogProvider>>>,
}

impl OpenTables {
    pub(crate) fn add(&self, table: &Table) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|known| !known.is_over());
        let background = table.background();
        if !tables.iter().any(|known| known.is_same(&background)) {
            tables.push(background);
        }
    }

    /// The same tables, for a session without catalogs.
    pub(crate) fn without_catalogs(&self) -> Self {
        Self {
            tables: Arc::clone(&self.tables),
            catalogs: Mutex::default(),
        }
    }

    pub(crate) fn add_catalog(&self, name: &str, catalog: Arc<dyn CatalogProvider>) {
        self.catalogs().insert(name.to_owned(), catalog);
    }

    pub(crate) fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        self.catalogs().get(name).cloned()
    }

    fn catalogs(&self) -> MutexGuard<'_, HashMap<String, Arc<dyn CatalogProvider>>> {
        self.catalogs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Background> {
        self.tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
