//! Relations in `FROM` that DataFusion's own planner does not understand.
//!
//! Owns the calls of this crate's table functions: DataFusion refuses arguments by name
//! (`supertable_vacuum('t', dry_run => true)`). Everything that is not this crate's is passed on
//! as it came.

use datafusion::common::{DFSchema, Result, TableReference, not_impl_err, plan_err};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, ObjectName, TableAlias, TableFactor,
};

use crate::sql::functions::args::named;
use crate::sql::functions::list::FUNCTION_PREFIX;

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
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
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
