//! Adopting Parquet files that others have written: `supertable_add_files('t', 's3://…/*.parquet')`.
//!
//! - [`plan`]: whether a file fits a table, and what its manifest entry says: from its footer alone.
//! - [`hive`]: columns that are in the names of directories (`year=2024/`).
//! - [`execute`]: finding the files, copying them, and the commit.
//!
//! # Copies, not references
//!
//! An adopted file becomes a superfile of the table: its bytes are copied, as they are, to
//! `superfiles/<uuid>.parquet`. Within one object store the store does it itself (a server-side
//! copy: no byte passes through here); on a local disk, and from one store to another, the bytes
//! are streamed. Nothing is decoded or encoded anew either way.
//!
//! The alternative, a manifest that names files elsewhere, was considered and refused. A manifest
//! would hold paths that lead out of the table's root, so that whoever can write a manifest could
//! make readers open any object of the store; the files would be immutable only as long as their
//! owner does not touch them; every other tool that counts on a table being one directory (a copy, a
//! backup, a lifecycle rule) would be wrong; and vacuum would have to know what is not its own. A
//! copy costs storage, and none of that.

pub(crate) mod execute;
pub(crate) mod hive;
pub(crate) mod plan;
