//! What is particular to a directory: confinement, temporary files, durability, versions.

use std::fs::{self, File, FileTimes};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload};
use tempfile::TempDir;

use crate::storage::local::SyncCounts;
use crate::storage::{CasOutcome, LocalStore, ObjectVersion, RetryPolicy, Storage, StorageError};

struct Table {
    // Held so that the directory lives as long as the table.
    _dir: TempDir,
    path: PathBuf,
    storage: Storage,
}

impl Table {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("not/there/yet");
        let storage = Storage::local(&path, RetryPolicy::never()).unwrap();
        Self {
            _dir: dir,
            path,
            storage,
        }
    }

    async fn create(&self, key: &str, body: &'static str) -> ObjectVersion {
        committed(self.storage.create(&Path::from(key), body.into()).await)
    }

    async fn keys(&self) -> Vec<String> {
        let listed = self.storage.list(None).map_ok(|o| o.location.to_string());
        let mut keys: Vec<String> = listed.try_collect().await.unwrap();
        keys.sort();
        keys
    }

    fn temporary_files(&self) -> Vec<PathBuf> {
        let tmp = self.path.join(".supertable-local/tmp");
        fs::read_dir(tmp)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect()
    }

    fn syncs(&self) -> SyncCounts {
        self.storage.sync_counts().unwrap()
    }
}

fn committed(outcome: Result<CasOutcome, StorageError>) -> ObjectVersion {
    match outcome.unwrap() {
        CasOutcome::Committed(version) => version,
        CasOutcome::Lost => panic!("lost"),
    }
}

#[tokio::test]
async fn nothing_is_created_before_the_first_write() {
    let table = Table::new();
    assert_eq!(table.storage.get(&Path::from("a")).await.unwrap(), None);
    assert!(table.keys().await.is_empty());
    table.storage.delete(&Path::from("a/b")).await.unwrap();
    let put = table.storage.object_store().delete(&Path::from("a")).await;
    assert!(matches!(put, Err(Error::NotFound { .. })));
    assert!(!table.path.exists());
    assert!(!table.path.parent().unwrap().exists());
}

#[tokio::test]
async fn a_file_cannot_be_a_table() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = Storage::local(&file, RetryPolicy::default());
    assert!(matches!(refused, Err(StorageError::InvalidRoot { .. })));
}

#[tokio::test]
async fn data_directories_hold_data_files_only() {
    let table = Table::new();
    let version = table.create("superfiles/1.parquet", "1").await;
    let key = Path::from("superfiles/1.parquet");
    committed(table.storage.replace(&key, &version, "2".into()).await);
    table.create("superfiles/2.parquet", "1").await;
    table
        .storage
        .delete(&Path::from("superfiles/2.parquet"))
        .await
        .unwrap();
    let names: Vec<_> = fs::read_dir(table.path.join("superfiles"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["1.parquet"]);
    assert_eq!(table.keys().await, ["superfiles/1.parquet"]);
    assert!(table.temporary_files().is_empty());
    let listed = table
        .storage
        .object_store()
        .list_with_delimiter(None)
        .await
        .unwrap();
    assert_eq!(listed.common_prefixes, [Path::from("superfiles")]);
}

#[tokio::test]
async fn a_reserved_name_is_refused() {
    let table = Table::new();
    table.create("a", "a").await;
    for key in [
        ".supertable-local/tmp/x",
        "a/.supertable-local",
        ".supertable-local",
    ] {
        let key = Path::parse(key).unwrap();
        let refused = table.storage.create(&key, "x".into()).await;
        assert!(matches!(
            refused,
            Err(StorageError::Store {
                source: Error::NotSupported { .. },
                ..
            })
        ));
        assert!(table.storage.get(&key).await.is_err());
    }
}

#[tokio::test]
async fn a_key_cannot_leave_the_directory() {
    let table = Table::new();
    table.create("a", "a").await;
    let secret = table.path.parent().unwrap().join("secret");
    fs::write(&secret, "secret").unwrap();
    for text in ["..", "../secret", "a/../../secret", "./a", "/../secret"] {
        assert!(Path::parse(text).is_err(), "{text}");
        // What `Path` encodes instead names a file inside.
        let key = Path::from(text);
        assert_eq!(table.storage.get(&key).await.unwrap(), None, "{text}");
    }
    let key = Path::from("../secret");
    committed(table.storage.create(&key, "mine".into()).await);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert_eq!(table.keys().await, ["%2E%2E/secret", "a"]);
}

#[cfg(unix)]
#[tokio::test]
async fn symbolic_links_inside_the_directory_are_refused_and_not_listed() {
    use std::os::unix::fs::symlink;

    let table = Table::new();
    table.create("a", "a").await;
    let outside = table.path.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, table.path.join("dir")).unwrap();
    symlink(outside.join("secret"), table.path.join("file")).unwrap();
    symlink(outside.join("nothing"), table.path.join("dangling")).unwrap();

    let store = table.storage.object_store();
    for key in ["dir/secret", "dir/new", "file", "dangling"] {
        let key = Path::from(key);
        let refused = |outcome: Result<(), Error>| {
            assert!(
                matches!(outcome, Err(Error::NotSupported { .. })),
                "{key}: {outcome:?}"
            );
        };
        refused(store.get(&key).await.map(drop));
        refused(store.head(&key).await.map(drop));
        refused(store.get_ranges(&key, &[0..1, 2..3]).await.map(drop));
        refused(
            store
                .put(&key, PutPayload::from_static(b"x"))
                .await
                .map(drop),
        );
        refused(store.put_multipart(&key).await.map(drop));
        refused(store.delete(&key).await);
        refused(store.copy(&Path::from("a"), &key).await);
        refused(store.copy(&key, &Path::from("b")).await);
    }
    let below = store
        .list(Some(&Path::from("dir")))
        .try_collect::<Vec<_>>()
        .await;
    assert!(matches!(below, Err(Error::NotSupported { .. })));
    assert_eq!(table.keys().await, ["a"]);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn the_directory_itself_may_be_a_symbolic_link() {
    let table = Table::new();
    let version = table.create("a", "1").await;
    let link = table.path.parent().unwrap().join("link");
    std::os::unix::fs::symlink(&table.path, &link).unwrap();
    let linked = Storage::local(&link, RetryPolicy::never()).unwrap();
    committed(linked.replace(&Path::from("a"), &version, "2".into()).await);
    let stale = table
        .storage
        .replace(&Path::from("a"), &version, "3".into())
        .await;
    assert_eq!(stale.unwrap(), CasOutcome::Lost);
}

#[tokio::test]
async fn a_put_syncs_one_file_and_one_directory() {
    let table = Table::new();
    let mut version = table.create("wal/mutations/1.json", "1").await;
    let key = Path::from("wal/mutations/1.json");
    let before = table.syncs();
    version = committed(table.storage.replace(&key, &version, "2".into()).await);
    let after = table.syncs();
    assert_eq!(after.files - before.files, 1);
    assert_eq!(after.directories - before.directories, 1);

    let before = table.syncs();
    table.create("wal/mutations/2.json", "1").await;
    let after = table.syncs();
    assert_eq!(after.files - before.files, 1);
    assert_eq!(after.directories - before.directories, 1);

    // Another process' first write into a directory that exists needs no more.
    let other = Storage::local(&table.path, RetryPolicy::never()).unwrap();
    committed(other.replace(&key, &version, "3".into()).await);
    let counts = other.sync_counts().unwrap();
    assert_eq!((counts.files, counts.directories), (1, 1));

    // A lost race costs none, a delete one.
    let before = table.syncs();
    assert_eq!(
        table
            .storage
            .replace(&key, &version, "4".into())
            .await
            .unwrap(),
        CasOutcome::Lost
    );
    assert_eq!(table.syncs(), before);
    table.storage.delete(&key).await.unwrap();
    let after = table.syncs();
    assert_eq!(after.files, before.files);
    assert_eq!(after.directories - before.directories, 1);
}

#[tokio::test]
async fn new_directories_are_synced_in_their_parents() {
    let table = Table::new();
    table.create("a/b/c", "1").await;
    // not, there, yet, and the root's parent once more; a, b; the object.
    assert_eq!(
        table.syncs(),
        SyncCounts {
            files: 1,
            directories: 7
        }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_puts_share_directory_syncs() {
    let table = Table::new();
    table.create("dir/first", "1").await;
    let before = table.syncs();
    let puts = (0..64).map(|i| {
        let storage = table.storage.clone();
        tokio::spawn(async move {
            let key = Path::from(format!("dir/{i}"));
            committed(storage.create(&key, Bytes::from(i.to_string())).await)
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    let after = table.syncs();
    assert_eq!(after.files - before.files, 64);
    assert!(after.directories - before.directories <= 64);
    println!(
        "64 puts: {} directory syncs",
        after.directories - before.directories
    );
}

#[tokio::test]
async fn a_read_waits_for_the_durability_of_what_it_returns() {
    let table = Table::new();
    table.create("a", "1").await;
    // As a writer does between renaming and syncing.
    let writer = File::open(table.path.join("a")).unwrap();
    writer.lock().unwrap();
    let before = table.syncs();
    assert!(table.storage.get(&Path::from("a")).await.unwrap().is_some());
    assert_eq!(table.syncs().directories - before.directories, 1);
    drop(writer);
    let before = table.syncs();
    assert!(table.storage.get(&Path::from("a")).await.unwrap().is_some());
    assert_eq!(table.syncs(), before);
}

#[tokio::test]
async fn each_version_is_newer_even_if_the_clock_runs_backwards() {
    let table = Table::new();
    let key = Path::from("a");
    table.create("a", "1").await;
    let future = SystemTime::now() + Duration::from_secs(3600);
    let times = FileTimes::new().set_modified(future);
    File::options()
        .write(true)
        .open(table.path.join("a"))
        .unwrap()
        .set_times(times)
        .unwrap();
    let (_, mut version) = table.storage.get(&key).await.unwrap().unwrap();
    let mut seen = vec![version.clone()];
    for body in ["2", "3", "4"] {
        version = committed(table.storage.replace(&key, &version, body.into()).await);
        let modified = table.path.join("a").metadata().unwrap().modified().unwrap();
        assert!(modified > future);
        assert!(!seen.contains(&version));
        assert_eq!(table.storage.get(&key).await.unwrap().unwrap().1, version);
        seen.push(version.clone());
    }
}

#[tokio::test]
async fn temporary_files_of_dead_processes_are_removed_and_those_of_living_ones_kept() {
    let table = Table::new();
    table.create("a", "1").await;
    let tmp = table.path.join(".supertable-local/tmp");
    fs::write(tmp.join("abandoned"), "half").unwrap();
    fs::write(tmp.join("owned"), "half").unwrap();
    let owner = File::open(tmp.join("owned")).unwrap();
    owner.lock().unwrap();
    assert_eq!(table.keys().await, ["a"]);

    let next = Storage::local(&table.path, RetryPolicy::never()).unwrap();
    committed(next.create(&Path::from("b"), "1".into()).await);
    assert_eq!(table.temporary_files(), [tmp.join("owned")]);
}

#[tokio::test]
async fn an_upload_that_is_dropped_aborted_or_has_a_hole_leaves_nothing() {
    let table = Table::new();
    let store = table.storage.object_store();
    let key = Path::from("superfiles/1.parquet");
    let part = || PutPayload::from_static(b"part");

    let mut dropped = store.put_multipart(&key).await.unwrap();
    dropped.put_part(part()).await.unwrap();
    assert_eq!(table.temporary_files().len(), 1);
    drop(dropped);

    let mut aborted = store.put_multipart(&key).await.unwrap();
    aborted.put_part(part()).await.unwrap();
    aborted.abort().await.unwrap();
    assert!(aborted.complete().await.is_err());

    let mut holed = store.put_multipart(&key).await.unwrap();
    drop(holed.put_part(part()));
    holed.put_part(part()).await.unwrap();
    assert!(holed.complete().await.is_err());
    drop(holed);

    assert!(table.temporary_files().is_empty());
    assert!(table.keys().await.is_empty());
}

#[tokio::test]
async fn a_table_whose_directories_vanish_can_be_written_again() {
    let table = Table::new();
    table.create("dir/a", "1").await;
    fs::remove_dir_all(table.path.join(".supertable-local")).unwrap();
    table.create("dir/b", "1").await;
    fs::remove_dir_all(&table.path).unwrap();
    table.create("dir/a", "2").await;
    assert_eq!(table.keys().await, ["dir/a"]);
}

#[tokio::test]
async fn a_reader_keeps_the_state_that_it_opened() {
    let table = Table::new();
    let key = Path::from("a");
    let (old, new) = (vec![1_u8; 1 << 20], vec![2_u8; 1 << 20]);
    let version = committed(table.storage.create(&key, old.clone().into()).await);
    let opened = table.storage.object_store().get(&key).await.unwrap();
    committed(table.storage.replace(&key, &version, new.into()).await);
    assert_eq!(opened.bytes().await.unwrap(), old);
}

#[tokio::test]
async fn a_key_below_an_object_does_not_exist_and_cannot_be_created() {
    let table = Table::new();
    table.create("a", "1").await;
    let below = Path::from("a/b");
    assert_eq!(table.storage.get(&below).await.unwrap(), None);
    table.storage.delete(&below).await.unwrap();
    assert!(table.storage.create(&below, "2".into()).await.is_err());
    assert_eq!(table.keys().await, ["a"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_cannot_be_written_is_refused_at_once() {
    use std::os::unix::fs::PermissionsExt;

    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(dir.path().join("probe"), "").is_ok() {
        // Run by root, whom permissions do not stop.
        return;
    }
    let storage = Storage::local(dir.path(), RetryPolicy::default()).unwrap();
    let refused = storage.create(&Path::from("a"), "1".into()).await;
    assert!(matches!(
        refused,
        Err(StorageError::Store {
            attempts: 1,
            source: Error::PermissionDenied { .. },
            ..
        })
    ));
}

#[tokio::test]
async fn copies_are_objects_of_their_own() {
    let dir = TempDir::new().unwrap();
    let store = LocalStore::new(dir.path()).unwrap();
    let (a, b) = (Path::from("a"), Path::from("x/b"));
    store.put(&a, PutPayload::from_static(b"1")).await.unwrap();
    store.copy(&a, &b).await.unwrap();
    let versions = (store.head(&a).await.unwrap(), store.head(&b).await.unwrap());
    assert_ne!(versions.0.e_tag, versions.1.e_tag);
    let again = store.copy_if_not_exists(&a, &b).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
}
