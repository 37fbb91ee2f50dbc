//! From a `LOCATION` to the stores that read and change a table there.
//!
//! Owns the resolution of a URL or path. Local disk gets this crate's own store, because
//! DataFusion's has no conditional replace and syncs nothing; every other scheme uses the store
//! that the session has registered for it.

use datafusion::catalog::Session;
use datafusion::datasource::listing::ListingTableUrl;

use crate::error::{Error, ErrorKind, Result};
use crate::scan::ScanLocation;
use crate::storage::{RetryPolicy, Storage};

/// Resolves `location` in the session.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if it is not a plain directory or prefix;
/// [`ErrorKind::Storage`] if the session has no store for its scheme.
pub fn resolve(state: &dyn Session, location: &str) -> Result<(Storage, ScanLocation)> {
    let invalid = |why: &str| Error::new(ErrorKind::InvalidArgument, location, why);
    // A table is a directory; without the slash a path would be taken for one file.
    let directory = match location.ends_with('/') {
        true => location.to_owned(),
        false => format!("{location}/"),
    };
    let url = ListingTableUrl::parse(&directory)
        .map_err(|e| invalid("is not a location").with_source(e))?;
    if url.get_glob().is_some() {
        return Err(invalid("a table's location cannot hold wildcards"));
    }
    let scan = ScanLocation {
        store_url: url.object_store(),
        root: url.prefix().clone(),
    };
    let storage = if url.scheme() == "file" {
        let path = url
            .get_url()
            .to_file_path()
            .map_err(|()| invalid("is not a path on this machine"))?;
        Storage::local(path, RetryPolicy::default())?
    } else {
        let store = state
            .runtime_env()
            .object_store(&scan.store_url)
            .map_err(|e| {
                Error::new(
                    ErrorKind::Storage,
                    location,
                    "the session has no object store registered for it",
                )
                .with_source(e)
            })?;
        Storage::new(store, &scan.root, RetryPolicy::default())
    };
    Ok((storage, scan))
}
