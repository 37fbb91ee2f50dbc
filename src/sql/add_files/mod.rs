//! Adopting Parquet files that others have written: `supertable_add_files('t', 's3://…/*.parquet')`.
//!
//! - [`plan`]: whether a file fits a table, and what its manifest entry says: from its footer alone.
//! - [`hive`]: columns that are in the names of directories (`year=2024/`).
//! - [`foreign`]: whether they belong to a table whose own records say which of them count.
//! - [`find`]: which files a location names, and whether the table has them already.
//! - [`execute`]: taking the files in, and the commit.
//!
//! # Where they are
//!
//! A file in the table's own object store stays where it is: its manifest entry records its path, the
//! [`ExternalPath`](crate::format::ExternalPath), and in which state it was taken in. It stays its owner's: nothing of the table writes or
//! deletes it, because whatever deletes goes by the names of the table's own objects ([`paths`](crate::format::paths)),
//! and such a file has none. What its owner does to it later is found out when it is read (see
//! [`in_place`](crate::scan::read::in_place)): an error, never a wrong answer. `UPDATE` and compaction put its rows into
//! superfiles of the table, and then it is not needed any more.
//!
//! From another store, or when it is asked for, a file is copied as it is to `superfiles/<uuid>.parquet`, and the
//! original does not matter any more. Within one object store the store does that itself (no byte passes through here);
//! on a local disk, and from one store to another, the bytes are streamed. So is a file copied whose end cannot be checked
//! (page indexes and footer of more than 256 MB), and one that lies in a folder of the table's own objects.
//!
//! What a path that leads out of the table costs, and what was done about it: a user who can write a manifest could
//! have a reader open any object of the store, but must know the hash of its footer, and then he has read it already; a copy
//! or backup of a table's directory holds the files below it, and not those elsewhere in the store, which are found if
//! it is put into the same store.

pub(crate) mod execute;
pub(crate) mod find;
mod foreign;
pub(crate) mod hive;
pub(crate) mod plan;
