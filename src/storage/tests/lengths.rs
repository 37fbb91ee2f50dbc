//! Answers that end early, or late, without an error: they are errors, and reads that go through
//! [`Storage`] are tried again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    integration,
};

use crate::storage::{CasOutcome, ExactStore, RetryPolicy, Storage, StorageError};

/// A store in memory, so many of whose answers to reads have other bytes than they say.
#[derive(Debug, Default)]
struct WrongLengths {
    inner: InMemory,
    wrong: AtomicU32,
    /// Whether wrong answers are too long rather than too short.
    long: bool,
    reads: AtomicU32,
    /// Whether the answers to writes are lost.
    silent: bool,
}

impl fmt::Display for WrongLengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrongLengths")
    }
}

#[async_trait]
impl ObjectStore for WrongLengths {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, opts).await?;
        if self.silent {
            return Err(object_store::Error::Generic {
                store: "WrongLengths",
                source: "connection closed before the message completed".into(),
            });
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let mut found = self.inner.get_opts(location, options).await?;
        let left = self.wrong.load(Ordering::SeqCst);
        if left == 0 {
            return Ok(found);
        }
        self.wrong.store(left - 1, Ordering::SeqCst);
        let (meta, range, attributes) = (
            found.meta.clone(),
            found.range.clone(),
            found.attributes.clone(),
        );
        let bytes = found.bytes().await?;
        let bytes = match self.long {
            true => [bytes.as_ref(), b"more"].concat().into(),
            false => bytes.slice(..bytes.len() / 2),
        };
        found = GetResult {
            payload: GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed()),
            meta,
            range,
            attributes,
        };
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn key() -> Path {
    Path::from("object")
}

async fn store(wrong: u32, long: bool) -> Arc<WrongLengths> {
    let store = Arc::new(WrongLengths {
        wrong: wrong.into(),
        long,
        ..WrongLengths::default()
    });
    let body = PutPayload::from(vec![7; 1000]);
    store.inner.put(&key(), body).await.unwrap();
    store
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_wrong_length_is_read_again() {
    for long in [false, true] {
        let store = store(3, long).await;
        let storage = Storage::new(
            Arc::clone(&store) as _,
            &Path::default(),
            RetryPolicy::default(),
        );
        let (body, _) = storage.get(&key()).await.unwrap().unwrap();
        assert_eq!(body, Bytes::from(vec![7; 1000]));
        assert_eq!(store.reads.load(Ordering::SeqCst), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_back_that_is_cut_off_does_not_make_a_write_lost() {
    let store = Arc::new(WrongLengths {
        wrong: 2.into(),
        silent: true,
        ..WrongLengths::default()
    });
    let storage = Storage::new(
        Arc::clone(&store) as _,
        &Path::default(),
        RetryPolicy::default(),
    );
    let created = storage.create(&key(), "a body".into()).await.unwrap();
    assert!(matches!(created, CasOutcome::Committed(_)));
    assert_eq!(store.reads.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_always_of_the_wrong_length_are_an_error() {
    for long in [false, true] {
        let store = store(u32::MAX, long).await;
        let policy = RetryPolicy::default();
        let attempts = policy.max_attempts;
        let storage = Storage::new(Arc::clone(&store) as _, &Path::default(), policy);
        let error = storage.get(&key()).await.unwrap_err();
        assert!(
            matches!(&error, StorageError::Store { operation: "get", attempts: made, .. } if *made == attempts),
            "{error:?}"
        );
        assert_eq!(store.reads.load(Ordering::SeqCst), attempts);
    }
}

#[tokio::test]
async fn ranges_of_the_wrong_length_are_an_error_and_no_panic() {
    for long in [false, true] {
        let store = ExactStore::new(store(u32::MAX, long).await);
        assert!(store.get_range(&key(), 10..20).await.is_err());
        assert!(store.get_ranges(&key(), &[10..20, 900..910]).await.is_err());
    }
}

#[tokio::test]
async fn answers_of_the_right_length_pass() {
    let store = || ExactStore::new(Arc::new(InMemory::new()));
    integration::put_get_delete_list(&store()).await;
    integration::get_opts(&store()).await;
    integration::stream_get(&store()).await;
    integration::put_opts(&store(), true).await;
}
