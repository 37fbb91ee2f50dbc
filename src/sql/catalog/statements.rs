//! Statements that DataFusion would carry out in its own way: `CREATE TABLE`, `CREATE TABLE … AS`,
//! `CREATE OR REPLACE TABLE` and `DROP TABLE` on a catalog of supertables.
//!
//! Owns doing them so that rows stream and nothing is lost: DataFusion collects a query's rows in memory, and
//! drops a table before the query that replaces it has succeeded. Every other statement is passed on.
//!
//! Invariants: a table that is replaced is replaced in one commit, or not at all; a table that could not be
//! filled is taken back, unless somebody has written to it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, Result, TableReference, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    CreateMemoryTable, DdlStatement, Expr, LogicalPlan, LogicalPlanBuilder,
};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use futures::future::BoxFuture;

use super::tables::{SupertableCatalog, exists};
use crate::dml::SupertableProvider;
use crate::error::{Error, ErrorKind, Result as OwnResult};
use crate::sql::alter::statement::in_dialect_of;
use crate::sql::factory::{CreateOptions, column_defaults};
use crate::sql::schema::check_declared;
use crate::sql::session::OpenTables;
use crate::sql::statement;

/// Runs a SQL statement; like `SessionContext::sql`, and right for a [`SupertableCatalog`]; it also
/// understands `ALTER TABLE` on supertables, and the forms of `INSERT`, `UPDATE`, `DELETE` and `MERGE` that
/// DataFusion does not plan; see [`statements`](crate::guide::statements).
///
/// # Errors
/// The statement's.
pub async fn sql(ctx: &SessionContext, sql: &str) -> Result<DataFrame> {
    let sql = in_dialect_of(ctx, sql)?;
    let state = ctx.state();
    let sql = statement::with_exact_row_ids(&sql, &state.config_options().sql_parser);
    let plan = match statement::read(&sql, &state.config_options().sql_parser)? {
        Some(own) => statement::plan(&state, own).await?,
        None => state.create_logical_plan(&sql).await?,
    };
    execute(ctx, plan).await
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
                None => passed_on(
                    ctx,
                    LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)),
                ),
            }
        }
        LogicalPlan::Ddl(DdlStatement::DropTable(drop)) => match own_table(ctx, &drop.name) {
            Some((catalog, schema, name)) if !catalog.has_other(&schema, &name) => {
                Box::pin(async move {
                    if !catalog.drop_table(&schema, &name).await? && !drop.if_exists {
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
    let config = ctx.copied_config();
    let defaults = &config.options().catalog;
    let name = name
        .clone()
        .resolve(&defaults.default_catalog, &defaults.default_schema);
    let catalog = config
        .get_extension::<OpenTables>()?
        .catalog(&name.catalog)?;
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
    if create.constraints.iter().next().is_some() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("PRIMARY KEY or UNIQUE of {name}"),
            "keys are not enforced, so they cannot be declared; use MERGE INTO to keep rows unique",
        )
        .into());
    }
    let session_only = catalog.has_other(schema, name);
    let existing = catalog.table(schema, name).await?;
    if session_only || existing.is_some() {
        if create.if_not_exists {
            return Ok(());
        }
        if session_only || !create.or_replace {
            return Err(exists(schema, name).into());
        }
    }
    let columns = columns_of(&create.input)?;
    let options = CreateOptions {
        column_defaults: column_defaults(create.column_defaults.iter().map(|(c, e)| (c, e)))?,
        ..CreateOptions::default()
    };
    let input = create.input.as_ref().clone();
    match existing {
        Some(existing) => {
            let columns = match is_empty(&create.input) {
                true => columns,
                // What may be NULL is the table's to say; a row that breaks it fails the statement.
                false => with_nullability_of(&columns, &existing.schema()),
            };
            check_declared(&columns, &existing.schema(), name).map_err(|error| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!("{schema}.{name}"),
                    "OR REPLACE replaces the rows of a table, not its columns; \
                     DROP TABLE it first, or use another name",
                )
                .with_source(error)
            })?;
            insert(ctx, &existing, name, input, InsertOp::Overwrite).await
        }
        None => {
            let created = catalog
                .create_table(schema, name, &columns, options)
                .await?;
            if is_empty(&create.input) {
                return Ok(());
            }
            fill(catalog, ctx, name, &created, input).await
        }
    }
}

/// Creates a table with the rows of another provider.
pub(super) async fn create_and_fill(
    catalog: &SupertableCatalog,
    ctx: &SessionContext,
    schema: &str,
    name: &str,
    columns: &Schema,
    options: CreateOptions,
    rows: Arc<dyn TableProvider>,
) -> OwnResult<()> {
    let created = catalog.create_table(schema, name, columns, options).await?;
    let filled = async {
        let input = ctx.read_table(rows)?.into_unoptimized_plan();
        fill(catalog, ctx, name, &created, input).await
    };
    filled.await.map_err(|error| {
        Error::new(ErrorKind::Storage, name, "the table could not be filled").with_source(error)
    })
}

/// What a table is to be made of that DataFusion has put into memory.
pub(super) fn options_of(table: &MemTable) -> OwnResult<CreateOptions> {
    let schema = table.schema();
    let defaults: HashMap<&String, &Expr> = schema
        .fields()
        .iter()
        .filter_map(|f| Some((f.name(), table.get_column_default(f.name())?)))
        .collect();
    Ok(CreateOptions {
        column_defaults: column_defaults(defaults)?,
        ..CreateOptions::default()
    })
}

/// The table's first rows; without them there is no table.
async fn fill(
    catalog: &SupertableCatalog,
    ctx: &SessionContext,
    name: &str,
    created: &SupertableProvider,
    input: LogicalPlan,
) -> Result<()> {
    let filled = insert(ctx, created, name, input, InsertOp::Append).await;
    if filled.is_err() {
        catalog.take_back(name, created).await;
    }
    filled
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
