//! Planning a scan: which superfiles and rows are read, by how many partitions, in which order.

pub(crate) mod cover;
mod keep_order;
mod layout;
mod ordering;
mod pieces;
pub(crate) mod pin;
pub(crate) mod prune;
mod rows;
pub(crate) mod scan;
pub(crate) mod statistics;
pub(crate) mod subset;

pub(crate) use keep_order::KeepScanOrder;
pub use pin::Pin;
pub(crate) use rows::SubsetProvider;
pub(crate) use scan::{ScanRequest, plan_scan, plan_scan_of, scan_order};
pub(crate) use subset::{Rows, Subset};
