//! Waiting for I/O where DataFusion asks synchronously: while it plans, and in catalogs.
//!
//! Owns the one place where a thread is blocked. A worker of a multi-threaded runtime hands its other
//! work over first. On a single-threaded runtime nobody else could make progress, so only what needs no
//! waiting succeeds there, and the rest is refused: it would hang.

use std::future::Future;

use futures::FutureExt;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::{Error, ErrorKind, Result};

/// The result of `future`, which says what `subject` is.
///
/// # Errors
/// The future's; [`ErrorKind::Unsupported`] if it has to wait and the runtime has a single thread.
pub(crate) fn wait<T>(subject: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() != RuntimeFlavor::CurrentThread => {
            tokio::task::block_in_place(|| handle.block_on(future))
        }
        _ => future.now_or_never().unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::Unsupported,
                subject,
                "storage must be read while the statement is planned, which takes a multi-threaded \
                 tokio runtime",
            ))
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn late() -> Result<u8> {
        tokio::task::yield_now().await;
        Ok(1)
    }

    #[tokio::test]
    async fn on_one_thread_only_what_is_ready_succeeds() {
        assert_eq!(wait("x", async { Ok(1) }).unwrap(), 1);
        assert_eq!(
            wait("x", late()).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn one_worker_is_enough_to_wait() {
        let task = tokio::spawn(async { wait("x", async { tokio::spawn(late()).await.unwrap() }) });
        assert_eq!(task.await.unwrap().unwrap(), 1);
    }
}
