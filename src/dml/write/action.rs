//! What a `MERGE` does with each of its rows.
//!
//! Owns the codes, which the plan yields and the sink reads.

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::Int8Type;
use datafusion::common::Result;

use crate::table::Effect;

/// Name of the action column: one of the codes below.
pub(crate) const ACTION: &str = "__supertable_action";
/// The addressed row is deleted.
pub(crate) const ACTION_DELETE: i8 = 0;
/// The addressed row is replaced by the values.
pub(crate) const ACTION_UPDATE: i8 = 1;
/// The values are a new row; there is no address.
pub(crate) const ACTION_INSERT: i8 = 2;

/// The rows of a `MERGE` batch that change a target row, and those that are written; counts both.
pub(super) fn split_actions(
    batch: &RecordBatch,
    effect: &mut Effect,
) -> Result<(RecordBatch, RecordBatch)> {
    let actions = batch
        .column(batch.schema().index_of(ACTION)?)
        .as_primitive::<Int8Type>();
    let is =
        |action: i8| -> BooleanArray { actions.iter().map(|a| Some(a == Some(action))).collect() };
    let (deletes, inserts) = (is(ACTION_DELETE), is(ACTION_INSERT));
    effect.rows_deleted += deletes.true_count() as u64;
    effect.rows_inserted += inserts.true_count() as u64;
    effect.rows_updated += is(ACTION_UPDATE).true_count() as u64;
    Ok((
        filter_record_batch(batch, &not(&inserts)?)?,
        filter_record_batch(batch, &not(&deletes)?)?,
    ))
}
