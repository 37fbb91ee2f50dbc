//! Where a test keeps its table, as text, so that a child process can open it too.

use std::path::Path as FsPath;
use std::sync::Arc;

use datafusion_supertable::storage::{RetryPolicy, Storage};
use object_store::path::Path;

use super::s3;

/// A directory on the local disk.
pub fn local(dir: &FsPath) -> String {
    format!("local:{}", dir.display())
}

/// A prefix on this process' S3 server.
pub async fn s3(prefix: &str) -> String {
    format!("s3:{}:{prefix}", s3::server().await.endpoint())
}

/// Opens what [`local`] or [`s3`] wrote.
pub fn open(location: &str) -> Storage {
    let policy = RetryPolicy::default();
    if let Some(dir) = location.strip_prefix("local:") {
        return Storage::local(dir, policy).unwrap();
    }
    let (endpoint, prefix) = location
        .strip_prefix("s3:")
        .unwrap()
        .rsplit_once(':')
        .unwrap();
    Storage::new(Arc::new(s3::client(endpoint)), &Path::from(prefix), policy)
}
