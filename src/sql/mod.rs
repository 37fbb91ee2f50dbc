//! SQL: the one registration call, `CREATE EXTERNAL TABLE … STORED AS SUPERTABLE`, `ALTER TABLE`, the
//! functions of a table, its earlier versions in `FROM`, and catalogs of tables.

pub(crate) mod add_files;
pub(crate) mod alter;
pub(crate) mod calls;
pub(crate) mod catalog;
pub(crate) mod dialect;
pub(crate) mod factory;
pub(crate) mod functions;
pub(crate) mod location;
pub(crate) mod open_tables;
pub(crate) mod relations;
pub(crate) mod schema;
pub(crate) mod session;
pub(crate) mod statement;
pub(crate) mod table;
pub(crate) mod version_name;
mod wait;
pub(crate) mod written;
pub(crate) mod zones;

pub use catalog::{SupertableCatalog, execute, open_catalog, sql, sql_with_options};
pub use factory::create_table;
pub use session::{SupertableSessionExt, register, register_for_queries, wait_for_background_work};
pub use table::{CreateOptions, open_table};
