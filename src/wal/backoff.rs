//! Waiting between attempts, longer each time and never in step with others.
//!
//! Owns: the delays. Does not own the decision to try again. The jitter comes from the id source, so a
//! seeded simulation replays. A crash leaves nothing.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::wal::env::Env;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// A delay between half and the whole of `bound`.
pub(crate) fn jittered(env: &Env, bound: Duration) -> Duration {
    let [random, ..] = *env.ids.nonce().as_bytes();
    bound / 2 + (bound / 2) * u32::from(random) / 256
}

/// Delays that double, each drawn between half and the whole of its bound.
#[derive(Debug)]
pub(crate) struct Backoff {
    bounds: ExponentialBackoff,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl Backoff {
    /// Delays that stop growing at `longest`.
    pub(crate) fn up_to(longest: Duration) -> Self {
        let bounds = ExponentialBuilder::default()
            .with_min_delay(FIRST.min(longest))
            .with_max_delay(longest)
            .with_factor(2.0)
            .without_max_times()
            .build();
        Self { bounds, longest }
    }

    /// The next delay.
    pub(crate) fn delay(&mut self, env: &Env) -> Duration {
        jittered(env, self.bounds.next().unwrap_or(self.longest))
    }

    /// Waits for the next delay.
    pub(crate) async fn wait(&mut self, env: &Env) {
        tokio::time::sleep(self.delay(env)).await;
    }
}
