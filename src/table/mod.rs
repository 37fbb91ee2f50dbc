//! A table: its versions, and the mutations that make the next one.
//!
//! [`Table`] is the handle, [`Snapshot`] one pinned version, [`Mutation`] one statement's way to a commit.
//! Decisions are pure functions over values (`apply`, `conflict`); `commit` carries them out at the pointer,
//! for every ready mutation at once; `recovery` ends what dead writers began, `vacuum` deletes what no version
//! needs any more, and `compaction` says which superfiles are worth writing anew.

pub mod apply;
mod background;
mod cache;
pub mod claim;
mod closing;
mod commit;
pub mod compaction;
pub mod conflict;
mod creation;
mod crowd;
mod descent;
pub mod diff;
mod draft;
pub mod drop;
mod effect;
mod ending;
pub mod evolution;
mod floats;
mod handle;
mod help;
mod history;
mod limits;
mod look;
mod mutation;
mod owner;
mod reader;
mod recovery;
mod reruns;
mod restore;
mod snapshot;
mod staged_ids;
mod tail;
mod tip;
pub mod vacuum;
mod verify;
pub mod versions;
mod writer;

pub use apply::{
    Applied, ApplyContext, ApplyError, Outcome, apply, needed_sidecars, needed_sidecars_of_group,
};
pub use cache::Cache;
pub use closing::Background;
pub use conflict::{Conflict, ConflictReason};
pub use creation::CreateTable;
pub use diff::{Difference, difference};
pub use handle::Table;
pub use limits::{Limits, PROGRESS};
pub use mutation::{CommitOutcome, Effect, Mutation};
pub use recovery::RecoveryReport;
pub use restore::Restored;
pub use snapshot::Snapshot;
pub use staged_ids::StagedIds;
pub use vacuum::{Removed, VacuumOptions, VacuumReport};
pub use versions::{Moment, VersionInfo};
pub use writer::{MAX_STATISTICS_COLUMNS, RowIdSource, SuperfileWriter, WriterOptions};

pub(crate) use reruns::{Reruns, RunEnd};
pub(crate) use tail::{EndError, SealedEnd, judge_end};
pub(crate) use writer::{check_not_null, footer_stats, null_count as footer_null_count};

pub use crate::wal::Env;
