//! Leases: who is expected to move a document next, and how often.
//!
//! Owns: the arithmetic. Does not own the clock (passed in), the writing of a document, nor the judgement that an
//! owner is gone (`wal::watch`): the moments in a lease are of its owner's clock, for people to read.
//! Invariant: a lease decides only which process acts. Nothing is safe or unsafe because a lease is live or
//! expired; the compare-and-swap on the document decides. A crash leaves a lease that expires.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::format::{Lease, StateDoc};

/// A lease for `owner` from `now` on.
pub(crate) fn fresh(owner: &str, now: DateTime<Utc>, ttl: TimeDelta) -> Lease {
    Lease {
        owner: owner.to_owned(),
        acquired_at: now,
        expires_at: now.checked_add_signed(ttl).unwrap_or(now),
    }
}

/// The same lease, running from `now`. It never gets shorter, also if the clock jumped back.
pub(crate) fn renewed(lease: &Lease, now: DateTime<Utc>, ttl: TimeDelta) -> Lease {
    let fresh = fresh(&lease.owner, now, ttl);
    Lease {
        owner: fresh.owner,
        acquired_at: lease.acquired_at,
        expires_at: fresh.expires_at.max(lease.expires_at),
    }
}

/// Whether `owner` holds the document's lease, live or expired.
pub(crate) fn is_held_by(doc: &StateDoc, owner: &str) -> bool {
    doc.lease.as_ref().is_some_and(|lease| lease.owner == owner)
}

/// How long an owner waits between renewals: a third of the time, so that two may fail.
pub(crate) fn renewal_interval(ttl: TimeDelta) -> Duration {
    (ttl / 3)
        .to_std()
        .unwrap_or(Duration::ZERO)
        .max(Duration::from_millis(1))
}
