//! Writers of several processes at one pointer: which of them drafts the next version, and which wait to be in it.
//!
//! When all that meet at the pointer draft, one of them wins and the others drafted in vain, as often as there
//! are writers. So the process with the *oldest* ready mutation leads: it takes along all that are ready, and
//! those that are about to be. The others follow: they only watch the pointer until they are committed.
//!
//! Owns: that choice, as pure functions. Does not own reading what it is made from (`observe`), nor the steps of
//! leaders and followers (`group`).
//! Invariant: nothing here is a safety argument. Two that lead at once race for the pointer as always; a
//! leader that died costs its followers their patience, once, and no more.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::format::{StateDoc, WalId, WalState};

/// Polls of the pointer before a follower gives its leader up. From APPENDED, a leader that takes
/// others along needs ten round trips to the swing at most, and half as many as a rule.
const FOLLOWER_POLLS: u32 = 10;

/// So many more for each ready mutation that is older than the follower's: those whose leader died must not
/// all lead at once.
const FOLLOWER_POLLS_PER_RANK: u32 = 2;

/// What a process with ready mutations does in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Draft and swing.
    Lead,
    /// Watch the pointer, so many times, and lead if it did not move.
    Follow {
        /// How often.
        polls: u32,
    },
}

/// The role of a process whose ready mutations are `mine`, where those of others are `others`.
pub(crate) fn elect(
    mine: impl IntoIterator<Item = WalId>,
    others: impl IntoIterator<Item = WalId>,
) -> Role {
    let Some(oldest) = mine.into_iter().min() else {
        return Role::Lead;
    };
    let older = others.into_iter().filter(|id| *id < oldest).count();
    match u32::try_from(older) {
        Ok(0) => Role::Lead,
        older => Role::Follow {
            polls: FOLLOWER_POLLS.saturating_add(
                FOLLOWER_POLLS_PER_RANK.saturating_mul(older.unwrap_or(u32::MAX).saturating_sub(1)),
            ),
        },
    }
}

/// Whether a document that is not APPENDED yet is worth a leader's wait: its statement began lately, so it is
/// likely a short one that will be ready soon.
pub(crate) fn is_upcoming(doc: &StateDoc, now: DateTime<Utc>, within: Duration) -> bool {
    doc.state == WalState::Intent
        && now
            .signed_duration_since(doc.created_at)
            .abs()
            .to_std()
            .is_ok_and(|age| age <= within)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::format::OpKind;

    fn id(n: u32) -> WalId {
        WalId::new(1_700_000_000_000, 1, n)
    }

    #[test]
    fn the_oldest_ready_mutation_leads() {
        assert_eq!(elect([id(1), id(7)], [id(2), id(3)]), Role::Lead);
        assert_eq!(elect([id(1)], []), Role::Lead);
        assert!(matches!(elect([id(4)], [id(2)]), Role::Follow { .. }));
    }

    #[test]
    fn of_any_group_exactly_one_leads() {
        for group in 1..9 {
            let leaders = (0..group).filter(|mine| {
                let others = (0..group).filter(|other| other != mine).map(id);
                elect([id(*mine)], others) == Role::Lead
            });
            assert_eq!(leaders.count(), 1);
        }
    }

    #[test]
    fn followers_lose_patience_one_after_the_other() {
        let polls = |mine| match elect([id(mine)], (0..mine).map(id)) {
            Role::Follow { polls } => polls,
            Role::Lead => 0,
        };
        assert!((0..8).all(|mine| polls(mine) < polls(mine + 1)));
    }

    #[test]
    fn only_statements_that_began_lately_are_waited_for() {
        let now = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let began = |ms| {
            let at = now - TimeDelta::milliseconds(ms);
            StateDoc::intent(id(1), OpKind::Delete, at, 1, Uuid::nil())
        };
        let within = Duration::from_secs(1);
        assert!(is_upcoming(&began(0), now, within));
        assert!(is_upcoming(&began(900), now, within));
        // The clock of its process is ahead of ours.
        assert!(is_upcoming(&began(-900), now, within));
        assert!(!is_upcoming(&began(1_100), now, within));
        assert!(!is_upcoming(&began(-1_100), now, within));
        let mut appended = began(0);
        appended.state = WalState::Appended;
        assert!(!is_upcoming(&appended, now, within));
    }
}
