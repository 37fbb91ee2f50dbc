//! Honest statistics for a scan over superfiles with tombstones.
//!
//! DataFusion answers `count(*)`, `MIN` and `MAX` from exact statistics without reading data, and
//! its Parquet opener replaces a column by NULL where a file's null count equals its row count.
//! Two layers must therefore never be mixed:
//!
//! - a **file's** statistics are physical: all rows of the superfile, deleted ones included;
//! - the **scan's** statistics are logical: the exact number of live rows, and column bounds that
//!   are inexact as soon as one row of the scanned superfiles is deleted.
//!
//! Invariant: no `Statistics` value built here holds a live row count beside a physical null count
//! that is marked exact.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics};

use crate::format::manifest::{SuperfileEntry, field_id};
use crate::format::stats::{ColumnStats, SuperfileStats};

/// Which field id the i-th column of a scan has, if it is a stored column with one.
#[derive(Debug, Clone)]
pub(crate) struct ColumnIds {
    ids: Vec<Option<i32>>,
    types: Vec<DataType>,
    by_name: HashMap<String, usize>,
}

impl ColumnIds {
    /// Reads the field ids that `schema`'s top-level fields carry in their metadata.
    pub(crate) fn of(schema: &SchemaRef) -> Self {
        let mut this = Self {
            ids: Vec::new(),
            types: Vec::new(),
            by_name: HashMap::new(),
        };
        for (i, field) in schema.fields().iter().enumerate() {
            this.ids.push(field_id(field));
            this.types.push(field.data_type().clone());
            this.by_name.insert(field.name().clone(), i);
        }
        this
    }

    /// The recorded statistics of a column by name, with the column's type.
    pub(crate) fn stats_of<'a>(
        &self,
        rows: &'a SuperfileStats,
        name: &str,
    ) -> Option<(&'a ColumnStats, &DataType)> {
        let at = *self.by_name.get(name)?;
        let id = (*self.ids.get(at)?)?;
        Some((rows.columns.get(&id)?, self.types.get(at)?))
    }

    /// The type of a column by name.
    pub(crate) fn type_of(&self, name: &str) -> Option<&DataType> {
        self.types.get(*self.by_name.get(name)?)
    }

    fn len(&self) -> usize {
        self.ids.len()
    }
}

/// Physical statistics of one superfile: every row that the file holds, deleted or not.
pub(crate) fn physical(entry: &SuperfileEntry, columns: &ColumnIds) -> Statistics {
    let column_statistics = columns
        .ids
        .iter()
        .zip(&columns.types)
        .map(|(id, data_type)| {
            id.and_then(|id| entry.stats.columns.get(&id))
                .map(|c| column(c, data_type))
                .unwrap_or_else(ColumnStatistics::new_unknown)
        })
        .collect();
    Statistics {
        num_rows: Precision::Exact(to_usize(entry.rows)),
        total_byte_size: Precision::Absent,
        column_statistics,
    }
}

/// Logical statistics of a scan over `entries`: live rows exact, columns exact only while nothing
/// is deleted in any of them. `extra` unknown columns follow the stored ones.
pub(crate) fn logical(
    entries: &[Arc<SuperfileEntry>],
    schema: &SchemaRef,
    columns: &ColumnIds,
    extra: usize,
) -> Result<Statistics> {
    let live: u64 = entries.iter().map(|e| e.live_rows()).sum();
    let touched = entries.iter().any(|e| e.tombstones.is_some());
    let files: Vec<Statistics> = entries.iter().map(|e| physical(e, columns)).collect();
    let mut merged = Statistics::try_merge_iter(&files, schema)?;
    if touched {
        merged = merged.to_inexact();
    }
    merged
        .column_statistics
        .resize(columns.len() + extra, ColumnStatistics::new_unknown());
    merged.num_rows = Precision::Exact(to_usize(live));
    merged.total_byte_size = Precision::Absent;
    Ok(merged)
}

fn column(stats: &ColumnStats, data_type: &DataType) -> ColumnStatistics {
    let bound = |value: &Option<crate::format::stats::StatValue>, exact: bool| match value
        .as_ref()
        .and_then(|v| v.to_scalar(data_type))
    {
        None => Precision::Absent,
        Some(scalar) if exact => Precision::Exact(scalar),
        Some(scalar) => Precision::Inexact(scalar),
    };
    ColumnStatistics {
        null_count: stats
            .null_count
            .map_or(Precision::Absent, |n| Precision::Exact(to_usize(n))),
        min_value: bound(&stats.min, stats.min_exact),
        max_value: bound(&stats.max, stats.max_exact),
        ..ColumnStatistics::new_unknown()
    }
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
