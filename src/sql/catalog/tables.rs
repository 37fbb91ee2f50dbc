//! Listing, creating and dropping the tables below a location.
//!
//! Owns the catalog as its users see it. Does not own what it knows (`state`), which directory a name means now (`slots`), renames (`rename`), nor what creating and dropping do to a directory (`table`).
//! Invariant: a table that another process dropped, renamed or created is seen by the next statement; what is open is
//! asked before it is used. A crash while a table is created leaves none, or the whole of it; after the swing of
//! a drop, objects that the next table of the name sweeps away.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::TableReference;
use futures::{StreamExt, stream};
use object_store::path::Path;

use super::claim::slot_of;
use super::names::{decode, encode, name_of, table_of};
use super::rename::rename_table;
use super::slots::{MadeSlot, SlotContent, find, make_slot};
use super::state::{CatalogState, DEFAULT_SCHEMA};
use crate::config::SupertableOptions;
use crate::dml::SupertableProvider;
use crate::dml::definition::Declared;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Head, paths};
use crate::sql::table::CreateOptions;
use crate::table::{Attempts, VERSION_CHANGED};

/// Directories that are looked into at once.
const CONCURRENT: usize = 32;

/// A catalog of supertables below one location. Cheap to clone.
#[derive(Clone)]
pub struct SupertableCatalog {
    state: Arc<CatalogState>,
}

impl fmt::Debug for SupertableCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupertableCatalog")
            .field("name", &self.state.name)
            .finish_non_exhaustive()
    }
}

impl SupertableCatalog {
    pub(super) fn new(state: CatalogState) -> Self {
        Self {
            state: Arc::new(state),
        }
    }

    pub(super) fn state(&self) -> &CatalogState {
        &self.state
    }

    /// The name under which it is registered.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The schemas: `public`, those with a directory, and those created in this session.
    ///
    /// # Errors
    /// The store's.
    pub async fn schemas(&self) -> Result<BTreeSet<String>> {
        let mut schemas = self.state.declared().clone();
        schemas.insert(DEFAULT_SCHEMA.to_owned());
        let directories = self.state.directories(None).await?;
        schemas.extend(directories.iter().filter_map(|d| decode(d)));
        Ok(schemas)
    }

    /// The names of a schema's tables.
    ///
    /// # Errors
    /// The store's.
    pub async fn tables(&self, schema: &str) -> Result<BTreeSet<String>> {
        let schema = encode(schema)?;
        let directories = self.state.directories(Some(&schema)).await?;
        let storage = &self.state.storage;
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
                    // A damaged table is there; opening it says what is wrong.
                    Err(_) => name_of(&directory).map(Some),
                }
            })
            .buffer_unordered(CONCURRENT)
            .collect()
            .await;
        found.into_iter().filter_map(Result::transpose).collect()
    }

    /// The table of this name.
    ///
    /// # Errors
    /// The store's; `Corrupt` for a damaged table.
    pub(crate) async fn table(
        &self,
        schema: &str,
        name: &str,
    ) -> Result<Option<SupertableProvider>> {
        let found = find(&self.state, schema, name).await?;
        let name = TableReference::full(self.name(), schema, name);
        Ok(found.map(|found| found.provider.declared(Declared::Catalog { name })))
    }

    /// Creates an empty table, on behalf of `session`.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`] in a session that only reads; [`ErrorKind::AlreadyExists`] if there is one of the name; `InvalidArgument` for names or columns that
    /// a table cannot have.
    pub(crate) async fn create_table(
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
        let with = SlotContent::Table {
            columns,
            options,
            unseen,
        };
        match make_slot(&self.state, schema, name, with).await? {
            MadeSlot {
                directory,
                provider: Some(provider),
            } => Ok(Prepared {
                directory,
                provider,
            }),
            MadeSlot { directory, .. } => Err(Error::new(
                ErrorKind::Conflict,
                directory,
                "was reserved, and not created",
            )),
        }
    }

    /// Knows the table by its name from now on.
    pub(super) fn appeared(&self, schema: &str, name: &str, table: &Prepared) -> Result<()> {
        let place = encode(schema)?;
        self.state.remember(&place, name, &table.directory);
        self.state
            .keep(&place, &table.directory, table.provider.clone());
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
        let mut attempts = None;
        loop {
            // Each time anew: the table may have been renamed, which changes its pointer as a commit does.
            let Some(found) = find(&self.state, schema, name).await? else {
                return Ok(false);
            };
            SupertableOptions::of(session.config_options()).check_writable("DROP TABLE")?;
            let table = found.provider.table();
            match table.drop_unchanged(&found.snapshot).await {
                Ok(false) => {
                    let attempts = attempts.get_or_insert_with(|| {
                        Attempts::of(format!("DROP TABLE {schema}.{name}"), table)
                            .at_most(table.limits().commit_attempts)
                    });
                    attempts.after_loss(VERSION_CHANGED).await?;
                }
                Ok(true) => {
                    let place = encode(schema)?;
                    self.state.forget(&place, name);
                    self.state.close(&place, &found.directory);
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the table `name` another name, on behalf of `session`. Statements that are planned or under way go on.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such table, [`ErrorKind::AlreadyExists`] if there is one with the
    /// new name, `Conflict` if other sessions came first in another way: nothing was changed then.
    /// [`ErrorKind::ReadOnly`] in a session that only reads. `OutcomeUnknown` if the store does not say whether the rename took effect.
    pub async fn rename_table(
        &self,
        session: &dyn Session,
        schema: &str,
        name: &str,
        to: &str,
    ) -> Result<()> {
        rename_table(&self.state, session, schema, name, to).await
    }
}

/// A table in a directory that it was found to be the first in.
pub(super) struct Prepared {
    directory: String,
    pub(super) provider: SupertableProvider,
}
