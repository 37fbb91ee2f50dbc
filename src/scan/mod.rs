//! Reading: from a pinned snapshot to a DataFusion physical plan.
//!
//! A scan prunes superfiles by the manifest's statistics, then hands the rest to DataFusion's own
//! Parquet reader with the tombstones attached as row selections before any page is decoded; rows
//! deleted here and there among many that live are dropped after it instead, which is cheaper. While a
//! row group is decoded, the bytes of the next one are on their way.
//! Nothing here writes, and nothing here decides which version is read: the caller pins it.

mod alive;
pub(crate) mod columns;
pub mod cover;
mod defaults;
mod guard;
pub(crate) mod in_place;
mod keep_order;
mod mask;
mod ordering;
pub mod pin;
pub mod plan;
pub mod prune;
mod read_ahead;
mod reader;
pub mod row_address;
pub mod schema;
pub mod selection;
pub mod source;
pub mod statistics;
pub mod subset;
mod tombstoned;

pub(crate) use keep_order::KeepScanOrder;
pub use pin::Pin;
pub use plan::{HiddenColumns, ScanLocation, ScanRequest, plan_scan, plan_scan_of};
pub use row_address::{ADDRESS_FILE, ADDRESS_POSITION, EXPOSED_ROW_ID, ROW_ID};
pub use subset::{Rows, Subset, SubsetProvider};
