//! Claims: in which directory's place a table of a catalog stands.
//!
//! Owns the reads and writes of pointers by which a table takes another place, and the decisions about them. Does not
//! own which places a name has (the catalog), nor anything that a claim leaves as it is: versions and rows.
//!
//! A table stands in its own directory's place until its pointer says otherwise. To take the place `s`, a
//! *reservation* is created at `s`, which names the table's directory and the number of the claim: one more than
//! the table's last. Then the table's pointer is swung, to the same version, with the claim of `s` and that number.
//!
//! Invariants:
//! - The swing is the only moment at which a table changes its place. It is a swing like any other: it races with
//!   commits, with the drop and with other claims for the one pointer, and every other swing keeps the claim.
//! - A number is given once, because a pointer's numbers only rise. So a reservation is *pending* while the
//!   number is below its own, *in force* while the table stands there, and *void* for ever otherwise. Whoever
//!   will not wait for a pending one gives the number away: the table claims the place that it has once more.
//! - A reservation is marked as dropped when it is void, and then stays so.
//!
//! A crash leaves a pending reservation, or the table in its new place. Nobody needs a clock to tell.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Claim, DropMarker, FormatError, Head, Pointer, Reservation, TableId, paths};
use crate::storage::{CasOutcome, ObjectVersion, Storage};
use crate::wal::Env;

/// What a reservation amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The table may come to stand there.
    Pending(Pointer),
    /// The table stands there.
    InForce,
    /// It never will, or no longer does.
    Void,
}

/// What the process that made a reservation has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimState {
    /// Swing the table's pointer, which is this one.
    Swing(Pointer),
    /// It took effect.
    Done,
    /// It never will: the table was dropped before.
    Dropped,
    /// It never will: this claim was made instead.
    Superseded(Option<Claim>),
    /// Others made the next claims. This one may have been among them.
    Unknown,
}

/// The place in which the table in `directory` stands.
pub(crate) fn slot_of<'a>(directory: &'a str, claim: Option<&'a Claim>) -> &'a str {
    claim.map_or(directory, |claim| &claim.slot)
}

/// The number of a table's last claim.
pub(crate) fn number_of(claim: Option<&Claim>) -> u64 {
    claim.map_or(0, |claim| claim.number)
}

/// What a reservation at `slot` amounts to, by what is found in its table's directory.
///
/// # Errors
/// `Corrupt` if there is what no reservation can be for.
pub(crate) fn standing(
    reservation: &Reservation,
    slot: &str,
    table: Option<&Head>,
) -> Result<Standing> {
    match table {
        None | Some(Head::Dropped(_)) => Ok(Standing::Void),
        Some(Head::Reserved(_)) => Err(not_a_table(&reservation.table)),
        Some(Head::Table(pointer)) => {
            let claim = pointer.claim.as_ref();
            if claim.is_some_and(|claim| claim.slot == slot) {
                Ok(Standing::InForce)
            } else if number_of(claim) < reservation.number {
                Ok(Standing::Pending(pointer.clone()))
            } else {
                Ok(Standing::Void)
            }
        }
    }
}

/// What is to be done for a reservation of one's own; `tried` if a swing for it may have taken effect.
///
/// # Errors
/// As [`standing`].
pub(crate) fn state(
    reservation: &Reservation,
    slot: &str,
    table: Option<&Head>,
    tried: bool,
) -> Result<ClaimState> {
    let (claim, pointer) = match table {
        None => return Ok(ClaimState::Dropped),
        Some(Head::Reserved(_)) => return Err(not_a_table(&reservation.table)),
        Some(Head::Dropped(marker)) => (marker.claim.as_ref(), None),
        Some(Head::Table(pointer)) => (pointer.claim.as_ref(), Some(pointer)),
    };
    if claim.is_some_and(|claim| claim.slot == slot) {
        return Ok(ClaimState::Done);
    }
    Ok(match (number_of(claim), pointer) {
        (number, _) if number > reservation.number && tried => ClaimState::Unknown,
        (number, Some(pointer)) if number < reservation.number => {
            ClaimState::Swing(pointer.clone())
        }
        (_, Some(_)) => ClaimState::Superseded(claim.cloned()),
        (_, None) => ClaimState::Dropped,
    })
}

/// What stands at the pointer's place, and the state of that object.
///
/// # Errors
/// The store's; `Corrupt` or `UnsupportedVersion`.
pub(crate) async fn head(storage: &Storage) -> Result<Option<(Head, ObjectVersion)>> {
    let path = paths::pointer();
    let Some((bytes, state)) = storage.get(&path).await? else {
        return Ok(None);
    };
    let head = Head::decode(&bytes).map_err(|error| FormatError::from(error).at(&path))?;
    Ok(Some((head, state)))
}

/// Reserves a place; says whether it was free.
///
/// # Errors
/// The store's. The place may be reserved then, for a claim that is never made.
pub(crate) async fn reserve(storage: &Storage, reservation: &Reservation) -> Result<bool> {
    let path = paths::pointer();
    let bytes = reservation
        .encode()
        .map_err(|error| FormatError::from(error).at(&path))?;
    match storage.create(&path, bytes).await? {
        CasOutcome::Committed(_) => Ok(true),
        CasOutcome::Lost => Ok(false),
    }
}

/// Swings a table's pointer to the same version with this claim; says whether that is known to have taken effect.
///
/// # Errors
/// The store's: the outcome may be unknown.
pub(crate) async fn swing(
    storage: &Storage,
    env: &Env,
    (pointer, state): (Pointer, &ObjectVersion),
    claim: Claim,
) -> Result<bool> {
    let path = paths::pointer();
    let next = Pointer {
        nonce: env.ids.nonce(),
        claim: Some(claim),
        ..pointer
    };
    let bytes = next
        .encode()
        .map_err(|error| FormatError::from(error).at(&path))?;
    match storage.replace(&path, state, bytes).await? {
        CasOutcome::Committed(_) => Ok(true),
        CasOutcome::Lost => Ok(false),
    }
}

/// Gives the number of a pending reservation's claim away: the table stays where it stands.
///
/// # Errors
/// The store's.
pub(crate) async fn supersede(
    storage: &Storage,
    env: &Env,
    reservation: &Reservation,
    (pointer, state): (Pointer, &ObjectVersion),
) -> Result<()> {
    let slot = slot_of(&reservation.table, pointer.claim.as_ref()).to_owned();
    let number = reservation.number;
    // Lost or not: the caller looks again.
    swing(storage, env, (pointer, state), Claim { slot, number }).await?;
    Ok(())
}

/// Puts a marker in the place of a reservation that is void. Another state than `state` is left.
///
/// # Errors
/// The store's.
pub(crate) async fn mark_dropped(
    storage: &Storage,
    env: &Env,
    state: &ObjectVersion,
) -> Result<()> {
    let path = paths::pointer();
    let marker = DropMarker {
        table_id: TableId::from_uuid(uuid::Uuid::nil()),
        version: 0,
        claim: None,
        nonce: env.ids.nonce(),
    };
    let bytes = marker
        .encode()
        .map_err(|error| FormatError::from(error).at(&path))?;
    match storage.replace(&path, state, bytes).await? {
        CasOutcome::Committed(_) | CasOutcome::Lost => Ok(()),
    }
}

fn not_a_table(directory: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        directory,
        "a name is reserved for the table in this directory, where there is no table",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::tests::samples;

    fn claim(slot: &str, number: u64) -> Claim {
        let slot = slot.to_owned();
        Claim { slot, number }
    }

    fn table(claim: Option<Claim>) -> Head {
        Head::Table(Pointer {
            claim,
            ..samples::pointer()
        })
    }

    fn marker(claim: Option<Claim>) -> Head {
        Head::Dropped(DropMarker {
            table_id: samples::pointer().table_id,
            version: 3,
            claim,
            nonce: uuid::Uuid::from_u128(1),
        })
    }

    fn reservation(number: u64) -> Reservation {
        Reservation {
            table: "t".to_owned(),
            number,
            nonce: uuid::Uuid::from_u128(2),
        }
    }

    #[test]
    fn a_reservation_is_pending_below_its_number_in_force_by_its_slot_and_void_otherwise() {
        let standing = |head: &Head, number| standing(&reservation(number), "u", Some(head));
        let unnamed = table(None);
        let Head::Table(pointer) = unnamed.clone() else {
            unreachable!()
        };
        assert_eq!(standing(&unnamed, 1).unwrap(), Standing::Pending(pointer));
        assert!(matches!(
            standing(&table(Some(claim("v", 2))), 3).unwrap(),
            Standing::Pending(_)
        ));
        // Also when the table has claimed the slot that it has once more.
        for number in [1, 2] {
            let there = table(Some(claim("u", number)));
            assert_eq!(standing(&there, 1).unwrap(), Standing::InForce);
        }
        for (head, number) in [
            (table(Some(claim("v", 1))), 1),
            (table(Some(claim("t", 1))), 1),
            (table(Some(claim("u.2", 5))), 1),
            (marker(None), 1),
            (marker(Some(claim("u", 1))), 1),
        ] {
            assert_eq!(standing(&head, number).unwrap(), Standing::Void);
        }
        let none = super::standing(&reservation(1), "u", None).unwrap();
        assert_eq!(none, Standing::Void);
        let chain = Head::Reserved(reservation(1));
        assert_eq!(standing(&chain, 1).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_owner_learns_from_the_pointer_what_became_of_its_claim() {
        let state = |head: &Head, tried| state(&reservation(2), "u", Some(head), tried).unwrap();
        for tried in [false, true] {
            for (head, expected) in [
                (table(Some(claim("u", 2))), ClaimState::Done),
                (table(Some(claim("u", 9))), ClaimState::Done),
                (marker(Some(claim("u", 2))), ClaimState::Done),
                (marker(Some(claim("t", 1))), ClaimState::Dropped),
                (marker(None), ClaimState::Dropped),
                (
                    table(Some(claim("v", 2))),
                    ClaimState::Superseded(Some(claim("v", 2))),
                ),
            ] {
                assert_eq!(state(&head, tried), expected, "{head:?}");
            }
            assert!(matches!(state(&table(None), tried), ClaimState::Swing(_)));
            assert!(matches!(
                state(&table(Some(claim("v", 1))), tried),
                ClaimState::Swing(_)
            ));
        }
        // Ours can be the claim before the last.
        for head in [table(Some(claim("v", 3))), marker(Some(claim("v", 3)))] {
            assert_eq!(state(&head, true), ClaimState::Unknown);
        }
        let later = table(Some(claim("v", 3)));
        assert_eq!(
            state(&later, false),
            ClaimState::Superseded(Some(claim("v", 3)))
        );
        assert_eq!(
            state(&marker(Some(claim("v", 3))), false),
            ClaimState::Dropped
        );
        let none = super::state(&reservation(2), "u", None, true).unwrap();
        assert_eq!(none, ClaimState::Dropped);
    }

    #[tokio::test]
    async fn of_two_claims_with_one_number_one_is_made_and_commits_keep_it() {
        use std::sync::Arc;

        use arrow::datatypes::{DataType, Field, Schema};
        use object_store::memory::InMemory;

        use crate::format::{OpKind, SuperfileId};
        use crate::storage::RetryPolicy;
        use crate::table::{CommitOutcome, CreateTable, Effect, Table, VacuumOptions};

        let storage = Storage::new(Arc::new(InMemory::new()), &"t".into(), RetryPolicy::never());
        let env = Env::system();
        let spec = CreateTable {
            schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)])),
            properties: Default::default(),
            defaults: Default::default(),
            sort_order: Vec::new(),
            keys: Vec::new(),
        };
        let open = Table::create(storage.clone(), env.clone(), spec)
            .await
            .unwrap();
        let Some((Head::Table(pointer), state)) = head(&storage).await.unwrap() else {
            unreachable!()
        };
        let swing = |slot| swing(&storage, &env, (pointer.clone(), &state), claim(slot, 1));
        assert!(swing("u").await.unwrap());
        assert!(!swing("v").await.unwrap());
        // A handle that was open before commits on, under the new name.
        let mut metadata = open.metadata().as_ref().clone();
        metadata.properties.insert("k".to_owned(), "v".to_owned());
        let mutation = open.begin(OpKind::Alter, open.cached_snapshot(), String::new());
        let effect = Effect {
            metadata: Some(metadata),
            ..Effect::default()
        };
        let outcome = mutation.commit(effect).await.unwrap();
        assert!(matches!(
            outcome,
            CommitOutcome::Committed { version: 2, .. }
        ));
        let snapshot = open.snapshot().await.unwrap();
        assert_eq!(
            (snapshot.version(), snapshot.claim()),
            (2, Some(&claim("u", 1)))
        );
        // A vacuum writes the pointer anew while a statement is under way.
        let begun = open.begin(OpKind::Alter, snapshot, String::new());
        while open.wal().list_wal_ids().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let stray = paths::superfile(&SuperfileId::from_uuid(uuid::Uuid::from_u128(5)));
        storage.put_immutable(&stray, "stray".into()).await.unwrap();
        let (_, before) = head(&storage).await.unwrap().unwrap();
        open.vacuum(VacuumOptions::default()).await.unwrap();
        let (_, after) = head(&storage).await.unwrap().unwrap();
        assert_ne!(before, after, "fenced");
        drop(begun);
        open.settle().await;
        let again = Table::open(storage.clone(), env.clone()).await.unwrap();
        assert_eq!(again.cached_snapshot().claim(), Some(&claim("u", 1)));
        again.settle().await;
        open.drop_table().await.unwrap();
        let Some((Head::Dropped(marker), _)) = head(&storage).await.unwrap() else {
            unreachable!()
        };
        assert_eq!(marker.claim, Some(claim("u", 1)));
    }

    #[tokio::test]
    async fn a_reserved_place_is_free_for_nobody_and_marked_as_dropped_it_stays_so() {
        use std::sync::Arc;

        use object_store::memory::InMemory;

        use crate::storage::RetryPolicy;
        use crate::table::Table;
        use crate::table::{is_dropped_table, is_reservation};

        let storage = Storage::new(Arc::new(InMemory::new()), &"u".into(), RetryPolicy::never());
        let env = Env::system();
        assert!(reserve(&storage, &reservation(1)).await.unwrap());
        assert!(!reserve(&storage, &reservation(2)).await.unwrap());
        let error = Table::open(storage.clone(), env.clone()).await.unwrap_err();
        assert!(
            is_reservation(&error) && !is_dropped_table(&error),
            "{error}"
        );
        let Some((_, state)) = head(&storage).await.unwrap() else {
            unreachable!()
        };
        mark_dropped(&storage, &env, &state).await.unwrap();
        mark_dropped(&storage, &env, &state).await.unwrap();
        let error = Table::open(storage.clone(), env.clone()).await.unwrap_err();
        assert!(is_dropped_table(&error), "{error}");
        assert!(!reserve(&storage, &reservation(2)).await.unwrap());
    }
}
