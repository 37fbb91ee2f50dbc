//! Which superfiles a predicate can exclude by the manifest's statistics alone.
//!
//! Owns the adapter from manifest statistics to DataFusion's `PruningPredicate`. Does not own the
//! predicate: it is built from the scan's filters by the caller's session.
//!
//! Invariant: a superfile is dropped only when no row that it physically holds can satisfy the
//! predicate. Row counts and null counts are both physical (deleted rows included), which keeps
//! `IS NULL` pruning right. Whatever cannot be analysed keeps every superfile.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::PhysicalExpr;

use crate::format::stats::{ColumnStats, RowStats, StatValue};
use crate::scan::plan::statistics::ColumnIds;

/// What a predicate excludes.
pub(crate) struct Pruner<'a> {
    /// `None`: nothing.
    predicate: Option<Arc<PruningPredicate>>,
    columns: &'a ColumnIds,
}

impl<'a> Pruner<'a> {
    /// Of a predicate over the columns of `schema`.
    pub(crate) fn new(
        predicate: &Arc<dyn PhysicalExpr>,
        schema: &SchemaRef,
        columns: &'a ColumnIds,
    ) -> Self {
        let predicate = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(schema))
            .build(Arc::clone(predicate));
        Self { predicate, columns }
    }

    /// Which of these may have a row that satisfies the predicate.
    pub(crate) fn keep(&self, all: &[RowStats<'_>]) -> Vec<bool> {
        let everything = || vec![true; all.len()];
        let (Some(predicate), false) = (&self.predicate, all.is_empty()) else {
            return everything();
        };
        let columns = self.columns;
        match predicate.prune(&Statistics { all, columns }) {
            Ok(keep) if keep.len() == all.len() => keep,
            // Pruning is an optimisation: a predicate it cannot evaluate is evaluated by the scan.
            _ => everything(),
        }
    }
}

struct Statistics<'a> {
    all: &'a [RowStats<'a>],
    columns: &'a ColumnIds,
}

impl Statistics<'_> {
    fn bounds(
        &self,
        column: &Column,
        pick: impl Fn(&ColumnStats) -> Option<&StatValue>,
    ) -> Option<ArrayRef> {
        let data_type = self.columns.type_of(&column.name)?;
        let null = ScalarValue::try_from(data_type).ok()?;
        let values = self.all.iter().map(|rows| {
            self.columns
                .stats_of(rows.columns, &column.name)
                .and_then(|(stats, data_type)| pick(stats)?.to_scalar(data_type))
                .unwrap_or_else(|| null.clone())
        });
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for Statistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |s| s.min.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |s| s.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.all.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts: UInt64Array = self
            .all
            .iter()
            .map(|rows| {
                self.columns
                    .stats_of(rows.columns, &column.name)
                    .and_then(|(stats, _)| stats.null_count)
            })
            .collect();
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows: UInt64Array = self.all.iter().map(|rows| Some(rows.rows)).collect();
        Some(Arc::new(rows))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
