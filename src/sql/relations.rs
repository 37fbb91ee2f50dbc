//! Relations in `FROM` that DataFusion's own planner does not understand.
//!
//! Owns, for this crate's tables and functions only (everything else is passed on as it came):
//! - calls of table functions: DataFusion refuses arguments by name
//!   (`supertable_vacuum('t', dry_run => true)`);
//! - a table as it was: `"t@v7"`, and where the SQL dialect has it `t VERSION AS OF 7`,
//!   `t TIMESTAMP AS OF …`, `t FOR SYSTEM_TIME AS OF …` (DataFusion would ignore those and read the
//!   current version).
//!
//! Invariant: a name that means a table, view or query of the statement keeps its meaning; `"t@v7"` is
//! a version only if nothing has that very name. Only what stands in `FROM` is looked at, so no
//! statement can write to a version.

use std::sync::Arc;

use datafusion::common::{DFSchema, Result, TableReference, not_impl_err, plan_err};
use datafusion::datasource::DefaultTableSource;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableSource, lit};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableAlias, TableFactor,
    TableVersion,
};

use crate::dml::SupertableProvider;
use crate::sql::functions::args::named;
use crate::sql::functions::at::AT;
use crate::sql::functions::list::FUNCTION_PREFIX;

/// Between a table's name and the number of a version.
const VERSION_MARK: &str = "@v";

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
        .is_ok_and(|source| is_supertable(&source));
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
    let mut plain = relation.clone();
    let TableFactor::Table {
        name,
        alias,
        partitions,
        ..
    } = &mut plain
    else {
        return Ok(RelationPlanning::Original(Box::new(relation)));
    };
    if partitions.iter().any(|mark| mark.value == PLAIN) {
        partitions.clear();
        return Ok(RelationPlanning::Original(Box::new(plain)));
    }
    let Some((table, version)) = name_of_version(name, context) else {
        return Ok(RelationPlanning::Original(Box::new(relation)));
    };
    let written = context.object_name_to_table_reference(name.clone())?;
    let alias = alias.take();
    partitions.push(Ident::new(PLAIN));
    let plan = match context.plan(plain) {
        Ok(plan) => plan,
        Err(_) => version_plan(&written, &table, "version", lit(version), context)?,
    };
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
        plan, alias,
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
        .get_table_function_source(AT, args)?;
    LogicalPlanBuilder::scan(name.clone(), source, None)?.build()
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

/// The two parts of a name such as `t@v7`.
pub(crate) fn table_and_version(name: &str) -> Option<(&str, u64)> {
    let (table, version) = name.rsplit_once(VERSION_MARK)?;
    if table.is_empty() || !version.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((table, version.parse().ok()?))
}

fn is_supertable(source: &Arc<dyn TableSource>) -> bool {
    source
        .downcast_ref::<DefaultTableSource>()
        .is_some_and(|s| {
            s.table_provider
                .downcast_ref::<SupertableProvider>()
                .is_some()
        })
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
        .get_table_function_source(function, exprs)?;
    let name = TableReference::bare(format!("{function}()"));
    let plan = LogicalPlanBuilder::scan(name, source, None)?.build()?;
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
        other => plan_err!("{function} cannot take the argument {other}"),
    }
}
