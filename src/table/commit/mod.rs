//! The commit of mutations.

pub(crate) mod cleanup;
pub(crate) mod committer;
pub(crate) mod complete;
pub(crate) mod draft;
pub(crate) mod election;
pub(crate) mod group;
pub(crate) mod mutation;
pub(crate) mod observe;
pub(crate) mod owner;
pub(crate) mod stage;
pub(crate) mod staged_ids;
pub(crate) mod verify;

pub use mutation::{CommitOutcome, Effect, Mutation};
pub use staged_ids::StagedIds;
