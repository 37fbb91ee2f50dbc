//! The conformance suite against memory and a directory.

use std::sync::Arc;

use object_store::integration;
use object_store::memory::InMemory;
use object_store::path::Path;
use tempfile::TempDir;

use super::generation_store::GenerationStore;
use crate::storage::{LocalStore, RetryPolicy, Storage, conformance};

fn memory(root: &str) -> Storage {
    Storage::new(
        Arc::new(InMemory::new()),
        &Path::from(root),
        RetryPolicy::default(),
    )
}

fn local(dir: &TempDir) -> Storage {
    Storage::local(dir.path().join("table"), RetryPolicy::default()).unwrap()
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    conformance::contract(&memory("")).await.unwrap();
    conformance::contract(&memory("below/a prefix"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_in_memory_have_one_winner() {
    let storage = memory("table");
    conformance::racing_replaces(&storage, 16, 50)
        .await
        .unwrap();
    conformance::racing_creates(&storage, 16, 50).await.unwrap();
    conformance::counting(&storage, 8, 25).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_names_states_by_generation_keeps_the_contract() {
    let store = Arc::new(GenerationStore::default());
    let storage = Storage::new(store, &Path::from("table"), RetryPolicy::default());
    conformance::contract(&storage).await.unwrap();
    conformance::racing_replaces(&storage, 16, 50)
        .await
        .unwrap();
    conformance::racing_creates(&storage, 16, 50).await.unwrap();
    conformance::counting(&storage, 8, 25).await.unwrap();
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let dir = TempDir::new().unwrap();
    conformance::contract(&local(&dir)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_on_disk_have_one_winner() {
    let dir = TempDir::new().unwrap();
    let storage = local(&dir);
    conformance::racing_replaces(&storage, 16, 50)
        .await
        .unwrap();
    conformance::racing_creates(&storage, 16, 50).await.unwrap();
    conformance::counting(&storage, 8, 25).await.unwrap();
}

#[tokio::test]
async fn the_local_store_passes_the_suite_of_object_store() {
    let dir = TempDir::new().unwrap();
    let store = LocalStore::new(dir.path()).unwrap();
    integration::put_get_delete_list(&store).await;
    integration::get_opts(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    integration::stream_get(&store).await;
    integration::put_opts(&store, true).await;
}
