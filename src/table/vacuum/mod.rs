//! Vacuum: deletes what no retained version refers to and no live mutation will.
//!
//! Retained are the current version, every version that was current at some moment of the last
//! `retain`, and every version since the oldest that a live mutation reads. A reader that opened one of
//! them finds every file of it. [`plan`] decides, without I/O; `execute` lists, reads and deletes.
//!
//! # Why it is safe beside running readers and writers
//!
//! Not because of clocks. An object is deleted only after these steps, in this order:
//!
//! 1. **Cut.** The chain of versions is cut below the oldest retained one, by deleting the few roots that it names,
//!    its parent last: all retained versions name no others below it (`format::manifest::skips`), so from then on
//!    no reader reaches an older version from the pointer. A crash after it leaves garbage, and no reachable version
//!    refers to anything that is gone.
//! 2. **List.** The object is found by a listing, and no version known so far refers to it.
//! 3. **Documents.** Then all WAL documents are read.
//! 4. **Pointer.** Then the pointer is read, and every version that came since is looked through.
//! 5. **Fence.** If a mutation is live, the pointer is rewritten with the same content and a new nonce.
//!
//! Could a later version still come to refer to the object?
//!
//! - *What a mutation stages* (superfiles, sidecars, all in one id block): its document was durable
//!   before the object was complete, and stays until the mutation has ended. So the document was
//!   there at step 2. Either it is still there at step 3: then its block protects the object. Or the
//!   mutation ended before: then the pointer of step 4 shows its version, or it never commits.
//! - *What a draft uploads* (manifest nodes, merged sidecars): a draft is of mutations whose documents
//!   were there before it was uploaded, and stay until it is swung to. If no mutation is live at step 3,
//!   it was swung to before step 4, or never will be. Otherwise step 5 decides: a swing is from one state of
//!   the pointer, and that state is gone. What is drafted afterwards has names of its own: every draft
//!   salts its nodes, so that no later one names a node that was listed here.
//! - *A node that was in use long ago* cannot come into use again by being written once more, for the
//!   same reason.
//! - *What a version shares with the one before it* is referred to by a version that step 4 looked at.
//!
//! A document that cannot be read protects everything that was not complete when it was created; while
//! there is one, only what was written a day before it is deleted, and the report says so.
//!
//! Objects whose names this format does not use are left alone. Two vacuums at once delete the same things.

mod execute;
pub(crate) mod plan;
mod report;
mod sweep;

pub(crate) use execute::{Parts, vacuum};

pub use execute::VacuumOptions;
pub use report::{Removed, VacuumReport};
pub use sweep::sweep;
