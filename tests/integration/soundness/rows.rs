//! Rows as text, by their ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;

/// A table's rows by the value of `id`, each cell rendered so that different values differ.
pub(super) type Rows = BTreeMap<i64, Vec<String>>;

pub(super) fn by_id(batch: &RecordBatch) -> Rows {
    ids(batch)
        .into_iter()
        .enumerate()
        .map(|(row, id)| (id, batch.columns().iter().map(|c| cell(c, row)).collect()))
        .collect()
}

/// The first column, which is the id.
pub(super) fn ids(batch: &RecordBatch) -> Vec<i64> {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    ids.values().to_vec()
}

/// A value as a cell of a column of this type.
pub(super) fn rendered(value: &ScalarValue, kind: &DataType) -> Result<String, String> {
    let value = value.cast_to(kind).map_err(|e| e.to_string())?;
    Ok(cell(&value.to_array().map_err(|e| e.to_string())?, 0))
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    let float = |value: f64| match value.is_nan() {
        true => "NaN".to_owned(),
        false => format!("{value:?}"),
    };
    match column.data_type() {
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        _ => {
            let options = FormatOptions::default().with_null("NULL");
            let formatter = ArrayFormatter::try_new(column, &options).unwrap();
            formatter.value(row).to_string()
        }
    }
}

/// The rows that differ, one line each.
pub(super) fn difference(before: &Rows, expected: &Rows, actual: &Rows) -> String {
    let mut lines = Vec::new();
    let all: std::collections::BTreeSet<_> = expected.keys().chain(actual.keys()).collect();
    for id in all {
        let (wanted, got) = (expected.get(id), actual.get(id));
        if wanted != got {
            lines.push(format!(
                "row {id}: {:?} should be {wanted:?}, is {got:?}",
                before.get(id)
            ));
        }
    }
    lines.join("\n")
}

/// The same rows with every column nullable: a table in memory takes any value.
pub(super) fn nullable(batch: &RecordBatch) -> RecordBatch {
    let fields: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), field.data_type().clone(), true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.columns().to_vec()).unwrap()
}
