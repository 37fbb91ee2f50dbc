//! What a catalog has to know of tables that are dropped, or not there: which error says so, and sweeping what is left.
//!
//! Owns nothing: the mark of a dropped table is the head's (`version::head`), the errors are the pointer's
//! (`version::pointer`), and the deletion is vacuum's. Nothing of `table` depends on this file.

pub use super::vacuum::sweep;
pub use super::version::pointer::{
    is_dropped_table as is_grave, is_no_table as is_dropped, is_reservation as is_reserved,
};

pub(crate) use super::reruns::SWUNG;
