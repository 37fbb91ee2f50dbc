//! Ids and paths have one spelling each, and it sorts by time.

use object_store::path::Path;
use proptest::prelude::*;
use uuid::Uuid;

use crate::format::paths::{self, ObjectName};
use crate::format::*;

#[test]
fn snowflake_ids_carry_time_worker_and_sequence() {
    let id = WalId::new(0x1122_3344_5566_7788, 0xff_ffff_ffff, 0xff_ffff);
    assert_eq!(id.to_string(), "1122334455667788ffffffffffffffff");
    assert_eq!(id.millis(), 0x1122_3344_5566_7788);
    assert_eq!(id.seq(), 0xff_ffff);
    assert_eq!(
        RowId::new(1, 2, 3).to_string(),
        "00000000000000010000000002000003"
    );
}

#[test]
fn too_large_parts_of_a_snowflake_id_do_not_spill_over() {
    assert_eq!(WalId::new(1, 1 << 40, 1 << 24), WalId::new(1, 0, 0));
}

#[test]
fn other_spellings_of_ids_are_refused() {
    for text in [
        "",
        "0",
        "00000000000000010000000002ABCDEF",
        "000000000000000100000000020000033",
        "0x000000000000010000000002000003",
        "+0000000000000010000000002000003",
        "0000000000000001000000000200000é",
    ] {
        assert!(text.parse::<WalId>().is_err(), "{text}");
    }
    for text in [
        "",
        "01900000000070008000000000000001",
        "01900000-0000-7000-8000-00000000000A",
        "{01900000-0000-7000-8000-00000000000a}",
        "urn:uuid:01900000-0000-7000-8000-00000000000a",
        "../../../../etc/passwd",
    ] {
        assert!(text.parse::<SuperfileId>().is_err(), "{text}");
    }
}

#[test]
fn an_id_block_is_a_uuid_of_version_7_and_hands_out_its_range() {
    let block = IdBlock::new(0x0123_4567_89ab, u64::MAX);
    let base = block.base();
    assert_eq!(base.get_version_num(), 7);
    assert_eq!(base.get_variant(), uuid::Variant::RFC4122);
    assert_eq!(base.to_string(), "01234567-89ab-7fff-bfff-ffffff000000");
    assert_eq!(block.nth(0), Some(base));
    assert_eq!(
        block.nth((1 << 24) - 1).unwrap().to_string(),
        "01234567-89ab-7fff-bfff-ffffffffffff"
    );
    assert_eq!(block.nth(1 << 24), None);
    assert!(block.contains(block.nth(12_345).unwrap()));
    assert!(!block.contains(IdBlock::new(0x0123_4567_89ab, 0).base()));
    assert_eq!(IdBlock::containing(block.nth(77).unwrap()), block);
    assert_eq!(IdBlock::from_uuid(block.nth(1).unwrap()), None);
    assert_eq!(block.to_string().parse(), Ok(block));
}

#[test]
fn each_object_has_one_path() {
    let names = [
        (ObjectName::Pointer, "_supertable/current".to_owned()),
        (
            ObjectName::ManifestNode(ContentHash::from_bytes([0xab; 32])),
            format!("_supertable/manifest/{}", "ab".repeat(32)),
        ),
        (
            ObjectName::Superfile(Uuid::from_u128(1).into()),
            "superfiles/00000000-0000-0000-0000-000000000001.parquet".to_owned(),
        ),
        (
            ObjectName::Sidecar(Uuid::from_u128(2).into()),
            "superfiles/00000000-0000-0000-0000-000000000002.tombstones".to_owned(),
        ),
        (
            ObjectName::WalDoc(WalId::new(0, 0, 3)),
            "wal/mutations/00000000000000000000000000000003.json".to_owned(),
        ),
        (
            ObjectName::WalArrow(WalId::new(0, 0, 4)),
            "wal/mutations/00000000000000000000000000000004.arrow".to_owned(),
        ),
    ];
    for (name, path) in names {
        assert_eq!(name.path().as_ref(), path);
        assert_eq!(paths::parse(&name.path()), Some(name));
    }
}

#[test]
fn foreign_names_are_no_objects() {
    for path in [
        "",
        "current",
        "_supertable",
        "_supertable/current/x",
        "_supertable/manifest/xyz",
        "superfiles/00000000-0000-0000-0000-000000000001.parquet.tmp",
        "superfiles/sub/00000000-0000-0000-0000-000000000001.parquet",
        "superfiles/00000000-0000-0000-0000-00000000000A.parquet",
        "wal/mutations/3.json",
        "wal/mutations/00000000000000000000000000000003.JSON",
        "wal/mutations/.json",
    ] {
        assert_eq!(paths::parse(&Path::from(path)), None, "{path}");
    }
}

proptest! {
    #[test]
    fn names_of_ids_parse_back(value in any::<i128>(), bits in any::<u128>(), hash in any::<[u8; 32]>()) {
        let wal = WalId::from_i128(value);
        prop_assert_eq!(wal.to_string().parse::<WalId>().unwrap(), wal);
        let row = RowId::from_i128(value);
        prop_assert_eq!(row.to_string().parse::<RowId>().unwrap(), row);
        let superfile = SuperfileId::from(Uuid::from_u128(bits));
        prop_assert_eq!(superfile.to_string().parse::<SuperfileId>().unwrap(), superfile);
        let hash = ContentHash::from_bytes(hash);
        prop_assert_eq!(hash.to_string().parse::<ContentHash>().unwrap(), hash);
    }

    #[test]
    fn ids_sort_as_their_names(a in any::<i128>(), b in any::<i128>(), c in any::<u128>(), d in any::<u128>()) {
        let (x, y) = (WalId::from_i128(a), WalId::from_i128(b));
        prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
        let (x, y) = (SuperfileId::from(Uuid::from_u128(c)), SuperfileId::from(Uuid::from_u128(d)));
        prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
    }
}
