//! What the table should be: rows by key, statements by what they do to them.
//!
//! A row is a number that never changes, as `_id` does not, and a value that no other row or version of it has. So
//! a row that is lost, doubled, brought back or taken from another version shows. Upserts look for a row's key, which a
//! row that comes after it was deleted may have too.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use datafusion_supertable::ErrorKind;
use datafusion_supertable::unstable::format::manifest::SuperfileEntry;
use datafusion_supertable::unstable::format::{OpKind, paths};
use object_store::path::Path;
use tokio::time::Instant;

/// Rows: number and value.
pub(super) type Rows = BTreeMap<u64, u64>;

/// So many keys are inserted by every statement that finds them absent.
pub(super) const UPSERTED: u64 = 12;
/// The rows with one of these keys have numbers from here on.
const FIRST_UPSERTED: u64 = 1 << 32;

/// A row with one of these keys; `fresh` is a number that no other row has.
pub(super) fn upserted(key: u64, fresh: u64) -> u64 {
    FIRST_UPSERTED + fresh * UPSERTED + key
}

/// A row's key. No two rows of a version share it.
pub(super) fn key_of(row: u64) -> u64 {
    match row.checked_sub(FIRST_UPSERTED) {
        Some(upserted) => FIRST_UPSERTED + upserted % UPSERTED,
        None => row,
    }
}

/// How a statement ended, as its caller was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Committed {
        version: u64,
        rows_affected: u64,
    },
    Nothing,
    Conflict,
    /// An error; `OutcomeUnknown` is the only kind after which it may have been committed.
    Failed(ErrorKind),
    /// Its owner took it back.
    Aborted,
}

/// One statement: what it does to the rows of its base.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub op: OpKind,
    pub base: u64,
    /// Rows that it removes, as its base has them.
    pub removes: Rows,
    /// Rows that it adds; the same numbers again for rows that it changes.
    pub adds: Rows,
    pub serializable: bool,
    /// What it sets the table's property to.
    pub property: Option<u64>,
    pub invoked: Instant,
    pub ended: Option<(Instant, Ending)>,
}

impl Statement {
    /// Whether a row that it removes must still be as the base has it.
    fn is_strict(&self) -> bool {
        matches!(self.op, OpKind::Update | OpKind::Merge)
    }

    /// Changes `rows` as the statement does; returns how many rows it should report.
    pub(super) fn apply(&self, rows: &mut Rows) -> Result<u64, String> {
        let mut removed = 0;
        for (row, base) in &self.removes {
            match rows.get(row) {
                Some(now) if now == base => {
                    rows.remove(row);
                    removed += 1;
                }
                Some(now) => return Err(format!("row {row} was {base} and is {now}")),
                None if self.is_strict() => return Err(format!("row {row} is gone")),
                None => {}
            }
        }
        for (row, value) in &self.adds {
            if rows.insert(*row, *value).is_some() {
                return Err(format!("row {row} is there already"));
            }
        }
        let keys: BTreeSet<u64> = rows.keys().copied().map(key_of).collect();
        if keys.len() < rows.len() {
            return Err("two rows have the same key".to_owned());
        }
        let changed = self.adds.keys().filter(|k| self.removes.contains_key(k));
        let changed = changed.count() as u64;
        let added = self.adds.len() as u64 - changed;
        Ok(match self.op {
            OpKind::Overwrite => added,
            OpKind::Compact | OpKind::Alter => 0,
            _ => removed + added,
        })
    }
}

/// Where files are that are not the table's own: nothing may delete one.
pub(super) const OWNERS: &str = "in/";

/// Where a superfile is.
pub(super) fn path_of(entry: &SuperfileEntry) -> Path {
    match &entry.in_place {
        Some(file) => file.place().resolve(&Path::default()),
        None => paths::superfile(&entry.id),
    }
}

/// A superfile's bytes.
pub(super) fn encode(rows: &[(u64, u64)]) -> Bytes {
    let words = rows.iter().flat_map(|(key, value)| [*key, *value]);
    words.flat_map(u64::to_le_bytes).collect::<Vec<_>>().into()
}

/// The rows of a superfile's bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<(u64, u64)>, String> {
    let (rows, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err("a superfile was cut".to_owned());
    }
    let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap());
    Ok(rows
        .iter()
        .map(|row| (word(&row[..8]), word(&row[8..])))
        .collect())
}
