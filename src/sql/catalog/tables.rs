//! Listing, creating and dropping the tables below a location.
//!
//! Owns the catalog's state: the tables that are open, and what names were found to mean. Does not own which
//! directory a name means now (`slots`), renames (`rename`), nor what creating and dropping do to a directory (`table`).
//! Invariant: a table that another process dropped, renamed or created is seen by the next statement; what is open is
//! asked before it is used. A crash while a table is created leaves none, or the whole of it; after the swing of
//! a drop, objects that the next table of the name sweeps away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::Schema;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::list;
use super::names::{decode, encode, name_of, table_of};
use super::opener::Opener;
use super::slots::{Taken, Wanted};
use crate::config::SupertableOptions;
use crate::dml::SupertableProvider;
use crate::dml::definition::Declared;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Head, paths};
use crate::scan::ScanLocation;
use crate::sql::factory::CreateOptions;
use crate::sql::location::resolve;
use crate::storage::Storage;
use crate::table::claim::slot_of;
use crate::table::drop::SWUNG;
use crate::table::{Env, Reruns};

/// The schema that every catalog has.
pub(super) const DEFAULT_SCHEMA: &str = "public";

/// Directories that are looked into at once.
const CONCURRENT: usize = 32;

/// A catalog of supertables below one location. Cheap to clone.
#[derive(Clone)]
pub struct SupertableCatalog {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    /// Ends in `/`.
    root: String,
    storage: Storage,
    place: ScanLocation,
    opener: Opener,
    env: Env,
    /// By the directories of the schema and of the table.
    open: Mutex<HashMap<(String, String), SupertableProvider>>,
    /// The directory of the table that a name, in the directory of its schema, was found to mean.
    meant: Mutex<HashMap<(String, String), String>>,
    /// Schemas that were created and have no table yet: no store keeps empty directories.
    declared: Mutex<BTreeSet<String>>,
    /// Views and tables of other formats, which only this session has.
    others: Mutex<BTreeMap<(String, String), Arc<dyn TableProvider>>>,
}

impl fmt::Debug for SupertableCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupertableCatalog")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SupertableCatalog {
    /// Registers the tables below `root` (a path or URL) with the session, as the catalog `name`.
    ///
    /// `CREATE TABLE`, `CREATE OR REPLACE TABLE` and `DROP TABLE` on it are for [`sql`](super::sql) or
    /// [`execute`](super::execute), which do them safely. With `SessionContext::sql` they change nothing and fail, but
    /// for `DROP TABLE IF EXISTS`, which DataFusion lets do nothing.
    ///
    /// Every session that shares this one's list of catalogs has it too, and may outlive this session. What changes
    /// a table asks the session whose statement it is whether that only reads (`supertable.read_only`). Opening a
    /// table is for all of them, so it goes by the options of this one: if it only reads, all only read.
    ///
    /// # Errors
    /// `root` is not a location that the session can reach.
    pub fn open(ctx: &SessionContext, name: &str, root: &str) -> Result<Self> {
        crate::sql::register(ctx)?;
        let root = match root.ends_with('/') {
            true => root.to_owned(),
            false => format!("{root}/"),
        };
        let (storage, place) = resolve(&ctx.state(), &root)?;
        let catalog = Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                root,
                storage,
                place,
                opener: Opener::new(ctx),
                env: Env::system(),
                open: Mutex::default(),
                meant: Mutex::default(),
                declared: Mutex::default(),
                others: Mutex::default(),
            }),
        };
        list::register(ctx, &catalog);
        Ok(catalog)
    }

    /// The name under which it is registered.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(super) fn declared(&self) -> MutexGuard<'_, BTreeSet<String>> {
        lock(&self.inner.declared)
    }

    pub(super) fn others(
        &self,
    ) -> MutexGuard<'_, BTreeMap<(String, String), Arc<dyn TableProvider>>> {
        lock(&self.inner.others)
    }

    pub(super) fn place(&self) -> &ScanLocation {
        &self.inner.place
    }

    /// The session that tables are opened in.
    pub(super) fn opener(&self) -> SessionState {
        self.inner.opener.state()
    }

    /// The schemas: `public`, those with a directory, and those created in this session.
    ///
    /// # Errors
    /// The store's.
    pub async fn schemas(&self) -> Result<BTreeSet<String>> {
        let mut schemas = self.declared().clone();
        schemas.insert(DEFAULT_SCHEMA.to_owned());
        let directories = self.directories(None).await?;
        schemas.extend(directories.iter().filter_map(|d| decode(d)));
        Ok(schemas)
    }

    /// The names of a schema's tables.
    ///
    /// # Errors
    /// The store's.
    pub async fn tables(&self, schema: &str) -> Result<BTreeSet<String>> {
        let schema = encode(schema)?;
        let directories = self.directories(Some(&schema)).await?;
        let storage = &self.inner.storage;
        let candidates = directories.into_iter().filter_map(|directory| {
            table_of(&directory)?;
            let pointer = Path::from_iter([schema.as_str(), directory.as_str()])
                .parts()
                .chain(paths::pointer().parts())
                .collect::<Path>();
            Some((directory, pointer))
        });
        let found: Vec<Result<Option<String>>> = stream::iter(candidates)
            .map(|(directory, pointer)| async move {
                let Some((bytes, _)) = storage.get(&pointer).await? else {
                    return Ok(None);
                };
                match Head::decode(&bytes) {
                    Ok(Head::Dropped(_) | Head::Reserved(_)) => Ok(None),
                    Ok(Head::Table(pointer)) => {
                        name_of(slot_of(&directory, pointer.claim.as_ref())).map(Some)
                    }
                    // A damaged table is there; whoever opens it learns what is wrong.
                    Err(_) => name_of(&directory).map(Some),
                }
            })
            .buffer_unordered(CONCURRENT)
            .collect()
            .await;
        found.into_iter().filter_map(Result::transpose).collect()
    }

    /// The directories directly below the root or below one of its directories.
    pub(super) async fn directories(&self, below: Option<&str>) -> Result<Vec<String>> {
        let prefix = below.map(|directory| Path::from_iter([directory]));
        let listing = self
            .inner
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
                below.unwrap_or(&self.inner.name),
                "the catalog's location cannot be listed",
            )
            .with_source(error)),
        }
    }

    /// The table of this name.
    ///
    /// # Errors
    /// The store's; `Corrupt` for a damaged table.
    pub async fn table(&self, schema: &str, name: &str) -> Result<Option<SupertableProvider>> {
        let found = self.find(schema, name).await?;
        let name = TableReference::full(self.name(), schema, name);
        Ok(found.map(|found| found.provider.declared(Declared::Catalog { name })))
    }

    pub(super) fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Whether a name is this session's own: of a view, or of a table of another format.
    pub(super) fn has_other(&self, schema: &str, name: &str) -> bool {
        self.others()
            .contains_key(&(schema.to_owned(), name.to_owned()))
    }

    /// Where the table of a directory is, in the schema whose directory is `place`.
    pub(super) fn location(&self, place: &str, directory: &str) -> String {
        format!("{}{place}/{directory}/", self.inner.root)
    }

    pub(super) fn opened(&self, place: &str, directory: &str) -> Option<SupertableProvider> {
        let key = (place.to_owned(), directory.to_owned());
        lock(&self.inner.open).get(&key).cloned()
    }

    pub(super) fn keep(
        &self,
        place: &str,
        directory: &str,
        provider: SupertableProvider,
    ) -> SupertableProvider {
        let key = (place.to_owned(), directory.to_owned());
        lock(&self.inner.open).insert(key, provider.clone());
        provider
    }

    pub(super) fn close(&self, place: &str, directory: &str) {
        let key = (place.to_owned(), directory.to_owned());
        lock(&self.inner.open).remove(&key);
    }

    /// The directory of the table that a name meant when it was last looked up.
    pub(super) fn meant(&self, place: &str, name: &str) -> Option<String> {
        let key = (place.to_owned(), name.to_owned());
        lock(&self.inner.meant).get(&key).cloned()
    }

    pub(super) fn remember(&self, place: &str, name: &str, directory: &str) {
        let key = (place.to_owned(), name.to_owned());
        lock(&self.inner.meant).insert(key, directory.to_owned());
    }

    pub(super) fn forget(&self, place: &str, name: &str) {
        let key = (place.to_owned(), name.to_owned());
        lock(&self.inner.meant).remove(&key);
    }

    /// Creates an empty table, on behalf of `session`.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`] in a session that only reads; [`ErrorKind::AlreadyExists`] if there is one of the name; `InvalidArgument` for names or columns that
    /// a table cannot have.
    pub async fn create_table(
        &self,
        session: &dyn Session,
        schema: &str,
        name: &str,
        columns: &Schema,
        options: CreateOptions,
    ) -> Result<SupertableProvider> {
        let created = self
            .prepare_table(session, schema, name, columns, &options, false)
            .await?;
        self.appeared(schema, name, &created)?;
        Ok(created.provider)
    }

    /// The same; an unseen table appears with its first rows, and has [`appeared`](Self::appeared) then.
    pub(super) async fn prepare_table(
        &self,
        session: &dyn Session,
        schema: &str,
        name: &str,
        columns: &Schema,
        options: &CreateOptions,
        unseen: bool,
    ) -> Result<Prepared> {
        SupertableOptions::of(session.config_options()).check_writable("CREATE TABLE")?;
        let wanted = Wanted::Table {
            columns,
            options,
            unseen,
        };
        match self.take(schema, name, wanted).await? {
            Taken {
                directory,
                provider: Some(provider),
            } => Ok(Prepared {
                directory,
                provider,
            }),
            Taken { directory, .. } => Err(Error::new(
                ErrorKind::Conflict,
                directory,
                "was reserved, and not created",
            )),
        }
    }

    /// Knows the table by its name from now on.
    pub(super) fn appeared(&self, schema: &str, name: &str, table: &Prepared) -> Result<()> {
        let place = encode(schema)?;
        self.remember(&place, name, &table.directory);
        self.keep(&place, &table.directory, table.provider.clone());
        Ok(())
    }

    /// Drops a table, on behalf of `session`; says whether there was one.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`] in a session that only reads; the store's.
    pub async fn drop_table(
        &self,
        session: &dyn Session,
        schema: &str,
        name: &str,
    ) -> Result<bool> {
        let mut reruns = None;
        loop {
            // Each time anew: the table may have been renamed, which changes its pointer as a commit does.
            let Some(found) = self.find(schema, name).await? else {
                return Ok(false);
            };
            SupertableOptions::of(session.config_options()).check_writable("DROP TABLE")?;
            let table = found.provider.table();
            match table.drop_unchanged(&found.snapshot).await {
                Ok(false) => {
                    let reruns = reruns.get_or_insert_with(|| {
                        Reruns::of(format!("DROP TABLE {schema}.{name}"), table)
                            .at_most(table.limits().commit_attempts)
                    });
                    reruns.after_loss(SWUNG).await?;
                }
                Ok(true) => {
                    let place = encode(schema)?;
                    self.forget(&place, name);
                    self.close(&place, &found.directory);
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A table in a directory that it was found to be the first in.
pub(super) struct Prepared {
    directory: String,
    pub(super) provider: SupertableProvider,
}

/// The error of a name that is taken.
pub(super) fn exists(schema: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("{schema}.{name}"),
        "there is a table of this name already",
    )
}
