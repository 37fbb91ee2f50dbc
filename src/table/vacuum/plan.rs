//! What is garbage: the decisions of a vacuum, over values.
//!
//! Owns which versions are retained, what they refer to, what live mutations protect, and the disposition
//! of one listed object. Does not own the order of steps that makes the disposition safe (see
//! [`super`]), nor any I/O.
//!
//! Invariant: an object that a marked version refers to is never garbage, nor one that lies in the id
//! block of a live mutation. Memory: 16 or 32 bytes for each object that is referred to.

use std::collections::HashSet;

use uuid::Uuid;

use crate::format::ids::{ContentHash, IdBlock, SidecarId, SuperfileId};
use crate::format::manifest::Manifest;
use crate::format::paths::ObjectName;
use crate::format::state_doc::{OpKind, StateDoc, WalState};

/// What is older than a document that cannot be read by so much cannot be that mutation's.
const BEFORE_UNREADABLE_MS: i64 = 24 * 60 * 60 * 1000;

/// Which versions are kept beside the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Versions that were current after this moment are kept: milliseconds since the Unix epoch.
    pub cutoff_ms: i64,
    /// The oldest version that a live mutation reads.
    pub oldest_base: Option<u64>,
}

impl Retention {
    /// Whether `version` is kept, which was current until its successor was created.
    pub(crate) fn keeps(&self, version: u64, successor_created_at_ms: i64) -> bool {
        successor_created_at_ms > self.cutoff_ms
            || self.oldest_base.is_some_and(|base| version >= base)
    }
}

/// What the retained versions refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Referenced {
    nodes: HashSet<ContentHash>,
    superfiles: HashSet<SuperfileId>,
    sidecars: HashSet<SidecarId>,
}

impl Referenced {
    /// Takes in a stored version. What it shares with one that was taken in before is not looked at again.
    pub(crate) fn mark(&mut self, root: ContentHash, manifest: &Manifest) {
        self.nodes.insert(root);
        for group in manifest.groups() {
            if group.hash().is_some_and(|hash| !self.nodes.insert(hash)) {
                continue;
            }
            for leaf in group.leaves() {
                if leaf.hash().is_some_and(|hash| !self.nodes.insert(hash)) {
                    continue;
                }
                for entry in leaf.entries() {
                    self.superfiles.insert(entry.id);
                    self.sidecars
                        .extend(entry.tombstones.as_ref().map(|t| t.sidecar));
                }
            }
        }
    }

    /// Whether a marked version refers to the object.
    pub(crate) fn contains(&self, name: &ObjectName) -> bool {
        match name {
            ObjectName::ManifestNode(hash) => self.nodes.contains(hash),
            ObjectName::Superfile(id) => self.superfiles.contains(id),
            ObjectName::Sidecar(id) => self.sidecars.contains(id),
            ObjectName::Pointer | ObjectName::WalDoc(_) | ObjectName::WalArrow(_) => true,
        }
    }
}

/// What the WAL documents say of mutations under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight {
    blocks: HashSet<Uuid>,
    live: usize,
    /// A mutation that may bring back what an older version refers to: nothing is known of what it needs.
    unbounded: bool,
    oldest_unreadable_ms: Option<i64>,
    oldest_base: Option<u64>,
    /// Documents that cannot be read.
    pub unreadable: u64,
    /// Documents of mutations that have ended.
    pub ended: u64,
}

impl InFlight {
    /// Takes in a document. `committed`: a version that is known has its mutation; so no draft of it can be
    /// swung to any more, and what it staged is in that version or never will be in any.
    pub(crate) fn add(&mut self, doc: &StateDoc, committed: bool) {
        if committed || doc.state == WalState::Complete {
            self.ended += 1;
            return;
        }
        self.live += 1;
        self.blocks.extend(
            doc.preallocated_superfile_id
                .map(|id| IdBlock::containing(id.as_uuid()).base()),
        );
        self.unbounded |= !stages_in_its_block(doc.op_kind);
        let base = doc.base_version;
        self.oldest_base = Some(self.oldest_base.map_or(base, |oldest| oldest.min(base)));
    }

    /// Takes in a document that cannot be read; its id says when it was created.
    pub(crate) fn add_unreadable(&mut self, created_at_ms: i64) {
        self.unreadable += 1;
        let oldest = self.oldest_unreadable_ms.unwrap_or(created_at_ms);
        self.oldest_unreadable_ms = Some(oldest.min(created_at_ms));
    }

    /// The oldest version that a live mutation reads.
    pub(crate) fn oldest_base(&self) -> Option<u64> {
        self.oldest_base
    }

    /// Whether drafts may be on their way that were uploaded before the documents were read.
    pub(crate) fn may_have_drafts(&self) -> bool {
        self.live > 0 || self.unreadable > 0
    }

    fn protects(&self, object: &Listed) -> bool {
        if self.unbounded {
            return true;
        }
        if let Some(oldest) = self.oldest_unreadable_ms
            && object.modified_ms > oldest.saturating_sub(BEFORE_UNREADABLE_MS)
        {
            return true;
        }
        object
            .id()
            .is_some_and(|id| self.blocks.contains(&IdBlock::containing(id).base()))
    }
}

/// Whether all that a statement of this kind brings into a version lies in its own id block.
fn stages_in_its_block(op: OpKind) -> bool {
    matches!(
        op,
        OpKind::Insert
            | OpKind::Delete
            | OpKind::Update
            | OpKind::Merge
            | OpKind::Truncate
            | OpKind::Overwrite
            | OpKind::Compact
            | OpKind::Alter
    )
}

/// An object as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// What it is.
    pub name: ObjectName,
    /// Its bytes.
    pub size: u64,
    /// When it was written, by the store's clock: milliseconds since the Unix epoch.
    pub modified_ms: i64,
}

impl Listed {
    /// The id of a superfile or sidecar.
    fn id(&self) -> Option<Uuid> {
        match self.name {
            ObjectName::Superfile(id) => Some(id.as_uuid()),
            ObjectName::Sidecar(id) => Some(id.as_uuid()),
            _ => None,
        }
    }

    /// When it was written, or its id minted, whichever is later.
    fn born_ms(&self) -> i64 {
        let minted = self.id().filter(|id| id.get_version_num() == 7).map(|id| {
            // 48 bits: they fit.
            i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX)
        });
        minted.map_or(self.modified_ms, |minted| minted.max(self.modified_ms))
    }
}

/// What vacuum deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A superfile.
    Superfile,
    /// A tombstone sidecar.
    Sidecar,
    /// A manifest root, group or leaf.
    ManifestNode,
}

/// What is to be done about one listed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// A retained version refers to it, or it is none of vacuum's business.
    InUse,
    /// A mutation under way may come to use it.
    InFlight,
    /// Nothing refers to it, and it was written too recently.
    Young,
    /// Nothing refers to it and nothing will.
    Garbage(Kind),
}

/// The disposition of one object. `born_before_ms`: what was written later stays.
pub(crate) fn judge(
    object: &Listed,
    referenced: &Referenced,
    in_flight: &InFlight,
    born_before_ms: Option<i64>,
) -> Disposition {
    if referenced.contains(&object.name) {
        return Disposition::InUse;
    }
    let kind = match object.name {
        ObjectName::ManifestNode(_) => Kind::ManifestNode,
        ObjectName::Superfile(_) => Kind::Superfile,
        ObjectName::Sidecar(_) => Kind::Sidecar,
        ObjectName::Pointer | ObjectName::WalDoc(_) | ObjectName::WalArrow(_) => {
            return Disposition::InUse;
        }
    };
    if in_flight.protects(object) {
        return Disposition::InFlight;
    }
    if born_before_ms.is_some_and(|limit| object.born_ms() > limit) {
        return Disposition::Young;
    }
    Disposition::Garbage(kind)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::format::WalId;

    const NOW: i64 = 1_700_000_000_000;

    fn superfile(block: &IdBlock, k: u32, modified_ms: i64) -> Listed {
        Listed {
            name: ObjectName::Superfile(block.nth(k).unwrap().into()),
            size: 10,
            modified_ms,
        }
    }

    fn document(op: OpKind, block: &IdBlock, base_version: u64) -> StateDoc {
        let id = WalId::new(NOW as u64, 1, 1);
        let time = DateTime::from_timestamp_millis(NOW).unwrap();
        let mut doc = StateDoc::intent(id, op, time, base_version, Uuid::nil());
        doc.preallocated_superfile_id = Some(block.base().into());
        doc
    }

    #[test]
    fn a_version_is_kept_while_its_successor_is_younger_than_the_cutoff_or_it_is_being_read() {
        let retention = Retention {
            cutoff_ms: NOW,
            oldest_base: Some(7),
        };
        assert!(retention.keeps(3, NOW + 1));
        assert!(!retention.keeps(3, NOW));
        assert!(retention.keeps(7, NOW - 1) && !retention.keeps(6, NOW - 1));
    }

    #[test]
    fn the_block_of_a_live_document_is_protected_and_that_of_an_ended_one_is_not() {
        let (mine, other) = (IdBlock::new(1, 1), IdBlock::new(1, 2));
        let mut in_flight = InFlight::default();
        let doc = document(OpKind::Insert, &mine, 5);
        in_flight.add(&doc, false);
        let judge = |object: &Listed, in_flight: &InFlight| {
            judge(object, &Referenced::default(), in_flight, None)
        };
        let garbage = Disposition::Garbage(Kind::Superfile);
        assert_eq!(
            judge(&superfile(&mine, 9, 0), &in_flight),
            Disposition::InFlight
        );
        assert_eq!(judge(&superfile(&other, 9, 0), &in_flight), garbage);
        assert!(in_flight.may_have_drafts());
        assert_eq!(in_flight.oldest_base(), Some(5));
        let mut ended = InFlight::default();
        ended.add(&doc, true);
        let complete = StateDoc {
            state: WalState::Complete,
            ..doc
        };
        ended.add(&complete, false);
        assert_eq!(judge(&superfile(&mine, 9, 0), &ended), garbage);
        assert!(!ended.may_have_drafts() && ended.ended == 2);
    }

    #[test]
    fn a_restore_under_way_protects_everything() {
        let (mine, other) = (IdBlock::new(1, 1), IdBlock::new(1, 2));
        let mut in_flight = InFlight::default();
        in_flight.add(&document(OpKind::Restore, &mine, 5), false);
        let object = superfile(&other, 9, 0);
        let disposition = judge(&object, &Referenced::default(), &in_flight, None);
        assert_eq!(disposition, Disposition::InFlight);
    }

    #[test]
    fn young_means_that_the_object_or_its_id_is() {
        let block = IdBlock::new(NOW as u64, 1);
        let judge = |object: Listed, limit| {
            let nothing = InFlight::default();
            judge(&object, &Referenced::default(), &nothing, Some(limit))
        };
        // An old id, written late; a young id that an old clock wrote.
        assert_eq!(
            judge(superfile(&block, 1, NOW + 9), NOW + 5),
            Disposition::Young
        );
        assert_eq!(judge(superfile(&block, 1, 0), NOW - 5), Disposition::Young);
        let garbage = Disposition::Garbage(Kind::Superfile);
        assert_eq!(judge(superfile(&block, 1, 0), NOW), garbage);
    }

    #[test]
    fn an_unreadable_document_protects_all_but_what_is_much_older() {
        let mut in_flight = InFlight::default();
        in_flight.add_unreadable(NOW);
        let block = IdBlock::new(1, 1);
        let judge = |object: Listed| judge(&object, &Referenced::default(), &in_flight, None);
        let day = BEFORE_UNREADABLE_MS;
        assert_eq!(
            judge(superfile(&block, 1, NOW - day + 1)),
            Disposition::InFlight
        );
        let garbage = Disposition::Garbage(Kind::Superfile);
        assert_eq!(judge(superfile(&block, 1, NOW - day)), garbage);
    }

    #[test]
    fn pointer_and_wal_are_none_of_its_business() {
        let id = WalId::new(1, 1, 1);
        for name in [
            ObjectName::Pointer,
            ObjectName::WalDoc(id),
            ObjectName::WalArrow(id),
        ] {
            let object = Listed {
                name,
                size: 1,
                modified_ms: 0,
            };
            let disposition = judge(&object, &Referenced::default(), &InFlight::default(), None);
            assert_eq!(disposition, Disposition::InUse);
        }
    }
}
