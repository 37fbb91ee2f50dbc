//! Deleting what a dropped table has left.
//!
//! Owns that deletion. Does not own the drop (`version::head` marks the table as dropped).
//! Invariants: nothing is deleted unless the pointer's place says that a table was dropped; that mark stays for ever, and
//! no other table is created there, so an object that is deleted late, or written late by a statement that does not
//! know yet, is never another table's, and a WAL document that is left is never carried out in one.
//! Readers of an earlier moment fail when a file that they still need is gone; they never read anything wrong.
//! A crash leaves objects that no version needs; they can be swept again.

use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};
use crate::format::Head;
use crate::format::paths::{self, ObjectName};
use crate::storage::Storage;

/// Deletions that are under way at once.
const CONCURRENT: usize = 32;

/// Deletes what a dropped table has left, if one was dropped there.
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
