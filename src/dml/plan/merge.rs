//! The plan of a `MERGE INTO`: one join, one action for each of its rows.
//!
//! Owns the rewrite of a `MERGE` into a query whose rows say what to do: the new values of the
//! table's columns, `_id` and the address of the target row if there is one, and an action code.
//! Semantics are those of SQL:2016, feature F312 and its `DELETE` extension: clauses are tried in
//! order and the first that applies decides; a row to which none applies is left alone.
//!
//! Invariant: a row reaches the sink only if an action was chosen for it, so two source rows that
//! match one target row are an error exactly when both would change it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{Column, JoinType, Result, ScalarValue, TableReference};
use datafusion::datasource::{TableProvider, provider_as_source};
use datafusion::logical_expr::dml::{
    MergeIntoAction, MergeIntoClause, MergeIntoClauseKind, MergeIntoOp,
};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Projection, TableScanBuilder, lit,
};

use super::absent::Absent;
use super::lost::{refuse_absent, refuse_lost_in_merge};
use crate::dml::provider::PinnedProvider;
use crate::dml::write::absent::AbsentColumns;
use crate::dml::write::action::{ACTION, ACTION_DELETE, ACTION_INSERT, ACTION_UPDATE};
use crate::scan::row_address::{ADDRESS_FILE, ADDRESS_POSITION, ROW_ID};

const CLAUSE: &str = "__supertable_clause";
const SOURCE_PRESENT: &str = "__supertable_source";
/// No clause applies.
const NO_CLAUSE: i32 = -1;

/// Builds the query of `merge`: the table's columns, `_id`, the address, the action, and the keys of rows to be inserted,
/// which the second value is about.
pub(crate) fn plan_merge(
    table_name: &TableReference,
    target: &PinnedProvider,
    source: LogicalPlan,
    merge: &MergeIntoOp,
) -> Result<(LogicalPlan, Option<AbsentColumns>)> {
    refuse_absent(table_name, source.schema(), merge)?;
    let joined = join(table_name, target, source, merge)?;
    refuse_lost_in_merge(merge, joined.schema(), &target.base().schema())?;
    let absent = Absent::of(table_name, &target.base().schema(), joined.schema(), merge)?;
    let chosen = choose_clause(joined, table_name, &merge.clauses)?;
    let plan = project_actions(chosen, table_name, target, &merge.clauses, absent.as_ref())?;
    Ok((plan, absent.map(|absent| absent.columns())))
}

fn target_column(table_name: &TableReference, name: &str) -> Expr {
    Expr::Column(Column::new(Some(table_name.clone()), name))
}

fn source_present() -> Expr {
    Expr::Column(Column::new_unqualified(SOURCE_PRESENT))
}

fn join(
    table_name: &TableReference,
    target: &PinnedProvider,
    source: LogicalPlan,
    merge: &MergeIntoOp,
) -> Result<LogicalPlan> {
    let scan = TableScanBuilder::new(
        table_name.clone(),
        provider_as_source(Arc::new(target.clone())),
    )
    .build()?;
    let mut columns: Vec<Expr> = source
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    columns.push(lit(true).alias(SOURCE_PRESENT));
    let source = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(source))?);

    let has = |kind: MergeIntoClauseKind| {
        merge
            .clauses
            .iter()
            .any(|c| c.kind.canonical() == kind.canonical())
    };
    // Rows of a side that no clause can act on need not survive the join.
    let join_type = match (
        has(MergeIntoClauseKind::NotMatchedBySource),
        has(MergeIntoClauseKind::NotMatchedByTarget),
    ) {
        (true, true) => JoinType::Full,
        (true, false) => JoinType::Right,
        (false, true) => JoinType::Left,
        (false, false) => JoinType::Inner,
    };
    // The source comes first, because the engine keeps a hash join's first input in memory unless it
    // knows the second to be smaller, and a table outgrows what is merged into it.
    LogicalPlanBuilder::from(source)
        .join_on(LogicalPlan::TableScan(scan), join_type, [merge.on.clone()])?
        .build()
}

/// Adds the index of the first clause that applies, and drops the rows without one.
fn choose_clause(
    joined: LogicalPlan,
    table_name: &TableReference,
    clauses: &[MergeIntoClause],
) -> Result<LogicalPlan> {
    let in_target = target_column(table_name, ADDRESS_FILE).is_not_null();
    let in_source = source_present().is_not_null();
    let mut when_then = Vec::with_capacity(clauses.len());
    for (index, clause) in (0_i32..).zip(clauses) {
        let applies = match clause.kind.canonical() {
            MergeIntoClauseKind::Matched => in_target.clone().and(in_source.clone()),
            MergeIntoClauseKind::NotMatched | MergeIntoClauseKind::NotMatchedByTarget => {
                target_column(table_name, ADDRESS_FILE)
                    .is_null()
                    .and(in_source.clone())
            }
            MergeIntoClauseKind::NotMatchedBySource => {
                in_target.clone().and(source_present().is_null())
            }
        };
        let condition = match &clause.predicate {
            // Not `AND`, both sides of which are evaluated: on a row of another kind the predicate may fail.
            Some(predicate) => {
                let then = vec![(Box::new(applies), Box::new(predicate.clone()))];
                Expr::Case(Case::new(None, then, None))
            }
            None => applies,
        };
        when_then.push((Box::new(condition), Box::new(lit(index))));
    }
    let clause = Expr::Case(Case::new(None, when_then, Some(Box::new(lit(NO_CLAUSE)))));
    let mut exprs: Vec<Expr> = joined
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    exprs.push(clause.alias(CLAUSE));
    let numbered = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?);
    let acts = Expr::Column(Column::new_unqualified(CLAUSE)).not_eq(lit(NO_CLAUSE));
    Ok(LogicalPlan::Filter(Filter::try_new(
        acts,
        Arc::new(numbered),
    )?))
}

fn project_actions(
    chosen: LogicalPlan,
    table_name: &TableReference,
    target: &PinnedProvider,
    clauses: &[MergeIntoClause],
    absent: Option<&Absent>,
) -> Result<LogicalPlan> {
    let table: SchemaRef = target.base().schema();
    let mut exprs = Vec::with_capacity(table.fields().len() + 4);
    for field in table.fields() {
        let null = lit(ScalarValue::try_from(field.data_type())?);
        let value = by_clause(clauses, |clause| {
            let value = match &clause.action {
                MergeIntoAction::Delete => return Ok(null.clone()),
                MergeIntoAction::Update(assignments) => assignments
                    .iter()
                    .find(|(name, _)| name == field.name())
                    .map(|(_, value)| value.clone())
                    .unwrap_or_else(|| target_column(table_name, field.name())),
                MergeIntoAction::Insert { columns, values } => {
                    inserted(&table, field.name(), columns, values)?
                        .or_else(|| target.base().get_column_default(field.name()).cloned())
                        .unwrap_or_else(|| null.clone())
                }
            };
            value.cast_to(field.data_type(), chosen.schema())
        })?;
        exprs.push(value.alias(field.name()));
    }
    for name in [ROW_ID, ADDRESS_FILE, ADDRESS_POSITION] {
        exprs.push(target_column(table_name, name).alias(name));
    }
    let action = by_clause(clauses, |clause| {
        Ok(lit(match &clause.action {
            MergeIntoAction::Delete => ACTION_DELETE,
            MergeIntoAction::Update(_) => ACTION_UPDATE,
            MergeIntoAction::Insert { .. } => ACTION_INSERT,
        }))
    })?;
    exprs.push(action.alias(ACTION));
    for (name, value) in absent.into_iter().flat_map(Absent::key_columns) {
        let null = lit(ScalarValue::try_from(&value.get_type(chosen.schema())?)?);
        let key = by_clause(clauses, |clause| {
            Ok(match &clause.action {
                MergeIntoAction::Insert { .. } => value.clone(),
                _ => null.clone(),
            })
        })?;
        exprs.push(key.alias(name));
    }
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(chosen),
    )?))
}

/// The value that an `INSERT` clause gives a column, if it names it.
fn inserted(
    table: &SchemaRef,
    name: &str,
    columns: &[String],
    values: &[Expr],
) -> Result<Option<Expr>> {
    let at = match columns.is_empty() {
        true => Some(table.index_of(name)?),
        false => columns.iter().position(|c| c == name),
    };
    Ok(at.and_then(|at| values.get(at)).cloned())
}

/// `CASE clause WHEN 0 THEN value(0) WHEN 1 THEN value(1) … END`, so that an expression is
/// evaluated for its own clause's rows only.
fn by_clause(
    clauses: &[MergeIntoClause],
    value: impl Fn(&MergeIntoClause) -> Result<Expr>,
) -> Result<Expr> {
    let when_then = (0_i32..)
        .zip(clauses)
        .map(|(index, clause)| Ok((Box::new(lit(index)), Box::new(value(clause)?))))
        .collect::<Result<Vec<_>>>()?;
    let chosen = Expr::Column(Column::new_unqualified(CLAUSE));
    Ok(Expr::Case(Case::new(
        Some(Box::new(chosen)),
        when_then,
        None,
    )))
}
