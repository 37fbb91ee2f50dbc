//! Reading: from a pinned snapshot to a DataFusion physical plan.
//!
//! A scan prunes superfiles by the manifest's statistics, then hands the rest to DataFusion's own
//! Parquet reader with the tombstones attached as row selections before any page is decoded; rows
//! deleted here and there among many that live are dropped after it instead, which is cheaper. While a
//! row group is decoded, the bytes of the next one are on their way.
//! Nothing here writes, and nothing here decides which version is read: the caller pins it.
//!
//! - [`plan`]: which superfiles and rows are read, by how many partitions, in which order.
//! - [`tombstones`]: how deleted rows are left out.
//! - [`read`]: how a superfile's bytes become the table's columns.
//! - `scan_method`: the method of providers that plans a scan.
//! - [`location`], [`row_address`], [`schema`]: where objects are, what hidden columns are called, which types a
//!   session sees.

pub(crate) mod location;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod row_address;
pub(crate) mod scan_method;
pub(crate) mod schema;
pub(crate) mod tombstones;

pub(crate) use location::ScanLocation;
pub(crate) use plan::KeepScanOrder;
pub use plan::Pin;
pub(crate) use plan::{Only, Rows, ScanRequest, Subset, SubsetProvider, plan_scan, superfile_at};
pub use row_address::ROW_ID;
pub(crate) use row_address::{EXPOSED_ROW_ID, HiddenColumns};
