//! What is tried again, how often, and what surfaces: with clients of S3, Azure and GCS as their builders make
//! them by default, on connections that always answer the same. There is no server, and the clock jumps.

use std::time::Duration;

use datafusion_supertable::unstable::storage::{ObjectVersion, RetryPolicy, Storage, StorageError};
use datafusion_supertable::{Error, ErrorKind};
use futures::TryStreamExt;
use object_store::RetryConfig;
use object_store::path::Path;
use tokio::time::Instant;

use crate::support::cloud::{CLOUDS, Cloud};
use crate::support::lying_http::{Lie, LyingConnector};

/// The calls of the storage layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Get,
    List,
    Create,
    Replace,
    PutImmutable,
    Delete,
    DeleteAll,
}

const CALLS: [Call; 7] = [
    Call::Get,
    Call::List,
    Call::Create,
    Call::Replace,
    Call::PutImmutable,
    Call::Delete,
    Call::DeleteAll,
];

impl Call {
    async fn make(self, storage: &Storage) -> Result<(), StorageError> {
        let key = Path::from("_supertable/current");
        let version = ObjectVersion::parse_token("1:7e\"seven\"").unwrap();
        match self {
            Self::Get => storage.get(&key).await.map(drop),
            Self::List => storage.list(None).try_collect::<Vec<_>>().await.map(drop),
            Self::Create => storage.create(&key, "body".into()).await.map(drop),
            Self::Replace => storage
                .replace(&key, &version, "body".into())
                .await
                .map(drop),
            Self::PutImmutable => storage.put_immutable(&key, "body".into()).await,
            Self::Delete => storage.delete(&key).await,
            Self::DeleteAll => storage.delete_all(vec![key]).await,
        }
    }
}

struct Outcome {
    error: StorageError,
    requests: usize,
    took: Duration,
}

/// A call when every request meets `lie`.
async fn call(cloud: Cloud, call: Call, lie: Lie, retry: RetryConfig) -> Outcome {
    let connector = LyingConnector::always(lie);
    let store = cloud.lying("http://127.0.0.1:1", retry, &connector);
    let policy = RetryPolicy {
        jitter_seed: Some(7),
        ..RetryPolicy::default()
    };
    let storage = Storage::new(store, &Path::from("t"), policy);
    let start = Instant::now();
    let error = call.make(&storage).await.expect_err("nothing works");
    Outcome {
        error,
        requests: connector.all_requests(),
        took: start.elapsed(),
    }
}

/// Attempts of ours, each of which is so many requests of the client library.
fn ours() -> usize {
    RetryPolicy::default().max_attempts as usize
}

fn theirs() -> usize {
    RetryConfig::default().max_retries + 1
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_works_is_given_up_after_bounded_attempts_and_a_bounded_time() {
    for cloud in CLOUDS {
        for lie in [
            Lie::NotDoneBut(503),
            Lie::NotDoneBut(500),
            Lie::NotDoneBut(429),
            Lie::NotDoneBut(408),
            Lie::NotDone,
            Lie::TimedOut,
        ] {
            for what in CALLS {
                let Outcome {
                    error,
                    requests,
                    took,
                } = call(cloud, what, lie, RetryConfig::default()).await;
                let case =
                    format!("{cloud:?} {what:?} {lie:?}: {requests} requests, {took:?}, {error:?}");
                println!("{cloud:?} {what:?} {lie:?}: {requests} requests, {took:?}");
                // A write that failed is read back: it may take as many attempts again.
                let most = match what {
                    Call::List => theirs(),
                    Call::Get | Call::Delete => ours() * theirs(),
                    // The bulk request, and the object on its own.
                    Call::DeleteAll => (ours() + 1) * theirs(),
                    Call::Create | Call::Replace | Call::PutImmutable => (ours() + 1) * theirs(),
                };
                match lie {
                    // The client library does not repeat what is not idempotent when it may have been done.
                    Lie::TimedOut => assert!((1..=most).contains(&requests), "{case}"),
                    _ => assert_eq!(requests, most, "{case}"),
                }
                assert!(took < Duration::from_secs(1_800), "{case}");
                let conditional = matches!(what, Call::Create | Call::Replace);
                assert_eq!(error.outcome_unknown(), conditional, "{case}");
                let kind = Error::from(error).kind();
                let expected = match conditional {
                    true => ErrorKind::OutcomeUnknown,
                    false => ErrorKind::Storage,
                };
                assert_eq!(kind, expected, "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_lack_of_rights_is_not_tried_again() {
    for cloud in CLOUDS {
        for status in [401, 403] {
            for what in CALLS {
                let lie = Lie::NotDoneBut(status);
                let outcome = call(cloud, what, lie, RetryConfig::default()).await;
                let case = format!(
                    "{cloud:?} {what:?} {status}: {} requests, {:?}",
                    outcome.requests, outcome.error
                );
                println!("{case}");
                let requests = match what {
                    // Whether it was in force all the same is looked up, once.
                    Call::Create | Call::Replace => 2,
                    // In bulk, and on its own.
                    Call::DeleteAll => 2,
                    _ => 1,
                };
                assert_eq!(outcome.requests, requests, "{case}");
                assert_eq!(outcome.took, Duration::ZERO, "{case}");
                assert_eq!(
                    Error::from(outcome.error).kind(),
                    ErrorKind::Storage,
                    "{case}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_retries_of_the_client_ours_alone_bound_the_attempts() {
    for cloud in CLOUDS {
        let none = RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        };
        let outcome = call(cloud, Call::Get, Lie::NotDoneBut(503), none).await;
        assert_eq!(outcome.requests, ours());
        // Waits double from 25 ms, and have up to as much again at random.
        assert!(
            outcome.took < Duration::from_millis(2 * 25 * 32),
            "{:?}",
            outcome.took
        );
    }
}
