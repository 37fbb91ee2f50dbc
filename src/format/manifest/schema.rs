//! Field ids: how a table's columns keep their identity when they are renamed or moved.
//!
//! Owns where ids stand in an Arrow schema, their assignment and their check. Does not own the
//! mapping of old superfiles' columns (the scan) or which evolutions are allowed.
//!
//! Invariant of a checked schema: every field that Parquet gives a node of its own (columns,
//! struct members, list elements, map keys and values, union members) has an id from 1 to
//! `next_field_id - 1`, and no two have the same.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

/// The metadata key of a field that holds its id; Parquet's Arrow writer and reader use it too.
pub(crate) const FIELD_ID_KEY: &str = "PARQUET:field_id";

/// The metadata key of a nested field that was added to its struct later: older superfiles hold the
/// struct without it.
pub(crate) const ADDED_KEY: &str = "supertable.added";

/// What is wrong with the field ids of a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A field has no id, or one that is not a number.
    #[error("field {field:?} has no field id")]
    NoFieldId {
        /// The field's name.
        field: String,
    },
    /// An id that was never given out.
    #[error("field {field:?} has the field id {id}, which is not between 1 and {next} (exclusive)")]
    FieldIdOutOfRange {
        /// The field's name.
        field: String,
        /// Its id.
        id: i32,
        /// The table's next free id.
        next: i32,
    },
    /// Two fields with one id.
    #[error("field {field:?} has the field id {id}, which another field has too")]
    DuplicateFieldId {
        /// The second field's name.
        field: String,
        /// The id.
        id: i32,
    },
    /// There are no ids left.
    #[error("no field ids are left")]
    Exhausted,
}

/// The id of a field; `None` if it has none.
pub(crate) fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(FIELD_ID_KEY)?.parse().ok()
}

/// `schema` with fresh ids for all fields, depth first from `next`, and the next free id. Ids
/// that the fields bring along (from another file or table) are replaced.
///
/// # Errors
/// [`SchemaError::Exhausted`] when ids run out.
pub(crate) fn assign_field_ids(
    schema: &Schema,
    next: i32,
) -> Result<(SchemaRef, i32), SchemaError> {
    let mut next = next;
    let fields = assign_all(schema.fields(), &mut next)?;
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    Ok((Arc::new(schema), next))
}

fn assign_all(fields: &Fields, next: &mut i32) -> Result<Fields, SchemaError> {
    fields
        .iter()
        .map(|f| assign(f, next))
        .collect::<Result<Vec<FieldRef>, _>>()
        .map(Fields::from)
}

fn assign(field: &Field, next: &mut i32) -> Result<FieldRef, SchemaError> {
    let id = *next;
    *next = next.checked_add(1).ok_or(SchemaError::Exhausted)?;
    let mut metadata = field.metadata().clone();
    metadata.insert(FIELD_ID_KEY.to_owned(), id.to_string());
    let data_type = assign_type(field.data_type(), next)?;
    Ok(Arc::new(
        field
            .clone()
            .with_data_type(data_type)
            .with_metadata(metadata),
    ))
}

fn assign_type(data_type: &DataType, next: &mut i32) -> Result<DataType, SchemaError> {
    Ok(match data_type {
        DataType::Struct(fields) => DataType::Struct(assign_all(fields, next)?),
        DataType::List(item) => DataType::List(assign(item, next)?),
        DataType::LargeList(item) => DataType::LargeList(assign(item, next)?),
        DataType::ListView(item) => DataType::ListView(assign(item, next)?),
        DataType::LargeListView(item) => DataType::LargeListView(assign(item, next)?),
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(assign(item, next)?, *n),
        // The entries of a map are no node of their own: Parquet keeps no id for them.
        DataType::Map(entries, sorted) => {
            let inner = assign_type(entries.data_type(), next)?;
            DataType::Map(
                Arc::new(entries.as_ref().clone().with_data_type(inner)),
                *sorted,
            )
        }
        DataType::Union(members, mode) => {
            let members = members
                .iter()
                .map(|(tag, field)| Ok((tag, assign(field, next)?)))
                .collect::<Result<_, SchemaError>>()?;
            DataType::Union(members, *mode)
        }
        other => other.clone(),
    })
}

/// Checks the field ids of `schema`, of which `next` is the first that was not given out.
///
/// # Errors
/// [`SchemaError`], naming the first field that breaks the invariant.
pub(crate) fn check_field_ids(schema: &Schema, next: i32) -> Result<(), SchemaError> {
    let mut seen = HashSet::new();
    schema
        .fields()
        .iter()
        .try_for_each(|f| check(f, next, &mut seen))
}

fn check(field: &Field, next: i32, seen: &mut HashSet<i32>) -> Result<(), SchemaError> {
    let name = || field.name().clone();
    let id = field_id(field).ok_or_else(|| SchemaError::NoFieldId { field: name() })?;
    if id < 1 || id >= next {
        return Err(SchemaError::FieldIdOutOfRange {
            field: name(),
            id,
            next,
        });
    }
    if !seen.insert(id) {
        return Err(SchemaError::DuplicateFieldId { field: name(), id });
    }
    check_type(field.data_type(), next, seen)
}

fn check_type(data_type: &DataType, next: i32, seen: &mut HashSet<i32>) -> Result<(), SchemaError> {
    match data_type {
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check(f, next, seen)),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => check(item, next, seen),
        DataType::Map(entries, _) => check_type(entries.data_type(), next, seen),
        DataType::Union(members, _) => members.iter().try_for_each(|(_, f)| check(f, next, seen)),
        _ => Ok(()),
    }
}
