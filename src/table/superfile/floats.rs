//! Bounds and null counts of float columns, taken from the values themselves.
//!
//! Owns what the manifest records of float columns, and that the Parquet footers record nothing of
//! them: Parquet leaves a NaN out of its bounds, and DataFusion, for which a NaN is greater than
//! every number, would prune by such bounds a row group in which `x > 5` holds for a NaN. It does
//! the same to plain Parquet files; a table's answer must not depend on how its rows are stored.
//!
//! Invariant: the bounds hold for every value in DataFusion's order, so a column with a NaN has none.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, SchemaRef};
use datafusion::config::TableParquetOptions;

use crate::format::stats::{ColumnStats, StatValue};

/// The float columns of one superfile on its way.
#[derive(Debug, Default)]
pub(crate) struct FloatBounds {
    columns: Vec<Option<Bounds>>,
}

#[derive(Debug, Default)]
struct Bounds {
    range: Option<(f64, f64)>,
    nan: bool,
    nulls: u64,
}

impl FloatBounds {
    /// No rows yet; of the first `columns` columns of `schema` those are followed that are floats.
    pub(crate) fn new(schema: &SchemaRef, columns: usize) -> Self {
        let columns = schema
            .fields()
            .iter()
            .take(columns)
            .map(|field| field.data_type().is_floating().then(Bounds::default))
            .collect();
        Self { columns }
    }

    /// Takes the rows of `batch` in.
    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        for (bounds, array) in self.columns.iter_mut().zip(batch.columns()) {
            let Some(bounds) = bounds else { continue };
            bounds.nulls += array.null_count() as u64;
            let range = match array.data_type() {
                DataType::Float16 => {
                    let array = array.as_primitive::<Float16Type>();
                    min(array)
                        .zip(max(array))
                        .map(|(a, b)| (a.to_f64(), b.to_f64()))
                }
                DataType::Float32 => {
                    let array = array.as_primitive::<Float32Type>();
                    min(array)
                        .zip(max(array))
                        .map(|(a, b)| (a.into(), b.into()))
                }
                _ => array
                    .as_primitive_opt::<Float64Type>()
                    .and_then(|array| min(array).zip(max(array))),
            };
            let Some((low, high)) = range else { continue };
            // In the total order a NaN is an end of the range: which one, its sign says.
            bounds.nan |= low.is_nan() || high.is_nan();
            bounds.range = Some(match bounds.range {
                None => (low, high),
                Some((a, b)) => (
                    if low.total_cmp(&a).is_lt() { low } else { a },
                    if high.total_cmp(&b).is_gt() { high } else { b },
                ),
            });
        }
    }

    /// What is known of the column at `index`; `None` if it is not a float column.
    pub(crate) fn stats(&self, index: usize, max_len: usize) -> Option<ColumnStats> {
        let bounds = self.columns.get(index)?.as_ref()?;
        let range = bounds.range.filter(|_| !bounds.nan);
        Some(ColumnStats::new(
            range.map(|(low, _)| StatValue::Float(low)),
            range.map(|(_, high)| StatValue::Float(high)),
            Some(bounds.nulls),
            max_len,
        ))
    }
}

/// Turns the footers' statistics of float columns off.
pub(crate) fn without_float_statistics(
    mut options: TableParquetOptions,
    schema: &SchemaRef,
) -> TableParquetOptions {
    for field in schema.fields().iter().filter(|f| is_float(f.data_type())) {
        if field.name().contains('.') {
            // An option cannot name such a column: DataFusion takes the dot for nesting.
            options.global.statistics_enabled = Some("none".to_owned());
        } else {
            options
                .column_specific_options
                .entry(field.name().clone())
                .or_default()
                .statistics_enabled = Some("none".to_owned());
        }
    }
    options
}

fn is_float(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_float(value),
        DataType::RunEndEncoded(_, value) => is_float(value.data_type()),
        other => other.is_floating(),
    }
}
