//! A catalog over a location: schemas are directories, tables are directories with a pointer in them.
//!
//! ```text
//! <root>/public/flights/_supertable/current        the table public.flights
//! <root>/public/flights.2/_supertable/current      the same name, after the first one was dropped
//! <root>/archive/flights/_supertable/current       the table archive.flights
//! <root>/public/trips/_supertable/current          kept for a table of another directory, renamed to trips
//! ```
//!
//! There is no list of tables but the listing of the store, so nothing can disagree with it. A dropped
//! table leaves its directory with a marker in the pointer's place, for ever: a process that still works on the table
//! finds that it is gone, and nobody finds another table in its place. The next table of the name takes the
//! next directory. A table that is renamed keeps its directory, and says in its pointer which other one it stands for.
//!
//! - `names`: from names to directories and back.
//! - `slots`: which table a name means, and how a name gets one.
//! - `open`: opening a catalog; `opener`: the session that tables are opened in.
//! - `place`: whether a location is one of something else.
//! - `state`: what a catalog knows.
//! - `list`: which catalogs of a session are of supertables.
//! - `tables`: listing, creating and dropping tables.
//! - `rename`: renaming them.
//! - `provider`: the catalog as DataFusion sees it.
//! - `statements`: `CREATE TABLE … AS`, `CREATE OR REPLACE` and `DROP`, before DataFusion plans them its way.

mod claim;
mod errors;
mod list;
mod names;
mod open;
mod opener;
#[cfg(feature = "cli")]
mod place;
mod provider;
mod rename;
mod slots;
mod state;
mod statements;
mod tables;

pub(crate) use errors::no_such_table;
pub(crate) use list::{catalog_around, catalog_of};
pub use open::open_catalog;
#[cfg(feature = "cli")]
pub(crate) use place::check_place;
pub use statements::{execute, sql, sql_with_options};
pub use tables::SupertableCatalog;
