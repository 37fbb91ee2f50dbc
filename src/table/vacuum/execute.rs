//! Carrying a vacuum out: cut, list, read documents and pointer, fence, delete.
//!
//! Owns the order of steps that [`super`] argues for, and the I/O of each. Does not own the verdicts
//! (`plan`).
//!
//! Invariant: nothing is deleted that was not listed before the documents and the pointer were read,
//! but for the few roots at which the chain of versions is cut. A crash leaves fewer objects than before,
//! and no reachable version that lacks one; the next vacuum goes on.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};

use super::plan::{Disposition, InFlight, Listed, Referenced, Retention, judge};
use super::report::VacuumReport;
use crate::error::{Error, ErrorKind, Result};
use crate::format::paths::{self, ObjectName};
use crate::format::{ContentHash, StateDoc, WalId};
use crate::storage::StorageError;
use crate::table::context::Context;
use crate::table::limits::PROGRESS;
use crate::table::recovery::recover::Recovery;
use crate::table::version::head::TableHead;
use crate::table::version::reader::Reader;
use crate::table::version::snapshot::Snapshot;
use crate::wal::WalError;

/// Unused objects that are held in memory at once; so many are judged and deleted before the listing
/// goes on.
const CANDIDATES: usize = 100_000;

/// Objects of one bulk delete: what S3 takes in one request.
const PIECE: usize = 1_000;

/// Fences that may be lost to other writers in a row. Each loss is a commit of theirs.
const FENCES: usize = 64;

/// What no version refers to stays for so long, unless versions are retained for less. No safety argument: it
/// only keeps an eye open for objects that were put there by hand.
const GRACE: Duration = Duration::from_secs(60 * 60);

/// How a vacuum is to be carried out.
#[derive(Clone, Copy, Debug)]
pub struct VacuumOptions {
    /// Versions that were current within this time stay readable. Less than a few minutes is for tables that
    /// are at rest: a statement that is still reading an older version then finds its files gone, and one
    /// that another process committed for it may be told that its outcome is unknown.
    pub retain: Duration,
    /// Delete nothing; report what would be deleted.
    pub dry_run: bool,
}

impl Default for VacuumOptions {
    fn default() -> Self {
        Self {
            retain: Duration::from_secs(7 * 24 * 60 * 60),
            dry_run: false,
        }
    }
}

/// The parts of a table that a vacuum works with.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'t> {
    pub(crate) context: &'t Context,
    pub(crate) head: &'t TableHead,
    pub(crate) reader: &'t Reader,
    pub(crate) recovery: &'t Arc<Recovery>,
}

/// Deletes what no retained version refers to, and ends what dead writers began.
///
/// # Errors
/// The store's; `Corrupt` if a retained version cannot be read, and then nothing was deleted for it.
#[tracing::instrument(level = "debug", name = "vacuum", skip_all, fields(dry_run = options.dry_run))]
pub(crate) async fn vacuum(parts: Parts<'_>, options: VacuumOptions) -> Result<VacuumReport> {
    Vacuum::begin(parts, options).await?.run().await
}

struct Vacuum<'t> {
    parts: Parts<'t>,
    options: VacuumOptions,
    report: VacuumReport,
    referenced: Referenced,
    /// The newest version that is marked.
    marked: Arc<Snapshot>,
    /// The roots that the oldest retained version names, the oldest first, its parent last. All ways to older versions
    /// lead through them.
    beyond: Vec<ContentHash>,
    born_before_ms: Option<i64>,
}

impl<'t> Vacuum<'t> {
    /// Ends dead mutations, and marks what is retained.
    async fn begin(parts: Parts<'t>, options: VacuumOptions) -> Result<Self> {
        let mut report = VacuumReport {
            dry_run: options.dry_run,
            ..VacuumReport::default()
        };
        if !options.dry_run {
            let recovered = parts.recovery.recover().await?;
            report.wal_objects = (recovered.retired.len()
                + recovered.undone.len()
                + recovered.conflicting.len()
                + recovered.committed.len()
                + recovered.orphans.len()
                + recovered.left_to_vacuum.len()) as u64;
        }
        let documents = Documents::read(parts.context).await?;
        let marked = parts.head.refresh().await?.snapshot;
        let documents = documents.in_flight(&marked);
        if options.dry_run {
            report.wal_objects = documents.ended;
        }
        let now = parts.context.env.now_ms();
        let ago = |time: Duration| {
            now.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
        };
        let grace = GRACE.min(options.retain);
        let retention = Retention {
            cutoff_ms: ago(options.retain),
            oldest_base: documents.oldest_base(),
        };
        let mut vacuum = Self {
            parts,
            options,
            report,
            referenced: Referenced::default(),
            marked: Arc::clone(&marked),
            beyond: Vec::new(),
            born_before_ms: (!grace.is_zero()).then(|| ago(grace)),
        };
        vacuum.mark_retained(retention).await?;
        Ok(vacuum)
    }

    async fn run(mut self) -> Result<VacuumReport> {
        if !self.beyond.is_empty() && !self.options.dry_run {
            // The cut: once all of these are gone, the older versions are out of everybody's reach. One by one, and
            // the parent last: if this is cut off, the next vacuum still finds its way to what was not cut.
            for root in std::mem::take(&mut self.beyond) {
                let path = paths::manifest_node(&root);
                let bytes = self.parts.context.storage.get(&path).await?;
                self.parts.context.storage.delete(&path).await?;
                if let Some((bytes, _)) = bytes {
                    self.report.manifest_nodes.add(bytes.len() as u64);
                }
            }
            self.parts.reader.forget_nodes();
        }
        for prefix in [paths::manifest_prefix(), paths::superfile_prefix()] {
            let mut objects = self.parts.context.storage.list(Some(&prefix));
            loop {
                let candidates = self.next_candidates(&mut objects).await?;
                if candidates.is_empty() {
                    break;
                }
                self.remove(candidates).await?;
            }
        }
        tracing::info!(report = %self.report, "vacuumed");
        Ok(self.report)
    }

    /// Marks the current version and those before it that are retained.
    async fn mark_retained(&mut self, retention: Retention) -> Result<()> {
        let current = Arc::clone(&self.marked);
        self.referenced.mark(current.root(), current.manifest());
        self.report.current_version = current.version();
        self.report.oldest_version = current.version();
        let mut newer = current.manifest().clone();
        while let Some(root) = newer.header().parent {
            let header = match self.parts.reader.header(&root).await {
                Ok(header) => header,
                // An earlier vacuum cut here.
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            if header.version >= newer.version() {
                return Err(not_a_history(root));
            }
            if !retention.keeps(header.version, newer.header().created_at_ms) {
                let ancestors = newer.header().ancestors().into_iter();
                self.beyond = ancestors.map(|(_, root)| root).collect();
                break;
            }
            let version = self.parts.reader.manifest(&root, Some(&newer)).await?;
            self.referenced.mark(root, &version);
            self.report.oldest_version = header.version;
            newer = version;
        }
        Ok(())
    }

    /// Reads the pointer, and marks the versions that came since.
    async fn mark_newer(&mut self) -> Result<()> {
        let tip = self.parts.head.refresh().await?.snapshot;
        let since = self.marked.version();
        self.referenced.mark(tip.root(), tip.manifest());
        let mut newer = tip.manifest().clone();
        while newer.version() > since + 1 {
            let Some(root) = newer.header().parent else {
                return Err(not_a_history(tip.root()));
            };
            let version = self.parts.reader.manifest(&root, Some(&newer)).await?;
            if version.version() >= newer.version() {
                return Err(not_a_history(root));
            }
            self.referenced.mark(root, &version);
            newer = version;
        }
        self.report.current_version = tip.version();
        self.marked = tip;
        Ok(())
    }

    /// The next listed objects that no known version refers to.
    async fn next_candidates(
        &self,
        objects: &mut (impl Stream<Item = Result<object_store::ObjectMeta, StorageError>> + Unpin),
    ) -> Result<Vec<Listed>> {
        let mut candidates = Vec::new();
        while candidates.len() < CANDIDATES {
            let Some(meta) = objects.try_next().await? else {
                break;
            };
            let Some(name) = paths::parse(&meta.location) else {
                continue;
            };
            if !self.referenced.contains(&name) {
                candidates.push(Listed {
                    name,
                    size: meta.size,
                    modified_ms: meta.last_modified.timestamp_millis(),
                });
            }
        }
        Ok(candidates)
    }

    /// Judges objects that were listed before this call, and deletes the garbage.
    async fn remove(&mut self, candidates: Vec<Listed>) -> Result<()> {
        let documents = Documents::read(self.parts.context).await?;
        self.mark_newer().await?;
        let in_flight = documents.in_flight(&self.marked);
        self.report.unreadable_documents = in_flight.unreadable;
        if in_flight.may_have_drafts() && !self.options.dry_run {
            self.fence().await?;
        }
        let mut garbage = Vec::new();
        for object in &candidates {
            let disposition = judge(object, &self.referenced, &in_flight, self.born_before_ms);
            match disposition {
                Disposition::InUse => {}
                Disposition::InFlight => self.report.in_flight.add(object.size),
                Disposition::Young => self.report.young.add(object.size),
                Disposition::Garbage(kind) => garbage.push((kind, object)),
            }
        }
        let total = garbage.len();
        for (piece, objects) in garbage.chunks(PIECE).enumerate() {
            if !self.options.dry_run {
                let paths = objects.iter().map(|(_, object)| object.name.path());
                self.parts
                    .context
                    .storage
                    .delete_all(paths.collect())
                    .await?;
            }
            for (kind, object) in objects {
                self.report.of_kind(*kind).add(object.size);
            }
            tracing::info!(
                target: PROGRESS,
                operation = "vacuum",
                done = piece * PIECE + objects.len(),
                total,
                bytes = self.report.removed().bytes,
            );
        }
        Ok(())
    }

    /// Rewrites the pointer with the same content and a new nonce, so that nothing that was drafted before
    /// can be swung to any more. A swing of another writer that comes first is as good once it is marked.
    async fn fence(&mut self) -> Result<()> {
        for _ in 0..FENCES {
            if self.parts.head.rewrite(&self.marked).await? {
                return Ok(());
            }
            self.mark_newer().await?;
        }
        Err(Error::new(
            ErrorKind::Conflict,
            paths::pointer().as_ref(),
            "other writers commit too fast for a vacuum; it can be run again, and goes on where it stopped",
        ))
    }
}

/// The WAL documents at one moment. One that vanishes meanwhile is of a mutation that has ended.
struct Documents {
    readable: Vec<StateDoc>,
    unreadable: Vec<WalId>,
}

impl Documents {
    async fn read(context: &Context) -> Result<Self> {
        let ids = context.wal.list_wal_ids().await?;
        let mut reads = futures::stream::iter(ids)
            .map(|id| async move { (id, context.wal.read(&id).await) })
            .buffer_unordered(context.limits.concurrency);
        let mut documents = Self {
            readable: Vec::new(),
            unreadable: Vec::new(),
        };
        while let Some((id, read)) = reads.next().await {
            match read {
                Ok((doc, _)) => documents.readable.push(doc),
                Err(WalError::NotFound { .. }) => {}
                Err(error @ WalError::Storage(_)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(wal_id = %id, %error, "a WAL document cannot be read");
                    documents.unreadable.push(id);
                }
            }
        }
        Ok(documents)
    }

    /// What is under way, seen from a version whose pointer was read after the documents.
    fn in_flight(&self, version: &Snapshot) -> InFlight {
        let mut in_flight = InFlight::default();
        for doc in &self.readable {
            in_flight.add(doc, version.record(&doc.wal_id).is_some());
        }
        for id in &self.unreadable {
            in_flight.add_unreadable(created_at_ms(id));
        }
        in_flight
    }
}

fn created_at_ms(id: &WalId) -> i64 {
    i64::try_from(id.millis()).unwrap_or(i64::MAX)
}

fn not_a_history(root: ContentHash) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        ObjectName::ManifestNode(root).path().as_ref(),
        "the versions of the table do not follow one another; nothing is deleted",
    )
}
