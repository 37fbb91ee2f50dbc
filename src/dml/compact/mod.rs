//! Compaction, on demand and after writes.
//!
//! - [`request`]: what is to be done; [`execute`]: how it is done, group by group.
//! - [`cluster`]: an order by several columns at once.

pub(crate) mod cluster;
pub(crate) mod execute;
mod moved;
mod order_request;
mod progress;
mod reading;
pub(crate) mod request;

pub(crate) use execute::{compact_after_write, targets_of};
pub use execute::{optimize, optimize_as, prepare};
pub use request::{GroupOutcome, Optimized, Request, Scope};
