//! The table as DataFusion sees it.
//!
//! - [`table`]: the provider that users register, and the one with a version pinned.
//! - [`version`]: the table as it was; it can only be read.

mod access;
pub(crate) mod table;
pub(crate) mod version;
mod view;

pub use access::TableAccess;
pub(crate) use table::PinnedProvider;
pub use table::SupertableProvider;
pub(crate) use version::VersionProvider;
