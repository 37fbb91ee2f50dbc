//! What is said through `tracing` when all is well, and when it is not.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::unstable::storage::{CasOutcome, RetryPolicy, Storage};
use object_store::memory::InMemory;
use object_store::path::Path;
use url::Url;

use crate::support::capture::{Capture, Said};
use crate::support::fault_store::{FaultStore, Plan};
use crate::support::sql::show as run;

fn session(store: &Arc<InMemory>, plan: &Arc<Plan>) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    datafusion_supertable::register(&ctx).unwrap();
    let store = FaultStore::new(Arc::clone(store) as _, Arc::clone(plan));
    ctx.register_object_store(&Url::parse("mem://bucket/").unwrap(), Arc::new(store));
    ctx
}

/// Those that hold all of `parts`.
fn with<'a>(said: &'a [Said], parts: &[&str]) -> Vec<&'a Said> {
    let holds = |said: &&Said| parts.iter().all(|part| said.text.contains(part));
    said.iter().filter(holds).collect()
}

#[tokio::test]
async fn a_statement_is_followed_from_its_intent_to_its_end() {
    let store = Arc::new(InMemory::new());
    let ctx = session(&store, &Plan::healthy());
    run(
        &ctx,
        "CREATE EXTERNAL TABLE t (id BIGINT) STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'",
    )
    .await;
    run(&ctx, "INSERT INTO t VALUES (1), (2)").await;
    let (capture, guard) = Capture::begin();
    run(&ctx, "DELETE FROM t WHERE id = 1").await;
    datafusion_supertable::wait_for_background_work(&ctx).await;
    drop(guard);
    let said = capture.said();
    let spans: Vec<_> = said.iter().filter_map(|said| said.span).collect();
    assert!(spans.contains(&"statement"), "{spans:?}");
    let intent = with(&said, &["phase=\"INTENT\"", "op=\"DELETE\""]);
    assert_eq!(intent.len(), 1, "{}", capture.text());
    let id = intent[0].text.split("wal_id=").nth(1).unwrap();
    let id = format!("wal_id={}", id.split(' ').next().unwrap());
    for parts in [
        [id.as_str(), "phase=\"APPENDED\""],
        [&format!("committed {id}"), "version=3"],
        [id.as_str(), "phase=\"COMPLETE\""],
        ["phase=\"swing\"", "outcome=\"committed\""],
        [
            "compare-and-swap path=_supertable/current",
            "outcome=\"committed\"",
        ],
    ] {
        assert_eq!(
            with(&said, &parts).len(),
            1,
            "{parts:?} in {}",
            capture.text()
        );
    }
    assert!(said.iter().all(|said| said.level >= tracing::Level::DEBUG));
}

#[tokio::test(start_paused = true)]
async fn lost_answers_retries_and_lost_races_are_told() {
    let plan = Plan::lost_answers([1]);
    let store = FaultStore::new(Arc::new(InMemory::new()), Arc::clone(&plan));
    let storage = Storage::new(Arc::new(store), &Path::default(), RetryPolicy::default());
    let path = Path::from("_supertable/current");
    let (capture, guard) = Capture::begin();
    let created = storage.create(&path, Bytes::from_static(b"one")).await;
    assert!(matches!(created, Ok(CasOutcome::Committed(_))));
    let lost = storage.create(&path, Bytes::from_static(b"two")).await;
    assert!(matches!(lost, Ok(CasOutcome::Lost)));
    drop(guard);
    let said = capture.said();
    for parts in [
        ["outcome=\"committed\"", "settled=true"],
        ["outcome=\"lost\"", "settled=true"],
    ] {
        assert_eq!(
            with(&said, &parts).len(),
            1,
            "{parts:?} in {}",
            capture.text()
        );
    }

    let plan = Plan::refused([1, 2]);
    let store = FaultStore::new(Arc::new(InMemory::new()), Arc::clone(&plan));
    let storage = Storage::new(Arc::new(store), &Path::default(), RetryPolicy::default());
    let (capture, guard) = Capture::begin();
    assert_eq!(storage.get(&path).await.unwrap(), None);
    drop(guard);
    let retries = capture.said();
    assert_eq!(
        with(&retries, &["retry", "operation=\"get\""]).len(),
        2,
        "{}",
        capture.text()
    );
}

#[tokio::test]
async fn recovery_compaction_and_vacuum_tell_what_they_did() {
    let store = Arc::new(InMemory::new());
    let ctx = session(&store, &Plan::healthy());
    run(
        &ctx,
        "CREATE EXTERNAL TABLE t (id BIGINT) STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'",
    )
    .await;
    for id in 0..3 {
        run(&ctx, &format!("INSERT INTO t VALUES ({id})")).await;
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let (capture, guard) = Capture::begin();
    run(&ctx, "SELECT * FROM supertable_optimize('t')").await;
    run(
        &ctx,
        "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0' SECOND)",
    )
    .await;
    run(&ctx, "SELECT * FROM supertable_recover('t')").await;
    datafusion_supertable::wait_for_background_work(&ctx).await;
    drop(guard);
    let said = capture.said();
    let spans: Vec<_> = said.iter().filter_map(|said| said.span).collect();
    for span in ["optimize", "vacuum", "recovery"] {
        assert!(spans.contains(&span), "{span} in {spans:?}");
    }
    assert_eq!(
        with(&said, &["compacted", "sources=3", "superfiles=1"]).len(),
        1
    );
    assert_eq!(with(&said, &["vacuumed"]).len(), 1);
}

#[tokio::test]
async fn explain_analyze_counts_sidecars_reruns_and_superfiles() {
    let store = Arc::new(InMemory::new());
    let ctx = session(&store, &Plan::healthy());
    run(
        &ctx,
        "CREATE EXTERNAL TABLE t (id BIGINT) STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'",
    )
    .await;
    run(&ctx, "INSERT INTO t SELECT value FROM range(0, 100)").await;
    run(&ctx, "DELETE FROM t WHERE id = 7").await;
    let scan = run(&ctx, "EXPLAIN ANALYZE SELECT * FROM t").await;
    for counter in [
        "tombstoned_rows=1",
        "sidecars_opened=1",
        "sidecar_load_time",
        "bytes_scanned",
    ] {
        assert!(scan.contains(counter), "{counter} in {scan}");
    }
    let delete = run(&ctx, "EXPLAIN ANALYZE DELETE FROM t WHERE id = 8").await;
    assert!(delete.contains("conflict_reruns=0"), "{delete}");
    let insert = run(&ctx, "EXPLAIN ANALYZE INSERT INTO t VALUES (1)").await;
    assert!(insert.contains("superfiles_written=1"), "{insert}");
}
