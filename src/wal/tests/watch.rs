//! Judging owners by an observer's own time.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::format::WalId;
use crate::wal::{Etag, Standing, Watch};

const LEASE: Duration = Duration::from_secs(60);

fn id(n: u32) -> WalId {
    WalId::new(1, 1, n)
}

fn etag(n: u32) -> Etag {
    Etag::from(n.to_string().as_str())
}

#[test]
fn a_state_is_abandoned_after_a_lease_between_two_answers_and_not_before() {
    let (watch, start) = (Watch::new(LEASE), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let look = |state: Option<u32>, asked, answered| {
        let state = state.map(etag);
        watch.note(&id(1), state.as_ref(), at(asked), at(answered))
    };
    assert_eq!(look(Some(1), 0, 10), Standing::New);
    // Counted from the first answer to the last request.
    assert_eq!(look(Some(1), 69, 75), Standing::Stands);
    assert!(!watch.is_abandoned(&id(1), &etag(1)));
    assert_eq!(look(Some(1), 70, 71), Standing::Abandoned);
    assert!(watch.is_abandoned(&id(1), &etag(1)));
    assert!(!watch.is_abandoned(&id(1), &etag(2)));
    assert_eq!(look(Some(2), 200, 200), Standing::Moved);
    assert_eq!(look(Some(2), 259, 259), Standing::Stands);
    // The document is gone, and its change set is not.
    assert_eq!(look(None, 260, 260), Standing::Moved);
    assert_eq!(look(None, 320, 320), Standing::Abandoned);
    watch.retain(&HashSet::from([id(2)]));
    assert_eq!(look(None, 900, 900), Standing::New);
}

proptest! {
    #[test]
    fn an_owner_that_renews_within_a_lease_is_never_abandoned(
        looks in prop::collection::vec((1u64..30_000, 0u64..5_000), 1..200),
        renews_every in 1_000u64..60_000,
    ) {
        let (watch, start) = (Watch::new(LEASE), Instant::now());
        let mut now = 0;
        for (pause, trip) in looks {
            let asked = now + pause;
            // What the store holds when the request arrives.
            let state = etag(u32::try_from((asked + trip / 2) / renews_every).unwrap());
            now = asked + trip;
            let at = |ms| start + Duration::from_millis(ms);
            let standing = watch.note(&id(1), Some(&state), at(asked), at(now));
            prop_assert_ne!(standing, Standing::Abandoned);
        }
    }
}
