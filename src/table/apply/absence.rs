//! Whether a key that a change set found absent may have been added since its base.
//!
//! Owns what `apply` knows of added keys: that of the manifest, and that of the change sets that the draft took in. Does
//! not own when two of them may share a key (`format::keys`).
//!
//! Invariant: what may have been added once may have been added for ever. A superfile that is dropped leaves
//! bounds of its rows behind; a restore conflicts whatever it brings.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::change_set::ChangeSet;
use crate::format::ids::SuperfileId;
use crate::format::keys::{AbsentKeys, AddedKeys, DroppedRows, kept_keys};
use crate::format::manifest::{Manifest, SuperfileEntry};
use crate::format::state_doc::OpKind;

/// The keys that change sets added, by version and by superfile.
pub(super) struct Additions {
    keys: Vec<Arc<AddedKeys>>,
    by_superfile: BTreeMap<SuperfileId, Vec<Arc<AddedKeys>>>,
}

impl Additions {
    /// Those that a version knows.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let mut additions = Self {
            keys: Vec::new(),
            by_superfile: BTreeMap::new(),
        };
        for keys in &manifest.header().added_keys {
            additions.push(Arc::clone(keys));
        }
        additions
    }

    fn push(&mut self, keys: Arc<AddedKeys>) {
        for superfile in &keys.superfiles {
            let of_superfile = self.by_superfile.entry(*superfile).or_default();
            of_superfile.push(Arc::clone(&keys));
        }
        self.keys.push(keys);
    }

    /// Remembers what a change set of this version says of the keys that it adds.
    pub(super) fn take(&mut self, change_set: &ChangeSet, version: u64) {
        for keys in &change_set.absent_keys {
            let superfiles = change_set.add.iter().map(|entry| entry.id);
            // Statistics tell as much of a superfile with one key.
            let has_one_key = |entry: &SuperfileEntry| keys.only_key(&entry.stats).is_some();
            if !change_set.add.iter().all(has_one_key) {
                let added = keys.added(version, superfiles);
                added.into_iter().for_each(|keys| self.push(Arc::new(keys)));
            }
        }
    }

    /// The superfile that may hold one of `keys` in a row that came after version `base`: one of the manifest, or of
    /// those that the draft adds.
    pub(super) fn holder(
        &self,
        keys: &AbsentKeys,
        base: u64,
        manifest: &Manifest,
        added: &BTreeMap<SuperfileId, SuperfileEntry>,
    ) -> Option<SuperfileId> {
        let old = manifest.added_after(base).map(Arc::as_ref);
        let new = added.values().filter(|entry| entry.added_at > base);
        old.chain(new)
            .find(|entry| self.may_hold(entry, keys))
            .map(|entry| entry.id)
    }

    fn may_hold(&self, entry: &SuperfileEntry, keys: &AbsentKeys) -> bool {
        if !keys.may_be_in(&entry.stats, entry.rows) {
            return false;
        }
        // Others may have written a value of the column's type in another one.
        let only = keys.only_key(&entry.stats);
        if let Some(only) = only.filter(|_| entry.external.is_none()) {
            return keys.may_have(only);
        }
        let mut added = self.by_superfile.get(&entry.id).into_iter().flatten();
        added.all(|added| keys.may_share(added))
    }

    /// What version `version` is to remember.
    pub(super) fn kept(self, version: u64) -> Vec<Arc<AddedKeys>> {
        kept_keys(version, self.keys)
    }
}

/// Whether a superfile that was dropped held rows younger than version `base`, and maybe one of `keys`.
pub(super) fn was_dropped(keys: &AbsentKeys, base: u64, manifest: &Manifest) -> bool {
    (manifest.header().dropped.iter())
        .any(|dropped| dropped.added_at > base && keys.may_have_been_in(dropped))
}

/// The version in which the youngest rows of what a change set adds came.
pub(super) fn added_at(change_set: &ChangeSet, manifest: &Manifest, version: u64) -> u64 {
    if change_set.op != OpKind::Compact {
        return version;
    }
    // A source that is gone left no row that still lives.
    let dropped = change_set.drop.iter().map(|change| change.superfile);
    let sources = dropped.chain(change_set.tombstone.iter().map(|change| change.superfile));
    let added_at = sources.filter_map(|id| Some(manifest.get(&id)?.added_at));
    added_at.max().unwrap_or_default()
}

/// What a version is to know of dropped superfiles, of which it drops `now`.
pub(super) fn dropped_rows<'e>(
    manifest: &Manifest,
    now: impl Iterator<Item = &'e SuperfileEntry>,
) -> Vec<DroppedRows> {
    let mut all = manifest.header().dropped.clone();
    let now = now.map(|e| DroppedRows::of(&e.stats, e.rows, e.added_at));
    // Those of one version are mostly neighbours: sources of a compaction, files that one statement emptied.
    let joined = now.reduce(|mut all, it| {
        all.join(&it);
        all
    });
    all.extend(joined);
    DroppedRows::at_most(all)
}
