//! Round trips of random values; truncation at every byte; every bit flipped.

use proptest::prelude::*;

use super::samples;
use crate::format::change_set::ChangeSetError;
use crate::format::pointer::PointerError;
use crate::format::state_doc::StateDocError;
use crate::format::*;

/// `bytes` with each of its bits flipped in turn.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

/// `bytes` cut off at every byte.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..bytes.len()).map(|len| &bytes[..len])
}

#[test]
fn a_damaged_pointer_is_always_an_error() {
    let with_nodes = Pointer {
        new_nodes: (0..20_u8).map(|n| ContentHash::of(&[n])).collect(),
        ..samples::pointer()
    };
    let with_claim = Pointer {
        claim: Some(Claim {
            slot: "x".repeat(255),
            number: u64::MAX,
        }),
        ..with_nodes.clone()
    };
    for pointer in [samples::pointer(), with_nodes, with_claim] {
        let bytes = pointer.encode().unwrap();
        // As many nodes as a pointer has room for, and no more.
        assert!(bytes.len() < 1536);
        assert!(Pointer::decode(&bytes).unwrap().new_nodes.len() <= 8);
        for damaged in flips(&bytes) {
            assert!(Pointer::decode(&damaged).is_err());
        }
        for damaged in cuts(&bytes) {
            assert!(Pointer::decode(damaged).is_err());
        }
    }
}

#[test]
fn other_spellings_of_a_pointer_are_refused() {
    let text = String::from_utf8(samples::pointer().encode().unwrap().to_vec()).unwrap();
    for other in [
        text.replace(',', ", "),
        format!("{text}\n"),
        format!(" {text}"),
        text.replace(",\"checksum\"", ",\"new_nodes\":[],\"checksum\""),
    ] {
        assert!(matches!(
            Pointer::decode(other.as_bytes()),
            Err(PointerError::NotCanonical)
        ));
    }
    assert!(matches!(
        Pointer::decode(&[b' '; 2000]),
        Err(PointerError::TooLong { len: 2000 })
    ));
}

#[test]
fn newer_pointers_and_documents_are_refused_by_version() {
    let newer = br#"{"format_version":2,"something":"else"}"#;
    assert!(matches!(
        Pointer::decode(newer),
        Err(PointerError::UnsupportedVersion { found: 2 })
    ));
    let newer = br#"{"schema_version":2,"something":"else"}"#;
    assert!(matches!(
        StateDoc::decode(newer),
        Err(StateDocError::UnsupportedVersion { found: 2 })
    ));
}

#[test]
fn a_damaged_wal_document_is_an_error_or_reads_as_before() {
    let doc = samples::state_doc();
    let bytes = doc.encode().unwrap();
    let mut harmless = 0;
    for damaged in flips(&bytes) {
        if let Ok(read) = StateDoc::decode(&damaged) {
            assert_eq!(read, doc);
            harmless += 1;
        }
    }
    // Flips within white space, the case of a time's T and Z, and the key of the checksum.
    assert!(harmless < bytes.len(), "{harmless} of {}", bytes.len() * 8);
    for damaged in cuts(&bytes) {
        assert!(StateDoc::decode(damaged).is_err());
    }
}

#[test]
fn a_wal_document_has_the_documented_keys() {
    let bytes = samples::state_doc().encode().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut at = 0;
    for key in [
        "wal_id",
        "schema_version",
        "op_kind",
        "state",
        "created_at",
        "lease",
        "predicate_repr",
        "target_ids",
        "new_row_count",
        "new_row_content_hash",
        "preallocated_superfile_id",
        "minted_id_spans",
        "tombstone_progress",
        "nonce",
        "base_version",
        "checksum",
    ] {
        at += text[at..].find(&format!("\"{key}\"")).expect(key);
    }
    assert_eq!(json["op_kind"], "UPDATE");
    assert_eq!(json["state"], "APPENDED");
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["created_at"], "2023-11-14T22:13:20Z");
    assert_eq!(json["tombstone_progress"][1]["outcome"], "NOT_FOUND");
    assert_eq!(json["lease"]["owner"], "host-1/4711");
    assert_eq!(json["wal_id"], "0000018bcfe568000000000003000005");
}

#[test]
fn a_document_of_another_implementation_is_read_with_defaults() {
    let text = r#"{
        "wal_id": "0000018bcfe568000000000003000005", "schema_version": 1, "op_kind": "DELETE",
        "state": "INTENT", "created_at": "2023-11-14T23:13:20+01:00", "predicate_repr": "a = 1",
        "target_ids": ["00000000000000000000000000000001"], "colour": {"of": ["the", "bikeshed"]},
        "tombstone_progress": [{"target_id": "00000000000000000000000000000001", "outcome": "PENDING"}]
    }"#;
    let doc = StateDoc::decode(text.as_bytes()).unwrap();
    assert_eq!(doc.op_kind, OpKind::Delete);
    assert_eq!(doc.created_at, samples::time(1_700_000_000_000));
    assert_eq!(doc.lease, None);
    assert!(doc.nonce.is_nil());
    assert_eq!(doc.base_version, 0);
    assert_eq!(doc.tombstone_progress[0].outcome, TargetOutcome::Pending);
}

#[test]
fn a_large_mutations_document_stays_small() {
    let mut doc = samples::state_doc();
    doc.target_ids.clear();
    doc.tombstone_progress.clear();
    doc.predicate_repr = "x".repeat(1024);
    assert!(doc.encode().unwrap().len() < 4096);
}

#[test]
fn a_damaged_sidecar_never_panics() {
    for sealed in [false, true] {
        let bytes = samples::sidecar(sealed).encode().unwrap();
        for damaged in flips(&bytes) {
            // The layout has no checksum: the manifest's hash finds what this does not.
            let _ = Sidecar::decode(&damaged);
        }
        for damaged in cuts(&bytes) {
            assert!(Sidecar::decode(damaged).is_err());
        }
    }
}

#[test]
fn a_damaged_change_set_is_always_an_error() {
    let (hash, bytes) = samples::change_set().encode().unwrap();
    for (i, damaged) in flips(&bytes).enumerate() {
        if i % 64 == 0 {
            assert!(matches!(
                ChangeSet::decode(&damaged, &hash),
                Err(ChangeSetError::HashMismatch { .. })
            ));
        }
    }
    for damaged in cuts(&bytes) {
        assert!(ChangeSet::decode_unverified(damaged).is_err());
    }
}

#[test]
fn a_change_set_that_was_written_wrong_never_panics() {
    let mut change_set = samples::change_set();
    change_set.metadata = None;
    let (_, bytes) = change_set.encode().unwrap();
    // Arrow's reader may panic inside; what is tested is that we do not.
    for damaged in flips(&bytes) {
        let _ = ChangeSet::decode_unverified(&damaged);
    }
}

#[test]
fn contradictory_change_sets_are_refused() {
    let mut twice = samples::change_set();
    twice.drop[0].superfile = twice.add[0].id;
    assert!(matches!(
        twice.encode(),
        Err(ChangeSetError::NamedTwice { .. })
    ));
    let mut wrong = samples::change_set();
    wrong.tombstone[0].union.cardinality = 4;
    assert!(matches!(
        wrong.encode(),
        Err(ChangeSetError::InconsistentTombstones { .. })
    ));
    let mut empty = samples::change_set();
    empty.tombstone[1].delta.clear();
    assert!(matches!(
        empty.encode(),
        Err(ChangeSetError::InconsistentTombstones { .. })
    ));
}

#[test]
fn a_change_set_of_many_superfiles_is_written_in_batches() {
    let mut change_set = samples::change_set();
    change_set.add = (0..10_000).map(samples::entry).collect();
    change_set.tombstone.clear();
    change_set.drop.clear();
    let (hash, bytes) = change_set.encode().unwrap();
    assert_eq!(ChangeSet::decode(&bytes, &hash).unwrap(), change_set);
    let (_, batches) = ipc::read_stream(&bytes).unwrap();
    assert!(batches.len() > 2);
}

#[test]
fn a_long_statement_is_cut_between_characters() {
    let mut change_set = samples::change_set();
    change_set.statement = "é".repeat(600);
    let (hash, bytes) = change_set.encode().unwrap();
    let read = ChangeSet::decode(&bytes, &hash).unwrap();
    assert_eq!(read.statement, "é".repeat(512));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sidecars_round_trip(deleted in samples::any_bitmap(), seal in prop::option::of((any::<u128>(), any::<i64>()))) {
        let sidecar = Sidecar {
            seal: seal.map(|(by, at_ms)| Seal { by: uuid::Uuid::from_u128(by), at_ms }),
            deleted,
        };
        prop_assert_eq!(Sidecar::decode(&sidecar.encode().unwrap()).unwrap(), sidecar);
    }

    #[test]
    fn wal_documents_round_trip(doc in samples::any_state_doc()) {
        prop_assert_eq!(StateDoc::decode(&doc.encode().unwrap()).unwrap(), doc);
    }

    #[test]
    fn pointers_round_trip(
        version in any::<u64>(),
        hash in samples::any_hash(),
        nonce in any::<u128>(),
        new_nodes in prop::collection::vec(samples::any_hash(), 0..=8),
        claim in prop::option::of(("[A-Za-z0-9_=-]{1,200}(\\.[1-9][0-9]{0,3})?", any::<u64>())),
    ) {
        let pointer = Pointer {
            version,
            manifest: hash,
            nonce: uuid::Uuid::from_u128(nonce),
            new_nodes,
            claim: claim.map(|(slot, number)| Claim { slot, number }),
            ..samples::pointer()
        };
        prop_assert_eq!(Pointer::decode(&pointer.encode().unwrap()).unwrap(), pointer);
    }

    #[test]
    fn change_sets_round_trip(change_set in samples::any_change_set()) {
        let (hash, bytes) = change_set.encode().unwrap();
        prop_assert_eq!(ChangeSet::decode(&bytes, &hash).unwrap(), change_set);
    }

    #[test]
    fn arbitrary_bytes_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Pointer::decode(&bytes).is_err());
        prop_assert!(StateDoc::decode(&bytes).is_err());
        prop_assert!(ChangeSet::decode_unverified(&bytes).is_err());
        prop_assert!(Sidecar::decode(&bytes).is_err());
    }
}
