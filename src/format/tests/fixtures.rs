//! Frozen fixtures: what earlier builds wrote must be read for ever.
//!
//! `cargo test --lib write_fixtures -- --ignored` writes the files of a new format version. The
//! files of a version that was ever released are never written again.

use std::path::PathBuf;

use super::samples;
use crate::format::manifest::ManifestLoader;
use crate::format::*;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/format", name]
        .iter()
        .collect()
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

/// The fixture of a manifest: three levels, named by what they are.
fn manifest_nodes() -> Vec<(&'static str, ContentHash, Vec<u8>)> {
    let encoded = samples::manifest(3).encode().unwrap();
    let names = ["manifest-leaf-v1", "manifest-group-v1", "manifest-root-v1"];
    assert_eq!(encoded.new_nodes.len(), names.len());
    names
        .into_iter()
        .zip(encoded.new_nodes)
        .map(|(name, (hash, bytes))| (name, hash, bytes.to_vec()))
        .collect()
}

/// What may stand at the pointer's place because of names in a catalog.
fn heads() -> Vec<(&'static str, Head, Vec<u8>)> {
    let nonce = samples::pointer().nonce;
    let claim = Some(Claim {
        slot: "a=20b.12".to_owned(),
        number: 3,
    });
    let pointer = Pointer {
        claim: claim.clone(),
        ..samples::pointer()
    };
    let marker = |claim| DropMarker {
        table_id: pointer.table_id,
        version: 41,
        claim,
        nonce,
    };
    let (early, renamed) = (marker(None), marker(claim));
    let reservation = Reservation {
        table: "t.2".to_owned(),
        number: 4,
        nonce,
    };
    let bytes = [
        ("drop-marker-v1.json", early.encode()),
        ("drop-marker-claim-v1.json", renamed.encode()),
        ("pointer-claim-v1.json", pointer.encode()),
        ("reservation-v1.json", reservation.encode()),
    ];
    let heads = [
        Head::Dropped(early),
        Head::Dropped(renamed),
        Head::Table(pointer),
        Head::Reserved(reservation),
    ];
    bytes
        .into_iter()
        .zip(heads)
        .map(|((name, bytes), head)| (name, head, bytes.unwrap().to_vec()))
        .collect()
}

#[test]
#[ignore = "writes the fixtures"]
fn write_fixtures() {
    std::fs::create_dir_all(path("")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes).unwrap();
    write("pointer-v1.json", &samples::pointer().encode().unwrap());
    write(
        "wal-document-v1.json",
        &samples::state_doc().encode().unwrap(),
    );
    write(
        "sidecar-v1.tombstones",
        &samples::sidecar(false).encode().unwrap(),
    );
    write(
        "sidecar-sealed-v1.tombstones",
        &samples::sidecar(true).encode().unwrap(),
    );
    write(
        "change-set-v1.arrow",
        &samples::change_set().encode().unwrap().1,
    );
    for (name, _, bytes) in manifest_nodes() {
        write(name, &bytes);
    }
    for (name, _, bytes) in heads() {
        write(name, &bytes);
    }
}

#[test]
fn drop_markers_claims_and_reservations_of_version_1_are_read() {
    for (name, head, bytes) in heads() {
        assert_eq!(Head::decode(&read(name)).unwrap(), head, "{name}");
        assert_eq!(read(name), bytes, "{name}");
    }
}

#[test]
fn the_pointer_of_version_1_is_read() {
    let bytes = read("pointer-v1.json");
    assert_eq!(Pointer::decode(&bytes).unwrap(), samples::pointer());
    assert_eq!(samples::pointer().encode().unwrap(), bytes);
}

#[test]
fn the_wal_document_of_version_1_is_read() {
    let bytes = read("wal-document-v1.json");
    assert_eq!(StateDoc::decode(&bytes).unwrap(), samples::state_doc());
    assert_eq!(samples::state_doc().encode().unwrap(), bytes);
}

#[test]
fn the_sidecars_of_version_1_are_read() {
    for (name, sealed) in [
        ("sidecar-v1.tombstones", false),
        ("sidecar-sealed-v1.tombstones", true),
    ] {
        let bytes = read(name);
        assert_eq!(Sidecar::decode(&bytes).unwrap(), samples::sidecar(sealed));
        assert_eq!(samples::sidecar(sealed).encode().unwrap(), bytes);
    }
}

#[test]
fn the_change_set_of_version_1_is_read() {
    let bytes = read("change-set-v1.arrow");
    let read = ChangeSet::decode(&bytes, &ContentHash::of(&bytes)).unwrap();
    assert_eq!(read, samples::change_set());
}

#[test]
fn the_manifest_of_version_1_is_read() {
    let root = read("manifest-root-v1");
    let mut loader = ManifestLoader::new(&ContentHash::of(&root), &root, None).unwrap();
    for name in ["manifest-group-v1", "manifest-leaf-v1"] {
        let bytes = read(name);
        assert_eq!(loader.wanted(), [ContentHash::of(&bytes)]);
        loader.supply(&ContentHash::of(&bytes), &bytes).unwrap();
    }
    let (loaded, expected) = (loader.finish().unwrap(), samples::manifest(3));
    assert_eq!(loaded.header(), expected.header());
    assert!(loaded.entries().eq(expected.entries()));
    // Leaf and group do not depend on other crates' encodings: the bytes are ours.
    for (name, _, bytes) in manifest_nodes().into_iter().take(2) {
        assert_eq!(read(name), bytes, "{name}");
    }
}
