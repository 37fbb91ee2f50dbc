//! The tree of one version's superfiles: root → groups → leaves, immutable and shared.
//!
//! Owns the shape, lookups and what must be uploaded. Does not own editing (`edit`), the bytes
//! (`wire`) or loading (`load`).
//!
//! ```text
//! root    header and references to groups (as many as it takes)
//! group   1 to 64 references to leaves
//! leaf    1 to 64 entries, sorted by superfile id
//! ```
//!
//! Ids are time-ordered, so what is added goes to the end: the last leaf of the last group is
//! rewritten until it is full. One change rewrites one leaf, one group and the root, whatever
//! the size of the table; the root grows by about 60 bytes for every 4,096 superfiles.
//!
//! Invariant: the entries, in the order of the tree, ascend strictly by id; no node below the
//! root is empty or overfull; a node that is marked persisted is in the store, and so are its
//! descendants.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use uuid::Uuid;

use super::entry::{NodeRef, SuperfileEntry, Totals};
use super::error::ManifestError;
use super::header::ManifestHeader;
use super::wire;
use crate::format::ids::{ContentHash, SuperfileId};
use crate::format::stats::{RowStats, SuperfileStats};

/// What a node is called, once that is known, and whether it is in the store.
#[derive(Debug, Default)]
struct Identity {
    hash: OnceLock<ContentHash>,
    persisted: AtomicBool,
}

impl Identity {
    fn stored(hash: ContentHash) -> Self {
        Self {
            hash: OnceLock::from(hash),
            persisted: AtomicBool::new(true),
        }
    }

    fn is_persisted(&self) -> bool {
        self.persisted.load(Ordering::Acquire)
    }

    fn mark_persisted(&self) {
        self.persisted.store(true, Ordering::Release);
    }
}

/// A leaf: entries.
#[derive(Debug)]
pub struct Leaf {
    entries: Vec<Arc<SuperfileEntry>>,
    first: SuperfileId,
    totals: Totals,
    /// The youngest `added_at` of its entries.
    added_at: u64,
    /// What holds for the rows of all its entries; computed when it is first asked for.
    stats: OnceLock<SuperfileStats>,
    /// Sets the node's name apart from all others; nil in stored nodes, whose name is known.
    salt: Uuid,
    identity: Identity,
}

/// A group: leaves.
#[derive(Debug)]
pub struct Group {
    leaves: Vec<Arc<Leaf>>,
    first: SuperfileId,
    totals: Totals,
    /// The youngest `added_at` of its entries.
    added_at: u64,
    /// What holds for the rows of all its entries; computed when it is first asked for.
    stats: OnceLock<SuperfileStats>,
    /// Sets the node's name apart from all others; nil in stored nodes, whose name is known.
    salt: Uuid,
    identity: Identity,
}

impl Leaf {
    /// A new leaf, not yet stored; `None` if there are no entries.
    pub(super) fn new(
        entries: Vec<Arc<SuperfileEntry>>,
        salt: Uuid,
    ) -> Result<Option<Arc<Self>>, ManifestError> {
        let Some(first) = entries.first().map(|e| e.id) else {
            return Ok(None);
        };
        let totals = Totals::sum(entries.iter().map(|e| Totals::of(e)))
            .ok_or(ManifestError::TotalsOverflow)?;
        Ok(Some(Arc::new(Self {
            added_at: youngest(&entries),
            entries,
            first,
            totals,
            stats: OnceLock::new(),
            salt,
            identity: Identity::default(),
        })))
    }

    /// The leaf that `bytes` hold.
    pub(super) fn decode(bytes: &[u8], node: &NodeRef) -> Result<Arc<Self>, ManifestError> {
        let entries = wire::decode_leaf(bytes, node)?;
        Ok(Arc::new(Self {
            added_at: youngest(&entries),
            entries,
            first: node.first,
            totals: node.totals,
            stats: OnceLock::new(),
            salt: Uuid::nil(),
            identity: Identity::stored(node.hash),
        }))
    }

    /// The entries, by ascending id.
    pub fn entries(&self) -> &[Arc<SuperfileEntry>] {
        &self.entries
    }

    /// The smallest id.
    pub fn first(&self) -> SuperfileId {
        self.first
    }

    /// Sums over the entries.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What is known of the rows of its entries.
    pub(crate) fn row_stats(&self) -> RowStats<'_> {
        let all = || SuperfileStats::of_all(self.entries.iter().map(|entry| entry.row_stats()));
        RowStats {
            columns: self.stats.get_or_init(all),
            rows: self.totals.rows,
        }
    }

    /// The leaf's name, if it has been encoded or decoded.
    pub fn hash(&self) -> Option<ContentHash> {
        self.identity.hash.get().copied()
    }

    fn reference(&self, new: &mut NewNodes) -> Result<NodeRef, ManifestError> {
        let hash = self
            .identity
            .name(new, || wire::encode_leaf(&self.entries, self.salt))?;
        Ok(NodeRef {
            hash,
            first: self.first,
            totals: self.totals,
        })
    }
}

impl Group {
    /// A new group, not yet stored; `None` if there are no leaves.
    pub(super) fn new(
        leaves: Vec<Arc<Leaf>>,
        salt: Uuid,
    ) -> Result<Option<Arc<Self>>, ManifestError> {
        let Some(first) = leaves.first().map(|l| l.first) else {
            return Ok(None);
        };
        let totals =
            Totals::sum(leaves.iter().map(|l| l.totals)).ok_or(ManifestError::TotalsOverflow)?;
        Ok(Some(Arc::new(Self {
            added_at: youngest_below(&leaves),
            leaves,
            first,
            totals,
            stats: OnceLock::new(),
            salt,
            identity: Identity::default(),
        })))
    }

    /// The stored group `node`, with its leaves.
    pub(super) fn stored(node: &NodeRef, leaves: Vec<Arc<Leaf>>) -> Arc<Self> {
        Arc::new(Self {
            added_at: youngest_below(&leaves),
            leaves,
            first: node.first,
            totals: node.totals,
            stats: OnceLock::new(),
            salt: Uuid::nil(),
            identity: Identity::stored(node.hash),
        })
    }

    /// The leaves, by ascending ids.
    pub fn leaves(&self) -> &[Arc<Leaf>] {
        &self.leaves
    }

    /// The smallest id.
    pub fn first(&self) -> SuperfileId {
        self.first
    }

    /// Sums over the entries.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What is known of the rows of its entries.
    pub(crate) fn row_stats(&self) -> RowStats<'_> {
        let all = || SuperfileStats::of_all(self.leaves.iter().map(|leaf| leaf.row_stats()));
        RowStats {
            columns: self.stats.get_or_init(all),
            rows: self.totals.rows,
        }
    }

    /// The group's name, if it has been encoded or decoded.
    pub fn hash(&self) -> Option<ContentHash> {
        self.identity.hash.get().copied()
    }

    fn reference(&self, new: &mut NewNodes) -> Result<NodeRef, ManifestError> {
        // A stored group's leaves are stored: there is nothing to look for below it.
        let hash = match self.identity.hash.get() {
            Some(hash) if self.identity.is_persisted() => *hash,
            _ => {
                let leaves = self
                    .leaves
                    .iter()
                    .map(|leaf| leaf.reference(new))
                    .collect::<Result<Vec<_>, _>>()?;
                self.identity
                    .name(new, || wire::encode_group(&leaves, self.salt))?
            }
        };
        Ok(NodeRef {
            hash,
            first: self.first,
            totals: self.totals,
        })
    }
}

type NewNodes = Vec<(ContentHash, Bytes)>;

impl Identity {
    /// The node's name. A node that is not known to be stored goes to `new`.
    fn name(
        &self,
        new: &mut NewNodes,
        encode: impl FnOnce() -> Result<(ContentHash, Bytes), ManifestError>,
    ) -> Result<ContentHash, ManifestError> {
        if let Some(hash) = self.hash.get()
            && self.is_persisted()
        {
            return Ok(*hash);
        }
        let (hash, bytes) = encode()?;
        new.push((hash, bytes));
        Ok(*self.hash.get_or_init(|| hash))
    }
}

/// A manifest's bytes: its name, and the objects that must be in the store before a pointer may
/// name it.
#[derive(Clone, Debug)]
pub struct EncodedManifest {
    /// The root's hash, for the pointer.
    pub root: ContentHash,
    /// The nodes that are not known to be stored, the root included, each with its name.
    pub new_nodes: Vec<(ContentHash, Bytes)>,
}

impl EncodedManifest {
    /// The length of all new nodes together.
    pub fn new_bytes(&self) -> u64 {
        self.new_nodes.iter().map(|(_, b)| b.len() as u64).sum()
    }
}

/// One version: its header and its superfiles. Cheap to clone; versions share what they have in
/// common.
#[derive(Clone, Debug)]
pub struct Manifest {
    header: Arc<ManifestHeader>,
    groups: Vec<Arc<Group>>,
    salt: Uuid,
    root: Arc<Identity>,
}

impl Manifest {
    /// A version without superfiles.
    pub fn empty(header: ManifestHeader) -> Self {
        Self {
            header: Arc::new(ManifestHeader {
                totals: Totals::default(),
                ..header
            }),
            groups: Vec::new(),
            salt: Uuid::nil(),
            root: Arc::default(),
        }
    }

    /// A version with these groups, not yet stored. The header's totals are computed.
    pub(super) fn new(
        header: ManifestHeader,
        groups: Vec<Arc<Group>>,
        salt: Uuid,
    ) -> Result<Self, ManifestError> {
        let totals =
            Totals::sum(groups.iter().map(|g| g.totals)).ok_or(ManifestError::TotalsOverflow)?;
        Ok(Self {
            header: Arc::new(ManifestHeader { totals, ..header }),
            groups,
            salt,
            root: Arc::default(),
        })
    }

    /// A version as it is stored under `root`.
    pub(super) fn stored(
        root: ContentHash,
        header: ManifestHeader,
        groups: Vec<Arc<Group>>,
    ) -> Self {
        Self {
            header: Arc::new(header),
            groups,
            salt: Uuid::nil(),
            root: Arc::new(Identity::stored(root)),
        }
    }

    /// What the version says of itself and of the table.
    pub fn header(&self) -> &ManifestHeader {
        &self.header
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.header.version
    }

    /// Sums over the superfiles.
    pub fn totals(&self) -> Totals {
        self.header.totals
    }

    /// The groups, by ascending ids.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// All superfiles, by ascending id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<SuperfileEntry>> {
        self.groups
            .iter()
            .flat_map(|group| &group.leaves)
            .flat_map(|leaf| &leaf.entries)
    }

    /// The superfiles into which rows came after a version, other than by a compaction.
    pub(crate) fn added_after(&self, version: u64) -> impl Iterator<Item = &Arc<SuperfileEntry>> {
        (self.groups.iter().filter(move |g| g.added_at > version))
            .flat_map(move |g| g.leaves.iter().filter(move |l| l.added_at > version))
            .flat_map(move |l| l.entries.iter().filter(move |e| e.added_at > version))
    }

    /// The superfile with this id.
    pub fn get(&self, id: &SuperfileId) -> Option<&Arc<SuperfileEntry>> {
        let group = self
            .groups
            .get(last_not_above(&self.groups, |g| g.first, id)?)?;
        let leaf = group
            .leaves
            .get(last_not_above(&group.leaves, |l| l.first, id)?)?;
        let at = leaf.entries.binary_search_by(|e| e.id.cmp(id)).ok()?;
        leaf.entries.get(at)
    }

    /// The index of the superfile with this id among [`Self::entries`].
    pub(crate) fn index_of(&self, id: &SuperfileId) -> Option<usize> {
        let group_at = last_not_above(&self.groups, |g| g.first, id)?;
        let leaves = &self.groups.get(group_at)?.leaves;
        let leaf_at = last_not_above(leaves, |l| l.first, id)?;
        let leaf = leaves.get(leaf_at)?;
        let before = (self
            .groups
            .iter()
            .take(group_at)
            .map(|g| g.totals.superfiles))
        .chain(leaves.iter().take(leaf_at).map(|l| l.totals.superfiles));
        let at = leaf.entries.binary_search_by(|e| e.id.cmp(id)).ok()?;
        usize::try_from(before.sum::<u64>()).ok()?.checked_add(at)
    }

    /// The superfile at this index of [`Self::entries`].
    pub(crate) fn nth(&self, index: usize) -> Option<&Arc<SuperfileEntry>> {
        let mut rest = u64::try_from(index).ok()?;
        let mut here = |superfiles: u64| {
            let is_here = rest < superfiles;
            rest -= if is_here { 0 } else { superfiles };
            is_here
        };
        let group = self.groups.iter().find(|g| here(g.totals.superfiles))?;
        let leaf = group.leaves.iter().find(|l| here(l.totals.superfiles))?;
        leaf.entries.get(usize::try_from(rest).ok()?)
    }

    /// The root's hash, if the manifest has been encoded or was loaded.
    pub fn hash(&self) -> Option<ContentHash> {
        self.root.hash.get().copied()
    }

    /// The manifest's name, and the nodes that have to be uploaded before it is used.
    ///
    /// # Errors
    /// [`ManifestError`] when the schema's field ids are wrong, or a node exceeds 4 GiB.
    pub fn encode(&self) -> Result<EncodedManifest, ManifestError> {
        let mut new_nodes = Vec::new();
        let groups = self
            .groups
            .iter()
            .map(|group| group.reference(&mut new_nodes))
            .collect::<Result<Vec<_>, _>>()?;
        let root = self.root.name(&mut new_nodes, || {
            wire::encode_root(&self.header, &groups, self.salt)
        })?;
        Ok(EncodedManifest { root, new_nodes })
    }

    /// Notes that all nodes are in the store, so that later versions do not upload them again.
    /// To be called when the pointer names this manifest, and not before: nodes of a manifest
    /// that nothing names may be swept away.
    pub fn mark_persisted(&self) {
        for group in &self.groups {
            if group.identity.is_persisted() {
                continue;
            }
            for leaf in &group.leaves {
                leaf.identity.mark_persisted();
            }
            group.identity.mark_persisted();
        }
        self.root.mark_persisted();
    }
}

fn youngest(entries: &[Arc<SuperfileEntry>]) -> u64 {
    entries.iter().map(|e| e.added_at).max().unwrap_or_default()
}

fn youngest_below(leaves: &[Arc<Leaf>]) -> u64 {
    leaves.iter().map(|l| l.added_at).max().unwrap_or_default()
}

/// Where the last of `nodes` whose first id is not above `id` stands: the only one that can hold it.
fn last_not_above<T>(
    nodes: &[T],
    first: impl Fn(&T) -> SuperfileId,
    id: &SuperfileId,
) -> Option<usize> {
    nodes
        .partition_point(|node| first(node) <= *id)
        .checked_sub(1)
}
