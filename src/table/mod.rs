//! The table: versions, and how one follows from another.

pub mod apply;
pub mod conflict;

pub use apply::{
    Applied, ApplyContext, ApplyError, Outcome, apply, needed_sidecars, needed_sidecars_of_group,
};
pub use conflict::{Conflict, ConflictReason};
