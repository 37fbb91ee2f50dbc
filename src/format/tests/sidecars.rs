//! The sidecar codec, byte for byte, and one error for each malformation.

use roaring::RoaringBitmap;
use uuid::Uuid;

use super::samples;
use crate::format::tombstones::{Seal, Sidecar, SidecarCodecError as E};

fn bytes(sealed: bool) -> Vec<u8> {
    samples::sidecar(sealed).encode().unwrap().to_vec()
}

fn error(bytes: &[u8]) -> E {
    Sidecar::decode(bytes).unwrap_err()
}

#[test]
fn the_layout_is_the_documented_one() {
    let bitmap = RoaringBitmap::from_iter([1, 2]);
    let mut portable = Vec::new();
    bitmap.serialize_into(&mut portable).unwrap();
    let mut expected = b"INFTOMB\0\x01\0\0\0\x01".to_vec();
    expected.extend_from_slice(&0x0102_0304_u128.to_be_bytes());
    expected.extend_from_slice(&(-2i64).to_le_bytes());
    expected.extend_from_slice(&(portable.len() as u32).to_le_bytes());
    expected.extend_from_slice(&portable);
    let sidecar = Sidecar {
        seal: Some(Seal {
            by: Uuid::from_u128(0x0102_0304),
            at_ms: -2,
        }),
        deleted: bitmap,
    };
    assert_eq!(sidecar.encode().unwrap(), expected);
}

#[test]
fn an_empty_sidecar_round_trips() {
    let empty = Sidecar::default();
    assert_eq!(Sidecar::decode(&empty.encode().unwrap()).unwrap(), empty);
}

#[test]
fn each_malformation_has_its_own_error() {
    let good = bytes(false);
    let edit = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    assert!(matches!(error(&edit(0, b'X')), E::BadMagic { .. }));
    assert!(matches!(
        error(&edit(8, 2)),
        E::UnsupportedVersion { found: 2 }
    ));
    assert!(matches!(
        error(&edit(8, 0)),
        E::UnsupportedVersion { found: 0 }
    ));
    assert!(matches!(error(&edit(12, 7)), E::BadSealFlag { found: 7 }));
    assert!(matches!(
        error(&edit(16, 0xff)),
        E::Truncated {
            field: "bitmap",
            ..
        }
    ));
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(error(&longer), E::TrailingBytes { extra: 1 }));
    // One byte more, announced as part of the bitmap.
    let len = u32::from_le_bytes(longer[13..17].try_into().unwrap()) + 1;
    longer[13..17].copy_from_slice(&len.to_le_bytes());
    assert!(matches!(
        error(&longer),
        E::BitmapShorterThanAnnounced { unused: 1 }
    ));
    assert!(matches!(error(&edit(17, 0xff)), E::BadBitmap(_)));
    assert!(matches!(error(b""), E::Truncated { field: "magic", .. }));
    assert!(matches!(
        error(&good[..12]),
        E::Truncated {
            field: "seal flag",
            ..
        }
    ));
    assert!(matches!(
        error(&bytes(true)[..20]),
        E::Truncated { field: "seal", .. }
    ));
}

#[test]
fn positions_past_the_superfile_are_refused_where_its_rows_are_known() {
    let bytes = bytes(false);
    assert!(matches!(
        Sidecar::decode_for(&bytes, 1_000_000),
        Err(E::PositionOutOfRange {
            position: 1_000_000,
            rows: 1_000_000
        })
    ));
    assert!(Sidecar::decode_for(&bytes, 1_000_001).is_ok());
}

#[test]
fn a_bitmap_that_announces_more_than_it_has_is_refused_without_allocating_for_it() {
    let mut bytes = b"INFTOMB\0\x01\0\0\0\0".to_vec();
    let bitmap = [0x3a, 0x30, 0, 0, 0xff, 0xff, 0, 0];
    bytes.extend_from_slice(&(bitmap.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&bitmap);
    assert!(matches!(error(&bytes), E::BadBitmap(_)));
}
