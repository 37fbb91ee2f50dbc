//! The `supertable` binary: datafusion-cli with this crate's extension registered.
//!
//! `args` is the command line, `session` builds the session that it describes, `run` carries
//! the whole out and answers with an exit status. What datafusion-cli offers as a library (the
//! prompt's history, completion and colours, statement execution, printing, S3 and GCS) is used as it is; what is
//! private to its `main` is written again here, and some things are ours: Azure locations (`azure`,
//! `registry`, `context`), scripts whose failures reach the exit status (`script`), `ALTER TABLE` there and at
//! the prompt (`prompt`), a catalog of supertables (`--catalog`), logging (`logs`), how far long operations are
//! (`progress`), processes that execute parts of the statements of others (`worker`), Ctrl-C while a statement computes (`interrupts`), and waiting for the tables' background work before the process ends.
//!
//! A crash here leaves behind nothing of its own: what a killed process leaves in a table is the
//! business of the table's recovery.

mod args;
mod azure;
mod context;
mod interrupts;
mod logs;
mod progress;
mod prompt;
mod registry;
mod run;
mod script;
mod session;
#[cfg(feature = "distributed")]
mod worker;

pub use args::Args;
#[cfg(feature = "distributed")]
pub use args::Role;
pub use run::run;
