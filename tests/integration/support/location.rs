//! Where a test keeps its table, as text, so that a child process can open it too.

use std::path::Path as FsPath;
use std::sync::Arc;

use datafusion_supertable::unstable::storage::{RetryPolicy, Storage};
use object_store::ObjectStore;
use object_store::path::Path;

use super::{azure, gcs, s3};

/// A directory on the local disk.
pub(crate) fn local(dir: &FsPath) -> String {
    format!("local:{}", dir.display())
}

/// A prefix on this process' S3 server.
pub(crate) async fn s3(prefix: &str) -> String {
    format!("s3:{}:{prefix}", s3::server().await.endpoint())
}

/// A prefix on this process' Azure server.
pub(crate) async fn azure(prefix: &str) -> String {
    format!("azure:{}:{prefix}", azure::server().await.endpoint())
}

/// A prefix on this process' GCS server.
pub(crate) async fn gcs(prefix: &str) -> String {
    format!("gcs:{}:{prefix}", gcs::server().await.endpoint())
}

/// Opens what one of the above wrote.
pub(crate) fn open(location: &str) -> Storage {
    let policy = RetryPolicy::default();
    let (kind, place) = location.split_once(':').unwrap();
    if kind == "local" {
        return Storage::local(place, policy).unwrap();
    }
    let (endpoint, prefix) = place.rsplit_once(':').unwrap();
    let store: Arc<dyn ObjectStore> = match kind {
        "s3" => Arc::new(s3::client(endpoint)),
        "azure" => Arc::new(azure::client(endpoint)),
        "gcs" => Arc::new(gcs::client(endpoint)),
        _ => panic!("no such place: {location}"),
    };
    Storage::new(store, &Path::from(prefix), policy)
}
