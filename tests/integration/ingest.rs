//! How `INSERT` writes the rows of one partition and of several: in order, into few superfiles, all or none.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::{Error, ErrorKind};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding};

use crate::support::sql::number;

const PARTITIONS: i64 = 4;
/// Rows of a partition that is worth a superfile of its own: they take 20 MB.
const MANY: i64 = 20_000;

fn session(threads: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(threads);
    let ctx = SessionContext::new_with_config(config);
    datafusion_supertable::register(&ctx).unwrap();
    ctx
}

async fn try_run(ctx: &SessionContext, sql: &str) -> datafusion::error::Result<Vec<RecordBatch>> {
    datafusion_supertable::sql(ctx, sql).await?.collect().await
}

async fn create(ctx: &SessionContext, place: &Path, more: &str) {
    let create = format!(
        "CREATE EXTERNAL TABLE t (id BIGINT, s VARCHAR) STORED AS SUPERTABLE LOCATION '{}/t/' {more}",
        place.display()
    );
    try_run(ctx, &create).await.unwrap();
}

/// Ids from `first` on, each with a string of so many bytes, in batches of 1000.
fn partition(first: i64, rows: i64, bytes: usize) -> Vec<RecordBatch> {
    let starts = (0..rows).step_by(1000);
    let batch = |start: i64| {
        let ids = first + start..first + rows.min(start + 1000);
        let strings = ids.clone().map(|id| format!("{id:0bytes$}"));
        let strings: ArrayRef = Arc::new(StringArray::from_iter_values(strings));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("s", strings, true)]).unwrap()
    };
    starts.map(batch).collect()
}

fn register(ctx: &SessionContext, partitions: Vec<Vec<RecordBatch>>) {
    let schema = partitions[0][0].schema();
    let rows = MemTable::try_new(schema, partitions).unwrap();
    ctx.register_table("m", Arc::new(rows)).unwrap();
}

fn many() -> Vec<Vec<RecordBatch>> {
    (0..PARTITIONS)
        .map(|p| partition(p * MANY, MANY, 1000))
        .collect()
}

fn superfiles(place: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(place.join("t/superfiles"));
    let files = files.into_iter().flatten().map(|file| file.unwrap().path());
    files.collect()
}

/// The ids of a superfile in the order in which they stand in it.
fn ids(file: &Path) -> Vec<i64> {
    let file = std::fs::File::open(file).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let batches = reader.build().unwrap().map(|batch| batch.unwrap());
    let ids = |batch: RecordBatch| {
        batch
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    };
    batches.flat_map(ids).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_partition_stay_in_their_order_whatever_is_computed_of_them() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(4);
    create(&ctx, place.path(), "").await;
    register(&ctx, vec![partition(0, 50_000, 8)]);
    let insert = "INSERT INTO t SELECT id + 1, s || '!' FROM m WHERE id % 10 <> 3";
    try_run(&ctx, insert).await.unwrap();
    let [file] = &superfiles(place.path())[..] else {
        panic!("one superfile");
    };
    let ids = ids(file);
    assert_eq!(ids.len(), 45_000);
    assert!(ids.is_sorted());
    // A query's own order counts, too.
    let other = place.path().join("other");
    let ctx = session(4);
    create(&ctx, &other, "").await;
    register(&ctx, many());
    let insert = "INSERT INTO t SELECT -id, 'x' FROM m ORDER BY -id";
    try_run(&ctx, insert).await.unwrap();
    let files = superfiles(&other);
    let [file] = &files[..] else {
        panic!("one superfile");
    };
    assert!(self::ids(file).is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_write_superfiles_of_their_own_each_in_order() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(4);
    create(&ctx, place.path(), "").await;
    register(&ctx, many());
    try_run(&ctx, "INSERT INTO t SELECT * FROM m")
        .await
        .unwrap();
    let files = superfiles(place.path());
    assert_eq!(files.len(), PARTITIONS as usize);
    for file in &files {
        let ids = ids(file);
        assert_eq!(ids.len(), MANY as usize);
        assert!(ids.is_sorted());
    }
    let rows = PARTITIONS * MANY;
    assert_eq!(number(&ctx, "SELECT count(DISTINCT id) FROM t").await, rows);
    try_run(&ctx, "SET supertable.expose_row_id = true")
        .await
        .unwrap();
    let distinct = "SELECT count(DISTINCT _id(t.id)) FROM t";
    let counted = try_run(&ctx, distinct).await.unwrap();
    assert_eq!(
        counted[0].column(0).as_primitive::<Int64Type>().value(0),
        rows
    );
    let history = "SELECT CAST(max(rows_inserted) AS BIGINT) FROM supertable_history('t')";
    assert_eq!(number(&ctx, history).await, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_rows_of_many_partitions_are_one_superfile() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(8);
    create(&ctx, place.path(), "").await;
    register(&ctx, (0..8).map(|p| partition(p * 10, 10, 8)).collect());
    try_run(&ctx, "INSERT INTO t SELECT * FROM m")
        .await
        .unwrap();
    let [file] = &superfiles(place.path())[..] else {
        panic!("one superfile");
    };
    assert_eq!(ids(file), (0..80).collect::<Vec<_>>());
    // One partition that is worth a superfile, and others that are not: those are joined. (DataFusion splits partitions
    // of a table in memory while there are fewer of them than threads.)
    let threads = "SET datafusion.execution.target_partitions = 4";
    try_run(&ctx, threads).await.unwrap();
    let mut partitions = vec![partition(1000, MANY, 1000)];
    partitions.extend((0..3).map(|p| partition(p * 10, 10, 8)));
    ctx.deregister_table("m").unwrap();
    register(&ctx, partitions);
    try_run(&ctx, "INSERT INTO t SELECT * FROM m")
        .await
        .unwrap();
    let mut rows: Vec<usize> = superfiles(place.path())
        .iter()
        .map(|f| ids(f).len())
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, [30, 80, MANY as usize]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_partitions_wrote_is_gone_when_one_fails() {
    let place = tempfile::tempdir().unwrap();
    let ctx = session(4);
    let check = "OPTIONS ('supertable.check.small' 'id < 79999')";
    create(&ctx, place.path(), check).await;
    register(&ctx, many());
    let error = try_run(&ctx, "INSERT INTO t SELECT * FROM m")
        .await
        .unwrap_err();
    assert_eq!(
        Error::find_in(&error).unwrap().kind(),
        ErrorKind::Constraint
    );
    datafusion_supertable::wait_for_background_work(&ctx).await;
    assert!(superfiles(place.path()).is_empty());
    assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, 0);
    let documents = std::fs::read_dir(place.path().join("t/wal/mutations"));
    assert_eq!(documents.into_iter().flatten().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_is_dropped_leaves_nothing_and_holds_nothing() {
    let place = tempfile::tempdir().unwrap();
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(4 << 30));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool));
    let config = SessionConfig::new().with_target_partitions(4);
    let ctx = SessionContext::new_with_config_rt(config, runtime.build_arc().unwrap());
    datafusion_supertable::register(&ctx).unwrap();
    create(&ctx, place.path(), "").await;
    register(&ctx, many());
    for patience in [0, 20, 60, 150] {
        let insert = try_run(&ctx, "INSERT INTO t SELECT * FROM m");
        let ended = tokio::time::timeout(Duration::from_millis(patience), insert).await;
        if ended.is_ok() {
            try_run(&ctx, "TRUNCATE TABLE t").await.unwrap();
            continue;
        }
        datafusion_supertable::wait_for_background_work(&ctx).await;
        let mut turns = 0;
        while pool.reserved() > 0 && turns < 600 {
            turns += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(pool.reserved(), 0, "after {patience} ms");
        assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, 0);
    }
}

/// Codec and encodings of each column of the only superfile.
fn written(place: &Path) -> Vec<(Compression, Vec<Encoding>)> {
    let [file] = &superfiles(place)[..] else {
        panic!("one superfile");
    };
    let file = std::fs::File::open(file).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let group = reader.metadata().row_group(0);
    let columns = group.columns().iter();
    columns
        .map(|c| (c.compression(), c.encodings().collect()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_encoded_as_their_values_ask_for_unless_somebody_says_how() {
    let place = tempfile::tempdir().unwrap();
    let insert = "INSERT INTO t SELECT id, 'word ' || (id % 5) FROM m";
    let ctx = session(2);
    create(&ctx, place.path(), "").await;
    register(&ctx, vec![partition(0, 20_000, 1)]);
    try_run(&ctx, insert).await.unwrap();
    let columns = written(place.path());
    assert_eq!(columns[0].0, Compression::UNCOMPRESSED);
    assert!(columns[0].1.contains(&Encoding::DELTA_BINARY_PACKED));
    assert!(!columns[0].1.contains(&Encoding::RLE_DICTIONARY));
    assert!(columns[1].1.contains(&Encoding::RLE_DICTIONARY));

    for (setting, table) in [
        (
            "SET datafusion.execution.parquet.compression = 'snappy'",
            "",
        ),
        ("SET supertable.write.compression = 'snappy'", ""),
        (
            "SELECT 1",
            "OPTIONS ('supertable.write.compression' 'snappy')",
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        let ctx = session(2);
        create(&ctx, place.path(), table).await;
        register(&ctx, vec![partition(0, 20_000, 1)]);
        try_run(&ctx, setting).await.unwrap();
        try_run(&ctx, insert).await.unwrap();
        let columns = written(place.path());
        assert!(
            columns
                .iter()
                .all(|(codec, _)| *codec == Compression::SNAPPY),
            "{setting}"
        );
        assert!(columns[0].1.contains(&Encoding::DELTA_BINARY_PACKED));
    }
    let dictionary = tempfile::tempdir().unwrap();
    let ctx = session(2);
    let option = "OPTIONS ('supertable.write.dictionary' 'true')";
    create(&ctx, dictionary.path(), option).await;
    register(&ctx, vec![partition(0, 20_000, 1)]);
    try_run(&ctx, insert).await.unwrap();
    assert!(
        written(dictionary.path())[0]
            .1
            .contains(&Encoding::RLE_DICTIONARY)
    );
}
