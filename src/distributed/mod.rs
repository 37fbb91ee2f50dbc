//! Statements over several processes, by datafusion-distributed.
//!
//! The session that plans a statement is the *coordinator*. *Workers* scan, filter, join and aggregate; the coordinator
//! alone reads pointers and manifests, and commits. The [guide](crate::guide::distributed) says how to run it.
//!
//! ```no_run
//! use datafusion::execution::session_state::SessionStateBuilder;
//! use datafusion::prelude::SessionContext;
//! use datafusion_supertable::distributed::{FixedWorkers, coordinator};
//!
//! # fn coordinate() -> Result<SessionContext, Box<dyn std::error::Error>> {
//! let workers = FixedWorkers::new(["http://10.0.0.1:50051", "http://10.0.0.2:50051"])?;
//! let builder = SessionStateBuilder::new().with_default_features();
//! let session = SessionContext::new_with_state(coordinator(builder, workers).build());
//! # Ok(session)
//! # }
//! ```
//!
//! A worker is a service of tonic's:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use datafusion::execution::runtime_env::RuntimeEnv;
//! use datafusion_supertable::distributed::worker;
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! // Its object stores are those of the tables.
//! let runtime = Arc::new(RuntimeEnv::default());
//! tonic::transport::Server::builder()
//!     .http2_max_header_list_size(1 << 20)
//!     .add_service(worker().with_runtime_env(runtime).into_worker_server())
//!     .serve("10.0.0.1:50051".parse()?)
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! - `session`: both sides.
//! - `planner`: which plans are cut into stages; `spread` and `shipped` are what it asks of them.
//! - `deal`: how superfiles are dealt out.
//! - `codec`: how this crate's nodes travel (`envelope`, `scan_wire`, `file_wire`), and the functions that it calls
//!   (`functions`, `functions_wire`).
//! - `exec`, `leaf`: what stands at the top of a plan and at its leaves (`settings`, `errors`).

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
