//! Damaged superfiles: what a statement makes of flipped bits and cuts in a Parquet file.
//!
//! The footer and the page indexes are covered by hashes in the manifest: damage there is always an error
//! that names the file. Pages are not: damage there is an error, or another value, but never a panic.

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
async fn a_flipped_bit_in_a_page_never_panics_and_its_error_names_the_superfile() {
    let mut wrong = 0;
    let mut errors = 0;
    for deleted in [false, true] {
        let (ctx, store, path, bytes) = table(deleted).await;
        let sound = afresh(&ctx, READS[0]).await.unwrap();
        let pages = bytes.len() - footer_len(&bytes);
        for at in 4..pages {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            store.put(&path, damaged.into()).await.unwrap();
            match afresh(&ctx, READS[0]).await {
                Ok(answer) => wrong += usize::from(answer != sound),
                Err(error) => {
                    let error = Error::find_in(&error)
                        .unwrap_or_else(|| panic!("byte {at} of {pages}: {error:?}"));
                    assert_eq!(error.subject(), path.as_ref());
                    errors += 1;
                }
            }
        }
    }
    eprintln!("pages: {errors} errors, {wrong} other answers");
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
