//! Compaction: which superfiles are worth writing anew, and together.
//!
//! [`plan()`] decides by size, and [`plan_clustered`] where rows are to be in an order that goes through superfiles; both
//! without I/O. [`curve`] is an order by several columns at once, [`cluster_by`] how one is asked for. Carrying a plan
//! out takes a scan and a writer, which stand further right
//! (`dml::optimize`); committing is that of any other mutation, of the kind `COMPACT`: see the table in
//! [`apply`](super::apply()) for what becomes of rows that are deleted or changed meanwhile.

pub(crate) mod cluster_by;
pub(crate) mod curve;
pub(crate) mod plan;

pub use cluster_by::ClusterBy;
pub(crate) use curve::Curve;
pub use plan::Targets;
pub(crate) use plan::clustered::{Along, Extent, plan_clustered};
pub(crate) use plan::{Group, plan};
