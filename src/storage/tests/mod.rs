//! Tests of the storage layer: the conformance suite in memory and on disk, lost and false answers,
//! and what is particular to a directory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod backends;
mod fault_store;
mod faults;
mod generation_store;
mod lengths;
mod local;
mod versions;
