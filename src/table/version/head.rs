//! The head of a table: its pointer, the newest version that this process knows, and following the one to the other.
//!
//! Vocabulary: the *tip* is the newest version that this process knows. To *swing* the pointer is to replace it by a
//! compare-and-swap from the state that the tip was read in. A table is *unseen* while its pointer is still to be
//! created.
//!
//! Owns: every read of the pointer, and every write of it but those by which a table takes another place in its catalog
//! (`claim`). Does not own what a new version holds (`commit`), nor earlier versions (`history`).
//!
//! Invariants:
//! - The pointer is read before anything that depends on it; the pointer of another table at the same place is an
//!   error, never a version.
//! - It is swung only to a version that may follow the one that it names (`check_successor`), whose nodes and sidecars
//!   the caller has made durable. Every write keeps the claim.
//! - Creating the pointer is the commit that makes a table exist, and happens once.
//!
//! A crash leaves the pointer as it was, or swung. A lost answer leaves the caller to ask the history.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::pointer;
use super::reader::Reader;
use super::snapshot::{Named, Snapshot};
use super::tip::{Tip, TipCell};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{EncodedManifest, Manifest, check_successor};
use crate::format::pointer::MAX_NEW_NODES;
use crate::format::{ContentHash, DropMarker, FormatError, Head, Pointer, paths};
use crate::storage::{CasOutcome, Fetched, ObjectVersion, Replaced};
use crate::table::context::Context;

/// A version that is to follow another one.
#[derive(Debug)]
pub(crate) struct NextVersion {
    pub(crate) manifest: Manifest,
    pub(crate) encoded: EncodedManifest,
}

impl NextVersion {
    pub(crate) fn new(manifest: Manifest) -> Result<Self> {
        let encoded = manifest
            .encode()
            .map_err(|error| FormatError::from(error).at(&paths::manifest_prefix()))?;
        Ok(Self { manifest, encoded })
    }

    /// The nodes that the pointer names beside the root.
    fn named_nodes(&self) -> Vec<ContentHash> {
        self.encoded
            .new_nodes
            .iter()
            .map(|(hash, _)| *hash)
            .filter(|hash| *hash != self.encoded.root)
            .take(MAX_NEW_NODES)
            .collect()
    }
}

/// What the pointer said when it was read.
#[derive(Debug)]
pub(crate) enum Observed {
    /// It names the version that was the tip.
    Known(Tip),
    /// It names another one, in this state of the object.
    New(Pointer, ObjectVersion),
}

impl Observed {
    /// The version that it names.
    pub(crate) fn version(&self) -> u64 {
        match self {
            Self::Known(tip) => tip.snapshot.version(),
            Self::New(pointer, _) => pointer.version,
        }
    }
}

/// What became of a swing.
#[derive(Debug)]
#[must_use = "a lost race is a value, not an error"]
pub(crate) enum Swung {
    /// The next version is the current one.
    Committed(Arc<Snapshot>),
    /// The pointer is elsewhere; where, if settling the race has shown it.
    Lost(Option<Observed>),
}

/// What became of a pointer's creation.
#[derive(Debug)]
#[must_use = "a lost race is a value, not an error"]
pub(crate) enum Created {
    /// The table is seen.
    Seen,
    /// Another table is there, or was.
    Another,
}

/// The pointer of one table, and the tip.
#[derive(Debug)]
pub(crate) struct TableHead {
    context: Arc<Context>,
    reader: Arc<Reader>,
    tip: TipCell,
    /// One reader loads a new version; the others wait and find it.
    loading: tokio::sync::Mutex<()>,
    /// Whether the pointer is still to be created: only this handle knows the table.
    unseen: AtomicBool,
    /// When another process's version was last taken over.
    others_seen: Mutex<Option<tokio::time::Instant>>,
}

impl TableHead {
    /// The head of a table whose newest known version is this.
    pub(crate) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        snapshot: Arc<Snapshot>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context,
            reader,
            loading: tokio::sync::Mutex::default(),
            unseen: AtomicBool::new(snapshot.pointer().is_none()),
            others_seen: Mutex::default(),
            tip: TipCell::new(snapshot),
        })
    }

    /// The newest version that this process knows.
    pub(crate) fn tip(&self) -> Tip {
        self.tip.get()
    }

    /// Whether the pointer is still to be created.
    pub(crate) fn is_unseen(&self) -> bool {
        self.unseen.load(Ordering::Acquire)
    }

    /// Whether another process's version was taken over lately.
    pub(crate) fn others_wrote_within(&self, time: Duration) -> bool {
        let now = tokio::time::Instant::now();
        self.others_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|seen| now.duration_since(seen) < time)
    }

    /// Asks the store for the current version. The tip that is returned was current at some moment of this
    /// call, or later.
    pub(crate) async fn refresh(&self) -> Result<Tip> {
        if self.is_unseen() {
            return Ok(self.tip());
        }
        let observed = self.observe().await?;
        self.follow(observed).await
    }

    /// Reads the pointer, and not yet what it names.
    pub(crate) async fn observe(&self) -> Result<Observed> {
        let known = self.tip();
        let path = paths::pointer();
        let storage = &self.context.storage;
        let fetched = match known.snapshot.pointer() {
            Some(version) => storage.get_if_changed(&path, version).await?,
            None => match storage.get(&path).await? {
                Some((bytes, version)) => Fetched::Changed(bytes, version),
                None => Fetched::Missing,
            },
        };
        match fetched {
            Fetched::Unchanged => Ok(Observed::Known(known)),
            Fetched::Missing => Err(pointer::missing()),
            Fetched::Changed(bytes, state) => self.observed(&bytes, state),
        }
    }

    /// What bytes that were read from the pointer say.
    fn observed(&self, bytes: &[u8], state: ObjectVersion) -> Result<Observed> {
        let pointer = pointer::decode(bytes)?;
        if pointer.table_id != self.context.table_id {
            return Err(pointer::replaced());
        }
        Ok(Observed::New(pointer, state))
    }

    /// Loads the version that an observed pointer names, unless a newer one is known by now.
    pub(crate) async fn follow(&self, observed: Observed) -> Result<Tip> {
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
            return Ok(self.tip.advance_to(Arc::new(renamed)));
        }
        let known = Some(tip.snapshot.manifest());
        let snapshot = Arc::new(load(&self.reader, &pointer, state, known).await?);
        let (reader, before, after) = (
            Arc::clone(&self.reader),
            Arc::clone(&tip.snapshot),
            Arc::clone(&snapshot),
        );
        self.context
            .tasks
            .spawn(async move { reader.keep_warm(before.manifest(), after.manifest()).await });
        *self
            .others_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(tokio::time::Instant::now());
        Ok(self.tip.advance_to(snapshot))
    }

    /// Swings the pointer from `base` to the version that follows it: the commit.
    ///
    /// # Errors
    /// The outcome may be unknown then: the swing may be in force, or come into force.
    pub(crate) async fn swing(&self, base: &Snapshot, next: Option<&NextVersion>) -> Result<Swung> {
        let path = paths::pointer();
        let (Some(next), Some(expected)) = (next, base.pointer()) else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                path.as_ref(),
                "a commit must change something, and build on the current version",
            ));
        };
        check_successor(base.manifest(), &next.manifest)
            .map_err(|violation| FormatError::from(violation).at(&path))?;
        let pointer = Pointer {
            table_id: self.context.table_id,
            version: next.manifest.version(),
            manifest: next.encoded.root,
            nonce: self.context.env.ids.nonce(),
            new_nodes: next.named_nodes(),
            claim: base.claim().cloned(),
        };
        let bytes = pointer
            .encode()
            .map_err(|error| FormatError::from(error).at(&path))?;
        let storage = &self.context.storage;
        let state = match storage.replace_or_read(&path, expected, bytes).await? {
            Replaced::Committed(state) => state,
            Replaced::Lost(found) => {
                let found = found.map(|(bytes, state)| self.observed(&bytes, state));
                return Ok(Swung::Lost(found.transpose()?));
            }
        };
        next.manifest.mark_persisted();
        self.remember_root(next);
        let claim = pointer.claim;
        let snapshot = Arc::new(Snapshot::new(
            next.manifest.clone(),
            next.encoded.root,
            Some(Named { state, claim }),
            Arc::clone(&self.reader),
        ));
        self.tip.advance(Arc::clone(&snapshot));
        Ok(Swung::Committed(snapshot))
    }

    /// Creates the pointer, naming the version that follows the unseen `base`: the table appears.
    ///
    /// # Errors
    /// The store's; the table may be seen then, or become so.
    pub(crate) async fn create(
        &self,
        base: &Snapshot,
        next: Option<&NextVersion>,
    ) -> Result<Created> {
        let path = paths::pointer();
        let Some(next) = next else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                path.as_ref(),
                "a commit must change something",
            ));
        };
        check_successor(base.manifest(), &next.manifest)
            .map_err(|violation| FormatError::from(violation).at(&path))?;
        let created = self
            .create_pointer(&next.manifest, next.encoded.root, next.named_nodes())
            .await?;
        self.remember_root(next);
        Ok(created)
    }

    /// Makes the table visible as it is, if it is not yet.
    ///
    /// # Errors
    /// `AlreadyExists` if there is another one by now.
    pub(crate) async fn reveal(&self) -> Result<()> {
        if !self.is_unseen() {
            return Ok(());
        }
        let first = self.tip().snapshot;
        match self
            .create_pointer(first.manifest(), first.root(), Vec::new())
            .await?
        {
            Created::Seen => Ok(()),
            Created::Another => Err(pointer::exists()),
        }
    }

    /// Creates the pointer, which names a version whose nodes are durable.
    async fn create_pointer(
        &self,
        manifest: &Manifest,
        root: ContentHash,
        new_nodes: Vec<ContentHash>,
    ) -> Result<Created> {
        let path = paths::pointer();
        let table_id = self.context.table_id;
        let pointer = Pointer {
            table_id,
            version: manifest.version(),
            manifest: root,
            nonce: self.context.env.ids.nonce(),
            new_nodes,
            claim: None,
        };
        let bytes = pointer
            .encode()
            .map_err(|error| FormatError::from(error).at(&path))?;
        let storage = &self.context.storage;
        if let CasOutcome::Committed(state) = storage.create(&path, bytes).await? {
            manifest.mark_persisted();
            let seen = Snapshot::new(
                manifest.clone(),
                root,
                Some(Named { state, claim: None }),
                Arc::clone(&self.reader),
            );
            self.tip.advance_to(Arc::new(seen));
            self.unseen.store(false, Ordering::Release);
            return Ok(Created::Seen);
        }
        // It may have been created after all, and changed by others before this was known.
        let ours = match storage.get(&path).await? {
            None => false,
            Some((bytes, _)) => match Head::decode(&bytes) {
                Ok(Head::Table(pointer)) => pointer.table_id == table_id,
                Ok(Head::Dropped(marker)) => marker.table_id == table_id,
                Ok(Head::Reserved(_)) => false,
                Err(error) => return Err(FormatError::from(error).at(&path)),
            },
        };
        if !ours {
            return Ok(Created::Another);
        }
        self.unseen.store(false, Ordering::Release);
        self.refresh().await?;
        Ok(Created::Seen)
    }

    /// Rewrites the pointer of `current` with the same content and a new nonce, so that nothing that was drafted before
    /// can be swung to any more; says whether `current` was still the current version.
    pub(crate) async fn rewrite(&self, current: &Snapshot) -> Result<bool> {
        let path = paths::pointer();
        let Some(expected) = current.pointer() else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                paths::manifest_node(&current.root()).as_ref(),
                "the pointer that names this version is not known; nothing is written",
            ));
        };
        let pointer = Pointer {
            table_id: self.context.table_id,
            version: current.version(),
            manifest: current.root(),
            nonce: self.context.env.ids.nonce(),
            // A hint for readers that do not know the version yet; the root says it all.
            new_nodes: Vec::new(),
            claim: current.claim().cloned(),
        };
        let bytes = pointer
            .encode()
            .map_err(|error| FormatError::from(error).at(&path))?;
        let storage = &self.context.storage;
        match storage.replace(&path, expected, bytes).await? {
            CasOutcome::Committed(state) => {
                let claim = pointer.claim;
                let renamed = current.under(Named { state, claim });
                self.tip.advance_to(Arc::new(renamed));
                Ok(true)
            }
            CasOutcome::Lost => Ok(false),
        }
    }

    /// Replaces the pointer by the mark of a dropped table, if `current` is still the current version; says whether it
    /// was. From then on the table is gone, for ever: a statement was committed before, or fails.
    pub(crate) async fn mark_dropped(&self, current: &Snapshot) -> Result<bool> {
        let path = paths::pointer();
        let Some(expected) = current.pointer() else {
            return Ok(false);
        };
        let dropped = DropMarker {
            table_id: current.metadata().table_id,
            version: current.version(),
            claim: current.claim().cloned(),
            nonce: self.context.env.ids.nonce(),
        };
        let bytes = dropped
            .encode()
            .map_err(|error| FormatError::from(error).at(&path))?;
        let storage = &self.context.storage;
        match storage.replace(&path, expected, bytes).await? {
            CasOutcome::Committed(_) => {
                self.reader.forget();
                Ok(true)
            }
            CasOutcome::Lost => Ok(false),
        }
    }

    /// Keeps what the next reader would otherwise fetch.
    fn remember_root(&self, next: &NextVersion) {
        let root = next.encoded.root;
        let mut nodes = next.encoded.new_nodes.iter();
        if let Some((_, bytes)) = nodes.find(|(hash, _)| *hash == root) {
            self.reader.remember_node(root, bytes.clone());
        }
    }
}

/// The version that a pointer names.
///
/// # Errors
/// The store's; `Corrupt` for damaged objects.
pub(crate) async fn load(
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
