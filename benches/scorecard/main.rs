//! The scorecard: every promised ratio, against a baseline measured in the same run.
//!
//! ```text
//! cargo bench --features cli --bench scorecard            # all sections, 10 million rows
//! cargo bench --features cli --bench scorecard -- scan    # one section
//! SUPERTABLE_BENCH_ROWS=1000000 cargo bench …             # smaller
//! ```
//!
//! Timings are the best of several runs, ours and the baseline's interleaved, because the wall time
//! of a scan on a shared machine varies by a factor of three. Counts (requests, bytes) do not
//! depend on the machine.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

#[path = "../../tests/integration/support/fault_store.rs"]
#[allow(dead_code)]
mod fault_store;

mod commits;
mod data;
mod ingest;
mod keys;
mod lookups;
mod measure;
mod scans;
mod sets;
mod statements;
mod upkeep;
mod writers;

use std::process::ExitCode;

use measure::Report;

#[tokio::main]
async fn main() -> ExitCode {
    if writers::is_child() {
        writers::serve().await;
        return ExitCode::SUCCESS;
    }
    if let Some(statements) = ingest::statements() {
        ingest::serve(&statements).await;
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let runs = |section: &str| wanted.is_empty() || wanted.iter().any(|w| w == section);
    let rows: u64 = std::env::var("SUPERTABLE_BENCH_ROWS")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(10_000_000);
    let mut report = Report::default();
    if runs("ingest") {
        ingest::measure(&mut report, rows).await;
    }
    if runs("scan") {
        scans::measure(&mut report, rows).await;
    }
    if runs("dml") {
        statements::measure(&mut report, rows).await;
    }
    if runs("keys") {
        keys::measure(&mut report, rows).await;
    }
    if runs("lookup") {
        lookups::measure(&mut report, rows).await;
    }
    if runs("commit") {
        commits::measure(&mut report).await;
    }
    if runs("writers") {
        writers::measure(&mut report, rows).await;
    }
    if runs("upkeep") {
        upkeep::measure(&mut report, rows).await;
    }
    report.print();
    ExitCode::SUCCESS
}
