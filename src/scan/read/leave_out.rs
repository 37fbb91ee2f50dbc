//! Superfiles that a scan leaves out once it knows by which keys.
//!
//! Owns the decision, made once for each execution: by the manifest's statistics, before a footer or a sidecar is read.
//! Invariant: that of [`prune`](crate::scan::plan::prune).

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::physical_plan::PhysicalExpr;
use datafusion_datasource::morsel::{MorselPlan, MorselPlanner};
use object_store::path::Path;

use crate::format::manifest::SuperfileEntry;
use crate::scan::location::ScanLocation;
use crate::scan::plan::prune::Pruner;
use crate::scan::plan::statistics::{ColumnIds, physical};
use crate::scan::read::keys::knows_keys;
use crate::scan::read::late::keeps_few;

/// The superfiles that a scan was planned to read.
pub(crate) struct Candidates {
    entries: Vec<Arc<SuperfileEntry>>,
    location: ScanLocation,
    schema: SchemaRef,
    columns: ColumnIds,
    left_out: OnceLock<Arc<HashSet<Path>>>,
}

impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidates")
            .field("superfiles", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl Candidates {
    /// `entries`, below `location`, of a table whose columns a scan calls as in `schema`.
    pub(crate) fn new(
        entries: Vec<Arc<SuperfileEntry>>,
        location: ScanLocation,
        schema: SchemaRef,
        columns: ColumnIds,
    ) -> Self {
        Self {
            entries,
            location,
            schema,
            columns,
            left_out: OnceLock::new(),
        }
    }

    /// How many there are in which `predicate` is evaluated before other columns are read, if it is evaluated so at all.
    pub(crate) fn late(&self, predicate: &Arc<dyn PhysicalExpr>) -> usize {
        let statistics = self.entries.iter().map(|e| physical(e, &self.columns));
        statistics.filter(|all| keeps_few(predicate, all)).count()
    }

    /// Those that hold no row for which `predicate` is true, if it knows keys now that the plan did not.
    pub(crate) fn left_out(
        &self,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<HashSet<Path>>> {
        let Some(predicate) = predicate else {
            return Ok(Arc::default());
        };
        if !knows_keys(predicate)? {
            return Ok(Arc::default());
        }
        let left_out = self.left_out.get_or_init(|| {
            let all: Vec<_> = self.entries.iter().map(|e| e.row_stats()).collect();
            let keep = Pruner::new(predicate, &self.schema, &self.columns).keep(&all);
            let others = self.entries.iter().zip(keep).filter(|(_, keep)| !keep);
            Arc::new(others.map(|(entry, _)| self.location.of(entry)).collect())
        });
        Ok(Arc::clone(left_out))
    }
}

/// The planner of a superfile that is left out.
#[derive(Debug)]
pub(super) struct LeftOut;

impl MorselPlanner for LeftOut {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(None)
    }
}
