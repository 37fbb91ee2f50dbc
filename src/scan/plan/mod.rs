//! Planning a scan: which superfiles and rows are read, by how many partitions, in which order.

pub(crate) mod bloom;
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
pub(crate) use scan::{Only, ScanRequest, plan_scan, superfile_at};
pub(crate) use subset::{Rows, Subset};
