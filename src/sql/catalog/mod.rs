//! A catalog over a location: schemas are directories, tables are directories with a pointer in them.
//!
//! ```text
//! <root>/public/flights/_supertable/current        the table public.flights
//! <root>/public/flights.2/_supertable/current      the same name, after the first one was dropped
//! <root>/archive/flights/_supertable/current       the table archive.flights
//! ```
//!
//! There is no list of tables but the listing of the store, so nothing can disagree with it. A dropped
//! table leaves its directory with a grave in the pointer's place, for ever: whoever still works on the table
//! finds that it is gone, and nobody finds another table in its place. The next table of the name takes the
//! next directory. At most one directory of a name has a table: number n + 1 is made only when n has a grave.
//!
//! - [`names`]: from names to directories and back.
//! - [`tables`]: finding, creating and dropping tables.
//! - [`provider`]: the catalog as DataFusion sees it.
//! - [`statements`]: `CREATE TABLE … AS`, `CREATE OR REPLACE` and `DROP`, before DataFusion plans them its way.

mod names;
mod provider;
mod statements;
mod tables;

pub use statements::{execute, sql};
pub use tables::SupertableCatalog;
