//! Columns and the fields within them: naming one, finding it, and changing it in its place.
//!
//! Owns the walk through structs and lists. Does not own what a change is.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::TableMetadata;

/// What a list's items are called in a path.
pub(super) const LIST_ELEMENT: &str = "element";

/// A column, or a field within one: the names from the column down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnPath(pub Vec<String>);

impl std::fmt::Display for ColumnPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A place among a column's or field's siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Before all others.
    First,
    /// Behind this one.
    After(String),
}

pub(super) fn last(path: &ColumnPath) -> Result<&str> {
    path.0
        .last()
        .map(String::as_str)
        .ok_or_else(|| missing(path))
}

/// The column or field at `path`.
pub(crate) fn find(metadata: &TableMetadata, path: &ColumnPath) -> Option<FieldRef> {
    let (column, rest) = path.0.split_first()?;
    let mut field = Arc::clone(metadata.schema.fields().find(column)?.1);
    for name in rest {
        let inner = match field.data_type() {
            DataType::Struct(fields) => Arc::clone(fields.find(name)?.1),
            other => Arc::clone(list_item(other).filter(|_| name == LIST_ELEMENT)?),
        };
        field = inner;
    }
    Some(field)
}

/// Changes the siblings among which the field at `path` is, given its index there.
pub(super) fn edit(
    metadata: &mut TableMetadata,
    path: &ColumnPath,
    change: impl FnOnce(&mut Vec<FieldRef>, usize) -> Result<()>,
) -> Result<()> {
    let name = last(path)?.to_owned();
    edit_siblings(metadata, path, |siblings| {
        match siblings.iter().position(|f| *f.name() == name) {
            Some(at) => change(siblings, at),
            None => Err(missing(path)),
        }
    })
}

/// Changes the fields among which `path` leads, or is to lead.
pub(super) fn edit_siblings(
    metadata: &mut TableMetadata,
    path: &ColumnPath,
    change: impl FnOnce(&mut Vec<FieldRef>) -> Result<()>,
) -> Result<()> {
    let Some((_, parents)) = path.0.split_last() else {
        return Err(missing(path));
    };
    let fields = edit_fields(metadata.schema.fields(), parents, path, change)?;
    let schema = Schema::new_with_metadata(fields, metadata.schema.metadata().clone());
    metadata.schema = Arc::new(schema);
    Ok(())
}

fn edit_fields<F>(
    fields: &Fields,
    parents: &[String],
    path: &ColumnPath,
    change: F,
) -> Result<Fields>
where
    F: FnOnce(&mut Vec<FieldRef>) -> Result<()>,
{
    let mut siblings: Vec<FieldRef> = fields.iter().cloned().collect();
    match parents.split_first() {
        None => change(&mut siblings)?,
        Some((parent, rest)) => {
            let Some(field) = siblings.iter_mut().find(|f| f.name() == parent) else {
                return Err(missing(path));
            };
            let data_type = edit_type(field.data_type(), rest, path, change)?;
            *field = Arc::new(field.as_ref().clone().with_data_type(data_type));
        }
    }
    Ok(siblings.into())
}

fn edit_type<F>(
    data_type: &DataType,
    rest: &[String],
    path: &ColumnPath,
    change: F,
) -> Result<DataType>
where
    F: FnOnce(&mut Vec<FieldRef>) -> Result<()>,
{
    if let DataType::Struct(fields) = data_type {
        return Ok(DataType::Struct(edit_fields(fields, rest, path, change)?));
    }
    if matches!(data_type, DataType::Map(..)) {
        return Err(refused(
            path,
            "fields within a map cannot be changed; write the map to a new column".to_owned(),
        ));
    }
    let Some(item) = list_item(data_type) else {
        return Err(refused(
            path,
            format!("a value of type {data_type} has no fields"),
        ));
    };
    let rest = match rest.split_first() {
        Some((element, rest)) if element == LIST_ELEMENT => rest,
        _ => {
            return Err(refused(
                path,
                format!("a list's items are called {LIST_ELEMENT} in a path"),
            ));
        }
    };
    let inner = edit_type(item.data_type(), rest, path, change)?;
    let item = Arc::new(item.as_ref().clone().with_data_type(inner));
    Ok(match data_type {
        DataType::LargeList(_) => DataType::LargeList(item),
        DataType::FixedSizeList(_, n) => DataType::FixedSizeList(item, *n),
        _ => DataType::List(item),
    })
}

/// The item of a list of a kind whose items can be changed.
fn list_item(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item)
        }
        _ => None,
    }
}

pub(super) fn replace(
    siblings: &mut [FieldRef],
    at: usize,
    with: impl FnOnce(&Field) -> Result<Field>,
) -> Result<()> {
    if let Some(field) = siblings.get_mut(at) {
        *field = Arc::new(with(field)?);
    }
    Ok(())
}

pub(super) fn insert(
    siblings: &mut Vec<FieldRef>,
    field: FieldRef,
    position: Option<&Position>,
    path: &ColumnPath,
) -> Result<()> {
    let at = match position {
        None => siblings.len(),
        Some(Position::First) => 0,
        Some(Position::After(other)) => match siblings.iter().position(|f| f.name() == other) {
            Some(at) => at + 1,
            None => {
                let mut beside = path.0.clone();
                beside.pop();
                beside.push(other.clone());
                return Err(missing(&ColumnPath(beside)));
            }
        },
    };
    siblings.insert(at, field);
    Ok(())
}

pub(super) fn refused(path: &ColumnPath, why: String) -> Error {
    Error::new(ErrorKind::Unsupported, path.to_string(), why)
}

pub(super) fn missing(path: &ColumnPath) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        path.to_string(),
        "there is no such column",
    )
}

pub(super) fn taken(path: &ColumnPath) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        path.to_string(),
        "there is a column of this name already",
    )
}
