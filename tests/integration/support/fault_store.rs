//! An object store that fails on purpose, counts, and has a latency.
//!
//! Owns: one [`Plan`] per simulated process. The plan numbers the store operations of that process from 1
//! and says which of them crash the process (before or after they take effect), which lose their answer,
//! and how long each takes. Does not own: what is stored (that is the inner store, which survives).
//! Invariant: after a crash no operation of that plan reaches the inner store, whatever still runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use datafusion_supertable::unstable::format::{StateDoc, WalState};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// When the simulated process dies, seen from its k-th operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The operation never reaches the store.
    Before(u64),
    /// The operation takes effect, and nobody hears of it.
    After(u64),
    /// The operation begins; whoever kills the process decides how far it gets. Real processes only.
    During(u64),
}

/// What goes wrong for one simulated process, and what it did so far.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    crash: Option<Crash>,
    /// In a real process: called at the crash, to have the process killed.
    killer: Option<fn(&Operation)>,
    /// Only operations of this description count towards the crash; none: all do.
    counted: Option<String>,
    lost_answers: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    /// From which write on the disk is full; 0 is never.
    full_from: AtomicU64,
    writes: AtomicU64,
    no_room: AtomicU64,
    /// Whether every write is forbidden, as by a bucket's policy.
    forbidden: bool,
    latency: Duration,
    /// Where random latencies come from, if each operation takes one before and one after its effect.
    jitter: Option<Mutex<StdRng>>,
    /// How long, in milliseconds, one takes now and then.
    hiccup: u64,
    /// Up to so much is added to the latency of each operation.
    spread: Duration,
    dice: Mutex<Option<StdRng>>,
    /// So many mutations are taken for dead right before they become APPENDED.
    undoings: AtomicU64,
    operations: AtomicU64,
    crashed: AtomicBool,
    log: Mutex<Vec<Operation>>,
}

/// One operation that reached the plan.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub kind: &'static str,
    pub path: String,
    pub bytes: usize,
}

impl Operation {
    /// What it does to which kind of object.
    pub(crate) fn describe(&self) -> String {
        let path = self.path.as_str();
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let what = match name.rsplit_once('.') {
            Some((_, "json")) => "WAL document",
            Some((_, "arrow")) => "change set",
            Some((_, "tombstones")) => "sidecar",
            Some((_, "parquet")) => "superfile",
            _ if name == "current" => "pointer",
            _ if folder.contains("manifest") => "manifest node",
            _ => path,
        };
        format!("{} {what}", self.kind)
    }
}

impl Plan {
    /// Nothing goes wrong; operations are counted.
    pub(crate) fn healthy() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Every operation takes `latency`: under a paused clock, elapsed / latency = sequential round trips.
    pub(crate) fn with_latency(latency: Duration) -> Arc<Self> {
        Arc::new(Self {
            latency,
            ..Self::default()
        })
    }

    /// Each operation takes a time that follows from `seed`, before its effect and after it: under a paused
    /// clock, processes with plans of their own meet in another order for each seed.
    pub(crate) fn jittered(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            jitter: Some(Mutex::new(StdRng::seed_from_u64(seed))),
            hiccup: 500,
            ..Self::default()
        })
    }

    /// As [`jittered`](Self::jittered), taking up to `hiccup` milliseconds now and then; the process may die too,
    /// and some answers are lost.
    pub(crate) fn jittered_with(
        seed: u64,
        hiccup: u64,
        crash: Option<Crash>,
        lost_answers: impl IntoIterator<Item = u64>,
    ) -> Arc<Self> {
        Arc::new(Self {
            jitter: Some(Mutex::new(StdRng::seed_from_u64(seed))),
            hiccup,
            crash,
            lost_answers: lost_answers.into_iter().collect(),
            ..Self::default()
        })
    }

    /// Another process takes the document of each of the first `many` mutations right before they become APPENDED.
    pub(crate) fn undone(many: u64) -> Arc<Self> {
        Arc::new(Self {
            undoings: many.into(),
            ..Self::default()
        })
    }

    /// How many more mutations would be undone.
    pub(crate) fn undoings_left(&self) -> u64 {
        self.undoings.load(Ordering::SeqCst)
    }

    /// Whether anything goes wrong at all.
    pub(crate) fn is_faulty(&self) -> bool {
        self.crash.is_some() || !self.lost_answers.is_empty()
    }

    /// Every operation takes a time between `shortest` and `longest`, drawn from `seed`.
    pub(crate) fn with_latency_between(
        shortest: Duration,
        longest: Duration,
        seed: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            latency: shortest,
            spread: longest - shortest,
            dice: Mutex::new(Some(StdRng::seed_from_u64(seed))),
            ..Self::default()
        })
    }

    async fn dawdle(&self) {
        if let Some(jitter) = &self.jitter {
            let ms = {
                let mut random = jitter.lock().unwrap();
                // Now and then one takes as long as many others.
                let longest = match random.random_ratio(1, 8) {
                    true => self.hiccup,
                    false => 20,
                };
                random.random_range(0..longest)
            };
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    /// How long the next operation takes.
    fn next_latency(&self) -> Duration {
        match &mut *self.dice.lock().unwrap() {
            Some(dice) => self.latency + self.spread.mul_f64(dice.random()),
            None => self.latency,
        }
    }

    /// The process dies at an operation.
    pub(crate) fn crash(crash: Crash) -> Arc<Self> {
        Arc::new(Self {
            crash: Some(crash),
            ..Self::default()
        })
    }

    /// This process itself dies at an operation, counted among those of the description `counted`, since
    /// the order of unlike ones varies: `killer` tells its parent, which kills it. Meanwhile the thread that
    /// got to the crash stands still, and with it a runtime of one thread: only operations that had
    /// begun go on.
    pub(crate) fn mortal(crash: Option<Crash>, counted: &str, killer: fn(&Operation)) -> Arc<Self> {
        Arc::new(Self {
            crash,
            killer: Some(killer),
            counted: Some(counted.to_owned()),
            ..Self::default()
        })
    }

    /// These operations take effect and report a failure.
    pub(crate) fn lost_answers(which: impl IntoIterator<Item = u64>) -> Arc<Self> {
        Arc::new(Self {
            lost_answers: which.into_iter().collect(),
            ..Self::default()
        })
    }

    /// The same, and every operation takes `latency` before it takes effect.
    pub(crate) fn lost_answers_slowly(
        which: impl IntoIterator<Item = u64>,
        latency: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            lost_answers: which.into_iter().collect(),
            latency,
            ..Self::default()
        })
    }

    /// These operations have no effect and report a failure.
    pub(crate) fn refused(which: impl IntoIterator<Item = u64>) -> Arc<Self> {
        Arc::new(Self {
            refused: which.into_iter().collect(),
            ..Self::default()
        })
    }

    /// The `n`-th write finds the disk full, and so do all that come after it; deletes go on.
    pub(crate) fn full_from(n: u64) -> Arc<Self> {
        Arc::new(Self {
            full_from: n.into(),
            ..Self::default()
        })
    }

    /// Whoever uses it may read, and nothing else.
    pub(crate) fn forbidding_writes() -> Arc<Self> {
        Arc::new(Self {
            forbidden: true,
            ..Self::default()
        })
    }

    /// There is room again.
    pub(crate) fn make_room(&self) {
        self.full_from.store(0, Ordering::SeqCst);
    }

    /// How many writes found the disk full.
    pub(crate) fn found_full(&self) -> u64 {
        self.no_room.load(Ordering::SeqCst)
    }

    fn check_room(&self, kind: &str) -> Result<()> {
        if !["put", "multipart", "part", "complete", "copy"].contains(&kind) {
            return Ok(());
        }
        let write = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let full_from = self.full_from.load(Ordering::SeqCst);
        if full_from == 0 || write < full_from {
            return Ok(());
        }
        self.no_room.fetch_add(1, Ordering::SeqCst);
        Err(object_store::Error::Generic {
            store: "FaultStore",
            source: Box::new(std::io::Error::from_raw_os_error(28)),
        })
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    /// Whether the planned crash has happened.
    pub(crate) fn crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }

    /// Kills the process now.
    pub(crate) fn kill(&self) {
        self.crashed.store(true, Ordering::SeqCst);
    }

    /// What was asked so far, in order.
    pub(crate) fn log(&self) -> Vec<Operation> {
        self.log.lock().unwrap().clone()
    }

    /// How many operations of each kind there were.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for operation in self.log() {
            *counts.entry(operation.kind).or_default() += 1;
        }
        counts
    }

    /// Has the process killed, if it is a real one.
    fn call_killer(&self) {
        let (Some(killer), Some(counted)) = (self.killer, &self.counted) else {
            return;
        };
        let log = self.log();
        if let Some(operation) = log.iter().rfind(|done| done.describe() == *counted) {
            killer(operation);
        }
    }

    /// The number by which the newest operation, the `k`-th of all, is known to a crash.
    fn number(&self, k: u64) -> u64 {
        let Some(counted) = &self.counted else {
            return k;
        };
        let log = self.log.lock().unwrap();
        if log.last().is_none_or(|last| last.describe() != *counted) {
            return 0;
        }
        log.iter()
            .filter(|done| done.describe() == *counted)
            .count() as u64
    }

    /// Where a real process dies, and a simulated one becomes unable to do anything.
    fn die(&self) {
        self.kill();
        while self.killer.is_some() {
            std::thread::park();
        }
    }

    async fn before(&self, kind: &'static str, path: &Path, bytes: usize) -> Result<u64> {
        if self.crashed() {
            return Err(failure("the process is dead"));
        }
        let k = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        self.log.lock().unwrap().push(Operation {
            kind,
            path: path.to_string(),
            bytes,
        });
        let k = self.number(k);
        if self.crash == Some(Crash::During(k)) {
            self.call_killer();
        }
        if self.crash == Some(Crash::Before(k)) {
            self.call_killer();
            self.die();
            return Err(failure("crash before the operation"));
        }
        self.dawdle().await;
        let latency = self.next_latency();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
            if self.crashed() {
                return Err(failure("the process is dead"));
            }
        }
        if self.refused.contains(&k) {
            return Err(failure("refused without effect"));
        }
        if self.forbidden && !["get", "head", "list"].contains(&kind) {
            return Err(object_store::Error::PermissionDenied {
                path: path.to_string(),
                source: "403 Forbidden".into(),
            });
        }
        self.check_room(kind)?;
        Ok(k)
    }

    fn after<T>(&self, k: u64, result: Result<T>) -> Result<T> {
        if self.crash == Some(Crash::During(k)) {
            self.die();
        }
        if self.crash == Some(Crash::After(k)) {
            self.call_killer();
            self.die();
        }
        if self.crashed() {
            return Err(failure("crash after the operation"));
        }
        if self.lost_answers.contains(&k) {
            return Err(failure("the answer was lost"));
        }
        result
    }
}

fn failure(text: &'static str) -> object_store::Error {
    object_store::Error::Generic {
        store: "FaultStore",
        source: text.into(),
    }
}

/// The store as one simulated process sees it.
#[derive(Clone, Debug)]
pub(crate) struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Plan>,
}

impl FaultStore {
    /// `inner`, seen through `plan`.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, plan: Arc<Plan>) -> Self {
        Self { inner, plan }
    }

    /// Takes a document from its owner, if `payload` would make it APPENDED.
    async fn undo(&self, location: &Path, payload: &PutPayload) -> Result<()> {
        let appended =
            |bytes: &[u8]| StateDoc::decode(bytes).is_ok_and(|doc| doc.state == WalState::Appended);
        let bytes: Vec<u8> = payload.iter().flatten().copied().collect();
        if !location.as_ref().ends_with(".json") || !appended(&bytes) {
            return Ok(());
        }
        let held = self.inner.get(location).await?.bytes().await?;
        let mut doc = StateDoc::decode(&held).unwrap();
        doc.lease.as_mut().unwrap().owner = "another process".to_owned();
        let taken = PutPayload::from(doc.encode().unwrap());
        self.inner.put(location, taken).await?;
        self.plan.undoings.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn listing(
        &self,
        prefix: Option<&Path>,
        stream: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let plan = Arc::clone(&self.plan);
        let prefix = prefix.cloned().unwrap_or_default();
        futures::stream::once(async move {
            let k = plan.before("list", &prefix, 0).await?;
            let found: Vec<_> = stream.collect().await;
            plan.dawdle().await;
            plan.after(k, Ok(futures::stream::iter(found)))
        })
        .try_flatten()
        .boxed()
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let k = self
            .plan
            .before("put", location, payload.content_length())
            .await?;
        if self.plan.undoings_left() > 0 {
            self.undo(location, &payload).await?;
        }
        let result = self.inner.put_opts(location, payload, opts).await;
        self.plan.dawdle().await;
        self.plan.after(k, result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let k = self.plan.before("multipart", location, 0).await?;
        let result = self.inner.put_multipart_opts(location, opts).await;
        let upload = self.plan.after(k, result)?;
        Ok(Box::new(FaultUpload {
            upload,
            plan: Arc::clone(&self.plan),
            location: location.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let kind = if options.head { "head" } else { "get" };
        let k = self.plan.before(kind, location, 0).await?;
        let result = self.inner.get_opts(location, options).await;
        self.plan.dawdle().await;
        self.plan.after(k, result)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let inner = Arc::clone(&self.inner);
        let plan = Arc::clone(&self.plan);
        locations
            .then(move |location| {
                let (inner, plan) = (Arc::clone(&inner), Arc::clone(&plan));
                async move {
                    let location = location?;
                    let k = plan.before("delete", &location, 0).await?;
                    let result = inner
                        .delete_stream(futures::stream::once(async { Ok(location) }).boxed())
                        .next()
                        .await
                        .unwrap();
                    plan.after(k, result)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = prefix.cloned().unwrap_or_default();
        let k = self.plan.before("list", &at, 0).await?;
        let result = self.inner.list_with_delimiter(prefix).await;
        self.plan.after(k, result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let k = self.plan.before("copy", to, 0).await?;
        let result = self.inner.copy_opts(from, to, options).await;
        self.plan.after(k, result)
    }
}

#[derive(Debug)]
struct FaultUpload {
    upload: Box<dyn MultipartUpload>,
    plan: Arc<Plan>,
    location: Path,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let bytes = data.content_length();
        let part = self.upload.put_part(data);
        let plan = Arc::clone(&self.plan);
        let location = self.location.clone();
        Box::pin(async move {
            let k = plan.before("part", &location, bytes).await?;
            let result = part.await;
            plan.after(k, result)
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let k = self.plan.before("complete", &self.location, 0).await?;
        let result = self.upload.complete().await;
        self.plan.after(k, result)
    }

    async fn abort(&mut self) -> Result<()> {
        let k = self.plan.before("abort", &self.location, 0).await?;
        let result = self.upload.abort().await;
        self.plan.after(k, result)
    }
}
