//! Table functions of a supertable.
//!
//! Owns the argument handling and the lazy evaluation that all of them share: a function finds its
//! table and does its work when the query runs, not when it is planned, so `EXPLAIN` does nothing.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{
    CatalogProviderList, TableFunctionArgs, TableFunctionImpl, TableProvider,
};
use datafusion::common::{Result as DataFusionResult, ScalarValue, TableReference, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::future::BoxFuture;
use futures::{FutureExt, stream};

use crate::dml::SupertableProvider;
use crate::error::{Error, ErrorKind, Result};
use crate::format::WalId;
use crate::table::{RecoveryReport, Table};

/// The functions, by name.
pub(crate) fn table_functions() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    vec![("supertable_recover", Arc::new(Recover))]
}

/// Finds the table that a function's first argument names.
#[derive(Clone)]
struct TableLookup {
    catalogs: Arc<dyn CatalogProviderList>,
    default_catalog: String,
    default_schema: String,
    name: TableReference,
}

impl TableLookup {
    /// Reads the first argument of `args`, a table's name as a string.
    fn parse(function: &str, args: &TableFunctionArgs<'_, '_>) -> DataFusionResult<Self> {
        let Some(Expr::Literal(ScalarValue::Utf8(Some(name)), _)) = args.exprs().first() else {
            return plan_err!("{function} takes a table's name in quotes as its first argument");
        };
        let session = args.session();
        let defaults = &session.config_options().catalog;
        Ok(Self {
            catalogs: session.catalog_list(),
            default_catalog: defaults.default_catalog.clone(),
            default_schema: defaults.default_schema.clone(),
            name: TableReference::parse_str(name),
        })
    }

    async fn find(&self) -> Result<Table> {
        let name = self
            .name
            .clone()
            .resolve(&self.default_catalog, &self.default_schema);
        let missing = || {
            Error::new(
                ErrorKind::NotFound,
                name.to_string(),
                "there is no such table",
            )
        };
        let schema = self
            .catalogs
            .catalog(&name.catalog)
            .and_then(|c| c.schema(&name.schema))
            .ok_or_else(missing)?;
        let provider = schema
            .table(&name.table)
            .await
            .map_err(|e| missing().with_source(e))?
            .ok_or_else(missing)?;
        match provider.downcast_ref::<SupertableProvider>() {
            Some(provider) => Ok(provider.table().clone()),
            None => Err(Error::new(
                ErrorKind::InvalidArgument,
                name.to_string(),
                "is not a supertable",
            )),
        }
    }
}

type Work = Arc<dyn Fn() -> BoxFuture<'static, Result<RecordBatch>> + Send + Sync>;

/// A relation whose rows are computed when it is executed.
struct LazyRows {
    schema: SchemaRef,
    work: Work,
}

impl fmt::Debug for LazyRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyRows").finish_non_exhaustive()
    }
}

impl PartitionStream for LazyRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let work = (self.work)();
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            stream::once(async move { Ok(work.await?) }),
        ))
    }
}

fn lazy_table(schema: SchemaRef, work: Work) -> DataFusionResult<Arc<dyn TableProvider>> {
    let rows = LazyRows {
        schema: Arc::clone(&schema),
        work,
    };
    Ok(Arc::new(StreamingTable::try_new(
        schema,
        vec![Arc::new(rows)],
    )?))
}

/// `supertable_recover('t')`: finishes or undoes what crashed statements left behind.
///
/// One row for each WAL document that was looked at: its id, what was done, and why.
#[derive(Debug)]
struct Recover;

impl TableFunctionImpl for Recover {
    fn call_with_args(
        &self,
        args: TableFunctionArgs<'_, '_>,
    ) -> DataFusionResult<Arc<dyn TableProvider>> {
        let lookup = TableLookup::parse("supertable_recover", &args)?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("wal_id", DataType::Utf8, false),
            Field::new("action", DataType::Utf8, false),
            Field::new("detail", DataType::Utf8, true),
        ]));
        let output = Arc::clone(&schema);
        lazy_table(
            schema,
            Arc::new(move || {
                let (lookup, output) = (lookup.clone(), Arc::clone(&output));
                async move {
                    let report = lookup.find().await?.recover().await?;
                    let rows = recovery_rows(&report);
                    let columns: Vec<ArrayRef> = vec![
                        Arc::new(rows.iter().map(|r| Some(&r.0)).collect::<StringArray>()),
                        Arc::new(rows.iter().map(|r| Some(r.1)).collect::<StringArray>()),
                        Arc::new(rows.iter().map(|r| r.2.as_ref()).collect::<StringArray>()),
                    ];
                    RecordBatch::try_new(output, columns).map_err(|e| {
                        Error::new(
                            ErrorKind::Corrupt,
                            "supertable_recover",
                            "building its rows",
                        )
                        .with_source(e)
                    })
                }
                .boxed()
            }),
        )
    }
}

/// WAL id, what was done, and details, for each mutation that a recovery looked at.
fn recovery_rows(report: &RecoveryReport) -> Vec<(String, &'static str, Option<String>)> {
    let mut rows: Vec<_> = report
        .committed
        .iter()
        .map(|(id, version)| {
            (
                id.to_string(),
                "committed",
                Some(format!("in version {version}")),
            )
        })
        .collect();
    let groups: [(&[WalId], &'static str); 6] = [
        (&report.retired, "retired"),
        (&report.undone, "undone"),
        (&report.conflicting, "conflicting"),
        (&report.in_flight, "in flight"),
        (&report.orphans, "orphan removed"),
        (&report.left_to_vacuum, "left to vacuum"),
    ];
    for (ids, action) in groups {
        rows.extend(ids.iter().map(|id| (id.to_string(), action, None)));
    }
    rows.extend(
        report
            .failed
            .iter()
            .map(|(id, why)| (id.to_string(), "failed", Some(why.to_string()))),
    );
    rows.sort();
    rows
}
