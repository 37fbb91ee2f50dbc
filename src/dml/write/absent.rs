//! The keys that a `MERGE` found absent, gathered from the rows that it inserts.
//!
//! Owns: from the plan's columns to what the change set says of the keys, in bounded memory. Does not own which columns
//! they are (`plan::absent`), nor what keys are to a commit (`format::keys`).
//!
//! Invariant: each inserted row's key is among the keys, as the plan found it absent and as it is written.

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter;
use arrow::datatypes::Int8Type;
use datafusion::common::Result;

use super::action::{ACTION, ACTION_INSERT};
use crate::dml::keys::gather::{gather, whole_rows};
use crate::format::keys::{AbsentKeys, KeyGatherer};
use crate::format::manifest::SuperfileEntry;

/// What names a plan's column with the values of a key column, before the field id.
const KEY: &str = "__supertable_key_";

/// The plan's column with the values of the key column with this field id.
pub(crate) fn key_column(field_id: i32) -> String {
    format!("{KEY}{field_id}")
}

/// The columns by which a `MERGE` finds keys absent.
#[derive(Clone, Debug)]
pub(crate) struct AbsentColumns {
    /// The field ids of key columns, ascending, and their names. None: nothing is known of the keys.
    pub(crate) keys: Vec<(i32, String)>,
    /// Whether a row of the target may get another key.
    pub(crate) sets_key: bool,
}

/// Gathers keys from the batches of a `MERGE`.
pub(super) struct AbsentRows {
    columns: AbsentColumns,
    gatherer: KeyGatherer,
    inserts: bool,
    /// Whether keys that were not gathered one by one are written otherwise than they were found absent.
    differs: bool,
}

impl AbsentRows {
    pub(super) fn new(columns: AbsentColumns) -> Self {
        let ids = columns.keys.iter().map(|(id, _)| *id).collect();
        Self {
            columns,
            gatherer: KeyGatherer::new(ids),
            inserts: false,
            differs: false,
        }
    }

    /// Adds the keys of a batch's inserted rows.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let actions = column(batch, ACTION)?.as_primitive::<Int8Type>();
        let inserted: BooleanArray = (actions.iter())
            .map(|action| Some(action == Some(ACTION_INSERT)))
            .collect();
        if inserted.true_count() == 0 {
            return Ok(());
        }
        self.inserts = true;
        if self.columns.keys.is_empty() {
            return Ok(());
        }
        let of = |name: &str| Ok(filter(column(batch, name)?, &inserted)?);
        let keys = self.columns.keys.iter();
        let absent: Vec<ArrayRef> = keys
            .clone()
            .map(|(id, _)| of(&key_column(*id)))
            .collect::<Result<_>>()?;
        let written: Vec<ArrayRef> = keys.map(|(_, name)| of(name)).collect::<Result<_>>()?;
        let differs = absent != written;
        if !self.gatherer.is_full() {
            self.add_each(&absent)?;
            if differs {
                self.add_each(&written)?;
            }
        }
        // From here on only the superfiles' statistics tell of the keys, and they tell what is written.
        self.differs |= differs && self.gatherer.is_full();
        Ok(())
    }

    fn add_each(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let Some(whole) = whole_rows(columns)? else {
            return gather(&mut self.gatherer, columns);
        };
        let columns = columns.iter().map(|column| Ok(filter(column, &whole)?));
        gather(&mut self.gatherer, &columns.collect::<Result<Vec<_>>>()?)
    }

    /// The keys of all inserted rows, which are in the superfiles `added`.
    pub(super) fn finish(mut self, added: &[SuperfileEntry]) -> Option<AbsentKeys> {
        if !self.inserts {
            return None;
        }
        if self.columns.keys.is_empty() {
            return Some(AbsentKeys::unknown());
        }
        if self.differs {
            self.gatherer.add_unknown();
        } else {
            let stats = added.iter().map(|entry| &entry.stats);
            self.gatherer.complete(stats);
        }
        self.gatherer.finish(self.columns.sets_key)
    }
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef> {
    Ok(batch.column(batch.schema_ref().index_of(name)?))
}
