//! A table as it was in an earlier version: it can be read, and nothing else.
//!
//! Owns the provider of a version. It is a type of its own, so that a statement that runs again on newer
//! versions of the tables it reads does not take this one along.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;

use crate::dml::check::Conditions;
use crate::dml::opaque::Opaque;
use crate::dml::provider::{PinnedProvider, SupertableProvider, TableAccess};
use crate::error::{Error, ErrorKind};
use crate::scan::Pin;

/// One version of a table.
#[derive(Debug, Clone)]
pub struct VersionProvider {
    pinned: PinnedProvider,
}

impl VersionProvider {
    /// The version of `table` that `pin` stands for; `schema` is what a session sees of its columns.
    pub fn new(table: &SupertableProvider, pin: Arc<Pin>, schema: SchemaRef) -> Self {
        let access = table.access();
        let then = SupertableProvider::of_version(TableAccess {
            table: access.table.clone(),
            location: access.location.clone(),
            schema,
            column_defaults: Opaque::new(HashMap::new()),
            conditions: Conditions::default(),
        });
        Self {
            pinned: then.pinned(pin),
        }
    }
}

#[async_trait]
impl TableProvider for VersionProvider {
    fn schema(&self) -> SchemaRef {
        self.pinned.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
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
        self.pinned.scan(state, projection, filters, limit)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        self.pinned.supports_filters_pushdown(filters)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _insert_op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "INSERT",
            "an earlier version of a table cannot be changed; restore it first with \
             SELECT * FROM supertable_restore('table', version)",
        )
        .into())
    }
}
