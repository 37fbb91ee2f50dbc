//! Versions: reading them, following the current one, and finding earlier ones.

pub mod cache;
pub(crate) mod descent;
pub mod diff;
pub mod history;
pub(crate) mod lookup;
pub(crate) mod reader;
pub mod snapshot;
pub(crate) mod tip;
