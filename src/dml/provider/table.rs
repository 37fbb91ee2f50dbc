//! The table as DataFusion sees it.
//!
//! Owns the three providers of one table: the one users register, the one that the planning rule
//! puts in its place to pin a version, and the one that also yields row addresses to a statement
//! that changes rows. Does not own how the registered one follows the table's columns (`view`), nor how
//! a scan or a change is carried out.
//!
//! Invariant: `delete_from`, `update` and `merge_into`, whose arguments lose predicates, always
//! refuse; only plans rewritten by [`SupertableAnalyzer`](crate::dml::SupertableAnalyzer) change
//! rows.

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

use super::access::{TableAccess, columns_changed};
use super::view::View;
use crate::dml::definition::{Declared, Definition};
use crate::dml::opaque::Opaque;
use crate::dml::write::insert::{InsertStatement, plan_insert};
use crate::dml::write::truncate::plan_truncate;
use crate::error::{Error, ErrorKind};
use crate::scan::plan::bloom::superfiles_with_keys;
use crate::scan::plan::cover::covered;
use crate::scan::plan::statistics::ColumnIds;
use crate::scan::scan_method::scan_method;
use crate::scan::schema::session_schema;
use crate::scan::{HiddenColumns, Pin, ScanRequest, plan_scan};
use crate::table::Table;

/// The provider that users register: reads the current version, and inserts.
///
/// Its columns are those of the newest version that the process knows. A statement is planned by
/// one state of them: the planning rule replaces the provider by one that is [`fixed`](Self::fixed).
#[derive(Debug, Clone)]
pub struct SupertableProvider {
    views: Arc<View>,
    follows: bool,
    definition: Option<Arc<Definition>>,
}

impl SupertableProvider {
    /// A provider of the table.
    pub fn new(access: TableAccess) -> Self {
        let metadata = access.table.metadata();
        Self {
            views: Arc::new(View::new(Arc::new(access), &metadata)),
            follows: true,
            definition: None,
        }
    }

    /// This provider of a table that is created so, which `SHOW CREATE TABLE` tells.
    #[must_use]
    pub fn declared(self, declared: Declared) -> Self {
        Self {
            definition: Some(Arc::new(Definition::new(declared))),
            ..self
        }
    }

    /// This provider with the columns that it has now, whatever becomes of the table's.
    #[must_use]
    pub fn fixed(&self) -> Self {
        if !self.follows {
            return self.clone();
        }
        let view = self.current();
        Self {
            views: Arc::new(view.alone()),
            follows: false,
            definition: self.definition.clone(),
        }
    }

    /// This provider as if the table had been opened now: a session without the planning rule can read it until the
    /// columns change again.
    #[must_use]
    pub(crate) fn anew(&self) -> Self {
        Self {
            views: Arc::new(self.current().alone()),
            ..self.clone()
        }
    }

    /// A provider of one version of the table: with the columns that `access` has, for ever.
    pub fn of_version(access: TableAccess) -> Self {
        Self {
            follows: false,
            ..Self::new(access)
        }
    }

    /// The table and where it is, with the columns of the newest version that the process knows.
    pub fn access(&self) -> &Arc<TableAccess> {
        &self.current().access
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.views.access.table
    }

    fn current(&self) -> &View {
        match self.follows {
            true => self.views.newest(),
            false => &self.views,
        }
    }

    /// This table with the given version pinned.
    pub fn pinned(&self, pin: Arc<Pin>) -> PinnedProvider {
        PinnedProvider {
            base: self.fixed(),
            pin,
            hidden: HiddenColumns::default(),
            deletes: None,
            inserts: None,
        }
    }

    /// This table with the given version pinned, yielding `_id` and row addresses too.
    pub fn addressed(&self, pin: Arc<Pin>) -> PinnedProvider {
        PinnedProvider {
            base: self.fixed(),
            pin,
            hidden: HiddenColumns {
                row_id: true,
                address: true,
            },
            deletes: None,
            inserts: None,
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
        Arc::clone(&self.access().schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(self.access().keys.constraints())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_ref()?.text(&self.table().metadata())
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.access().column_defaults.get().get(column)
    }

    scan_method!(|this, state, projection, filters, limit| {
        // Without the planning rule nothing tells which state of the columns the plan was made by.
        if this.follows && this.views.is_followed() {
            return Box::pin(future::ready(Err(columns_changed(this.access()).into())));
        }
        let pinned = this.pinned(Pin::latest(this.table().clone()));
        pinned.plan(state, projection, filters, limit)
    });

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
        if insert_op == InsertOp::Overwrite {
            // Only the rule knows which version the statement's own query reads.
            return self.refuse("INSERT OVERWRITE").await;
        }
        let pin = Pin::latest(self.table().clone());
        plan_insert(state, self.access(), pin, None, input, insert_op)
    }

    async fn truncate(&self, _state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        plan_truncate(self.access())
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
    /// The statement deletes exactly the rows that satisfy this.
    deletes: Option<Opaque<Expr>>,
    /// The statement inserts into it.
    inserts: Option<InsertStatement>,
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
            let access = self.base.access();
            if session_schema(&snapshot.schema()).fields() != access.schema.fields()
                || !access.keys.hold_in(snapshot.metadata())
            {
                return Err(columns_changed(access).into());
            }
            let dropped = self.deletes.as_ref().map(|predicate| {
                let columns = ColumnIds::of(&snapshot.schema());
                self.pin
                    .decide_dropped(|| covered(snapshot.manifest(), &columns, predicate.get()))
            });
            let request = ScanRequest {
                dropped,
                snapshot,
                schema: Arc::clone(&access.schema),
                hidden: self.hidden,
                subset: None,
                projection: projection.as_deref(),
                filters: filters.get(),
                limit,
                location: &access.location,
            };
            let only = superfiles_with_keys(state, &request).await?;
            plan_scan(state, request, only.as_ref())
        })
    }

    /// The same for a statement that deletes exactly the rows for which `predicate`, over unqualified
    /// columns, is true: superfiles of which that is every row are dropped, and not read.
    pub fn deleting(self, predicate: Expr) -> Self {
        Self {
            deletes: Some(Opaque::new(predicate)),
            ..self
        }
    }

    /// The same as the target of an `INSERT`.
    pub fn inserting(self, statement: InsertStatement) -> Self {
        Self {
            inserts: Some(statement),
            ..self
        }
    }

    /// The same, yielding `_id` after the visible columns.
    pub fn with_row_id(&self) -> Self {
        Self {
            hidden: HiddenColumns {
                row_id: true,
                ..self.hidden
            },
            ..self.clone()
        }
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
        self.hidden.extend(&self.base.access().schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    scan_method!(|this, state, projection, filters, limit| {
        this.clone().plan(state, projection, filters, limit)
    });

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        self.base.supports_filters_pushdown(filters)
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        insert_op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (pin, statement) = (Arc::clone(&self.pin), self.inserts.as_ref());
        plan_insert(state, self.base.access(), pin, statement, input, insert_op)
    }
}
