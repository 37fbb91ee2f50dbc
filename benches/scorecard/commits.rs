//! What a commit costs as a table grows: bytes, requests and time at 100 to 100,000 superfiles.
//!
//! The manifests are real and lie on an in-memory store; the superfiles that they name do not exist,
//! because a commit reads none.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion_supertable::unstable::format::manifest::{RowIds, SuperfileEntry};
use datafusion_supertable::unstable::format::{
    ColumnStats, OpKind, StatValue, SuperfileId, SuperfileStats,
};
use datafusion_supertable::unstable::storage::{RetryPolicy, Storage};
use datafusion_supertable::unstable::table::{CommitOutcome, CreateTable, Effect, Table};
use datafusion_supertable::unstable::wal::Env;
use object_store::memory::InMemory;
use object_store::path::Path;
use roaring::RoaringBitmap;

use crate::fault_store::{FaultStore, Plan};
use crate::measure::{Report, time};

pub(crate) const COLUMNS: i32 = 15;
const SAMPLES: u64 = 20;

struct Cost {
    bytes: u64,
    requests: u64,
    best: std::time::Duration,
}

/// The section.
pub(crate) async fn measure(report: &mut Report) {
    let mut first: Option<Cost> = None;
    for superfiles in [100_u64, 10_000, 100_000] {
        let cost = point_deletes(superfiles).await;
        let base = first.as_ref().unwrap_or(&cost);
        let what = format!("point delete's commit, {superfiles} superfiles");
        report.counts(&format!("{what}: bytes"), cost.bytes, base.bytes, Some(3.0));
        report.counts(
            &format!("{what}: requests"),
            cost.requests,
            base.requests,
            Some(3.0),
        );
        report.ratio(
            &format!("{what}: time in memory"),
            cost.best,
            base.best,
            None,
        );
        if first.is_none() {
            first = Some(cost);
        }
    }
}

async fn point_deletes(superfiles: u64) -> Cost {
    let plan = Plan::healthy();
    let store = FaultStore::new(Arc::new(InMemory::new()), Arc::clone(&plan));
    let storage = Storage::new(Arc::new(store), &Path::default(), RetryPolicy::default());
    let fields: Vec<Field> = (0..COLUMNS)
        .map(|i| Field::new(format!("c{i}"), DataType::Int64, true))
        .collect();
    let spec = CreateTable {
        schema: Arc::new(Schema::new(fields)),
        properties: BTreeMap::new(),
        defaults: Default::default(),
        sort_order: vec![],
        keys: Vec::new(),
    };
    let table = Table::create(storage, Env::system(), spec).await.unwrap();
    let mut ids = Vec::new();
    // One statement's id block has room for all of them; several commits make several blocks.
    for from in (0..superfiles).step_by(10_000) {
        let base = table.snapshot().await.unwrap();
        let mutation = table.begin(OpKind::Insert, base, "INSERT".to_owned());
        let add: Vec<SuperfileEntry> = (from..superfiles.min(from + 10_000))
            .map(|n| entry(mutation.ids().superfile().unwrap(), n))
            .collect();
        ids.extend(add.iter().map(|e| e.id));
        let effect = Effect {
            rows_inserted: add.iter().map(|e| e.rows).sum(),
            add,
            ..Effect::default()
        };
        committed(mutation.commit(effect).await.unwrap());
    }
    table.settle().await;
    let (log, mut best) = (plan.log().len(), std::time::Duration::MAX);
    for i in 0..SAMPLES {
        let victim = ids[(i * superfiles / SAMPLES) as usize];
        let (took, ()) = time(delete_one(&table, victim)).await;
        best = best.min(took);
    }
    table.settle().await;
    let log = plan.log().split_off(log);
    Cost {
        bytes: log.iter().map(|o| o.bytes as u64).sum::<u64>() / SAMPLES,
        requests: log.len() as u64 / SAMPLES,
        best,
    }
}

async fn delete_one(table: &Table, superfile: SuperfileId) {
    let base = table.snapshot().await.unwrap();
    let mutation = table.begin(OpKind::Delete, base, "DELETE".to_owned());
    let effect = Effect {
        delete: BTreeMap::from([(superfile, RoaringBitmap::from([7]))]),
        rows_deleted: 1,
        ..Effect::default()
    };
    committed(mutation.commit(effect).await.unwrap());
}

pub(crate) fn committed(outcome: CommitOutcome) {
    assert!(matches!(outcome, CommitOutcome::Committed { .. }));
}

pub(crate) fn entry(id: SuperfileId, n: u64) -> SuperfileEntry {
    let at = n as i64 * 1_000_000;
    let columns = (1..=COLUMNS)
        .map(|field| {
            let (min, max) = (StatValue::Int(at), StatValue::Int(at + 999_999));
            (field, ColumnStats::new(Some(min), Some(max), Some(0), 128))
        })
        .collect();
    let (rows, size, created_at_ms) = (1_000_000, 50_000_000, 1_700_000_000_000);
    SuperfileEntry {
        stats: SuperfileStats { columns },
        ..SuperfileEntry::new(id, rows, size, created_at_ms, RowIds::Stored)
    }
}
