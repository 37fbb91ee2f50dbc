//! A session's list of catalogs, once one of supertables is among them, and which of them are.
//!
//! Owns that a catalog of supertables is not lost by accident: a program that builds a session over a list that is there
//! already, with `with_default_catalog_and_schema("lake", …)`, makes DataFusion put an empty catalog in memory in the
//! place of `lake`, for every session of that list.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use super::provider::CatalogView;
use super::tables::SupertableCatalog;
use crate::scan::ScanLocation;
use crate::sql::open_tables::OpenTables;

/// Knows the catalogs of supertables in a list.
#[derive(Debug)]
struct GuardedList {
    list: Arc<dyn CatalogProviderList>,
    own: Mutex<HashMap<String, SupertableCatalog>>,
}

/// Puts `catalog` into the session's list, under its name.
pub(super) fn register(ctx: &SessionContext, catalog: &SupertableCatalog) {
    let list = Arc::clone(ctx.state().catalog_list());
    if list.downcast_ref::<GuardedList>().is_none() {
        ctx.register_catalog_list(Arc::new(GuardedList {
            list,
            own: Mutex::default(),
        }));
    }
    let view: Arc<dyn CatalogProvider> = Arc::new(CatalogView::new(catalog.clone()));
    ctx.register_catalog(catalog.name(), Arc::clone(&view));
    if let Some(open) = ctx.copied_config().get_extension::<OpenTables>() {
        open.add_catalog(catalog.name(), view);
    }
}

/// The catalog of supertables that `name` means in a session.
pub(crate) fn catalog_of(state: &SessionState, name: &str) -> Option<SupertableCatalog> {
    let list = state.catalog_list();
    if let Some(guarded) = list.downcast_ref::<GuardedList>() {
        return guarded.own().get(name).cloned();
    }
    let found = list.catalog(name)?;
    if let Some(view) = found.downcast_ref::<CatalogView>() {
        return Some(view.catalog().clone());
    }
    if found.downcast_ref::<MemoryCatalogProvider>().is_some() {
        return None;
    }
    // Lists that look for files under the names of tables wrap the catalogs that they have.
    let known = state
        .config()
        .get_extension::<OpenTables>()?
        .catalog(name)?;
    Some(known.downcast_ref::<CatalogView>()?.catalog().clone())
}

/// The name of a catalog of supertables of the session in whose directory `place` lies.
pub(crate) fn catalog_around(state: &SessionState, place: &ScanLocation) -> Option<String> {
    let names = state.catalog_list().catalog_names();
    names.into_iter().find(|name| {
        catalog_of(state, name).is_some_and(|catalog| {
            let root = catalog.state().place();
            root.store_url == place.store_url && place.root.prefix_matches(&root.root)
        })
    })
}

fn is_empty_in_memory(catalog: &dyn CatalogProvider) -> bool {
    catalog.downcast_ref::<MemoryCatalogProvider>().is_some()
        && catalog.schema_names().iter().all(|name| {
            catalog
                .schema(name)
                .is_none_or(|schema| schema.table_names().is_empty())
        })
}

impl GuardedList {
    fn own(&self) -> MutexGuard<'_, HashMap<String, SupertableCatalog>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CatalogProviderList for GuardedList {
    fn register_catalog(
        &self,
        name: String,
        catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        let mut own = self.own();
        match catalog.downcast_ref::<CatalogView>() {
            Some(view) => {
                own.insert(name.clone(), view.catalog().clone());
            }
            None if own.contains_key(&name) && is_empty_in_memory(catalog.as_ref()) => {
                tracing::debug!(catalog = name, "stays, in place of an empty one");
                return self.list.catalog(&name);
            }
            None => {
                own.remove(&name);
            }
        }
        drop(own);
        self.list.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.list.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        self.list.catalog(name)
    }
}
