//! A scan is after its journey what it was before, and damaged bytes are an error.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use chrono::DateTime;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, lit};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::physical_plan_to_bytes_with_extension_codec;
use datafusion_proto::physical_plan::{
    DeduplicatingProtoConverter, DefaultPhysicalExtensionCodec, PhysicalExtensionCodec,
};
use object_store::ObjectMeta;
use object_store::path::Path;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::distributed::codec::SupertableCodec;
use crate::distributed::envelope::{Kind, open, seal};
use crate::distributed::leaf::WorkerScanExec;
use crate::error::{Error, ErrorKind};
use crate::format::manifest::{FIELD_ID_KEY, TombstoneRef};
use crate::format::{ColumnSource, ContentHash, FooterChecksum, SidecarId, SuperfileId};
use crate::scan::ScanLocation;
use crate::scan::plan::statistics::ColumnIds;
use crate::scan::read::defaults::InitialDefaults;
use crate::scan::read::leave_out::Candidates;
use crate::scan::read::parts::{ScanSummary, SourceParts};
use crate::scan::read::source::SupertableSource;
use crate::scan::row_address::{file_field, first_row_id_field, position_field};
use crate::scan::tombstones::mark::Tombstoned;
use crate::storage::{RetryPolicy, Storage};
use crate::table::Sidecars;

/// What differs from scan to scan.
#[derive(Debug, Clone)]
struct Given {
    files: Vec<GivenFile>,
    groups: usize,
    hidden: bool,
    predicate: Option<i64>,
    limit: Option<usize>,
    ordered: bool,
    default: Option<String>,
    indexed: bool,
    pushdown: bool,
}

#[derive(Debug, Clone)]
struct GivenFile {
    id: u128,
    size: u64,
    own: bool,
    seal: Option<Vec<u8>>,
    external: Option<BTreeMap<i32, Option<String>>>,
    tombstones: Option<(u128, u64)>,
    wanted: Option<Vec<u32>>,
    range: Option<(i64, i64)>,
}

fn file() -> impl Strategy<Value = GivenFile> {
    (
        any::<u128>(),
        any::<u32>(),
        any::<bool>(),
        prop::option::of(prop::collection::vec(any::<u8>(), 1..50)),
        prop::option::of(prop::collection::btree_map(
            1..9,
            prop::option::of("[a-z ü]{0,6}"),
            0..4,
        )),
        prop::option::of((any::<u128>(), 1_u64..1000)),
        prop::option::of(prop::collection::vec(0_u32..5000, 0..40)),
        prop::option::of((0_i64..500, 500_i64..1000)),
    )
        .prop_map(
            |(id, size, own, seal, external, tombstones, wanted, range)| GivenFile {
                id,
                size: size.into(),
                own,
                seal,
                external,
                tombstones,
                wanted,
                range,
            },
        )
}

fn given() -> impl Strategy<Value = Given> {
    (
        prop::collection::vec(file(), 0..8),
        1_usize..5,
        any::<bool>(),
        prop::option::of(any::<i64>()),
        prop::option::of(0_usize..usize::MAX),
        any::<bool>(),
        prop::option::of("[a-z]{0,8}"),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(files, groups, hidden, predicate, limit, ordered, default, indexed, pushdown)| {
                Given {
                    files,
                    groups,
                    hidden,
                    predicate,
                    limit,
                    ordered,
                    default,
                    indexed,
                    pushdown,
                }
            },
        )
}

fn partitioned(given: &GivenFile, at: usize, hidden: bool) -> PartitionedFile {
    let mut file = PartitionedFile::new_from_meta(ObjectMeta {
        location: Path::from(format!("lake/t/superfiles/{at}.parquet")),
        last_modified: DateTime::from_timestamp_millis(1_700_000_000_123).unwrap(),
        size: given.size,
        e_tag: None,
        version: None,
    });
    if let Some((start, end)) = given.range {
        file = file.with_range(start, end);
    }
    if hidden {
        file.partition_values = vec![
            ScalarValue::Int32(Some(i32::try_from(at).unwrap())),
            ScalarValue::Decimal128(Some(given.id as i128 >> 3), 38, 0),
        ];
    }
    let mut known = Statistics::new_unknown(&Schema::empty());
    known.num_rows = Precision::Exact(at);
    known.column_statistics = vec![ColumnStatistics {
        null_count: Precision::Exact(0),
        min_value: Precision::Exact(ScalarValue::Int64(Some(-1))),
        max_value: Precision::Inexact(ScalarValue::Int64(Some(9))),
        ..ColumnStatistics::new_unknown()
    }];
    file.statistics = Some(Arc::new(known));
    if given.own {
        file = file.with_extension(SuperfileId::from_uuid(Uuid::from_u128(given.id)));
    }
    if let Some(end) = &given.seal {
        file = file.with_extension(FooterChecksum::of(&end[1..], end).unwrap());
    }
    if let Some(external) = &given.external {
        let source = |(id, name): (&i32, &Option<String>)| match name {
            Some(name) if id % 2 == 0 => (*id, ColumnSource::Name(name.clone())),
            constant => (*id, ColumnSource::Constant(constant.clone())),
        };
        let columns: BTreeMap<i32, ColumnSource> = external.iter().map(source).collect();
        file = file.with_extension(Arc::new(columns));
    }
    let mark = match (&given.tombstones, &given.wanted) {
        (_, Some(wanted)) => {
            let positions: RoaringBitmap = wanted.iter().copied().collect();
            Some(Tombstoned::all_but(Arc::new(positions), 5000))
        }
        (Some((id, cardinality)), None) => {
            let reference = TombstoneRef {
                sidecar: SidecarId::from_uuid(Uuid::from_u128(*id)),
                hash: ContentHash::of(&id.to_le_bytes()),
                cardinality: *cardinality,
                size: 77,
            };
            Some(Tombstoned::new(reference, 5000))
        }
        (None, None) => None,
    };
    if let Some(mark) = mark {
        file = file.with_extension(Arc::new(mark));
    }
    file
}

/// A scan as `plan_scan` makes it.
fn scan(given: &Given) -> Arc<dyn ExecutionPlan> {
    let numbered = |name: &str, data_type, id: i32| {
        let metadata = HashMap::from([(FIELD_ID_KEY.to_owned(), id.to_string())]);
        Field::new(name, data_type, id == 2).with_metadata(metadata)
    };
    let columns = vec![
        numbered("id", DataType::Int64, 1),
        numbered("Name", DataType::Utf8View, 2),
    ];
    let stored = Arc::new(Schema::new(columns));
    let table = match given.hidden {
        true => TableSchema::builder(Arc::clone(&stored))
            .with_table_partition_cols(vec![file_field(), first_row_id_field()])
            .with_virtual_columns(vec![position_field()])
            .build(),
        false => TableSchema::builder(Arc::clone(&stored)).build(),
    };
    let all = Arc::clone(table.table_schema());
    let mut options = TableParquetOptions::default();
    options.global.pushdown_filters = given.pushdown;
    let mut parquet = ParquetSource::new(table).with_table_parquet_options(options);
    if let Some(value) = given.predicate {
        let id: Arc<dyn PhysicalExpr> = Arc::new(Column::new("id", 0));
        let predicate = BinaryExpr::new(id, Operator::Gt, lit(value));
        parquet = parquet.with_predicate(Arc::new(predicate));
    }
    let mut in_place = HashMap::new();
    let files = given.files.iter().enumerate().map(|(at, file)| {
        let partitioned = partitioned(file, at, given.hidden);
        if !file.own {
            in_place.insert(
                partitioned.object_meta.location.clone(),
                format!("\"{at}\""),
            );
        }
        partitioned
    });
    let files: Vec<PartitionedFile> = files.collect();
    let groups = (0..given.groups).map(|group| {
        let of_group = files.iter().skip(group).step_by(given.groups);
        FileGroup::new(of_group.cloned().collect())
    });
    let location = ScanLocation {
        store_url: ObjectStoreUrl::local_filesystem(),
        root: Path::from("lake/t"),
    };
    let default = given.default.iter();
    let defaults =
        default.map(|text| ("Name".to_owned(), ScalarValue::Utf8View(Some(text.clone()))));
    let parts = SourceParts {
        location: location.clone(),
        stored: Arc::clone(&stored),
        defaults: Arc::new(InitialDefaults(defaults.collect())),
        in_place,
        indexed: given.indexed,
        filtered: Default::default(),
        summary: ScanSummary {
            superfiles: files.len(),
            dropped: 1,
            pruned: 2,
            pruned_by_bloom_filters: 1,
            tombstoned_rows: 3,
        },
    };
    let context = TaskContext::default();
    let readers = parts.readers(&context.runtime_env()).unwrap();
    let storage = Storage::local("/lake/t", RetryPolicy::default()).unwrap();
    let sidecars = Arc::new(Sidecars::without_table(storage));
    let ids = ColumnIds::of(&stored);
    let candidates = Candidates::new(Vec::new(), location, Arc::clone(&all), ids);
    let source = SupertableSource::new(parquet, readers, sidecars, candidates, parts);
    let defaults = source.defaults();
    let wanted: Vec<usize> = (0..all.fields().len()).rev().collect();
    let projection = ProjectionExprs::from_indices(&wanted, &all);
    let source = source
        .try_pushdown_projection(&projection)
        .unwrap()
        .unwrap();
    let order = PhysicalSortExpr::new(
        Arc::new(Column::new("id", 0)),
        SortOptions {
            descending: true,
            nulls_first: false,
        },
    );
    let order = LexOrdering::new([order]).filter(|_| given.ordered);
    let mut config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), source)
        .with_file_groups(groups.collect())
        .with_output_ordering(order.into_iter().collect())
        .with_limit(given.limit)
        .with_expr_adapter(Some(defaults))
        .build();
    config.preserve_order = given.ordered;
    DataSourceExec::from_data_source(config)
}

fn encoded(plan: &Arc<dyn ExecutionPlan>) -> Vec<u8> {
    let (codec, mut bytes) = (SupertableCodec::default(), Vec::new());
    let converter = DeduplicatingProtoConverter::default();
    codec
        .try_encode(Arc::clone(plan), &mut bytes, &converter)
        .unwrap();
    bytes
}

fn decoded(bytes: &[u8]) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
    let converter = DeduplicatingProtoConverter::default();
    SupertableCodec::default().try_decode(bytes, &[], &TaskContext::default(), &converter)
}

/// All that `DataSourceExec` says of a scan, and what it does not.
fn said(plan: &Arc<dyn ExecutionPlan>) -> String {
    let config = crate::distributed::deal::scan_of(plan).unwrap();
    let source = config
        .file_source
        .downcast_ref::<SupertableSource>()
        .unwrap();
    let parts = source.parts();
    let mut in_place: Vec<_> = parts.in_place.iter().collect();
    in_place.sort();
    let mut defaults: Vec<_> = parts.defaults.0.iter().collect();
    defaults.sort_by(|a, b| a.0.cmp(b.0));
    let parquet = source.parquet().unwrap();
    let marks = config.file_groups.iter().flat_map(FileGroup::iter);
    let marks = marks.map(|file| {
        let mark = file.extension::<Arc<Tombstoned>>();
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            file.object_meta,
            (&file.partition_values, &file.statistics),
            &file.range,
            file.range.is_some(),
            file.extension::<SuperfileId>(),
            file.extension::<FooterChecksum>(),
            file.extension::<Arc<BTreeMap<i32, ColumnSource>>>(),
            mark.map(|mark| (mark.rows(), format!("{:?}", mark.deleted()))),
        )
    });
    let schema = |schema: &Schema| {
        let fields = schema.fields().iter().map(|field| {
            let metadata: BTreeMap<_, _> = field.metadata().iter().collect();
            format!(
                "{} {:?} {} {metadata:?}",
                field.name(),
                field.data_type(),
                field.is_nullable()
            )
        });
        fields.collect::<Vec<_>>()
    };
    let table = parquet.table_schema();
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        marks.collect::<Vec<_>>(),
        config.output_ordering,
        (config.limit, config.preserve_order, config.batch_size),
        (&parts.location, schema(&parts.stored), parts.indexed),
        (in_place, defaults),
        format!("{:?}", parts.summary),
        (schema(table.table_schema()), schema(table.file_schema())),
        parquet.projection(),
        parquet.filter(),
        parquet.table_parquet_options(),
        schema(&plan.schema()),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_scan_arrives_as_it_left(given in given()) {
        let left = scan(&given);
        let bytes = encoded(&left);
        let arrived = decoded(&bytes).unwrap();
        let leaf = arrived.downcast_ref::<WorkerScanExec>().unwrap();
        prop_assert_eq!(said(leaf.scan()), said(&left));
        // And once more, from there.
        let again = decoded(&encoded(&arrived)).unwrap();
        let leaf = again.downcast_ref::<WorkerScanExec>().unwrap();
        prop_assert_eq!(said(leaf.scan()), said(&left));
    }

    #[test]
    fn pieces_of_a_file_share_their_mark(given in file()) {
        let mut whole = given;
        whole.wanted = Some(vec![1, 2]);
        let given = Given {
            files: vec![whole],
            groups: 1,
            hidden: false,
            predicate: None,
            limit: None,
            ordered: false,
            default: None,
            indexed: false,
            pushdown: false,
        };
        let plan = scan(&given);
        let mut config = crate::distributed::deal::scan_of(&plan).unwrap().clone();
        let file = config.file_groups[0].iter().next().unwrap().clone();
        config.file_groups = vec![FileGroup::new(vec![file.clone()]), FileGroup::new(vec![file])];
        let arrived = decoded(&encoded(&(DataSourceExec::from_data_source(config) as _))).unwrap();
        let leaf = arrived.downcast_ref::<WorkerScanExec>().unwrap();
        let config = crate::distributed::deal::scan_of(leaf.scan()).unwrap();
        let marks: Vec<_> = config
            .file_groups
            .iter()
            .flat_map(FileGroup::iter)
            .map(|file| file.extension::<Arc<Tombstoned>>().unwrap())
            .collect();
        prop_assert!(Arc::ptr_eq(marks[0], marks[1]));
    }

    #[test]
    fn what_was_sealed_by_others_is_no_panic(content in prop::collection::vec(any::<u8>(), 0..300)) {
        for kind in [Kind::Scan, Kind::GatherAddresses, Kind::Inner, Kind::Functions] {
            let mut bytes = Vec::new();
            seal(kind, &content, &mut bytes);
            let _ = decoded(&bytes);
        }
        let _ = decoded(&content);
    }
}

fn one() -> Given {
    Given {
        files: vec![GivenFile {
            id: 7,
            size: 1000,
            own: true,
            seal: Some(vec![1, 2, 3]),
            external: None,
            tombstones: Some((9, 3)),
            wanted: None,
            range: None,
        }],
        groups: 2,
        hidden: true,
        predicate: Some(5),
        limit: None,
        ordered: true,
        default: Some("d".to_owned()),
        indexed: true,
        pushdown: false,
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error() {
    let bytes = encoded(&scan(&one()));
    assert!(decoded(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(decoded(&bytes[..end]).is_err(), "{end} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = decoded(&damaged).unwrap_err();
        let own = Error::find_in(&error).unwrap();
        let kinds = [ErrorKind::Corrupt, ErrorKind::UnsupportedVersion];
        assert!(kinds.contains(&own.kind()), "bit {bit}: {own}");
    }
}

/// The content of an envelope is not damaged by chance; decoders do not panic on it all the same.
#[test]
fn damage_that_was_sealed_again_is_no_panic() {
    let bytes = encoded(&scan(&one()));
    let (_, content) = open(&bytes).unwrap();
    for bit in 0..content.len() * 8 {
        let mut damaged = content.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut sealed = Vec::new();
        seal(Kind::Scan, &damaged, &mut sealed);
        let _ = decoded(&sealed);
        let _ = decoded(&sealed[..sealed.len() - 1]);
    }
    for end in 0..content.len() {
        let mut sealed = Vec::new();
        seal(Kind::Scan, &content[..end], &mut sealed);
        let _ = decoded(&sealed);
    }
}

#[test]
fn a_newer_version_is_told_apart_from_damage() {
    let mut bytes = encoded(&scan(&one()));
    bytes[4] = 2;
    let error = decoded(&bytes).unwrap_err();
    let own = Error::find_in(&error).unwrap();
    assert_eq!(own.kind(), ErrorKind::UnsupportedVersion);
}

#[test]
fn without_the_codec_a_scan_does_not_leave_and_the_error_names_the_feature() {
    let plan = scan(&one());
    let other = DefaultPhysicalExtensionCodec {};
    let error = physical_plan_to_bytes_with_extension_codec(Arc::clone(&plan), &other).unwrap_err();
    let own = Error::find_in(&error).unwrap();
    assert_eq!(own.kind(), ErrorKind::Unsupported);
    assert!(own.to_string().contains("`distributed`"), "{own}");
    let codec = SupertableCodec::default();
    assert!(physical_plan_to_bytes_with_extension_codec(plan, &codec).is_ok());
}
