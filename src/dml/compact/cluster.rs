//! Rows in the order of a space-filling curve over several columns.
//!
//! Owns what a row's point on the curve is: in each column, how many rows of a sample have a smaller value. Ranks
//! need no normalisation of numbers, times, decimals or strings, are indifferent to outliers, and give each column
//! the same weight; NULLs are smallest, floats are in their total order. Does not own the curve, nor the words for it
//! (`table::compaction`), nor the sort, which is DataFusion's and spills.
//!
//! Invariant: rows that are equal in the columns have one key, so the order depends on nothing else.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::PhysicalExpr;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::table::compaction::Curve;

pub(crate) use crate::table::compaction::ClusterBy;

/// Rows of the sample, about.
const SAMPLE_ROWS: u64 = 8_192;

/// Bytes of a value, in its form for comparison, that are looked at.
const PREFIX: usize = 64;

/// The name of the computed sort key.
pub(crate) const KEY: &str = "__supertable_curve";

/// The ranks of a column's values.
#[derive(Debug)]
struct Ranks {
    converter: RowConverter,
    /// Values of the sample, ascending, as bytes that compare as the values do.
    sample: Vec<Box<[u8]>>,
}

impl Ranks {
    fn new(data_type: &DataType) -> Result<Self> {
        Ok(Self {
            converter: RowConverter::new(vec![SortField::new(data_type.clone())])?,
            sample: Vec::new(),
        })
    }

    fn add(&mut self, column: &ArrayRef) -> Result<()> {
        let rows = self.converter.convert_columns(&[Arc::clone(column)])?;
        let values = rows.iter().map(|row| prefix(row.data()).into());
        self.sample.extend(values);
        Ok(())
    }

    /// Where a value is among those of the sample, from 0 to the largest coordinate.
    fn of(&self, value: &[u8]) -> u16 {
        let smaller = self
            .sample
            .partition_point(|other| other.as_ref() < prefix(value));
        // A half, a quarter and so on are where the curve turns, so they are hit exactly.
        let rank = (smaller << u16::BITS) / self.sample.len().max(1);
        u16::try_from(rank).unwrap_or(u16::MAX)
    }
}

fn prefix(value: &[u8]) -> &[u8] {
    value.get(..PREFIX).unwrap_or(value)
}

/// The function that gives a row's key.
#[derive(Debug)]
struct CurveKey {
    name: String,
    curve: Curve,
    columns: Vec<Ranks>,
    signature: Signature,
}

// A key is the function of its own sample: two are never the same.
impl PartialEq for CurveKey {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for CurveKey {}

impl Hash for CurveKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self).hash(state);
    }
}

impl CurveKey {
    fn data_type(&self) -> DataType {
        let bytes = Curve::place_len(self.columns.len());
        DataType::FixedSizeBinary(i32::try_from(bytes).unwrap_or(i32::MAX))
    }
}

impl ScalarUDFImpl for CurveKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut ranks = Vec::with_capacity(self.columns.len());
        for (column, value) in self.columns.iter().zip(&args.args) {
            let values = column.converter.convert_columns(&[value.to_array(rows)?])?;
            ranks.push(
                values
                    .iter()
                    .map(|v| column.of(v.data()))
                    .collect::<Vec<_>>(),
            );
        }
        let length = Curve::place_len(ranks.len());
        let mut places = Vec::with_capacity(rows * length);
        let mut point = vec![0; ranks.len()];
        for row in 0..rows {
            for (coordinate, ranks) in point.iter_mut().zip(&ranks) {
                *coordinate = ranks.get(row).copied().unwrap_or(0);
            }
            self.curve.place(&mut point, &mut places);
        }
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        let keys = FixedSizeBinaryArray::try_new(length, places.into(), None)?;
        Ok(ColumnarValue::Array(Arc::new(keys)))
    }
}

/// The key of rows of `schema`, after a look at `rows`, of which there are `count` and which have the columns of
/// `by` and no others.
///
/// # Errors
/// Those of the rows.
pub(crate) async fn key(
    by: &ClusterBy,
    mut rows: SendableRecordBatchStream,
    count: u64,
    schema: &SchemaRef,
    config: &Arc<ConfigOptions>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let mut columns = (rows.schema().fields().iter())
        .map(|field| Ranks::new(field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let share = (SAMPLE_ROWS as f64 / count.max(1) as f64).min(1.0);
    // Which rows are in the sample must only not follow a pattern that the data follow, too.
    let mut random = StdRng::seed_from_u64(0);
    while let Some(batch) = rows.next().await.transpose()? {
        sample(&batch, share, &mut random, &mut columns)?;
    }
    for column in &mut columns {
        column.sample.sort_unstable();
    }
    let arguments = by
        .columns
        .iter()
        .map(|name| Ok(Arc::new(Column::new_with_schema(name, schema)?) as _))
        .collect::<Result<Vec<Arc<dyn PhysicalExpr>>>>()?;
    if columns.len() != arguments.len() {
        return exec_err!("the sample has not the columns of the curve");
    }
    let function = CurveKey {
        name: KEY.to_owned(),
        curve: by.curve,
        signature: Signature::any(columns.len(), Volatility::Immutable),
        columns,
    };
    let field: FieldRef = Arc::new(Field::new(KEY, function.data_type(), false));
    let function = Arc::new(ScalarUDF::new_from_impl(function));
    Ok(Arc::new(ScalarFunctionExpr::new(
        KEY,
        function,
        arguments,
        field,
        Arc::clone(config),
    )))
}

fn sample(
    batch: &RecordBatch,
    share: f64,
    random: &mut StdRng,
    columns: &mut [Ranks],
) -> Result<()> {
    let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
    let chosen: UInt32Array = (0..rows)
        .filter(|_| share >= 1.0 || random.random_bool(share))
        .map(Some)
        .collect();
    for (ranks, column) in columns.iter_mut().zip(batch.columns()) {
        ranks.add(&take(column, &chosen, None)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{Float64Array, StringArray};

    #[test]
    fn ranks_ascend_with_the_values_nulls_first_and_nans_last() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![
            Some(1e300),
            None,
            Some(f64::NAN),
            Some(-0.5),
            Some(f64::NEG_INFINITY),
            Some(3.0),
        ]));
        let strings: ArrayRef = Arc::new(StringArray::from(vec![
            Some("b"),
            None,
            Some("zz"),
            Some("ab"),
            Some(""),
            Some("aé"),
        ]));
        for (values, order) in [(floats, [1, 4, 3, 5, 0, 2]), (strings, [1, 4, 3, 5, 0, 2])] {
            let mut ranks = Ranks::new(values.data_type()).unwrap();
            ranks.add(&values).unwrap();
            ranks.sample.sort_unstable();
            let rows = ranks.converter.convert_columns(&[values]).unwrap();
            let found: Vec<u16> = order
                .iter()
                .map(|i| ranks.of(rows.row(*i).data()))
                .collect();
            assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        }
    }
}
