//! The planning rule: `DELETE` and `UPDATE` become queries that flow into a sink, and every
//! reference to a table within one statement reads the same version.
//!
//! Owns the rewrite of logical plans. Runs after DataFusion's own analysis, so what it builds is
//! type-exact. It rewrites the left spine only: from the statement down to the target's scan. A
//! subquery over the same table is either still inside an expression or a right input, and keeps
//! its own scan.
//!
//! Invariant: a plan shape that is not understood is refused. Nothing is guessed, because a wrong
//! guess here changes rows that the statement does not name.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, TableReference, not_impl_err, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::{DefaultTableSource, TableProvider, provider_as_source};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    DmlStatement, EmptyRelation, Expr, LogicalPlan, Projection, TableScan, TableScanBuilder,
    TableSource, WriteOp, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use crate::config::{Isolation, SupertableOptions};
use crate::dml::insert::{InsertStatement, with_nullable_values};
use crate::dml::lost::refuse_lost_fields;
use crate::dml::merge::{describe_merge, plan_merge};
use crate::dml::names::refuse_other_names;
use crate::dml::opaque::Opaque;
use crate::dml::provider::{PinnedProvider, SupertableProvider};
use crate::dml::returning::rewrite_changed_rows;
use crate::dml::row_id::{refuse_rounded_ids, resolve_row_ids};
use crate::dml::sink::{ChangeKind, ChangeProvider};
use crate::dml::sound::{sound_change, sound_query};
use crate::dml::version::VersionProvider;
use crate::dml::words::describe_insert;
use crate::scan::Pin;
use crate::scan::row_address::{ADDRESS_FILE, ADDRESS_POSITION, ROW_ID, ROW_ID_TYPE};

/// The rule's name, by which a session is known to be registered.
pub const ANALYZER_RULE: &str = "supertable";

/// Rewrites statements over supertables; see the module documentation.
#[derive(Debug, Default)]
pub struct SupertableAnalyzer;

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

/// The pins that one statement has handed out, one for each table.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<Vec<(SupertableProvider, Arc<Pin>)>>);

impl Pins {
    /// The statement's pin on `provider`'s table.
    pub(crate) fn pin(&self, provider: &SupertableProvider) -> Arc<Pin> {
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pin)) = pins
            .iter()
            .find(|(known, _)| known.table().is_same(provider.table()))
        {
            return Arc::clone(pin);
        }
        let pin = Pin::latest(provider.table().clone());
        pins.push((provider.clone(), Arc::clone(&pin)));
        pin
    }
}

/// The registered supertable behind a table source, if it is one.
pub(crate) fn supertable(source: &Arc<dyn TableSource>) -> Option<&SupertableProvider> {
    provider_of(source)?.downcast_ref::<SupertableProvider>()
}

pub(crate) fn provider_of(source: &Arc<dyn TableSource>) -> Option<&Arc<dyn TableProvider>> {
    source
        .downcast_ref::<DefaultTableSource>()
        .map(|s| &s.table_provider)
}

/// Settles the columns by which a statement is analysed: from here on every provider of a supertable
/// is a fixed one, and every scan reads the columns that its plan was made with.
fn fix_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan
        .transform_down_with_subqueries(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                let Some(provider) = supertable(&scan.source) else {
                    return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
                };
                let provider = provider.fixed();
                scan.projection = projection_of(&scan, &provider.schema())?;
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
        .data)
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

/// Puts a pinned source under every scan of a supertable, in subqueries too.
fn pin_scans(plan: LogicalPlan, pins: &Pins) -> Result<LogicalPlan> {
    Ok(plan
        .transform_down_with_subqueries(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                let Some(provider) = supertable(&scan.source) else {
                    return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
                };
                let pinned = provider.pinned(pins.pin(provider));
                scan.source = provider_as_source(Arc::new(pinned));
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        })?
        .data)
}

/// The same plan over fresh versions: every pinned scan of a table gets that table's new pin.
pub(crate) fn repin(plan: LogicalPlan, pins: &Pins) -> Result<LogicalPlan> {
    Ok(plan
        .transform_down_with_subqueries(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                let Some(pinned) =
                    provider_of(&scan.source).and_then(|p| p.downcast_ref::<PinnedProvider>())
                else {
                    return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
                };
                let fresh = pinned.repinned(pins.pin(pinned.base()));
                scan.source = provider_as_source(Arc::new(fresh));
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        })?
        .data)
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
                rows: Opaque::new(rows.clone()),
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
    let input = Arc::unwrap_or_clone(dml.input);
    let (input, statement) = match &dml.op {
        WriteOp::MergeInto(merge) => (
            plan_merge(&dml.table_name, &target, input, merge)?,
            describe_merge(&dml.table_name, merge),
        ),
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
            (input, statement)
        }
    };
    // The sink re-runs this plan on a newer version if another statement commits first. Other
    // scans of the statement are pinned now, so that the re-run can pin them anew.
    let input = sound_change(resolve_row_ids(input, config, pins)?, config)?;
    let input = pin_scans(input, pins)?;
    let sink = ChangeProvider::new(
        provider,
        pin,
        kind,
        Opaque::new(input.clone()),
        statement,
        // A row that another statement has deleted must not be returned.
        serializable || (returns_rows && kind == ChangeKind::Delete),
    );
    Ok(Transformed::yes(LogicalPlan::Dml(DmlStatement::new(
        dml.table_name,
        provider_as_source(Arc::new(sink)),
        WriteOp::Insert(InsertOp::Append),
        Arc::new(input),
    ))))
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

/// Whether `plan`, which is not pinned yet, reads the table.
fn reads(plan: &LogicalPlan, table: &SupertableProvider) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let scanned = match provider_of(&scan.source).and_then(|p| p.downcast_ref()) {
                Some(pinned) => Some(PinnedProvider::base(pinned)),
                None => supertable(&scan.source),
            };
            // By its id, because a session may know one table by two names.
            let id = table.table().metadata().table_id;
            found |= scanned.is_some_and(|scanned| scanned.table().metadata().table_id == id);
        }
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// The statement in words, for the WAL document and the history.
fn describe(op: &WriteOp, table: &TableReference, input: &LogicalPlan) -> String {
    let mut words = format!("{} {table}", op.name().to_uppercase());
    let mut node = input;
    loop {
        match node {
            LogicalPlan::Projection(p) if matches!(op, WriteOp::Update) => {
                let sets: Vec<String> = p
                    .expr
                    .iter()
                    .filter_map(|e| match e {
                        Expr::Alias(a) if !matches!(a.expr.as_ref(), Expr::Column(_)) => {
                            Some(format!("{} = {}", a.name, a.expr))
                        }
                        _ => None,
                    })
                    .collect();
                if !sets.is_empty() {
                    words.push_str(&format!(" SET {}", sets.join(", ")));
                }
            }
            LogicalPlan::Filter(f) => words.push_str(&format!(" WHERE {}", f.predicate)),
            LogicalPlan::Limit(_) => words.push_str(" LIMIT"),
            _ => {}
        }
        match node.inputs().first() {
            Some(next) => node = next,
            None => break,
        }
    }
    words
}

/// The predicate, over unqualified columns, of a plan that is nothing but a filtered scan.
fn whole_predicate(plan: &LogicalPlan) -> Result<Option<Expr>> {
    let (predicates, below) = match plan {
        LogicalPlan::Filter(filter) => (vec![filter.predicate.clone()], Some(&filter.input)),
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => (scan.filters.clone(), None),
        // The target under another name.
        LogicalPlan::SubqueryAlias(alias) => (vec![], Some(&alias.input)),
        _ => return Ok(None),
    };
    let below = match below {
        None => lit(true),
        Some(below) => match whole_predicate(below)? {
            Some(below) => below,
            None => return Ok(None),
        },
    };
    let mut whole = below;
    for predicate in predicates {
        let bare = predicate.transform_up(|e| match e {
            Expr::Column(c) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(
                c.name,
            )))),
            other => Ok(Transformed::no(other)),
        })?;
        whole = whole.and(bare.data);
    }
    Ok(Some(whole))
}

/// Rewrites the left spine of `plan` so that its rows carry `_id` and their address.
fn address_spine(plan: LogicalPlan, target: &PinnedProvider) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::TableScan(scan) => address_scan(scan, target),
        // An optimised prepared statement whose predicate is false: no row is addressed.
        LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => address_nothing(empty),
        LogicalPlan::Projection(projection) => {
            let input = address_spine(Arc::unwrap_or_clone(projection.input), target)?;
            let mut exprs = projection.expr;
            exprs.extend(address_columns(&input)?);
            Ok(LogicalPlan::Projection(Projection::try_new(
                exprs,
                Arc::new(input),
            )?))
        }
        LogicalPlan::Filter(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Join(_) => {
            let exprs = plan.expressions();
            let mut inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
            let Some(left) = inputs.first_mut() else {
                return plan_err!("{} has no input", plan.display());
            };
            *left = address_spine(left.clone(), target)?;
            plan.with_new_exprs(exprs, inputs)
        }
        other => not_impl_err!(
            "a DELETE or UPDATE whose plan contains {} is not supported; rewrite its predicate",
            other.display()
        ),
    }
}

fn address_scan(scan: TableScan, target: &PinnedProvider) -> Result<LogicalPlan> {
    let Some(found) = supertable(&scan.source) else {
        return plan_err!(
            "the statement's target {} is not a supertable",
            scan.table_name
        );
    };
    if !found.table().is_same(target.base().table()) {
        return plan_err!(
            "{} stands where the statement's target was expected",
            scan.table_name
        );
    }
    let visible = found.schema().fields().len();
    let hidden = target.schema().fields().len();
    let projection = scan.projection.map(|mut columns| {
        columns.extend(visible..hidden);
        columns
    });
    Ok(LogicalPlan::TableScan(
        TableScanBuilder::new(
            scan.table_name,
            provider_as_source(Arc::new(target.clone())),
        )
        .with_projection(projection)
        .with_filters(scan.filters)
        .with_fetch(scan.fetch)
        .build()?,
    ))
}

fn address_nothing(empty: EmptyRelation) -> Result<LogicalPlan> {
    let mut exprs: Vec<Expr> = empty
        .schema
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    exprs.extend([
        lit(ScalarValue::try_from(&ROW_ID_TYPE)?).alias(ROW_ID),
        lit(ScalarValue::Int32(None)).alias(ADDRESS_FILE),
        lit(ScalarValue::Int64(None)).alias(ADDRESS_POSITION),
    ]);
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(LogicalPlan::EmptyRelation(empty)),
    )?))
}

/// References to `_id` and the address columns of `plan`'s output.
fn address_columns(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    [ROW_ID, ADDRESS_FILE, ADDRESS_POSITION]
        .into_iter()
        .map(|name| {
            let found: Vec<Column> = plan
                .schema()
                .columns()
                .into_iter()
                .filter(|c| c.name == name)
                .collect();
            match <[Column; 1]>::try_from(found) {
                Ok([column]) => Ok(Expr::Column(column)),
                Err(found) => plan_err!(
                    "the statement's plan has {} columns {name} instead of one",
                    found.len()
                ),
            }
        })
        .collect()
}

fn only_address(plan: LogicalPlan) -> Result<LogicalPlan> {
    let exprs = address_columns(&plan)?
        .into_iter()
        .skip(1)
        .zip([ADDRESS_FILE, ADDRESS_POSITION])
        .map(|(e, name)| e.alias(name))
        .collect();
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(plan),
    )?))
}

/// The table's columns in table order, then `_id`, then the address.
fn columns_then_address(plan: LogicalPlan, table: &SupertableProvider) -> Result<LogicalPlan> {
    let schema = table.schema();
    let produced = plan.schema().columns();
    let mut exprs = Vec::with_capacity(schema.fields().len() + 3);
    for (i, field) in schema.fields().iter().enumerate() {
        match produced.get(i) {
            Some(column) if column.name == *field.name() => {
                exprs.push(Expr::Column(column.clone()).alias(field.name()));
            }
            _ => {
                return plan_err!(
                    "the statement's plan does not yield the column {} in its place",
                    field.name()
                );
            }
        }
    }
    for (expr, name) in
        address_columns(&plan)?
            .into_iter()
            .zip([ROW_ID, ADDRESS_FILE, ADDRESS_POSITION])
    {
        exprs.push(expr.alias(name));
    }
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(plan),
    )?))
}
