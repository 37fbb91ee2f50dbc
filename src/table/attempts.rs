//! A statement that lost against another one runs again: how often, after what pauses, and what it says in the end.
//!
//! Owns: that policy, for every statement, and what of a commit's outcome counts as lost. Does not own what a run
//! does, nor what a conflict is (`conflict`).
//! Invariant: a run that lost left nothing visible. After the last one the caller gets an error of kind `Conflict`:
//! nothing was changed, and the statement can be run again. A crash leaves what a crashed run leaves.

use std::fmt::Display;

use super::commit::CommitOutcome;
use crate::error::{Error, ErrorKind, Result};
use crate::wal::Env;
use crate::wal::backoff::Backoff;

/// How often a statement is run.
pub(crate) const MAX_ATTEMPTS: usize = 10;

/// Why a drop is tried again.
pub(crate) const VERSION_CHANGED: &str = "the table's current version changed";

/// How one run ended.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    /// It is committed.
    Committed {
        /// The version that committed it.
        version: u64,
        /// The rows that it changed.
        rows_affected: u64,
    },
    /// There was nothing to do.
    Nothing,
    /// Another statement was first; in words.
    Lost(String),
}

impl AttemptEnd {
    /// The end of a run whose commit ended like this.
    ///
    /// # Errors
    /// Those of `outcome` that another run would not heal.
    pub(crate) fn of(outcome: Result<CommitOutcome>) -> Result<Self> {
        match outcome {
            Ok(CommitOutcome::Committed {
                version,
                rows_affected,
                ..
            }) => Ok(Self::Committed {
                version,
                rows_affected,
            }),
            Ok(CommitOutcome::NothingToCommit) => Ok(Self::Nothing),
            Ok(CommitOutcome::Conflict(conflict)) => Ok(Self::Lost(conflict.to_string())),
            // Another process took this one for dead and undid it: as good as a lost race.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(Self::Lost(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

/// The runs of one statement.
#[derive(Debug)]
pub(crate) struct Attempts {
    env: Env,
    statement: String,
    pauses: Backoff,
    left: usize,
}

impl Attempts {
    /// Before the first run of a statement on a table, which an error is to name so.
    pub(crate) fn of(statement: impl Into<String>, table: &impl AsRef<Env>) -> Self {
        Self {
            env: table.as_ref().clone(),
            statement: statement.into(),
            pauses: Backoff::default(),
            left: MAX_ATTEMPTS.saturating_sub(1),
        }
    }

    /// The same, for one that no other process helps along: it may lose so many runs more.
    pub(crate) fn at_most(self, runs: usize) -> Self {
        Self {
            left: runs.max(MAX_ATTEMPTS).saturating_sub(1),
            ..self
        }
    }

    /// Waits after a run that lost, until it is time for the next.
    ///
    /// # Errors
    /// `Conflict`, with `why`, after the last one.
    pub(crate) async fn after_loss(&mut self, why: impl Display) -> Result<()> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(self.given_up(why));
        };
        self.left = left;
        tracing::debug!(statement = self.statement, %why, "conflict: running again");
        self.pauses.wait(&self.env).await;
        Ok(())
    }

    /// What a statement says that does not run again.
    pub(crate) fn given_up(&self, why: impl Display) -> Error {
        Error::new(
            ErrorKind::Conflict,
            &self.statement,
            format!(
                "other statements kept committing first ({why}); nothing was changed, and the \
                 statement can be run again"
            ),
        )
    }
}
