//! Compare-and-swap over an object store, and the local disk as such a store.
//!
//! [`Storage`] is what the rest of the crate uses: all paths are relative to one table's root, lost
//! races are values, and an answer that got lost or lies is settled by reading back. [`LocalStore`]
//! is an `ObjectStore` on a directory that has what `object_store`'s own lacks: conditional
//! replace across processes, and durability when a call returns.
//!
//! | backend | create-only | replace | version |
//! | --- | --- | --- | --- |
//! | S3 | `If-None-Match: *` | `If-Match` | ETag |
//! | GCS | generation 0 | generation | `version` |
//! | Azure | `If-None-Match: *` | `If-Match` | ETag |
//! | memory | native | native | ETag |
//! | [`LocalStore`] | hard link | lock, compare, rename | inode, modification time in ns, size |
//!
//! **Bodies of CAS objects must differ**: every body that is created or replaced conditionally
//! carries a fresh nonce. Settling compares bytes, and S3's ETag is a hash of them.

mod cas;
#[doc(hidden)]
pub mod conformance;
mod error;
mod exact;
mod local;
mod outcome;
mod read_only;
mod retry;
mod version;

pub use cas::Storage;
pub use error::StorageError;
pub(crate) use exact::ExactStore;
pub use local::LocalStore;
pub use outcome::CasOutcome;
pub(crate) use outcome::{Fetched, Replaced};
pub use retry::RetryPolicy;
pub use version::ObjectVersion;

#[cfg(test)]
mod tests;
