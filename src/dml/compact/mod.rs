//! Compaction, on demand and after writes.
//!
//! - [`request`]: what is to be done; [`execute`]: how it is done, group by group.
//! - [`cluster`]: an order by several columns at once.

mod aim;
pub(crate) mod cluster;
pub(crate) mod execute;
mod moved;
mod progress;
mod reading;
pub(crate) mod request;

pub(crate) use execute::{compact_after_write, targets_of};
pub use execute::{optimize, optimize_as, prepare};
pub use request::{Ending, Optimized, Request, Scope};
