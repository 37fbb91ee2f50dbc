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

use arrow::array::{AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::compute::filter_record_batch;
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
        let deleted = self.deleted;
        self.inner
            .into_stream()
            .and_then(move |batch| std::future::ready(live_rows_of(&batch, &deleted)))
            .try_filter(|batch| std::future::ready(batch.num_rows() > 0))
            .boxed()
    }
}

/// The rows of `batch` whose position, its last column, is not among `deleted`; without that column.
fn live_rows_of(batch: &RecordBatch, deleted: &RoaringBitmap) -> Result<RecordBatch> {
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
    Ok(match live(positions.values(), deleted)? {
        None => wanted,
        Some(alive) => filter_record_batch(&wanted, &alive)?,
    })
}

/// Which of the rows at `positions` are alive; `None` if all are.
fn live(positions: &[i64], deleted: &RoaringBitmap) -> Result<Option<BooleanArray>> {
    let position = |p: i64| {
        u32::try_from(p)
            .map_err(|_| internal_datafusion_err!("{p} is not a row's position in a superfile"))
    };
    let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
        return Ok(None);
    };
    // Without a way out before the end, so that it is compiled to a few vector instructions.
    let expected = (0_i64..).map(|i| first.wrapping_add(i));
    let differences = positions
        .iter()
        .zip(expected)
        .fold(0, |all, (p, e)| all | (p ^ e));
    if differences != 0 {
        let alive =
            |p: &i64| Ok::<_, datafusion::error::DataFusionError>(!deleted.contains(position(*p)?));
        let alive: Vec<bool> = positions.iter().map(alive).collect::<Result<_>>()?;
        return Ok((!alive.iter().all(|a| *a)).then(|| BooleanArray::from(alive)));
    }
    let (first, last) = (position(*first)?, position(*last)?);
    let mut gaps = deleted.iter();
    gaps.advance_to(first);
    let mut alive = BooleanBufferBuilder::new(positions.len());
    let mut next = first;
    while let Some(gap) = gaps.next_range() {
        if *gap.start() > last {
            break;
        }
        let gap_end = last.min(*gap.end());
        alive.append_n((*gap.start() - next) as usize, true);
        alive.append_n((gap_end - *gap.start()) as usize + 1, false);
        next = gap_end.saturating_add(1);
        if gap_end == last {
            break;
        }
    }
    if alive.is_empty() {
        return Ok(None);
    }
    alive.append_n(positions.len() - alive.len(), true);
    Ok(Some(BooleanArray::new(alive.finish(), None)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn kept(positions: Vec<i64>, deleted: &RoaringBitmap) -> Vec<i64> {
        let names: StringArray = positions.iter().map(|p| Some(format!("row {p}"))).collect();
        let positions = Int64Array::from(positions);
        let batch = RecordBatch::try_from_iter([
            ("name", Arc::new(names) as ArrayRef),
            ("position", Arc::new(positions) as ArrayRef),
        ]);
        let live = live_rows_of(&batch.unwrap(), deleted).unwrap();
        assert_eq!(live.num_columns(), 1, "the positions are not passed on");
        let names = live.column(0).as_string::<i32>().iter();
        names.map(|n| n.unwrap()[4..].parse().unwrap()).collect()
    }

    #[test]
    fn rows_are_counted_when_no_column_is_wanted() {
        let positions: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        let batch = RecordBatch::try_from_iter([("position", positions)]).unwrap();
        let live = live_rows_of(&batch, &(2..5).collect()).unwrap();
        assert_eq!((live.num_columns(), live.num_rows()), (0, 7));
    }

    #[test]
    fn a_position_that_no_superfile_has_is_an_error() {
        let far = vec![i64::from(u32::MAX) + 1];
        assert!(live(&far, &RoaringBitmap::new()).is_err());
        assert!(live(&[-1], &RoaringBitmap::new()).is_err());
    }

    #[test]
    fn the_last_position_of_all_can_be_deleted() {
        let deleted: RoaringBitmap = [u32::MAX].into_iter().collect();
        let positions = vec![i64::from(u32::MAX) - 1, i64::from(u32::MAX)];
        assert_eq!(kept(positions, &deleted), [i64::from(u32::MAX) - 1]);
    }

    proptest! {
        #[test]
        fn exactly_the_rows_that_are_not_deleted_stay_in_order(
            start in 0_i64..300,
            rows in 0_usize..300,
            deleted in proptest::collection::btree_set(0_u32..700, 0..300),
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
