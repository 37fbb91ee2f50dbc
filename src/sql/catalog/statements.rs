//! Statements that DataFusion would carry out in its own way: `CREATE TABLE`, `CREATE TABLE … AS`,
//! `CREATE OR REPLACE TABLE` and `DROP TABLE` on a catalog of supertables.
//!
//! Owns doing them so that rows stream and nothing is lost: DataFusion collects a query's rows in memory, and
//! drops a table before the query that replaces it has succeeded. Every other statement is passed on.
//!
//! Invariants: a table that is replaced is replaced in one commit, or not at all; a table that is filled appears with its
//! rows, or not at all.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, DataFusionError, Result, TableReference, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::{DmlStatement, InsertOp, WriteOp};
use datafusion::logical_expr::{
    CreateMemoryTable, DdlStatement, DropTable, Expr, LogicalPlan, LogicalPlanBuilder,
};
use datafusion::prelude::{SQLOptions, SessionContext};
use futures::TryStreamExt;
use futures::future::BoxFuture;

use super::errors::exists;
use super::list::catalog_of;
use super::tables::SupertableCatalog;
use crate::dml::SupertableProvider;
use crate::dml::plan::names::with_names_as_meant;
use crate::dml::plan::parameters::untyped_unless_all_are_known;
use crate::error::{Error, ErrorKind};
use crate::sql::factory::{
    check_columns, check_options, column_defaults, keys, options_of_clauses,
};
use crate::sql::session::refuse_changes;
use crate::sql::statement::{self, without_clauses};
use crate::sql::table::CreateOptions;
use crate::sql::written::understood;
use crate::sql::zones::with_zone;

/// Runs a SQL statement; like `SessionContext::sql`, and right for a [`SupertableCatalog`]; it also
/// understands `ALTER TABLE` on supertables, and the forms of `INSERT`, `UPDATE`, `DELETE` and `MERGE` that
/// DataFusion does not plan (see [`statements`](crate::guide::statements)); it reads the names that an `UPDATE` sets
/// by the rule of all other names, and refuses declarations that DataFusion would accept and forget.
///
/// # Errors
/// The statement's.
pub async fn sql(ctx: &SessionContext, sql: &str) -> Result<DataFrame> {
    let plan = planned(ctx, ctx.state(), sql).await?;
    execute(ctx, plan).await
}

/// [`sql`] of a statement that `options` allow; like `SessionContext::sql_with_options`. Where they forbid DDL or
/// DML, they also forbid `ALTER TABLE` and the functions that change a table, which are queries to DataFusion.
///
/// # Errors
/// The statement is not allowed; and the statement's.
pub async fn sql_with_options(
    ctx: &SessionContext,
    sql: &str,
    options: SQLOptions,
) -> Result<DataFrame> {
    let mut state = ctx.state();
    if !allows_changes(&options)? {
        refuse_changes(&mut state);
    }
    let plan = planned(ctx, state, sql).await?;
    options.verify_plan(&plan)?;
    execute(ctx, plan).await
}

/// Whether options allow DDL and DML; they say it of plans only.
fn allows_changes(options: &SQLOptions) -> Result<bool> {
    let empty = Arc::new(LogicalPlanBuilder::empty(false).build()?);
    let ddl = LogicalPlan::Ddl(DdlStatement::DropTable(DropTable {
        name: TableReference::bare("t"),
        if_exists: true,
        schema: Arc::clone(empty.schema()),
    }));
    let table = MemTable::try_new(Arc::new(Schema::empty()), vec![vec![]])?;
    let dml = LogicalPlan::Dml(DmlStatement::new(
        TableReference::bare("t"),
        provider_as_source(Arc::new(table)),
        WriteOp::Delete,
        empty,
    ));
    Ok(options.verify_plan(&ddl).is_ok() && options.verify_plan(&dml).is_ok())
}

/// The plan of a text, as `state` makes it.
async fn planned(ctx: &SessionContext, state: SessionState, sql: &str) -> Result<LogicalPlan> {
    let understood = understood(ctx, sql).await?;
    let state = match understood.zoned {
        true => with_zone(state),
        false => state,
    };
    let options = &state.config_options().sql_parser;
    let text = statement::with_exact_row_ids(&understood.text, options);
    let plan = match statement::read(&text, options)? {
        Some(own) => statement::plan(&state, own).await?,
        None => state.create_logical_plan(&text).await?,
    };
    untyped_unless_all_are_known(with_names_as_meant(plan)?)
}

/// Carries a planned statement out; like `SessionContext::execute_logical_plan`, and right for a
/// [`SupertableCatalog`].
///
/// # Errors
/// The statement's.
pub fn execute(ctx: &SessionContext, plan: LogicalPlan) -> BoxFuture<'_, Result<DataFrame>> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
            match own_table(ctx, &create.name) {
                Some((catalog, schema, name)) => Box::pin(async move {
                    create_memory_table(ctx, &catalog, &schema, &name, create).await?;
                    nothing(ctx).await
                }),
                None if without_clauses(&create.input).1.is_some() => {
                    let error = Error::new(
                        ErrorKind::Unsupported,
                        create.name.to_string(),
                        "WITH ORDER and OPTIONS are for the tables of a catalog of supertables; elsewhere use \
                         CREATE EXTERNAL TABLE … STORED AS SUPERTABLE",
                    );
                    Box::pin(async move { Err(error.into()) })
                }
                None => passed_on(
                    ctx,
                    LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)),
                ),
            }
        }
        LogicalPlan::Ddl(DdlStatement::DropTable(drop)) => match own_table(ctx, &drop.name) {
            Some((catalog, schema, name)) if !catalog.state().has_other(&schema, &name) => {
                Box::pin(async move {
                    if !catalog.drop_table(&ctx.state(), &schema, &name).await? && !drop.if_exists {
                        return Err(Error::new(
                            ErrorKind::NotFound,
                            drop.name.to_string(),
                            "there is no such table",
                        )
                        .into());
                    }
                    nothing(ctx).await
                })
            }
            _ => passed_on(ctx, LogicalPlan::Ddl(DdlStatement::DropTable(drop))),
        },
        other => passed_on(ctx, other),
    }
}

fn passed_on(ctx: &SessionContext, plan: LogicalPlan) -> BoxFuture<'_, Result<DataFrame>> {
    Box::pin(ctx.execute_logical_plan(plan))
}

/// The result of a statement without one.
async fn nothing(ctx: &SessionContext) -> Result<DataFrame> {
    let plan = LogicalPlanBuilder::empty(false).build()?;
    Ok(DataFrame::new(ctx.state(), plan))
}

/// The catalog, schema and name of a table, if its catalog is one of supertables.
fn own_table(
    ctx: &SessionContext,
    name: &TableReference,
) -> Option<(SupertableCatalog, String, String)> {
    let state = ctx.state();
    let defaults = &state.config_options().catalog;
    let name = name
        .clone()
        .resolve(&defaults.default_catalog, &defaults.default_schema);
    let catalog = catalog_of(&state, &name.catalog)?;
    Some((catalog, name.schema.to_string(), name.table.to_string()))
}

async fn create_memory_table(
    ctx: &SessionContext,
    catalog: &SupertableCatalog,
    schema: &str,
    name: &str,
    create: CreateMemoryTable,
) -> Result<()> {
    if create.temporary {
        return plan_err!("a supertable cannot be TEMPORARY");
    }
    if create.if_not_exists && create.or_replace {
        return plan_err!("IF NOT EXISTS and OR REPLACE exclude each other");
    }
    let session_only = catalog.state().has_other(schema, name);
    let existing = catalog.table(schema, name).await?;
    if session_only || existing.is_some() {
        if create.if_not_exists {
            return Ok(());
        }
        if session_only || !create.or_replace {
            return Err(exists(schema, name).into());
        }
    }
    let (input, clauses) = without_clauses(&create.input);
    let columns = columns_of(input)?;
    let is_empty = is_empty(input);
    let options = match clauses {
        Some(clauses) => options_of_clauses(clauses)?,
        None => CreateOptions::default(),
    };
    let options = CreateOptions {
        column_defaults: column_defaults(create.column_defaults.iter().map(|(c, e)| (c, e)))?,
        keys: keys(&create.constraints, &columns)?,
        ..options
    };
    let input = input.clone();
    match existing {
        Some(existing) => {
            let columns = match is_empty {
                true => columns,
                // What may be NULL is the table's to say; a row that breaks it fails the statement.
                false => with_nullability_of(&columns, &existing.schema()),
            };
            check_columns(&columns, &options.keys, &existing, name).map_err(|error| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!("{schema}.{name}"),
                    "OR REPLACE replaces the rows of a table, not its columns; \
                     DROP TABLE it first, or use another name",
                )
                .with_source(error)
            })?;
            let sorted = existing.table().metadata().sort_order.clone();
            if clauses.is_some() && !options.sort_order.is_empty() && options.sort_order != sorted {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{schema}.{name}"),
                    "OR REPLACE replaces the rows of a table, not its order; DROP TABLE it first, or use another name",
                )
                .into());
            }
            check_options(&options.properties, &existing, name)?;
            insert(ctx, &existing, name, input, InsertOp::Overwrite).await
        }
        None if is_empty => {
            let session = ctx.state();
            catalog
                .create_table(&session, schema, name, &columns, options)
                .await?;
            Ok(())
        }
        None => {
            let session = ctx.state();
            let created = catalog
                .prepare_table(&session, schema, name, &columns, &options, true)
                .await?;
            let table = &created.provider;
            let filled = async {
                insert(ctx, table, name, input, InsertOp::Append).await?;
                // A query without rows has committed nothing.
                Ok::<_, DataFusionError>(table.table().reveal().await?)
            };
            filled.await.map_err(|error| match Error::find_in(&error) {
                Some(ours) if ours.kind() == ErrorKind::AlreadyExists => {
                    exists(schema, name).into()
                }
                _ => error,
            })?;
            Ok(catalog.appeared(schema, name, &created)?)
        }
    }
}

fn insert<'a>(
    ctx: &'a SessionContext,
    table: &SupertableProvider,
    name: &str,
    input: LogicalPlan,
    op: InsertOp,
) -> BoxFuture<'a, Result<()>> {
    let plan = insert_plan(table, name, input, op);
    Box::pin(async move {
        let mut counts = passed_on(ctx, plan?).await?.execute_stream().await?;
        while counts.try_next().await?.is_some() {}
        Ok(())
    })
}

fn insert_plan(
    table: &SupertableProvider,
    name: &str,
    input: LogicalPlan,
    op: InsertOp,
) -> Result<LogicalPlan> {
    let schema = table.schema();
    let columns = input.schema().columns();
    let values = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(column, field)| Expr::Column(column).alias(field.name()));
    let input = LogicalPlanBuilder::from(input).project(values)?.build()?;
    let target = provider_as_source(Arc::new(table.clone()));
    LogicalPlanBuilder::insert_into(input, TableReference::bare(name), target, op)?.build()
}

fn with_nullability_of(columns: &Schema, table: &Schema) -> Schema {
    let fields: Vec<Field> = columns
        .fields()
        .iter()
        .map(|field| {
            let known = table.field_with_name(field.name());
            let nullable = known.map_or(field.is_nullable(), Field::is_nullable);
            field.as_ref().clone().with_nullable(nullable)
        })
        .collect();
    Schema::new(fields)
}

/// Whether the statement has no query, only columns.
fn is_empty(input: &LogicalPlan) -> bool {
    matches!(input, LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row)
}

/// The columns of the new table. Those of a query may be NULL, whatever its first rows are.
fn columns_of(input: &LogicalPlan) -> Result<Schema> {
    let schema: &DFSchema = input.schema();
    let declared = is_empty(input);
    let mut names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        return plan_err!("the column {} is there twice", twice.join(" = "));
    }
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let nullable = field.is_nullable() || !declared;
            Field::new(field.name(), field.data_type().clone(), nullable)
        })
        .collect();
    Ok(Schema::new(fields))
}
