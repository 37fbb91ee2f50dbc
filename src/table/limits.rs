//! The bounds of one open table: memory, concurrency, leases, attempts.
//!
//! Owns the numbers and their defaults. Does not own the options through which a user sets them.
//! Invariant: no bound here is a safety argument; a wrong one costs time or memory. A crash leaves nothing.

use std::time::Duration;

use chrono::TimeDelta;

use crate::table::version::cache::Cache;

/// Target of the `tracing` events by which long operations report how far they are: `operation`, `done` of
/// `total` (0 while that is not known), `bytes`.
pub(crate) const PROGRESS: &str = "datafusion_supertable::progress";

/// Bounds of one open [`Table`](super::Table).
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a mutation's document is left alone after its owner was last heard of. Owners renew
    /// three times within it.
    pub lease: TimeDelta,
    /// Where manifest nodes, besides those of the current version, and decoded tombstones are kept in memory: by
    /// default in the one cache of the process, 256 MiB for all tables together.
    pub cache: Cache,
    /// Requests of one operation that are under way at once.
    pub concurrency: usize,
    /// Pointer races in a row that a commit may lose before its outcome is reported as unknown.
    pub commit_attempts: usize,
    /// Failures of the store in a row (each after the storage layer's own retries) that a commit may meet.
    pub commit_failures: usize,
    /// Documents of other writers that one lost race looks at in order to commit them too.
    pub group_at_most: usize,
    /// How lately another process's statement must have begun for a leader to wait for it, a few round trips
    /// at most, so that both are committed together.
    pub wait_for_younger_than: Duration,
    /// How often a process that commits without resistance looks, in the background, whether others wait
    /// in vain: a fast writer that never loses the pointer would not hear of those that always do.
    pub poll_others_every: Duration,
    /// Commit records of earlier versions that a manifest may carry before this process checks which of
    /// their documents are gone.
    pub pending_at_most: usize,
    /// Versions that recovery looks back through for a mutation. Beyond it staged objects are left to vacuum.
    pub history_at_most: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: TimeDelta::seconds(60),
            cache: Cache::of_process(),
            concurrency: 32,
            commit_attempts: 256,
            commit_failures: 8,
            group_at_most: 64,
            wait_for_younger_than: Duration::from_secs(1),
            poll_others_every: Duration::from_secs(1),
            pending_at_most: 16,
            history_at_most: 4_096,
        }
    }
}
