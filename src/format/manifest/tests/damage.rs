//! Damaged manifest nodes are typed errors, however the damage got there.

use proptest::prelude::*;

use super::Nodes;
use crate::format::envelope::{self, EnvelopeError};
use crate::format::ids::ContentHash;
use crate::format::manifest::entry::NodeRef;
use crate::format::manifest::wire;
use crate::format::manifest::*;
use crate::format::tests::samples;

/// A manifest's root, group and leaf: bytes and name.
fn nodes() -> (Manifest, Vec<(ContentHash, Vec<u8>)>) {
    let manifest = samples::manifest(2);
    let encoded = manifest.encode().unwrap();
    let nodes = encoded.new_nodes.iter().rev();
    (manifest, nodes.map(|(h, b)| (*h, b.to_vec())).collect())
}

fn node_ref(manifest: &Manifest, hash: ContentHash) -> NodeRef {
    NodeRef {
        hash,
        first: manifest.groups()[0].first(),
        totals: manifest.totals(),
    }
}

/// Decodes `bytes` as root, group or leaf, by its place.
fn decode(
    manifest: &Manifest,
    place: usize,
    bytes: &[u8],
    hash: ContentHash,
) -> Result<(), ManifestError> {
    let node = node_ref(manifest, hash);
    match place {
        0 => wire::decode_root(bytes, &hash).map(drop),
        1 => wire::decode_group(bytes, &node).map(drop),
        _ => wire::decode_leaf(bytes, &node).map(drop),
    }
}

#[test]
fn a_flipped_bit_or_a_cut_is_found_by_the_name() {
    let (manifest, nodes) = nodes();
    for (place, (hash, bytes)) in nodes.iter().enumerate() {
        decode(&manifest, place, bytes, *hash).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(
                decode(&manifest, place, &flipped, *hash),
                Err(ManifestError::Envelope(EnvelopeError::HashMismatch { .. }))
            ));
        }
        for len in 0..bytes.len() {
            assert!(decode(&manifest, place, &bytes[..len], *hash).is_err());
        }
    }
}

#[test]
fn a_flipped_bit_or_a_cut_is_found_by_the_frame_too() {
    let (manifest, nodes) = nodes();
    for (place, (_, bytes)) in nodes.iter().enumerate() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let name = ContentHash::of(&flipped);
            assert!(decode(&manifest, place, &flipped, name).is_err());
        }
        for len in 0..bytes.len() {
            let cut = &bytes[..len];
            assert!(decode(&manifest, place, cut, ContentHash::of(cut)).is_err());
        }
    }
}

#[test]
fn a_node_that_was_written_wrong_never_panics() {
    let (manifest, nodes) = nodes();
    // Arrow's reader may panic inside, on a schema; what is tested is that we do not.
    for (place, (_, bytes)) in nodes.iter().enumerate() {
        let payload = &bytes[16..bytes.len() - 32];
        for bit in 0..payload.len() * 8 {
            let mut rewritten = bytes[..16].to_vec();
            rewritten.extend_from_slice(payload);
            rewritten[16 + bit / 8] ^= 1 << (bit % 8);
            let checksum = ContentHash::of(&rewritten);
            rewritten.extend_from_slice(checksum.as_bytes());
            let name = ContentHash::of(&rewritten);
            let _ = decode(&manifest, place, &rewritten, name);
        }
    }
}

#[test]
fn each_fault_of_the_frame_has_its_own_error() {
    let (_, nodes) = nodes();
    let leaf = &nodes[2].1;
    let try_open = |bytes: &[u8]| envelope::payload(wire::LEAF, bytes).map(drop).unwrap_err();
    let edit = |at: usize| {
        let mut bytes = leaf.clone();
        bytes[at] ^= 3;
        bytes
    };
    assert!(matches!(
        try_open(b"abc"),
        EnvelopeError::TooShort { len: 3 }
    ));
    assert!(matches!(
        try_open(&nodes[1].1),
        EnvelopeError::BadMagic { .. }
    ));
    assert!(matches!(
        try_open(&edit(8)),
        EnvelopeError::UnsupportedVersion {
            found: 2,
            supported: 1
        }
    ));
    assert!(matches!(
        try_open(&edit(12)),
        EnvelopeError::LengthMismatch { .. }
    ));
    assert!(matches!(
        try_open(&edit(100)),
        EnvelopeError::ChecksumMismatch
    ));
    assert!(matches!(
        try_open(&edit(leaf.len() - 1)),
        EnvelopeError::ChecksumMismatch
    ));
}

#[test]
fn a_newer_version_is_refused_as_such() {
    let (manifest, nodes) = nodes();
    let mut newer = nodes[0].1.clone();
    newer[8] = 2;
    let error = decode(&manifest, 0, &newer, ContentHash::of(&newer)).unwrap_err();
    assert!(error.is_unsupported_version());
    let error = crate::format::FormatError::from(error).at(&"_supertable/manifest/x".into());
    assert_eq!(error.kind(), crate::error::ErrorKind::UnsupportedVersion);
    assert_eq!(error.subject(), "_supertable/manifest/x");
}

#[test]
fn a_node_that_is_not_what_its_parent_says_is_refused() {
    let (manifest, nodes) = nodes();
    let mut node = node_ref(&manifest, nodes[2].0);
    node.totals.live_rows += 1;
    assert!(matches!(
        wire::decode_leaf(&nodes[2].1, &node),
        Err(ManifestError::RefMismatch { .. })
    ));
    let mut node = node_ref(&manifest, nodes[2].0);
    node.first = samples::superfile(99);
    assert!(matches!(
        wire::decode_leaf(&nodes[2].1, &node),
        Err(ManifestError::RefMismatch { .. })
    ));
}

#[test]
fn a_leaf_of_wrong_size_or_order_is_refused() {
    let encoded = |entries: Vec<SuperfileEntry>| {
        let entries: Vec<_> = entries.into_iter().map(std::sync::Arc::new).collect();
        wire::encode_leaf(&entries, uuid::Uuid::nil()).unwrap()
    };
    let decode = |(hash, bytes): (ContentHash, bytes::Bytes)| {
        let manifest = samples::manifest(1);
        wire::decode_leaf(&bytes, &node_ref(&manifest, hash)).unwrap_err()
    };
    assert!(matches!(
        decode(encoded(vec![])),
        ManifestError::BadNodeSize { len: 0, .. }
    ));
    assert!(matches!(
        decode(encoded((0..65).map(samples::entry).collect())),
        ManifestError::BadNodeSize { len: 65, .. }
    ));
    assert!(matches!(
        decode(encoded(vec![samples::entry(2), samples::entry(1)])),
        ManifestError::OutOfOrder { .. }
    ));
    let mut nan = samples::entry(1);
    if let Some(column) = nan.stats.columns.get_mut(&1) {
        column.min = Some(crate::format::StatValue::Float(f64::NAN));
    }
    assert!(matches!(
        decode(encoded(vec![nan])),
        ManifestError::NanBound
    ));
}

#[test]
fn a_file_that_is_read_in_place_has_a_path_that_can_be_and_a_checksum() {
    use crate::format::{ExternalPath, InPlace};
    let leaf = |entry: &SuperfileEntry, forge: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let entries = [std::sync::Arc::new(entry.clone())];
        let (_, bytes) = wire::encode_leaf(&entries, uuid::Uuid::nil()).unwrap();
        let payload = bytes[16..bytes.len() - 32].to_vec();
        let (hash, bytes) = crate::format::envelope::frame(wire::LEAF, &forge(payload));
        let node = NodeRef {
            hash,
            first: entry.id,
            totals: Totals::of(entry),
        };
        wire::decode_leaf(&bytes, &node)
    };
    let as_it_is = |bytes: Vec<u8>| bytes;
    let mut entry = samples::entry(1);
    let place = ExternalPath::parse("/in/year=2024/a.parquet").unwrap();
    entry.in_place = InPlace::new(place, "\"etag\"".to_owned());
    let decoded = leaf(&entry, &as_it_is).unwrap();
    assert_eq!(*decoded[0], entry);
    let unchecked = SuperfileEntry {
        footer_checksum: None,
        ..entry.clone()
    };
    let bad = |found| matches!(found, Err(ManifestError::BadPlace { .. }));
    assert!(bad(leaf(&unchecked, &as_it_is)), "it has no checksum");
    // Other paths of the same length.
    for path in ["/in/../../..///a.parquet", "/in/year=2024/a.parquet/"] {
        let path = &path.as_bytes()[path.len() - 23..];
        let forge = |bytes: Vec<u8>| {
            let at = bytes
                .windows(23)
                .position(|w| w == b"/in/year=2024/a.parquet");
            let mut bytes = bytes;
            bytes[at.unwrap()..][..23].copy_from_slice(path);
            bytes
        };
        assert!(bad(leaf(&entry, &forge)), "{path:?}");
    }
}

#[test]
fn the_loader_takes_only_what_it_asked_for() {
    let (_, nodes) = nodes();
    let mut loader = ManifestLoader::new(&nodes[0].0, &nodes[0].1, None).unwrap();
    assert!(matches!(
        loader.supply(&nodes[2].0, &nodes[2].1),
        Err(ManifestError::NotAskedFor { .. })
    ));
    // Another node's bytes under the name that was asked for.
    assert!(loader.supply(&nodes[1].0, &nodes[2].1).is_err());
    loader.supply(&nodes[1].0, &nodes[1].1).unwrap();
    assert!(matches!(
        loader.finish(),
        Err(ManifestError::Incomplete { count: 1 })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_manifests_round_trip(
        entries in prop::collection::vec(samples::any_entry(), 0..150),
        commits in prop::collection::vec(samples::any_commit(), 0..4),
        pending in prop::collection::vec(samples::any_commit(), 0..4),
        versions in any::<[u64; 6]>(),
        created_at_ms in any::<i64>(),
    ) {
        let mut header = ManifestHeader::first(samples::metadata().into(), created_at_ms);
        header.version = versions[0];
        let skips = skip_versions(header.version);
        header.skips = skips.map(|version| ContentHash::of(&version.to_le_bytes())).collect();
        header.moved_at = versions[1];
        header.rows_changed_at = versions[4];
        header.restored_at = versions[5];
        header.metadata_changed_at = versions[2];
        header.schema_changed_at = versions[3];
        header.commits = commits;
        header.pending = pending;
        let edit = ManifestEdit { add: entries, ..ManifestEdit::default() };
        let manifest = edit.apply(&Manifest::empty(header.clone()), header).unwrap();
        let encoded = manifest.encode().unwrap();
        let mut nodes = Nodes::default();
        nodes.put(&encoded);
        let (loaded, fetched) = nodes.load(&encoded.root, None).unwrap();
        prop_assert_eq!(fetched, encoded.new_nodes.len());
        prop_assert_eq!(loaded.header(), manifest.header());
        prop_assert!(loaded.entries().eq(manifest.entries()));
        prop_assert_eq!(loaded.encode().unwrap().new_nodes.len(), 0);
    }
}
