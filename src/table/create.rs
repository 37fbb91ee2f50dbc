//! How a table comes to be: everything that its first visible version consists of is uploaded, then the pointer is created.
//!
//! Vocabulary: a table is *unseen* while its pointer is still to be created. One statement can put rows into an
//! unseen table; its commit creates the pointer, so that the table appears with those rows, or not at all.
//!
//! Owns: the first version, and what may be at the place already. Does not own the pointer's creation (`version::head`),
//! nor the statement that fills an unseen table (`commit::owner`).
//!
//! Invariants: of the processes that create a table at one place one is first, and the others delete what they staged. What
//! a creation has staged is deleted only if the table that is there is known to be another one.
//!
//! A crash leaves manifest nodes, and superfiles in the id block of an INTENT document. A table can be created over
//! them; opening it undoes the document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::TryStreamExt;

use super::version::pointer::{dropped, exists, reserved};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{
    Manifest, ManifestHeader, SortColumn, TableMetadata, UniqueKey, assign_field_ids, check_first,
    field_id, taken_names,
};
use crate::format::paths::{self, ObjectName};
use crate::format::{ContentHash, FormatError, Head, IdBlock, TableId, WalState};
use crate::storage::Storage;
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
    /// What an `INSERT` that leaves a column out fills in, as SQL: by the column's name.
    pub defaults: BTreeMap<String, String>,
    /// The order in which writers sort rows; empty: none.
    pub sort_order: Vec<SortColumn>,
    /// The keys that writers enforce, their columns as indices into `schema`.
    pub keys: Vec<NewKey>,
}

/// A key of a new table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// What errors and statements call it.
    pub name: String,
    /// Whether it is the primary key.
    pub is_primary: bool,
    /// The indices of its columns.
    pub columns: Vec<usize>,
}

/// Uploads the first version of a table that is not visible yet; returns it, and the hash of its root.
///
/// # Errors
/// `AlreadyExists` if there is a table; `InvalidArgument` if something else is there, or for a schema that
/// cannot be stored. Nothing that counts is written then.
pub(super) async fn first_version(
    storage: &Storage,
    env: &Env,
    wal: &WalStore,
    spec: CreateTable,
) -> Result<(Manifest, ContentHash)> {
    let pointer_path = paths::pointer();
    if let Some((bytes, _)) = storage.get(&pointer_path).await? {
        return Err(match Head::decode(&bytes) {
            Ok(Head::Dropped(_)) => dropped(),
            Ok(Head::Reserved(_)) => reserved(),
            _ => exists(),
        });
    }
    refuse_foreign(storage, wal).await?;
    let retired_names = BTreeSet::new();
    let taken = taken_names(&Schema::empty(), &retired_names, 0);
    let (schema, next_field_id) = assign_field_ids(&spec.schema, 1, taken).map_err(|source| {
        Error::new(
            ErrorKind::InvalidArgument,
            "schema",
            "the schema cannot be given field ids",
        )
        .with_source(source)
    })?;
    let keys = (spec.keys.into_iter())
        .map(|key| {
            let ids = key
                .columns
                .iter()
                .filter_map(|at| field_id(schema.fields().get(*at)?));
            UniqueKey {
                columns: ids.collect(),
                name: key.name,
                is_primary: key.is_primary,
            }
        })
        .collect();
    let metadata = TableMetadata {
        table_id: TableId::from_uuid(env.ids.nonce()),
        schema,
        properties: spec.properties,
        defaults: spec.defaults,
        initial_defaults: BTreeMap::new(),
        adoptions: 0,
        sort_order: spec.sort_order,
        keys,
        next_field_id,
        retired_names,
    };
    let manifest = Manifest::empty(ManifestHeader::first(Arc::new(metadata), env.now_ms()));
    check_first(&manifest).map_err(|violation| FormatError::from(violation).at(&pointer_path))?;
    let encoded = manifest
        .encode()
        .map_err(|error| FormatError::from(error).at(&paths::manifest_prefix()))?;
    for (hash, bytes) in &encoded.new_nodes {
        storage
            .put_immutable(&paths::manifest_node(hash), bytes.clone())
            .await?;
    }
    manifest.mark_persisted();
    Ok((manifest, encoded.root))
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
