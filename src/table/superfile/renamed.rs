//! Batches under the names that a superfile has for their columns.
//!
//! A column's name is not part of its values; the name of a struct's member is part of their type, and the encoder
//! compares types. Owns that change of types. Invariant: no value is copied or changed.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, OffsetSizeTrait, RecordBatch,
    RecordBatchOptions, StructArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::error::ArrowError;

use crate::error::{Error, ErrorKind, Result};

/// `batch`, whose columns are those of `file_schema` under other names, with the file's names of their members.
pub(super) fn in_the_file(batch: &RecordBatch, file_schema: &Schema) -> Result<RecordBatch> {
    let fields = file_schema.fields().iter();
    let differs = |(field, column): (&FieldRef, &ArrayRef)| {
        !is_named_so(column.data_type(), field.data_type())
    };
    if !fields.clone().zip(batch.columns()).any(differs) {
        return Ok(batch.clone());
    }
    let columns = fields
        .zip(batch.columns())
        .map(|(field, column)| renamed(column, field.data_type()))
        .collect::<std::result::Result<Vec<ArrayRef>, _>>();
    let renamed = columns.and_then(|columns| {
        let fields = file_schema.fields().iter().zip(&columns);
        let fields = fields
            .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema, columns, &options)
    });
    renamed.map_err(|e| {
        let why = "its nested columns cannot be given the names that they have in a file";
        Error::new(ErrorKind::Storage, "a superfile", why).with_source(e)
    })
}

/// Whether the members of structs in `have` are called as in `wanted`, which is of the same shape.
fn is_named_so(have: &DataType, wanted: &DataType) -> bool {
    match (have, wanted) {
        (DataType::Struct(have), DataType::Struct(wanted)) => have
            .iter()
            .zip(wanted)
            .all(|(h, w)| h.name() == w.name() && is_named_so(h.data_type(), w.data_type())),
        (DataType::List(have), DataType::List(wanted))
        | (DataType::LargeList(have), DataType::LargeList(wanted))
        | (DataType::FixedSizeList(have, _), DataType::FixedSizeList(wanted, _)) => {
            is_named_so(have.data_type(), wanted.data_type())
        }
        _ => true,
    }
}

/// `array` with its members called as in `wanted`.
fn renamed(array: &ArrayRef, wanted: &DataType) -> std::result::Result<ArrayRef, ArrowError> {
    if is_named_so(array.data_type(), wanted) {
        return Ok(Arc::clone(array));
    }
    match wanted {
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let columns = array
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, field)| renamed(column, field.data_type()))
                .collect::<std::result::Result<Vec<ArrayRef>, _>>()?;
            let members = array.fields().iter().zip(fields).zip(&columns);
            let members = members.map(|((member, field), column)| {
                Field::new(
                    field.name(),
                    column.data_type().clone(),
                    member.is_nullable(),
                )
            });
            let nulls = array.nulls().cloned();
            let array =
                StructArray::try_new_with_length(members.collect(), columns, nulls, array.len())?;
            Ok(Arc::new(array))
        }
        DataType::List(item) => list::<i32>(array, item),
        DataType::LargeList(item) => list::<i64>(array, item),
        DataType::FixedSizeList(item, length) => {
            let array = array.as_fixed_size_list();
            let values = renamed(array.values(), item.data_type())?;
            let DataType::FixedSizeList(own, _) = array.data_type() else {
                return Ok(Arc::new(array.clone()));
            };
            let item = item_field(own, &values);
            let nulls = array.nulls().cloned();
            let array =
                FixedSizeListArray::try_new_with_length(item, *length, values, nulls, array.len())?;
            Ok(Arc::new(array))
        }
        _ => Ok(Arc::clone(array)),
    }
}

fn list<O: OffsetSizeTrait>(
    array: &ArrayRef,
    item: &FieldRef,
) -> std::result::Result<ArrayRef, ArrowError> {
    let array = array.as_list::<O>();
    let values = renamed(array.values(), item.data_type())?;
    let (DataType::List(own) | DataType::LargeList(own)) = array.data_type() else {
        return Ok(Arc::new(array.clone()));
    };
    let item = item_field(own, &values);
    let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
    Ok(Arc::new(GenericListArray::try_new(
        item, offsets, values, nulls,
    )?))
}

fn item_field(own: &FieldRef, values: &ArrayRef) -> FieldRef {
    Arc::new(
        own.as_ref()
            .clone()
            .with_data_type(values.data_type().clone()),
    )
}
