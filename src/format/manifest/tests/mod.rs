//! Tests of the manifest: the tree against a model, its cost, damage, and what must hold between
//! versions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod cost;
mod damage;
mod invariants;
mod model;
mod schemas;
mod select;

use std::collections::HashMap;

use bytes::Bytes;

use super::{EncodedManifest, Manifest, ManifestError, ManifestLoader};
use crate::format::ids::ContentHash;

/// A store of manifest nodes.
#[derive(Default)]
struct Nodes(HashMap<ContentHash, Bytes>);

impl Nodes {
    fn put(&mut self, encoded: &EncodedManifest) {
        self.0.extend(encoded.new_nodes.iter().cloned());
    }

    fn load(
        &self,
        root: &ContentHash,
        known: Option<&Manifest>,
    ) -> Result<(Manifest, usize), ManifestError> {
        let mut loader = ManifestLoader::new(root, &self.0[root], known)?;
        let (mut rounds, mut fetched) = (0, 1);
        loop {
            let wanted = loader.wanted();
            if wanted.is_empty() {
                assert!(rounds <= 2, "more than two rounds");
                return Ok((loader.finish()?, fetched));
            }
            rounds += 1;
            fetched += wanted.len();
            for hash in wanted {
                loader.supply(&hash, &self.0[&hash])?;
            }
        }
    }
}
