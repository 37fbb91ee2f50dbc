//! How often the storage layer tries again, how long it waits, and after which answers.
//!
//! Owns the classification of `object_store` errors and the backoff. Does not own the settling of
//! conditional writes (`cas.rs`), which reads back before it repeats anything.
//!
//! | answer | class | what happens |
//! | --- | --- | --- |
//! | `AlreadyExists`, `Precondition`, `NotModified` to a conditional write | [`Answer::Refused`] | read back: our own bytes are a success, the old state is tried again, anything else is a lost race |
//! | `Generic` (HTTP 5xx, 429, 408, broken connections, timeouts), `JoinError` | [`Answer::Unclear`] | a read is repeated; a write is read back first |
//! | `Generic` that wraps an HTTP 401 or 403, as of a bulk deletion | [`Answer::Definite`] | surfaces at once |
//! | `Generic` that wraps an I/O error of the local disk (full, read-only, no permission …) | [`Answer::Definite`] | surfaces at once |
//! | `NotFound` | [`Answer::Definite`] | a value for reads and deletes |
//! | `PermissionDenied`, `Unauthenticated`, `InvalidPath`, `NotSupported`, `NotImplemented`, bad configuration | [`Answer::Definite`] | surfaces at once |
//!
//! An answer whose bytes are fewer or more than it says is `Generic` too (`exact.rs`).
//!
//! # How often
//!
//! The HTTP clients of `object_store` retry below this layer, by the `RetryConfig` that the store was built with: by
//! default up to 10 times, 0.1 s to 15 s apart, and not after 3 minutes. So the bounds here are small: 6 attempts,
//! 25 ms to 2 s apart, as many at random added. What one call comes to when nothing ever works:
//!
//! | the store answers | the client library | this layer | surfaces |
//! | --- | --- | --- | --- |
//! | 500, 502, 503, 504, 429, 408; no connection | 11 requests for each attempt | read, delete: 6 attempts; conditional write and `put_immutable`: 1 write, and 6 attempts to read back; bulk delete: once, and then object by object; listing: 1 attempt | `Storage`; of a conditional write `OutcomeUnknown` |
//! | no answer in time, a connection that breaks after sending | reads and listings as above; writes and deletes: 1 request for each attempt | the same | the same |
//! | 401, 403 | 1 request | 1 attempt; a conditional write is looked for once | `Storage` |
//! | 404 | 1 request | 1 attempt; to a read a value, to a delete success | `NotFound` where it is neither |
//! | 409, 412 to a conditional write | 1 request; S3 repeats a replacement that is answered 409 | read back; while the old state is there, up to 6 attempts | a lost race as a value; `OutcomeUnknown` if the old state stays |
//! | 304 to a conditional read | 1 request | 1 attempt | a value |
//! | a body that breaks off | reads on from there, if the ETag is the same | 6 attempts | `Storage` |
//! | a body that ends early | 1 request | 6 attempts; a scan: 1 | `Storage`; the Parquet reader's error |
//!
//! A success that the client library reports as a conflict, because its own first try took effect, is read back
//! and is a success; so a conflict that is reported is one, whatever the `RetryConfig`.

use std::io::ErrorKind;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use object_store::Error;

/// Bounds on repeating an operation: attempts, and the wait between two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, at least one.
    pub max_attempts: u32,
    /// The wait before the second attempt; each further one doubles, plus up to as much at random.
    pub min_delay: Duration,
    /// The longest wait before random time is added.
    pub max_delay: Duration,
    /// Seeds the random part, so that a simulation replays; `None` takes it from the process.
    pub jitter_seed: Option<u64>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            min_delay: Duration::from_millis(25),
            max_delay: Duration::from_secs(2),
            jitter_seed: None,
        }
    }
}

impl RetryPolicy {
    /// One attempt, no waiting.
    pub fn never() -> Self {
        Self {
            max_attempts: 1,
            ..Self::default()
        }
    }

    /// The waits between attempts: one fewer than there are attempts.
    pub(crate) fn delays(&self) -> ExponentialBackoff {
        let builder = ExponentialBuilder::default()
            .with_min_delay(self.min_delay)
            .with_max_delay(self.max_delay)
            .with_max_times(self.max_attempts.saturating_sub(1) as usize)
            .with_jitter();
        match self.jitter_seed {
            Some(seed) => builder.with_jitter_seed(seed).build(),
            None => builder.build(),
        }
    }
}

/// What an error says about the request that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The condition of a conditional write did not hold, or so the store reports.
    Refused,
    /// The request may have been carried out, or may be if sent again.
    Unclear,
    /// Sending it again will not help.
    Definite,
}

pub(crate) fn classify(error: &Error) -> Answer {
    match error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            Answer::Refused
        }
        Error::Generic { source, .. } => match io_kind(source.as_ref()) {
            Some(kind) if is_local_and_final(kind) => Answer::Definite,
            _ if lacks_rights(source.as_ref()) => Answer::Definite,
            _ => Answer::Unclear,
        },
        Error::JoinError { .. } => Answer::Unclear,
        _ => Answer::Definite,
    }
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut current = Some(error);
    while let Some(e) = current {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        current = e.source();
    }
    None
}

/// Whether an HTTP server refused for lack of rights. The clients say so by a kind of their own but for listings and
/// bulk deletions; the type from which they take it is private to them, so its text is looked at.
fn lacks_rights(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(e) = current {
        let text = e.to_string();
        if let Some((_, status)) = text.split_once("non-2xx status code: ")
            && (status.starts_with("401") || status.starts_with("403"))
        {
            return true;
        }
        current = e.source();
    }
    false
}

/// Kinds that only a local file system raises and that waiting milliseconds does not cure. The
/// kinds of broken connections are left out: an HTTP error can carry those.
fn is_local_and_final(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
            | ErrorKind::CrossesDevices
            | ErrorKind::Unsupported
    )
}
