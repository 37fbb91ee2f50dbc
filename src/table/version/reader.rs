//! Reading the immutable objects of a table: manifest nodes, verified and cached.
//!
//! Owns: fetching and hash checks. Does not own tombstones (`sidecars`), what stays in memory (`cache`), the pointer (`head`) nor which
//! version is current.
//! Invariant: nothing enters a cache, or leaves this file, whose bytes do not hash to the name or to the hash
//! that asked for it. Reads only, so a crash leaves nothing.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::cache::TableCache;
use super::sidecars::Sidecars;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Manifest, ManifestHeader, ManifestLoader};
use crate::format::{ContentHash, FormatError, paths};
use crate::storage::Storage;
use crate::table::limits::Limits;
use crate::wal::WalStore;

/// Sidecars that one new version makes this process read ahead.
const WARM_AT_MOST: usize = 16;

/// Loads what versions consist of.
#[derive(Debug)]
pub(crate) struct Reader {
    storage: Storage,
    sidecars: Arc<Sidecars>,
    /// Nodes by their hash; `sidecars` shares it.
    cache: Arc<TableCache>,
    concurrency: usize,
}

impl Reader {
    pub(crate) fn new(storage: Storage, wal: WalStore, limits: &Limits) -> Self {
        let cache = Arc::new(limits.cache.open_table());
        Self {
            sidecars: Arc::new(Sidecars::new(storage.clone(), wal, Arc::clone(&cache))),
            storage,
            cache,
            concurrency: limits.concurrency,
        }
    }

    /// The table's tombstones.
    pub(crate) fn sidecars(&self) -> &Arc<Sidecars> {
        &self.sidecars
    }

    /// The manifest whose root has this hash. Nodes of `known` are used again.
    pub(crate) async fn manifest(
        &self,
        root: &ContentHash,
        known: Option<&Manifest>,
    ) -> Result<Manifest> {
        let bytes = self.node(root).await?;
        let mut loader =
            ManifestLoader::new(root, &bytes, known).map_err(|error| damaged(root, error))?;
        loop {
            let wanted = loader.wanted();
            if wanted.is_empty() {
                return loader.finish().map_err(|error| damaged(root, error));
            }
            let mut nodes = futures::stream::iter(wanted)
                .map(|hash| async move { Ok::<_, Error>((hash, self.node(&hash).await?)) })
                .buffer_unordered(self.concurrency);
            while let Some((hash, bytes)) = nodes.try_next().await? {
                loader
                    .supply(&hash, &bytes)
                    .map_err(|error| damaged(&hash, error))?;
            }
        }
    }

    /// Brings nodes into the cache, as far as they can be had: a reader that needs one asks again.
    pub(crate) async fn prefetch(&self, hashes: Vec<ContentHash>) {
        futures::stream::iter(hashes)
            .for_each_concurrent(self.concurrency, |hash| async move {
                if let Err(error) = self.node(&hash).await {
                    tracing::debug!(node = %hash, %error, "a manifest node cannot be read ahead");
                }
            })
            .await;
    }

    /// What the version with this root says of itself, without its superfiles.
    pub(crate) async fn header(&self, root: &ContentHash) -> Result<ManifestHeader> {
        let bytes = self.node(root).await?;
        let loader =
            ManifestLoader::new(root, &bytes, None).map_err(|error| damaged(root, error))?;
        Ok(loader.header().clone())
    }

    /// The same as the store has it now.
    pub(crate) async fn stored_header(&self, root: &ContentHash) -> Result<ManifestHeader> {
        let bytes = self.stored_node(root).await?;
        let loader =
            ManifestLoader::new(root, &bytes, None).map_err(|error| damaged(root, error))?;
        Ok(loader.header().clone())
    }

    /// Whether the store has the node now.
    pub(crate) async fn is_stored(&self, hash: &ContentHash) -> Result<bool> {
        Ok(self
            .storage
            .get(&paths::manifest_node(hash))
            .await?
            .is_some())
    }

    /// Reads ahead the tombstones that took the place of some that are in memory: a reader that used those will likely
    /// ask for these. Only what the two versions do not share is looked at.
    pub(crate) async fn keep_warm(&self, before: &Manifest, after: &Manifest) {
        let leaves = |manifest: &Manifest| -> HashSet<ContentHash> {
            let groups = manifest.groups().iter();
            groups
                .flat_map(|group| group.leaves())
                .filter_map(|leaf| leaf.hash())
                .collect()
        };
        let known = leaves(before);
        let replaced = after
            .groups()
            .iter()
            .flat_map(|group| group.leaves())
            .filter(|leaf| leaf.hash().is_none_or(|hash| !known.contains(&hash)))
            .flat_map(|leaf| leaf.entries())
            .filter_map(|entry| {
                let old = before.get(&entry.id)?.tombstones?;
                let new = entry.tombstones?;
                let is_warm = self.cache.bitmap(&old.sidecar).is_some();
                (is_warm && old.sidecar != new.sidecar).then_some(new)
            })
            .take(WARM_AT_MOST)
            .collect::<Vec<_>>();
        futures::stream::iter(replaced)
            .for_each_concurrent(self.concurrency, |tombstones| async move {
                // A reader that needs it asks again, and hears of the error.
                let _ = self.sidecars.positions(&tombstones).await;
            })
            .await;
    }

    /// Keeps a node that this process has just written.
    pub(crate) fn remember_node(&self, hash: ContentHash, bytes: Bytes) {
        self.cache.keep_node(hash, bytes);
    }

    /// Empties the cache of nodes, after some were deleted from the store.
    pub(crate) fn forget_nodes(&self) {
        self.cache.forget_nodes();
    }

    /// Gives back all that is kept for a table that was dropped.
    pub(crate) fn forget(&self) {
        self.cache.forget();
    }

    /// A node's bytes. Those from the cache were verified when they came in.
    async fn node(&self, hash: &ContentHash) -> Result<Bytes> {
        match self.cache.node(hash) {
            Some(bytes) => Ok(bytes),
            None => self.stored_node(hash).await,
        }
    }

    async fn stored_node(&self, hash: &ContentHash) -> Result<Bytes> {
        let path = paths::manifest_node(hash);
        let Some((bytes, _)) = self.storage.get(&path).await? else {
            return Err(Error::new(
                ErrorKind::NotFound,
                path.as_ref(),
                "a manifest node is missing; vacuum may have removed the version it belongs to",
            ));
        };
        if ContentHash::of(&bytes) != *hash {
            return Err(Error::new(
                ErrorKind::Corrupt,
                path.as_ref(),
                "the bytes do not hash to the node's name",
            ));
        }
        self.remember_node(*hash, bytes.clone());
        Ok(bytes)
    }
}

fn damaged(node: &ContentHash, error: impl Into<FormatError>) -> Error {
    error.into().at(&paths::manifest_node(node))
}
