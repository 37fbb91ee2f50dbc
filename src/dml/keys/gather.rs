//! From columns of rows to gathered keys.
//!
//! Owns what is the same for the keys that a `MERGE` finds absent and for declared ones: a key with a NULL is none, and
//! keys are gathered until there are too many. Does not own what gathered keys are (`format::keys`).

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::{and, is_not_null};
use datafusion::common::{Result, ScalarValue};

use crate::format::keys::KeyGatherer;
use crate::format::stats::StatValue;

/// The rows in which no column is NULL; `None` if those are all.
pub(crate) fn whole_rows(columns: &[ArrayRef]) -> Result<Option<BooleanArray>> {
    let mut whole: Option<BooleanArray> = None;
    for column in columns.iter().filter(|column| column.null_count() > 0) {
        let valid = is_not_null(column)?;
        whole = Some(match whole {
            Some(whole) => and(&whole, &valid)?,
            None => valid,
        });
    }
    Ok(whole)
}

/// Adds the keys of these columns, in which nothing is NULL, until the gatherer is full.
pub(crate) fn gather(gatherer: &mut KeyGatherer, columns: &[ArrayRef]) -> Result<()> {
    let rows = columns.first().map_or(0, |column| column.len());
    for row in 0..rows {
        if gatherer.is_full() {
            break;
        }
        let values = columns.iter().map(|column| {
            let scalar = ScalarValue::try_from_array(column, row)?;
            Ok(StatValue::from_scalar(&scalar))
        });
        gatherer.add(values.collect::<Result<_>>()?);
    }
    Ok(())
}
