//! Tests of the WAL: the store's contract on each backend, the pure transitions, one document's owner.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod driver;
mod machine;
mod store;
mod watch;
