//! Whether a location is one of a catalog, or of something else that a user may have meant.
//!
//! Owns what tells them apart. A catalog that nobody has made yet is an empty place, so only what is there tells.
//!
//! | what is there | what the location is |
//! | --- | --- |
//! | `_supertable/current` | a table |
//! | `t/_supertable/current`, in each directory | a schema of a catalog: one level too deep |
//! | `_delta_log/`, `.hoodie/` | a table of another format |
//!
//! Invariant: nothing is written; a catalog is never refused.

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use super::tables::SupertableCatalog;
use crate::error::{Error, ErrorKind, Result};
use crate::format::paths;

/// Directories that are looked into, at most.
const LOOKED_INTO: usize = 64;
/// Of them, at once.
const AT_ONCE: usize = 16;

/// Makes sure that the catalog's location is not one of something else.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] says what it is, and what to open instead; those of the store.
pub(crate) async fn check_place(catalog: &SupertableCatalog) -> Result<()> {
    let state = catalog.state();
    let refuse = |why: &str| Err(Error::new(ErrorKind::InvalidArgument, &state.root, why));
    if state.storage.get(&paths::pointer()).await?.is_some() {
        return refuse(
            "is a table and no catalog of tables; a table's catalog is two directories above it. CREATE EXTERNAL TABLE … \
             STORED AS SUPERTABLE LOCATION '…' opens it without one",
        );
    }
    let directories = state.directories(None).await?;
    let has = |name: &str| directories.iter().any(|directory| directory == name);
    if has("_delta_log") || has(".hoodie") {
        return refuse(
            "is a table of another format and no catalog of supertables; choose another place, and copy the table by CREATE \
             TABLE … AS SELECT",
        );
    }
    let table_in = |directory: String| async move {
        let pointer = Path::from(format!("{directory}/{}", paths::pointer()));
        Ok::<_, Error>(state.storage.get(&pointer).await?.map(|_| directory))
    };
    let tables: Vec<Option<String>> = stream::iter(directories.into_iter().take(LOOKED_INTO))
        .map(table_in)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    // A catalog may have tables that it does not know beside its schemas.
    match tables
        .into_iter()
        .collect::<Option<Vec<String>>>()
        .as_deref()
    {
        Some([table, ..]) => refuse(&format!(
            "is a schema of a catalog, for {table} in it is a table; the catalog is the directory above"
        )),
        _ => Ok(()),
    }
}
