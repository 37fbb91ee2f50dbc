//! A table that is open: open, read the pointer, begin mutations.
//!
//! Owns: [`Table`], and what its clones share. Does not own creating one (`creation`), the commit (`commit`),
//! recovery's decisions (`recovery`) or reading (`reader`).
//! Invariants: the pointer is read before anything that depends on it; a pointer of another table at the same place
//! is an error, never a version. No writes of its own, so a crash leaves nothing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio_util::task::TaskTracker;

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Manifest, TableMetadata};
use crate::format::paths;
use crate::format::{FormatError, Head, OpKind, Pointer, StateDoc, TableId, WalId};
use crate::storage::{Fetched, ObjectVersion, Storage};
use crate::table::background::Background;
use crate::table::commit::committer::Committer;
use crate::table::commit::mutation::Mutation;
use crate::table::drop::{dropped, reserved};
use crate::table::limits::Limits;
use crate::table::recovery::recover::RecoveryReport;
use crate::table::version::reader::Reader;
use crate::table::version::snapshot::{Named, Snapshot};
use crate::table::version::tip::{Tip, TipCell};
use crate::wal::{Env, Standing, WalResult, WalStore, Watch};

/// A table on a store. Cheap to clone; clones share caches, and commit together.
#[derive(Clone, Debug)]
pub struct Table {
    inner: Arc<Inner>,
}

/// What all clones of a table share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(super) storage: Storage,
    pub(super) env: Env,
    pub(super) limits: Limits,
    pub(super) wal: WalStore,
    pub(super) reader: Arc<Reader>,
    pub(super) table_id: TableId,
    pub(super) committer: Committer,
    /// Mutations of this process that have not ended.
    pub(super) active: Mutex<HashSet<WalId>>,
    /// Mutations in the tip's records whose documents are gone.
    pub(super) gone: Mutex<HashSet<WalId>>,
    /// Recoveries take turns, so that each sees what another one did wholly done.
    pub(super) recovering: tokio::sync::Mutex<()>,
    /// How long this process has seen others' documents stand still.
    pub(super) watch: Watch,
    pub(super) sweeping: tokio::sync::Mutex<()>,
    /// Whether other processes are at the pointer too: then it is worth looking before leaping, and helping.
    pub(super) contended: AtomicBool,
    /// When this process last looked whether others wait.
    pub(super) looked_around: Mutex<tokio::time::Instant>,
    /// When another process's version was last adopted.
    pub(super) others_seen: Mutex<Option<tokio::time::Instant>>,
    pub(super) tracker: TaskTracker,
    /// Whether the pointer is still to be created: only this handle knows the table.
    pub(super) unseen: AtomicBool,
    pub(super) runtime: tokio::runtime::Handle,
    /// Whether a compaction waits for its turn.
    upkeep_waits: Arc<AtomicBool>,
    tip: TipCell,
    /// One reader loads a new version; the others wait and find it.
    loading: tokio::sync::Mutex<()>,
}

/// The right to wait for background upkeep.
#[derive(Debug)]
pub(crate) struct UpkeepTurn(Arc<AtomicBool>);

impl Drop for UpkeepTurn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What the pointer said when it was read.
#[derive(Debug)]
pub(super) enum Observed {
    /// It names the version that was the tip.
    Known(Tip),
    /// It names another one, in this state of the object.
    New(Pointer, ObjectVersion),
}

impl Observed {
    /// The version that it names.
    pub(super) fn version(&self) -> u64 {
        match self {
            Self::Known(tip) => tip.snapshot.version(),
            Self::New(pointer, _) => pointer.version,
        }
    }
}

impl Table {
    /// Opens the table at the storage's root, and starts to recover in the background what dead writers left.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Corrupt` or `UnsupportedVersion` if it cannot be read.
    pub async fn open(storage: Storage, env: Env) -> Result<Self> {
        Self::open_with(storage, env, Limits::default()).await
    }

    /// The same, within other limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(storage: Storage, env: Env, limits: Limits) -> Result<Self> {
        let Some((bytes, version)) = storage.get(&paths::pointer()).await? else {
            return Err(missing());
        };
        let pointer = decode_pointer(&bytes)?;
        let wal = WalStore::new(storage.clone(), Arc::clone(&env.ids));
        let reader = Arc::new(Reader::new(storage.clone(), wal.clone(), &limits));
        let snapshot = load(&reader, &pointer, version, None).await?;
        let table = Self::with_tip(
            storage,
            env,
            limits,
            wal,
            reader,
            pointer.table_id,
            Arc::new(snapshot),
        )?;
        if table.inner.storage.is_read_only() {
            return Ok(table);
        }
        // Readers need not wait for it: what it commits was never acknowledged.
        table.inner.recover_in_background();
        Ok(table)
    }

    pub(super) fn with_tip(
        storage: Storage,
        env: Env,
        limits: Limits,
        wal: WalStore,
        reader: Arc<Reader>,
        table_id: TableId,
        snapshot: Arc<Snapshot>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|source| {
            Error::new(
                ErrorKind::Unsupported,
                "table",
                "a table must be opened within a tokio runtime",
            )
            .with_source(source)
        })?;
        let lease = limits.lease.to_std().unwrap_or_default();
        let tracker = TaskTracker::new();
        // A closed tracker still takes tasks; closed, it can be waited for.
        tracker.close();
        Ok(Self {
            inner: Arc::new(Inner {
                storage,
                env,
                limits,
                wal,
                reader,
                table_id,
                committer: Committer::default(),
                active: Mutex::default(),
                gone: Mutex::default(),
                recovering: tokio::sync::Mutex::default(),
                watch: Watch::new(lease),
                sweeping: tokio::sync::Mutex::default(),
                contended: AtomicBool::default(),
                // Opening lists the documents.
                looked_around: Mutex::new(tokio::time::Instant::now()),
                others_seen: Mutex::default(),
                tracker,
                unseen: AtomicBool::new(snapshot.pointer().is_none()),
                runtime,
                upkeep_waits: Arc::default(),
                tip: TipCell::new(snapshot),
                loading: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// The current version: one conditional read of the pointer, and of the nodes that are new.
    ///
    /// # Errors
    /// The store's; `Corrupt` for damaged objects; `NotFound` if the table was dropped.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        Ok(self.inner.refresh().await?.snapshot)
    }

    /// The newest version that this process knows, without asking the store.
    pub fn cached_snapshot(&self) -> Arc<Snapshot> {
        self.inner.tip().snapshot
    }

    /// An earlier version; `None` if the history does not reach back to it (vacuum removed it), or if
    /// there is no such version yet.
    ///
    /// # Errors
    /// The store's; `Corrupt` for damaged objects.
    pub async fn snapshot_at(&self, version: u64) -> Result<Option<Arc<Snapshot>>> {
        self.inner.snapshot_of(version).await
    }

    /// Begins a mutation of `base`. Its INTENT document is uploaded in the background.
    pub fn begin(&self, op: OpKind, base: Arc<Snapshot>, statement: String) -> Mutation {
        Mutation::begin(&self.inner, op, base, statement)
    }

    /// Ends what dead writers began: commits what is APPENDED, and undoes what is not and that stands still for one
    /// lease of this process's own time. That lease is waited for if there is such a document, and this process
    /// has not seen it for as long already; less, if its owner turns out to be at work.
    ///
    /// # Errors
    /// The store cannot be listed. What goes wrong with one mutation is in the report.
    pub async fn recover(&self) -> Result<RecoveryReport> {
        self.inner.recover().await
    }

    /// A document in flight, and whether its owner is at it as far as this process can tell.
    pub(crate) async fn look_at_document(&self, id: &WalId) -> WalResult<(StateDoc, Standing)> {
        let (doc, _, standing) = self.inner.read_and_watch(id).await?;
        Ok((doc, standing))
    }

    /// Waits until nothing of this table goes on in the background.
    pub async fn settle(&self) {
        self.inner.tracker.wait().await;
    }

    /// What the table does in the background, without the table.
    pub fn background(&self) -> Background {
        let table: Weak<Inner> = Arc::downgrade(&self.inner);
        Background::new(table, self.inner.tracker.clone())
    }

    /// Asks for a turn of background upkeep; `None` if one waits already. The turn ends when the token
    /// is dropped.
    pub(crate) fn begin_upkeep(&self) -> Option<UpkeepTurn> {
        let waits = Arc::clone(&self.inner.upkeep_waits);
        let first = !waits.swap(true, Ordering::AcqRel);
        first.then_some(UpkeepTurn(waits))
    }

    /// Runs `task` in the background; [`settle`](Self::settle) waits for it.
    pub(crate) fn spawn_upkeep(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.spawn(task);
    }

    /// Whether both are clones of one table, which commit together and share one tip.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The storage.
    pub fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    pub(super) fn reader(&self) -> &Arc<Reader> {
        &self.inner.reader
    }

    /// Clock and ids.
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// The documents, change sets and sidecars.
    pub fn wal(&self) -> &WalStore {
        &self.inner.wal
    }

    /// The bounds within which this table works.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The table's metadata in the newest version that this process knows.
    pub fn metadata(&self) -> Arc<TableMetadata> {
        Arc::clone(self.inner.tip().snapshot.metadata())
    }
}

impl Inner {
    /// The newest version that this process knows.
    pub(super) fn tip(&self) -> Tip {
        self.tip.get()
    }

    /// Takes over a version that this process swung the pointer to.
    pub(super) fn advance(&self, swung: Arc<Snapshot>) {
        self.tip.advance(swung);
    }

    /// Takes over the version with which an unseen table appeared.
    pub(super) fn reveal_tip(&self, seen: Arc<Snapshot>) {
        self.tip.adopt(seen);
    }

    /// Asks the store for the current version. The tip that is returned was current at some moment of this
    /// call, or later.
    pub(super) async fn refresh(&self) -> Result<Tip> {
        if self.is_unseen() {
            return Ok(self.tip());
        }
        let observed = self.observe().await?;
        self.follow(observed).await
    }

    /// Reads the pointer, and not yet what it names.
    pub(super) async fn observe(&self) -> Result<Observed> {
        let known = self.tip();
        let path = paths::pointer();
        let fetched = match known.snapshot.pointer() {
            Some(version) => self.storage.get_if_changed(&path, version).await?,
            None => match self.storage.get(&path).await? {
                Some((bytes, version)) => Fetched::Changed(bytes, version),
                None => Fetched::Missing,
            },
        };
        let (bytes, state) = match fetched {
            Fetched::Unchanged => return Ok(Observed::Known(known)),
            Fetched::Missing => return Err(missing()),
            Fetched::Changed(bytes, version) => (bytes, version),
        };
        self.observed(&bytes, state)
    }

    /// What bytes that were read from the pointer say.
    pub(super) fn observed(&self, bytes: &[u8], state: ObjectVersion) -> Result<Observed> {
        let pointer = decode_pointer(bytes)?;
        if pointer.table_id != self.table_id {
            return Err(Error::new(
                ErrorKind::NotFound,
                paths::pointer().as_ref(),
                "this table was dropped, and another one was created in its place; open it again",
            ));
        }
        Ok(Observed::New(pointer, state))
    }

    /// Takes over that the pointer names the same version in another state.
    pub(super) fn adopt_renamed(&self, snapshot: &Snapshot, state: ObjectVersion) {
        let claim = snapshot.claim().cloned();
        self.tip
            .adopt(Arc::new(snapshot.under(Named { state, claim })));
    }

    /// Loads the version that an observed pointer names, unless a newer one is known by now.
    pub(super) async fn follow(&self, observed: Observed) -> Result<Tip> {
        let (pointer, state) = match observed {
            Observed::Known(_) => return Ok(self.tip()),
            Observed::New(pointer, state) => (pointer, state),
        };
        let _loading = self.loading.lock().await;
        let tip = self.tip();
        if tip.snapshot.version() > pointer.version {
            return Ok(tip);
        }
        if tip.snapshot.version() == pointer.version {
            if tip.snapshot.root() != pointer.manifest {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    paths::pointer().as_ref(),
                    format!("version {} has two manifests", pointer.version),
                ));
            }
            if tip.snapshot.pointer() == Some(&state) {
                return Ok(tip);
            }
            // Known already, but under another name of the pointer's state, which no swing could use.
            let claim = pointer.claim;
            let renamed = tip.snapshot.under(Named { state, claim });
            return Ok(self.tip.adopt(Arc::new(renamed)));
        }
        let known = Some(tip.snapshot.manifest());
        let snapshot = Arc::new(load(&self.reader, &pointer, state, known).await?);
        let (reader, before, after) = (
            Arc::clone(&self.reader),
            Arc::clone(&tip.snapshot),
            Arc::clone(&snapshot),
        );
        self.spawn(async move { reader.keep_warm(before.manifest(), after.manifest()).await });
        *self
            .others_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(tokio::time::Instant::now());
        Ok(self.tip.adopt(snapshot))
    }

    /// A version of the history; `None` if it is out of reach.
    pub(super) async fn snapshot_of(&self, version: u64) -> Result<Option<Arc<Snapshot>>> {
        let tip = self.tip().snapshot;
        if tip.version() == version {
            return Ok(Some(tip));
        }
        let tip = self.refresh().await?.snapshot;
        if version > tip.version() {
            return Ok(None);
        }
        let Some(root) = self.root_of(&tip, version).await? else {
            return Ok(None);
        };
        let manifest = self.reader.manifest(&root, Some(tip.manifest())).await?;
        Ok(Some(Arc::new(Snapshot::new(
            manifest,
            root,
            None,
            Arc::clone(&self.reader),
        ))))
    }

    /// A name for a lease that no other has.
    pub(super) fn fresh_owner(&self) -> String {
        format!("{}-{}", std::process::id(), self.env.ids.nonce())
    }
}

async fn load(
    reader: &Arc<Reader>,
    pointer: &Pointer,
    state: ObjectVersion,
    known: Option<&Manifest>,
) -> Result<Snapshot> {
    // Side by side what would otherwise be read level by level.
    let nodes = std::iter::once(pointer.manifest).chain(pointer.new_nodes.iter().copied());
    reader.prefetch(nodes.collect()).await;
    let manifest = reader.manifest(&pointer.manifest, known).await?;
    let header = manifest.header();
    if header.version != pointer.version || header.metadata.table_id != pointer.table_id {
        return Err(Error::new(
            ErrorKind::Corrupt,
            paths::pointer().as_ref(),
            format!(
                "names version {} of table {}, but its manifest is version {} of table {}",
                pointer.version, pointer.table_id, header.version, header.metadata.table_id
            ),
        ));
    }
    Ok(Snapshot::new(
        manifest,
        pointer.manifest,
        Some(Named {
            state,
            claim: pointer.claim.clone(),
        }),
        Arc::clone(reader),
    ))
}

fn decode_pointer(bytes: &[u8]) -> Result<Pointer> {
    match Head::decode(bytes) {
        Ok(Head::Table(pointer)) => Ok(pointer),
        Ok(Head::Dropped(_)) => Err(dropped()),
        Ok(Head::Reserved(_)) => Err(reserved()),
        Err(error) => Err(FormatError::from(error).at(&paths::pointer())),
    }
}

fn missing() -> Error {
    Error::new(
        ErrorKind::NotFound,
        paths::pointer().as_ref(),
        "there is no supertable at this location; create one with \
         CREATE EXTERNAL TABLE … (columns) STORED AS SUPERTABLE, or correct the location",
    )
}
