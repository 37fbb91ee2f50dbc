//! A table as it was in an earlier version: it can be read, and nothing else.
//!
//! Owns the provider of a version. It is a type of its own, so that a statement that runs again on newer
//! versions of the tables it reads does not take this one along.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::access::TableAccess;
use super::table::{PinnedProvider, SupertableProvider};
use crate::dml::keys::declared::DeclaredKeys;
use crate::dml::opaque::Opaque;
use crate::dml::write::check::Conditions;
use crate::error::{Error, ErrorKind};
use crate::format::manifest::field_id;
use crate::scan::Pin;
use crate::scan::scan_method::scan_method;
use crate::scan::schema::session_schema;
use crate::table::Snapshot;

/// One version of a table.
#[derive(Debug, Clone)]
pub(crate) struct VersionProvider {
    pinned: PinnedProvider,
    /// Whether the statement was planned before it was known which version is meant.
    by_parameter: bool,
}

impl VersionProvider {
    /// The version of `table` that `pin` stands for; `schema` is what a session sees of its columns.
    pub(crate) fn new(table: &SupertableProvider, pin: Arc<Pin>, schema: SchemaRef) -> Self {
        let access = table.access();
        let then = SupertableProvider::of_version(TableAccess {
            table: access.table.clone(),
            location: access.location.clone(),
            schema,
            column_defaults: Opaque::new(HashMap::new()),
            conditions: Conditions::default(),
            keys: DeclaredKeys::default(),
        });
        Self {
            pinned: then.pinned(pin),
            by_parameter: false,
        }
    }

    /// The same, of a version that a statement's parameter names, which was planned with `schema`.
    pub(crate) fn by_parameter(
        table: &SupertableProvider,
        pin: Arc<Pin>,
        schema: SchemaRef,
    ) -> Self {
        Self {
            by_parameter: true,
            ..Self::new(table, pin, schema)
        }
    }
}

/// Makes sure that a version which a parameter names has the columns that the statement was planned with.
///
/// # Errors
/// [`ErrorKind::Unsupported`] says what differs.
pub(crate) fn check_columns(planned: &SchemaRef, version: &Snapshot) -> crate::error::Result<()> {
    let found = session_schema(&version.schema());
    if found.fields() == planned.fields() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("version {}", version.version()),
        format!(
            "a statement whose parameter names a version is planned with the table's columns of that moment, and this \
             version has others: {}; write the version into the statement, or prepare the statement again if it is the \
             table that has changed since",
            difference(planned, &found)
        ),
    ))
}

/// The first difference between the columns that a statement was planned with and those that were found.
fn difference(planned: &Schema, found: &Schema) -> String {
    for field in planned.fields() {
        let name = field.name();
        let Ok(other) = found.field_with_name(name) else {
            return format!("it has no column {name}");
        };
        if other.data_type() != field.data_type() {
            let (is, not) = (other.data_type(), field.data_type());
            return format!("its column {name} has the type {is}, not {not}");
        }
        if other.is_nullable() != field.is_nullable() {
            let is = match other.is_nullable() {
                true => "may be NULL",
                false => "is NOT NULL",
            };
            return format!("its column {name} {is}");
        }
        if field_id(other) != field_id(field) {
            return format!("its column {name} is another one, which was dropped");
        }
    }
    let more = found
        .fields()
        .iter()
        .find(|field| planned.index_of(field.name()).is_err());
    match more {
        Some(field) => format!("it has the column {}, too", field.name()),
        None => "its columns are in another order".to_owned(),
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

    scan_method!(|this, state, projection, filters, limit| {
        let scan = this.pinned.scan(state, projection, filters, limit);
        if !this.by_parameter {
            return scan;
        }
        let (pin, planned) = (Arc::clone(this.pinned.pin()), this.schema());
        Box::pin(async move {
            check_columns(&planned, &*pin.snapshot().await?)?;
            scan.await
        })
    });

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
