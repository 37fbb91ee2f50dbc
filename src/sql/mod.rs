//! SQL: the one registration call, `CREATE EXTERNAL TABLE … STORED AS SUPERTABLE`, and the
//! functions of a table.

pub mod factory;
mod functions;
pub mod location;
mod relations;
pub mod schema;
pub mod session;

pub use factory::{CreateOptions, SupertableFactory, create_table, open_table};
pub use session::{SupertableSessionExt, register, shutdown};
