//! `CREATE EXTERNAL TABLE … STORED AS SUPERTABLE LOCATION '…'`, and the same from Rust.
//!
//! With columns, the statement creates the table, or verifies that the existing one has these
//! columns. Without, it opens an existing one. What is there already is never replaced: a
//! directory that holds something else is refused, and nothing is written to it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::{Constraint, Constraints, Result as DataFusionResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{CreateExternalTable, Expr, SortExpr};
use datafusion::sql::unparser::expr_to_sql;
use futures::future::BoxFuture;

use crate::config::{check_table_option, own_option};
use crate::dml::SupertableProvider;
use crate::dml::definition::Declared;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::SortColumn;
use crate::sql::catalog::catalog_around;
use crate::sql::location::resolve;
use crate::sql::schema::check_declared;
use crate::sql::table::{CreateOptions, KeyColumns, create_at, open_table};
use crate::table::compaction::ClusterBy;
use crate::table::{is_dropped_table, is_reservation};

/// Creates the table at `location`.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if there is a table or anything else; [`ErrorKind::InvalidArgument`] if the location
/// lies within a catalog that the session has open.
pub async fn create_table(
    state: &dyn Session,
    location: &str,
    schema: &Schema,
    options: CreateOptions,
) -> Result<SupertableProvider> {
    refuse_inside_of_catalog(state, location)?;
    create_at(state, location, schema, options, false).await
}

/// A table in a catalog's directories is the catalog's: it alone knows which of them a name may take next.
fn refuse_inside_of_catalog(state: &dyn Session, location: &str) -> Result<()> {
    let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
        return Ok(());
    };
    let (_, place) = resolve(state, location)?;
    match catalog_around(state, &place) {
        None => Ok(()),
        Some(catalog) => Err(Error::new(
            ErrorKind::InvalidArgument,
            location,
            format!(
                "lies within the catalog {catalog}, which this session has open; create the table there: \
                 CREATE TABLE {catalog}.<schema>.<table> (…) WITH ORDER (…) OPTIONS (…)"
            ),
        )),
    }
}

/// The factory behind `STORED AS SUPERTABLE`.
#[derive(Debug, Default)]
pub(crate) struct SupertableFactory;

#[async_trait]
impl TableProviderFactory for SupertableFactory {
    // Written out, because an async body would hold the statement's expressions; see `opaque`.
    fn create<'a, 's, 'c, 'f>(
        &'a self,
        state: &'s dyn Session,
        cmd: &'c CreateExternalTable,
    ) -> BoxFuture<'f, DataFusionResult<Arc<dyn TableProvider>>>
    where
        'a: 'f,
        's: 'f,
        'c: 'f,
        Self: 'f,
    {
        let checked = checked(cmd);
        let declared = cmd.schema.inner().as_ref();
        let name = cmd.name.clone();
        Box::pin(async move {
            let (location, options) = checked?;
            let provider = open_or_create(state, location, declared, options).await?;
            let location = location.to_owned();
            let provider = provider.declared(Declared::External { name, location });
            Ok(Arc::new(provider) as Arc<dyn TableProvider>)
        })
    }
}

/// The location of a statement, and what a table that it creates is made of.
fn checked(cmd: &CreateExternalTable) -> Result<(&str, CreateOptions)> {
    let location = check_statement(cmd)?;
    let options = CreateOptions {
        properties: properties(cmd),
        sort_order: sort_order(&cmd.order_exprs)?,
        column_defaults: column_defaults(&cmd.column_defaults)?,
        keys: keys(&cmd.constraints, cmd.schema.inner())?,
    };
    Ok((location, options))
}

/// Opens the table and verifies its columns, or creates it if columns are declared.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if there is a table with other columns or options; and those of [`create_table`].
pub(crate) async fn open_or_create(
    state: &dyn Session,
    location: &str,
    declared: &Schema,
    mut options: CreateOptions,
) -> Result<SupertableProvider> {
    let normalize = state.config_options().sql_parser.enable_ident_normalization;
    for (key, value) in &mut options.properties {
        *value = ClusterBy::kept(key, std::mem::take(value), normalize);
    }
    match open_table(state, location).await {
        Ok(existing) => {
            if !declared.fields().is_empty() {
                check_columns(declared, &options.keys, &existing, location)?;
            }
            check_options(&options.properties, &existing, location)?;
            return Ok(existing);
        }
        Err(e) if is_dropped_table(&e) || is_reservation(&e) => return Err(e),
        Err(e) if e.kind() == ErrorKind::NotFound && !declared.fields().is_empty() => {}
        Err(e) => return Err(e),
    }
    let (wanted, keys) = (options.properties.clone(), options.keys.clone());
    // Another process may create it at the same moment.
    match create_table(state, location, declared, options).await {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let Ok(existing) = open_table(state, location).await else {
                return Err(e);
            };
            check_columns(declared, &keys, &existing, location)?;
            check_options(&wanted, &existing, location)?;
            Ok(existing)
        }
        other => other,
    }
}

/// What a table of a catalog is made of, by the clauses of its `CREATE TABLE`.
pub(crate) fn options_of_clauses(clauses: &CreateExternalTable) -> Result<CreateOptions> {
    if let Some(key) = clauses.options.keys().find(|key| own_option(key).is_none()) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            key,
            "is no option of a table; those begin with supertable.",
        ));
    }
    Ok(checked(clauses)?.1)
}

/// Checks that a table which exists already has the columns that a statement declares, and the keys.
pub(crate) fn check_columns(
    declared: &Schema,
    keys: &[KeyColumns],
    existing: &SupertableProvider,
    location: &str,
) -> Result<()> {
    let primary = (keys.iter()).filter(|key| key.is_primary);
    let not_null: HashSet<&String> = primary.flat_map(|key| &key.columns).collect();
    let fields: Vec<Field> = (declared.fields().iter())
        .map(|field| {
            let nullable = field.is_nullable() && !not_null.contains(field.name());
            field.as_ref().clone().with_nullable(nullable)
        })
        .collect();
    check_declared(&Schema::new(fields), &existing.schema(), location)?;
    let metadata = existing.table().metadata();
    let missing = keys.iter().find(|key| {
        !metadata.keys.iter().any(|known| {
            let columns: Vec<&str> = metadata.columns_of(known);
            known.is_primary == key.is_primary && columns == key.columns
        })
    });
    match missing {
        None => Ok(()),
        Some(key) => Err(Error::new(
            ErrorKind::InvalidArgument,
            location,
            format!(
                "the table exists, and {} is no key of it; leave it out to open the table as it is, or add it by \
                 ALTER TABLE … ADD",
                key.columns.join(", ")
            ),
        )),
    }
}

/// Checks that a table which exists already has the options that a statement gives.
pub(crate) fn check_options(
    wanted: &BTreeMap<String, String>,
    existing: &SupertableProvider,
    location: &str,
) -> Result<()> {
    let metadata = existing.table().metadata();
    match wanted
        .iter()
        .find(|(key, value)| metadata.properties.get(*key) != Some(*value))
    {
        None => Ok(()),
        Some((key, value)) => Err(Error::new(
            ErrorKind::InvalidArgument,
            location,
            format!(
                "the table exists, and its option {key} is not '{value}'; leave the options out to \
                 open the table as it is"
            ),
        )),
    }
}

/// Refuses what a supertable does not have; returns the one location.
fn check_statement(cmd: &CreateExternalTable) -> Result<&str> {
    let refuse = |what: &str, why: &str| {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} of {}", what, cmd.name),
            why,
        ))
    };
    let [location] = cmd.locations.as_slice() else {
        return refuse("LOCATION", "a supertable has exactly one location");
    };
    if !cmd.table_partition_cols.is_empty() {
        return refuse(
            "PARTITIONED BY",
            "a supertable is not partitioned by directories: superfiles are skipped by their \
             columns' statistics; use WITH ORDER to cluster the rows",
        );
    }
    if cmd.unbounded {
        return refuse("UNBOUNDED", "a supertable is finite");
    }
    for (key, value) in &cmd.options {
        if let Some(name) = own_option(key)
            && let Err(e) = check_table_option(name, value)
        {
            return refuse(key, &e.strip_backtrace());
        }
    }
    Ok(location)
}

/// The keys that a statement declares.
///
/// # Errors
/// One names a column that is not there, which the parser has seen to.
pub(crate) fn keys(constraints: &Constraints, schema: &Schema) -> Result<Vec<KeyColumns>> {
    (constraints.iter())
        .map(|constraint| {
            let (is_primary, places) = match constraint {
                Constraint::PrimaryKey(places) => (true, places),
                Constraint::Unique(places) => (false, places),
            };
            let name = |at: &usize| Some(schema.fields().get(*at)?.name().clone());
            match places.iter().map(name).collect() {
                Some(columns) => Ok(KeyColumns {
                    name: None,
                    is_primary,
                    columns,
                }),
                None => {
                    let why = "names a column that is not declared";
                    Err(Error::new(ErrorKind::InvalidArgument, "key", why))
                }
            }
        })
        .collect()
}

pub(crate) fn column_defaults<'a>(
    defaults: impl IntoIterator<Item = (&'a String, &'a Expr)>,
) -> Result<BTreeMap<String, String>> {
    defaults
        .into_iter()
        .map(|(column, default)| match expr_to_sql(default) {
            Ok(sql) => Ok((column.clone(), sql.to_string())),
            Err(e) => Err(Error::new(
                ErrorKind::Unsupported,
                column,
                "its default cannot be stored as SQL; use a simpler expression",
            )
            .with_source(e)),
        })
        .collect()
}

fn properties(cmd: &CreateExternalTable) -> BTreeMap<String, String> {
    // Options of other namespaces configure the object store and may hold credentials.
    cmd.options
        .iter()
        .filter(|(key, _)| own_option(key).is_some())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The columns of a declared order.
///
/// # Errors
/// It is one of expressions, or there are several.
pub(crate) fn sort_order(orders: &[Vec<SortExpr>]) -> Result<Vec<SortColumn>> {
    let refuse = |why: &str| Error::new(ErrorKind::Unsupported, "WITH ORDER", why);
    let order = match orders {
        [] => return Ok(vec![]),
        [one] => one,
        _ => return Err(refuse("a supertable is written in one order; name one")),
    };
    order
        .iter()
        .map(|sort| match &sort.expr {
            Expr::Column(column) => Ok(SortColumn {
                name: column.name.clone(),
                descending: !sort.asc,
                nulls_first: sort.nulls_first,
            }),
            _ => Err(refuse(
                "a supertable is ordered by columns, not by expressions",
            )),
        })
        .collect()
}
