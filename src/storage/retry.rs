//! How often the storage layer tries again, how long it waits, and after which answers.
//!
//! Owns the classification of `object_store` errors and the backoff. Does not own the settling of
//! conditional writes (`cas.rs`), which reads back before it repeats anything.
//!
//! | answer | class | what happens |
//! | --- | --- | --- |
//! | `AlreadyExists`, `Precondition`, `NotModified` to a conditional write | [`Answer::Refused`] | read back: our own bytes are a success, the old state is tried again, anything else is a lost race |
//! | `Generic` (HTTP 5xx, 429, 408, broken connections, timeouts), `JoinError` | [`Answer::Unclear`] | a read is repeated; a write is read back first |
//! | `Generic` that wraps an I/O error of the local disk (full, read-only, no permission …) | [`Answer::Definite`] | surfaces at once |
//! | `NotFound` | [`Answer::Definite`] | a value for reads and deletes |
//! | `PermissionDenied`, `Unauthenticated`, `InvalidPath`, `NotSupported`, `NotImplemented`, bad configuration | [`Answer::Definite`] | surfaces at once |
//!
//! The HTTP clients of `object_store` retry below this layer too, so these bounds are small.

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
