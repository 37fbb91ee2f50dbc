//! The versions of a table: walking back from one, and finding one by number or by time.
//!
//! Finding one takes a number of reads that grows with the logarithm of its distance (`descent`); listing them takes
//! one read for each.
//!
//! Owns the reads of both, and the error that says which versions remain. Does not own what a version holds
//! (`format::manifest`), the choice of the way (`descent`), nor which ones are removed (vacuum).
//! Invariant: a version that is returned was reachable from a current pointer; where the chain ends before
//! it, that is an error, never an older or newer version. Reads only, so a crash leaves nothing.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::ManifestHeader;
use crate::format::{ContentHash, paths};
use crate::table::handle::Table;
use crate::table::version::descent::{Descent, Goal, Next};
use crate::table::version::reader::Reader;
use crate::table::version::snapshot::Snapshot;

/// Which version of a table is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The version of this number.
    Version(u64),
    /// The last version that is not younger than this: milliseconds since the Unix epoch.
    Time(i64),
}

/// What one version says of itself, without its superfiles.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// The manifest root.
    pub root: ContentHash,
    /// What stands in it.
    pub header: ManifestHeader,
}

/// Where a walk takes its nodes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// From memory where they are there.
    Cached,
    /// From the store, so that what is found is still there.
    Stored,
}

impl Table {
    /// The versions from `from` back to the oldest that remains, one read for each as the stream is polled.
    pub fn versions(&self, from: &Snapshot) -> BoxStream<'static, Result<VersionInfo>> {
        walk(Arc::clone(self.reader()), from).boxed()
    }

    /// The version that `moment` means.
    ///
    /// # Errors
    /// `NotFound` says which versions there are, if it is not one of them.
    pub async fn snapshot_of(&self, moment: Moment) -> Result<Arc<Snapshot>> {
        let known = self.cached_snapshot();
        let tip = match moment {
            // What is not newer than a known version is in its past.
            Moment::Version(v) if v <= known.version() => known,
            Moment::Version(_) | Moment::Time(_) => self.snapshot().await?,
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
        if let Ok(info) = descend(self.reader(), &tip, Goal::Moment(moment), nodes).await? {
            if info.root == tip.root() {
                return Ok(tip);
            }
            // It may be remembered and yet be gone.
            if nodes == Nodes::Stored || self.reader().is_stored(&info.root).await? {
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
        let reader = Arc::clone(self.reader());
        let manifest = reader.manifest(root, Some(known.manifest())).await?;
        Ok(Arc::new(Snapshot::new(manifest, *root, None, reader)))
    }

    async fn not_there(&self, moment: Moment, tip: &Snapshot) -> Error {
        let end = descend(self.reader(), tip, Goal::Oldest, Nodes::Stored).await;
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
pub(crate) async fn descend(
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
            Next::Read(version, root) => (version, root),
            Next::Found(info) => return Ok(Ok(info)),
            Next::End(info) => return Ok(Err(info)),
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
