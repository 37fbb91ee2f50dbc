//! The table as DataFusion sees it.
//!
//! Owns the three providers of one table: the one users register, the one that the planning rule
//! puts in its place to pin a version, and the one that also yields row addresses to a statement
//! that changes rows. Does not own how a scan or a change is carried out.
//!
//! Invariant: `delete_from`, `update` and `merge_into`, whose arguments lose predicates, always
//! refuse; only plans rewritten by [`SupertableAnalyzer`](crate::dml::SupertableAnalyzer) change
//! rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraints, Result};
use datafusion::datasource::TableType;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use crate::dml::insert::{plan_insert, plan_truncate};
use crate::error::{Error, ErrorKind};
use crate::scan::{HiddenColumns, Pin, ScanLocation, ScanRequest, plan_scan};
use crate::table::Table;

/// What every provider of one table shares.
#[derive(Debug)]
pub struct TableAccess {
    /// The table.
    pub table: Table,
    /// Where a session's object stores find it.
    pub location: ScanLocation,
    /// The visible columns.
    pub schema: SchemaRef,
    /// Defaults of columns that an `INSERT` leaves out.
    pub column_defaults: HashMap<String, Expr>,
    /// The statement that declared the table, if SQL did.
    pub definition: Option<String>,
}

/// The provider that users register: reads the current version, and inserts.
#[derive(Debug, Clone)]
pub struct SupertableProvider {
    access: Arc<TableAccess>,
    constraints: Constraints,
}

impl SupertableProvider {
    /// A provider of the table.
    pub fn new(access: TableAccess) -> Self {
        Self {
            access: Arc::new(access),
            constraints: Constraints::default(),
        }
    }

    /// The table and where it is.
    pub fn access(&self) -> &Arc<TableAccess> {
        &self.access
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.access.table
    }

    /// This table with the given version pinned.
    pub fn pinned(&self, pin: Arc<Pin>) -> PinnedProvider {
        PinnedProvider {
            base: self.clone(),
            pin,
            hidden: HiddenColumns::default(),
        }
    }

    /// This table with the given version pinned, yielding `_id` and row addresses too.
    pub fn addressed(&self, pin: Arc<Pin>) -> PinnedProvider {
        PinnedProvider {
            base: self.clone(),
            pin,
            hidden: HiddenColumns {
                row_id: true,
                address: true,
            },
        }
    }

    fn refuse(&self, statement: &str) -> Error {
        Error::new(
            ErrorKind::Unsupported,
            statement,
            "DataFusion's own planning of this statement loses predicates, and rows would be \
             changed that it does not name; call datafusion_supertable::register(&ctx) once for \
             the session, which plans it correctly",
        )
    }
}

#[async_trait]
impl TableProvider for SupertableProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.access.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.access.definition.as_deref()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.access.column_defaults.get(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.pinned(Pin::latest(self.access.table.clone()))
            .scan(state, projection, filters, limit)
            .await
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // Filters prune here; DataFusion's physical rule pushes them into the Parquet reader.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        insert_op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_insert(state, &self.access, input, insert_op)
    }

    async fn truncate(&self, _state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        plan_truncate(&self.access)
    }

    async fn delete_from(
        &self,
        _state: &dyn Session,
        _filters: Vec<Expr>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(self.refuse("DELETE").into())
    }

    async fn update(
        &self,
        _state: &dyn Session,
        _assignments: Vec<(String, Expr)>,
        _filters: Vec<Expr>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(self.refuse("UPDATE").into())
    }

    async fn merge_into(
        &self,
        _state: &dyn Session,
        _source: Arc<dyn ExecutionPlan>,
        _merge_schema: datafusion::common::DFSchemaRef,
        _on: Expr,
        _clauses: Vec<datafusion::logical_expr::dml::MergeIntoClause>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(self.refuse("MERGE").into())
    }
}

/// A table at one version, with or without hidden columns; made by the planning rule only.
#[derive(Debug, Clone)]
pub struct PinnedProvider {
    base: SupertableProvider,
    pin: Arc<Pin>,
    hidden: HiddenColumns,
}

impl PinnedProvider {
    /// The provider that this one stands for.
    pub fn base(&self) -> &SupertableProvider {
        &self.base
    }

    /// The pinned version.
    pub fn pin(&self) -> &Arc<Pin> {
        &self.pin
    }

    /// The same with another pin, for a statement that runs again.
    pub fn repinned(&self, pin: Arc<Pin>) -> Self {
        Self {
            pin,
            ..self.clone()
        }
    }
}

#[async_trait]
impl TableProvider for PinnedProvider {
    fn schema(&self) -> SchemaRef {
        self.hidden.extend(&self.base.access.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.base.constraints()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = self.pin.snapshot().await?;
        let access = &self.base.access;
        if snapshot.schema().fields() != access.schema.fields() {
            return Err(Error::new(
                ErrorKind::Conflict,
                access.location.root.to_string(),
                "the table's columns have changed since this session opened it; open it again",
            )
            .into());
        }
        plan_scan(
            state,
            ScanRequest {
                snapshot,
                schema: Arc::clone(&access.schema),
                hidden: self.hidden,
                projection: projection.map(Vec::as_slice),
                filters,
                limit,
                location: &access.location,
            },
        )
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        self.base.supports_filters_pushdown(filters)
    }
}
