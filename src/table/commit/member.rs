//! One mutation in a batch that is to be committed.
//!
//! Owns: what the committer knows of a mutation whose document is APPENDED. Does not own its way there (`owner`,
//! `observe`), nor the verdict about it (`verify`).
//! Invariant: [`AbsentFrom`] holds only what was seen in an order that proves it: first the pointer, then the document. No
//! I/O.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::outcome::Resolution;
use crate::error::Result;
use crate::format::{ChangeSet, StateDoc, WalId};
use crate::table::version::tip::Tip;
use crate::wal::Etag;

/// A mutation whose document is APPENDED.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: WalId,
    pub(crate) change_set: Arc<ChangeSet>,
    pub(crate) doc: StateDoc,
    pub(crate) etag: Etag,
    /// Whether the history since its base could not be seen: if it conflicts, that may be with itself, so what it
    /// staged is left to vacuum.
    pub(crate) out_of_reach: bool,
    /// How far it is known to be uncommitted; `None` before its document was compared with a tip.
    pub(crate) absent_from: Option<AbsentFrom>,
    pub(crate) party: Party,
}

impl Member {
    /// Whether somebody in this process waits for its end.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.party, Party::Waiting(_))
    }
}

/// Whose mutation it is, which decides which callers hear of its end and which process cleans up.
#[derive(Debug)]
pub(crate) enum Party {
    /// Someone in this process waits for the end.
    Waiting(oneshot::Sender<Result<Resolution>>),
    /// Another process's: its owner cleans up, or recovery does.
    Foreign,
}

/// Tips that are known not to contain a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AbsentFrom {
    /// All tips of this epoch: the mutation is this process's own, and only its one [`Member`] commits it. And
    /// all versions up to this one, of any process.
    Epoch(u64, u64),
    /// The tip of this version only: it was read from the store, so this process can hold it twice (two
    /// recoveries), and one of the two may commit it without a new epoch.
    Version(u64),
}

impl AbsentFrom {
    pub(crate) fn covers(self, tip: &Tip) -> bool {
        match self {
            Self::Epoch(epoch, _) => epoch == tip.epoch,
            Self::Version(version) => version == tip.snapshot.version(),
        }
    }
}
