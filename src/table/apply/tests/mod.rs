//! Tests of `apply`: each rule by example, and random histories against a model of sets of rows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod absence;
mod history;
mod restores;
mod rules;
mod world;
