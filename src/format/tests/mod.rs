//! Tests of the codecs: round trips, truncation, flipped bits, frozen fixtures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod damage;
mod fixtures;
mod keys;
mod names;
pub(crate) mod samples;
mod sidecars;
mod statistics;
