//! A table that is open: the parts that its clones share, and what can be asked of it.
//!
//! Owns: [`Table`], and putting its parts together. Does not own what the parts do: the pointer and the tip
//! (`version::head`), earlier versions (`version::history`), the commit (`commit`), recovery and vacuum.
//! Invariant: all clones share one of each part, so they commit together and see one tip. No writes of its own, so a
//! crash leaves nothing.

use std::sync::{Arc, Weak};

use futures::stream::BoxStream;

use super::attempts::{Attempts, VERSION_CHANGED};
use super::background::{Background, Upkeep, UpkeepTurn};
use super::commit::Mutation;
use super::commit::committer::Committer;
use super::commit::liveness::Liveness;
use super::commit::registry::MutationRegistry;
use super::context::Context;
use super::create::{CreateTable, first_version};
use super::limits::Limits;
use super::recovery::RecoveryReport;
use super::recovery::recover::Recovery;
use super::restore::{Restored, restore};
use super::vacuum::{self, VacuumOptions, VacuumReport, sweep};
use super::version::head::{TableHead, load};
use super::version::history::History;
use super::version::moment::{Moment, VersionInfo};
use super::version::pointer;
use super::version::reader::Reader;
use super::version::snapshot::Snapshot;
use crate::error::Result;
use crate::format::manifest::TableMetadata;
use crate::format::{ContentHash, OpKind, StateDoc, WalId, paths};
use crate::storage::Storage;
use crate::wal::{Env, Standing, WalResult, WalStore};

/// A table on a store. Cheap to clone; clones share caches, and commit together.
#[derive(Clone, Debug)]
pub struct Table {
    inner: Arc<TableParts>,
}

/// What all clones of a table share.
#[derive(Debug)]
struct TableParts {
    context: Arc<Context>,
    /// The pointer, and the newest version that this process knows.
    head: Arc<TableHead>,
    /// Earlier versions, and the reader of all of them.
    history: Arc<History>,
    liveness: Arc<Liveness>,
    committer: Arc<Committer>,
    recovery: Arc<Recovery>,
    upkeep: Upkeep,
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
            return Err(pointer::missing());
        };
        let pointer = pointer::decode(&bytes)?;
        let wal = WalStore::new(storage.clone(), Arc::clone(&env.ids));
        let reader = Arc::new(Reader::new(storage.clone(), wal.clone(), &limits));
        let snapshot = load(&reader, &pointer, version, None).await?;
        let context = Context::new(storage, env, limits, wal, pointer.table_id)?;
        let table = Self::of_parts(context, reader, snapshot);
        if table.storage().is_read_only() {
            return Ok(table);
        }
        // Readers need not wait for it: what it commits was never acknowledged.
        table.inner.recovery.recover_in_background();
        Ok(table)
    }

    /// Creates a table at the storage's root.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one; `InvalidArgument` if something else is there, or for a schema that
    /// cannot be stored. Nothing that counts is written then.
    pub async fn create(storage: Storage, env: Env, spec: CreateTable) -> Result<Self> {
        Self::create_with(storage, env, Limits::default(), spec).await
    }

    /// The same, within other limits.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_with(
        storage: Storage,
        env: Env,
        limits: Limits,
        spec: CreateTable,
    ) -> Result<Self> {
        let table = Self::prepare(storage, env, limits, spec).await?;
        table.reveal().await?;
        Ok(table)
    }

    /// A table that is not visible until a statement has committed to it, or [`reveal`](Self::reveal) was called.
    ///
    /// # Errors
    /// As [`create`](Self::create), as far as it is seen already.
    pub(crate) async fn prepare(
        storage: Storage,
        env: Env,
        limits: Limits,
        spec: CreateTable,
    ) -> Result<Self> {
        let wal = WalStore::new(storage.clone(), Arc::clone(&env.ids));
        let (manifest, root) = first_version(&storage, &env, &wal, spec).await?;
        let table_id = manifest.header().metadata.table_id;
        let reader = Arc::new(Reader::new(storage.clone(), wal.clone(), &limits));
        let snapshot = Snapshot::new(manifest, root, None, Arc::clone(&reader));
        let context = Context::new(storage, env, limits, wal, table_id)?;
        Ok(Self::of_parts(context, reader, snapshot))
    }

    fn of_parts(context: Arc<Context>, reader: Arc<Reader>, snapshot: Snapshot) -> Self {
        let head = TableHead::new(
            Arc::clone(&context),
            Arc::clone(&reader),
            Arc::new(snapshot),
        );
        let at_most = context.limits.history_at_most;
        let history = History::new(Arc::clone(&head), reader, at_most);
        let liveness = Liveness::new(Arc::clone(&context));
        let registry = Arc::new(MutationRegistry::default());
        let committer = Committer::new(&context, &head, &history, &registry, &liveness);
        let recovery = Recovery::new(&committer, &liveness);
        Self {
            inner: Arc::new(TableParts {
                context,
                head,
                history,
                liveness,
                committer,
                recovery,
                upkeep: Upkeep::default(),
            }),
        }
    }

    /// Makes the table visible as it is, if it is not yet.
    ///
    /// # Errors
    /// `AlreadyExists` if there is another one by now.
    pub(crate) async fn reveal(&self) -> Result<()> {
        self.inner.head.reveal().await
    }

    /// The current version: one conditional read of the pointer, and of the nodes that are new.
    ///
    /// # Errors
    /// The store's; `Corrupt` for damaged objects; `NotFound` if the table was dropped.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        Ok(self.inner.head.refresh().await?.snapshot)
    }

    /// The newest version that this process knows, without asking the store.
    pub fn cached_snapshot(&self) -> Arc<Snapshot> {
        self.inner.head.tip().snapshot
    }

    /// An earlier version; `None` if the history does not reach back to it (vacuum removed it), or if
    /// there is no such version yet.
    ///
    /// # Errors
    /// The store's; `Corrupt` for damaged objects.
    pub async fn snapshot_at(&self, version: u64) -> Result<Option<Arc<Snapshot>>> {
        self.inner.history.snapshot_at(version).await
    }

    /// The version that `moment` means.
    ///
    /// # Errors
    /// `NotFound` says which versions there are, if it is not one of them.
    pub async fn snapshot_of(&self, moment: Moment) -> Result<Arc<Snapshot>> {
        self.inner.history.snapshot_of(moment).await
    }

    /// The version with this root; nodes that it shares with `known` are not read again.
    pub(crate) async fn snapshot_under(
        &self,
        root: &ContentHash,
        known: &Snapshot,
    ) -> Result<Arc<Snapshot>> {
        self.inner.history.snapshot_under(root, known).await
    }

    /// The versions from `from` back to the oldest that remains, one read for each as the stream is polled.
    pub fn versions(&self, from: &Snapshot) -> BoxStream<'static, Result<VersionInfo>> {
        self.inner.history.versions(from)
    }

    /// Begins a mutation of `base`. Its INTENT document is uploaded in the background.
    pub fn begin(&self, op: OpKind, base: Arc<Snapshot>, statement: String) -> Mutation {
        Mutation::begin(&self.inner.committer, op, base, statement)
    }

    /// Makes the table what it was at `moment`, in a new version. Later versions stay in the history, and can
    /// be restored in turn.
    ///
    /// # Errors
    /// `NotFound` says which versions there are; `Conflict` if other statements kept committing first.
    pub async fn restore(&self, moment: Moment) -> Result<Restored> {
        restore(&self.inner.committer, moment).await
    }

    /// Ends what dead writers began: commits what is APPENDED, and undoes what is not and that stands still for one
    /// lease of this process's own time. That lease is waited for if there is such a document, and this process
    /// has not seen it for as long already; less, if its owner turns out to be at work.
    ///
    /// # Errors
    /// The store cannot be listed. What goes wrong with one mutation is in the report.
    pub async fn recover(&self) -> Result<RecoveryReport> {
        self.inner.recovery.recover().await
    }

    /// Deletes what no retained version refers to, and ends what dead writers began. Readers of retained
    /// versions and writers are not disturbed.
    ///
    /// # Errors
    /// The store's; `Corrupt` if a retained version cannot be read, and then nothing was deleted for it.
    pub async fn vacuum(&self, options: VacuumOptions) -> Result<VacuumReport> {
        let parts = vacuum::Parts {
            context: &self.inner.context,
            head: &self.inner.head,
            reader: self.inner.history.reader(),
            recovery: &self.inner.recovery,
        };
        vacuum::vacuum(parts, options).await
    }

    /// Drops the table: no statement sees it any more, and its objects are deleted. Objects that the store fails to list
    /// or to delete then are left: a warning says so, and the session that next creates a table of the name deletes them.
    ///
    /// # Errors
    /// `NotFound` if it is dropped already. The store's: the table is there then, or the outcome unknown.
    pub async fn drop_table(&self) -> Result<()> {
        let mut attempts = Attempts::of("DROP TABLE", self).at_most(self.limits().commit_attempts);
        loop {
            let current = self.snapshot().await?;
            if self.drop_unchanged(&current).await? {
                return Ok(());
            }
            attempts.after_loss(VERSION_CHANGED).await?;
        }
    }

    /// Drops the table if `current` is still its current version; says whether it was.
    ///
    /// # Errors
    /// As [`drop_table`](Self::drop_table).
    pub async fn drop_unchanged(&self, current: &Snapshot) -> Result<bool> {
        let dropped = self.inner.head.mark_dropped(current).await?;
        if dropped && let Err(error) = sweep(self.storage()).await {
            // The drop stands, and cannot be told as a failure.
            tracing::warn!(%error, "objects of a dropped table are left");
        }
        Ok(dropped)
    }

    /// A document in flight, and whether its owner is at it as far as this process can tell.
    pub(crate) async fn observe_document(&self, id: &WalId) -> WalResult<(StateDoc, Standing)> {
        let (doc, _, standing) = self.inner.liveness.read(id).await?;
        Ok((doc, standing))
    }

    /// Waits until nothing of this table goes on in the background.
    pub async fn settle(&self) {
        self.inner.context.tasks.settle().await;
    }

    /// What the table does in the background, without the table.
    pub fn background(&self) -> Background {
        // All parts share the context, and background tasks hold parts.
        let table: Weak<Context> = Arc::downgrade(&self.inner.context);
        Background::new(table, &self.inner.context.tasks)
    }

    /// Asks for a turn of background upkeep; `None` if one waits already. The turn ends when the token
    /// is dropped.
    pub(crate) fn begin_upkeep(&self) -> Option<UpkeepTurn> {
        self.inner.upkeep.begin()
    }

    /// Runs `task` in the background; [`settle`](Self::settle) waits for it.
    pub(crate) fn spawn_upkeep(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.context.tasks.spawn(task);
    }

    /// Whether both are clones of one table, which commit together and share one tip.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The storage.
    pub fn storage(&self) -> &Storage {
        &self.inner.context.storage
    }

    /// Clock and ids.
    pub fn env(&self) -> &Env {
        &self.inner.context.env
    }

    /// The documents, change sets and sidecars.
    pub fn wal(&self) -> &WalStore {
        &self.inner.context.wal
    }

    /// The bounds within which this table works.
    pub fn limits(&self) -> &Limits {
        &self.inner.context.limits
    }

    /// The table's metadata in the newest version that this process knows.
    pub fn metadata(&self) -> Arc<TableMetadata> {
        Arc::clone(self.cached_snapshot().metadata())
    }
}

impl AsRef<Env> for Table {
    fn as_ref(&self) -> &Env {
        self.env()
    }
}
