//! The clock of one simulated process: the virtual time, and a skew that jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use datafusion_supertable::unstable::wal::Clock;
use tokio::time::Instant;

/// When every history begins: milliseconds since 1970.
pub(super) const DAWN_MS: i64 = 1_700_000_000_000;

#[derive(Debug)]
struct Inner {
    start: Instant,
    skew_ms: AtomicI64,
    latest_ms: AtomicI64,
}

/// A clock that clones share.
#[derive(Clone, Debug)]
pub(super) struct SkewedClock(Arc<Inner>);

impl SkewedClock {
    /// A clock that shows `DAWN_MS + skew_ms` at `start`.
    pub(super) fn new(start: Instant, skew_ms: i64) -> Self {
        Self(Arc::new(Inner {
            start,
            skew_ms: skew_ms.into(),
            latest_ms: AtomicI64::new(i64::MIN),
        }))
    }

    /// Moves it, forwards or backwards.
    pub(super) fn jump(&self, by_ms: i64) {
        self.0.skew_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// The latest time that it ever showed to anyone.
    pub(super) fn latest_ms(&self) -> i64 {
        self.0.latest_ms.load(Ordering::SeqCst)
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> DateTime<Utc> {
        let elapsed = i64::try_from(self.0.start.elapsed().as_millis()).unwrap();
        let ms = DAWN_MS + elapsed + self.0.skew_ms.load(Ordering::SeqCst);
        self.0.latest_ms.fetch_max(ms, Ordering::SeqCst);
        DateTime::from_timestamp_millis(ms).unwrap()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}
