//! The physical plan of a scan over one pinned snapshot.
//!
//! Owns which superfiles are read and how they are given out. Does not own the mapping of columns
//! (`layout`). The leaf stays a `DataSourceExec` over a `FileScanConfig`, so that every
//! rule of DataFusion for Parquet (projection, filter, limit and sort pushdown, dynamic filters,
//! repartitioning) keeps working.
//!
//! Invariant: the plan's rows are exactly the live rows of the snapshot, minus rows that cannot
//! satisfy `filters`; the caller still applies the filters.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result, exec_err};
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;

use crate::format::SuperfileId;
use crate::format::manifest::{Manifest, SuperfileEntry, select};
use crate::scan::location::ScanLocation;
use crate::scan::plan::layout::Layout;
use crate::scan::plan::ordering::{declared_order, ordered_groups};
use crate::scan::plan::pieces::in_pieces;
use crate::scan::plan::prune::Pruner;
use crate::scan::plan::statistics::{ColumnIds, logical};
use crate::scan::plan::subset::Subset;
use crate::scan::read::bloom::filtered_columns;
use crate::scan::read::defaults::{InitialDefaults, initial_defaults};
use crate::scan::read::in_place::in_place;
use crate::scan::read::leave_out::Candidates;
use crate::scan::read::parts::{ScanSummary, SourceParts};
use crate::scan::read::source::SupertableSource;
use crate::scan::row_address::HiddenColumns;
use crate::table::Snapshot;

/// One scan: what is read of which snapshot.
#[derive(Debug)]
pub(crate) struct ScanRequest<'a> {
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

/// The superfiles that are read, of those that hold rows of a request.
#[derive(Debug, Default)]
pub(crate) struct Only {
    /// These, and no others.
    pub superfiles: HashSet<SuperfileId>,
    /// How many others statistics leave and Bloom filters do not.
    pub left_out_by_bloom_filters: usize,
}

/// Builds the physical plan of `request`, of `only` some superfiles if that is given; those that the snapshot does not
/// have yield nothing.
///
/// # Errors
/// Fails if a filter or the projection does not fit the schema, or if the session does not know
/// the table's object store.
pub(crate) fn plan_scan(
    state: &dyn Session,
    request: ScanRequest<'_>,
    only: Option<&Only>,
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
    let layout = Layout::new(&request.schema, request.hidden, &wanted_names);

    // The recorded statistics go by field id, which only the stored schema carries.
    let column_ids = ColumnIds::of(&request.snapshot.schema());
    let manifest = request.snapshot.manifest();
    let total = usize::try_from(manifest.totals().superfiles).unwrap_or(usize::MAX);
    let mut numbered = match (only, request.limit) {
        (Some(only), _) => at(manifest, &only.superfiles),
        (None, Some(limit)) if request.filters.is_empty() && request.subset.is_none() => {
            enough_for_limit(manifest, limit)
        }
        (None, _) => numbered_by_statistics(state, &request)?,
    };
    let mut left_out = 0;
    if let Some(dropped) = request.dropped {
        let all = numbered.len();
        numbered.retain(|(_, entry)| !dropped.contains(&entry.id));
        left_out = all - numbered.len();
    }
    let entries: Vec<Arc<SuperfileEntry>> = numbered.iter().map(|(_, e)| Arc::clone(e)).collect();
    let summary = ScanSummary {
        superfiles: total,
        dropped: left_out,
        pruned: total - left_out - entries.len(),
        pruned_by_bloom_filters: only.map_or(0, |only| only.left_out_by_bloom_filters),
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

    let parquet = ParquetSource::new(layout.table_schema.clone())
        .with_table_parquet_options(state.default_table_options().parquet);
    let parts = parts(&request, &entries, summary)?;
    let candidates = Candidates::new(
        entries,
        request.location.clone(),
        Arc::clone(all_columns),
        column_ids,
    );
    let sidecars = Arc::clone(request.snapshot.sidecars());
    let readers = parts.readers(state.runtime_env())?;
    let source = SupertableSource::new(parquet, readers, sidecars, candidates, parts);
    let defaults = source.defaults();
    let config = FileScanConfigBuilder::new(request.location.store_url.clone(), Arc::new(source))
        .with_file_groups(groups)
        .with_output_ordering(announced)
        .with_statistics(statistics)
        .with_projection_indices(Some(layout.read.clone()))?
        .with_limit(request.limit)
        .with_expr_adapter(Some(defaults))
        .build();
    let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
    layout.finish(scan, &wanted_names, state)
}

/// The superfile that a row address of the snapshot's scans names: its ordinal is the superfile's index in the manifest.
pub(crate) fn superfile_at(snapshot: &Snapshot, ordinal: i32) -> Option<&Arc<SuperfileEntry>> {
    snapshot.manifest().nth(usize::try_from(ordinal).ok()?)
}

/// The superfiles that the filters of `request` leave, by their statistics.
///
/// # Errors
/// A filter does not fit the schema.
pub(super) fn by_statistics(
    state: &dyn Session,
    request: &ScanRequest<'_>,
) -> Result<Vec<Arc<SuperfileEntry>>> {
    let numbered = numbered_by_statistics(state, request)?;
    Ok(numbered.into_iter().map(|(_, entry)| entry).collect())
}

/// The same, each with its index among all, which is a row address's ordinal.
fn numbered_by_statistics(
    state: &dyn Session,
    request: &ScanRequest<'_>,
) -> Result<Vec<(usize, Arc<SuperfileEntry>)>> {
    let manifest = request.snapshot.manifest();
    let subset = request
        .subset
        .map(|subset| at(manifest, subset.superfiles()));
    let Some(predicate) = conjunction(request.filters.iter().cloned()) else {
        let all = || manifest.entries().cloned().enumerate().collect();
        return Ok(subset.unwrap_or_else(all));
    };
    let schema = request.hidden.extend(&request.schema);
    let predicate =
        state.create_physical_expr(predicate, &DFSchema::try_from(Arc::clone(&schema))?)?;
    // The recorded statistics go by field id, which only the stored schema carries.
    let columns = ColumnIds::of(&request.snapshot.schema());
    let pruner = Pruner::new(&predicate, &schema, &columns);
    let Some(mut subset) = subset else {
        let kept = select(manifest, |all| pruner.keep(all)).into_iter();
        return Ok(kept.map(|(at, entry)| (at, Arc::clone(entry))).collect());
    };
    let all: Vec<_> = subset.iter().map(|(_, entry)| entry.row_stats()).collect();
    let mut keep = pruner.keep(&all).into_iter();
    subset.retain(|_| keep.next().unwrap_or(true));
    Ok(subset)
}

/// What the rows of superfiles of a request depend on.
///
/// # Errors
/// A default is none of its column's type.
pub(super) fn parts(
    request: &ScanRequest<'_>,
    superfiles: &[Arc<SuperfileEntry>],
    summary: ScanSummary,
) -> Result<SourceParts> {
    Ok(SourceParts {
        location: request.location.clone(),
        stored: request.snapshot.schema(),
        defaults: Arc::new(InitialDefaults(initial_defaults(
            request.snapshot.metadata(),
        )?)),
        in_place: in_place(superfiles, request.location),
        indexed: !request.filters.is_empty(),
        filtered: filtered_columns(request.snapshot.metadata()),
        summary,
    })
}

/// Superfiles by their ids, each with its index among all.
fn at<'a>(
    manifest: &Manifest,
    ids: impl IntoIterator<Item = &'a SuperfileId>,
) -> Vec<(usize, Arc<SuperfileEntry>)> {
    let ids: BTreeSet<&SuperfileId> = ids.into_iter().collect();
    let at = |id| Some((manifest.index_of(id)?, Arc::clone(manifest.get(id)?)));
    ids.into_iter().filter_map(at).collect()
}

/// The first superfiles, as many as have `limit` rows.
fn enough_for_limit(manifest: &Manifest, limit: usize) -> Vec<(usize, Arc<SuperfileEntry>)> {
    let mut rows = 0_u64;
    (manifest.entries().cloned().enumerate())
        .take_while(|(_, entry)| {
            let more = rows < limit as u64;
            rows += entry.live_rows();
            more
        })
        .collect()
}
