//! Deleted rows taken out of decoded batches.
//!
//! Owns what happens to the batches of a file whose tombstones are scattered: every row is decoded, and
//! the deleted ones are dropped afterwards. For Parquet's reader each gap in a selection ends one call
//! into every column's decoder and begins another, which costs more than the few rows that it saves
//! (1 % of 10 million rows, every hundredth: 60 ms of decoding more; dropped afterwards: 10 ms).
//!
//! Does not own which row groups are read like this: `selection` does. A row is known by its position in
//! the file, which the reader yields as one more column, so that whatever else the reader skips (row
//! groups, pages, rows that a pushed-down filter removes) and in whichever order it reads, the rows
//! dropped are the deleted ones.
//!
//! Invariant: a batch leaves with the columns that were asked for, its live rows, in their order.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch,
    downcast_primitive_array,
};
use arrow::compute::{FilterBuilder, FilterPredicate, filter_record_batch};
use arrow::datatypes::Int64Type;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::physical_plan::FileSource;
use datafusion::functions::core::file_row_index;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;

use crate::scan::row_address::{ADDRESS_POSITION, position_field};
use crate::scan::tombstones::filter::Alive;

/// `source`, with each row's position in its file as one more column at the end; `None` if the source
/// cannot be asked for it.
pub(crate) fn with_positions(source: &dyn FileSource) -> Result<Option<Arc<dyn FileSource>>> {
    let Some(projection) = source.projection() else {
        return Ok(None);
    };
    let position = ScalarFunctionExpr::new(
        file_row_index().name(),
        file_row_index(),
        vec![],
        position_field(),
        Arc::new(ConfigOptions::default()),
    );
    let asked_for = projection.iter().enumerate().map(|(i, column)| {
        let same = Arc::new(Column::new(&column.alias, i));
        ProjectionExpr::new(same, column.alias.clone())
    });
    let position = ProjectionExpr::new(Arc::new(position), ADDRESS_POSITION.to_owned());
    let all: ProjectionExprs = asked_for.chain([position]).collect();
    source.try_pushdown_projection(&all)
}

/// A planner whose batches have their row's positions as last column, and leave without it and without
/// the rows at `deleted`.
pub(crate) struct MaskedPlanner {
    inner: Box<dyn MorselPlanner>,
    deleted: Arc<RoaringBitmap>,
}

impl fmt::Debug for MaskedPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskedPlanner")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl MaskedPlanner {
    /// `inner`, masked.
    pub(crate) fn boxed(
        inner: Box<dyn MorselPlanner>,
        deleted: &Arc<RoaringBitmap>,
    ) -> Box<dyn MorselPlanner> {
        Box::new(Self {
            inner,
            deleted: Arc::clone(deleted),
        })
    }
}

impl MorselPlanner for MaskedPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let deleted = self.deleted;
        let Some(mut plan) = self.inner.plan()? else {
            return Ok(None);
        };
        let morsels = plan.take_morsels().into_iter().map(|inner| {
            let deleted = Arc::clone(&deleted);
            Box::new(MaskedMorsel { inner, deleted }) as Box<dyn Morsel>
        });
        let planners = plan.take_ready_planners().into_iter();
        let mut masked = MorselPlan::new()
            .with_morsels(morsels.collect())
            .with_planners(planners.map(|p| Self::boxed(p, &deleted)).collect());
        if let Some(pending) = plan.take_pending_planner() {
            masked.set_pending_planner(async move { Ok(Self::boxed(pending.await?, &deleted)) });
        }
        Ok(Some(masked))
    }
}

struct MaskedMorsel {
    inner: Box<dyn Morsel>,
    deleted: Arc<RoaringBitmap>,
}

impl fmt::Debug for MaskedMorsel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskedMorsel")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Morsel for MaskedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let mut alive = Alive::new(self.deleted);
        self.inner
            .into_stream()
            .and_then(move |batch| std::future::ready(live_rows_of(&batch, &mut alive)))
            .try_filter(|batch| std::future::ready(batch.num_rows() > 0))
            .boxed()
    }
}

/// The rows of `batch` whose position, its last column, is alive; without that column.
fn live_rows_of(batch: &RecordBatch, alive: &mut Alive) -> Result<RecordBatch> {
    let Some((positions, columns)) = batch.columns().split_last() else {
        return Err(internal_datafusion_err!(
            "a batch of a scan with positions has no column"
        ));
    };
    let Some(positions) = positions.as_primitive_opt::<Int64Type>() else {
        return Err(internal_datafusion_err!(
            "the positions of a scan are of type {}",
            positions.data_type()
        ));
    };
    let asked_for: Vec<usize> = (0..columns.len()).collect();
    let wanted = batch.project(&asked_for)?;
    Ok(match alive.among(positions.values())? {
        None => wanted,
        Some(alive) => filtered(&wanted, &alive)?,
    })
}

/// Rows that follow one another are copied at once if there are so many of them on average.
const LONG_RUN: usize = 32;

/// The rows of `batch` at which `alive`, without nulls, is set.
fn filtered(batch: &RecordBatch, alive: &BooleanArray) -> Result<RecordBatch> {
    let rows = alive.true_count();
    let most = rows / LONG_RUN;
    let runs: Vec<_> = alive.values().set_slices().take(most + 1).collect();
    // Arrow's own filter takes single rows as soon as a fifth is dropped.
    if runs.len() > most || batch.num_columns() == 0 {
        return Ok(filter_record_batch(batch, alive)?);
    }
    let others = FilterBuilder::new(alive).build();
    let columns = batch.columns().iter().map(|column| {
        let column: &dyn Array = column;
        downcast_primitive_array! {
            column => Ok(in_runs(column, &runs, rows, &others)),
            _ => others.filter(column),
        }
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// The values of `column` in `runs`, which are `rows` together and what `filter` selects.
fn in_runs<T: ArrowPrimitiveType>(
    column: &PrimitiveArray<T>,
    runs: &[(usize, usize)],
    rows: usize,
    filter: &FilterPredicate,
) -> ArrayRef {
    let mut values = Vec::with_capacity(rows);
    for (start, end) in runs {
        values.extend_from_slice(column.values().get(*start..*end).unwrap_or_default());
    }
    let nulls = filter.filter_nulls(column.nulls());
    let kept = PrimitiveArray::<T>::new(values.into(), nulls);
    Arc::new(kept.with_data_type(column.data_type().clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Int64Array, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::TimestampNanosecondType;
    use proptest::prelude::*;

    use super::*;

    fn kept(positions: Vec<i64>, deleted: &RoaringBitmap) -> Vec<i64> {
        let names: StringArray = positions.iter().map(|p| Some(format!("row {p}"))).collect();
        let value = |p: &i64| (p % 3 > 0).then_some(p * 7);
        let values: Int64Array = positions.iter().map(value).collect();
        let times: TimestampNanosecondArray = positions.iter().map(|p| Some(*p)).collect();
        let positions = Int64Array::from(positions);
        let batch = RecordBatch::try_from_iter([
            ("name", Arc::new(names) as ArrayRef),
            ("value", Arc::new(values) as ArrayRef),
            ("time", Arc::new(times.with_timezone("+02:00")) as ArrayRef),
            ("position", Arc::new(positions) as ArrayRef),
        ])
        .unwrap();
        let mut alive = Alive::new(Arc::new(deleted.clone()));
        let live = live_rows_of(&batch, &mut alive).unwrap();
        assert_eq!(live.num_columns(), 3, "the positions are not passed on");
        assert_eq!(live.schema().field(2), batch.schema().field(2));
        let names = live.column(0).as_string::<i32>().iter();
        let kept: Vec<i64> = names.map(|n| n.unwrap()[4..].parse().unwrap()).collect();
        let values = live.column(1).as_primitive::<Int64Type>().iter();
        assert!(values.eq(kept.iter().map(value)));
        let times = live.column(2).as_primitive::<TimestampNanosecondType>();
        assert_eq!(times.values(), kept.as_slice());
        kept
    }

    #[test]
    fn rows_are_counted_when_no_column_is_wanted() {
        let positions: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        let batch = RecordBatch::try_from_iter([("position", positions)]).unwrap();
        let mut alive = Alive::new(Arc::new((2..5).collect()));
        let live = live_rows_of(&batch, &mut alive).unwrap();
        assert_eq!((live.num_columns(), live.num_rows()), (0, 7));
    }

    proptest! {
        #[test]
        fn exactly_the_rows_that_are_not_deleted_stay_in_order(
            start in 0_i64..300,
            rows in 0_usize..300,
            deleted in proptest::collection::btree_set(0_u32..700, 0..600),
            run in 0_u32..400,
            turned in proptest::option::of(0_usize..300),
            holes in proptest::collection::btree_set(0_i64..600, 0..20),
        ) {
            let deleted: RoaringBitmap = deleted.into_iter().chain(300..300 + run).collect();
            let mut positions: Vec<i64> = (start..start + rows as i64).collect();
            if let Some(by) = turned {
                // Row groups may be read in another order, and pages be skipped.
                positions.retain(|p| !holes.contains(p));
                if !positions.is_empty() {
                    let by = by % positions.len();
                    positions.rotate_left(by);
                }
            }
            let expected: Vec<i64> = positions
                .iter()
                .copied()
                .filter(|p| !deleted.contains(*p as u32))
                .collect();
            prop_assert_eq!(kept(positions, &deleted), expected);
        }
    }
}
