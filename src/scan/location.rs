//! Where a table's objects are for a session.
//!
//! Owns the paths within the session's store. Does not own the store.

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::path::Path;

use crate::format::manifest::SuperfileEntry;
use crate::format::paths;

/// Where a table's objects are, in terms of a session's object stores.
#[derive(Debug, Clone)]
pub struct ScanLocation {
    /// The store, as the session's registry knows it.
    pub store_url: ObjectStoreUrl,
    /// The table's root within that store.
    pub root: Path,
}

impl ScanLocation {
    /// The full path, within the session's store, of an object of the table.
    pub fn resolve(&self, relative: &Path) -> Path {
        self.root.parts().chain(relative.parts()).collect()
    }

    /// The full path, within the session's store, of a superfile, be it the table's own or another's.
    pub fn of(&self, entry: &SuperfileEntry) -> Path {
        match &entry.in_place {
            Some(file) => file.place().resolve(&self.root),
            None => self.resolve(&paths::superfile(&entry.id)),
        }
    }
}
