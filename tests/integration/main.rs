//! One binary for all integration tests, so that DataFusion is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod architecture;
mod cli;
mod sqllogic;
