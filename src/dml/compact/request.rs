//! What a compaction is to do, and what became of it.

use super::cluster::ClusterBy;
use crate::table::compaction::{Group, Targets};

/// What became of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Optimized {
    /// Superfiles that were, or would be, written anew.
    pub sources: usize,
    /// Their live rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes_before: u64,
    /// Superfiles that took their place.
    pub superfiles: usize,
    /// The bytes of those.
    pub bytes_after: u64,
    /// How it ended.
    pub outcome: GroupOutcome,
}

/// How one group ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupOutcome {
    /// In force since this version.
    Committed(u64),
    /// Not carried out: only a plan was asked for.
    Planned,
    /// Others took its sources first; what was left was not worth it.
    Superseded,
    /// Others changed its sources again and again; nothing was changed.
    GivenUp(String),
}

/// Which superfiles are written anew, and in which order their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those that need it: of a table that says what it is clustered by, those that are not, and what pays to be
    /// joined with them; of any other, those that are small or have lost many rows, in the declared order.
    #[default]
    Needed,
    /// Whatever is not yet in an order that goes through the whole table.
    Whole {
        /// The order; the table's own if `None`.
        by: Option<ClusterBy>,
    },
    /// All, also what is in that order already.
    Again {
        /// The order; the table's own if `None`.
        by: Option<ClusterBy>,
    },
}

/// What a compaction is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// When a superfile is small, and when it has lost many rows.
    pub targets: Targets,
    /// Which superfiles.
    pub scope: Scope,
    /// Rows of a superfile, where that is less than writers write.
    pub superfile_rows: Option<u64>,
    /// Bytes of what is written anew in one commit in an order through the table; `None`: as the session or the table
    /// says.
    pub max_group_bytes: Option<u64>,
    /// Only plan.
    pub dry_run: bool,
}

impl Optimized {
    /// A group that is not carried out yet.
    pub(super) fn planned(group: &Group) -> Self {
        Self {
            sources: group.sources.len(),
            rows: group.rows,
            bytes_before: group.bytes,
            superfiles: 0,
            bytes_after: 0,
            outcome: GroupOutcome::Planned,
        }
    }
}
