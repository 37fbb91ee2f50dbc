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
use datafusion::common::{Constraints, DFSchemaRef, Result};
use datafusion::datasource::TableType;
use datafusion::logical_expr::dml::{InsertOp, MergeIntoClause};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::{self, BoxFuture};

use crate::dml::insert::{plan_insert, plan_truncate};
use crate::dml::opaque::Opaque;
use crate::error::{Error, ErrorKind};
use crate::scan::schema::session_schema;
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
    pub column_defaults: Opaque<HashMap<String, Expr>>,
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

    fn refuse<'f>(&self, statement: &str) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>> {
        let error = Error::new(
            ErrorKind::Unsupported,
            statement,
            "planned by DataFusion alone this statement could change rows that it does not name; \
             call datafusion_supertable::register(&ctx) once for \
             the session, which plans it correctly",
        );
        Box::pin(future::ready(Err(error.into())))
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
        self.access.column_defaults.get().get(column)
    }

    // Written out, because an async body would hold the expressions; see `opaque`.
    fn scan<'a, 's, 'p, 'e, 'f>(
        &'a self,
        state: &'s dyn Session,
        projection: Option<&'p Vec<usize>>,
        filters: &'e [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>>
    where
        'a: 'f,
        's: 'f,
        'p: 'f,
        'e: 'f,
        Self: 'f,
    {
        let pinned = self.pinned(Pin::latest(self.access.table.clone()));
        pinned.plan(state, projection, filters, limit)
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
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        insert_op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if insert_op == InsertOp::Overwrite {
            // Only the rule knows which version the statement's own query reads.
            return self.refuse("INSERT OVERWRITE").await;
        }
        let pin = Pin::latest(self.access.table.clone());
        plan_insert(&self.access, pin, input, insert_op)
    }

    async fn truncate(&self, _state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        plan_truncate(&self.access)
    }

    fn delete_from<'a, 's, 'f>(
        &'a self,
        _state: &'s dyn Session,
        _filters: Vec<Expr>,
    ) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>>
    where
        'a: 'f,
        's: 'f,
        Self: 'f,
    {
        self.refuse("DELETE")
    }

    fn update<'a, 's, 'f>(
        &'a self,
        _state: &'s dyn Session,
        _assignments: Vec<(String, Expr)>,
        _filters: Vec<Expr>,
    ) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>>
    where
        'a: 'f,
        's: 'f,
        Self: 'f,
    {
        self.refuse("UPDATE")
    }

    fn merge_into<'a, 's, 'f>(
        &'a self,
        _state: &'s dyn Session,
        _source: Arc<dyn ExecutionPlan>,
        _merge_schema: DFSchemaRef,
        _on: Expr,
        _clauses: Vec<MergeIntoClause>,
    ) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>>
    where
        'a: 'f,
        's: 'f,
        Self: 'f,
    {
        self.refuse("MERGE")
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

    fn plan<'f>(
        self,
        state: &'f dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>> {
        let projection = projection.cloned();
        let filters = Opaque::new(filters.to_vec());
        Box::pin(async move {
            let snapshot = self.pin.snapshot().await?;
            let access = &self.base.access;
            if session_schema(&snapshot.schema()).fields() != access.schema.fields() {
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
                    subset: None,
                    projection: projection.as_deref(),
                    filters: filters.get(),
                    limit,
                    location: &access.location,
                },
            )
        })
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

    fn scan<'a, 's, 'p, 'e, 'f>(
        &'a self,
        state: &'s dyn Session,
        projection: Option<&'p Vec<usize>>,
        filters: &'e [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>>
    where
        'a: 'f,
        's: 'f,
        'p: 'f,
        'e: 'f,
        Self: 'f,
    {
        self.clone().plan(state, projection, filters, limit)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        self.base.supports_filters_pushdown(filters)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        insert_op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pin = Arc::clone(&self.pin);
        plan_insert(&self.base.access, pin, input, insert_op)
    }
}
