//! Finding, creating and dropping the tables below a location.
//!
//! Owns which directory a name means now, and the tables that are open. Does not own what creating and
//! dropping do to a directory (`table`).
//! Invariant: a table that another process dropped or created is seen by the next statement; what is open is
//! asked before it is used. A crash while a table is created leaves none, or an empty one; after the swing of
//! a drop, objects that the next table of the name sweeps away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::names::{decode, encode, table_directory, table_of};
use super::provider::CatalogView;
use crate::config::SupertableOptions;
use crate::dml::SupertableProvider;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Head, paths};
use crate::scan::schema::session_schema;
use crate::sql::factory::{CreateOptions, create_table, open_again, open_table};
use crate::sql::location::resolve;
use crate::sql::session::OpenTables;
use crate::storage::Storage;
use crate::table::drop::{is_dropped, is_grave, sweep};

/// The schema that every catalog has.
pub(super) const DEFAULT_SCHEMA: &str = "public";

/// Directories that are looked into at once.
const CONCURRENT: usize = 32;

/// Tables of one name that may be dropped while one more is being created.
const RACES: usize = 64;

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
    session: Box<dyn Fn() -> Option<SessionState> + Send + Sync>,
    open: Mutex<HashMap<(String, String), SupertableProvider>>,
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
    /// `CREATE TABLE … AS`, `CREATE OR REPLACE TABLE` and `DROP TABLE` on it are for
    /// [`sql`](super::sql) or [`execute`](super::execute), which do them safely. With
    /// `SessionContext::sql` the first collects its rows in memory, and the others leave the table as it is:
    /// they fail, but for `DROP TABLE IF EXISTS`, which DataFusion lets do nothing.
    ///
    /// # Errors
    /// `root` is not a location that the session can reach.
    pub fn open(ctx: &SessionContext, name: &str, root: &str) -> Result<Self> {
        crate::sql::register(ctx)?;
        let root = match root.ends_with('/') {
            true => root.to_owned(),
            false => format!("{root}/"),
        };
        let (storage, _) = resolve(&ctx.state(), &root)?;
        let state = ctx.state_weak_ref();
        let catalog = Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                root,
                storage,
                // Not to wait behind a writer that waits for the reader we may be called by.
                session: Box::new(move || Some(state.upgrade()?.read_recursive().clone())),
                open: Mutex::default(),
                declared: Mutex::default(),
                others: Mutex::default(),
            }),
        };
        if let Some(open) = ctx.copied_config().get_extension::<OpenTables>() {
            open.add_catalog(&catalog);
        }
        ctx.register_catalog(name, Arc::new(CatalogView::new(catalog.clone())));
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

    pub(super) fn session(&self) -> Result<SessionState> {
        (self.inner.session)().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                &self.inner.name,
                "the session that the catalog was opened in has ended",
            )
        })
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
            let (name, _) = table_of(&directory)?;
            let pointer = Path::from_iter([schema.as_str(), directory.as_str()])
                .parts()
                .chain(paths::pointer().parts())
                .collect::<Path>();
            Some((name, pointer))
        });
        let found: Vec<Result<Option<String>>> = stream::iter(candidates)
            .map(|(name, pointer)| async move {
                let head = storage.get(&pointer).await?;
                Ok(head.and_then(|(bytes, _)| match Head::decode(&bytes) {
                    Ok(Head::Dropped(_)) => None,
                    // A damaged table is there; whoever opens it learns what is wrong.
                    _ => Some(name),
                }))
            })
            .buffer_unordered(CONCURRENT)
            .collect()
            .await;
        found.into_iter().filter_map(Result::transpose).collect()
    }

    /// The directories directly below the root or below one of its directories.
    async fn directories(&self, below: Option<&str>) -> Result<Vec<String>> {
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
        let key = (schema.to_owned(), name.to_owned());
        let known = lock(&self.inner.open).get(&key).cloned();
        if let Some(known) = known {
            match known.table().snapshot().await {
                Ok(current) => {
                    if session_schema(&current.schema()) == known.schema() {
                        return Ok(Some(known));
                    }
                    let fresh = open_again(&self.session()?, &known)?;
                    return Ok(Some(self.keep(key, fresh)));
                }
                Err(error) if is_dropped(&error) => {
                    lock(&self.inner.open).remove(&key);
                }
                Err(error) => return Err(error),
            }
        }
        let Ok(schema) = encode(schema) else {
            return Ok(None);
        };
        let state = self.session()?;
        let open = async |number| {
            let directory = table_directory(name, number)?;
            open_table(&state, &format!("{}{schema}/{directory}/", self.inner.root)).await
        };
        let found = match open(1).await {
            Err(error) if is_grave(&error) => open(self.latest(&schema, name).await?).await,
            found => found,
        };
        match found {
            Ok(provider) => Ok(Some(self.keep(key, provider))),
            Err(error) if is_dropped(&error) => Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn keep(&self, key: (String, String), provider: SupertableProvider) -> SupertableProvider {
        lock(&self.inner.open).insert(key, provider.clone());
        provider
    }

    /// The number of the last directory of a table's name.
    async fn latest(&self, schema: &str, name: &str) -> Result<u32> {
        let directories = self.directories(Some(schema)).await?;
        let numbers = directories.iter().filter_map(|directory| {
            let (of, number) = table_of(directory)?;
            (of == name).then_some(number)
        });
        Ok(numbers.max().unwrap_or(1))
    }

    /// Creates an empty table.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is one of the name; `InvalidArgument` for names or columns that
    /// a table cannot have.
    pub async fn create_table(
        &self,
        schema: &str,
        name: &str,
        columns: &Schema,
        options: CreateOptions,
    ) -> Result<SupertableProvider> {
        let directory = encode(schema)?;
        let state = self.session()?;
        let mut number = self.latest(&directory, name).await?;
        for _ in 0..RACES {
            let table = table_directory(name, number)?;
            let location = format!("{}{directory}/{table}/", self.inner.root);
            match create_table(&state, &location, columns, options.clone()).await {
                Ok(provider) => {
                    return Ok(self.keep((schema.to_owned(), name.to_owned()), provider));
                }
                Err(error) if is_grave(&error) => {
                    // What a drop did not get to delete.
                    let (storage, _) = resolve(&state, &location)?;
                    sweep(&storage).await?;
                    number = number.saturating_add(1);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    return Err(exists(schema, name));
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("{schema}.{name}"),
            "other processes keep creating and dropping a table of this name",
        ))
    }

    /// Drops a table; says whether there was one.
    ///
    /// # Errors
    /// The store's.
    pub async fn drop_table(&self, schema: &str, name: &str) -> Result<bool> {
        let Some(provider) = self.table(schema, name).await? else {
            return Ok(false);
        };
        SupertableOptions::of(self.session()?.config_options()).check_writable("DROP TABLE")?;
        let dropped = provider.table().drop_table().await;
        lock(&self.inner.open).remove(&(schema.to_owned(), name.to_owned()));
        match dropped {
            Ok(()) => Ok(true),
            // Another process was first.
            Err(error) if is_dropped(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Drops a table that `created` made if nobody has written to it since.
    pub(super) async fn take_back(&self, schema: &str, name: &str, created: &SupertableProvider) {
        lock(&self.inner.open).remove(&(schema.to_owned(), name.to_owned()));
        let table = created.table();
        let untouched = table.cached_snapshot();
        if untouched.version() != 1 {
            return;
        }
        if let Err(error) = table.drop_unchanged(&untouched).await {
            tracing::warn!(%error, table = %name, "a table that could not be filled is left empty");
        }
    }
}

/// The error of a name that is taken.
pub(super) fn exists(schema: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("{schema}.{name}"),
        "there is a table of this name already",
    )
}
