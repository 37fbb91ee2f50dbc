//! One binary for all integration tests, so that DataFusion is linked once: modules by what they
//! prove, `support` for what they share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod architecture;
mod cases;
mod circles;
mod cli;
mod clustering;
mod concurrent;
mod damaged_files;
mod derived_sessions;
mod differential;
#[cfg(feature = "distributed")]
mod distributed;
mod error_kinds;
mod events;
mod evolution;
mod external_files;
mod faults;
mod fuzz;
mod history;
mod ingest;
mod isolation;
mod keys;
mod kills;
mod kills_ddl;
mod kills_upkeep;
mod memory;
mod ordering;
mod overload;
mod parameters;
mod pipeline;
mod power_cut;
mod readers;
mod renames;
mod retries;
mod row_ids;
mod rust_api;
mod servers;
mod sessions;
mod show_create;
mod simulation;
mod soundness;
mod source_first;
mod sql_costs;
mod sqllogic;
mod storage;
mod superfile_columns;
mod support;
mod trust;
mod undone;
mod upkeep;
mod upserts;
mod write_options;
