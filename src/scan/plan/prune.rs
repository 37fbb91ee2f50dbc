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
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::PhysicalExpr;

use crate::format::manifest::SuperfileEntry;
use crate::format::stats::{ColumnStats, StatValue};
use crate::scan::plan::statistics::ColumnIds;

/// The entries that may hold a row satisfying `predicate`, in order.
pub(crate) fn prune(
    entries: Vec<Arc<SuperfileEntry>>,
    predicate: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
    columns: &ColumnIds,
) -> Vec<Arc<SuperfileEntry>> {
    if entries.is_empty() {
        return entries;
    }
    let Some(pruning) = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(schema))
        .build(Arc::clone(predicate))
    else {
        return entries;
    };
    let statistics = EntryStatistics {
        entries: &entries,
        columns,
    };
    match pruning.prune(&statistics) {
        Ok(keep) if keep.len() == entries.len() => entries
            .into_iter()
            .zip(keep)
            .filter_map(|(entry, keep)| keep.then_some(entry))
            .collect(),
        // Pruning is an optimisation: a predicate it cannot evaluate is evaluated by the scan.
        _ => entries,
    }
}

struct EntryStatistics<'a> {
    entries: &'a [Arc<SuperfileEntry>],
    columns: &'a ColumnIds,
}

impl EntryStatistics<'_> {
    fn bounds(
        &self,
        column: &Column,
        pick: impl Fn(&ColumnStats) -> Option<&StatValue>,
    ) -> Option<ArrayRef> {
        let data_type = self.columns.type_of(&column.name)?;
        let null = ScalarValue::try_from(data_type).ok()?;
        let values = self.entries.iter().map(|entry| {
            self.columns
                .stats_of(entry, &column.name)
                .and_then(|(stats, data_type)| pick(stats)?.to_scalar(data_type))
                .unwrap_or_else(|| null.clone())
        });
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for EntryStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |s| s.min.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |s| s.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.entries.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts: UInt64Array = self
            .entries
            .iter()
            .map(|entry| {
                self.columns
                    .stats_of(entry, &column.name)
                    .and_then(|(stats, _)| stats.null_count)
            })
            .collect();
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows: UInt64Array = self.entries.iter().map(|e| Some(e.rows)).collect();
        Some(Arc::new(rows))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
