//! Compaction and vacuum through SQL sessions: row ids, statements that run meanwhile, automatic compaction.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::unstable::dml::SupertableProvider;
use datafusion_supertable::unstable::dml::compact::{GroupOutcome, optimize, prepare};
use datafusion_supertable::unstable::format::OpKind;
use datafusion_supertable::unstable::scan::{Pin, ROW_ID};
use datafusion_supertable::unstable::table::compaction::Targets;
use datafusion_supertable::unstable::table::{CommitOutcome, Effect, Table};
use roaring::RoaringBitmap;
use tempfile::TempDir;

struct Session(SessionContext);

impl Session {
    async fn open(dir: &FsPath) -> Self {
        let session = Self(SessionContext::new_with_config(
            SessionConfig::new().with_target_partitions(3),
        ));
        session.attach(dir).await;
        session
    }

    async fn attach(&self, dir: &FsPath) {
        datafusion_supertable::register(&self.0).unwrap();
        self.run(&format!(
            "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{}/'",
            dir.display()
        ))
        .await;
    }

    /// A session that creates the table.
    async fn create(dir: &FsPath, order: &str) -> Self {
        let session = Self(SessionContext::new_with_config(
            SessionConfig::new().with_target_partitions(3),
        ));
        datafusion_supertable::register(&session.0).unwrap();
        session
            .run(&format!(
                "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v BIGINT) STORED AS SUPERTABLE {order} \
                 LOCATION '{}/'",
                dir.display()
            ))
            .await;
        session
    }

    async fn run(&self, sql: &str) -> u64 {
        let batches = self.0.sql(sql).await.unwrap().collect().await.unwrap();
        batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    async fn provider(&self) -> SupertableProvider {
        let provider = self.0.table_provider("t").await.unwrap();
        provider
            .downcast_ref::<SupertableProvider>()
            .unwrap()
            .clone()
    }

    async fn table(&self) -> Table {
        self.provider().await.table().clone()
    }

    async fn superfiles(&self) -> u64 {
        let snapshot = self.table().await.snapshot().await.unwrap();
        snapshot.manifest().totals().superfiles
    }

    /// Each row's value and `_id`, by `id`.
    async fn rows(&self) -> BTreeMap<i64, (Option<i64>, i128)> {
        let provider = self.provider().await;
        let pin = Pin::latest(provider.table().clone());
        let frame = self
            .0
            .read_table(Arc::new(provider.addressed(pin)))
            .unwrap();
        let mut rows = BTreeMap::new();
        for batch in frame.collect().await.unwrap() {
            let column = |name: &str| batch.column_by_name(name).unwrap().clone();
            let (id, v, row_id) = (column("id"), column("v"), column(ROW_ID));
            let ids = id.as_primitive::<Int64Type>().values();
            let values = v.as_primitive::<Int64Type>();
            let row_ids = row_id.as_primitive::<Decimal128Type>().values();
            for (at, (id, row_id)) in ids.iter().zip(row_ids).enumerate() {
                let value = values.iter().nth(at).unwrap();
                assert_eq!(
                    rows.insert(*id, (value, *row_id)),
                    None,
                    "{id} is there twice"
                );
            }
        }
        let ids: BTreeSet<i128> = rows.values().map(|(_, row_id)| *row_id).collect();
        assert_eq!(ids.len(), rows.len());
        rows
    }

    async fn optimize(&self, targets: Targets) -> Vec<GroupOutcome> {
        let provider = self.provider().await;
        let context = self.0.task_ctx();
        optimize(provider.access(), &context, targets, false)
            .await
            .unwrap()
            .into_iter()
            .map(|group| group.outcome)
            .collect()
    }

    async fn settle(&self) {
        datafusion_supertable::wait_for_background_work(&self.0).await;
    }
}

/// Four superfiles of different kinds: inserted, updated, with tombstones.
async fn fill(session: &Session) {
    for first in [0, 100, 200] {
        let sql = format!(
            "INSERT INTO t SELECT value, value * 7 % 101 FROM generate_series({first}, {first} + 99) AS g(value)"
        );
        session.run(&sql).await;
    }
    session
        .run("UPDATE t SET v = v + 1000 WHERE id % 10 = 3")
        .await;
    session.run("DELETE FROM t WHERE id % 10 = 4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_keeps_values_and_row_ids_and_the_order_of_rows() {
    for order in ["", "WITH ORDER (v)"] {
        let dir = TempDir::new().unwrap();
        let session = Session::create(dir.path(), order).await;
        fill(&session).await;
        let before = session.rows().await;
        assert_eq!(session.superfiles().await, 4);
        let outcomes = session.optimize(Targets::default()).await;
        assert!(
            matches!(outcomes[..], [GroupOutcome::Committed(_)]),
            "{outcomes:?}"
        );
        assert_eq!(session.rows().await, before);
        assert_eq!(session.superfiles().await, 1);
        let snapshot = session.table().await.snapshot().await.unwrap();
        let written = snapshot.manifest().entries().next().unwrap().clone();
        assert_eq!((written.rows, written.deleted_rows()), (270, 0));
        // As it stands in the file.
        let file = dir
            .path()
            .join(datafusion_supertable::unstable::format::paths::superfile(&written.id).as_ref());
        let column = if order.is_empty() { "id" } else { "v" };
        let single =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let frame = single
            .read_parquet(file.to_str().unwrap(), Default::default())
            .await
            .unwrap();
        let batches = frame
            .select_columns(&[column])
            .unwrap()
            .collect()
            .await
            .unwrap();
        let stored: Vec<i64> = batches
            .iter()
            .flat_map(|batch| {
                batch
                    .column(0)
                    .as_primitive::<Int64Type>()
                    .values()
                    .to_vec()
            })
            .collect();
        if order.is_empty() {
            // Source after source: first what was inserted.
            assert!(stored[..240].is_sorted(), "{stored:?}");
        } else {
            assert!(stored.is_sorted(), "{stored:?}");
        }
        session.settle().await;
    }
}

/// Rows that are deleted or updated by another session while a compaction is under way.
#[tokio::test(flavor = "multi_thread")]
async fn statements_that_commit_while_rows_are_compacted_are_carried_over() {
    for order in ["", "WITH ORDER (v DESC)"] {
        let dir = TempDir::new().unwrap();
        let session = Session::create(dir.path(), order).await;
        fill(&session).await;
        let other = Session::open(dir.path()).await;
        // Many batches and several new superfiles: which row is where must be known all the same.
        session.run("SET supertable.target_file_rows = 50").await;
        session
            .run("SET datafusion.execution.batch_size = 16")
            .await;
        // The compaction as the session makes it, but for the commit.
        let table = session.table().await;
        let base = table.snapshot().await.unwrap();
        let sources: HashSet<_> = base.manifest().entries().map(|entry| entry.id).collect();
        let provider = session.provider().await;
        let context = session.0.task_ctx();
        let prepared = prepare(provider.access(), &context, &base, &sources)
            .await
            .unwrap();
        other.run("DELETE FROM t WHERE id BETWEEN 50 AND 149").await;
        other.run("UPDATE t SET v = -id WHERE id % 7 = 0").await;
        other.run("INSERT INTO t VALUES (1000, 1)").await;
        let expected = other.rows().await;
        let outcome = prepared.commit().await.unwrap();
        assert!(
            matches!(outcome, CommitOutcome::Committed { .. }),
            "{outcome:?}"
        );
        assert_eq!(session.rows().await, expected);
        assert_eq!(other.rows().await, expected);
        let now = table.snapshot().await.unwrap();
        let carried: u64 = now
            .manifest()
            .entries()
            .map(|entry| entry.deleted_rows())
            .sum();
        assert!(carried > 40, "{carried}");
        assert!(
            base.manifest()
                .entries()
                .all(|old| now.manifest().get(&old.id).is_none())
        );
        // And the other way round: a DELETE that began before the compaction was committed.
        let old = base.manifest().entries().next().unwrap().id;
        let mutation = other
            .table()
            .await
            .begin(OpKind::Delete, base, "DELETE".to_owned());
        let outcome = mutation
            .commit(Effect {
                delete: BTreeMap::from([(old, RoaringBitmap::from([7]))]),
                rows_deleted: 1,
                ..Effect::default()
            })
            .await
            .unwrap();
        assert!(matches!(outcome, CommitOutcome::Conflict(_)), "{outcome:?}");
        for session in [session, other] {
            session.settle().await;
        }
    }
}

/// A function of SQL that stops a statement in the middle, until it is told to go on.
fn register_gate(ctx: &SessionContext) -> (Receiver<()>, SyncSender<()>) {
    let (arrived, arrivals) = sync_channel(1);
    let (go, goes) = sync_channel(1);
    let goes = std::sync::Mutex::new(Some(goes));
    let gate = move |args: &[ColumnarValue]| {
        // The first time only.
        if let Some(goes) = goes.lock().unwrap().take() {
            arrived.send(()).unwrap();
            goes.recv().unwrap();
        }
        Ok(args[0].clone())
    };
    ctx.register_udf(create_udf(
        "gate",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Volatile,
        Arc::new(gate),
    ));
    (arrivals, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_overwrite_that_a_compaction_comes_before_runs_again_and_replaces_the_rows_where_they_are()
 {
    let dir = TempDir::new().unwrap();
    let session = Session::create(dir.path(), "").await;
    fill(&session).await;
    let other = Session::open(dir.path()).await;
    let (arrived, go) = register_gate(&session.0);
    let sql = "INSERT OVERWRITE t SELECT id, gate(v) FROM t WHERE id < 10";
    let frame = session.0.sql(sql).await.unwrap();
    let overwrite = tokio::spawn(frame.collect());
    tokio::task::spawn_blocking(move || arrived.recv().unwrap())
        .await
        .unwrap();
    let outcomes = other.optimize(Targets::default()).await;
    assert!(
        matches!(outcomes[..], [GroupOutcome::Committed(_)]),
        "{outcomes:?}"
    );
    go.send(()).unwrap();
    overwrite.await.unwrap().unwrap();
    let rows = other.rows().await;
    // Row 4 was deleted at the start.
    let ids: Vec<i64> = rows.keys().copied().collect();
    assert_eq!(ids, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    let snapshot = session.table().await.snapshot().await.unwrap();
    assert_eq!(snapshot.manifest().totals().rows, 9);
    for session in [session, other] {
        session.settle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compactions_and_statements_at_once_change_no_other_row() {
    let dir = TempDir::new().unwrap();
    let session = Session::create(dir.path(), "").await;
    fill(&session).await;
    let other = Session::open(dir.path()).await;
    let third = Session::open(dir.path()).await;
    let mut expected: BTreeMap<i64, Option<i64>> = session
        .rows()
        .await
        .into_iter()
        .map(|(id, (v, _))| (id, v))
        .collect();
    let writes = async {
        for n in 0..12_i64 {
            other
                .run(&format!("UPDATE t SET v = {n} WHERE id % 12 = {n}"))
                .await;
            other
                .run(&format!("DELETE FROM t WHERE id = {}", n * 20))
                .await;
            other
                .run(&format!("INSERT INTO t VALUES ({}, {n})", 5_000 + n))
                .await;
        }
    };
    let small = Targets {
        rows: 120,
        deleted_percent: 1,
        ..Targets::default()
    };
    let compactions = |s: Session| async move {
        let mut committed = 0;
        for _ in 0..6 {
            let outcomes = s.optimize(small).await;
            committed += outcomes
                .iter()
                .filter(|e| matches!(e, GroupOutcome::Committed(_)))
                .count();
        }
        (s, committed)
    };
    let (_, (session, one), (third, two)) =
        futures::join!(writes, compactions(session), compactions(third));
    assert!(one + two > 0);
    for n in 0..12_i64 {
        for (id, v) in expected.iter_mut() {
            if id % 12 == n {
                *v = Some(n);
            }
        }
        expected.remove(&(n * 20));
        expected.insert(5_000 + n, Some(n));
    }
    let found: BTreeMap<i64, Option<i64>> = session
        .rows()
        .await
        .into_iter()
        .map(|(id, (v, _))| (id, v))
        .collect();
    assert_eq!(found, expected);
    for session in [session, other, third] {
        session.settle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_updates_of_one_row_leave_some_dozens_of_superfiles() {
    let dir = TempDir::new().unwrap();
    let session = Session::create(dir.path(), "").await;
    session.run("SET supertable.auto_compact = true").await;
    session
        .run("INSERT INTO t SELECT value, 0 FROM generate_series(0, 999) AS g(value)")
        .await;
    for n in 0..200 {
        session
            .run(&format!("UPDATE t SET v = {n} WHERE id = {}", n * 5))
            .await;
    }
    session.settle().await;
    let superfiles = session.superfiles().await;
    assert!(superfiles < 40, "{superfiles} superfiles");
    let rows = session.rows().await;
    assert_eq!(rows.len(), 1000);
    for n in 0..200 {
        assert_eq!(rows[&(n * 5)].0, Some(n));
    }
    // And vacuum leaves what the current version needs.
    session
        .run("SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0 days')")
        .await;
    session.settle().await;
    let files = std::fs::read_dir(dir.path().join("superfiles"))
        .unwrap()
        .count() as u64;
    let snapshot = session.table().await.snapshot().await.unwrap();
    let sidecars = snapshot
        .manifest()
        .entries()
        .filter(|e| e.tombstones.is_some())
        .count() as u64;
    assert_eq!(files, superfiles + sidecars);
    assert_eq!(session.rows().await, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_all_over_a_large_superfile_leave_few_deleted_rows_in_it() {
    let dir = TempDir::new().unwrap();
    let session = Session::create(dir.path(), "").await;
    session.run("SET supertable.auto_compact = true").await;
    session
        .run("INSERT INTO t SELECT value, value * 7919 % 100003 FROM generate_series(0, 19999) AS g(value)")
        .await;
    for n in 0..150 {
        session
            .run(&format!(
                "UPDATE t SET v = -{n} WHERE id = {}",
                n * 7919 % 20_000
            ))
            .await;
    }
    session.settle().await;
    let snapshot = session.table().await.snapshot().await.unwrap();
    let entries: Vec<_> = snapshot.manifest().entries().collect();
    let deleted: u64 = entries.iter().map(|entry| entry.deleted_rows()).sum();
    // Without regard to what statements cost, all 150 would be there still: far from a fifth.
    assert!(deleted <= 75, "{deleted}");
    assert!(entries.len() <= 32, "{}", entries.len());
    assert_eq!(session.rows().await.len(), 20_000);
    session.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_can_ask_for_compaction_after_writes_and_others_are_left_alone() {
    for (option, few) in [
        ("OPTIONS ('supertable.auto_compact' 'true')", true),
        ("", false),
    ] {
        let dir = TempDir::new().unwrap();
        let session = Session(SessionContext::new());
        datafusion_supertable::register(&session.0).unwrap();
        session
            .run(&format!(
                "CREATE EXTERNAL TABLE t (id BIGINT) STORED AS SUPERTABLE LOCATION '{}/' {option}",
                dir.path().display()
            ))
            .await;
        for n in 0..40 {
            session.run(&format!("INSERT INTO t VALUES ({n})")).await;
        }
        session.settle().await;
        let superfiles = session.superfiles().await;
        assert_eq!(superfiles < 20, few, "{superfiles}");
        assert_eq!(session.run("SELECT id FROM t").await, 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sorted_compaction_works_within_little_memory() {
    let dir = TempDir::new().unwrap();
    let session = Session::create(dir.path(), "WITH ORDER (v)").await;
    for first in [0, 100_000] {
        session
            .run(&format!(
                "INSERT INTO t SELECT value, value * 7919 % 100003 FROM generate_series({first}, {first} + 99999) AS g(value)"
            ))
            .await;
    }
    session.settle().await;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(24 << 20)))
        .build_arc()
        .unwrap();
    let config = SessionConfig::new().with_target_partitions(2);
    let small = Session(SessionContext::new_with_config_rt(config, runtime));
    small.attach(dir.path()).await;
    let outcomes = small.optimize(Targets::default()).await;
    assert!(
        matches!(outcomes[..], [GroupOutcome::Committed(_)]),
        "{outcomes:?}"
    );
    assert_eq!(small.run("SELECT id FROM t").await, 200_000);
    small.settle().await;
}
