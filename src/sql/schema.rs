//! From the columns that a user declares to the schema that a table stores, and back.
//!
//! Owns the assignment of field ids, the check that Parquet can hold the columns, and the
//! comparison of a declared with a stored schema. Does not own evolution.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::DFSchema;
use parquet::arrow::{ArrowSchemaConverter, PARQUET_FIELD_ID_META_KEY};

use crate::error::{Error, ErrorKind, Result};
use crate::scan::row_address::is_reserved;

/// `schema` with a fresh field id on every field, nested ones included, and the next free id.
///
/// Ids go into the metadata key that Parquet's Arrow writer stores as the column's `field_id`
/// (Parquet format specification, `SchemaElement.field_id`).
///
/// # Errors
/// Refuses an empty schema, reserved and duplicate names, and types that Parquet cannot hold.
pub fn assign_field_ids(schema: &Schema) -> Result<(SchemaRef, i32)> {
    if schema.fields().is_empty() {
        return Err(invalid("a table needs at least one column"));
    }
    let mut names = HashMap::new();
    for field in schema.fields() {
        if is_reserved(field.name()) {
            return Err(invalid(format!(
                "the column name {} is reserved; choose another",
                field.name()
            )));
        }
        if names.insert(field.name(), ()).is_some() {
            return Err(invalid(format!("the column {} is declared twice", field.name())));
        }
    }
    let mut next = 1;
    let fields: Vec<FieldRef> = schema
        .fields()
        .iter()
        .map(|f| numbered(f, &mut next))
        .collect();
    let numbered = Arc::new(Schema::new(fields));
    ArrowSchemaConverter::new()
        .convert(&numbered)
        .map_err(|e| {
            Error::new(
                ErrorKind::Unsupported,
                "columns",
                "Parquet cannot hold a column of this type; cast it to another",
            )
            .with_source(e)
        })?;
    Ok((numbered, next))
}

fn numbered(field: &FieldRef, next: &mut i32) -> FieldRef {
    let mut metadata = field.metadata().clone();
    metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), next.to_string());
    *next += 1;
    Arc::new(
        Field::new(
            field.name(),
            numbered_type(field.data_type(), next),
            field.is_nullable(),
        )
        .with_metadata(metadata),
    )
}

fn numbered_type(data_type: &DataType, next: &mut i32) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(numbered_fields(fields, next)),
        DataType::List(item) => DataType::List(numbered(item, next)),
        DataType::LargeList(item) => DataType::LargeList(numbered(item, next)),
        DataType::ListView(item) => DataType::ListView(numbered(item, next)),
        DataType::LargeListView(item) => DataType::LargeListView(numbered(item, next)),
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(numbered(item, next), *n),
        // The entries of a map are one struct; Parquet has no element of its own for an id there.
        DataType::Map(entries, sorted) => {
            let inner = match entries.data_type() {
                DataType::Struct(fields) => DataType::Struct(numbered_fields(fields, next)),
                other => other.clone(),
            };
            DataType::Map(
                Arc::new(entries.as_ref().clone().with_data_type(inner)),
                *sorted,
            )
        }
        other => other.clone(),
    }
}

fn numbered_fields(fields: &Fields, next: &mut i32) -> Fields {
    fields.iter().map(|f| numbered(f, next)).collect()
}

/// Checks that the columns a statement declares are the table's: same names, in the same order,
/// of the same types (up to how strings are held in memory), with the same `NOT NULL`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming the first difference.
pub fn check_declared(declared: &Schema, stored: &Schema, table: &str) -> Result<()> {
    let differs = |why: String| {
        Error::new(
            ErrorKind::InvalidArgument,
            table,
            format!(
                "the declared columns are not the table's: {why}; leave the columns out to open \
                 the table as it is"
            ),
        )
    };
    for (i, field) in declared.fields().iter().enumerate() {
        let Some(existing) = stored.fields().get(i) else {
            return Err(differs(format!("it has no column {}", field.name())));
        };
        if existing.name() != field.name() {
            return Err(differs(format!(
                "column {} is {}, not {}",
                i + 1,
                existing.name(),
                field.name()
            )));
        }
        if !DFSchema::datatype_is_logically_equal(existing.data_type(), field.data_type()) {
            return Err(differs(format!(
                "{} has the type {}, not {}",
                field.name(),
                existing.data_type(),
                field.data_type()
            )));
        }
        if existing.is_nullable() != field.is_nullable() {
            let (is, not) = match existing.is_nullable() {
                true => ("may be NULL", "NOT NULL"),
                false => ("is NOT NULL", "nullable"),
            };
            return Err(differs(format!("{} {is}, not {not}", field.name())));
        }
    }
    if let Some(missing) = stored.fields().get(declared.fields().len()) {
        return Err(differs(format!("it also has the column {}", missing.name())));
    }
    Ok(())
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, "columns", why)
}
