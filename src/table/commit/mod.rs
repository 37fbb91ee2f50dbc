//! The commit: from a statement's effect to the next version, and what follows.
//!
//! A statement holds a [`Mutation`]. Its `owner` stages the effect (`stage`), makes the document APPENDED, and hands
//! a `member` to the `committer`, which takes turns at the pointer: `observe` what is there, `verify` what is still to be
//! committed, `draft` the next version, swing, and `complete` the members: tell the callers that wait, and leave the rest to
//! `cleanup`. Where other processes write too, `election` says which process leads, and `group` commits for all.
//! `registry` and `liveness` know which mutations are under way here and elsewhere.

pub(crate) mod cleanup;
pub(crate) mod committer;
mod complete;
mod contention;
pub(crate) mod draft;
mod election;
mod group;
pub(crate) mod liveness;
pub(crate) mod member;
pub(crate) mod mutation;
pub(crate) mod observe;
pub(crate) mod outcome;
mod owner;
pub(crate) mod registry;
mod stage;
mod staged_ids;
mod turn;
mod verify;

pub use mutation::Mutation;
pub use outcome::{CommitOutcome, RowCounts};
pub use stage::Effect;
pub(crate) use staged_ids::StagedIds;
