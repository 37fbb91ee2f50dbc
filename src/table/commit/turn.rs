//! The values of one turn at the pointer: how it is taken, and what came of it.
//!
//! Owns these values. Does not own the steps of a turn (`committer`, `group`). No I/O.

use super::draft::Draft;
use crate::format::WalId;
use crate::table::version::head::Observed;

/// How a turn is taken.
#[derive(Debug, Default)]
pub(crate) struct TurnPlan {
    /// A draft of the whole batch that is uploaded already.
    pub(crate) prepared: Option<Draft>,
    /// What the pointer said last.
    pub(crate) observed: Option<Observed>,
    /// Whether the pointer must be read, because a swing was lost or failed.
    pub(crate) stale: bool,
    /// Whether to commit in a group with other processes' mutations.
    pub(crate) grouped: bool,
    /// Whether to lead even if another process could.
    pub(crate) must_lead: bool,
    /// Others' documents that were listed already.
    pub(crate) listed: Option<Vec<WalId>>,
}

/// What a turn came to before the pointer was swung.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// A draft that is uploaded, to swing to.
    Swing(Draft),
    /// There is nothing to swing to.
    Ended(TurnResult),
}

/// What one turn achieved.
#[derive(Debug)]
#[must_use = "a lost race is a value, not an error"]
pub(crate) enum TurnResult {
    /// Every member has ended, or is judged against a new version next.
    Advanced,
    /// Another process swung the pointer first; what the pointer says now, if that is known.
    Lost(Option<Observed>),
    /// Another process led, as this one left it to, and swung the pointer: what it says now.
    Followed(Observed),
    /// Another process should have led, and the pointer did not move.
    LeaderMissing,
}
