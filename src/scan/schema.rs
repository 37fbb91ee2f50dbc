//! The stored schema as sessions see it, and as superfiles are written.
//!
//! The manifest numbers every field, nested ones included. In memory a nested field's metadata is
//! part of its column's type, and the arrays that queries compute carry none, so the ids of nested
//! fields stay in the manifest; those of columns are harmless, and are kept.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::format::manifest::{ADDED_KEY, FIELD_ID_KEY, field_id};

/// `stored` without the ids of nested fields.
pub fn session_schema(stored: &SchemaRef) -> SchemaRef {
    if !stored.fields().iter().any(|f| f.data_type().is_nested()) {
        return Arc::clone(stored);
    }
    let fields: Vec<FieldRef> = stored
        .fields()
        .iter()
        .map(|f| {
            let plain = unnumbered(f.data_type());
            Arc::new(f.as_ref().clone().with_data_type(plain))
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, stored.metadata().clone()))
}

/// `plain`, a session's schema, with the ids of nested fields that `stored` has for its columns: so
/// that a superfile carries them, and its nested fields are found after they are renamed.
pub(crate) fn numbered(plain: &SchemaRef, stored: &Schema) -> SchemaRef {
    let numbers = |field: &FieldRef| {
        let id = field_id(field)?;
        let known = stored.fields().iter().find(|f| field_id(f) == Some(id))?;
        (field.data_type().is_nested() && known.data_type().equals_datatype(field.data_type()))
            .then(|| known.data_type().clone())
    };
    let fields: Vec<FieldRef> = plain
        .fields()
        .iter()
        .map(|field| match numbers(field) {
            Some(data_type) => Arc::new(field.as_ref().clone().with_data_type(data_type)),
            None => Arc::clone(field),
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, plain.metadata().clone()))
}

fn unnumbered(data_type: &DataType) -> DataType {
    let field = |f: &FieldRef| -> FieldRef {
        let mut metadata = f.metadata().clone();
        metadata.remove(FIELD_ID_KEY);
        metadata.remove(ADDED_KEY);
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
