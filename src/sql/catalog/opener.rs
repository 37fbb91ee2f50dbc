//! The session that a catalog opens its tables in.
//!
//! Owns what opening takes: object stores, options, and the functions that defaults and checks are made of. DataFusion
//! asks a catalog for tables without saying for which session, so this is the session that opened the catalog;
//! it may end while others use the catalog. Does not own which sessions may change something: that is asked of the session
//! whose statement it is.
//!
//! Invariant: no catalog and no list of catalogs is held, which would hold each other for ever.

use std::sync::{Arc, Weak};

use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;

use crate::sql::open_tables::OpenTables;

/// See the module.
pub(super) struct Opener {
    live: Box<dyn Fn() -> Option<SessionState> + Send + Sync>,
    held: SessionState,
}

impl Opener {
    pub(super) fn new(ctx: &SessionContext) -> Self {
        let live = ctx.state_weak_ref();
        Self {
            // Not to wait behind a writer that waits for the reader we may be called by.
            live: Box::new(move || Some(Weak::upgrade(&live)?.read_recursive().clone())),
            held: without_catalogs(ctx.state()),
        }
    }

    /// The session as it is now, or as it was when it opened the catalog if it has ended.
    pub(super) fn state(&self) -> SessionState {
        (self.live)().unwrap_or_else(|| self.held.clone())
    }
}

fn without_catalogs(state: SessionState) -> SessionState {
    let mut config = state
        .config()
        .clone()
        .with_create_default_catalog_and_schema(false);
    if let Some(open) = config.get_extension::<OpenTables>() {
        config.set_extension(Arc::new(open.without_catalogs()));
    }
    SessionStateBuilder::new_from_existing(state)
        .with_config(config)
        .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
        .with_table_functions(Default::default())
        .build()
}
