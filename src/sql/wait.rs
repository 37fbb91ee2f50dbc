//! Waiting for I/O where DataFusion asks synchronously: while it plans, and in catalogs.
//!
//! Owns the one place where a thread is blocked. A worker of a multi-threaded runtime hands its other
//! work over first. On a single-threaded runtime no other task could make progress, so only what needs no
//! waiting succeeds there, and the rest is refused: it would hang. It is refused in a `LocalSet`, too, whose
//! thread hands nothing over; tokio says so by a panic alone, which is caught (but reported on standard error).

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;

use futures::FutureExt;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::{Error, ErrorKind, Result};

/// The result of `future`, which says what `subject` is.
///
/// # Errors
/// The future's; [`ErrorKind::Unsupported`] if it has to wait and this thread may not.
pub(crate) fn wait<T>(subject: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = pin!(future);
    if let Some(ready) = future.as_mut().now_or_never() {
        return ready;
    }
    let refused = || {
        Err(Error::new(
            ErrorKind::Unsupported,
            subject,
            "storage must be read while the statement is planned, which takes a multi-threaded \
             tokio runtime, and no LocalSet",
        ))
    };
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() != RuntimeFlavor::CurrentThread => {
            let mut begun = false;
            let done = catch_unwind(AssertUnwindSafe(|| {
                tokio::task::block_in_place(|| {
                    begun = true;
                    handle.block_on(future)
                })
            }));
            match done {
                Ok(result) => result,
                Err(panic) if begun => resume_unwind(panic),
                Err(_) => refused(),
            }
        }
        _ => refused(),
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
    async fn in_a_local_set_only_what_is_ready_succeeds_and_nothing_panics() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                assert_eq!(wait("x", async { Ok(1) }).unwrap(), 1);
                assert_eq!(
                    wait("x", late()).unwrap_err().kind(),
                    ErrorKind::Unsupported
                );
            })
            .await;
        assert_eq!(wait("x", late()).unwrap(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn one_worker_is_enough_to_wait() {
        let task = tokio::spawn(async { wait("x", async { tokio::spawn(late()).await.unwrap() }) });
        assert_eq!(task.await.unwrap().unwrap(), 1);
    }
}
