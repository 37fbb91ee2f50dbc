//! SQL: the one registration call, `CREATE EXTERNAL TABLE … STORED AS SUPERTABLE`, `ALTER TABLE`, the
//! functions of a table, its earlier versions in `FROM`, and catalogs of tables.

pub(crate) mod adopt;
pub(crate) mod alter;
pub mod catalog;
pub mod factory;
mod functions;
pub mod location;
pub(crate) mod relations;
pub mod schema;
pub mod session;
pub(crate) mod statement;
mod wait;
pub(crate) mod written;

pub use catalog::{SupertableCatalog, execute, sql, sql_with_options};
pub use factory::{CreateOptions, SupertableFactory, create_table, open_table};
pub use session::{SupertableSessionExt, register, register_for_queries, shutdown};
