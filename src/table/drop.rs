//! Dropping a table: its pointer is swung to a grave, and then its objects are deleted.
//!
//! Owns the swing to the grave, and the deletion. Does not own names of tables (the catalog).
//! Invariants: the swing is the moment at which the table is gone, and it races with commits like any other:
//! a statement is committed before it, or finds the grave and fails. The grave stays for ever, and no other
//! table is created there, so an object that is deleted late, or written late by a statement that does not
//! know yet, is never another table's, and a WAL document that is left is never carried out in one.
//! Readers of an earlier moment fail when a file that they still need is gone; they never read anything wrong.
//! A crash before the swing leaves the table; after it, objects that nobody needs: [`sweep`] deletes them.

use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::format::paths::{self, ObjectName};
use crate::format::{FormatError, Grave, Head};
use crate::storage::{CasOutcome, Storage};
use crate::table::handle::Table;
use crate::table::reruns::Reruns;
use crate::table::version::snapshot::Snapshot;

/// Deletions that are under way at once.
const CONCURRENT: usize = 32;

/// What is said where a directory is kept for a table with another one.
const RESERVED: &str = "this location is kept for a table of a catalog that was renamed, or was to be; \
                        use another location, or the table's name in the catalog";

/// What is said of a table that is gone.
const DROPPED: &str = "this table was dropped; a new one needs another location";

/// Why a drop is tried again.
pub(crate) const SWUNG: &str = "the table's current version changed";

impl Table {
    /// Drops the table: no statement sees it any more, and its objects are deleted.
    ///
    /// # Errors
    /// `NotFound` if it is dropped already. The store's: if the table is gone then, [`sweep`] goes on.
    pub async fn drop_table(&self) -> Result<()> {
        let mut reruns = Reruns::of("DROP TABLE", self).at_most(self.limits().commit_attempts);
        loop {
            let current = self.snapshot().await?;
            if self.bury(&current).await? {
                return sweep(self.storage()).await;
            }
            reruns.after_loss(SWUNG).await?;
        }
    }

    /// Drops the table if `current` is still its current version; says whether it was.
    ///
    /// # Errors
    /// As [`drop_table`](Self::drop_table).
    pub async fn drop_unchanged(&self, current: &Snapshot) -> Result<bool> {
        let buried = self.bury(current).await?;
        if buried {
            sweep(self.storage()).await?;
        }
        Ok(buried)
    }

    async fn bury(&self, current: &Snapshot) -> Result<bool> {
        let path = paths::pointer();
        let Some(expected) = current.pointer() else {
            return Ok(false);
        };
        let grave = Grave {
            table_id: current.metadata().table_id,
            version: current.version(),
            claim: current.claim().cloned(),
            nonce: self.env().ids.nonce(),
        };
        let bytes = grave
            .encode()
            .map_err(|error| FormatError::from(error).at(&path))?;
        match self.storage().replace(&path, expected, bytes).await? {
            CasOutcome::Committed(_) => {
                self.reader().forget();
                Ok(true)
            }
            CasOutcome::Lost => Ok(false),
        }
    }
}

/// Deletes what a dropped table has left, if there is a grave.
///
/// # Errors
/// The store's; what is left can be swept again.
pub async fn sweep(storage: &Storage) -> Result<()> {
    let Some((bytes, _)) = storage.get(&paths::pointer()).await? else {
        return Ok(());
    };
    if !matches!(Head::decode(&bytes), Ok(Head::Dropped(_))) {
        return Ok(());
    }
    storage
        .list(None)
        .map_err(Error::from)
        .try_filter(|meta| {
            let ours = paths::parse(&meta.location);
            let keep = matches!(ours, None | Some(ObjectName::Pointer));
            std::future::ready(!keep)
        })
        .map(|meta| async move { Ok::<_, Error>(storage.delete(&meta?.location).await?) })
        .buffer_unordered(CONCURRENT)
        .try_collect::<()>()
        .await
}

/// The error of whoever comes to a table that was dropped.
pub(crate) fn dropped() -> Error {
    Error::new(ErrorKind::NotFound, paths::pointer().as_ref(), DROPPED)
}

/// The error of whoever comes to a reservation.
pub(crate) fn reserved() -> Error {
    Error::new(ErrorKind::NotFound, paths::pointer().as_ref(), RESERVED)
}

/// Whether an error says that there is no table any more: nothing can be committed to it.
pub fn is_dropped(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && error.subject() == paths::pointer().as_ref()
}

/// Whether there is a grave, not just nothing.
pub fn is_grave(error: &Error) -> bool {
    is_dropped(error) && error.detail() == DROPPED
}

/// Whether there is a reservation.
pub fn is_reserved(error: &Error) -> bool {
    is_dropped(error) && error.detail() == RESERVED
}
