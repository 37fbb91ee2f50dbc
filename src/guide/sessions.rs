//! Sessions: a query server, and what forbids changes.
//!
//! A query server opens its catalog once and makes a session for each request:
//!
//! ```no_run
//! use datafusion::prelude::{SQLOptions, SessionContext};
//! use datafusion_supertable::{open_catalog, register, sql_with_options};
//!
//! # async fn serve(request: &str) -> Result<(), Box<dyn std::error::Error>> {
//! // Once. It need not be kept for the catalog's sake.
//! let base = SessionContext::new();
//! register(&base)?;
//! open_catalog(&base, "lake", "s3://my-bucket/lake/")?;
//!
//! // For each request, at the cost of a copy: options and prepared statements of its own; catalogs, open tables
//! // and caches are shared.
//! let session = SessionContext::new_with_state(base.state());
//! let queries = SQLOptions::new()
//!     .with_allow_ddl(false)
//!     .with_allow_dml(false)
//!     .with_allow_statements(false);
//! let rows = sql_with_options(&session, request, queries).await?.collect().await?;
//!
//! // At the end.
//! datafusion_supertable::wait_for_background_work(&base).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Making one session from another
//!
//! | way | what it has |
//! | --- | --- |
//! | `SessionContext::new_with_state(base.state())`, `SessionStateBuilder::new_from_existing(base.state())` | everything; [`register`](crate::register) does nothing more |
//! | `SessionContext::new_with_config(base.copied_config())` | options; call [`register`](crate::register), and share the catalogs: `ctx.register_catalog_list(Arc::clone(base.state().catalog_list()))` |
//! | a fresh one on the same `RuntimeEnv` | object stores and memory pool; the rest as before |
//!
//! Where the registration is missing, tables can be read and appended to; a `DELETE`, `UPDATE` or `MERGE` is refused, with the
//! call that is missing. Where the catalog is missing, its tables are not found.
//!
//! - A catalog lives as long as a session, or a list of catalogs, that has it, and no longer.
//! - Views, and tables of other formats, in a catalog are the catalog's: every session that shares it sees them.
//! - A session that shares catalogs may have one as its default: `config.with_default_catalog_and_schema("lake",
//!   "public")`. DataFusion then puts an empty catalog of that name in the list, for all who share it; a catalog of
//!   supertables stays where it was. Any other catalog is replaced: `with_create_default_catalog_and_schema(false)`
//!   avoids it.
//!
//! # What forbids changes
//!
//! | what | forbids | of |
//! | --- | --- | --- |
//! | `SET supertable.read_only = true` | every change of a supertable, by statements, functions and the catalog; it cannot be turned off again | the session, and those made from it later |
//! | `SQLOptions` with [`sql_with_options`](crate::sql_with_options) | DDL, DML, statements; and, where DDL or DML is forbidden, `ALTER TABLE` and the functions that change a table | one statement |
//! | `SQLOptions` with `SessionContext::sql_with_options` | DDL, DML, statements; **not** `SELECT * FROM supertable_restore(…)` and the like, which are queries to DataFusion | one statement |
//! | [`register_for_queries`](crate::register_for_queries) in place of [`register`](crate::register) | the functions that change a table (`supertable_add_files`, `_alter`, `_optimize`, `_recover`, `_restore`, `_vacuum`) | the session, and those made from it later |
//!
//! A view keeps the functions that it was defined with, so whoever may define views decides what they call.
//!
//! A session that only reads sends no request that writes. If it shares a catalog with sessions that write, opening a
//! table is done for all of them, and may end what dead writers left; open the catalog in a session that only reads if
//! that must not be.
