//! Where file I/O runs: on tokio's blocking threads, if there are any.

use object_store::Result;
use tokio::runtime::Handle;

/// Runs `work` where it may block.
pub(super) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}
