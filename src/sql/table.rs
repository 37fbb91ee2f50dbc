//! Opening and creating the table at a location, for a session.
//!
//! Owns what a table is made of, and its provider. Does not own the statements that ask for it. What is there already is
//! never replaced: a directory that holds something else is refused, and nothing is written to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use crate::config::{BLOOM_FILTER_COLUMNS, SupertableOptions, WriteOptions};
use crate::dml::definition::Declared;
use crate::dml::keys::declared::{DeclaredKeys, check_key_column, default_name};
use crate::dml::opaque::Opaque;
use crate::dml::write::check::Conditions;
use crate::dml::{SupertableProvider, TableAccess};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::SortColumn;
use crate::scan::ScanLocation;
use crate::scan::schema::session_schema;
use crate::sql::location::resolve;
use crate::sql::open_tables::OpenTables;
use crate::sql::schema::check_storable;
use crate::table::compaction::ClusterBy;
use crate::table::{CreateTable, Limits, NewKey, Table};
use crate::wal::Env;

/// What a new table is made of, beyond its columns.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// Properties, stored with the table.
    pub properties: BTreeMap<String, String>,
    /// The order in which every superfile is written.
    pub sort_order: Vec<SortColumn>,
    /// Defaults of columns that an `INSERT` leaves out, as SQL expressions.
    pub column_defaults: BTreeMap<String, String>,
    /// Declared keys, by the names of their columns.
    pub keys: Vec<KeyColumns>,
}

/// A key that is to be declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumns {
    /// Its name; made from its columns, if there is none.
    pub name: Option<String>,
    /// Whether it is the primary key.
    pub is_primary: bool,
    /// Its columns.
    pub columns: Vec<String>,
}

/// Opens the table at `location`.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is none.
pub async fn open_table(state: &dyn Session, location: &str) -> Result<SupertableProvider> {
    let (storage, scan) = resolve(state, location)?;
    let table = Table::open(storage, Env::system()).await?;
    Ok(provider(state, table, scan)?.declared(Declared::at(location)))
}

/// Creates the table at `location`, wherever that is; an unseen table appears with the first rows that are committed to it.
pub(crate) async fn create_at(
    state: &dyn Session,
    location: &str,
    schema: &Schema,
    options: CreateOptions,
    unseen: bool,
) -> Result<SupertableProvider> {
    SupertableOptions::of(state.config_options()).check_writable("CREATE TABLE")?;
    let (storage, scan) = resolve(state, location)?;
    check_storable(schema)?;
    for column in &options.sort_order {
        if schema.index_of(&column.name).is_err() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "WITH ORDER",
                format!("there is no column {}", column.name),
            ));
        }
    }
    check_bloom_filters(schema, &options.properties)?;
    ClusterBy::of_table(
        &Arc::new(schema.clone()),
        &options.sort_order,
        &options.properties,
    )?;
    let (schema, keys) = with_keys(schema, options.keys)?;
    Conditions::of(state, &schema, &options.properties)?;
    let spec = CreateTable {
        schema,
        keys,
        properties: options.properties,
        defaults: options.column_defaults.into_iter().collect(),
        sort_order: options.sort_order,
    };
    let cannot_write = |error: Error| {
        match error.kind() {
        ErrorKind::Storage => Error::new(
            ErrorKind::Storage,
            location,
            "no table can be created here, because the place cannot be written; name another LOCATION, or get the \
             right to write there",
        )
        .with_source(error),
        _ => error,
    }
    };
    let table = Table::prepare(storage, Env::system(), Limits::default(), spec)
        .await
        .map_err(cannot_write)?;
    if !unseen {
        table.reveal().await.map_err(cannot_write)?;
    }
    Ok(provider(state, table, scan)?.declared(Declared::at(location)))
}

/// The columns of a new table, of which those of the primary key are `NOT NULL`, and its keys.
///
/// # Errors
/// A key names no columns, or one that is not there, twice, or of a type that cannot be compared; or there are two keys
/// of one name or of the same columns, or two primary keys.
fn with_keys(schema: &Schema, keys: Vec<KeyColumns>) -> Result<(SchemaRef, Vec<NewKey>)> {
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    let mut made: Vec<NewKey> = Vec::new();
    for key in keys {
        let names: Vec<&str> = key.columns.iter().map(String::as_str).collect();
        let name = (key.name).unwrap_or_else(|| default_name(key.is_primary, &names));
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidArgument, &name, why));
        let mut columns = Vec::with_capacity(names.len());
        for column in &names {
            let Some(at) = fields.iter().position(|f| f.name() == column) else {
                return refuse(format!("there is no column {column}"));
            };
            if columns.contains(&at) {
                return refuse(format!("names {column} twice"));
            }
            columns.push(at);
            if let Some(field) = fields.get_mut(at) {
                check_key_column(column, field.data_type())?;
                if key.is_primary {
                    *field = Arc::new(field.as_ref().clone().with_nullable(false));
                }
            }
        }
        let is_primary = key.is_primary;
        if columns.is_empty() {
            return refuse("a key has at least one column".to_owned());
        }
        if made.iter().any(|other| other.name == name) {
            return refuse("there are two keys of this name; name them CONSTRAINT …".to_owned());
        }
        if is_primary && made.iter().any(|other| other.is_primary) {
            return refuse("a table has one primary key; declare the other one UNIQUE".to_owned());
        }
        made.push(NewKey {
            name,
            is_primary,
            columns,
        });
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    Ok((Arc::new(schema), made))
}

/// Refuses a Bloom filter of a column that is not there, or that cannot have one.
pub(crate) fn check_bloom_filters(
    schema: &Schema,
    properties: &BTreeMap<String, String>,
) -> Result<()> {
    let columns = WriteOptions::of_properties(properties).bloom_filter_columns;
    for column in columns.into_iter().flatten() {
        let refuse = |why: &str| {
            Err(Error::new(
                ErrorKind::InvalidArgument,
                BLOOM_FILTER_COLUMNS,
                format!("{column}: {why}"),
            ))
        };
        match schema.field_with_name(&column) {
            Err(_) => return refuse("there is no such column"),
            Ok(field) if field.data_type().is_nested() => {
                return refuse("a nested column cannot have a Bloom filter");
            }
            Ok(_) if column.contains('.') => {
                return refuse("a column with a dot in its name cannot have a Bloom filter");
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn provider(
    state: &dyn Session,
    table: Table,
    location: ScanLocation,
) -> Result<SupertableProvider> {
    if let Some(open) = state.config().get_extension::<OpenTables>() {
        open.add(&table);
    }
    let metadata = table.metadata();
    let mut column_defaults = HashMap::new();
    for (column, sql) in &metadata.defaults {
        column_defaults.insert(column.clone(), parse_default(state, column, sql)?);
    }
    let schema = session_schema(&metadata.schema);
    let conditions = Conditions::of(state, &schema, &metadata.properties)?;
    Ok(SupertableProvider::new(TableAccess {
        schema,
        conditions,
        keys: DeclaredKeys::of(&metadata),
        table,
        location,
        column_defaults: Opaque::new(column_defaults),
    }))
}

/// A provider of the same open table with the columns and defaults that it has now.
pub(crate) fn open_again(
    state: &dyn Session,
    known: &SupertableProvider,
) -> Result<SupertableProvider> {
    let access = known.access();
    provider(state, access.table.clone(), access.location.clone())
}

fn parse_default(state: &dyn Session, column: &str, sql: &str) -> Result<Expr> {
    let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            column,
            "this session cannot parse the column's default",
        ));
    };
    state
        .create_logical_expr(sql, &DFSchema::empty())
        .map_err(|e| {
            Error::new(
                ErrorKind::InvalidArgument,
                column,
                format!("its default {sql} cannot be parsed in this session"),
            )
            .with_source(e)
        })
}
