//! The columns that a user declares, checked against what can be stored and what is stored.
//!
//! Owns the check that Parquet can hold the columns, and the comparison of a declared with a stored
//! schema. Does not own field ids, nor evolution.

use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::errors::ParquetError;

use crate::error::{Error, ErrorKind, Result};
use crate::scan::row_address::is_reserved;

/// Checks that a table can have these columns: names that are not reserved, types that Parquet can
/// hold. Field ids are assigned by the table.
///
/// # Errors
/// Names the column that it refuses, and why.
pub(crate) fn check_storable(schema: &Schema) -> Result<()> {
    if let Some(field) = schema.fields().iter().find(|f| is_reserved(f.name())) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            field.name(),
            "this column name is reserved for the system; choose another",
        ));
    }
    for (i, field) in schema.fields().iter().enumerate() {
        if is_nameless(field) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("column {}", i + 1),
                "it, or a field in it, has the empty name \"\"; give it a name",
            ));
        }
        written(field).map_err(|e| {
            Error::new(
                ErrorKind::Unsupported,
                field.name(),
                format!(
                    "a column of a supertable cannot have the type {}, which cannot be written to Parquet; use \
                     another type",
                    field.data_type()
                ),
            )
            .with_source(e)
        })?;
    }
    Ok(())
}

fn is_nameless(field: &Field) -> bool {
    let within = match field.data_type() {
        DataType::Struct(fields) => fields.iter().any(|field| is_nameless(field)),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_nameless(item)
        }
        _ => false,
    };
    within || field.name().is_empty()
}

/// Writes a NULL of the column's type: some types have a place in Parquet's schema, and no writer.
fn written(field: &FieldRef) -> std::result::Result<(), ParquetError> {
    let nullable = field.as_ref().clone().with_nullable(true);
    let alone = Arc::new(Schema::new(vec![nullable]));
    ArrowSchemaConverter::new().convert(&alone)?;
    let null = RecordBatch::try_new(
        Arc::clone(&alone),
        vec![new_null_array(field.data_type(), 1)],
    )?;
    let mut writer = ArrowWriter::try_new(std::io::sink(), alone, None)?;
    writer.write(&null)?;
    writer.close()?;
    Ok(())
}

/// Checks that the columns a statement declares are the table's: same names, in the same order,
/// of the same types (up to how strings are held in memory), with the same `NOT NULL`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming the first difference.
pub(crate) fn check_declared(declared: &Schema, stored: &Schema, table: &str) -> Result<()> {
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
        if in_memory_form(existing.data_type()) != in_memory_form(field.data_type()) {
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
        return Err(differs(format!(
            "it also has the column {}",
            missing.name()
        )));
    }
    Ok(())
}

/// `data_type` with one form of strings and binaries for all that hold the same values, and without
/// the metadata of nested fields.
fn in_memory_form(data_type: &DataType) -> DataType {
    let field = |f: &FieldRef| -> FieldRef {
        Arc::new(Field::new(
            f.name(),
            in_memory_form(f.data_type()),
            f.is_nullable(),
        ))
    };
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::List(item) | DataType::LargeList(item) => DataType::List(field(item)),
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(field(item), *n),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}
