//! Statements that mean what they say, whatever the engine's rewrites do.
//!
//! DataFusion 55 evaluates some conditions wrongly: its optimiser rewrites them into others that are TRUE for
//! other rows. A query that shows too many rows is a nuisance, a `DELETE` that takes them is a loss. So before
//! the optimiser sees a statement over supertables,
//! - [`subquery`] replaces subqueries that it gets wrong by joins that it gets right ([`unnest`]: correlated
//!   ones);
//! - [`barrier`] leaves visible the forms of conditions that it is known to keep, and hides all others in
//!   functions ([`exact`]);
//! - [`join_fence`] keeps it from joins that it gets wrong;
//! - [`prepared`] keeps it from a prepared statement until that has its parameters.
//!
//! [`faults`] is the table of what is known to be wrong, each with the test that fails when it no longer is.

mod barrier;
mod exact;
pub(crate) mod faults;
mod join;
mod join_fence;
mod key;
mod names;
mod one_row;
pub(crate) mod prepared;
mod references;
mod refuse;
mod rewrite;
mod settings;
mod subquery;
#[cfg(feature = "distributed")]
mod travelling;
mod trust;
mod unnest;
mod waiting_joins;

pub(crate) use barrier::loses_nothing;
#[cfg(feature = "distributed")]
pub(crate) use exact::{ExactParts, exact_of, exact_parts};
pub(crate) use join_fence::{JoinFences, NoPiecewiseMerge, with_safe_filter};
pub(crate) use rewrite::{sound_change, sound_query};
#[cfg(feature = "distributed")]
pub(crate) use travelling::travelling_functions;
pub(crate) use waiting_joins::NoWaitingJoins;
