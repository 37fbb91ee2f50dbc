//! What the rows of a scan depend on, beside what DataFusion's own configuration of a scan says.
//!
//! Owns these values, and how readers come from them, a store and a cache of footers. So a scan can be made again where
//! its snapshot is not: neither pointer, manifest nor WAL document is needed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::path::Path;

use crate::scan::location::ScanLocation;
use crate::scan::read::defaults::InitialDefaults;
use crate::scan::read::in_place::InPlaceStore;
use crate::scan::read::reader::SuperfileReaders;
use crate::storage::ExactStore;

/// What `EXPLAIN` says about the superfiles of a scan.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ScanSummary {
    /// Superfiles in the snapshot.
    pub superfiles: usize,
    /// Superfiles that the statement drops whole, and so does not read.
    pub dropped: usize,
    /// Superfiles excluded by the manifest's statistics or by a limit.
    pub pruned: usize,
    /// Deleted rows in the superfiles that remain.
    pub tombstoned_rows: u64,
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct SourceParts {
    /// Where the objects are.
    pub(crate) location: ScanLocation,
    /// The table's columns with the ids of all fields.
    pub(crate) stored: SchemaRef,
    /// What superfiles have for columns that are younger than they.
    pub(crate) defaults: Arc<InitialDefaults>,
    /// The files that are read where others have them, and the states in which they are.
    pub(crate) in_place: HashMap<Path, String>,
    /// Whether page indexes are asked for together with footers.
    pub(crate) indexed: bool,
    /// What `EXPLAIN` says.
    pub(crate) summary: ScanSummary,
}

impl SourceParts {
    /// Readers of the superfiles, by the store and the cache of footers that `runtime` has.
    ///
    /// # Errors
    /// `runtime` does not know the table's object store.
    pub(crate) fn readers(&self, runtime: &RuntimeEnv) -> Result<Arc<SuperfileReaders>> {
        let url = &self.location.store_url;
        let mut store = runtime.object_store(url)?;
        if *url != ObjectStoreUrl::local_filesystem() {
            store = Arc::new(ExactStore::new(store));
        }
        let store = InPlaceStore::over(store, url, &self.in_place);
        let cache = runtime.cache_manager.get_file_metadata_cache();
        let stored = Arc::clone(&self.stored);
        Ok(Arc::new(SuperfileReaders::new(
            store,
            cache,
            stored,
            self.indexed,
        )))
    }
}
