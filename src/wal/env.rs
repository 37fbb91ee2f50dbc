//! Clock and id source, passed in as values.
//!
//! Owns: [`Env`], the only way the protocol learns the time or mints an id, with the system's
//! implementations and deterministic ones. Does not own the ids' formats (`format::ids`).
//! Invariants: no safety argument rests on a clock; every id is minted once (a process draws 40 random
//! bits as its worker and counts within them, so ids stay unique even if the clock stands or jumps back).
//! A crash leaves nothing: ids that were minted and not used are lost.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use uuid::Uuid;

use crate::format::{IdBlock, RowId, WalId};

const WORKER_MASK: u64 = (1 << 40) - 1;
const LAST_SEQ: u32 = (1 << 24) - 1;

/// Tells the time, of two kinds.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day: what people read, and what retention counts in. It can be wrong by any amount, and jump.
    fn now(&self) -> DateTime<Utc>;

    /// A time that only passes, at the pace of this machine's own clock, and says nothing about the time of day. It
    /// decides which process acts: leases are judged by it alone.
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// Mints ids that no other process mints.
pub trait IdSource: fmt::Debug + Send + Sync {
    /// The id of a new mutation.
    fn wal_id(&self) -> WalId;
    /// A fresh block of ids for the objects that one mutation stages.
    fn id_block(&self) -> IdBlock;
    /// The first id of a fresh span of 2^24 row ids.
    fn row_span(&self) -> RowId;
    /// A value that makes a body unlike any other; also the id of a table or of a sidecar.
    fn nonce(&self) -> Uuid;
}

/// What the protocol takes from outside besides the store.
#[derive(Clone, Debug)]
pub struct Env {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<dyn IdSource>,
}

impl Env {
    /// The system's clock, and ids from the system's randomness.
    pub fn system() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids = Arc::new(Ids::new(Arc::clone(&clock), StdRng::from_os_rng()));
        Self { clock, ids }
    }

    /// A clock that a test moves, and ids that follow from `seed` and the order of the calls.
    pub fn seeded(seed: u64, clock: impl Clock + 'static) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let ids = Arc::new(Ids::new(Arc::clone(&clock), StdRng::seed_from_u64(seed)));
        Self { clock, ids }
    }

    /// The time now.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The time that only passes.
    pub fn monotonic(&self) -> Instant {
        self.clock.monotonic()
    }

    /// The time now, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now().timestamp_millis()
    }
}

impl Default for Env {
    fn default() -> Self {
        Self::system()
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock whose time of day stands until it is moved: for tests and simulations.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<ManualTime>);

#[derive(Debug)]
struct ManualTime {
    now_ms: AtomicI64,
    /// What passed beside the runtime's own time.
    passed_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `ms` milliseconds since 1970.
    pub fn at_ms(ms: i64) -> Self {
        Self(Arc::new(ManualTime {
            now_ms: ms.into(),
            passed_ms: 0.into(),
        }))
    }

    /// Lets so much time pass for every clone of this clock. A negative `delta` sets the time of day back.
    pub fn advance(&self, delta: TimeDelta) {
        self.set_by(delta);
        let passed = u64::try_from(delta.num_milliseconds()).unwrap_or(0);
        self.0.passed_ms.fetch_add(passed, Ordering::Relaxed);
    }

    /// Sets the time of day forwards or backwards, while no time passes.
    pub fn set_by(&self, delta: TimeDelta) {
        let ms = delta.num_milliseconds();
        self.0.now_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0.now_ms.load(Ordering::Relaxed)).unwrap_or_default()
    }

    fn monotonic(&self) -> Instant {
        let now = Instant::now();
        let passed = Duration::from_millis(self.0.passed_ms.load(Ordering::Relaxed));
        now.checked_add(passed).unwrap_or(now)
    }
}

/// Ids in the shape that DESIGN fixes, from any random generator.
struct Ids {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    random: StdRng,
    /// Random bits that set this source apart from every other.
    worker: u64,
    wal_ms: u64,
    wal_seq: u32,
    span_ms: u64,
}

impl Ids {
    fn new(clock: Arc<dyn Clock>, mut random: StdRng) -> Self {
        let worker = random.random::<u64>() & WORKER_MASK;
        Self {
            clock,
            state: Mutex::new(State {
                random,
                worker,
                wal_ms: 0,
                wal_seq: 0,
                span_ms: 0,
            }),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().timestamp_millis()).unwrap_or(0)
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        // A panic inside cannot leave a counter behind an id that was handed out.
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ids").finish_non_exhaustive()
    }
}

impl IdSource for Ids {
    fn wal_id(&self) -> WalId {
        let now = self.now_ms();
        self.with(|state| {
            // Never backwards: (ms, seq) only grows, whatever the clock does.
            if now > state.wal_ms {
                (state.wal_ms, state.wal_seq) = (now, 0);
            } else if state.wal_seq < LAST_SEQ {
                state.wal_seq += 1;
            } else {
                (state.wal_ms, state.wal_seq) = (state.wal_ms + 1, 0);
            }
            WalId::new(state.wal_ms, state.worker, state.wal_seq)
        })
    }

    fn id_block(&self) -> IdBlock {
        let now = self.now_ms();
        self.with(|state| IdBlock::new(now, state.random.random::<u64>()))
    }

    fn row_span(&self) -> RowId {
        let now = self.now_ms();
        self.with(|state| {
            // One span takes a whole millisecond's sequence, so a busy writer runs ahead of its clock.
            state.span_ms = now.max(state.span_ms + 1);
            RowId::new(state.span_ms, state.worker, 0)
        })
    }

    fn nonce(&self) -> Uuid {
        let bytes = self.with(|state| state.random.random::<[u8; 16]>());
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_stay_unique_and_ascending_while_the_clock_stands_or_jumps_back() {
        let clock = ManualClock::at_ms(1_700_000_000_000);
        let env = Env::seeded(1, clock.clone());
        let mut wal = Vec::new();
        let mut rows = Vec::new();
        for i in 0..100 {
            if i == 50 {
                clock.advance(TimeDelta::hours(-1));
            }
            wal.push(env.ids.wal_id());
            rows.push(env.ids.row_span());
        }
        assert!(wal.is_sorted() && rows.is_sorted());
        assert_eq!(wal.iter().collect::<BTreeSet<_>>().len(), 100);
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), 100);
    }

    #[test]
    fn a_seed_repeats_every_id() {
        let ids = || {
            let env = Env::seeded(7, ManualClock::at_ms(5));
            (env.ids.wal_id(), env.ids.nonce(), env.ids.row_span())
        };
        assert_eq!(ids(), ids());
    }

    #[test]
    fn two_sources_share_no_id() {
        let (a, b) = (Env::system(), Env::system());
        assert_ne!(a.ids.nonce(), b.ids.nonce());
        assert_ne!(a.ids.wal_id(), b.ids.wal_id());
        assert_ne!(a.ids.row_span(), b.ids.row_span());
    }
}
