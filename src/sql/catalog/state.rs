//! What a catalog knows: where its tables are, which are open, and what names were found to mean.
//!
//! Owns that state. Does not own which directory a name means now (`slots`).
//!
//! Invariant: what is known here is asked again before it is used; it is never the truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use object_store::ObjectStore;
use object_store::path::Path;

use super::opener::Opener;
use crate::dml::SupertableProvider;
use crate::error::{Error, ErrorKind, Result};
use crate::scan::ScanLocation;
use crate::sql::location::resolve;
use crate::storage::Storage;
use crate::wal::Env;

/// The schema that every catalog has.
pub(super) const DEFAULT_SCHEMA: &str = "public";

/// See the module.
pub(super) struct CatalogState {
    pub(super) name: String,
    /// Ends in `/`.
    pub(super) root: String,
    pub(super) storage: Storage,
    place: ScanLocation,
    opener: Opener,
    env: Env,
    /// By the directories of the schema and of the table.
    open: Mutex<HashMap<(String, String), SupertableProvider>>,
    /// The directory of the table that a name, in the directory of its schema, was found to mean.
    known_directory: Mutex<HashMap<(String, String), String>>,
    /// Schemas that were created and have no table yet: no store keeps empty directories.
    declared: Mutex<BTreeSet<String>>,
    /// Views and tables of other formats, which only this session has.
    others: Mutex<BTreeMap<(String, String), Arc<dyn TableProvider>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CatalogState {
    pub(super) fn new(
        name: &str,
        root: String,
        (storage, place): (Storage, ScanLocation),
        opener: Opener,
    ) -> Self {
        Self {
            name: name.to_owned(),
            root,
            storage,
            place,
            opener,
            env: Env::system(),
            open: Mutex::default(),
            known_directory: Mutex::default(),
            declared: Mutex::default(),
            others: Mutex::default(),
        }
    }

    pub(super) fn declared(&self) -> MutexGuard<'_, BTreeSet<String>> {
        lock(&self.declared)
    }

    pub(super) fn others(
        &self,
    ) -> MutexGuard<'_, BTreeMap<(String, String), Arc<dyn TableProvider>>> {
        lock(&self.others)
    }

    pub(super) fn place(&self) -> &ScanLocation {
        &self.place
    }

    /// The session that tables are opened in.
    pub(super) fn opener(&self) -> SessionState {
        self.opener.state()
    }

    /// The directories directly below the root or below one of its directories.
    pub(super) async fn directories(&self, below: Option<&str>) -> Result<Vec<String>> {
        let prefix = below.map(|directory| Path::from_iter([directory]));
        let listing = self
            .storage
            .object_store()
            .list_with_delimiter(prefix.as_ref())
            .await;
        match listing {
            Ok(listing) => Ok(listing
                .common_prefixes
                .iter()
                .filter_map(|path| path.filename().map(str::to_owned))
                .collect()),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(Error::new(
                ErrorKind::Storage,
                below.unwrap_or(&self.name),
                "the catalog's location cannot be listed",
            )
            .with_source(error)),
        }
    }

    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// Whether a name is this session's own: of a view, or of a table of another format.
    pub(super) fn has_other(&self, schema: &str, name: &str) -> bool {
        self.others()
            .contains_key(&(schema.to_owned(), name.to_owned()))
    }

    /// Where the table of a directory is, in the schema whose directory is `place`.
    pub(super) fn location(&self, place: &str, directory: &str) -> String {
        format!("{}{place}/{directory}/", self.root)
    }

    pub(super) fn opened(&self, place: &str, directory: &str) -> Option<SupertableProvider> {
        let key = (place.to_owned(), directory.to_owned());
        lock(&self.open).get(&key).cloned()
    }

    pub(super) fn keep(
        &self,
        place: &str,
        directory: &str,
        provider: SupertableProvider,
    ) -> SupertableProvider {
        let key = (place.to_owned(), directory.to_owned());
        lock(&self.open).insert(key, provider.clone());
        provider
    }

    pub(super) fn close(&self, place: &str, directory: &str) {
        let key = (place.to_owned(), directory.to_owned());
        lock(&self.open).remove(&key);
    }

    /// The directory of the table that a name known_directory when it was last looked up.
    pub(super) fn known_directory(&self, place: &str, name: &str) -> Option<String> {
        let key = (place.to_owned(), name.to_owned());
        lock(&self.known_directory).get(&key).cloned()
    }

    pub(super) fn remember(&self, place: &str, name: &str, directory: &str) {
        let key = (place.to_owned(), name.to_owned());
        lock(&self.known_directory).insert(key, directory.to_owned());
    }

    pub(super) fn forget(&self, place: &str, name: &str) {
        let key = (place.to_owned(), name.to_owned());
        lock(&self.known_directory).remove(&key);
    }

    /// The objects of a directory of the schema in `place`.
    pub(super) fn storage_of(&self, place: &str, directory: &str) -> Result<Storage> {
        let (storage, _) = resolve(&self.opener(), &self.location(place, directory))?;
        Ok(storage)
    }
}
