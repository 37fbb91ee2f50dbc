//! The planning rule: `DELETE` and `UPDATE` become queries that flow into a sink, and every
//! reference to a table within one statement reads the same version.
//!
//! Owns the order of the rewrites of logical plans. Runs after DataFusion's own analysis, so what it builds is
//! type-exact.
//!
//! Invariant: a plan shape that is not understood is refused. Nothing is guessed, because a wrong
//! guess here changes rows that the statement does not name.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{
    DFSchemaRef, FunctionalDependencies, Result, TableReference, not_impl_err, plan_err,
};
use datafusion::config::ConfigOptions;
use datafusion::datasource::{TableProvider, provider_as_source};
use datafusion::logical_expr::dml::{InsertOp, MergeIntoAction};
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, TableScan, WriteOp};
use datafusion::optimizer::AnalyzerRule;

use super::lost::refuse_lost_fields;
use super::merge::plan_merge;
use super::names::refuse_other_names;
use super::pins::{Pins, Template, pin_scans, provider_of, reads, supertable};
use super::row_id::{refuse_rounded_ids, resolve_row_ids};
use super::spine::{address_spine, columns_then_address, only_address, whole_predicate};
use super::values::with_nullable_values;
use super::words::{describe, describe_insert, describe_merge};
use crate::config::{Isolation, SupertableOptions};
use crate::dml::opaque::Opaque;
use crate::dml::provider::{PinnedProvider, SupertableProvider, VersionProvider};
use crate::dml::sound::{sound_change, sound_query};
use crate::dml::write::change::{ChangeKind, ChangeProvider, Writes};
use crate::dml::write::insert::InsertStatement;
use crate::dml::write::returning::rewrite_changed_rows;

/// The rule's name, by which a session is known to be registered.
pub(crate) const ANALYZER_RULE: &str = "supertable";

/// Rewrites statements over supertables; see the module documentation.
#[derive(Debug, Default)]
pub(crate) struct SupertableAnalyzer;

impl AnalyzerRule for SupertableAnalyzer {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        refuse_rounded_ids(&plan)?;
        let pins = Pins::default();
        let plan = fix_columns(plan)?;
        // A DML statement may sit under EXPLAIN, but never inside an expression.
        let plan = plan
            .transform_down(|node| match node {
                LogicalPlan::Dml(dml) => rewrite_dml(dml, config, &pins, false),
                LogicalPlan::Extension(extension) => {
                    rewrite_changed_rows(extension, |dml| rewrite_dml(dml, config, &pins, true))
                }
                other => Ok(Transformed::no(other)),
            })?
            .data;
        let plan = resolve_row_ids(plan, config, &pins)?;
        let plan = match reads_supertables(&plan)? {
            true => sound_query(plan, config)?,
            false => plan,
        };
        pin_scans(plan, &pins)
    }

    fn name(&self) -> &str {
        ANALYZER_RULE
    }
}

/// Settles the columns by which a statement is analysed: from here on every provider of a supertable
/// is a fixed one, and every scan reads the columns that its plan was made with.
fn fix_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut depends = false;
    let plan = plan
        .transform_down_with_subqueries(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                let Some(provider) = supertable(&scan.source) else {
                    return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
                };
                let provider = provider.fixed();
                scan.projection = projection_of(&scan, &provider.schema())?;
                if !scan.projected_schema.functional_dependencies().is_empty() {
                    depends = true;
                    scan.projected_schema = independent(&scan.projected_schema)?;
                }
                scan.source = provider_as_source(Arc::new(provider));
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            LogicalPlan::Dml(mut dml) => {
                let Some(provider) = supertable(&dml.target) else {
                    return Ok(Transformed::no(LogicalPlan::Dml(dml)));
                };
                dml.target = provider_as_source(Arc::new(provider.fixed()));
                Ok(Transformed::yes(LogicalPlan::Dml(dml)))
            }
            other => Ok(Transformed::no(other)),
        })?
        .data;
    if !depends {
        return Ok(plan);
    }
    // What stands above the scans derived from their keys what depends on what.
    let derived = plan.transform_up_with_subqueries(|node| {
        match node.schema().functional_dependencies().is_empty() {
            true => Ok(Transformed::no(node)),
            false => Ok(Transformed::yes(node.recompute_schema()?)),
        }
    })?;
    Ok(derived.data)
}

/// `schema` without what a declared key tells of it. The planner of SQL has made its use of that (a column that depends on
/// a group's key can be selected); the optimiser would go by it where it no longer holds, above joins, and leave groups
/// and orders out.
fn independent(schema: &DFSchemaRef) -> Result<DFSchemaRef> {
    let schema = schema.as_ref().clone();
    let nothing = FunctionalDependencies::empty();
    Ok(Arc::new(schema.with_functional_dependencies(nothing)?))
}

/// Where in `current` the columns are that `scan` was planned with: the table's may have changed
/// since, for a prepared statement or a view in particular.
fn projection_of(scan: &TableScan, current: &SchemaRef) -> Result<Option<Vec<usize>>> {
    let planned = scan.projected_schema.fields();
    let is_planned = |at: usize, field: &FieldRef| {
        current.fields().get(at).is_some_and(|now| {
            now.name() == field.name()
                && now.data_type() == field.data_type()
                && now.is_nullable() == field.is_nullable()
        })
    };
    let unchanged = match &scan.projection {
        None => {
            planned.len() == current.fields().len()
                && planned.iter().enumerate().all(|(i, f)| is_planned(i, f))
        }
        Some(projection) => {
            projection.len() == planned.len()
                && projection
                    .iter()
                    .zip(planned)
                    .all(|(i, f)| is_planned(*i, f))
        }
    };
    if unchanged {
        return Ok(scan.projection.clone());
    }
    planned
        .iter()
        .map(|field| match current.index_of(field.name()) {
            Ok(at) if is_planned(at, field) => Ok(at),
            _ => plan_err!(
                "the column {} of {} has changed since the statement was planned; plan it anew",
                field.name(),
                scan.table_name
            ),
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

fn rewrite_dml(
    dml: DmlStatement,
    config: &ConfigOptions,
    pins: &Pins,
    returns_rows: bool,
) -> Result<Transformed<LogicalPlan>> {
    let Some(provider) = supertable(&dml.target).cloned() else {
        return Ok(Transformed::no(LogicalPlan::Dml(dml)));
    };
    let isolation =
        SupertableOptions::of(config).isolation_on(&provider.table().metadata().properties);
    let serializable = isolation == Isolation::Serializable;
    let kind = match &dml.op {
        WriteOp::Delete => ChangeKind::Delete,
        WriteOp::Update => ChangeKind::Update,
        WriteOp::MergeInto(_) => ChangeKind::Merge,
        // An overwrite replaces what the statement's version holds, no more: not what another
        // statement inserts meanwhile.
        WriteOp::Insert(op) => {
            let text = describe_insert(*op, &dml.table_name, &dml.input);
            refuse_lost_fields(&dml.input)?;
            let rows = with_nullable_values(Arc::unwrap_or_clone(dml.input))?;
            let rows = resolve_row_ids(rows, config, pins)?;
            let serializable = serializable && reads(&rows, &provider)?;
            let rows = pin_scans(sound_change(rows, config)?, pins)?;
            let statement = InsertStatement {
                table: dml.table_name.to_string(),
                again: Template::of(&provider, Opaque::new(rows.clone())),
                text,
                serializable,
            };
            let pinned = provider.pinned(pins.pin(&provider)).inserting(statement);
            return Ok(Transformed::yes(LogicalPlan::Dml(DmlStatement {
                target: provider_as_source(Arc::new(pinned)),
                input: Arc::new(rows),
                ..dml
            })));
        }
        WriteOp::Truncate => return Ok(Transformed::no(LogicalPlan::Dml(dml))),
        other => return not_impl_err!("{other} is not supported on a supertable"),
    };
    let pin = pins.pin(&provider);
    let target = provider.addressed(Arc::clone(&pin));
    let writes = writes(&dml, &dml.input)?;
    let input = Arc::unwrap_or_clone(dml.input);
    let (input, absent, statement) = match &dml.op {
        WriteOp::MergeInto(merge) => {
            let (input, absent) = plan_merge(&dml.table_name, &target, input, merge)?;
            (input, absent, describe_merge(&dml.table_name, merge))
        }
        op => {
            if *op == WriteOp::Update {
                refuse_other_names(&input, &provider.schema(), config)?;
                refuse_lost_fields(&input)?;
            }
            let statement = describe(op, &dml.table_name, &input);
            let deletes = match kind {
                ChangeKind::Delete if !returns_rows && whole_predicate(&input)?.is_some() => {
                    whole_predicate(&sound_change(input.clone(), config)?)?
                }
                _ => None,
            };
            let target = match deletes {
                Some(predicate) => target.deleting(predicate),
                None => target,
            };
            let addressed = address_spine(input, &target)?;
            let input = match kind {
                ChangeKind::Delete if !returns_rows => only_address(addressed)?,
                _ => columns_then_address(addressed, &provider)?,
            };
            (input, None, statement)
        }
    };
    // The sink re-runs this plan on a newer version if another statement commits first. Other
    // scans of the statement are pinned now, so that the re-run can pin them anew.
    let input = sound_change(resolve_row_ids(input, config, pins)?, config)?;
    let input = pin_scans(input, pins)?;
    let rows = Opaque::new(input.clone());
    let sink = ChangeProvider {
        access: Arc::clone(provider.access()),
        pin,
        kind,
        again: Template::of(&provider, rows.clone()),
        input: rows,
        statement,
        absent,
        writes,
        // A row that another statement has deleted must not be returned.
        serializable: serializable || (returns_rows && kind == ChangeKind::Delete),
    };
    Ok(Transformed::yes(LogicalPlan::Dml(DmlStatement::new(
        dml.table_name,
        provider_as_source(Arc::new(sink)),
        WriteOp::Insert(InsertOp::Append),
        Arc::new(input),
    ))))
}

/// What a statement over `input` writes.
fn writes(dml: &DmlStatement, input: &LogicalPlan) -> Result<Writes> {
    let mut writes = Writes {
        table: dml.table_name.to_string(),
        inserts: false,
        sets: HashSet::new(),
    };
    match &dml.op {
        WriteOp::MergeInto(merge) => {
            for clause in &merge.clauses {
                match &clause.action {
                    MergeIntoAction::Insert { .. } => writes.inserts = true,
                    MergeIntoAction::Update(assignments) => {
                        let columns = assignments.iter().map(|(column, _)| column.clone());
                        writes.sets.extend(columns);
                    }
                    MergeIntoAction::Delete => {}
                }
            }
        }
        // What is not certain to stay as it is counts as set.
        WriteOp::Update => {
            let values: &[Expr] = match input {
                LogicalPlan::Projection(projection) => &projection.expr,
                _ => &[],
            };
            let alias = only_alias(input, &dml.table_name)?;
            for (at, field) in input.schema().fields().iter().enumerate() {
                let mut value = values.get(at);
                while let Some(Expr::Alias(alias)) = value {
                    value = Some(&*alias.expr);
                }
                let stays = match value {
                    Some(Expr::Column(column)) => {
                        let relation = column.relation.as_ref();
                        let of_table = relation == Some(&dml.table_name)
                            || (alias.is_some() && relation == alias.as_ref());
                        of_table && column.name == *field.name()
                    }
                    _ => false,
                };
                if !stays {
                    writes.sets.insert(field.name().clone());
                }
            }
        }
        _ => {}
    }
    Ok(writes)
}

/// The other name that a plan gives a table which it reads once.
fn only_alias(plan: &LogicalPlan, table: &TableReference) -> Result<Option<TableReference>> {
    let is_table = |plan: &LogicalPlan| matches!(plan, LogicalPlan::TableScan(scan) if scan.table_name == *table);
    let (mut alias, mut scans) = (None, 0);
    plan.apply_with_subqueries(|node| {
        scans += usize::from(is_table(node));
        if let LogicalPlan::SubqueryAlias(named) = node
            && is_table(&named.input)
        {
            alias = Some(named.alias.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(alias.filter(|_| scans == 1))
}

/// Whether `plan` reads a supertable, and no rewritten statement does it (whose plan is sound already).
fn reads_supertables(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        let is_ours = |p: &Arc<dyn TableProvider>| {
            p.is::<SupertableProvider>() || p.is::<PinnedProvider>() || p.is::<VersionProvider>()
        };
        Ok(match node {
            LogicalPlan::Dml(dml)
                if provider_of(&dml.target)
                    .is_some_and(|p| p.is::<ChangeProvider>() || is_ours(p)) =>
            {
                TreeNodeRecursion::Jump
            }
            LogicalPlan::TableScan(scan) => {
                found |= provider_of(&scan.source).is_some_and(is_ours);
                TreeNodeRecursion::Continue
            }
            _ => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}
