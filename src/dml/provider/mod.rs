//! The table as DataFusion sees it.
//!
//! - [`table`]: the provider that users register, and the one with a version pinned.
//! - [`version`]: the table as it was; it can only be read.

mod access;
pub mod table;
pub mod version;
mod view;

pub use access::TableAccess;
pub use table::{PinnedProvider, SupertableProvider};
pub use version::VersionProvider;
