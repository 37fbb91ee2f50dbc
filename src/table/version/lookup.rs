//! Looking a mutation up in the table's history.
//!
//! Owns the walk from a version back over its parents, each of which it has to see. Does not own the records (`format::manifest`).
//! Invariant: `Absent` is said only after every version since the base was seen; a walk that cannot be
//! finished says so. Reads only, so a crash leaves nothing.

use crate::error::{ErrorKind, Result};
use crate::format::manifest::CommitRecord;
use crate::format::{ContentHash, WalId};
use crate::table::handle::Inner;
use crate::table::version::descent::Goal;
use crate::table::version::history::{Moment, Nodes, descend};
use crate::table::version::snapshot::Snapshot;

/// What the history says about a mutation.
#[derive(Debug)]
pub(crate) enum Found {
    /// It was committed.
    Record(CommitRecord),
    /// It was not committed in any version since its base.
    Absent,
    /// Some of those versions are gone, or too many.
    OutOfReach,
}

impl Inner {
    /// Looks for `id` in the versions after `since` up to `from`.
    pub(crate) async fn find_record(
        &self,
        from: &Snapshot,
        id: &WalId,
        since: u64,
    ) -> Result<Found> {
        if let Some(record) = from.record(id) {
            return Ok(Found::Record(record.clone()));
        }
        let mut version = from.version();
        let mut parent = from.manifest().header().parent;
        let mut steps = 0;
        // A version's records are those it committed itself; the one below it is next.
        while version > since.saturating_add(1) {
            let Some(hash) = parent else { break };
            steps += 1;
            if steps > self.limits.history_at_most {
                return Ok(Found::OutOfReach);
            }
            let header = match self.reader.header(&hash).await {
                Ok(header) => header,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::OutOfReach),
                Err(error) => return Err(error),
            };
            if let Some(record) = header.commit_record(id) {
                return Ok(Found::Record(record.clone()));
            }
            version = header.version;
            parent = header.parent;
        }
        Ok(Found::Absent)
    }

    /// The manifest root of `version`, which is not newer than `from`; `None` if the history does not
    /// reach that far.
    pub(crate) async fn root_of(
        &self,
        from: &Snapshot,
        version: u64,
    ) -> Result<Option<ContentHash>> {
        let goal = Goal::Moment(Moment::Version(version));
        let found = descend(&self.reader, from, goal, Nodes::Cached).await?;
        Ok(found.ok().map(|info| info.root))
    }
}
