//! The history of a table: what earlier versions say of a mutation, and finding one by number or by time.
//!
//! Finding one takes a number of reads that grows with the logarithm of its distance (`descent`); listing them, and
//! looking for a mutation among them, takes one read for each.
//!
//! Owns the reads of both, and the error that says which versions remain. Does not own what a version holds
//! (`format::manifest`), the choice of the way (`descent`), nor which ones are removed (vacuum).
//! Invariants: a version that is returned was reachable from a current pointer; where the chain ends before
//! it, that is an error, never an older or newer version. A mutation is said not to be committed only after every
//! version since its base was seen. Reads only, so a crash leaves nothing.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};

use super::descent::{Descent, Direction, Goal};
use super::head::TableHead;
use super::moment::{Moment, VersionInfo};
use super::reader::Reader;
use super::snapshot::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::CommitRecord;
use crate::format::{ContentHash, WalId, paths};

/// Where a walk takes its nodes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// From memory where they are there.
    Cached,
    /// From the store, so that what is found is still there.
    Stored,
}

/// What the history says about a mutation.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// It was committed.
    Recorded(CommitRecord),
    /// It was not committed in any version since its base.
    NotCommitted,
    /// Some of those versions are gone, or too many.
    OutOfReach,
}

/// The versions up to the head of one table.
#[derive(Debug)]
pub(crate) struct History {
    head: Arc<TableHead>,
    reader: Arc<Reader>,
    /// Versions that one lookup of a mutation reads at most.
    lookup_at_most: u64,
}

impl History {
    pub(crate) fn new(head: Arc<TableHead>, reader: Arc<Reader>, lookup_at_most: u64) -> Arc<Self> {
        Arc::new(Self {
            head,
            reader,
            lookup_at_most,
        })
    }

    /// Loads what versions consist of.
    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Looks for `id` in the versions after `since` up to `from`.
    pub(crate) async fn find_record(
        &self,
        from: &Snapshot,
        id: &WalId,
        since: u64,
    ) -> Result<Lookup> {
        if let Some(record) = from.record(id) {
            return Ok(Lookup::Recorded(record.clone()));
        }
        let mut version = from.version();
        let mut parent = from.manifest().header().parent;
        let mut steps = 0;
        // A version's records are those it committed itself; the one below it is next.
        while version > since.saturating_add(1) {
            let Some(hash) = parent else { break };
            steps += 1;
            if steps > self.lookup_at_most {
                return Ok(Lookup::OutOfReach);
            }
            let header = match self.reader.header(&hash).await {
                Ok(header) => header,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Lookup::OutOfReach),
                Err(error) => return Err(error),
            };
            if let Some(record) = header.commit_record(id) {
                return Ok(Lookup::Recorded(record.clone()));
            }
            version = header.version;
            parent = header.parent;
        }
        Ok(Lookup::NotCommitted)
    }

    /// Looks for `id` in the versions after `since` up to the current one. The pointer is read now: if the mutation
    /// was found to have ended before this call, and it was committed, this pointer's history has it.
    pub(crate) async fn find_in_current(&self, id: &WalId, since: u64) -> Result<Lookup> {
        self.head.refresh().await?;
        let tip = self.head.tip();
        self.find_record(&tip.snapshot, id, since).await
    }

    /// The manifest root of `version`, which is not newer than `from`; `None` if the history does not
    /// reach that far.
    pub(crate) async fn root_of(
        &self,
        from: &Snapshot,
        version: u64,
    ) -> Result<Option<ContentHash>> {
        let goal = Goal::Moment(Moment::Version(version));
        let found = descend(&self.reader, from, goal, Nodes::Cached).await?;
        Ok(found.ok().map(|info| info.root))
    }

    /// The version of this number; `None` if it is out of reach, or there is none yet.
    pub(crate) async fn snapshot_at(&self, version: u64) -> Result<Option<Arc<Snapshot>>> {
        let tip = self.head.tip().snapshot;
        if tip.version() == version {
            return Ok(Some(tip));
        }
        let tip = self.head.refresh().await?.snapshot;
        if version > tip.version() {
            return Ok(None);
        }
        match self.root_of(&tip, version).await? {
            Some(root) => Ok(Some(self.snapshot_under(&root, &tip).await?)),
            None => Ok(None),
        }
    }

    /// The versions from `from` back to the oldest that remains, one read for each as the stream is polled.
    pub(crate) fn versions(&self, from: &Snapshot) -> BoxStream<'static, Result<VersionInfo>> {
        walk(Arc::clone(&self.reader), from).boxed()
    }

    /// The version that `moment` means.
    ///
    /// # Errors
    /// `NotFound` says which versions there are, if it is not one of them.
    pub(crate) async fn snapshot_of(&self, moment: Moment) -> Result<Arc<Snapshot>> {
        let known = self.head.tip().snapshot;
        let tip = match moment {
            // What is not newer than a known version is in its past.
            Moment::Version(v) if v <= known.version() => known,
            Moment::Version(_) | Moment::Time(_) => self.head.refresh().await?.snapshot,
        };
        self.find(moment, tip, Nodes::Cached).await
    }

    /// The version that `moment` means among those from `tip` back.
    pub(crate) async fn find(
        &self,
        moment: Moment,
        tip: Arc<Snapshot>,
        nodes: Nodes,
    ) -> Result<Arc<Snapshot>> {
        if let Ok(info) = descend(&self.reader, &tip, Goal::Moment(moment), nodes).await? {
            if info.root == tip.root() {
                return Ok(tip);
            }
            // It may be remembered and yet be gone.
            if nodes == Nodes::Stored || self.reader.is_stored(&info.root).await? {
                return self.snapshot_under(&info.root, &tip).await;
            }
        }
        Err(self.not_there(moment, &tip).await)
    }

    /// The version with this root; nodes that it shares with `known` are not read again.
    pub(crate) async fn snapshot_under(
        &self,
        root: &ContentHash,
        known: &Snapshot,
    ) -> Result<Arc<Snapshot>> {
        let reader = Arc::clone(&self.reader);
        let manifest = reader.manifest(root, Some(known.manifest())).await?;
        Ok(Arc::new(Snapshot::new(manifest, *root, None, reader)))
    }

    async fn not_there(&self, moment: Moment, tip: &Snapshot) -> Error {
        let end = descend(&self.reader, tip, Goal::Oldest, Nodes::Stored).await;
        let oldest = match end {
            Ok(Ok(info) | Err(info)) => info.header.version,
            Err(_) => tip.version(),
        };
        let subject = match moment {
            Moment::Version(version) => format!("version {version}"),
            Moment::Time(ms) => match chrono::DateTime::from_timestamp_millis(ms) {
                Some(time) => format!("version of {}", time.to_rfc3339()),
                None => format!("version of {ms} ms since 1970"),
            },
        };
        let newest = tip.version();
        let remain = match oldest == newest {
            true => format!("only version {newest} is there"),
            false => format!("versions {oldest} to {newest} are there"),
        };
        Error::new(
            ErrorKind::NotFound,
            subject,
            format!("does not exist; {remain}"),
        )
    }
}

/// Goes down from `from`. `Err`: what is looked for is not there, and this is the oldest version that was reached.
async fn descend(
    reader: &Reader,
    from: &Snapshot,
    goal: Goal,
    nodes: Nodes,
) -> Result<std::result::Result<VersionInfo, VersionInfo>> {
    let from = VersionInfo {
        root: from.root(),
        header: from.manifest().header().clone(),
    };
    let mut descent = Descent::new(from, goal);
    loop {
        let (version, root) = match descent.next() {
            Direction::Read(version, root) => (version, root),
            Direction::Arrived(info) => return Ok(Ok(info)),
            Direction::End(info) => return Ok(Err(info)),
        };
        let header = match nodes {
            Nodes::Cached => reader.header(&root).await,
            Nodes::Stored => reader.stored_header(&root).await,
        };
        match header {
            Ok(header) if header.version == version => {
                descent.supply(version, Some(VersionInfo { root, header }));
            }
            Ok(header) => {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    paths::manifest_node(&root).as_ref(),
                    format!(
                        "is version {}, and a later version names it as version {version}",
                        header.version
                    ),
                ));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => descent.supply(version, None),
            Err(error) => return Err(error),
        }
    }
}

/// The versions from `from` back, until there is no parent, or vacuum has removed it.
fn walk(
    reader: Arc<Reader>,
    from: &Snapshot,
) -> impl futures::Stream<Item = Result<VersionInfo>> + Send + 'static {
    let header = from.manifest().header().clone();
    let parent = header.parent;
    let first = VersionInfo {
        root: from.root(),
        header,
    };
    let rest = stream::try_unfold((reader, parent), move |(reader, next)| async move {
        let Some(root) = next else { return Ok(None) };
        let header = match reader.header(&root).await {
            Ok(header) => header,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let parent = header.parent;
        Ok(Some((VersionInfo { root, header }, (reader, parent))))
    });
    stream::iter([Ok(first)]).chain(rest)
}
