//! Tests of `apply`: each rule by example, and random histories against a model of sets of rows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod history;
mod rules;
mod world;
