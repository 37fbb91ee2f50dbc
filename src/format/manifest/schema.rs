//! Field ids and physical names: how a table's columns keep their identity when they are renamed or moved.
//!
//! Owns where both stand in an Arrow schema, their assignment and their check. Does not own the
//! mapping of old superfiles' columns (the scan) or which evolutions are allowed.
//!
//! | key of a field's metadata | value |
//! | --- | --- |
//! | `PARQUET:field_id` | its id, decimal; superfiles carry it |
//! | `supertable.physical_name` | what superfiles call the field; absent: its name |
//! | `supertable.added` | `1` on a member that its struct got later: older superfiles hold the struct without it |
//!
//! A field gets its physical name when it is made, and keeps it for ever: the name that it has then, or, where
//! another field of the same parent has or had that name, `name_id`. Columns and members of structs have physical
//! names; a list's items and what is in a map are never renamed, and go by their places. Names that differ in case
//! alone count as the same, because engines that fold case read superfiles too. `_id` is never a column's physical
//! name: superfiles store row ids under it, with the field id [`ROW_ID_FIELD_ID`].
//!
//! Invariant of a checked schema: every field that Parquet gives a node of its own (columns,
//! struct members, list elements, map keys and values, union members) has an id from 1 to
//! `next_field_id - 1`, and no two have the same. No two fields of one parent have the same physical name.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

/// The metadata key of a field that holds its id; Parquet's Arrow writer and reader use it too.
pub(crate) const FIELD_ID_KEY: &str = "PARQUET:field_id";

/// The metadata key of a nested field that was added to its struct later: older superfiles hold the
/// struct without it.
pub(crate) const ADDED_KEY: &str = "supertable.added";

/// The metadata key of a field that holds its physical name, where that is not its name.
pub(crate) const PHYSICAL_NAME_KEY: &str = "supertable.physical_name";

/// What superfiles call the stored row id.
pub(crate) const ROW_ID_COLUMN: &str = "_id";

/// The field id of the stored row id; [`assign_field_ids`] gives it to no field.
pub(crate) const ROW_ID_FIELD_ID: i32 = i32::MAX;

/// A physical name, lower-cased, below the field with this id; 0: a column's.
pub(crate) type PhysicalName = (i32, String);

/// What is wrong with the field ids or physical names of a schema.
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
    /// A declared key without columns, with one that is not there, with another key's name, or with a primary key beside
    /// it.
    #[error("the key {name:?} cannot be one of the table's")]
    BadKey {
        /// Its name.
        name: String,
    },
    /// Two fields of one parent with one physical name.
    #[error("field {field:?} has the physical name {name:?}, which is taken")]
    DuplicatePhysicalName {
        /// The second field's name.
        field: String,
        /// The physical name.
        name: String,
    },
    /// There are no ids left.
    #[error("no field ids are left")]
    Exhausted,
}

/// The id of a field; `None` if it has none.
pub(crate) fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(FIELD_ID_KEY)?.parse().ok()
}

/// What superfiles call a field.
pub(crate) fn physical_name(field: &Field) -> &str {
    field
        .metadata()
        .get(PHYSICAL_NAME_KEY)
        .map_or(field.name(), String::as_str)
}

/// `field` under another name; superfiles go on calling it as they did.
pub(crate) fn renamed_field(field: &Field, to: &str) -> Field {
    let physical = physical_name(field).to_owned();
    with_physical_name(field.clone().with_name(to), physical)
}

fn with_physical_name(field: Field, physical: String) -> Field {
    let mut metadata = field.metadata().clone();
    match *field.name() == physical {
        true => metadata.remove(PHYSICAL_NAME_KEY),
        false => metadata.insert(PHYSICAL_NAME_KEY.to_owned(), physical),
    };
    field.with_metadata(metadata)
}

/// `schema` with fresh ids for all fields, depth first from `next`, fresh physical names, and the next free id.
/// Ids and physical names that the fields bring along (from another file or table) are replaced. `taken` are the
/// physical names that the columns of `schema` cannot have, lower-cased.
///
/// # Errors
/// [`SchemaError::Exhausted`] when ids run out.
pub(crate) fn assign_field_ids(
    schema: &Schema,
    next: i32,
    taken: HashSet<String>,
) -> Result<(SchemaRef, i32), SchemaError> {
    let mut next = next;
    let fields = assign_all(schema.fields(), &mut next, Some(taken))?;
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    Ok((Arc::new(schema), next))
}

/// The physical names that no further field below `parent` can have, in a table with the columns of `schema` that
/// has `retired` others.
pub(crate) fn taken_names(
    schema: &Schema,
    retired: &BTreeSet<PhysicalName>,
    parent: i32,
) -> HashSet<String> {
    let current = physical_names(schema);
    let all = current.keys().chain(retired);
    let below = all.filter(|(p, _)| *p == parent);
    let row_id = (parent == 0).then(|| ROW_ID_COLUMN.to_owned());
    below.map(|(_, name)| name.clone()).chain(row_id).collect()
}

/// The physical names of all fields, with the ids of the fields that have them.
pub(super) fn physical_names(schema: &Schema) -> BTreeMap<PhysicalName, i32> {
    let mut names = BTreeMap::new();
    collect_names(schema.fields(), 0, &mut names);
    names
}

fn collect_names(fields: &Fields, parent: i32, names: &mut BTreeMap<PhysicalName, i32>) {
    for field in fields {
        let name = (parent, physical_name(field).to_lowercase());
        names.insert(name, field_id(field).unwrap_or_default());
        collect_inner_names(field, names);
    }
}

fn collect_inner_names(field: &Field, names: &mut BTreeMap<PhysicalName, i32>) {
    match field.data_type() {
        DataType::Struct(members) => {
            collect_names(members, field_id(field).unwrap_or_default(), names);
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => collect_inner_names(item, names),
        _ => {}
    }
}

/// Numbers the fields of one parent, and names them unless they are in a map.
fn assign_all(
    fields: &Fields,
    next: &mut i32,
    mut taken: Option<HashSet<String>>,
) -> Result<Fields, SchemaError> {
    fields
        .iter()
        .map(|f| {
            let id = *next;
            let field = assign(f, next, taken.is_some())?;
            let Some(taken) = &mut taken else {
                return Ok(field);
            };
            let physical = free_name(field.name(), id, taken);
            Ok(Arc::new(with_physical_name(
                field.as_ref().clone(),
                physical,
            )))
        })
        .collect::<Result<Vec<FieldRef>, _>>()
        .map(Fields::from)
}

/// A physical name for the field `id`, taken from now on.
fn free_name(name: &str, id: i32, taken: &mut HashSet<String>) -> String {
    let mut physical = name.to_owned();
    while !taken.insert(physical.to_lowercase()) {
        physical = format!("{physical}_{id}");
    }
    physical
}

/// `named`: whether what is in the field has physical names.
fn assign(field: &Field, next: &mut i32, named: bool) -> Result<FieldRef, SchemaError> {
    let id = *next;
    *next = next.checked_add(1).ok_or(SchemaError::Exhausted)?;
    let mut metadata = field.metadata().clone();
    metadata.insert(FIELD_ID_KEY.to_owned(), id.to_string());
    metadata.remove(PHYSICAL_NAME_KEY);
    let data_type = assign_type(field.data_type(), next, named)?;
    Ok(Arc::new(
        field
            .clone()
            .with_data_type(data_type)
            .with_metadata(metadata),
    ))
}

fn assign_type(data_type: &DataType, next: &mut i32, named: bool) -> Result<DataType, SchemaError> {
    let mut inner = |field: &Field| assign(field, next, named);
    Ok(match data_type {
        DataType::Struct(fields) => {
            DataType::Struct(assign_all(fields, next, named.then(HashSet::new))?)
        }
        DataType::List(item) => DataType::List(inner(item)?),
        DataType::LargeList(item) => DataType::LargeList(inner(item)?),
        DataType::ListView(item) => DataType::ListView(inner(item)?),
        DataType::LargeListView(item) => DataType::LargeListView(inner(item)?),
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(inner(item)?, *n),
        // The entries of a map are no node of their own: Parquet keeps no id for them.
        DataType::Map(entries, sorted) => {
            let inner = assign_type(entries.data_type(), next, false)?;
            DataType::Map(
                Arc::new(entries.as_ref().clone().with_data_type(inner)),
                *sorted,
            )
        }
        DataType::Union(members, mode) => {
            let members = members
                .iter()
                .map(|(tag, field)| Ok((tag, inner(field)?)))
                .collect::<Result<_, SchemaError>>()?;
            DataType::Union(members, *mode)
        }
        other => other.clone(),
    })
}

/// Checks the field ids and physical names of `schema`, of which `next` is the first id that was not given out.
///
/// # Errors
/// [`SchemaError`], naming the first field that breaks the invariant.
pub(crate) fn check_field_ids(schema: &Schema, next: i32) -> Result<(), SchemaError> {
    let mut seen = HashSet::new();
    check_all(schema.fields(), next, &mut seen, true)?;
    match schema.fields().iter().find(|f| is_row_id(f)) {
        None => Ok(()),
        Some(field) => Err(taken(field)),
    }
}

fn is_row_id(column: &Field) -> bool {
    physical_name(column).eq_ignore_ascii_case(ROW_ID_COLUMN)
}

fn taken(field: &Field) -> SchemaError {
    SchemaError::DuplicatePhysicalName {
        field: field.name().clone(),
        name: physical_name(field).to_owned(),
    }
}

/// Checks the fields of one parent; `named`: whether they have physical names.
fn check_all(
    fields: &Fields,
    next: i32,
    seen: &mut HashSet<i32>,
    named: bool,
) -> Result<(), SchemaError> {
    let mut names = HashSet::with_capacity(fields.len());
    fields.iter().try_for_each(|field| {
        check(field, next, seen, named)?;
        match !named || names.insert(physical_name(field).to_lowercase()) {
            true => Ok(()),
            false => Err(taken(field)),
        }
    })
}

fn check(
    field: &Field,
    next: i32,
    seen: &mut HashSet<i32>,
    named: bool,
) -> Result<(), SchemaError> {
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
    check_type(field.data_type(), next, seen, named)
}

fn check_type(
    data_type: &DataType,
    next: i32,
    seen: &mut HashSet<i32>,
    named: bool,
) -> Result<(), SchemaError> {
    match data_type {
        DataType::Struct(fields) => check_all(fields, next, seen, named),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => check(item, next, seen, named),
        DataType::Map(entries, _) => check_type(entries.data_type(), next, seen, false),
        DataType::Union(members, _) => members
            .iter()
            .try_for_each(|(_, f)| check(f, next, seen, named)),
        _ => Ok(()),
    }
}
