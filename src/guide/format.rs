//! The specification of the format, version 1: what a program needs to read or to write tables without this crate.
//!
//! An independent reader in Python, `tests/readers/supertable.py`, is written from these pages alone. A test compares
//! its rows with ours for every version of a table (`integration::readers`).
//!
//! - [`encodings`]: ids, hashes, the frame of binary objects, postcard, Arrow streams.
//! - [`mod@pointer`]: the one object that a commit replaces.
//! - [`manifest`]: root, groups, leaves; entries of superfiles; the table's metadata.
//! - [`superfiles`]: Parquet files, their columns and row ids, external files, tombstone sidecars.
//! - [`mutations`]: WAL documents and change sets.
//! - [`protocol`]: how a version is committed, what conflicts, recovery, vacuum, how tables come and go.
//!
//! "Must" marks what correctness depends on. A program that meets anything that these pages do not describe (another
//! version, an unknown kind, a key of the pointer, bytes after the last field) must refuse the object and name it.
//!
//! # Terms
//!
//! A *superfile* is an immutable Parquet file that holds rows of the table. *Tombstones* are the positions of deleted
//! rows of one superfile; they lie in an immutable *sidecar*. A *manifest* lists the superfiles of one *version*, each
//! with the sidecar that is in force. The *pointer* names the manifest of the current version. A *mutation* is one
//! statement on its way to a commit; its *WAL document* says how far it is, its *change set* what it does. See the
//! [glossary](super::glossary) for more.
//!
//! # Layout
//!
//! All paths are relative to the table's root. The table owns exactly these names; a program must not write others
//! into the three folders, and must ignore others that it finds there.
//!
//! ```text
//! _supertable/current                  the pointer; replaced by compare-and-swap; the only commit point
//! _supertable/manifest/<blake3>        manifest nodes; immutable, named by the hash of their bytes
//! superfiles/<uuid>.parquet            superfiles; immutable
//! superfiles/<uuid>.tombstones         sidecars; immutable; the uuid is the sidecar's own, not the superfile's
//! wal/mutations/<wal id>.json          WAL documents; replaced by compare-and-swap; none while no process writes
//! wal/mutations/<wal id>.arrow         change sets; immutable
//! ```
//!
//! `<blake3>` is 64 lowercase hex digits, `<uuid>` a hyphenated lowercase uuid, `<wal id>` 32 lowercase hex digits
//! (see [`encodings`]). A name has one spelling only: a file of another spelling is foreign.
//!
//! A table may also read Parquet files that lie elsewhere and belong to others: see
//! [`superfiles`](superfiles#external-files). On a local disk the writer of this crate keeps temporary files and locks
//! in `.supertable-local/`, which is no part of the format.
//!
//! # What the store must offer
//!
//! - **Atomic objects.** A write makes the whole object appear, or nothing. A reader sees the old bytes or the new ones.
//! - **Strong consistency.** A read, or a listing, that begins after a write has returned shows that write.
//! - **Durability on return.** A write that has returned survives a crash of every machine.
//! - **Create-only writes**: `If-None-Match: *` on S3 and Azure, generation 0 on GCS, a hard link on a local disk.
//! - **Conditional replacement** of the state that was read: `If-Match` with the ETag on S3 and Azure, the generation on
//!   GCS. A local disk has neither; there, writers of this crate hold an exclusive `flock` on a file for each directory,
//!   compare inode, modification time and size, and rename. A foreign writer on a local disk must take part in that
//!   locking, which the documentation of `src/storage/local` describes; a reader need not.
//! - **Range reads**, and listings by prefix. The order of a listing does not matter.
//!
//! Clocks need not agree. Safety depends on no clock.
//!
//! The store may lose an answer, and a client below may repeat a request whose first answer was lost. So no answer but
//! success proves anything: a writer that hears a failure of a conditional write reads the object back. If it finds
//! its own bytes, the write succeeded. If it finds the state that it expected before, it may try again with the
//! same bytes. Otherwise it lost the race. For that to work, **no two writes of a replaced object may have equal
//! bytes**: pointer and WAL documents carry a `nonce`, a uuid that is fresh in every write.
//!
//! # Integrity
//!
//! | object | what proves its bytes |
//! | --- | --- |
//! | pointer | its own `checksum` |
//! | manifest node | its name, and the hash in the reference to it, are the blake3 of its bytes |
//! | sidecar | its manifest entry has the blake3 of its bytes |
//! | superfile | its manifest entry has hashes of the file's end, and of the blocks before it |
//! | WAL document | its own `checksum` |
//! | change set | its WAL document has the blake3 of its bytes |
//!
//! A reader must verify what it reads before it uses it. Names and hashes guard against damage, not against a user
//! who may write to the store.
//!
//! # A foreign reader
//!
//! 1. Read `_supertable/current`, verify and decode it: the table's id, version and root hash. If something else
//!    stands there, the table was dropped, or the directory is kept for another table.
//! 2. Read the root; for an earlier version, follow parents and skip pointers
//!    ([`manifest`](manifest#earlier-versions)).
//! 3. Read the groups that the root names, and the leaves that the groups name. Groups, and leaves, can be read in
//!    parallel. Check order and sums.
//! 4. For each entry: read the superfile, or the file that the entry points to. Verify its end before you decode it, and
//!    its blocks as you read them.
//! 5. Give each column of the file its name of today, by field id; fill in columns that the file does not have; widen
//!    types ([`superfiles`](superfiles#columns)).
//! 6. Read the sidecar, if the entry names one, and leave out the rows at its positions.
//! 7. If row ids are wanted, compute them ([`superfiles`](superfiles#row-ids)).
//!
//! A reader writes nothing and takes no locks. It sees one version however long it takes, as long as no vacuum removes
//! that version: vacuum keeps what was current during its retention time, seven days unless it is told otherwise.
//! If an object is missing, the reader must say so and never answer with fewer rows.
//!
//! # A foreign writer
//!
//! A writer must keep all of [`protocol`]. In short:
//!
//! 1. Read the current version: it is the statement's *base*.
//! 2. Mint a WAL id and an id block. Create the WAL document in state `INTENT`, with a lease. Renew the lease while you
//!    work, at least three times within its length.
//! 3. Once the document is durable, write new superfiles and sidecars, with ids from the block only.
//! 4. Write the change set; replace the document with state `APPENDED` and the change set's hash. From here on any process
//!    may commit the mutation, and you must not take it back.
//! 5. Read the pointer; if the version is newer than your base, judge your change set against it. Read the document
//!    again: it must still be `APPENDED`, and no version since the base may have committed it.
//! 6. Write the new manifest nodes; replace the pointer, under the condition that it is still as you read it. If that
//!    fails, go back to 5.
//! 7. Replace the document with state `COMPLETE`, delete the change set, delete the document.
//!
//! A writer that cannot do all of it must not write. It must keep every field that it does not change, and must refuse a
//! table whose objects have fields or values that it does not know.
//!
//! A program that only **adds Parquet files** to a table need not write: `supertable_add_files` takes external files.

pub mod encodings;
pub mod manifest;
pub mod mutations;
pub mod pointer;
pub mod protocol;
pub mod superfiles;
