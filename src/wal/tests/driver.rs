//! One document's owner: renewals, fencing, cancelling, and the two endings.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio_util::task::TaskTracker;

use crate::format::{OpKind, WalState, paths};
use crate::storage::{RetryPolicy, Storage};
use crate::wal::machine::{self, Appendix, Intention};
use crate::wal::{AppendOutcome, Driver, Env, ManualClock, WalError, WalStore, driver};

const TTL: TimeDelta = TimeDelta::seconds(60);

struct Bench {
    storage: Storage,
    wal: WalStore,
    env: Env,
    clock: ManualClock,
    tracker: TaskTracker,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::at_ms(1_700_000_000_000);
        let env = Env::seeded(11, clock.clone());
        let storage = Storage::new(
            Arc::new(InMemory::new()),
            &Path::default(),
            RetryPolicy::default(),
        );
        let tracker = TaskTracker::new();
        tracker.close();
        Self {
            wal: WalStore::new(storage.clone(), Arc::clone(&env.ids)),
            storage,
            env,
            clock,
            tracker,
        }
    }

    fn start(&self, owner: &str) -> Driver {
        let what = Intention {
            wal_id: self.env.ids.wal_id(),
            op: OpKind::Insert,
            base_version: 1,
            block: self.env.ids.id_block(),
            statement: "INSERT",
            owner,
        };
        Driver::start(
            self.wal.clone(),
            self.env.clone(),
            &self.tracker,
            &tokio::runtime::Handle::current(),
            &what,
            TTL,
        )
    }

    async fn fence(&self, driver: &Driver) {
        let (doc, etag) = self.wal.read(&driver.id()).await.unwrap();
        let fenced = machine::fence(&doc, "another", self.env.now(), TTL).unwrap();
        self.wal
            .update_with_etag(&driver.id(), &etag, &fenced)
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_owner_keeps_its_lease() {
    let t = Bench::new();
    let driver = t.start("me");
    driver.durable().await.unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        t.clock.advance(TimeDelta::seconds(30));
        tokio::time::sleep(Duration::from_secs(21)).await;
        let (doc, _) = t.wal.read(&driver.id()).await.unwrap();
        assert!(doc.lease.unwrap().expires_at > t.env.now());
    }
    assert_eq!(
        driver.append(Appendix::default()).await.unwrap(),
        AppendOutcome::Appended
    );
    let (doc, etag) = t.wal.read(&driver.id()).await.unwrap();
    assert_eq!(doc.state, WalState::Appended);
    assert_eq!(driver.document().await.1, etag);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_owner_cannot_append() {
    let t = Bench::new();
    let driver = t.start("me");
    driver.durable().await.unwrap();
    t.fence(&driver).await;
    for _ in 0..2 {
        assert_eq!(
            driver.append(Appendix::default()).await.unwrap(),
            AppendOutcome::Fenced
        );
    }
    let (doc, _) = t.wal.read(&driver.id()).await.unwrap();
    assert_eq!(doc.state, WalState::Intent);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_owner_stops_renewing() {
    let t = Bench::new();
    let driver = t.start("me");
    driver.durable().await.unwrap();
    t.fence(&driver).await;
    let (_, fenced) = t.wal.read(&driver.id()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(t.wal.read(&driver.id()).await.unwrap().1, fenced);
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_document_is_gone_is_told_that_it_ended() {
    let t = Bench::new();
    let driver = t.start("me");
    driver.durable().await.unwrap();
    t.wal.delete_state(&driver.id()).await.unwrap();
    assert_eq!(
        driver.append(Appendix::default()).await.unwrap(),
        AppendOutcome::Ended
    );
}

#[tokio::test(start_paused = true)]
async fn a_mutation_that_is_abandoned_at_once_writes_nothing() {
    let t = Bench::new();
    let driver = t.start("me");
    // The upload's task has not run yet on this single thread.
    driver.abandon(false).await.unwrap();
    t.tracker.wait().await;
    assert!(t.wal.list_wal_ids().await.unwrap().is_empty());
    assert!(driver.durable().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn abandoning_removes_what_was_staged_and_the_document() {
    let t = Bench::new();
    let driver = t.start("me");
    driver.durable().await.unwrap();
    let (doc, _) = driver.document().await;
    let staged = format!(
        "superfiles/{}.parquet",
        doc.id_block().unwrap().nth(3).unwrap()
    );
    let path = Path::from(staged);
    t.storage
        .put_immutable(&path, Bytes::from_static(b"x"))
        .await
        .unwrap();
    t.wal
        .put_arrow(&driver.id(), Bytes::from_static(b"x"))
        .await
        .unwrap();
    driver.abandon(true).await.unwrap();
    assert!(t.storage.get(&path).await.unwrap().is_none());
    assert!(
        t.storage
            .get(&paths::wal_arrow(&driver.id()))
            .await
            .unwrap()
            .is_none()
    );
    assert!(t.wal.is_gone(&driver.id()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn retiring_and_undoing_can_be_repeated() {
    let t = Bench::new();
    let driver = t.start("me");
    driver.durable().await.unwrap();
    let _ = driver.append(Appendix::default()).await.unwrap();
    for _ in 0..2 {
        driver::retire(&t.wal, &driver.id(), None).await.unwrap();
    }
    assert!(matches!(
        t.wal.read(&driver.id()).await,
        Err(WalError::NotFound { .. })
    ));
    let other = t.start("me too");
    other.durable().await.unwrap();
    let (doc, _) = other.document().await;
    for _ in 0..2 {
        driver::undo(&t.wal, &doc).await.unwrap();
    }
    assert!(t.wal.list_wal_ids().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn retiring_with_a_stale_etag_looks_again() {
    let t = Bench::new();
    let driver = t.start("me");
    driver.durable().await.unwrap();
    let stale = driver.document().await.1;
    let _ = driver.append(Appendix::default()).await.unwrap();
    let (doc, _) = driver.document().await;
    driver::retire(&t.wal, &driver.id(), Some((doc, stale)))
        .await
        .unwrap();
    assert!(t.wal.is_gone(&driver.id()).await.unwrap());
}
