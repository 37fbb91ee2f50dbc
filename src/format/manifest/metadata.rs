//! What a table is, apart from its rows.
//!
//! Owns these values and what follows from them alone. Does not own which changes of them are allowed
//! (`table::schema`).

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::{FieldRef, SchemaRef};

use super::schema::{PhysicalName, SchemaError, check_field_ids, field_id, physical_names};
use crate::format::ids::TableId;

/// One column of the order in which writers sort rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortColumn {
    /// The column's name.
    pub name: String,
    /// Greatest first.
    pub descending: bool,
    /// NULLs before values.
    pub nulls_first: bool,
}

/// What a table is, apart from its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMetadata {
    /// The table.
    pub table_id: TableId,
    /// Its columns. Each field, nested ones included, carries its field id and physical name in its metadata:
    /// see [`schema`](super::schema).
    pub schema: SchemaRef,
    /// Options that a user gave by key (`supertable.*`), and others that name a key.
    pub properties: BTreeMap<String, String>,
    /// What an `INSERT` that leaves a column out fills in, as SQL: by the column's name.
    pub defaults: BTreeMap<String, String>,
    /// The values that rows have which were written before a column was there, as text that casts to the column's
    /// type: by the column's field id. One that has none is NULL there. It never changes: that of an old row is not
    /// what an `INSERT` fills in today.
    pub initial_defaults: BTreeMap<i32, String>,
    /// How many adoptions of files there were. Two of them at once would not see each other's files, and might add
    /// the same one twice: as both change this, one of them runs again.
    pub adoptions: u64,
    /// The order in which writers sort rows; empty: none.
    pub sort_order: Vec<SortColumn>,
    /// The id that the next new field gets. Ids are never used twice.
    pub next_field_id: i32,
    /// Physical names of fields that were dropped. Physical names are never used twice.
    pub retired_names: BTreeSet<PhysicalName>,
}

impl TableMetadata {
    /// Checks the schema's field ids.
    ///
    /// # Errors
    /// [`SchemaError`], naming the first field that breaks the invariant.
    pub fn check(&self) -> Result<(), SchemaError> {
        check_field_ids(&self.schema, self.next_field_id)
    }

    /// Retires the physical names that `before`, an earlier state of the table, has and this one has not.
    pub fn retire_names_of(&mut self, before: &Self) {
        let kept = physical_names(&self.schema);
        let gone = physical_names(&before.schema)
            .into_keys()
            .filter(|name| !kept.contains_key(name));
        self.retired_names.extend(gone);
        self.retired_names
            .extend(before.retired_names.iter().cloned());
    }

    /// Whether it remembers the physical names of `before`, an earlier state of the table: each is that of the same
    /// field, or retired.
    pub fn remembers_names_of(&self, before: &Self) -> bool {
        let kept = physical_names(&self.schema);
        physical_names(&before.schema)
            .iter()
            .all(|(name, id)| match kept.get(name) {
                Some(now) => now == id,
                None => self.retired_names.contains(name),
            })
            && before.retired_names.is_subset(&self.retired_names)
    }

    /// Whether a table with this metadata can get `next` only while it has no rows: `next` has a
    /// `NOT NULL` column for which rows that are there already have no value.
    pub fn needs_empty_table(&self, next: &Self) -> bool {
        next.schema.fields().iter().any(|field| {
            let Some(id) = field_id(field).filter(|_| !field.is_nullable()) else {
                return false;
            };
            match self.field_by_id(id) {
                Some(before) => before.is_nullable(),
                None => next.initial_default(id).is_none(),
            }
        })
    }

    /// The top-level column with this field id.
    pub fn field_by_id(&self, id: i32) -> Option<&FieldRef> {
        self.schema
            .fields()
            .iter()
            .find(|f| field_id(f) == Some(id))
    }

    /// The value, as text, that rows have which were written before the column with this field id
    /// was there; `None`: NULL.
    pub fn initial_default(&self, field_id: i32) -> Option<&str> {
        self.initial_defaults.get(&field_id).map(String::as_str)
    }
}
