//! Relations in `FROM` that DataFusion's own planner does not understand.
//!
//! Owns, for this crate's tables and functions only (everything else is passed on as it came):
//! - calls of table functions: DataFusion refuses arguments by name
//!   (`supertable_vacuum('t', dry_run => true)`);
//! - a table as it was: `"t@v7"`, and where the SQL dialect has it `t VERSION AS OF 7`,
//!   `t TIMESTAMP AS OF …`, `t FOR SYSTEM_TIME AS OF …` (DataFusion would ignore those and read the
//!   current version);
//! - a table whose row ids are exposed as a column (`supertable.expose_row_id = 'column'`): `t` with
//!   `_id` as one more.
//!
//! Invariant: a name that means a table, view or query of the statement keeps its meaning; `"t@v7"` is
//! a version only if nothing has that very name. Only what stands in `FROM` is looked at, so no
//! statement can write to a version.

use datafusion::common::{DFSchema, Result, TableReference, not_impl_err, plan_err};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableAlias, TableFactor,
    TableVersion,
};

use crate::config::{RowIdExposure, SupertableOptions};
use crate::dml::plan::parameters;
use crate::dml::plan::pins::supertable;
use crate::dml::plan::row_id::row_id_udf;
use crate::scan::EXPOSED_ROW_ID;
use crate::sql::functions::args::{argument_err, named};
use crate::sql::functions::at::AT;
use crate::sql::functions::list::FUNCTION_PREFIX;
use crate::sql::version_name::table_and_version;

/// Marks a relation that this planner has passed on, so that it does so again.
const PLAIN: &str = "__supertable_plain";

/// The planner that a session is given; see the module documentation.
#[derive(Debug, Default)]
pub(crate) struct SupertableRelations;

impl RelationPlanner for SupertableRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        match relation {
            TableFactor::Table {
                ref name,
                args: Some(ref args),
                ref sample,
                with_ordinality,
                ..
            } => match own_function(name, context) {
                Some(_) if with_ordinality || sample.is_some() || args.settings.is_some() => {
                    not_impl_err!("a supertable function takes nothing behind its arguments")
                }
                Some(function) => {
                    let (args, alias) = (args.args.clone(), alias_of(&relation));
                    call(&function, args, alias, context)
                }
                None => Ok(RelationPlanning::Original(Box::new(relation))),
            },
            TableFactor::Function {
                ref name, ref args, ..
            } => match own_function(name, context) {
                Some(function) => {
                    let (args, alias) = (args.clone(), alias_of(&relation));
                    call(&function, args, alias, context)
                }
                None => Ok(RelationPlanning::Original(Box::new(relation))),
            },
            TableFactor::Table {
                version: Some(_), ..
            } => as_of(relation, context),
            TableFactor::Table { ref name, .. } if name_of_version(name, context).is_some() => {
                named_version(relation, context)
            }
            TableFactor::Table { .. } if exposes_column(&relation, context) => {
                with_row_id(relation, context)
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

/// `t VERSION AS OF 7` and its like, if `t` is a supertable.
fn as_of(
    relation: TableFactor,
    context: &mut dyn RelationPlannerContext,
) -> Result<RelationPlanning> {
    let TableFactor::Table {
        ref name,
        ref version,
        ..
    } = relation
    else {
        return Ok(RelationPlanning::Original(Box::new(relation)));
    };
    let table = context.object_name_to_table_reference(name.clone())?;
    let is_ours = context
        .context_provider()
        .get_table_source(table.clone())
        .is_ok_and(|source| supertable(&source).is_some());
    if !is_ours {
        return Ok(RelationPlanning::Original(Box::new(relation)));
    }
    let (argument, value) = match version {
        Some(TableVersion::VersionAsOf(value)) => ("version", value.clone()),
        Some(TableVersion::TimestampAsOf(value) | TableVersion::ForSystemTimeAsOf(value)) => {
            ("timestamp", value.clone())
        }
        _ => {
            return not_impl_err!(
                "this way to name a version of {table}; use VERSION AS OF, TIMESTAMP AS OF or \
                 supertable_at('{table}', version)"
            );
        }
    };
    let value = context.sql_expr_to_logical_expr(value, &DFSchema::empty())?;
    let alias = alias_of(&relation);
    let plan = version_plan(&table, &table, argument, value, context)?;
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
        plan, alias,
    ))))
}

/// `"t@v7"`, unless that is the name of something else.
fn named_version(
    relation: TableFactor,
    context: &mut dyn RelationPlannerContext,
) -> Result<RelationPlanning> {
    let (plain, name, alias) = match plain(relation) {
        Plain::Passed(relation) => return Ok(RelationPlanning::Original(relation)),
        Plain::Named(plain, name, alias) => (plain, name, alias),
    };
    let Some((table, version)) = name_of_version(&name, context) else {
        return plan_err!("{name} is no longer the name of a version");
    };
    let written = context.object_name_to_table_reference(name)?;
    let plan = match context.plan(*plain) {
        Ok(plan) => plan,
        Err(_) => version_plan(&written, &table, "version", lit(version), context)?,
    };
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
        plan, alias,
    ))))
}

/// A table that this planner is asked for.
enum Plain {
    /// It has passed it on already, and does so again.
    Passed(Box<TableFactor>),
    /// It is marked as to be passed on, and its name and alias.
    Named(Box<TableFactor>, ObjectName, Option<TableAlias>),
}

fn plain(mut relation: TableFactor) -> Plain {
    let TableFactor::Table {
        name,
        alias,
        partitions,
        ..
    } = &mut relation
    else {
        return Plain::Passed(Box::new(relation));
    };
    if partitions.iter().any(|mark| mark.value == PLAIN) {
        partitions.clear();
        return Plain::Passed(Box::new(relation));
    }
    let (name, alias) = (name.clone(), alias.take());
    partitions.push(Ident::new(PLAIN));
    Plain::Named(Box::new(relation), name, alias)
}

/// Whether this is a supertable whose row ids are exposed as a column.
fn exposes_column(relation: &TableFactor, context: &dyn RelationPlannerContext) -> bool {
    let TableFactor::Table { name, .. } = relation else {
        return false;
    };
    let provider = context.context_provider();
    let by_session = SupertableOptions::of(provider.options()).expose_row_id;
    context
        .object_name_to_table_reference(name.clone())
        .and_then(|table| provider.get_table_source(table))
        .is_ok_and(|source| {
            supertable(&source).is_some_and(|provider| {
                let metadata = provider.table().metadata();
                // A column of the table's own has the name first.
                by_session.on(&metadata.properties) == RowIdExposure::Column
                    && metadata.schema.field_with_name(EXPOSED_ROW_ID).is_err()
            })
        })
}

/// The table with its rows' ids as its last column, under its own name.
fn with_row_id(
    relation: TableFactor,
    context: &mut dyn RelationPlannerContext,
) -> Result<RelationPlanning> {
    let (plain, alias) = match plain(relation) {
        Plain::Passed(relation) => return Ok(RelationPlanning::Original(relation)),
        Plain::Named(plain, _, alias) => (plain, alias),
    };
    let plan = context.plan(*plain)?;
    let mut columns: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    // A query in the statement may have the table's name, and another meaning.
    let table = match (&plan, columns.first()) {
        (LogicalPlan::TableScan(scan), Some(Expr::Column(column))) => {
            let id = row_id_udf().call(vec![Expr::Column(column.clone())]);
            columns.push(id.alias_qualified(Some(scan.table_name.clone()), EXPOSED_ROW_ID));
            LogicalPlanBuilder::from(plan).project(columns)?.build()?
        }
        _ => plan,
    };
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
        table, alias,
    ))))
}

/// A scan of a version of `table`, under the name by which the statement calls it.
fn version_plan(
    name: &TableReference,
    table: &TableReference,
    argument: &str,
    value: Expr,
    context: &dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let args = vec![lit(table.to_quoted_string()), named(argument), value];
    let source = context
        .context_provider()
        .get_table_function_source(AT, args.clone())?;
    parameters::scan(AT, name.clone(), source, args)
}

/// The table and the version that a name such as `t@v7` would mean.
fn name_of_version(
    name: &ObjectName,
    context: &dyn RelationPlannerContext,
) -> Option<(TableReference, u64)> {
    let written = context.object_name_to_table_reference(name.clone()).ok()?;
    let (table, version) = table_and_version(written.table())?;
    let table = match (written.catalog(), written.schema()) {
        (Some(catalog), Some(schema)) => TableReference::full(catalog, schema, table),
        (None, Some(schema)) => TableReference::partial(schema, table),
        _ => TableReference::bare(table),
    };
    Some((table, version))
}

fn alias_of(relation: &TableFactor) -> Option<TableAlias> {
    match relation {
        TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. } => alias.clone(),
        _ => None,
    }
}

/// The name of the function, if it is one of this crate's.
fn own_function(name: &ObjectName, context: &dyn RelationPlannerContext) -> Option<String> {
    let [part] = name.0.as_slice() else {
        return None;
    };
    let name = context.normalize_ident(part.as_ident()?.clone());
    name.starts_with(FUNCTION_PREFIX).then_some(name)
}

/// Plans a call. A named argument reaches the function as two expressions: its name, marked as one,
/// and its value.
fn call(
    function: &str,
    args: Vec<FunctionArg>,
    alias: Option<TableAlias>,
    context: &mut dyn RelationPlannerContext,
) -> Result<RelationPlanning> {
    let mut exprs = Vec::with_capacity(args.len());
    for arg in args {
        let (name, value) = argument(function, arg, context)?;
        exprs.extend(name.map(|name| named(&name)));
        exprs.push(value);
    }
    let source = context
        .context_provider()
        .get_table_function_source(function, exprs.clone())?;
    let name = TableReference::bare(format!("{function}()"));
    let plan = parameters::scan(function, name, source, exprs)?;
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
        plan, alias,
    ))))
}

/// An argument's name, if it is given by name, and its value.
fn argument(
    function: &str,
    arg: FunctionArg,
    context: &mut dyn RelationPlannerContext,
) -> Result<(Option<String>, Expr)> {
    let nothing = DFSchema::empty();
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => {
            Ok((None, context.sql_expr_to_logical_expr(value, &nothing)?))
        }
        FunctionArg::Named {
            name,
            arg: FunctionArgExpr::Expr(value),
            ..
        }
        | FunctionArg::ExprNamed {
            name: SqlExpr::Identifier(name),
            arg: FunctionArgExpr::Expr(value),
            ..
        } => {
            let name = context.normalize_ident(name);
            let value = context.sql_expr_to_logical_expr(value, &nothing)?;
            Ok((Some(name), value))
        }
        other => argument_err!(function, "cannot take the argument {other}"),
    }
}
