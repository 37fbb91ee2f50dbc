//! The ids of what one mutation stages: one counter over its block, for superfiles and sidecars alike.
//!
//! Owns: the only way to an id of a mutation's block. Does not own the block's format (`format::ids`).
//! Invariant: no id is given out twice, and whether any was given out is known to the process that may have to
//! delete what was staged. A crash loses the counter; recovery lists the block, whatever was used of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::format::ids::ID_BLOCK_LEN;
use crate::format::{IdBlock, SidecarId, SuperfileId};

/// Mints the ids of everything that a mutation stages. Clones count together.
#[derive(Clone, Debug)]
pub struct StagedIds {
    block: IdBlock,
    next: Arc<AtomicU32>,
}

impl StagedIds {
    pub(crate) fn new(block: IdBlock) -> Self {
        Self {
            block,
            next: Arc::default(),
        }
    }

    /// An id for a superfile that the statement writes.
    ///
    /// # Errors
    /// `Unsupported` once the block's 2^24 ids are used up.
    pub fn superfile(&self) -> Result<SuperfileId> {
        self.mint().map(SuperfileId::from_uuid)
    }

    /// An id for a sidecar.
    ///
    /// # Errors
    /// As [`superfile`](Self::superfile).
    pub(crate) fn sidecar(&self) -> Result<SidecarId> {
        self.mint().map(SidecarId::from_uuid)
    }

    /// Whether an id was given out, under which an object may be there.
    pub(crate) fn any(&self) -> bool {
        self.next.load(Ordering::Relaxed) > 0
    }

    fn mint(&self) -> Result<Uuid> {
        let k = self.next.fetch_add(1, Ordering::Relaxed);
        self.block.nth(k).ok_or_else(|| {
            // Stay beyond the end: the counter must not wrap around.
            self.next.store(ID_BLOCK_LEN, Ordering::Relaxed);
            Error::new(
                ErrorKind::Unsupported,
                self.block.to_string(),
                "one statement cannot write more than 2^24 objects; split it into several statements",
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn superfiles_and_sidecars_share_no_id_and_every_clone_counts() {
        let ids = StagedIds::new(IdBlock::new(1, 2));
        assert!(!ids.any());
        let clone = ids.clone();
        let first = clone.superfile().unwrap();
        assert!(ids.any());
        let second = ids.sidecar().unwrap();
        assert_ne!(first.as_uuid(), second.as_uuid());
    }

    #[test]
    fn a_block_that_is_used_up_gives_out_nothing_more() {
        let ids = StagedIds::new(IdBlock::new(1, 2));
        ids.next.store(ID_BLOCK_LEN - 1, Ordering::Relaxed);
        assert!(ids.superfile().is_ok());
        for _ in 0..3 {
            assert_eq!(ids.superfile().unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}
