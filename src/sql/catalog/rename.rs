//! `ALTER TABLE t RENAME TO u`: a table of a catalog takes a slot of another name.
//!
//! Owns the order of the steps. Does not own what they do: the slots of a name are `slots`', the claim is
//! `claim`'s.
//!
//! 1. The next slot of `u` is reserved for the table. From then on no other table can get the name.
//! 2. The table's pointer is swung to the claim of that slot: it is called `u`, and not `t` any more.
//! 3. If the table stood in another's place before, that reservation is void, and is marked as dropped.
//!
//! Invariant: the second step is the rename. A crash before it leaves a reservation, which the next process that wants the
//! name `u` passes; after it, at most a reservation that is void.

use std::time::Duration;

use datafusion::catalog::Session;

use super::claim::{self, ClaimState, number_of, slot_of};
use super::errors::{exists, no_such_table};
use super::names::{encode, name_of};
use super::slots::{NamedTable, SlotContent, find, make_slot};
use super::state::CatalogState;
use crate::config::SupertableOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Claim, Head, Reservation};

/// Swings that may be lost to statements that commit to the table meanwhile.
const ATTEMPTS: usize = 64;

/// The wait after a lost swing: it grows up to this.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Gives the table `name` another name, on behalf of `session`. Statements that are planned or under way go on.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such table, [`ErrorKind::AlreadyExists`] if there is one with the
/// new name, `Conflict` if other sessions came first in another way: nothing was changed then.
/// [`ErrorKind::ReadOnly`] in a session that only reads. `OutcomeUnknown` if the store does not say whether the rename took effect.
pub(super) async fn rename_table(
    catalog: &CatalogState,
    session: &dyn Session,
    schema: &str,
    name: &str,
    to: &str,
) -> Result<()> {
    SupertableOptions::of(session.config_options()).check_writable("ALTER TABLE … RENAME TO")?;
    if catalog.has_other(schema, name) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{schema}.{name}"),
            "a view, or a table of another format, is this session's own; create it under another name",
        ));
    }
    encode(to)?;
    let Some(found) = find(catalog, schema, name).await? else {
        return Err(no_such_table(schema, name));
    };
    if name == to || catalog.has_other(schema, to) {
        return Err(exists(schema, to));
    }
    let number = number_of(found.snapshot.claim()).checked_add(1);
    let reservation = Reservation {
        table: found.directory.clone(),
        number: number.ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                &found.directory,
                "the table was renamed too often",
            )
        })?,
        nonce: catalog.env().ids.nonce(),
    };
    let place = encode(schema)?;
    let slot = make_slot(catalog, schema, to, SlotContent::Reservation(&reservation))
        .await
        .map_err(|error| not_begun(schema, name, error))?
        .directory;
    let renamed = claim_slot(catalog, &place, &found, &reservation, &slot).await;
    catalog.forget(&place, name);
    match renamed {
        Ok(true) => {
            catalog.remember(&place, to, &found.directory);
            if found.slot() != found.directory {
                release_void(catalog, &place, found.slot()).await;
            }
            Ok(())
        }
        Ok(false) => {
            release_void(catalog, &place, &slot).await;
            Err(no_such_table(schema, name))
        }
        Err(error) => {
            if error.kind() == ErrorKind::Conflict {
                release_void(catalog, &place, &slot).await;
            }
            Err(error)
        }
    }
}

/// Swings the table's pointer to the claim of a reserved slot; `false` if the table has lost its name before.
async fn claim_slot(
    catalog: &CatalogState,
    place: &str,
    found: &NamedTable,
    reservation: &Reservation,
    slot: &str,
) -> Result<bool> {
    let storage = catalog.storage_of(place, &found.directory)?;
    let old = name_of(found.slot())?;
    let mut wait = Duration::from_millis(1);
    let mut tried = 0;
    loop {
        let head = match claim::head(&storage).await {
            // Of a swing that was lost it is not said that it never took effect.
            Err(error) if tried > 0 => {
                let why = "whether the rename took effect cannot be read";
                return Err(Error::new(ErrorKind::OutcomeUnknown, old, why).with_source(error));
            }
            head => head?,
        };
        let step = claim::state(
            reservation,
            slot,
            head.as_ref().map(|(head, _)| head),
            tried > 0,
        )?;
        match (step, &head) {
            (ClaimState::Done, _) => return Ok(true),
            // None of the swings that were lost can take effect any more, and there will be no other.
            (ClaimState::Swing(_), _) if tried == ATTEMPTS => {
                return Err(conflict(
                    &old,
                    "statements kept committing to the table first; nothing was changed",
                ));
            }
            (ClaimState::Swing(pointer), Some((_, state))) => {
                let claim = Claim {
                    slot: slot.to_owned(),
                    number: reservation.number,
                };
                if claim::swing(&storage, catalog.env(), (pointer, state), claim).await? {
                    return Ok(true);
                }
                tried += 1;
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            (ClaimState::Swing(_) | ClaimState::Dropped, _) => return Ok(false),
            (ClaimState::Superseded(claim), _) => {
                if name_of(slot_of(&found.directory, claim.as_ref()))? != old {
                    return Ok(false);
                }
                return Err(conflict(
                    &old,
                    "another session did not wait for this rename; nothing was changed, and it can be tried again",
                ));
            }
            (ClaimState::Unknown, _) => {
                return Err(Error::new(
                    ErrorKind::OutcomeUnknown,
                    old,
                    "other sessions have renamed the table meanwhile; whether this rename came before is not known",
                ));
            }
        }
    }
}

/// Marks a reservation as dropped for a claim that no process will make any more. Best effort: the next process that wants the slot's
/// name does it otherwise.
async fn release_void(catalog: &CatalogState, place: &str, slot: &str) {
    let marked = async {
        let storage = catalog.storage_of(place, slot)?;
        match claim::head(&storage).await? {
            Some((Head::Reserved(_), state)) => {
                claim::mark_dropped(&storage, catalog.env(), &state).await
            }
            _ => Ok(()),
        }
    };
    if let Err(error) = marked.await {
        tracing::debug!(%error, slot, "a reservation is left");
    }
}

/// An error while the new name was being reserved: whatever is reserved, the table keeps its name.
fn not_begun(schema: &str, name: &str, error: Error) -> Error {
    match error.kind() {
        ErrorKind::OutcomeUnknown => Error::new(
            ErrorKind::Storage,
            format!("{schema}.{name}"),
            "the new name could not be reserved; nothing was changed",
        )
        .with_source(error),
        _ => error,
    }
}

fn conflict(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::Conflict, name, why)
}
