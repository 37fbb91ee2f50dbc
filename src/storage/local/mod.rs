//! A directory as an object store: atomic across threads and processes, durable on return.
//!
//! What it owns, file by file: `paths.rs` (keys to files, nothing outside the root) · `stage.rs`
//! (temporary files and their removal) · `publish.rs` (the one moment at which an object appears,
//! changes or disappears) · `durable.rs` (directory syncs and new directories) · `list.rs` ·
//! `upload.rs` (multipart) · `directory.rs` (each operation, step by step) · `lock.rs` (locks on files) ·
//! `blocking.rs` (where it runs) · `store.rs` (the `ObjectStore` implementation).
//!
//! ```text
//! <root>/…                                    objects, one file each, named by their key
//! <root>/.supertable-local/tmp/<uuid>         bytes on their way, locked by the process that writes them
//! <root>/.supertable-local/locks/<hash>       one lock file for each directory of objects
//! <root>/.supertable-local/locks/directories  held while directories are created
//! ```
//!
//! `.supertable-local` holds nothing worth keeping: with no writer running it may be deleted. It is
//! never listed, and no key may name it. Data directories hold data files only.
//!
//! | operation | file syncs | directory syncs |
//! | --- | --- | --- |
//! | put, create, replace, completed multipart upload | 1 | 1 |
//! | create of something that exists; replace from a stale version | 0 | 1; 0 |
//! | delete, also of a missing object | 0 | 1 |
//! | get, list | 0 | 0 (1 if the object's writer is between publishing and syncing) |
//! | the first write into a directory that does not exist | | 1 for each new directory |
//!
//! Directory syncs that are wanted at the same time in one directory are shared.
//!
//! Invariants:
//! - An object's file is never written to once it has its name: readers that opened it keep one state.
//! - A replace compares and renames under the directory's lock; so do unconditional puts and deletes.
//!   A create needs no lock: linking fails if the name exists.
//! - A successful return means durable. A whole read also waits for the durability of what it
//!   returns, so nobody acts on a state that a power failure can take back.
//! - Every writer of a table uses the same directory as root: locks belong to a root.
//!
//! A crash leaves behind the old or the new object, and possibly a temporary file, which the first
//! write of a later process removes.

mod blocking;
mod directory;
mod durable;
mod list;
mod lock;
mod paths;
mod publish;
mod stage;
mod store;
mod upload;

pub(crate) use durable::SyncCounts;
pub use store::LocalStore;
