//! Values to encode: fixed ones for fixtures, random ones for round trips.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeZone, Utc};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use proptest::prelude::*;
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::format::keys::{AddedKeys, Bounds, DroppedRows};
use crate::format::manifest::*;
use crate::format::*;

pub(crate) fn superfile(n: u128) -> SuperfileId {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n).into()
}

pub(crate) fn sidecar_id(n: u128) -> SidecarId {
    Uuid::from_u128(0x0191_0000_0000_7000_8000_0000_0000_0000 + n).into()
}

pub(crate) fn metadata() -> TableMetadata {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new(
            "at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            true,
        ),
        Field::new(
            "tags",
            DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            true,
        ),
        Field::new(
            "place",
            DataType::Struct(
                vec![
                    Field::new("lat", DataType::Float64, true),
                    Field::new("lon", DataType::Float64, true),
                ]
                .into(),
            ),
            true,
        ),
    ]);
    let (schema, next_field_id) = assign_field_ids(&schema, 1, HashSet::new()).unwrap();
    TableMetadata {
        table_id: Uuid::from_u128(0x1234_5678_9abc_4def_8000_0000_0000_0001).into(),
        schema,
        properties: BTreeMap::from([("supertable.target_rows".to_owned(), "1000".to_owned())]),
        defaults: BTreeMap::from([("name".to_owned(), "'n'".to_owned())]),
        initial_defaults: BTreeMap::from([(2, "old".to_owned())]),
        adoptions: 3,
        sort_order: vec![SortColumn {
            name: "id".to_owned(),
            descending: false,
            nulls_first: true,
        }],
        keys: vec![UniqueKey {
            name: "id_key".to_owned(),
            is_primary: false,
            columns: vec![2, 1],
        }],
        next_field_id,
        retired_names: BTreeSet::from([(0, "gone".to_owned()), (6, "alt".to_owned())]),
    }
}

pub(crate) fn stats() -> SuperfileStats {
    let column = |min, max| ColumnStats::new(Some(min), Some(max), Some(3), 16);
    SuperfileStats {
        columns: BTreeMap::from([
            (1, column(StatValue::Int(-5), StatValue::Int(i64::MAX))),
            (
                2,
                column(
                    StatValue::Utf8("aardvark".to_owned()),
                    StatValue::Utf8("zebra finches in the garden".to_owned()),
                ),
            ),
            (3, column(StatValue::UInt(0), StatValue::UInt(u64::MAX))),
            (
                7,
                column(StatValue::Float(-0.5), StatValue::Float(f64::INFINITY)),
            ),
            (
                8,
                column(StatValue::Decimal(i128::MIN), StatValue::Decimal(1)),
            ),
            (9, column(StatValue::Bool(false), StatValue::Bool(true))),
            (
                10,
                column(
                    StatValue::Binary(vec![0]),
                    StatValue::Binary(vec![0xff; 40]),
                ),
            ),
            (
                11,
                ColumnStats {
                    min: None,
                    max: None,
                    null_count: None,
                    min_exact: false,
                    max_exact: false,
                },
            ),
        ]),
    }
}

pub(crate) fn tombstone_ref(n: u128, cardinality: u64) -> TombstoneRef {
    TombstoneRef {
        sidecar: sidecar_id(n),
        hash: ContentHash::of(&n.to_le_bytes()),
        cardinality,
        size: 40 + cardinality,
    }
}

pub(crate) fn entry(n: u128) -> SuperfileEntry {
    SuperfileEntry {
        id: superfile(n),
        rows: 1_000,
        size: 65_536,
        created_at_ms: 1_700_000_000_123,
        row_ids: RowIds::Span(RowId::new(1_700_000_000_000, 7, 0)),
        footer_checksum: FooterChecksum::of(b"index", b"footer"),
        in_place: None,
        external: None,
        clustering: None,
        stats: stats(),
        tombstones: None,
        moved_at: 0,
        added_at: 0,
        delete_count: 0,
    }
}

pub(crate) fn commit(n: u64) -> CommitRecord {
    CommitRecord {
        wal_id: WalId::new(1_700_000_000_000 + n, 42, 1),
        op: OpKind::Update,
        version: n,
        rows_inserted: 0,
        rows_deleted: 0,
        rows_updated: 17,
        statement: "UPDATE t SET name = 'x' WHERE id = 1".to_owned(),
        started_at_ms: 1_700_000_000_100,
    }
}

fn external() -> ExternalFile {
    let name = |name: &str| ColumnSource::Name(name.to_owned());
    ExternalFile {
        source: "s3://bucket/in/a.parquet#\"etag\"".to_owned(),
        columns: [
            (1, name("id")),
            (2, ColumnSource::Constant(Some("2024".to_owned()))),
            (3, ColumnSource::Constant(None)),
        ]
        .into(),
    }
}

fn clustering() -> Clustering {
    Clustering {
        key: ClusterKey {
            layout: Layout::Hilbert,
            columns: vec![1, 3],
        },
        run: superfile(0),
        bytes: 1 << 30,
    }
}

fn bounds(min: i64, max: i64) -> Bounds {
    Bounds {
        min: Some(StatValue::Int(min)),
        max: Some(StatValue::Int(max)),
    }
}

fn absent_keys() -> AbsentKeys {
    AbsentKeys {
        columns: vec![1, 2],
        ranges: vec![vec![bounds(3, 3), Bounds::default()]],
        hashes: Some(vec![5, 6]),
        adds_others: false,
    }
}

/// A manifest of `n` superfiles at version 3.
pub(crate) fn manifest(n: u128) -> Manifest {
    let mut header = ManifestHeader::first(Arc::new(metadata()), 1_700_000_001_000);
    header.version = 3;
    header.parent = Some(ContentHash::of(b"parent"));
    header.moved_at = 2;
    header.rows_changed_at = 3;
    header.dropped = vec![DroppedRows {
        added_at: 2,
        columns: [(1, bounds(1, 9)), (2, Bounds::default())].into(),
    }];
    header.added_keys = vec![Arc::new(AddedKeys {
        version: 3,
        superfiles: vec![superfile(0), superfile(1)],
        columns: vec![1, 2],
        hashes: vec![7, u64::MAX],
    })];
    header.commits = vec![commit(3)];
    header.pending = vec![commit(2), commit(1)];
    let add = (0..n)
        .map(|i| SuperfileEntry {
            tombstones: (i % 3 == 1).then(|| tombstone_ref(i, 5)),
            row_ids: if i % 2 == 0 {
                entry(i).row_ids
            } else {
                RowIds::Stored
            },
            moved_at: u64::from(i % 3 == 1) * 2,
            added_at: 1 + u64::from(i % 3 == 2),
            delete_count: u32::from(i % 3 == 1),
            in_place: (i % 3 == 2).then(|| InPlace::parse("/in/a.parquet", "\"etag\"").unwrap()),
            external: (i % 3 == 2).then(external),
            clustering: (i % 3 == 0).then(clustering),
            ..entry(i)
        })
        .collect();
    let edit = ManifestEdit {
        add,
        ..ManifestEdit::default()
    };
    edit.apply(&Manifest::empty(header.clone()), header)
        .unwrap()
}

pub(crate) fn pointer() -> Pointer {
    Pointer {
        table_id: metadata().table_id,
        version: 3,
        manifest: ContentHash::of(b"root"),
        nonce: Uuid::from_u128(77),
        new_nodes: Vec::new(),
        claim: None,
    }
}

pub(crate) fn time(ms: i64) -> DateTime<Utc> {
    Utc.timestamp_millis_opt(ms).unwrap()
}

pub(crate) fn state_doc() -> StateDoc {
    StateDoc {
        state: WalState::Appended,
        lease: Some(Lease {
            owner: "host-1/4711".to_owned(),
            acquired_at: time(1_700_000_000_001),
            expires_at: time(1_700_000_030_001),
        }),
        predicate_repr: "id = 1 AND name = 'ünïcödé \"quoted\"'".to_owned(),
        target_ids: vec![RowId::new(1_699_000_000_000, 3, 9)],
        new_row_count: Some(1),
        new_row_content_hash: Some(ContentHash::of(b"arrow")),
        preallocated_superfile_id: Some(IdBlock::new(1_700_000_000_000, 99).base().into()),
        minted_id_spans: vec![IdSpan {
            first: RowId::new(1_700_000_000_000, 3, 0),
            last: RowId::new(1_700_000_000_000, 3, 0xff_ffff),
        }],
        tombstone_progress: vec![
            TombstoneProgress {
                target_id: RowId::new(1_699_000_000_000, 3, 9),
                outcome: TargetOutcome::Tombstoned,
                tombstoned_in_superfile: Some(superfile(1)),
            },
            TombstoneProgress {
                target_id: RowId::new(1_699_000_000_000, 3, 10),
                outcome: TargetOutcome::NotFound,
                tombstoned_in_superfile: None,
            },
        ],
        ..StateDoc::intent(
            WalId::new(1_700_000_000_000, 3, 5),
            OpKind::Update,
            time(1_700_000_000_000),
            12,
            Uuid::from_u128(5),
        )
    }
}

pub(crate) fn sidecar(sealed: bool) -> Sidecar {
    Sidecar {
        seal: sealed.then_some(Seal {
            by: Uuid::from_u128(0xfeed),
            at_ms: -1,
        }),
        deleted: RoaringBitmap::from_iter([0, 1, 2, 7, 65_535, 65_536, 1_000_000]),
    }
}

pub(crate) fn change_set() -> ChangeSet {
    let delta = RoaringBitmap::from_iter([3, 9, 27]);
    ChangeSet {
        op: OpKind::Merge,
        base_version: 12,
        add: vec![
            entry(100),
            SuperfileEntry {
                row_ids: RowIds::Stored,
                tombstones: Some(tombstone_ref(5, 2)),
                ..entry(101)
            },
        ],
        tombstone: vec![
            TombstoneChange {
                superfile: superfile(1),
                base: None,
                union: tombstone_ref(6, 3),
                delta: delta.clone(),
            },
            TombstoneChange {
                superfile: superfile(2),
                base: Some(sidecar_id(1)),
                union: tombstone_ref(7, 10),
                delta,
            },
        ],
        drop: vec![DropChange {
            superfile: superfile(3),
            base: Some(sidecar_id(2)),
            live_rows: 995,
            moved: None,
        }],
        metadata: Some(metadata()),
        statement: "MERGE INTO t …".to_owned(),
        rows_inserted: 1,
        rows_deleted: 998,
        rows_updated: 3,
        started_at_ms: 1_700_000_000_100,
        serializable: false,
        absent_keys: vec![absent_keys()],
    }
}

// Random values.

prop_compose! {
    pub(crate) fn any_hash()(bytes in any::<[u8; 32]>()) -> ContentHash {
        ContentHash::from_bytes(bytes)
    }
}

pub(crate) fn any_op() -> impl Strategy<Value = OpKind> {
    prop::sample::select(vec![
        OpKind::Insert,
        OpKind::Delete,
        OpKind::Update,
        OpKind::Merge,
        OpKind::Truncate,
        OpKind::Overwrite,
        OpKind::Compact,
        OpKind::Alter,
    ])
}

pub(crate) fn any_bitmap() -> impl Strategy<Value = RoaringBitmap> {
    let range = (any::<u32>(), 0u32..100_000)
        .prop_map(|(from, len)| (from..=from.saturating_add(len)).collect());
    prop_oneof![
        prop::collection::vec(any::<u32>(), 0..200).prop_map(RoaringBitmap::from_iter),
        prop::collection::vec(0u32..70_000, 0..9_000).prop_map(RoaringBitmap::from_iter),
        range,
    ]
    .prop_flat_map(|bitmap: RoaringBitmap| {
        any::<bool>().prop_map(move |optimize| {
            let mut bitmap = bitmap.clone();
            if optimize {
                bitmap.optimize();
            }
            bitmap
        })
    })
}

pub(crate) fn any_value() -> impl Strategy<Value = StatValue> {
    prop_oneof![
        any::<bool>().prop_map(StatValue::Bool),
        any::<i64>().prop_map(StatValue::Int),
        any::<u64>().prop_map(StatValue::UInt),
        (prop::num::f64::ANY)
            .prop_filter("NaN", |v| !v.is_nan())
            .prop_map(StatValue::Float),
        any::<i128>().prop_map(StatValue::Decimal),
        ".{0,40}".prop_map(StatValue::Utf8),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(StatValue::Binary),
    ]
}

prop_compose! {
    fn any_column()(
        min in prop::option::of(any_value()),
        max in prop::option::of(any_value()),
        null_count in prop::option::of(any::<u64>()),
        min_exact in any::<bool>(),
        max_exact in any::<bool>(),
    ) -> ColumnStats {
        ColumnStats { min, max, null_count, min_exact, max_exact }
    }
}

prop_compose! {
    pub(crate) fn any_tombstones(rows: u64)(
        sidecar in any::<u128>(),
        hash in any_hash(),
        cardinality in 1..=rows,
        size in any::<u64>(),
    ) -> TombstoneRef {
        TombstoneRef { sidecar: Uuid::from_u128(sidecar).into(), hash, cardinality, size }
    }
}

fn any_stored() -> impl Strategy<Value = ColumnSource> {
    prop_oneof![
        ".{0,8}".prop_map(ColumnSource::Name),
        prop::option::of(".{0,8}").prop_map(ColumnSource::Constant),
    ]
}

prop_compose! {
    fn any_adopted()(
        source in ".{0,40}",
        columns in prop::collection::btree_map(any::<i32>(), any_stored(), 0..4),
    ) -> ExternalFile {
        ExternalFile { source, columns }
    }
}

prop_compose! {
    fn any_clustering()(
        layout in prop::sample::select(vec![Layout::ZOrder, Layout::Hilbert, Layout::Declared, Layout::Stored]),
        columns in prop::collection::vec(any::<i32>(), 0..9),
        run in any::<u128>(),
        bytes in any::<u64>(),
    ) -> Clustering {
        Clustering { key: ClusterKey { layout, columns }, run: Uuid::from_u128(run).into(), bytes }
    }
}

/// What is known of a file apart from its columns.
fn any_facts() -> impl Strategy<
    Value = (
        Option<FooterChecksum>,
        Option<InPlace>,
        Option<ExternalFile>,
        Option<Clustering>,
    ),
> {
    let checksum = any::<[u8; 8]>().prop_map(|bytes| FooterChecksum::of(&[], &bytes));
    let file = ("[a-z]{1,9}", ".{1,20}").prop_map(|(name, tag)| InPlace::parse(&name, &tag));
    (
        prop_oneof![Just(None), checksum],
        prop_oneof![Just(None), file],
        prop::option::of(any_adopted()),
        prop::option::of(any_clustering()),
    )
        .prop_map(|(checksum, file, external, clustering)| {
            (
                checksum,
                file.filter(|_| checksum.is_some()),
                external,
                clustering,
            )
        })
}

prop_compose! {
    pub(crate) fn any_entry()(rows in 1u64..=1 << 24)(
        rows in Just(rows),
        id in any::<u128>(),
        size in 0u64..1 << 50,
        created_at_ms in any::<i64>(),
        first in prop::option::of(any::<i128>()),
        columns in prop::collection::btree_map(any::<i32>(), any_column(), 0..6),
        tombstones in prop::option::of(any_tombstones(rows)),
        moved_at in any::<u64>(),
        added_at in any::<u64>(),
        delete_count in any::<u32>(),
        (checksum, in_place, external, clustering) in any_facts(),
    ) -> SuperfileEntry {
        SuperfileEntry {
            id: Uuid::from_u128(id).into(),
            rows,
            size,
            created_at_ms,
            row_ids: first.map_or(RowIds::Stored, |v| RowIds::Span(RowId::from_i128(v))),
            footer_checksum: checksum,
            in_place,
            external,
            clustering,
            stats: SuperfileStats { columns },
            tombstones,
            moved_at,
            added_at,
            delete_count,
        }
    }
}

prop_compose! {
    pub(crate) fn any_commit()(
        wal_id in any::<i128>(),
        op in any_op(),
        version in any::<u64>(),
        counts in any::<[u64; 3]>(),
        statement in ".{0,60}",
        started_at_ms in any::<i64>(),
    ) -> CommitRecord {
        CommitRecord {
            wal_id: WalId::from_i128(wal_id),
            op,
            version,
            rows_inserted: counts[0],
            rows_deleted: counts[1],
            rows_updated: counts[2],
            statement,
            started_at_ms,
        }
    }
}

pub(crate) fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    // The years that RFC 3339 can spell.
    (0i64..253_402_300_799_999_999).prop_map(|us| Utc.timestamp_micros(us).unwrap())
}

prop_compose! {
    pub(crate) fn any_state_doc()(
        wal_id in any::<i128>(),
        op in any_op(),
        state in prop::sample::select(vec![WalState::Intent, WalState::Appended, WalState::Complete]),
        times in [any_time(), any_time(), any_time()],
        owner in prop::option::of(".{0,20}"),
        predicate_repr in ".{0,80}",
        ids in prop::collection::vec(any::<i128>(), 0..5),
        new_row_count in prop::option::of(any::<u64>()),
        hash in prop::option::of(any_hash()),
        preallocated in prop::option::of(any::<u128>()),
        nonce in any::<u128>(),
        base_version in any::<u64>(),
    ) -> StateDoc {
        let ids: Vec<RowId> = ids.into_iter().map(RowId::from_i128).collect();
        let mut doc = StateDoc::intent(
            WalId::from_i128(wal_id),
            op,
            times[0],
            base_version,
            Uuid::from_u128(nonce),
        );
        doc.state = state;
        doc.lease = owner.map(|owner| Lease { owner, acquired_at: times[1], expires_at: times[2] });
        doc.predicate_repr = predicate_repr;
        doc.minted_id_spans = ids.iter().map(|id| IdSpan { first: *id, last: *id }).collect();
        doc.tombstone_progress = ids
            .iter()
            .map(|id| TombstoneProgress {
                target_id: *id,
                outcome: TargetOutcome::Pending,
                tombstoned_in_superfile: preallocated.map(|p| Uuid::from_u128(p).into()),
            })
            .collect();
        doc.target_ids = ids;
        doc.new_row_count = new_row_count;
        doc.new_row_content_hash = hash;
        doc.preallocated_superfile_id = preallocated.map(|p| Uuid::from_u128(p).into());
        doc
    }
}

prop_compose! {
    fn any_tombstone_change()(
        superfile in any::<u128>(),
        base in prop::option::of(any::<u128>()),
        more in 1u64..1000,
        sidecar in any::<u128>(),
        hash in any_hash(),
        delta in any_bitmap().prop_filter("empty", |b| !b.is_empty()),
    ) -> TombstoneChange {
        let base = base.filter(|b| *b != sidecar);
        TombstoneChange {
            superfile: Uuid::from_u128(superfile).into(),
            union: TombstoneRef {
                sidecar: Uuid::from_u128(sidecar).into(),
                hash,
                cardinality: delta.len() + if base.is_some() { more } else { 0 },
                size: more,
            },
            base: base.map(|b| Uuid::from_u128(b).into()),
            delta,
        }
    }
}

prop_compose! {
    fn any_absent_keys()(
        columns in prop::collection::btree_set(any::<i32>(), 0..4),
        hashes in prop::option::of(prop::collection::btree_set(any::<u64>(), 1..9)),
        ends in prop::collection::vec((any::<i64>(), any::<Option<i64>>()), 4),
        adds_others in any::<bool>(),
    ) -> AbsentKeys {
        let range = (ends.iter().take(columns.len())).map(|(min, max)| Bounds {
            max: max.map(StatValue::Int),
            ..bounds(*min, 0)
        });
        AbsentKeys {
            ranges: vec![range.collect()],
            columns: columns.into_iter().collect(),
            hashes: hashes.map(|hashes| hashes.into_iter().collect()),
            adds_others,
        }
    }
}

prop_compose! {
    pub(crate) fn any_change_set()(
        op in any_op(),
        counts in any::<[u64; 4]>(),
        add in prop::collection::vec(any_entry(), 0..4),
        tombstone in prop::collection::vec(any_tombstone_change(), 0..4),
        drops in prop::collection::vec((any::<u128>(), prop::option::of(any::<u128>()), any::<u64>()), 0..4),
        with_metadata in any::<bool>(),
        statement in ".{0,60}",
        started_at_ms in any::<i64>(),
        serializable in any::<bool>(),
        absent_keys in prop::collection::vec(any_absent_keys(), 0..3),
    ) -> ChangeSet {
        ChangeSet {
            op,
            base_version: counts[3],
            add: add.into_iter().map(|e| SuperfileEntry { moved_at: 0, added_at: 0, delete_count: 0, ..e }).collect(),
            tombstone,
            drop: drops
                .into_iter()
                .map(|(id, base, live_rows)| DropChange {
                    superfile: Uuid::from_u128(id).into(),
                    base: base.map(|b| Uuid::from_u128(b).into()),
                    live_rows,
                    moved: None,
                })
                .collect(),
            metadata: with_metadata.then(metadata),
            statement,
            rows_inserted: counts[0],
            rows_deleted: counts[1],
            rows_updated: counts[2],
            started_at_ms,
            serializable,
            absent_keys,
        }
    }
}
