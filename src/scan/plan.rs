//! The physical plan of a scan over one pinned snapshot.
//!
//! Owns the mapping from a table's columns, visible and hidden, to the columns that the Parquet
//! reader is asked for. The leaf stays a `DataSourceExec` over a `FileScanConfig`, so that every
//! rule of DataFusion for Parquet (projection, filter, limit and sort pushdown, dynamic filters,
//! repartitioning) keeps working.
//!
//! Invariant: the plan's rows are exactly the live rows of the snapshot, minus rows that cannot
//! satisfy `filters`; whoever asks still applies the filters.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, ScalarFunctionExpr};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::format::manifest::{RowIds, SuperfileEntry};
use crate::format::{SuperfileId, paths};
use crate::scan::columns::Adopted;
use crate::scan::defaults::{InitialDefaults, initial_defaults};
use crate::scan::in_place::InPlaceStore;
use crate::scan::ordering::{declared_order, ordered_groups};
use crate::scan::prune::prune;
use crate::scan::reader::SuperfileReaders;
use crate::scan::row_address::{ADDRESS_FILE, ADDRESS_POSITION};
use crate::scan::row_address::{
    FIRST_ROW_ID, ROW_ID, file_field, first_row_id_field, position_field, row_id_field,
    row_id_function, stored_row_id_field, stored_row_id_name,
};
use crate::scan::source::{ScanSummary, SupertableSource};
use crate::scan::statistics::{ColumnIds, logical, physical};
use crate::scan::subset::{Rows, Subset};
use crate::scan::tombstoned::Tombstoned;
use crate::storage::ExactStore;
use crate::table::Snapshot;

/// Where a table's objects are, in terms of a session's object stores.
#[derive(Debug, Clone)]
pub struct ScanLocation {
    /// The store, as the session's registry knows it.
    pub store_url: ObjectStoreUrl,
    /// The table's root within that store.
    pub root: Path,
}

impl ScanLocation {
    /// The full path, within the session's store, of an object of the table.
    pub fn resolve(&self, relative: &Path) -> Path {
        self.root.parts().chain(relative.parts()).collect()
    }

    /// The full path, within the session's store, of a superfile, be it the table's own or another's.
    pub fn of(&self, entry: &SuperfileEntry) -> Path {
        match entry.stats.in_place() {
            Some(file) => file.place().resolve(&self.root),
            None => self.resolve(&paths::superfile(&entry.id)),
        }
    }
}

/// Which hidden columns a scan yields after the table's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HiddenColumns {
    /// The row id `_id`.
    pub row_id: bool,
    /// The row's address: superfile ordinal and position.
    pub address: bool,
}

impl HiddenColumns {
    /// `visible` with the hidden columns appended: `_id`, then the address.
    pub fn extend(self, visible: &SchemaRef) -> SchemaRef {
        if self == Self::default() {
            return Arc::clone(visible);
        }
        let mut fields: Vec<FieldRef> = visible.fields().iter().cloned().collect();
        if self.row_id {
            fields.push(row_id_field());
        }
        if self.address {
            fields.push(file_field());
            // With the reader's mark on it: a projection that took it off would not be pushed into
            // the filter below, which would then copy the predicate's columns for nothing.
            fields.push(position_field());
        }
        Arc::new(Schema::new_with_metadata(
            fields,
            visible.metadata().clone(),
        ))
    }
}

/// Rows of one piece of a file that has tombstones: those of one row group, by default.
const PIECE_ROWS: u64 = 1 << 20;

/// One scan: what is read of which snapshot.
#[derive(Debug)]
pub struct ScanRequest<'a> {
    /// The pinned version.
    pub snapshot: Arc<Snapshot>,
    /// The table's visible schema, as the session sees it.
    pub schema: SchemaRef,
    /// Hidden columns that follow the visible ones.
    pub hidden: HiddenColumns,
    /// The superfiles and rows that are read; all live ones if `None`.
    pub subset: Option<&'a Subset>,
    /// Wanted columns, as indices into `schema` extended by `hidden`; all if `None`.
    pub projection: Option<&'a [usize]>,
    /// Predicates that every wanted row satisfies; used for pruning only.
    pub filters: &'a [Expr],
    /// At most so many rows are wanted, any of them.
    pub limit: Option<usize>,
    /// Superfiles that are not read, because the statement drops them whole.
    pub dropped: Option<&'a BTreeSet<SuperfileId>>,
    /// Where the objects are.
    pub location: &'a ScanLocation,
}

/// The superfiles of a snapshot in scan order: a row address's ordinal is the index here.
pub fn scan_order(snapshot: &Snapshot) -> Vec<Arc<SuperfileEntry>> {
    snapshot.manifest().entries().cloned().collect()
}

/// Builds the physical plan of `request`.
///
/// # Errors
/// Fails if a filter or the projection does not fit the schema, or if the session does not know
/// the table's object store.
pub fn plan_scan(state: &dyn Session, request: ScanRequest<'_>) -> Result<Arc<dyn ExecutionPlan>> {
    plan_scan_of(state, request, None)
}

/// [`plan_scan`] of some superfiles only; those that the snapshot does not have yield nothing.
///
/// # Errors
/// As [`plan_scan`].
pub fn plan_scan_of(
    state: &dyn Session,
    request: ScanRequest<'_>,
    only: Option<&HashSet<SuperfileId>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let full_schema = request.hidden.extend(&request.schema);
    let wanted: Vec<usize> = match request.projection {
        Some(indices) => indices.to_vec(),
        None => (0..full_schema.fields().len()).collect(),
    };
    let wanted_names = wanted
        .iter()
        .map(|i| match full_schema.fields().get(*i) {
            Some(field) => Ok(field.name().as_str()),
            None => exec_err!("projected column {i} is not in the table's schema"),
        })
        .collect::<Result<Vec<&str>>>()?;
    let layout = Layout::new(&request, &wanted_names);

    // The recorded statistics go by field id, which only the stored schema carries.
    let column_ids = ColumnIds::of(&request.snapshot.schema());
    let all = scan_order(&request.snapshot);
    let total = all.len();
    let mut numbered: Vec<(usize, Arc<SuperfileEntry>)> = all
        .into_iter()
        .enumerate()
        .filter(|(_, entry)| only.is_none_or(|only| only.contains(&entry.id)))
        .collect();
    if let Some(subset) = request.subset {
        numbered.retain(|(_, entry)| subset.get(&entry.id).is_some());
    }
    let mut left_out = 0;
    if let Some(dropped) = request.dropped {
        numbered.retain(|(_, entry)| !dropped.contains(&entry.id));
        left_out = total - numbered.len();
    }
    if let Some(predicate) = conjunction(request.filters.iter().cloned()) {
        let df_schema = DFSchema::try_from(Arc::clone(&full_schema))?;
        let predicate = state.create_physical_expr(predicate, &df_schema)?;
        numbered = prune_numbered(numbered, &predicate, &full_schema, &column_ids);
    } else if let Some(limit) = request.limit {
        numbered = enough_for_limit(numbered, limit);
    }
    let entries: Vec<Arc<SuperfileEntry>> = numbered.iter().map(|(_, e)| Arc::clone(e)).collect();
    let summary = ScanSummary {
        superfiles: total,
        dropped: left_out,
        pruned: total - left_out - entries.len(),
        tombstoned_rows: entries.iter().map(|e| e.rows - e.live_rows()).sum(),
    };

    let mut statistics = logical(
        &entries,
        &request.schema,
        &column_ids,
        layout.table_schema.table_schema().fields().len() - request.schema.fields().len(),
    )?;
    if request.limit.is_some() || request.subset.is_some() {
        statistics = statistics.to_inexact();
    }
    let files = numbered
        .iter()
        .map(|(ordinal, entry)| {
            let rows = request.subset.and_then(|subset| subset.get(&entry.id));
            layout.file(*ordinal, entry, rows, request.location, &column_ids)
        })
        .collect::<Result<Vec<_>>>()?;
    let partitions = state.config().target_partitions();
    let all_columns = layout.table_schema.table_schema();
    let order = declared_order(&request.snapshot.metadata().sort_order, all_columns);
    let ordered = match &order {
        Some(order) => ordered_groups(&files, order, all_columns, partitions)?,
        None => None,
    };
    let announced: Vec<LexOrdering> = order.filter(|_| ordered.is_some()).into_iter().collect();
    let groups = ordered.unwrap_or_else(|| in_pieces(files, &entries, partitions));

    let runtime = state.runtime_env();
    let mut store = runtime.object_store(&request.location.store_url)?;
    if request.location.store_url != ObjectStoreUrl::local_filesystem() {
        store = Arc::new(ExactStore::new(store));
    }
    let store = InPlaceStore::over(store, request.location, &entries);
    let cache = runtime.cache_manager.get_file_metadata_cache();
    let stored = request.snapshot.schema();
    let readers = SuperfileReaders::new(store, cache, stored, !request.filters.is_empty());
    let parquet = ParquetSource::new(layout.table_schema.clone())
        .with_table_parquet_options(state.default_table_options().parquet);
    let snapshot = Arc::clone(&request.snapshot);
    let source = SupertableSource::new(parquet, Arc::new(readers), snapshot, summary);
    let config = FileScanConfigBuilder::new(request.location.store_url.clone(), Arc::new(source))
        .with_file_groups(groups)
        .with_output_ordering(announced)
        .with_statistics(statistics)
        .with_projection_indices(Some(layout.read.clone()))?
        .with_limit(request.limit)
        .with_expr_adapter(Some(Arc::new(InitialDefaults(initial_defaults(
            request.snapshot.metadata(),
        )?))))
        .build();
    let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
    layout.finish(scan, &wanted_names, state)
}

fn prune_numbered(
    numbered: Vec<(usize, Arc<SuperfileEntry>)>,
    predicate: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
    columns: &ColumnIds,
) -> Vec<(usize, Arc<SuperfileEntry>)> {
    let entries = numbered.iter().map(|(_, e)| Arc::clone(e)).collect();
    let mut kept = prune(entries, predicate, schema, columns)
        .into_iter()
        .peekable();
    numbered
        .into_iter()
        .filter(|(_, entry)| kept.next_if(|k| k.id == entry.id).is_some())
        .collect()
}

fn enough_for_limit(
    numbered: Vec<(usize, Arc<SuperfileEntry>)>,
    limit: usize,
) -> Vec<(usize, Arc<SuperfileEntry>)> {
    let mut rows = 0_u64;
    numbered
        .into_iter()
        .take_while(|(_, entry)| {
            let more = rows < limit as u64;
            rows += entry.live_rows();
            more
        })
        .collect()
}

/// `files` in as many groups as there are partitions, at least one.
///
/// How much of a file is left to read is known only when its tombstones are, so a large file that has
/// some is given out in small pieces, of which a partition takes another when it is done with one.
/// Files without are split by DataFusion's optimizer, unless a file of the scan is in pieces already.
fn in_pieces(
    files: Vec<PartitionedFile>,
    entries: &[Arc<SuperfileEntry>],
    partitions: usize,
) -> Vec<FileGroup> {
    let is_large = |entry: &SuperfileEntry| entry.rows > PIECE_ROWS;
    let has_pieces = entries
        .iter()
        .any(|entry| entry.tombstones.is_some() && is_large(entry));
    if !has_pieces {
        let mut groups = FileGroup::new(files).split_files(partitions);
        if groups.is_empty() {
            groups.push(FileGroup::new(vec![]));
        }
        return groups;
    }
    let pieces = files
        .into_iter()
        .zip(entries)
        .flat_map(|(file, entry)| split(file, entry));
    dealt_out(&pieces.collect::<Vec<_>>(), partitions)
}

/// `pieces` in as many groups as there are partitions, one after the other: partitions take them from the groups
/// as if those were one, so that a file is read in its order.
fn dealt_out(pieces: &[PartitionedFile], partitions: usize) -> Vec<FileGroup> {
    let groups = pieces.len().min(partitions.max(1));
    let start = |k: usize| pieces.len() * k / groups;
    (0..groups)
        .filter_map(|k| pieces.get(start(k)..start(k + 1)))
        .map(|group| FileGroup::new(group.to_vec()))
        .collect()
}

/// A file as pieces of about equal bytes, which leave nothing of it out.
fn split(file: PartitionedFile, entry: &SuperfileEntry) -> Vec<PartitionedFile> {
    let pieces = entry.rows.div_ceil(PIECE_ROWS);
    let (Ok(size), Ok(pieces)) = (i64::try_from(entry.size), i64::try_from(pieces)) else {
        return vec![file];
    };
    if pieces < 2 {
        return vec![file];
    }
    let bound = |k: i64| if k == pieces { size } else { size / pieces * k };
    (0..pieces)
        .map(|k| file.clone().with_range(bound(k), bound(k + 1)))
        .collect()
}

/// How wanted columns map to what the Parquet reader is asked for.
struct Layout {
    table_schema: TableSchema,
    /// Indices into `table_schema` of the columns to read.
    read: Vec<usize>,
    row_id: bool,
    /// The name of the stored row id.
    stored_id: &'static str,
    address: bool,
    visible: usize,
}

impl Layout {
    fn new(request: &ScanRequest<'_>, wanted: &[&str]) -> Self {
        let row_id = request.hidden.row_id && wanted.contains(&ROW_ID);
        let address = request.hidden.address
            && (wanted.contains(&ADDRESS_FILE) || wanted.contains(&ADDRESS_POSITION));
        let mut fields: Vec<FieldRef> = request.schema.fields().iter().cloned().collect();
        if row_id {
            fields.push(stored_row_id_field(&request.schema));
        }
        let stored_id = stored_row_id_name(&request.schema);
        let file_schema = Arc::new(Schema::new(fields));
        let mut constants = Vec::new();
        if address {
            constants.push(file_field());
        }
        if row_id {
            constants.push(first_row_id_field());
        }
        let mut virtuals = Vec::new();
        if address || row_id {
            virtuals.push(position_field());
        }
        let table_schema = TableSchema::builder(file_schema)
            .with_table_partition_cols(constants)
            .with_virtual_columns(virtuals)
            .build();

        let all = table_schema.table_schema();
        let mut names: Vec<&str> = wanted.to_vec();
        if row_id {
            names.extend([stored_id, FIRST_ROW_ID, ADDRESS_POSITION]);
        }
        let mut read = Vec::new();
        for name in names {
            if let Ok(index) = all.index_of(name)
                && !read.contains(&index)
            {
                read.push(index);
            }
        }
        Self {
            read,
            row_id,
            stored_id,
            address,
            visible: request.schema.fields().len(),
            table_schema,
        }
    }

    fn file(
        &self,
        ordinal: usize,
        entry: &Arc<SuperfileEntry>,
        rows: Option<&Rows>,
        location: &ScanLocation,
        columns: &ColumnIds,
    ) -> Result<PartitionedFile> {
        let mut file = PartitionedFile::new_from_meta(ObjectMeta {
            location: location.of(entry),
            // Fixed for the superfile's life, so that footers stay cached across statements.
            last_modified: DateTime::from_timestamp_millis(entry.created_at_ms).unwrap_or_default(),
            size: entry.size,
            e_tag: None,
            version: None,
        });
        let mut constants = Vec::new();
        if self.address {
            let Ok(ordinal) = i32::try_from(ordinal) else {
                return exec_err!(
                    "a snapshot of more than {} superfiles cannot be changed by one statement",
                    i32::MAX
                );
            };
            constants.push(ScalarValue::Int32(Some(ordinal)));
        }
        if self.row_id {
            // Where ids are stored the span is never consulted; any value will do.
            let first = match &entry.row_ids {
                RowIds::Span(first) => first.as_i128(),
                RowIds::Stored => 0,
            };
            constants.push(ScalarValue::Decimal128(Some(first), 38, 0));
        }
        let mut statistics = physical(entry, columns);
        statistics.column_statistics.resize(
            self.visible + usize::from(self.row_id),
            datafusion::common::ColumnStatistics::new_unknown(),
        );
        file = file
            .with_partition_values(constants)
            .with_statistics(Arc::new(statistics));
        if entry.stats.in_place().is_none() {
            file = file.with_extension(entry.id);
        }
        if let Some(seal) = entry.stats.seal() {
            file = file.with_extension(seal);
        }
        let adopted: Adopted = entry.stats.adopted();
        if !adopted.is_empty() {
            file = file.with_extension(Arc::new(adopted));
        }
        let mark = match rows {
            Some(Rows::At(positions)) => {
                Some(Tombstoned::all_but(Arc::clone(positions), entry.rows))
            }
            Some(Rows::Live) | None => entry
                .tombstones
                .map(|reference| Tombstoned::new(reference, entry.rows)),
        };
        if let Some(mark) = mark {
            file = file.with_extension(Arc::new(mark));
        }
        Ok(file)
    }

    /// Computes row ids and restores the wanted column order.
    fn finish(
        &self,
        scan: Arc<dyn ExecutionPlan>,
        wanted: &[&str],
        state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !self.row_id {
            return Ok(scan);
        }
        let schema = scan.schema();
        let column = |name: &str| -> Result<Arc<dyn PhysicalExpr>> {
            Ok(Arc::new(Column::new_with_schema(name, &schema)?))
        };
        let exprs = wanted
            .iter()
            .map(|name| {
                let expr: Arc<dyn PhysicalExpr> = if *name == ROW_ID {
                    Arc::new(ScalarFunctionExpr::new(
                        ROW_ID,
                        row_id_function(),
                        vec![
                            column(self.stored_id)?,
                            column(FIRST_ROW_ID)?,
                            column(ADDRESS_POSITION)?,
                        ],
                        row_id_field(),
                        Arc::clone(state.config().options()),
                    ))
                } else {
                    column(name)?
                };
                Ok(ProjectionExpr::new(expr, (*name).to_owned()))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(exprs, scan)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_dealt_out_evenly_to_all_partitions_in_their_order(
            pieces in 1_usize..40,
            partitions in 0_usize..20,
        ) {
            let pieces: Vec<_> = (0..pieces).map(|k| PartitionedFile::new("f", k as u64)).collect();
            let groups = dealt_out(&pieces, partitions);
            prop_assert_eq!(groups.len(), pieces.len().min(partitions.max(1)));
            let sizes = groups.iter().map(FileGroup::len);
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            let dealt = groups.iter().flat_map(FileGroup::iter).map(|file| file.object_meta.size);
            prop_assert!(dealt.eq(0..pieces.len() as u64));
        }
    }
}
