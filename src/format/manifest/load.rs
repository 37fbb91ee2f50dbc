//! Loading a manifest: which nodes to fetch, and what becomes of them. No I/O.
//!
//! Owns the order of loading: the root, then its groups, then their leaves; nodes that a manifest
//! in hand has already are taken from it. Does not own fetching: the caller fetches what
//! [`ManifestLoader::wanted`] names (all of it side by side), gives it to
//! [`ManifestLoader::supply`], and asks again until nothing is wanted. That takes at most two
//! rounds after the root.
//!
//! Invariant: every node's bytes are checked against the hash by which it was asked for.
//!
//! ```ignore
//! let mut loader = ManifestLoader::new(&pointer.manifest, &root_bytes, cached)?;
//! loop {
//!     let wanted = loader.wanted();
//!     if wanted.is_empty() { break loader.finish()? }
//!     for (hash, bytes) in fetch_all(wanted).await? { loader.supply(&hash, &bytes)?; }
//! }
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::NodeRef;
use super::error::ManifestError;
use super::header::ManifestHeader;
use super::tree::{Group, Leaf, Manifest};
use super::{shape, wire};
use crate::format::ids::ContentHash;

/// A manifest on its way from bytes. See the module's documentation.
#[derive(Debug)]
pub struct ManifestLoader {
    root: ContentHash,
    header: ManifestHeader,
    groups: Vec<GroupState>,
    /// Where the bytes of a wanted node go. One node may be wanted in several places only if two
    /// subtrees are equal, which the order of ids rules out.
    wanted: HashMap<ContentHash, NodePosition>,
    known_leaves: HashMap<ContentHash, Arc<Leaf>>,
}

#[derive(Clone, Copy, Debug)]
enum NodePosition {
    Group(usize),
    Leaf(usize, usize),
}

#[derive(Debug)]
enum GroupState {
    Done(Arc<Group>),
    Wanted(NodeRef),
    Leaves(NodeRef, Vec<LeafState>),
}

#[derive(Debug)]
enum LeafState {
    Done(Arc<Leaf>),
    Wanted(NodeRef),
}

impl ManifestLoader {
    /// Starts with the root's bytes, which must hash to `root`. `known` is a manifest whose nodes
    /// can be used again, an earlier version for one.
    ///
    /// # Errors
    /// [`ManifestError`] when the bytes are not that root.
    pub fn new(
        root: &ContentHash,
        bytes: &[u8],
        known: Option<&Manifest>,
    ) -> Result<Self, ManifestError> {
        let (header, groups) = wire::decode_root(bytes, root)?;
        let mut known_groups = HashMap::new();
        let mut known_leaves = HashMap::new();
        for group in known.map_or(&[][..], Manifest::groups) {
            if let Some(hash) = group.hash() {
                known_groups.insert(hash, group);
            }
        }
        let mut wanted = HashMap::new();
        let mut slots = Vec::with_capacity(groups.len());
        for (i, node) in groups.into_iter().enumerate() {
            match known_groups.remove(&node.hash) {
                Some(group) => slots.push(GroupState::Done(Arc::clone(group))),
                None => {
                    wanted.insert(node.hash, NodePosition::Group(i));
                    slots.push(GroupState::Wanted(node));
                }
            }
        }
        // Leaves of groups that are no longer there as a whole may still be in new groups.
        for leaf in known_groups.into_values().flat_map(|g| g.leaves()) {
            if let Some(hash) = leaf.hash() {
                known_leaves.insert(hash, Arc::clone(leaf));
            }
        }
        Ok(Self {
            root: *root,
            header,
            groups: slots,
            wanted,
            known_leaves,
        })
    }

    /// What the version says of itself; known as soon as the root is.
    pub fn header(&self) -> &ManifestHeader {
        &self.header
    }

    /// The nodes to fetch now; empty: [`finish`](Self::finish).
    pub fn wanted(&self) -> Vec<ContentHash> {
        self.wanted.keys().copied().collect()
    }

    /// Takes the bytes of a wanted node.
    ///
    /// # Errors
    /// [`ManifestError`] when the bytes are not that node, or it was not wanted.
    pub fn supply(&mut self, hash: &ContentHash, bytes: &[u8]) -> Result<(), ManifestError> {
        let not_asked_for = || ManifestError::NotAskedFor { node: *hash };
        let place = *self.wanted.get(hash).ok_or_else(not_asked_for)?;
        match place {
            NodePosition::Group(i) => {
                let slot = self.groups.get_mut(i).ok_or_else(not_asked_for)?;
                let GroupState::Wanted(node) = *slot else {
                    return Err(not_asked_for());
                };
                let mut leaves = Vec::new();
                for (j, leaf) in wire::decode_group(bytes, &node)?.into_iter().enumerate() {
                    match self.known_leaves.get(&leaf.hash) {
                        Some(known) => leaves.push(LeafState::Done(Arc::clone(known))),
                        None => {
                            self.wanted.insert(leaf.hash, NodePosition::Leaf(i, j));
                            leaves.push(LeafState::Wanted(leaf));
                        }
                    }
                }
                *slot = GroupState::Leaves(node, leaves);
            }
            NodePosition::Leaf(i, j) => {
                let Some(GroupState::Leaves(_, leaves)) = self.groups.get_mut(i) else {
                    return Err(not_asked_for());
                };
                let slot = leaves.get_mut(j).ok_or_else(not_asked_for)?;
                let LeafState::Wanted(node) = slot else {
                    return Err(not_asked_for());
                };
                *slot = LeafState::Done(Leaf::decode(bytes, node)?);
            }
        }
        self.wanted.remove(hash);
        Ok(())
    }

    /// The manifest, all of whose nodes are in the store.
    ///
    /// # Errors
    /// [`ManifestError::Incomplete`] while nodes are wanted; [`ManifestError::OutOfOrder`] when
    /// the subtrees overlap.
    pub fn finish(self) -> Result<Manifest, ManifestError> {
        let count = self.wanted.len();
        let incomplete = || ManifestError::Incomplete { count };
        let mut groups = Vec::with_capacity(self.groups.len());
        for slot in self.groups {
            groups.push(match slot {
                GroupState::Done(group) => group,
                GroupState::Wanted(_) => return Err(incomplete()),
                GroupState::Leaves(node, leaves) => {
                    let leaves = leaves
                        .into_iter()
                        .map(|leaf| match leaf {
                            LeafState::Done(leaf) => Ok(leaf),
                            LeafState::Wanted(_) => Err(incomplete()),
                        })
                        .collect::<Result<Vec<_>, _>>()?;
                    Group::stored(&node, leaves)
                }
            });
        }
        let manifest = Manifest::stored(self.root, self.header, groups);
        shape::check_order(manifest.entries().map(|e| e.id))?;
        Ok(manifest)
    }
}
