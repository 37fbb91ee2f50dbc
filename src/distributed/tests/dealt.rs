//! How superfiles are dealt out: each piece once, whatever the numbers.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use proptest::prelude::*;

use crate::distributed::deal::dealt;

fn scan(groups: &[Vec<u64>], ordered: bool) -> FileScanConfig {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let mut number = 0;
    let groups = groups.iter().map(|sizes| {
        let files = sizes.iter().map(|size| {
            number += 1;
            PartitionedFile::new(format!("f{number}"), *size)
        });
        FileGroup::new(files.collect())
    });
    let order = PhysicalSortExpr::new(Arc::new(Column::new("id", 0)), SortOptions::default());
    let order = LexOrdering::new([order]).filter(|_| ordered);
    let source = Arc::new(ParquetSource::new(schema));
    FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), source)
        .with_file_groups(groups.collect())
        .with_output_ordering(order.into_iter().collect())
        .build()
}

/// Bytes of each file that are read, as ranges in their order.
fn read(groups: &[FileGroup]) -> Vec<(String, i64, i64)> {
    let files = groups.iter().flat_map(FileGroup::iter);
    let mut read: Vec<_> = files
        .map(|file| {
            let whole = (0, i64::try_from(file.object_meta.size).unwrap());
            let (start, end) = file.range.as_ref().map_or(whole, |r| (r.start, r.end));
            (file.object_meta.location.to_string(), start, end)
        })
        .collect();
    read.sort();
    read
}

/// The same, adjoining ranges of a file as one.
fn joined(mut pieces: Vec<(String, i64, i64)>) -> Vec<(String, i64, i64)> {
    pieces.sort();
    let mut joined: Vec<(String, i64, i64)> = Vec::new();
    for (path, start, end) in pieces {
        match joined.last_mut() {
            Some(last) if last.0 == path && last.2 == start => last.2 = end,
            _ => joined.push((path, start, end)),
        }
    }
    joined
}

fn sizes() -> impl Strategy<Value = Vec<Vec<u64>>> {
    let size = prop_oneof![12_u64..5000, 1_000_000_u64..300_000_000];
    prop::collection::vec(prop::collection::vec(size, 0..6), 1..6)
}

proptest! {
    #[test]
    fn every_byte_is_read_once(groups in sizes(), ordered: bool, tasks in 1_usize..9) {
        let scan = scan(&groups, ordered);
        let dealt = dealt(&scan, tasks);
        prop_assert_eq!(dealt.len(), tasks);
        // All workers have as many partitions.
        prop_assert!(dealt.iter().all(|groups| groups.len() == dealt[0].len()));
        prop_assert!(!dealt[0].is_empty());
        let all: Vec<FileGroup> = dealt.iter().flatten().cloned().collect();
        prop_assert_eq!(joined(read(&all)), joined(read(&scan.file_groups)));
    }

    #[test]
    fn an_order_keeps_groups_as_they_are(groups in sizes(), tasks in 1_usize..9) {
        let scan = scan(&groups, true);
        let mut whole: Vec<_> = scan.file_groups.iter().map(|group| read(std::slice::from_ref(group))).collect();
        let dealt = dealt(&scan, tasks);
        let mut got: Vec<_> = dealt.iter().flatten().map(|group| read(std::slice::from_ref(group))).collect();
        whole.retain(|group| !group.is_empty());
        got.retain(|group| !group.is_empty());
        whole.sort();
        got.sort();
        prop_assert_eq!(got, whole);
    }

    #[test]
    fn all_workers_have_work_if_there_is_enough(files in 1_usize..40, tasks in 1_usize..6) {
        let scan = scan(&[vec![1000; files], vec![]], false);
        let with_work = dealt(&scan, tasks).iter().filter(|groups| !read(groups).is_empty()).count();
        prop_assert_eq!(with_work, files.min(tasks));
    }
}
