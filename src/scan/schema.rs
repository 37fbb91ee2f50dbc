//! The stored schema as sessions see it, and as superfiles are written.
//!
//! The manifest numbers every field, nested ones included, and keeps its physical name. In memory a nested field's
//! metadata is part of its column's type, and the arrays that queries compute carry none, so sessions see neither
//! the ids of nested fields nor physical names; the ids of columns are harmless, and are kept.
//!
//! A superfile has the physical names, and the ids of all fields. The Arrow schema that it embeds has plain types in
//! place of views, which other engines cannot read; the scan gives a column the type that the table declares
//! (see [`declared_type`]).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use crate::format::manifest::{
    ADDED_KEY, FIELD_ID_KEY, PHYSICAL_NAME_KEY, ROW_ID_COLUMN, ROW_ID_FIELD_ID, field_id,
    physical_name,
};
use crate::scan::row_address::stored_row_id_name;

/// `stored` without the ids of nested fields, and without physical names.
pub fn session_schema(stored: &SchemaRef) -> SchemaRef {
    let differs =
        |f: &FieldRef| f.data_type().is_nested() || f.metadata().contains_key(PHYSICAL_NAME_KEY);
    if !stored.fields().iter().any(differs) {
        return Arc::clone(stored);
    }
    let fields: Vec<FieldRef> = stored
        .fields()
        .iter()
        .map(|f| {
            let mut metadata = f.metadata().clone();
            metadata.remove(PHYSICAL_NAME_KEY);
            let plain = f.as_ref().clone().with_metadata(metadata);
            Arc::new(plain.with_data_type(unnumbered(f.data_type())))
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, stored.metadata().clone()))
}

/// The columns of a superfile that holds `plain`, a session's schema in which the row id may follow: `stored` has
/// their physical names.
pub(crate) fn file_schema(plain: &SchemaRef, stored: &Schema) -> SchemaRef {
    let row_id = stored_row_id_name(stored);
    let fields: Vec<FieldRef> = plain
        .fields()
        .iter()
        .map(|field| {
            let id = field_id(field);
            let known = stored
                .fields()
                .iter()
                .find(|f| id.is_some() && field_id(f) == id);
            Arc::new(match known {
                Some(known) if known.data_type().equals_datatype(field.data_type()) => {
                    file_field(known).with_nullable(field.is_nullable())
                }
                Some(known) => file_field(field).with_name(physical_name(known)),
                None if field.name() == row_id => numbered(
                    Field::new(
                        ROW_ID_COLUMN,
                        field.data_type().clone(),
                        field.is_nullable(),
                    ),
                    Some(ROW_ID_FIELD_ID),
                ),
                None => file_field(field),
            })
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// A field of the manifest's as a superfile has it: under its physical name, with its id.
fn file_field(field: &Field) -> Field {
    let inner = with_fields(field.data_type(), |f| Arc::new(file_field(f)));
    numbered(
        Field::new(physical_name(field), inner, field.is_nullable()),
        field_id(field),
    )
}

fn numbered(field: Field, id: Option<i32>) -> Field {
    let id = id.map(|id| (FIELD_ID_KEY.to_owned(), id.to_string()));
    field.with_metadata(id.into_iter().collect())
}

/// `file_schema` with plain types in place of views, for others to read.
pub(crate) fn embedded_schema(file_schema: &Schema) -> Schema {
    fn plain_field(field: &FieldRef) -> FieldRef {
        let plain = plain_type(field.data_type());
        Arc::new(field.as_ref().clone().with_data_type(plain))
    }
    fn plain_type(data_type: &DataType) -> DataType {
        match data_type {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            DataType::ListView(item) => DataType::List(plain_field(item)),
            DataType::LargeListView(item) => DataType::LargeList(plain_field(item)),
            DataType::Dictionary(key, value) => {
                DataType::Dictionary(key.clone(), Box::new(plain_type(value)))
            }
            DataType::RunEndEncoded(ends, values) => {
                DataType::RunEndEncoded(Arc::clone(ends), plain_field(values))
            }
            other => with_fields(other, plain_field),
        }
    }
    let fields: Vec<FieldRef> = file_schema.fields().iter().map(plain_field).collect();
    Schema::new(fields)
}

/// `file`, the type of a superfile's column, as the column is to be read whose type in the table is `table`: with
/// views where the table declares them. Other differences are for a cast.
pub(crate) fn declared_type(file: &DataType, table: &DataType) -> DataType {
    use DataType as T;
    let inner = |file: &FieldRef, table: &FieldRef| -> FieldRef {
        let data_type = declared_type(file.data_type(), table.data_type());
        Arc::new(file.as_ref().clone().with_data_type(data_type))
    };
    match (file, table) {
        (T::Utf8, T::Utf8View) | (T::Binary, T::BinaryView) => table.clone(),
        (T::List(f), T::List(t)) => T::List(inner(f, t)),
        (T::List(f), T::ListView(t)) => T::ListView(inner(f, t)),
        (T::LargeList(f), T::LargeList(t)) => T::LargeList(inner(f, t)),
        (T::LargeList(f), T::LargeListView(t)) => T::LargeListView(inner(f, t)),
        (T::FixedSizeList(f, n), T::FixedSizeList(t, _)) => T::FixedSizeList(inner(f, t), *n),
        (T::Struct(f), T::Struct(t)) => T::Struct(declared_fields(f, t)),
        // A map's entries go by their places.
        (T::Map(f, sorted), T::Map(t, _)) => match (f.data_type(), t.data_type()) {
            (T::Struct(within), T::Struct(wanted)) => {
                let pairs = within.iter().zip(wanted).map(|(f, t)| inner(f, t));
                let entries = T::Struct(pairs.collect());
                T::Map(
                    Arc::new(f.as_ref().clone().with_data_type(entries)),
                    *sorted,
                )
            }
            _ => file.clone(),
        },
        (T::Dictionary(key, f), T::Dictionary(_, t)) => {
            T::Dictionary(key.clone(), Box::new(declared_type(f, t)))
        }
        (T::RunEndEncoded(ends, f), T::RunEndEncoded(_, t)) => {
            T::RunEndEncoded(Arc::clone(ends), inner(f, t))
        }
        _ => file.clone(),
    }
}

fn declared_fields(file: &Fields, table: &Fields) -> Fields {
    file.iter()
        .map(|field| match table.find(field.name()) {
            Some((_, wanted)) => {
                let data_type = declared_type(field.data_type(), wanted.data_type());
                Arc::new(field.as_ref().clone().with_data_type(data_type))
            }
            None => Arc::clone(field),
        })
        .collect()
}

fn unnumbered(data_type: &DataType) -> DataType {
    let field = |f: &FieldRef| -> FieldRef {
        let mut metadata = f.metadata().clone();
        metadata.remove(FIELD_ID_KEY);
        metadata.remove(ADDED_KEY);
        metadata.remove(PHYSICAL_NAME_KEY);
        Arc::new(
            Field::new(f.name(), unnumbered(f.data_type()), f.is_nullable())
                .with_metadata(metadata),
        )
    };
    with_fields(data_type, field)
}

/// `data_type` with what `field` makes of the fields directly in it.
pub(crate) fn with_fields(data_type: &DataType, field: impl Fn(&FieldRef) -> FieldRef) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::List(item) => DataType::List(field(item)),
        DataType::LargeList(item) => DataType::LargeList(field(item)),
        DataType::ListView(item) => DataType::ListView(field(item)),
        DataType::LargeListView(item) => DataType::LargeListView(field(item)),
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(field(item), *n),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}
