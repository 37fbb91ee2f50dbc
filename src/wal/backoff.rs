//! Waiting between attempts, longer each time and never in step with others.
//!
//! Owns: the delays. Does not own the decision to try again. The jitter comes from the id source, so a
//! seeded simulation replays. A crash leaves nothing.

use std::time::Duration;

use crate::wal::env::Env;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// A delay between half and the whole of `bound`.
pub fn jittered(env: &Env, bound: Duration) -> Duration {
    let [random, ..] = *env.ids.nonce().as_bytes();
    bound / 2 + (bound / 2) * u32::from(random) / 256
}

/// Delays that double, each drawn between half and the whole of its bound.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl Backoff {
    /// Delays that stop growing at `longest`.
    pub fn up_to(longest: Duration) -> Self {
        Self {
            next: FIRST.min(longest),
            longest,
        }
    }

    /// The next delay.
    pub fn delay(&mut self, env: &Env) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.longest);
        jittered(env, bound)
    }

    /// Waits for the next delay.
    pub async fn wait(&mut self, env: &Env) {
        tokio::time::sleep(self.delay(env)).await;
    }
}
