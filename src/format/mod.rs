//! The formats: names, and the bytes of every object except the Parquet files themselves.
//!
//! Everything here is a plain function over values: no I/O, no clock, no randomness. Decoders
//! bound what they allocate by the length of their input and answer malformed bytes with a typed
//! error, one enum for each codec; [`FormatError`] adds the object's path on the way out.
//!
//! | object | codec | integrity |
//! | --- | --- | --- |
//! | pointer | [`mod@pointer`] | its own checksum; one spelling |
//! | manifest nodes | [`manifest`] | named by the blake3 of their bytes, and a checksum inside |
//! | sidecar | [`tombstones`] | blake3 in the manifest |
//! | change set | [`change_set`] | blake3 in the WAL document |
//! | WAL document | [`state_doc`] | its own checksum |
//! | superfile | Parquet's | blake3 of its footer and page indexes in the manifest, see [`footer`]; CRC-32 of all other bytes in its footer, see [`checksums`] |
//!
//! What order a superfile was written in is a fact of its manifest entry: see [`clustering`].

pub(crate) mod change_set;
pub(crate) mod checksums;
pub(crate) mod clustering;
pub(crate) mod envelope;
mod error;
pub(crate) mod external;
pub(crate) mod footer;
pub(crate) mod hex;
pub(crate) mod ids;
pub(crate) mod in_place;
mod ipc;
pub(crate) mod keys;
pub(crate) mod manifest;
pub mod paths;
pub(crate) mod pointer;
pub(crate) mod state_doc;
pub(crate) mod stats;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod thrift;
pub(crate) mod tombstones;

pub use change_set::moves::{MovedRange, RowMoves};
pub(crate) use change_set::{ChangeSet, DropChange, TombstoneChange};
pub(crate) use clustering::{ClusterKey, Clustering, Layout};
pub(crate) use error::FormatError;
pub(crate) use external::{ColumnSource, ExternalColumns, ExternalFile};
pub use footer::FooterChecksum;
pub use ids::{ContentHash, SuperfileId, WalId};
pub(crate) use ids::{IdBlock, RowId, SidecarId, TableId};
pub(crate) use in_place::ExternalPath;
pub use in_place::InPlace;
pub use keys::AbsentKeys;
pub(crate) use pointer::{Claim, DropMarker, Reservation};
pub use pointer::{Head, Pointer};
#[cfg(test)]
pub(crate) use state_doc::TargetOutcome;
pub(crate) use state_doc::{IdSpan, Lease, StateDocError, TombstoneProgress};
pub use state_doc::{OpKind, StateDoc, WalState};
pub use stats::{ColumnStats, StatValue, SuperfileStats};
#[cfg(test)]
pub(crate) use tombstones::Seal;
pub use tombstones::Sidecar;
pub(crate) use tombstones::SidecarCodecError;
