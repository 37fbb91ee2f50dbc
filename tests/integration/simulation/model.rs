//! What the table should be: rows by key, statements by what they do to them.
//!
//! A row is a key that never changes, as `_id` does not, and a value that no other row or version of it has. So
//! a row that is lost, doubled, brought back or taken from another version shows.

use std::collections::BTreeMap;

use bytes::Bytes;
use datafusion_supertable::ErrorKind;
use datafusion_supertable::unstable::format::manifest::SuperfileEntry;
use datafusion_supertable::unstable::format::{OpKind, paths};
use object_store::path::Path;
use tokio::time::Instant;

/// Rows: key and value.
pub(super) type Rows = BTreeMap<u64, u64>;

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
    /// Rows that it adds; the same keys again for rows that it changes.
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
        for (key, base) in &self.removes {
            match rows.get(key) {
                Some(now) if now == base => {
                    rows.remove(key);
                    removed += 1;
                }
                Some(now) => return Err(format!("row {key} was {base} and is {now}")),
                None if self.is_strict() => return Err(format!("row {key} is gone")),
                None => {}
            }
        }
        for (key, value) in &self.adds {
            if rows.insert(*key, *value).is_some() {
                return Err(format!("row {key} is there already"));
            }
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
