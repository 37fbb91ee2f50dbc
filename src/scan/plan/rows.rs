//! Some rows of a version as a relation: comparing two versions reads just the rows that came or went.
//!
//! Owns the provider that yields them with their ids. Does not own their choice ([`subset`](super::subset)).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use futures::future;

use crate::scan::location::ScanLocation;
use crate::scan::plan::scan::{ScanRequest, plan_scan};
use crate::scan::plan::subset::Subset;
use crate::scan::row_address::HiddenColumns;
use crate::scan::scan_method::scan_method;
use crate::table::Snapshot;

/// Rows of a version: the table's columns and `_id`.
#[derive(Debug)]
pub(crate) struct SubsetProvider {
    snapshot: Arc<Snapshot>,
    schema: SchemaRef,
    location: ScanLocation,
    subset: Subset,
}

/// What is read beside the table's own columns.
const HIDDEN: HiddenColumns = HiddenColumns {
    row_id: true,
    address: false,
};

impl SubsetProvider {
    /// The rows `subset` of `snapshot`, whose columns a session sees as `schema`.
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        schema: SchemaRef,
        location: ScanLocation,
        subset: Subset,
    ) -> Self {
        Self {
            snapshot,
            schema,
            location,
            subset,
        }
    }
}

#[async_trait]
impl TableProvider for SubsetProvider {
    fn schema(&self) -> SchemaRef {
        HIDDEN.extend(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    scan_method!(|this, state, projection, filters, _limit| {
        let plan = plan_scan(
            state,
            ScanRequest {
                snapshot: Arc::clone(&this.snapshot),
                schema: Arc::clone(&this.schema),
                hidden: HIDDEN,
                dropped: None,
                subset: Some(&this.subset),
                projection: projection.map(Vec::as_slice),
                filters,
                limit: None,
                location: &this.location,
            },
            None,
        );
        Box::pin(future::ready(plan))
    });
}
