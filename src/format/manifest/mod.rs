//! The manifest: the immutable list of superfiles and tombstones that makes up one version.
//!
//! A manifest is a tree of content-addressed nodes that versions share, so that a commit's cost
//! follows what changed and not the number of superfiles. What it says is in [`header`],
//! [`metadata`] and [`entry`], the tree in [`tree`], the way to older versions in [`skips`], its edits in [`edit`], its bytes in [`wire`], loading in [`load`], what each
//! node must satisfy in `shape`, and what must hold between versions in [`check`].

mod any;
pub mod check;
pub mod edit;
pub mod entry;
pub mod error;
pub mod header;
pub mod load;
pub mod metadata;
pub mod properties;
pub mod schema;
pub(crate) mod shape;
pub mod skips;
mod stats_wire;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod wire;

pub(crate) use any::decode_any_node;
pub use check::{InvariantViolation, check_first, check_successor};
pub use edit::{ManifestEdit, TombstoneUpdate};
pub use entry::{NodeRef, RowIds, SuperfileEntry, TombstoneRef, Totals};
pub use error::{EditError, ManifestError};
pub use header::{CommitRecord, ManifestHeader, shorten_statement};
pub use load::ManifestLoader;
pub use metadata::{SortColumn, TableMetadata};
pub use properties::{CHECK, COLUMN_DEFAULT, INITIAL_DEFAULT};
pub use schema::{ADDED_KEY, FIELD_ID_KEY, SchemaError, assign_field_ids, field_id};
pub use skips::{STRIDE, skip_versions};
pub(crate) use stats_wire::{decode_stats, encode_stats};
pub use tree::{EncodedManifest, Group, Leaf, Manifest};
