//! The newest version that this process knows, and how it came to know it.
//!
//! Owns: which snapshot a commit builds on. Does not own reading the pointer.
//! Invariants: the tip's version never falls, nor in one version the number of the table's claim. The *epoch* counts the
//! times that another's version was taken over; it does not move when this process swings the pointer itself. So, if a document was seen
//! APPENDED and uncommitted while the tip had epoch e, then as long as the epoch is e, the tip's history
//! contains that mutation only if this process put it there.
//! A crash leaves nothing: the tip is memory only.

use std::sync::{Arc, Mutex, PoisonError};

use super::snapshot::Snapshot;

/// A snapshot, and the epoch in which it is the tip.
#[derive(Clone, Debug)]
pub(crate) struct Tip {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) epoch: u64,
}

/// The tip, shared by readers and the committer.
#[derive(Debug)]
pub(crate) struct TipCell(Mutex<Tip>);

impl TipCell {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(Mutex::new(Tip { snapshot, epoch: 0 }))
    }

    pub(crate) fn get(&self) -> Tip {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes over a version that was read from the store; returns the tip, which may be newer still.
    pub(crate) fn advance_to(&self, found: Arc<Snapshot>) -> Tip {
        let mut tip = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.order() >= tip.snapshot.order() {
            tip.snapshot = found;
            tip.epoch += 1;
        }
        tip.clone()
    }

    /// Takes over a version that this process swung the pointer to, from the tip.
    pub(crate) fn advance(&self, swung: Arc<Snapshot>) {
        let mut tip = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if swung.version() > tip.snapshot.version() {
            // The version in between would be another's: then `advance_to` has to account for it.
            if swung.version() != tip.snapshot.version() + 1 {
                tip.epoch += 1;
            }
            tip.snapshot = swung;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::format::tests::samples;
    use crate::format::{Claim, ContentHash};
    use crate::storage::{ObjectVersion, RetryPolicy, Storage};
    use crate::table::limits::Limits;
    use crate::table::version::reader::Reader;
    use crate::table::version::snapshot::Named;
    use crate::wal::{Env, WalStore};

    #[test]
    fn a_pointer_that_was_read_before_a_rename_is_not_adopted_after_it() {
        let storage = Storage::new(Arc::new(InMemory::new()), &"t".into(), RetryPolicy::never());
        let wal = WalStore::new(storage.clone(), Env::system().ids);
        let reader = Arc::new(Reader::new(storage, wal, &Limits::default()));
        let manifest = samples::manifest(1);
        let seen = |token: &str, number: Option<u64>| {
            let slot = "u".to_owned();
            let named = Named {
                state: ObjectVersion::parse_token(token).unwrap(),
                claim: number.map(|number| Claim { slot, number }),
            };
            Arc::new(Snapshot::new(
                manifest.clone(),
                ContentHash::of(b"root"),
                Some(named),
                Arc::clone(&reader),
            ))
        };
        let tip = TipCell::new(seen("-:ea", None));
        let renamed = tip.advance_to(seen("-:eb", Some(1)));
        assert_eq!((renamed.epoch, renamed.snapshot.order().1), (1, 1));
        let late = tip.advance_to(seen("-:ea", None));
        assert_eq!((late.epoch, late.snapshot.order().1), (1, 1));
        // Another state of the same claim, as a vacuum leaves it.
        let fenced = tip.advance_to(seen("-:ec", Some(1)));
        assert_eq!(fenced.epoch, 2);
    }
}
