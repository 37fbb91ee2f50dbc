//! Every kind of node from one payload, behind checksums that are right.
//!
//! Owns what fuzzing needs to get past the frame: random bytes never have the right checksum, and so would
//! never reach the decoders behind it.

use uuid::Uuid;

use super::entry::{NodeRef, Totals};
use super::entry_wire::decode_entry;
use super::keys_wire::decode_absent_keys;
use super::wire::decode_metadata;
use super::wire::{GROUP, LEAF, ROOT, decode_group, decode_leaf, decode_root};
use crate::format::envelope;

/// Decodes `payload` as that of a root, a group, a leaf, a table's metadata, a superfile's entry, and absent keys.
pub(crate) fn decode_any_node(payload: &[u8]) {
    let (hash, bytes) = envelope::frame(ROOT, payload);
    let _ = decode_root(&bytes, &hash);
    let reference = |hash| NodeRef {
        hash,
        first: Uuid::nil().into(),
        totals: Totals::default(),
    };
    let (hash, bytes) = envelope::frame(GROUP, payload);
    let _ = decode_group(&bytes, &reference(hash));
    let (hash, bytes) = envelope::frame(LEAF, payload);
    let _ = decode_leaf(&bytes, &reference(hash));
    let (_, bytes) = envelope::frame(super::wire::METADATA, payload);
    let _ = decode_metadata(&bytes);
    let _ = decode_entry(payload);
    let _ = decode_absent_keys(payload);
}
