//! Compaction: which superfiles are worth writing anew, and together.
//!
//! [`plan()`] decides, without I/O; [`curve`] is an order by several columns at once. Carrying it out takes a scan and a writer, which stand further right
//! (`dml::optimize`); committing is that of any other mutation, of the kind `COMPACT`: see the table in
//! [`apply`](super::apply()) for what becomes of rows that are deleted or changed meanwhile.

pub mod curve;
pub mod plan;

pub use curve::Curve;
pub use plan::{Group, Targets, plan, whole};
