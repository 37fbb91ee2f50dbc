//! `supertable_at('t', 7)`, `supertable_at('t', TIMESTAMP '…')`: the table as it was.
//!
//! A scannable relation with the columns of that version: filters, projections and limits reach its
//! files as they do for the table itself. A number is a version; a timestamp means the last version that
//! is not younger. `version =>` and `timestamp =>` say which is meant.
//!
//! The version may be a parameter. The statement is planned with the columns that the table has at that moment then,
//! and fails if the version has others.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::Expr;

use crate::dml::plan::parameters::{Parameterized, ParameterizedProvider};
use crate::dml::{SupertableProvider, VersionProvider};
use crate::error::{ErrorKind, Result as OwnResult};
use crate::scan::Pin;
use crate::scan::schema::session_schema;
use crate::sql::functions::args::{Call, Signature, argument_err, required};
use crate::sql::functions::lookup::TableLookup;
use crate::sql::wait::wait;
use crate::table::Moment;

/// The function's name; the relation planner calls it too.
pub(crate) const AT: &str = "supertable_at";

const SIGNATURE: Signature = Signature {
    function: AT,
    table: true,
    positional: &["at"],
    named: &["version", "timestamp"],
};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct At;

impl TableFunctionImpl for At {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = Call::parse_with_parameters(&SIGNATURE, &args)?;
        if call.given() != 1 {
            return argument_err!(AT, "takes a table's name and one version or timestamp");
        }
        if call.waits() {
            let (table, _, schema) = pinned(&call.table()?, None)?;
            return Ok(Arc::new(ParameterizedProvider::new(AtParameter {
                table,
                schema,
            })));
        }
        let (table, pin, schema) = pinned(&call.table()?, Some(moment(&call)?))?;
        Ok(Arc::new(VersionProvider::new(&table, pin, schema)))
    }
}

/// The version that a call without parameters names.
fn moment(call: &Call) -> Result<Moment> {
    let version = call.u64("version")?.map(Moment::Version);
    let time = call.timestamp_ms("timestamp")?.map(Moment::Time);
    let given = [call.moment("at")?, version, time];
    required(AT, "at", given.into_iter().flatten().next())
}

/// A table of which a parameter says the version.
#[derive(Debug)]
struct AtParameter {
    table: SupertableProvider,
    schema: SchemaRef,
}

impl Parameterized for AtParameter {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn with_values(&self, args: &[Expr], config: &ConfigOptions) -> Result<Arc<dyn TableProvider>> {
        let call = Call::with_values(&SIGNATURE, args, config)?;
        // Looked for when the query runs, because nothing can be awaited here.
        let pin = Pin::at(self.table.table().clone(), moment(&call)?);
        let schema = Arc::clone(&self.schema);
        let version = VersionProvider::by_parameter(&self.table, pin, schema);
        Ok(Arc::new(version))
    }
}

/// The table that `lookup` names, a pin on the version that is meant (`None`: the current one), and what
/// a session sees of that version's columns.
///
/// # Errors
/// There is no such table or version; or it must be looked for, and this thread cannot wait for it.
pub(crate) fn pinned(
    lookup: &TableLookup,
    moment: Option<Moment>,
) -> OwnResult<(SupertableProvider, Arc<Pin>, SchemaRef)> {
    let name = lookup.name().to_string();
    let found = wait(&name, async {
        let provider = lookup.provider().await?;
        let snapshot = match moment {
            Some(moment) => provider.table().snapshot_of(moment).await?,
            None => provider.table().snapshot().await?,
        };
        Ok((provider, snapshot))
    });
    let error = match found {
        Ok((provider, snapshot)) => {
            let schema = session_schema(&snapshot.schema());
            let pin = Pin::to(provider.table().clone(), snapshot);
            return Ok((provider, pin, schema));
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => error,
        Err(error) => return Err(error),
    };
    // Nothing can be read now. As far as the columns are known never to have changed since, nothing need
    // be: the version is then looked for when the query runs, which checks the columns again.
    let provider = wait(&name, lookup.provider())?;
    let table = provider.table().clone();
    let known = table.cached_snapshot();
    let changed = known.manifest().header().schema_changed_at;
    let pin = match moment {
        None => Pin::latest(table),
        Some(Moment::Version(version)) if version >= changed => {
            Pin::at(table, Moment::Version(version))
        }
        Some(_) => return Err(error),
    };
    Ok((provider, pin, session_schema(&known.schema())))
}
