//! Which documents their owners have given up: those that one observer saw unchanged for one lease of its own time.
//!
//! An owner that lives renews its lease three times within it, and each renewal changes the document's etag. So an
//! observer needs no wall clock, neither its own nor the owner's: it remembers when it first saw a state, and a
//! document that is still in that state a lease later has no owner at work. A machine whose clock is wrong by
//! hours judges like any other.
//!
//! Owns: what one open table has seen, and that judgement. Does not own the reads, the clock (passed in as moments
//! of [`Clock::monotonic`](super::Clock::monotonic)), nor what is done to a document that was given up.
//! Invariant: like a lease, it decides only which process acts; the compare-and-swap on the document decides what is safe.
//! A crash forgets what was seen, so the next process waits for a lease again.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::format::WalId;
use crate::wal::store::Etag;

/// What an observer makes of a document that it has just read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was not seen before.
    New,
    /// It was seen in another state: its owner has been at work since.
    Moved,
    /// It is as it was, and has not been so for a lease.
    Stands,
    /// It has been as it is for a lease or longer.
    Abandoned,
}

/// One state of a document, and for how long it was seen.
#[derive(Debug)]
struct Sighting {
    /// `None`: there is a change set, and no document.
    state: Option<Etag>,
    /// When the answer arrived that showed this state first.
    since: Instant,
    /// For how long it had stood when it was asked for last.
    stood: Duration,
}

/// The documents that one observer has seen.
#[derive(Debug)]
pub(crate) struct Watch {
    lease: Duration,
    seen: Mutex<HashMap<WalId, Sighting>>,
}

impl Watch {
    /// An observer that has seen nothing, and gives an owner so much time.
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            lease,
            seen: Mutex::default(),
        }
    }

    /// Notes that the document was in `state` (`None`: that only its change set was there), as a request told that
    /// was made at `asked` and answered at `answered`.
    pub(crate) fn note(
        &self,
        id: &WalId,
        state: Option<&Etag>,
        asked: Instant,
        answered: Instant,
    ) -> Standing {
        let mut seen = self.lock();
        let standing = match seen.get_mut(id) {
            Some(sighting) if sighting.state.as_ref() == state => {
                // The shortest time that the two reads can lie apart.
                let stood = asked.saturating_duration_since(sighting.since);
                sighting.stood = sighting.stood.max(stood);
                return match sighting.stood >= self.lease {
                    true => Standing::Abandoned,
                    false => Standing::Stands,
                };
            }
            Some(_) => Standing::Moved,
            None => Standing::New,
        };
        let sighting = Sighting {
            state: state.cloned(),
            since: answered,
            stood: Duration::ZERO,
        };
        seen.insert(*id, sighting);
        standing
    }

    /// Whether this state of the document was noted as abandoned.
    pub(crate) fn is_abandoned(&self, id: &WalId, state: &Etag) -> bool {
        self.lock().get(id).is_some_and(|sighting| {
            sighting.state.as_ref() == Some(state) && sighting.stood >= self.lease
        })
    }

    /// Forgets all documents but these.
    pub(crate) fn retain(&self, there: &HashSet<WalId>) {
        self.lock().retain(|id, _| there.contains(id));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WalId, Sighting>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
