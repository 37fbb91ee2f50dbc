//! The versions of a table: reading them, following the current one, and finding earlier ones.
//!
//! `reader` fetches and verifies what versions consist of, `sidecars` their tombstones, `cache` keeps it in memory, [`Snapshot`](snapshot::Snapshot)
//! is one version, pinned. `head` is the only way to the pointer, and holds the `tip`, the newest version that this
//! process knows; `pointer` says what else can stand in its place. `history` finds an earlier version, or what
//! became of a mutation, by the way that `descent` chooses; `diff` says in what two versions differ.

pub(crate) mod cache;
mod descent;
pub(super) mod diff;
pub(crate) mod head;
pub(crate) mod history;
pub(crate) mod moment;
pub(crate) mod pointer;
pub(crate) mod reader;
pub(crate) mod sidecars;
pub(crate) mod snapshot;
pub(crate) mod tip;
