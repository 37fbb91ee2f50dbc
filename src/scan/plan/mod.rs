//! Planning a scan: which superfiles and rows are read, by how many partitions, in which order.

pub mod cover;
mod keep_order;
mod layout;
mod ordering;
mod pieces;
pub mod pin;
pub mod prune;
mod rows;
pub mod scan;
pub mod statistics;
pub mod subset;

pub(crate) use keep_order::KeepScanOrder;
pub use pin::Pin;
pub use rows::SubsetProvider;
pub use scan::{ScanRequest, plan_scan, plan_scan_of, scan_order};
pub use subset::{Rows, Subset};
