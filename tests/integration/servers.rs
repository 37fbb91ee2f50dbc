//! The storage layer against real servers: S3, Azure, and GCS behind the shim that `support::gcs` describes.

use std::sync::Arc;
use std::time::Duration;

use datafusion_supertable::unstable::storage::{RetryPolicy, Storage, conformance};
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};

use crate::storage::{count_body, counter, processes_count_once, processes_create_once};
use crate::support::cloud::{Cloud, quick_retries};
use crate::support::lying_http::{Kind, Lie, LyingConnector};
use crate::support::{location, s3};

async fn keeps_the_contract(cloud: Cloud) {
    let storage = location::open(&cloud.location("contract/some table").await);
    conformance::contract(&storage).await.unwrap();
    conformance::racing_replaces(&storage, 16, 50)
        .await
        .unwrap();
    conformance::racing_creates(&storage, 16, 50).await.unwrap();
    conformance::counting(&storage, 6, 15).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_s3_server_keeps_the_contract_and_its_races_have_one_winner() {
    keeps_the_contract(Cloud::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_azure_server_keeps_the_contract_and_its_races_have_one_winner() {
    keeps_the_contract(Cloud::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gcs_server_keeps_the_contract_and_its_races_have_one_winner() {
    keeps_the_contract(Cloud::Gcs).await;
}

async fn processes_race(cloud: Cloud) {
    processes_count_once(cloud.location("counting").await, 4, 15).await;
    processes_create_once(cloud.location("creating").await, 4, 25).await;
}

#[tokio::test]
async fn processes_that_race_on_an_s3_server_each_count_once() {
    processes_race(Cloud::S3).await;
}

#[tokio::test]
async fn processes_that_race_on_an_azure_server_each_count_once() {
    processes_race(Cloud::Azure).await;
}

#[tokio::test]
async fn processes_that_race_on_a_gcs_server_each_count_once() {
    processes_race(Cloud::Gcs).await;
}

/// What the conditional writes meet, one after the other. Two of them follow one another in which a client that
/// retries is told that what it did before was not its own.
const LIES: [Lie; 14] = [
    Lie::DoneAndBroken,
    Lie::Truth,
    Lie::DoneAndSilent,
    Lie::DoneAnd(503),
    Lie::Truth,
    Lie::NotDoneBut(409),
    Lie::NotDoneBut(503),
    Lie::DoneAnd(412),
    Lie::Truth,
    Lie::DoneAnd(409),
    Lie::NotDoneBut(429),
    Lie::NotDoneBut(412),
    Lie::DoneAnd(500),
    Lie::NotDone,
];

fn patient() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 20,
        min_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(20),
        jitter_seed: None,
    }
}

fn storage(store: Arc<dyn ObjectStore>, prefix: &str) -> Storage {
    Storage::new(store, &Path::from(prefix), patient())
}

/// The client library retries conditional writes below us, and its connection lies.
async fn lies_change_no_outcome(cloud: Cloud) {
    let endpoint = cloud.endpoint().await;
    // Without retries, with a few, and with as many as a client has by default.
    let default = quick_retries(RetryConfig::default().max_retries);
    for (name, retry) in [
        ("0", quick_retries(0)),
        ("3", quick_retries(3)),
        ("10", default),
    ] {
        let connector = LyingConnector::in_turn(&LIES);
        let store = cloud.lying(endpoint, retry, &connector);
        let storage = storage(store, &format!("lies/{name}"));
        conformance::contract(&storage).await.unwrap();
        conformance::racing_replaces(&storage, 8, 25).await.unwrap();
        conformance::racing_creates(&storage, 8, 25).await.unwrap();
        let writes = connector.requests(Kind::ConditionalWrite);
        println!("{cloud:?}, {name} retries: {writes} conditional writes, of which 11 in 14 lied");
        assert!(writes > 500);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_and_false_answers_of_an_s3_server_change_no_outcome() {
    lies_change_no_outcome(Cloud::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_and_false_answers_of_an_azure_server_change_no_outcome() {
    lies_change_no_outcome(Cloud::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_and_false_answers_of_a_gcs_server_change_no_outcome() {
    lies_change_no_outcome(Cloud::Gcs).await;
}

/// Answers that break off, answers that end too early as if they were complete.
async fn cut_answers_are_errors(cloud: Cloud) {
    let endpoint = cloud.endpoint().await;
    let body = bytes::Bytes::from(vec![7; 1 << 16]);
    // Its name keeps the liar from turning bits, which nobody would notice.
    let key = Path::from("object.parquet");
    let honest = storage(cloud.client(endpoint), "cut");
    honest.put_immutable(&key, body.clone()).await.unwrap();
    for lie in [Lie::CutOff, Lie::TooShort] {
        let connector = LyingConnector::always(lie);
        let lying = storage(cloud.lying(endpoint, quick_retries(2), &connector), "cut");
        lying.get(&key).await.unwrap_err();
        let store = lying.object_store();
        let ranges = [10..20, 1_000..2_000, 60_000..60_100];
        store.get_ranges(&key, &ranges).await.unwrap_err();
        // Now and then an answer is whole: then it is the right one, and it is found.
        let connector = LyingConnector::at_random(3, 2);
        let lying = storage(cloud.lying(endpoint, quick_retries(2), &connector), "cut");
        for _ in 0..20 {
            let (found, _) = lying.get(&key).await.unwrap().unwrap();
            assert_eq!(found, body);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_answers_of_an_s3_server_are_read_again_or_are_errors() {
    cut_answers_are_errors(Cloud::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_answers_of_an_azure_server_are_read_again_or_are_errors() {
    cut_answers_are_errors(Cloud::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_answers_of_a_gcs_server_are_read_again_or_are_errors() {
    cut_answers_are_errors(Cloud::Gcs).await;
}

#[tokio::test]
async fn a_bucket_that_refuses_says_so_without_telling_secrets() {
    let server = s3::server().await;
    let store = s3::builder(server.endpoint())
        .with_secret_access_key("not-the-secret")
        .build()
        .unwrap();
    let storage = Storage::new(
        Arc::new(store),
        &Path::from("refused"),
        RetryPolicy::default(),
    );
    let refused = storage.create(&counter(), count_body(0)).await;
    let error = datafusion_supertable::Error::from(refused.unwrap_err());
    let text = format!("{error} {error:?}");
    assert!(text.contains("_supertable/current"), "{text}");
    assert!(!text.contains("not-the-secret"), "{text}");
    assert!(
        object_store::ObjectStoreExt::head(&storage.object_store(), &counter())
            .await
            .is_err()
    );
}
