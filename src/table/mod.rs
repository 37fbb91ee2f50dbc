//! A table: its versions, and the mutations that make the next one.
//!
//! [`Table`] is the handle, [`Snapshot`] one pinned version, [`Mutation`] one statement's way to a commit.
//! Decisions are pure functions over values (`apply`, `conflict`); `commit` carries them out at the pointer,
//! for every ready mutation at once; `recovery` ends what dead writers began, `vacuum` deletes what no version
//! needs any more, and `compaction` says which superfiles are worth writing anew.

pub mod apply;
mod background;
pub mod claim;
mod commit;
pub mod compaction;
mod context;
mod create;
pub mod drop;
mod handle;
mod limits;
mod recovery;
mod reruns;
mod restore;
pub mod schema;
mod superfile;
pub mod vacuum;
mod version;

pub use apply::conflict::{self, Conflict, ConflictReason};
pub use apply::{
    Applied, ApplyContext, ApplyError, Outcome, apply, needed_sidecars, needed_sidecars_of_group,
};
pub use background::Background;
pub use commit::{CommitOutcome, Effect, Mutation, StagedIds};
pub use create::CreateTable;
pub use handle::Table;
pub use limits::{Limits, PROGRESS};
pub use recovery::RecoveryReport;
pub use restore::Restored;
pub use schema::evolution;
pub use superfile::{MAX_STATISTICS_COLUMNS, RowIdSource, SuperfileWriter, WriterOptions};
pub use vacuum::{Removed, VacuumOptions, VacuumReport};
pub use version::cache::Cache;
pub use version::diff::{self, Difference, difference};
pub use version::moment::{Moment, VersionInfo};
pub use version::snapshot::Snapshot;

pub(crate) use reruns::{Reruns, RunEnd};
pub(crate) use superfile::{
    EndError, SealedEnd, check_not_null, footer_null_count, footer_stats, judge_end,
};

pub use crate::wal::Env;
