//! Statements over several processes, by datafusion-distributed.
//!
//! The session that plans a statement is the *coordinator*. *Workers* scan, filter, join and aggregate; the coordinator
//! alone reads pointers and manifests, and commits. The [guide](crate::guide::distributed) says how to run it.
//!
//! - [`session`]: both sides.
//! - [`planner`]: which plans are cut into stages; [`spread`] and [`shipped`] are what it asks of them.
//! - [`deal`]: how superfiles are dealt out.
//! - [`codec`]: how this crate's nodes travel ([`envelope`], [`scan_wire`], [`file_wire`]), and the functions that it calls
//!   ([`functions`], [`functions_wire`]).
//! - [`exec`], [`leaf`]: what stands at the top of a plan and at its leaves ([`settings`], [`errors`]).

mod codec;
mod deal;
mod envelope;
mod errors;
mod exec;
mod file_wire;
mod functions;
mod functions_wire;
mod leaf;
mod planner;
mod scan_wire;
mod session;
mod settings;
mod shipped;
mod spread;
#[cfg(test)]
mod tests;

pub use codec::SupertableCodec;
#[cfg(feature = "cli")]
pub(crate) use session::use_workers;
pub use session::{FixedWorkers, coordinator, worker};
