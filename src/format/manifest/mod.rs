//! The manifest: the immutable list of superfiles and tombstones that makes up one version.
//!
//! A manifest is a tree of content-addressed nodes that versions share, so that a commit's cost
//! follows what changed and not the number of superfiles. What it says is in [`header`],
//! [`metadata`] and [`entry`], the tree in [`tree`], the way to older versions in [`skips`], its edits in [`edit`], what is found by statistics in [`select()`], its bytes in [`wire`], loading in [`load`], what each
//! node must satisfy in `shape`, and what must hold between versions in [`check`].

mod any;
pub(crate) mod check;
pub(crate) mod edit;
pub(crate) mod entry;
mod entry_wire;
pub(crate) mod error;
pub(crate) mod header;
mod keys_wire;
pub(crate) mod load;
pub(crate) mod metadata;
pub(crate) mod properties;
pub(crate) mod schema;
mod select;
pub(crate) mod shape;
pub(crate) mod skips;
mod stats_wire;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
pub(crate) mod wire;

pub(crate) use any::decode_any_node;
pub use check::check_successor;
pub(crate) use check::{InvariantViolation, check_first};
pub use edit::ManifestEdit;
pub(crate) use edit::TombstoneUpdate;
pub(crate) use entry::TombstoneRef;
#[cfg(test)]
pub(crate) use entry::Totals;
pub use entry::{RowIds, SuperfileEntry};
pub(crate) use entry_wire::{decode_entry, encode_entry};
pub(crate) use error::{EditError, ManifestError};
pub use header::ManifestHeader;
pub(crate) use header::{CommitRecord, shorten_statement};
pub(crate) use keys_wire::{decode_absent_keys, encode_absent_keys};
pub use load::ManifestLoader;
pub(crate) use metadata::SortColumn;
pub use metadata::{TableMetadata, UniqueKey};
pub(crate) use properties::CHECK;
#[cfg(test)]
pub(crate) use schema::SchemaError;
pub(crate) use schema::{
    ADDED_KEY, FIELD_ID_KEY, PHYSICAL_NAME_KEY, ROW_ID_COLUMN, ROW_ID_FIELD_ID, assign_field_ids,
    field_id, physical_name, renamed_field, taken_names,
};
pub(crate) use select::select;
#[cfg(test)]
pub(crate) use skips::skip_versions;
pub(crate) use tree::EncodedManifest;
pub use tree::Manifest;
