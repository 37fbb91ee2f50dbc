//! What a table is, apart from its rows.
//!
//! Owns these values and what follows from them alone. Does not own which changes of them are allowed
//! (`table::schema`).

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::{FieldRef, SchemaRef};

use super::properties::CHECK;
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

/// A declared key: no two rows have the same values in its columns. A row with a NULL there equals none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueKey {
    /// What errors and statements call it.
    pub name: String,
    /// Whether it is the primary key, whose columns are `NOT NULL`.
    pub is_primary: bool,
    /// The field ids of its columns, in the order of the declaration.
    pub columns: Vec<i32>,
}

impl UniqueKey {
    /// The field ids of its columns, ascending: two keys with the same ones mean the same.
    pub fn column_set(&self) -> BTreeSet<i32> {
        self.columns.iter().copied().collect()
    }
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
    /// The keys that writers enforce.
    pub keys: Vec<UniqueKey>,
    /// The id that the next new field gets. Ids are never used twice.
    pub next_field_id: i32,
    /// Physical names of fields that were dropped. Physical names are never used twice.
    pub retired_names: BTreeSet<PhysicalName>,
}

impl TableMetadata {
    /// The columns, by their ids, each of which is a declared key alone.
    pub(crate) fn columns_that_are_keys(&self) -> impl Iterator<Item = i32> {
        (self.keys.iter()).filter_map(|key| match key.columns.as_slice() {
            [column] => Some(*column),
            _ => None,
        })
    }

    /// Checks the schema's field ids, and the keys: names are given once, columns are there, those of the one primary
    /// key are `NOT NULL`.
    ///
    /// # Errors
    /// [`SchemaError`], naming the first field or key that breaks the invariant.
    pub fn check(&self) -> Result<(), SchemaError> {
        check_field_ids(&self.schema, self.next_field_id)?;
        let mut names = BTreeSet::new();
        for key in &self.keys {
            let may_be_part = |id: &i32| {
                (self.field_by_id(*id)).is_some_and(|f| !(key.is_primary && f.is_nullable()))
            };
            if key.columns.is_empty()
                || key.column_set().len() != key.columns.len()
                || !key.columns.iter().all(may_be_part)
                || !names.insert(key.name.as_str())
            {
                return Err(SchemaError::BadKey {
                    name: key.name.clone(),
                });
            }
        }
        match self.keys.iter().filter(|key| key.is_primary).nth(1) {
            Some(second) => Err(SchemaError::BadKey {
                name: second.name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Whether rows of a table with this metadata may break a key of `next`.
    pub fn gains_key(&self, next: &Self) -> bool {
        let known = |key: &UniqueKey| {
            (self.keys.iter()).any(|mine| mine.column_set().is_subset(&key.column_set()))
        };
        !next.keys.iter().all(known)
    }

    /// Whether rows of a table with this metadata may break a condition of `next`.
    pub fn gains_check(&self, next: &Self) -> bool {
        (next.properties.iter())
            .filter(|(key, _)| key.starts_with(CHECK))
            .any(|(key, condition)| self.properties.get(key) != Some(condition))
    }

    /// Whether rows of a table with this metadata may break what `next` declares of columns that are there.
    pub fn rows_may_break(&self, next: &Self) -> bool {
        self.gains_key(next) || self.gains_check(next) || !self.no_longer_null(next).is_empty()
    }

    /// The names of a key's columns, in the order of its declaration.
    pub fn columns_of(&self, key: &UniqueKey) -> Vec<&str> {
        let fields = key.columns.iter().filter_map(|id| self.field_by_id(*id));
        fields.map(|field| field.name().as_str()).collect()
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

    /// Whether a table with this metadata can get `next` only while it has no rows: `next` has a new
    /// `NOT NULL` column for which rows that are there already have no value.
    pub fn needs_empty_table(&self, next: &Self) -> bool {
        (next.schema.fields().iter())
            .filter(|field| !field.is_nullable())
            .filter_map(|field| field_id(field))
            .any(|id| self.field_by_id(id).is_none() && next.initial_default(id).is_none())
    }

    /// The field ids of the columns that may be NULL in rows of a table with this metadata, and not with `next`.
    pub fn no_longer_null(&self, next: &Self) -> Vec<i32> {
        (next.schema.fields().iter())
            .filter(|field| !field.is_nullable())
            .filter_map(|field| field_id(field))
            .filter(|id| self.field_by_id(*id).is_some_and(|f| f.is_nullable()))
            .collect()
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
