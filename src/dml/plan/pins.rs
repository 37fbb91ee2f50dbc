//! One version of each table for all references within one statement.
//!
//! Owns the pins of a statement, the pinned sources under its scans, and a statement's plan over newer versions when it
//! runs again. Does not own what a pin is ([`Pin`]).
//!
//! Invariant: a plan of one statement never reads two versions of one table, unless it names them.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::{DefaultTableSource, TableProvider, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, TableSource};

use crate::dml::opaque::Opaque;
use crate::dml::provider::{PinnedProvider, SupertableProvider};
use crate::dml::write::rerun::{Again, PlanAgain};
use crate::dml::write::spill::plan_in;
use crate::scan::Pin;

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

/// Puts a pinned source under every scan of a supertable, in subqueries too.
pub(super) fn pin_scans(plan: LogicalPlan, pins: &Pins) -> Result<LogicalPlan> {
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
fn repin(plan: LogicalPlan, pins: &Pins) -> Result<LogicalPlan> {
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

/// Whether `plan`, which is not pinned yet, reads the table.
pub(super) fn reads(plan: &LogicalPlan, table: &SupertableProvider) -> Result<bool> {
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

/// A statement's rows as they were planned first, to be planned over newer versions.
#[derive(Debug)]
pub(super) struct Template {
    target: SupertableProvider,
    rows: Opaque<LogicalPlan>,
}

impl Template {
    /// Of a statement that changes `target`; all scans of `rows` are pinned.
    pub(super) fn of(target: &SupertableProvider, rows: Opaque<LogicalPlan>) -> Arc<Self> {
        Arc::new(Self {
            target: target.clone(),
            rows,
        })
    }
}

impl PlanAgain for Template {
    fn plan_again(&self, session: Arc<dyn Session>) -> Result<Again> {
        let pins = Pins::default();
        let plan = repin(self.rows.get().clone(), &pins)?;
        Ok(Again {
            pin: pins.pin(&self.target),
            rows: plan_in(session, &Opaque::new(plan)),
        })
    }
}
