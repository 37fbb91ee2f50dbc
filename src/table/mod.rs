//! A table: its versions, and the mutations that make the next one.
//!
//! [`Table`] is the handle, [`Snapshot`] one pinned version, [`Mutation`] one statement's way to a commit. The parts
//! that the clones of a handle share, each in a folder of its own:
//!
//! | part | owns |
//! | --- | --- |
//! | `version` | reading versions, the pointer and the tip (its `head`), earlier versions (its `history`) |
//! | `commit` | a mutation's way to the next version, for every ready mutation at once |
//! | [`apply`](mod@apply) | the decision of a commit, as a pure function over values, and its conflicts |
//! | `recovery` | ending what dead writers began |
//! | [`vacuum`] | deleting what no version needs any more |
//! | [`compaction`] | which superfiles are worth writing anew |
//! | [`schema`] | how columns change |
//! | `superfile` | writing Parquet files, and judging how they end |
//!
//! # A DELETE, from the mutation to the swing
//!
//! 1. `handle`: the statement reads a snapshot and begins a [`Mutation`] of it; the INTENT document is on its way.
//! 2. `commit::mutation`: it hands over its [`Effect`], positions per superfile. From here a task of its own goes on.
//! 3. `commit::owner`: stages, becomes APPENDED and takes part in a turn. Nobody else is at the pointer: the next version
//!    is drafted and uploaded beside the change set.
//! 4. `commit::stage`: the effect becomes a change set, and a sidecar per superfile that loses rows.
//! 5. `commit::draft`: makes the next version of the tip, by
//! 6. [`apply`](apply()), which decides, and `apply::next`, which builds it.
//! 7. `commit::committer`: leads the turn, and swings from the tip to the draft.
//! 8. `version::head`: the compare-and-swap of the pointer. Then `commit::complete` tells the statement, and
//!    `commit::cleanup` retires the document in the background.
//!
//! # The recovery of a dead writer
//!
//! 1. `handle`, then `recovery::recover`: lists the documents, and looks at them again until it is clear which owners are dead.
//! 2. `recovery::document`: decides about one. `commit::liveness` reads it and notes it in `wal::watch`.
//! 3. An INTENT that stood still for a lease is fenced (`wal::machine`, `wal::store`), looked for in the history
//!    (`version::head`, `version::history`), and undone (`wal::driver`).
//! 4. An APPENDED document is read by `commit::observe` and goes to `commit::committer`, as its owner would have it.

pub(crate) mod apply;
mod attempts;
mod background;
mod commit;
pub(crate) mod compaction;
mod context;
mod create;
mod handle;
mod limits;
mod recovery;
mod restore;
pub(crate) mod schema;
mod superfile;
pub(crate) mod vacuum;
mod version;

pub(crate) use apply::conflict::ConflictReason;
pub use background::Background;
pub use commit::{CommitOutcome, Effect, Mutation, RowCounts};
pub use create::{CreateTable, NewKey};
pub use handle::Table;
pub use limits::Limits;
pub(crate) use limits::PROGRESS;
pub(crate) use recovery::RecoveryReport;
pub(crate) use restore::Restored;
pub(crate) use schema::evolution;
pub(crate) use superfile::{
    Ascending, ColumnFilter, Free, HeldRows, KeyOrders, RowIdSource, SuperfileWriter,
    WriteProgress, WriterOptions, stored_type,
};
pub use vacuum::{Removed, VacuumOptions, VacuumReport, sweep};
pub use version::cache::Cache;
pub(crate) use version::diff::{Difference, difference};
pub use version::moment::Moment;
pub(crate) use version::moment::VersionInfo;
pub use version::pointer::is_dropped_table;
pub(crate) use version::pointer::{is_no_table, is_reservation};
pub(crate) use version::sidecars::Sidecars;
pub use version::snapshot::Snapshot;

pub(crate) use attempts::{AttemptEnd, Attempts, VERSION_CHANGED};
pub(crate) use superfile::{
    EndError, FileEnd, check_not_null, footer_null_count, footer_stats, read_end,
};
