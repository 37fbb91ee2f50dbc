//! Where a row lives and what it is called: the hidden columns of a scan.
//!
//! Owns the names and types of the row address (superfile ordinal and position) and of the row id,
//! and the function that computes a row's id. Does not own which scans ask for them.
//!
//! A row's **address** is valid within one snapshot: the ordinal of its superfile in the scan's
//! file list and the row's position in that superfile. Its **id** is for ever: a superfile written
//! by `INSERT` stores none, and the id is the superfile's first id plus the position; a superfile
//! written by `UPDATE`, `MERGE` or a compaction stores it as a column.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type, Schema, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use parquet::arrow::RowNumber;

use crate::format::manifest::ROW_ID_COLUMN;

/// Address column: ordinal of the superfile within the scan's snapshot (`Int32`).
pub(crate) const ADDRESS_FILE: &str = "__supertable_file";
/// Address column: position of the row in its superfile, from 0 (`Int64`).
pub(crate) const ADDRESS_POSITION: &str = "__supertable_pos";
/// The row id column in plans, `Decimal128(38, 0)`. No column of a table has this name.
pub const ROW_ID: &str = "__supertable_id";
/// What users call the row id; a column of a table may have this name too, and then means that.
pub(crate) const EXPOSED_ROW_ID: &str = ROW_ID_COLUMN;
/// First id of the superfile's minted span; a scan-internal constant per superfile.
pub(crate) const FIRST_ROW_ID: &str = "__supertable_first_id";
/// Prefix that no user column may have.
pub(crate) const RESERVED_PREFIX: &str = "__supertable_";

/// Type of a row id as a column: every 128-bit Snowflake id of this format fits 38 digits.
pub(crate) const ROW_ID_TYPE: DataType = DataType::Decimal128(38, 0);

/// Whether users may not name a column like this.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with(RESERVED_PREFIX)
}

/// The name of the stored row id in a scan of a table with these columns: `_id`, as in the files, unless a column
/// has that name.
pub(crate) fn stored_row_id_name(table: &Schema) -> &'static str {
    let taken = |field: &FieldRef| field.name().eq_ignore_ascii_case(EXPOSED_ROW_ID);
    match table.fields().iter().any(taken) {
        true => ROW_ID,
        false => EXPOSED_ROW_ID,
    }
}

/// The row id as a column of a scan's output; never null there.
pub(crate) fn row_id_field() -> FieldRef {
    Arc::new(Field::new(ROW_ID, ROW_ID_TYPE, false))
}

/// The row id as a scan reads it from a superfile; absent, and read as null, in those of `INSERT`.
pub(crate) fn stored_row_id_field(table: &Schema) -> FieldRef {
    Arc::new(Field::new(stored_row_id_name(table), ROW_ID_TYPE, true))
}

/// The superfile ordinal as a column.
pub(crate) fn file_field() -> FieldRef {
    Arc::new(Field::new(ADDRESS_FILE, DataType::Int32, false))
}

/// The row position as a column produced by the Parquet reader.
pub(crate) fn position_field() -> FieldRef {
    Arc::new(Field::new(ADDRESS_POSITION, DataType::Int64, false).with_extension_type(RowNumber))
}

pub(crate) fn first_row_id_field() -> FieldRef {
    Arc::new(Field::new(FIRST_ROW_ID, ROW_ID_TYPE, false))
}

/// `row_id(stored, first, position)`: the stored id, or else `first + position`.
pub(crate) fn row_id_function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(RowIdFunction {
        signature: Signature::new(
            TypeSignature::Exact(vec![ROW_ID_TYPE, ROW_ID_TYPE, DataType::Int64]),
            Volatility::Immutable,
        ),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RowIdFunction {
    signature: Signature,
}

impl ScalarUDFImpl for RowIdFunction {
    fn name(&self) -> &str {
        "__supertable_row_id"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(ROW_ID_TYPE)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args
            .args
            .iter()
            .map(|a| a.to_array(rows))
            .collect::<Result<Vec<_>>>()?;
        let [stored, first, position] = arrays.as_slice() else {
            return exec_err!("{} takes three arguments", self.name());
        };
        let stored = stored.as_primitive::<Decimal128Type>();
        let first = first.as_primitive::<Decimal128Type>();
        let position = position.as_primitive::<Int64Type>();
        let ids: Decimal128Array = if stored.null_count() == 0 {
            stored.clone()
        } else {
            (0..rows)
                .map(|i| {
                    Some(if stored.is_valid(i) {
                        stored.value(i)
                    } else {
                        first.value(i) + i128::from(position.value(i))
                    })
                })
                .collect()
        };
        Ok(ColumnarValue::Array(Arc::new(
            ids.with_data_type(ROW_ID_TYPE),
        )))
    }
}

/// Which hidden columns a scan yields after the table's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HiddenColumns {
    /// The row id `_id`.
    pub row_id: bool,
    /// The row's address: superfile ordinal and position.
    pub address: bool,
}

impl HiddenColumns {
    /// `visible` with the hidden columns appended: `_id`, then the address.
    pub(crate) fn extend(self, visible: &SchemaRef) -> SchemaRef {
        if self == Self::default() {
            return Arc::clone(visible);
        }
        let mut fields: Vec<FieldRef> = visible.fields().iter().cloned().collect();
        if self.row_id {
            fields.push(row_id_field());
        }
        if self.address {
            fields.push(file_field());
            // With the reader's mark on it: a projection that took it off would not be pushed into
            // the filter below, which would then copy the predicate's columns for nothing.
            fields.push(position_field());
        }
        Arc::new(Schema::new_with_metadata(
            fields,
            visible.metadata().clone(),
        ))
    }
}
