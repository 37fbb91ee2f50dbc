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
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::format::SuperfileId;
use crate::format::manifest::SuperfileEntry;
use crate::scan::location::ScanLocation;
use crate::scan::plan::layout::Layout;
use crate::scan::plan::ordering::{declared_order, ordered_groups};
use crate::scan::plan::pieces::in_pieces;
use crate::scan::plan::prune::prune;
use crate::scan::plan::statistics::{ColumnIds, logical};
use crate::scan::plan::subset::Subset;
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

/// The superfiles of a snapshot in scan order: a row address's ordinal is the index here.
pub(crate) fn scan_order(snapshot: &Snapshot) -> Vec<Arc<SuperfileEntry>> {
    snapshot.manifest().entries().cloned().collect()
}

/// Builds the physical plan of `request`.
///
/// # Errors
/// Fails if a filter or the projection does not fit the schema, or if the session does not know
/// the table's object store.
pub(crate) fn plan_scan(
    state: &dyn Session,
    request: ScanRequest<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan_scan_of(state, request, None)
}

/// [`plan_scan`] of some superfiles only; those that the snapshot does not have yield nothing.
///
/// # Errors
/// As [`plan_scan`].
pub(crate) fn plan_scan_of(
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
    let layout = Layout::new(&request.schema, request.hidden, &wanted_names);

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

    let parquet = ParquetSource::new(layout.table_schema.clone())
        .with_table_parquet_options(state.default_table_options().parquet);
    let parts = SourceParts {
        location: request.location.clone(),
        stored: request.snapshot.schema(),
        defaults: Arc::new(InitialDefaults(initial_defaults(
            request.snapshot.metadata(),
        )?)),
        in_place: in_place(&entries, request.location),
        indexed: !request.filters.is_empty(),
        summary,
    };
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
