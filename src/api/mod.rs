//! The table as a Rust type, for programs that embed it: what SQL does, without SQL.
//!
//! Everything here ends in the plans and calls that statements end in, so it holds what they hold; nothing is carried
//! out a second time.
//!
//! - [`table`]: the type, and everything that can be asked of it; its `create` makes a new one.
//! - [`merge`], [`alter`], [`upkeep`]: what takes choices is a builder, which ends in `execute`.
//! - [`change`]: from expressions and rows to the plans of statements; [`rows`]: rows that are handed over.
//! - [`snapshot`]: one version, to be read.
//! - [`report`]: what calls answer.
//! - [`handle`]: an open table in a session, on which all of them work.

mod alter;
mod change;
mod handle;
mod merge;
mod report;
mod rows;
mod snapshot;
mod table;
mod upkeep;

pub use alter::AlterBuilder;
pub use merge::MergeBuilder;
pub use report::{AlterReport, ChangeReport, HistoryEntry, OptimizeReport, RestoreReport};
pub use rows::RowSource;
pub use snapshot::SupertableSnapshot;
pub use table::{CreateBuilder, Supertable};
pub use upkeep::{OptimizeBuilder, VacuumBuilder};
