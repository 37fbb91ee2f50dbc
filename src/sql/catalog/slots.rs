//! Which table a name means, and how a name gets one.
//!
//! A name has a *chain* of directories, its slots: `t`, `t.2`, `t.3` … A slot is made once, create-only: by
//! `CREATE TABLE t`, with a table's pointer, or by a rename to `t`, with a reservation for a table whose
//! directory is another (`claim`). A slot is *passed* when nothing will stand there any more: its table was
//! dropped or has claimed another slot, or its reservation is void; and passed it stays.
//!
//! Invariants:
//! - A process makes slot n + 1 only after it has seen that slot n is passed. So all slots but the last one are
//!   passed, and at most one table has the name: the one that stands in the last slot.
//! - Where a table stands, its own pointer says. One read of it therefore answers whether a table that was found
//!   before still has the name, and is the read that a statement makes anyway.
//! - A directory is left to the table that was created in it, whatever it is called: a process that works on the table
//!   goes by the directory, and no rename harms them.
//!
//! A reader that finds no table in the last slot says that there is none: at some moment since it listed the
//! slots, that was so. A crash leaves a slot that is empty but for manifest nodes, or one that is reserved;
//! [`make_slot`] uses the first, and passes the second after waiting for a while.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use tokio::time::Instant;

use super::claim::{self, Standing, slot_of};
use super::errors::exists;
use super::names::{encode, name_of, table_directory, table_of};
use super::state::CatalogState;
use crate::dml::SupertableProvider;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Head, Reservation};
use crate::scan::schema::session_schema;
use crate::sql::location::resolve;
use crate::sql::table::{CreateOptions, create_at, open_again, open_table};
use crate::storage::Storage;
use crate::table::{Snapshot, is_dropped_table, is_no_table, is_reservation, sweep};

/// Slots of one name that others may pass while one more is being made.
const RACES: usize = 64;

/// How long a rename that has reserved a name is left alone by other processes that want the name.
const RESERVATION_TIMEOUT: Duration = Duration::from_secs(2);

/// The first wait for it; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// What may be tried for one slot, all of it in vain because others were first.
const ATTEMPTS: usize = 64;

/// A table that a name means, at a moment of the lookup.
#[derive(Clone)]
pub(super) struct NamedTable {
    /// The table's directory.
    pub(super) directory: String,
    pub(super) provider: SupertableProvider,
    /// Its version at that moment, with the claim that gives it the name.
    pub(super) snapshot: Arc<Snapshot>,
}

impl NamedTable {
    /// The slot in which it stands.
    pub(super) fn slot(&self) -> &str {
        slot_of(&self.directory, self.snapshot.claim())
    }
}

/// What a directory has.
enum Content {
    Nothing,
    /// A marker, or what is one by now.
    Dropped,
    Reserved(Reservation),
    Table(Box<NamedTable>),
}

/// What a slot is made with.
pub(super) enum SlotContent<'a> {
    /// A new table.
    Table {
        columns: &'a Schema,
        options: &'a CreateOptions,
        /// Whether it is to appear with its first rows only.
        unseen: bool,
    },
    /// A table that is there.
    Reservation(&'a Reservation),
}

/// A slot that was made.
pub(super) struct MadeSlot {
    pub(super) directory: String,
    /// The table, if it is a new one.
    pub(super) provider: Option<SupertableProvider>,
}

/// What became of a slot that was not free.
enum OccupiedSlot {
    /// A table stands in it.
    Table,
    Passed,
    /// It is another's no longer, or not yet.
    Changed,
}

/// The table of this name.
pub(super) async fn find(
    catalog: &CatalogState,
    schema: &str,
    name: &str,
) -> Result<Option<NamedTable>> {
    let (Ok(place), Ok(first)) = (encode(schema), table_directory(name, 1)) else {
        return Ok(None);
    };
    if let Some(known) = catalog.known_directory(&place, name) {
        match content(catalog, &place, &known).await? {
            Content::Table(found) if name_of(found.slot())? == name => return Ok(Some(*found)),
            _ => catalog.forget(&place, name),
        }
    }
    let mut found = match content(catalog, &place, &first).await? {
        Content::Nothing => return Ok(None),
        content => standing_in(catalog, &place, &first, content).await?,
    };
    if found.is_none() {
        let last = table_directory(name, latest(catalog, &place, name).await?)?;
        if last != first {
            let content = content(catalog, &place, &last).await?;
            found = standing_in(catalog, &place, &last, content).await?;
        }
    }
    if let Some(found) = &found {
        catalog.remember(&place, name, &found.directory);
    }
    Ok(found)
}

/// The table that stands in a slot with this content.
async fn standing_in(
    catalog: &CatalogState,
    place: &str,
    slot: &str,
    found: Content,
) -> Result<Option<NamedTable>> {
    let found = match found {
        Content::Reserved(reservation) => content(catalog, place, &reservation.table).await?,
        other => other,
    };
    Ok(match found {
        Content::Table(found) if found.slot() == slot => Some(*found),
        _ => None,
    })
}

/// What a directory of the schema in `place` has; a table is opened, unless it is open.
async fn content(catalog: &CatalogState, place: &str, directory: &str) -> Result<Content> {
    let opened = match catalog.opened(place, directory) {
        Some(known) => match known.table().snapshot().await {
            Ok(snapshot) if session_schema(&snapshot.schema()) == known.schema() => {
                Ok((known, snapshot))
            }
            Ok(snapshot) => Ok((
                catalog.keep(place, directory, open_again(&catalog.opener(), &known)?),
                snapshot,
            )),
            Err(error) => Err(error),
        },
        None => open_table(&catalog.opener(), &catalog.location(place, directory))
            .await
            .map(|provider| {
                let snapshot = provider.table().cached_snapshot();
                (catalog.keep(place, directory, provider), snapshot)
            }),
    };
    match opened {
        Ok((provider, snapshot)) => Ok(Content::Table(Box::new(NamedTable {
            directory: directory.to_owned(),
            provider,
            snapshot,
        }))),
        Err(error) if is_reservation(&error) => {
            let storage = catalog.storage_of(place, directory)?;
            Ok(match claim::head(&storage).await? {
                Some((Head::Reserved(reservation), _)) => Content::Reserved(reservation),
                _ => Content::Dropped,
            })
        }
        Err(error) if is_no_table(&error) => {
            catalog.close(place, directory);
            Ok(match is_dropped_table(&error) {
                true => Content::Dropped,
                false => Content::Nothing,
            })
        }
        Err(error) => Err(error),
    }
}

/// The number of the last slot of a name.
async fn latest(catalog: &CatalogState, place: &str, name: &str) -> Result<u32> {
    let directories = catalog.directories(Some(place)).await?;
    let numbers = directories.iter().filter_map(|directory| {
        let (of, number) = table_of(directory)?;
        (of == name).then_some(number)
    });
    Ok(numbers.max().unwrap_or(1))
}

/// Makes the next slot of a name.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if a table has the name; [`ErrorKind::Conflict`] if others keep making
/// the next slot first.
pub(super) async fn make_slot(
    catalog: &CatalogState,
    schema: &str,
    name: &str,
    with: SlotContent<'_>,
) -> Result<MadeSlot> {
    let place = encode(schema)?;
    let state = catalog.opener();
    let mut number = latest(catalog, &place, name).await?;
    for _ in 0..RACES {
        let directory = table_directory(name, number)?;
        let (storage, _) = resolve(&state, &catalog.location(&place, &directory))?;
        if let Some(taken) = make(catalog, &state, &place, &directory, &storage, &with).await? {
            return Ok(taken);
        }
        match meet(catalog, &state, &place, &directory, &storage).await? {
            OccupiedSlot::Table => return Err(exists(schema, name)),
            OccupiedSlot::Passed => number = number.saturating_add(1),
            OccupiedSlot::Changed => {}
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!("{schema}.{name}"),
        "other processes keep creating, dropping and renaming tables of this name; nothing was changed",
    ))
}

/// Makes a slot; `None` if there is something.
async fn make(
    catalog: &CatalogState,
    state: &SessionState,
    place: &str,
    directory: &str,
    storage: &Storage,
    with: &SlotContent<'_>,
) -> Result<Option<MadeSlot>> {
    let provider = match with {
        SlotContent::Reservation(reservation) => {
            match claim::reserve(storage, reservation).await? {
                true => None,
                false => return Ok(None),
            }
        }
        SlotContent::Table {
            columns,
            options,
            unseen,
        } => {
            let location = catalog.location(place, directory);
            match create_at(state, &location, columns, (*options).clone(), *unseen).await {
                Ok(provider) => Some(provider),
                Err(error) if is_dropped_table(&error) || is_reservation(&error) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    };
    Ok(Some(MadeSlot {
        directory: directory.to_owned(),
        provider,
    }))
}

/// Sees what has a slot, and whether it can be passed. A reservation is waited for, but not for ever.
async fn meet(
    catalog: &CatalogState,
    state: &SessionState,
    place: &str,
    slot: &str,
    storage: &Storage,
) -> Result<OccupiedSlot> {
    let deadline = Instant::now() + RESERVATION_TIMEOUT;
    let mut wait = FIRST_WAIT;
    let mut attempts = 0;
    while attempts < ATTEMPTS {
        let (reservation, reserved) = match claim::head(storage).await? {
            None => return Ok(OccupiedSlot::Changed),
            Some((Head::Table(pointer), _)) => {
                return Ok(match slot_of(slot, pointer.claim.as_ref()) == slot {
                    true => OccupiedSlot::Table,
                    false => OccupiedSlot::Passed,
                });
            }
            Some((Head::Dropped(_), _)) => {
                // What a drop did not get to delete, or the process that lost the slot.
                sweep(storage).await?;
                return Ok(OccupiedSlot::Passed);
            }
            Some((Head::Reserved(reservation), reserved)) => (reservation, reserved),
        };
        let (table, _) = resolve(state, &catalog.location(place, &reservation.table))?;
        let found = claim::head(&table).await?;
        let head = found.as_ref().map(|(head, _)| head);
        match (claim::standing(&reservation, slot, head)?, &found) {
            (Standing::InForce, _) => return Ok(OccupiedSlot::Table),
            (Standing::Pending(_), _) if Instant::now() < deadline => {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            (Standing::Pending(pointer), Some((_, version))) => {
                attempts += 1;
                claim::supersede(&table, catalog.env(), &reservation, (pointer, version)).await?;
            }
            (Standing::Pending(_), None) => return Ok(OccupiedSlot::Changed),
            (Standing::Void, _) => {
                attempts += 1;
                claim::mark_dropped(storage, catalog.env(), &reserved).await?;
            }
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        slot,
        "the name is kept for another table, and writers to that table leave no moment to take it back; \
         nothing was changed",
    ))
}
