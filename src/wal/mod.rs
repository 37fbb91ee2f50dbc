//! The write-ahead log: one document per mutation, from INTENT over APPENDED to COMPLETE.
//!
//! The document is the fence of the protocol. [`WalStore`] is the only code that reads or writes
//! documents, change sets and sidecars; [`machine`] says which step is legal; [`Driver`] takes an owner's
//! document through its steps; [`lease`] says who bothers, and [`watch`] when nobody does. What a commit is, is the table's business.

pub mod backoff;
pub mod driver;
pub mod env;
pub mod lease;
pub mod machine;
pub mod store;
pub mod watch;

pub use driver::{AppendOutcome, Driver};
pub use env::{Clock, Env, IdSource, ManualClock, SystemClock};
pub use store::{Etag, WalError, WalListing, WalResult, WalStore};
pub use watch::{Standing, Watch};

#[cfg(test)]
mod tests;
