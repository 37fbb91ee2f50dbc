//! What one history is like: how many processes, how slow and how broken their way to the store is.
//!
//! Owns: the choice of all of that from the seed, and the fate of each single request. A fate follows from the
//! seed, the process, the kind of request, its key, and how often that process asked for it before: not from the
//! order in which requests are made, so that the iteration order of a hash map in the code under test
//! changes nothing. Does not own what a fate does (`wire`).

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Probabilities are per this many requests.
const ODDS: u32 = 100_000;

/// What one history is made of.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub seed: u64,
    pub processes: u64,
    pub steps: u32,
    /// Whether equal bytes have equal ETags, as on S3.
    pub content_etags: bool,
    pub lease: Duration,
    /// Names on one page of a listing.
    pub page: usize,
    /// The usual time of half a round trip.
    pub half_trip: Duration,
    /// Sweep, history and cache limits of the tables.
    pub pending_at_most: usize,
    pub history_at_most: u64,
    pub cache_bytes: usize,
    pub attempts: u32,
    odds: Odds,
}

#[derive(Clone, Copy, Debug, Default)]
struct Odds {
    slow: u32,
    refused: u32,
    falsely_refused: u32,
    lost: u32,
    late: u32,
    twice: u32,
    crash: u32,
    pause: u32,
    jump: u32,
}

/// What a failed request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// 500, 503, a broken connection.
    Broken,
    /// 429.
    Throttled,
    /// 409 or 412, for a conditional write.
    Refused,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Fine,
    /// No effect.
    Failed(Status),
    /// It took effect.
    Lost(Status),
    /// The client gives up, and the request lands so much later.
    Late(Duration),
    /// It takes effect, and so much later a second time.
    Twice(Duration),
}

/// When a process dies, seen from one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    Before,
    /// While the request is under way.
    During,
    After,
}

/// What happens to one request, and to the process that makes it.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    pub there: Duration,
    pub back: Duration,
    pub answer: Answer,
    pub crash: Option<Crash>,
    pub pause_before: Option<Duration>,
    pub pause_after: Option<Duration>,
    /// The process's clock jumps, by milliseconds.
    pub jump: Option<i64>,
    /// Whether the request, if it is under way when its process dies, still lands.
    pub survives: bool,
}

/// A number that looks random, from some that need not.
pub(super) fn mix(words: &[u64]) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for word in words {
        state = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    state
}

/// The same, of a text.
pub(super) fn mix_text(text: &str) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    mix(&[state])
}

/// A duration between `shortest` and `longest`, each order of magnitude as likely as another.
pub(super) fn log_uniform(dice: &mut SmallRng, shortest: Duration, longest: Duration) -> Duration {
    let (low, high) = (shortest.as_secs_f64().ln(), longest.as_secs_f64().ln());
    let ms = (dice.random_range(low..high).exp() * 1000.0).round();
    Duration::from_millis(ms as u64)
}

impl Weather {
    /// What the history of this seed is like.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = SmallRng::seed_from_u64(mix(&[seed, 1]));
        let mut odds = Odds {
            slow: pick(&mut dice, &[500, 3_000, 10_000]),
            ..Odds::default()
        };
        // One in eight is calm: only interleavings. The others have some kinds of faults, often or rarely.
        if !dice.random_ratio(1, 8) {
            for (kind, rates) in [
                (&mut odds.refused, [0, 500, 4_000]),
                (&mut odds.falsely_refused, [0, 1_000, 5_000]),
                (&mut odds.lost, [0, 500, 4_000]),
                (&mut odds.late, [0, 500, 3_000]),
                (&mut odds.twice, [0, 2_000, 20_000]),
                (&mut odds.crash, [0, 150, 600]),
                (&mut odds.pause, [0, 200, 2_000]),
                (&mut odds.jump, [0, 100, 1_000]),
            ] {
                *kind = pick(&mut dice, &rates);
            }
        }
        Self {
            seed,
            processes: pick(&mut dice, &[2, 2, 3, 4]),
            steps: dice.random_range(2..=6),
            content_etags: dice.random(),
            lease: Duration::from_secs(pick(&mut dice, &[4, 20, 60])),
            page: pick(&mut dice, &[2, 5, 1_000]),
            half_trip: Duration::from_millis(pick(&mut dice, &[2, 10, 80])),
            pending_at_most: pick(&mut dice, &[0, 2, 16]),
            history_at_most: pick(&mut dice, &[2, 4_096, 4_096, 4_096]),
            cache_bytes: pick(&mut dice, &[0, 32 << 20]),
            attempts: pick(&mut dice, &[2, 4, 6]),
            odds,
        }
    }

    /// The fate of a request: the `nth` of this kind that the process makes to this key.
    pub(super) fn fate(&self, process: u64, kind: &str, key: &str, nth: u64) -> Fate {
        let mut dice = SmallRng::seed_from_u64(mix(&[
            self.seed,
            process,
            mix_text(kind),
            mix_text(key),
            nth,
        ]));
        let odds = &self.odds;
        let hit = |dice: &mut SmallRng, odds: u32| dice.random_range(0..ODDS) < odds;
        let half_trip = |dice: &mut SmallRng| {
            let usual = self.half_trip.mul_f64(dice.random_range(0.3..1.7));
            match hit(dice, odds.slow) {
                true => log_uniform(dice, self.half_trip, Duration::from_secs(8)) + usual,
                false => usual,
            }
        };
        let (there, back) = (half_trip(&mut dice), half_trip(&mut dice));
        let long = Duration::from_secs(300);
        let short = Duration::from_millis(5);
        let conditional = kind == "create" || kind == "replace";
        let writes = conditional || kind == "delete";
        let status = |dice: &mut SmallRng| match dice.random_range(0..3) {
            0 => Status::Throttled,
            1 if conditional => Status::Refused,
            _ => Status::Broken,
        };
        let (refused, lost) = (hit(&mut dice, odds.refused), hit(&mut dice, odds.lost));
        let falsely = hit(&mut dice, odds.falsely_refused) && conditional;
        let late = hit(&mut dice, odds.late) && writes;
        // Where equal bytes have equal ETags, nothing could tell a document that was created twice from one that was
        // created once. Each try of ours has other bytes, and the layers below repeat no create that was answered.
        let undetectable = self.content_etags && kind == "create" && key.ends_with(".json");
        let twice = hit(&mut dice, odds.twice) && writes && !undetectable;
        let answer = if late {
            Answer::Late(log_uniform(&mut dice, short, long))
        } else if twice {
            Answer::Twice(log_uniform(&mut dice, short, long))
        } else if lost {
            Answer::Lost(status(&mut dice))
        } else if falsely {
            Answer::Failed(Status::Refused)
        } else if refused {
            Answer::Failed(status(&mut dice))
        } else {
            Answer::Fine
        };
        let crash = hit(&mut dice, odds.crash).then(|| match dice.random_range(0..3) {
            0 => Crash::Before,
            1 => Crash::During,
            _ => Crash::After,
        });
        let pause = |dice: &mut SmallRng| {
            hit(dice, odds.pause).then(|| log_uniform(dice, short, self.lease * 4))
        };
        Fate {
            there,
            back,
            answer,
            crash,
            pause_before: pause(&mut dice),
            pause_after: pause(&mut dice),
            jump: hit(&mut dice, odds.jump).then(|| {
                let by = log_uniform(&mut dice, short, Duration::from_secs(40_000));
                let by = i64::try_from(by.as_millis()).unwrap();
                if dice.random() { by } else { -by }
            }),
            survives: dice.random(),
        }
    }

    /// The same history without faults, but for the clocks of whole processes. Requests are fast enough for a renewal.
    pub(super) fn calm(self) -> Self {
        Self {
            odds: Odds {
                slow: self.odds.slow,
                ..Odds::default()
            },
            lease: self.lease.max(Duration::from_secs(60)),
            ..self
        }
    }

    /// The same history without faults: for whoever looks at it afterwards.
    pub(super) fn cleared(&self) -> Self {
        Self {
            odds: Odds::default(),
            half_trip: Duration::from_millis(1),
            page: 1_000,
            attempts: 6,
            ..self.clone()
        }
    }
}

fn pick<T: Copy>(dice: &mut SmallRng, of: &[T]) -> T {
    of[dice.random_range(0..of.len())]
}
