//! The write-ahead log: one document per mutation, from INTENT over APPENDED to COMPLETE.
//!
//! The document is the fence of the protocol. [`WalStore`] is the only code that reads or writes
//! documents, change sets and sidecars; [`machine`] says which step is legal; [`Driver`] takes an owner's
//! document through its steps; [`lease`] says which process acts on a document, and [`watch`] when its owner no longer does. What a commit is, is the table's business.

pub(crate) mod backoff;
pub(crate) mod driver;
pub(crate) mod env;
pub(crate) mod lease;
pub(crate) mod machine;
pub(crate) mod store;
pub(crate) mod watch;

pub(crate) use driver::{AppendOutcome, Driver};
pub use env::{Clock, Env, ManualClock};
pub(crate) use store::{Etag, WalError, WalListing, WalResult, WalStore};
pub(crate) use watch::{Standing, Watch};

#[cfg(test)]
mod tests;
