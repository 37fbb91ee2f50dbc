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
//! | superfile | Parquet's | blake3 of its footer and page indexes in the manifest, see [`footer`] |
//!
//! What order a superfile was written in is a fact of its manifest entry: see [`clustering`].

pub mod change_set;
pub mod clustering;
pub mod envelope;
mod error;
pub mod footer;
pub mod ids;
pub mod in_place;
mod ipc;
pub mod manifest;
pub mod paths;
pub mod pointer;
pub mod state_doc;
pub mod stats;
#[cfg(test)]
pub(crate) mod tests;
pub mod thrift;
pub mod tombstones;

pub use change_set::moves::{RowMoves, Run};
pub use change_set::{ChangeSet, ChangeSetError, DropChange, TombstoneChange};
pub use clustering::{ClusterKey, Clustering, Layout};
pub use error::FormatError;
pub use footer::FooterSeal;
pub use ids::{
    ContentHash, IdBlock, IdParseError, MAX_SUPERFILE_ROWS, RowId, SidecarId, SuperfileId, TableId,
    WalId,
};
pub use in_place::{InPlace, Place};
pub use ipc::IpcError;
pub use pointer::{Claim, Grave, Head, Pointer, PointerError, Reservation};
pub use state_doc::{
    IdSpan, Lease, OpKind, StateDoc, StateDocError, TargetOutcome, TombstoneProgress, WalState,
};
pub use stats::{ColumnStats, StatValue, SuperfileStats};
pub use tombstones::{Seal, Sidecar, SidecarCodecError};
