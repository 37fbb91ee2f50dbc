//! How a table comes to be: everything that its first visible version consists of is uploaded, then the pointer is created.
//!
//! Vocabulary: a table is *unseen* while its pointer is still to be created. One statement can put rows into an
//! unseen table; its commit creates the pointer, so that the table appears with those rows, or not at all.
//!
//! Owns: the order of these steps, and what may be there already. Does not own what the statement stages
//! (`mutation`), nor its document's steps (`wal::driver`).
//!
//! Invariants:
//! - Creating the pointer is the commit that makes a table exist, and happens once: one of those who create a table at
//!   one place is first, and what the others staged is theirs to delete.
//! - The document of such a statement stays INTENT and never becomes APPENDED: nobody may commit it into a table that
//!   another process has created at the place. It is undone like any other whose lease expired; if its pointer was
//!   created before, its record in that version says so, and it is retired.
//! - What a creation has staged is deleted only if the table that is there is known to be another one.
//!
//! A crash leaves manifest nodes, and superfiles in the id block of an INTENT document. A table can be created over
//! them; opening it undoes the document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{
    Manifest, ManifestHeader, SortColumn, TableMetadata, assign_field_ids, check_first,
};
use crate::format::paths::{self, ObjectName};
use crate::format::{ContentHash, FormatError, Head, IdBlock, Pointer, TableId, WalState};
use crate::storage::{CasOutcome, ObjectVersion, Storage};
use crate::table::commit::draft::Draft;
use crate::table::commit::mutation::{CommitOutcome, Parts};
use crate::table::commit::stage::Staged;
use crate::table::drop::{dropped, reserved};
use crate::table::handle::{Inner, Table};
use crate::table::limits::Limits;
use crate::table::version::reader::Reader;
use crate::table::version::snapshot::{Named, Snapshot};
use crate::wal::store::WalError;
use crate::wal::{Env, WalStore};

/// Listings of a place from which an unfinished creation may be disappearing.
const LISTINGS: usize = 3;

/// What a new table is to be.
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// Its columns. Field ids are given out; those that fields bring along are replaced.
    pub schema: SchemaRef,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// The order in which writers sort rows; empty: none.
    pub sort_order: Vec<SortColumn>,
}

impl Table {
    /// Creates a table at the storage's root.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one; `InvalidArgument` if something else is there, or for a schema that
    /// cannot be stored. Nothing that counts is written then.
    pub async fn create(storage: Storage, env: Env, spec: CreateTable) -> Result<Self> {
        Self::create_with(storage, env, Limits::default(), spec).await
    }

    /// The same, within other limits.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_with(
        storage: Storage,
        env: Env,
        limits: Limits,
        spec: CreateTable,
    ) -> Result<Self> {
        let table = Self::prepare(storage, env, limits, spec).await?;
        table.reveal().await?;
        Ok(table)
    }

    /// A table that nobody sees until a statement has committed to it, or [`reveal`](Self::reveal) was called.
    ///
    /// # Errors
    /// As [`create`](Self::create), as far as it is seen already.
    pub(crate) async fn prepare(
        storage: Storage,
        env: Env,
        limits: Limits,
        spec: CreateTable,
    ) -> Result<Self> {
        let pointer_path = paths::pointer();
        if let Some((bytes, _)) = storage.get(&pointer_path).await? {
            return Err(match Head::decode(&bytes) {
                Ok(Head::Dropped(_)) => dropped(),
                Ok(Head::Reserved(_)) => reserved(),
                _ => exists(),
            });
        }
        let wal = WalStore::new(storage.clone(), Arc::clone(&env.ids));
        refuse_foreign(&storage, &wal).await?;
        let (schema, next_field_id) = assign_field_ids(&spec.schema, 1).map_err(|source| {
            Error::new(
                ErrorKind::InvalidArgument,
                "schema",
                "the schema cannot be given field ids",
            )
            .with_source(source)
        })?;
        let metadata = TableMetadata {
            table_id: TableId::from_uuid(env.ids.nonce()),
            schema,
            properties: spec.properties,
            sort_order: spec.sort_order,
            next_field_id,
        };
        let table_id = metadata.table_id;
        let manifest = Manifest::empty(ManifestHeader::first(Arc::new(metadata), env.now_ms()));
        check_first(&manifest)
            .map_err(|violation| FormatError::from(violation).at(&pointer_path))?;
        let encoded = manifest
            .encode()
            .map_err(|error| FormatError::from(error).at(&paths::manifest_prefix()))?;
        for (hash, bytes) in &encoded.new_nodes {
            storage
                .put_immutable(&paths::manifest_node(hash), bytes.clone())
                .await?;
        }
        manifest.mark_persisted();
        let reader = Arc::new(Reader::new(storage.clone(), wal.clone(), &limits));
        let snapshot = Arc::new(Snapshot::new(
            manifest,
            encoded.root,
            None,
            Arc::clone(&reader),
        ));
        Self::with_tip(storage, env, limits, wal, reader, table_id, snapshot)
    }

    /// Lets everybody see the table as it is, if nobody does yet.
    ///
    /// # Errors
    /// `AlreadyExists` if there is another one by now.
    pub(crate) async fn reveal(&self) -> Result<()> {
        let inner = self.inner();
        if !inner.is_unseen() {
            return Ok(());
        }
        let first = inner.tip().snapshot;
        match inner
            .create_pointer(first.manifest(), first.root(), Vec::new())
            .await
        {
            Ok(Created::Seen) => Ok(()),
            Ok(Created::Another) => Err(exists()),
            Err(error) => Err(error),
        }
    }
}

/// What became of a pointer's creation.
pub(super) enum Created {
    /// The table is seen.
    Seen,
    /// Another table is there, or was.
    Another,
}

impl Inner {
    /// Whether the pointer is still to be created.
    pub(super) fn is_unseen(&self) -> bool {
        self.unseen.load(Ordering::Acquire)
    }

    /// Takes over the version with which the table appeared.
    fn see(&self, manifest: &Manifest, root: ContentHash, state: ObjectVersion) {
        let named = Named { state, claim: None };
        let seen = Snapshot::new(
            manifest.clone(),
            root,
            Some(named),
            Arc::clone(&self.reader),
        );
        self.reveal_tip(Arc::new(seen));
        self.unseen.store(false, Ordering::Release);
    }

    /// Creates the pointer, which names a version whose nodes are durable.
    ///
    /// # Errors
    /// The store's; the table may be seen then, or become so.
    pub(super) async fn create_pointer(
        &self,
        manifest: &Manifest,
        root: ContentHash,
        new_nodes: Vec<ContentHash>,
    ) -> Result<Created> {
        let path = paths::pointer();
        let pointer = Pointer {
            table_id: self.table_id,
            version: manifest.version(),
            manifest: root,
            nonce: self.env.ids.nonce(),
            new_nodes,
            claim: None,
        };
        let bytes = pointer
            .encode()
            .map_err(|error| FormatError::from(error).at(&path))?;
        if let CasOutcome::Committed(state) = self.storage.create(&path, bytes).await? {
            manifest.mark_persisted();
            self.see(manifest, root, state);
            return Ok(Created::Seen);
        }
        // It may have been created after all, and changed by others before this was known.
        let ours = match self.storage.get(&path).await? {
            None => false,
            Some((bytes, _)) => match Head::decode(&bytes) {
                Ok(Head::Table(pointer)) => pointer.table_id == self.table_id,
                Ok(Head::Dropped(grave)) => grave.table_id == self.table_id,
                Ok(Head::Reserved(_)) => false,
                Err(error) => return Err(FormatError::from(error).at(&path)),
            },
        };
        if !ours {
            return Ok(Created::Another);
        }
        self.unseen.store(false, Ordering::Release);
        self.refresh().await?;
        Ok(Created::Seen)
    }
}

impl Parts {
    /// Commits the first rows of a table that nobody sees: by creating its pointer.
    pub(super) async fn create_filled(
        self,
        staged: Staged,
        cancelled: &CancellationToken,
    ) -> Result<CommitOutcome> {
        let id = self.driver.id();
        let first = self.inner.tip().snapshot;
        let drafted = async {
            let draft = self.draft(&first, &staged).await?;
            self.driver.durable().await?;
            self.inner.upload(&draft).await?;
            Ok::<Draft, Error>(draft)
        };
        let mut draft = match drafted.await {
            Ok(draft) => draft,
            Err(error) => {
                self.abandon_in_background(true);
                return Err(error);
            }
        };
        if let Some((_, verdict)) = draft.take_refused().pop() {
            self.abandon_in_background(true);
            return verdict.and_then(|ending| self.outcome(ending));
        }
        if cancelled.is_cancelled() {
            self.abandon_in_background(true);
            return Err(self.cancelled());
        }
        match self.inner.create_pointer_to(&draft).await {
            Ok(Created::Seen) => {
                let outcome = draft.records().iter().find(|record| record.wal_id == id);
                let outcome = outcome.map_or(CommitOutcome::NothingToCommit, |record| {
                    CommitOutcome::Committed {
                        version: record.version,
                        rows_affected: record.rows_affected(),
                    }
                });
                self.inner.end_creation(self.driver);
                Ok(outcome)
            }
            Ok(Created::Another) => {
                self.abandon_in_background(true);
                Err(exists())
            }
            Err(error) => {
                // It may be seen, so what was staged stays: recovery, or the next creation, knows what it is.
                self.inner.deactivate(&id);
                Err(error)
            }
        }
    }
}

/// What is there may be unfinished creations, and nothing else: manifest nodes, INTENT documents, and superfiles in
/// their id blocks.
async fn refuse_foreign(storage: &Storage, wal: &WalStore) -> Result<()> {
    let mut listings = 0;
    loop {
        listings += 1;
        let mut superfiles = Vec::new();
        let mut documents = Vec::new();
        let mut objects = storage.list(None);
        while let Some(meta) = objects.try_next().await? {
            match paths::parse(&meta.location) {
                Some(ObjectName::ManifestNode(_)) => {}
                Some(ObjectName::Superfile(id)) => superfiles.push((id.as_uuid(), meta.location)),
                Some(ObjectName::WalDoc(id)) => documents.push((id, meta.location)),
                Some(ObjectName::Pointer) => return Err(exists()),
                _ => return Err(foreign(&meta.location)),
            }
        }
        let mut blocks: Vec<IdBlock> = Vec::new();
        for (id, location) in documents {
            match wal.read(&id).await {
                Ok((doc, _)) if doc.state == WalState::Intent => blocks.extend(doc.id_block()),
                Err(WalError::NotFound { .. }) => {}
                Ok(_) | Err(_) => return Err(foreign(&location)),
            }
        }
        let is_known = |id| blocks.iter().any(|block| block.contains(id));
        match superfiles.into_iter().find(|(id, _)| !is_known(*id)) {
            None => return Ok(()),
            // A creation that is being undone: its superfiles go first, its document last.
            Some(_) if listings < LISTINGS => {}
            Some((_, location)) => return Err(foreign(&location)),
        }
    }
}

fn foreign(location: &object_store::path::Path) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        location.as_ref(),
        "the location is not empty and holds no supertable; a table can only be created in an empty location",
    )
}

fn exists() -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        paths::pointer().as_ref(),
        "there is a table at this location already",
    )
}
