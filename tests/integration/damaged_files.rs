//! Damaged superfiles: what a statement makes of flipped bits and cuts in a Parquet file.
//!
//! The footer and the page indexes are covered by hashes in the manifest, and all other bytes by checksums in the
//! footer: damage anywhere is an error that names the file, or in bytes that nobody reads. Files of others have no
//! checksums: damage to their pages is an error, or another value, but never a panic.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::{Error, ErrorKind};
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use url::Url;

use crate::support::sql::{show as run, try_show as try_run};

/// A session, and a store `mem://bucket/`.
fn session() -> (SessionContext, Arc<InMemory>) {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    datafusion_supertable::register(&ctx).unwrap();
    let store = Arc::new(InMemory::new());
    let url = Url::parse("mem://bucket/").unwrap();
    ctx.register_object_store(&url, Arc::clone(&store) as _);
    (ctx, store)
}

/// As a session that knows nothing of the files does it; a panic fails the test.
async fn afresh(ctx: &SessionContext, sql: &str) -> Result<String, DataFusionError> {
    ctx.runtime_env()
        .cache_manager
        .get_file_metadata_cache()
        .clear();
    match AssertUnwindSafe(try_run(ctx, sql)).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{sql} panicked"),
    }
}

async fn superfiles(store: &InMemory) -> Vec<Path> {
    let prefix = Path::from("t/superfiles");
    let mut found: Vec<Path> = store
        .list(Some(&prefix))
        .map_ok(|meta| meta.location)
        .try_filter(|path| futures::future::ready(path.as_ref().ends_with(".parquet")))
        .try_collect()
        .await
        .unwrap();
    found.sort();
    found
}

const CREATE: &str = "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR, d DOUBLE) \
                      STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'";
const READS: [&str; 3] = [
    "SELECT * FROM t ORDER BY id",
    "SELECT v FROM t WHERE id BETWEEN 30 AND 40 ORDER BY id",
    "SELECT d FROM t WHERE v = 'v7'",
];

/// One superfile, or two of which the other is sound; rows of the first are deleted if `deleted`.
async fn table(deleted: bool) -> (SessionContext, Arc<InMemory>, Path, Bytes) {
    let (ctx, store) = session();
    run(&ctx, CREATE).await;
    run(
        &ctx,
        "INSERT INTO t SELECT value, 'v' || value, value / 4.0 FROM range(0, 100)",
    )
    .await;
    let [path]: [Path; 1] = superfiles(&store).await.try_into().unwrap();
    if deleted {
        run(&ctx, "DELETE FROM t WHERE id % 5 = 0").await;
    }
    let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
    (ctx, store, path, bytes)
}

/// Bytes of the footer, its length and the magic included.
fn footer_len(file: &[u8]) -> usize {
    let at = file.len() - 8;
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize + 8
}

#[tokio::test]
async fn a_flipped_bit_in_any_byte_of_a_footer_is_an_error_that_names_the_superfile() {
    for deleted in [false, true] {
        let (ctx, store, path, bytes) = table(deleted).await;
        let mut sound = Vec::new();
        for sql in READS {
            sound.push(afresh(&ctx, sql).await.unwrap());
        }
        for at in bytes.len() - footer_len(&bytes)..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            store.put(&path, damaged.into()).await.unwrap();
            let sql = READS[at % READS.len()];
            let error = afresh(&ctx, sql).await.unwrap_err();
            let error = Error::find_in(&error).unwrap_or_else(|| panic!("byte {at}: {error}"));
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
            assert_eq!(error.subject(), path.as_ref(), "byte {at}: {error}");
        }
        // A statement that changes rows fails, too, and changes nothing.
        let error = afresh(&ctx, "UPDATE t SET v = 'x' WHERE id = 31").await;
        let error = error.unwrap_err();
        assert_eq!(Error::find_in(&error).unwrap().kind(), ErrorKind::Corrupt);
        store.put(&path, bytes.into()).await.unwrap();
        for (sql, sound) in READS.iter().zip(&sound) {
            assert_eq!(&afresh(&ctx, sql).await.unwrap(), sound);
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_any_byte_of_the_page_indexes_is_no_wrong_answer() {
    let (ctx, store, path, bytes) = table(false).await;
    let sql = "SELECT v FROM t WHERE id BETWEEN 30 AND 40 ORDER BY id";
    let sound = afresh(&ctx, sql).await.unwrap();
    let footer = bytes.len() - footer_len(&bytes);
    let mut found = 0;
    // Where they begin is not known here: what lies before is pages, of which the last holds `d`.
    for at in footer - 100..footer {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        store.put(&path, damaged.into()).await.unwrap();
        match afresh(&ctx, sql).await {
            Ok(answer) => assert_eq!(answer, sound, "byte {at}"),
            Err(error) => {
                let error = Error::find_in(&error).unwrap_or_else(|| panic!("{error}"));
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
                found += 1;
            }
        }
    }
    assert!(found > 80, "{found}");
}

#[tokio::test]
async fn a_cut_superfile_is_an_error() {
    let (ctx, store, path, bytes) = table(true).await;
    for end in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        store.put(&path, bytes.slice(..end).into()).await.unwrap();
        let error = afresh(&ctx, READS[0]).await.unwrap_err();
        let error = Error::find_in(&error).unwrap_or_else(|| panic!("{end} bytes: {error}"));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{end} bytes: {error}");
        assert_eq!(error.subject(), path.as_ref());
    }
    store.delete(&path).await.unwrap();
    let error = afresh(&ctx, READS[0]).await.unwrap_err();
    assert_eq!(Error::find_in(&error).unwrap().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_flipped_bit_in_a_page_is_an_error_that_names_the_superfile() {
    for deleted in [false, true] {
        let (ctx, store, path, bytes) = table(deleted).await;
        let pages = bytes.len() - footer_len(&bytes);
        for at in 0..pages {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            store.put(&path, damaged.into()).await.unwrap();
            let sql = READS[at % READS.len()];
            let error = afresh(&ctx, sql).await.unwrap_err();
            let error =
                Error::find_in(&error).unwrap_or_else(|| panic!("byte {at} of {pages}: {error:?}"));
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
            assert_eq!(error.subject(), path.as_ref(), "byte {at}: {error}");
        }
        // A session that knows the footer, and one that does not; and statements that read in order to write.
        for sql in [
            "SELECT * FROM t",
            "UPDATE t SET v = 'x' WHERE id = 31",
            "DELETE FROM t WHERE id = 31",
            "SELECT * FROM supertable_optimize('t', full => true)",
        ] {
            // A table of which nothing is deleted is not written anew.
            if sql.contains("optimize") && !deleted {
                continue;
            }
            for known in [true, false] {
                store.put(&path, bytes.clone().into()).await.unwrap();
                let sound = afresh(&ctx, READS[0]).await.unwrap();
                let mut damaged = bytes.to_vec();
                damaged[40] ^= 1;
                store.put(&path, damaged.into()).await.unwrap();
                let outcome = match known {
                    true => try_run(&ctx, sql).await,
                    false => afresh(&ctx, sql).await,
                };
                let error = outcome.unwrap_err();
                let error = Error::find_in(&error).unwrap_or_else(|| panic!("{sql}: {error:?}"));
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{sql}: {error}");
                assert!(error.detail().contains("have another checksum"), "{error}");
                store.put(&path, bytes.clone().into()).await.unwrap();
                assert_eq!(afresh(&ctx, READS[0]).await.unwrap(), sound, "{sql}");
            }
        }
    }
}

/// A superfile of several row groups with dictionaries, Bloom filters and many blocks, on the disk.
#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_large_superfile_on_disk_is_an_error_or_nobody_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_supertable::register(&ctx).unwrap();
    run(
        &ctx,
        &format!(
            "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR, d DOUBLE) STORED AS SUPERTABLE \
             LOCATION '{}/' OPTIONS ('supertable.write.row_group_rows' '10000', \
             'supertable.write.page_rows' '2000', 'supertable.write.bloom_filter_columns' 'id', \
             'supertable.write.bloom_filter_ndv' '10000')",
            dir.path().display()
        ),
    )
    .await;
    // The keys of each row group are spread over all: only the Bloom filters know in which one a key is.
    run(
        &ctx,
        "INSERT INTO t SELECT value * 7919 % 300007, concat('v', value % 100), sin(value) FROM range(0, 60000)",
    )
    .await;
    let found = std::fs::read_dir(dir.path().join("superfiles")).unwrap();
    let files: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
    let [path] = files.as_slice() else {
        panic!("{files:?}")
    };
    let bytes = std::fs::read(path).unwrap();
    let reader = SerializedFileReader::new(Bytes::from(bytes.clone())).unwrap();
    let metadata = reader.metadata();
    assert!(metadata.num_row_groups() >= 4);
    let chunk = metadata.row_group(1).column(0);
    assert!(chunk.bloom_filter_offset().is_some());
    assert!(
        metadata
            .row_group(1)
            .column(1)
            .dictionary_page_offset()
            .is_some()
    );
    assert!(bytes.len() > 30 * (16 << 10), "{}", bytes.len());

    let whole = "SELECT count(*), sum(id), count(DISTINCT v), max(d) FROM t";
    let by_key = "SELECT * FROM t WHERE id = 39595";
    let reads = [whole, by_key];
    let mut sound = Vec::new();
    for sql in reads {
        sound.push(afresh(&ctx, sql).await.unwrap());
    }
    let footer = bytes.len() - footer_len(&bytes);
    // What each column's pages and filters begin and end with, the blocks' first and last bytes, and all over the rest.
    let mut places: Vec<usize> = (0..bytes.len()).step_by(1 << 14).collect();
    places.extend((1 << 14..bytes.len()).step_by(1 << 14).map(|at| at - 1));
    let mut pages = Vec::new();
    let mut without_keys = bytes.clone();
    for column in metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
    {
        let (start, length) = column.byte_range();
        let chunk = start as usize..(start + length) as usize;
        places.extend([chunk.start, chunk.end - 1]);
        pages.push(chunk);
        if let Some(start) = column.bloom_filter_offset() {
            let start = start as usize;
            let end = start + column.bloom_filter_length().unwrap() as usize;
            without_keys[start + 64..end].fill(0);
            places.extend([start, end - 1]);
        }
    }
    places.extend((footer..bytes.len()).step_by(37));
    let mut found = [0, 0];
    for at in places {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(path, damaged).unwrap();
        for (i, sql) in reads.into_iter().enumerate() {
            match afresh(&ctx, sql).await {
                Ok(answer) => {
                    assert_eq!(answer, sound[i], "byte {at}");
                    let read = sql == whole && pages.iter().any(|chunk| chunk.contains(&at));
                    assert!(at < footer && !read, "byte {at}");
                }
                Err(error) => {
                    let error = Error::find_in(&error).unwrap_or_else(|| panic!("{at}: {error:?}"));
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
                    let name = path.file_name().unwrap().to_str().unwrap();
                    assert!(error.subject().ends_with(name), "{error}");
                    found[i] += 1;
                }
            }
        }
    }
    assert!(found[0] > 60 && found[1] > 60, "{found:?}");
    // Bloom filters that deny every key. DataFusion goes without a filter that it cannot read; an ordinary table of the
    // same file shows that it would believe these.
    std::fs::write(path, without_keys).unwrap();
    assert!(sound[1].contains("39595"), "{}", sound[1]);
    match afresh(&ctx, by_key).await {
        Ok(answer) => assert_eq!(answer, sound[1]),
        // A block of them has pages, too.
        Err(error) => assert_eq!(Error::find_in(&error).unwrap().kind(), ErrorKind::Corrupt),
    }
    let location = path.display();
    let plain = format!("CREATE EXTERNAL TABLE plain STORED AS PARQUET LOCATION '{location}'");
    run(&ctx, &plain).await;
    let believed = run(&ctx, "SELECT * FROM plain WHERE id = 39595").await;
    assert!(!believed.contains("39595"), "{believed}");
    std::fs::write(path, bytes).unwrap();
    for (sql, sound) in reads.iter().zip(&sound) {
        assert_eq!(&afresh(&ctx, sql).await.unwrap(), sound);
    }
}

#[tokio::test]
async fn a_superfile_with_checksums_is_a_parquet_file_for_everybody() {
    let (_, _, _, bytes) = table(false).await;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let rows: usize = reader
        .build()
        .unwrap()
        .map(|batch| batch.unwrap().num_rows())
        .sum();
    assert_eq!(rows, 100);
}

#[tokio::test]
async fn a_flipped_bit_in_a_page_of_a_file_of_others_never_panics() {
    let bytes = foreign().await;
    let (ctx, store) = session();
    run(&ctx, CREATE).await;
    let path = Path::from("other/f.parquet");
    store.put(&path, bytes.clone().into()).await.unwrap();
    // A copy has no owner who could change it: its state is not watched.
    let add =
        "SELECT * FROM supertable_add_files('t', 'mem://bucket/other/f.parquet', copy => true)";
    run(&ctx, add).await;
    let [path]: [Path; 1] = superfiles(&store).await.try_into().unwrap();
    let sound = afresh(&ctx, READS[0]).await.unwrap();
    let (mut wrong, mut errors) = (0, 0);
    for at in 4..bytes.len() - footer_len(&bytes) {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        store.put(&path, damaged.into()).await.unwrap();
        match afresh(&ctx, READS[0]).await {
            Ok(answer) => wrong += usize::from(answer != sound),
            Err(error) => {
                let error =
                    Error::find_in(&error).unwrap_or_else(|| panic!("byte {at}: {error:?}"));
                assert_eq!(error.subject(), path.as_ref());
                errors += 1;
            }
        }
    }
    eprintln!("pages of others: {errors} errors, {wrong} other answers");
    assert!(errors > 0);
}

/// A Parquet file that another writer wrote.
async fn foreign() -> Bytes {
    let (ctx, store) = session();
    run(
        &ctx,
        "COPY (SELECT value AS id, 'v' || value AS v, value / 4.0 AS d FROM range(0, 100)) \
         TO 'mem://bucket/other/f.parquet' STORED AS PARQUET",
    )
    .await;
    let path = Path::from("other/f.parquet");
    store.get(&path).await.unwrap().bytes().await.unwrap()
}

#[tokio::test]
async fn a_damaged_file_of_others_is_refused_or_read_without_a_panic() {
    let bytes = foreign().await;
    let (ctx, store) = session();
    run(&ctx, CREATE).await;
    let path = Path::from("other/f.parquet");
    let add = "SELECT * FROM supertable_add_files('t', 'mem://bucket/other/f.parquet')";
    let mut random = StdRng::seed_from_u64(7);
    let footer = bytes.len() - footer_len(&bytes);
    let mut refused = 0;
    for at in footer..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << random.random_range(0..8);
        store.put(&path, damaged.into()).await.unwrap();
        match afresh(&ctx, add).await {
            Err(error) => {
                let error = Error::find_in(&error).unwrap_or_else(|| panic!("byte {at}: {error}"));
                assert!(error.subject().contains("f.parquet"), "byte {at}: {error}");
                refused += 1;
            }
            Ok(_) => {
                // What an unknown writer says is believed where it can be read; reading it must not panic.
                let _ = afresh(&ctx, READS[0]).await;
                let _ = afresh(&ctx, READS[1]).await;
                run(&ctx, "TRUNCATE TABLE t").await;
            }
        }
    }
    assert!(refused > 100, "{refused}");
    for end in (0..bytes.len()).step_by(5) {
        store.put(&path, bytes.slice(..end).into()).await.unwrap();
        let error = afresh(&ctx, add).await.unwrap_err();
        assert!(Error::find_in(&error).is_some(), "{end} bytes: {error}");
    }
}
