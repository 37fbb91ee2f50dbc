//! From a `LOCATION` to the stores that read and change a table there.
//!
//! Owns the resolution of a URL or path. Local disk gets this crate's own store, because
//! DataFusion's has no conditional replace and syncs nothing; every other scheme uses the store
//! that the session has registered for it.

use datafusion::catalog::Session;
use datafusion::datasource::listing::ListingTableUrl;

use crate::config::SupertableOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::scan::ScanLocation;
use crate::storage::{RetryPolicy, Storage};

/// Resolves `location` in the session.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if it is not a plain directory or prefix;
/// [`ErrorKind::Storage`] if the session has no store for its scheme.
pub fn resolve(state: &dyn Session, given: &str) -> Result<(Storage, ScanLocation)> {
    refuse_credentials(given)?;
    let location = given;
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
    // Such a session does not even end what dead writers left.
    let read_only = SupertableOptions::of(state.config_options()).read_only;
    let storage = if read_only {
        storage.read_only()
    } else {
        storage
    };
    Ok((storage, scan))
}

/// Refuses a URL that carries a password or a token: it would be in error messages, plans and logs, and
/// in the table's own history.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`], which does not tell them.
pub(crate) fn refuse_credentials(given: &str) -> Result<()> {
    let shown = without_credentials(given);
    match shown == given {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::InvalidArgument,
            shown,
            "a location cannot hold a password, a token or a query; give credentials in OPTIONS of the \
             store, or in the environment",
        )),
    }
}

/// A location without what may be secret in a URL: the password, the query, the fragment.
fn without_credentials(given: &str) -> String {
    let Some((scheme, rest)) = given.split_once("://") else {
        // A path on this machine, in which every character may be part of a name.
        return given.to_owned();
    };
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at_checked(at).unwrap_or((rest, "")),
        None => (rest, ""),
    };
    // A name alone is no secret: `abfss://container@account…` is how Azure writes a location.
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}@{host}"),
            None => authority.to_owned(),
        },
        None => authority.to_owned(),
    };
    // A pattern of files may have a question mark; a query has an equals sign after it.
    let end = path.find('#').or_else(|| {
        path.find('?')
            .filter(|at| path.get(*at..).is_some_and(|q| q.contains('=')))
    });
    let path = end.and_then(|at| path.get(..at)).unwrap_or(path);
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn secrets_in_a_url_are_not_shown_and_the_rest_is() {
        for (given, shown) in [
            ("s3://key:secret@bucket/t/", "s3://key@bucket/t/"),
            ("s3://key:a:b@c@bucket", "s3://key@bucket"),
            ("https://x/c/t?sv=1&sig=abc", "https://x/c/t"),
            ("az://c?sig=abc", "az://c"),
            ("s3://bucket/t/#token", "s3://bucket/t/"),
        ] {
            assert_eq!(without_credentials(given), shown);
        }
        for plain in [
            "s3://bucket/t/",
            "abfss://container@account.dfs.core.windows.net/t",
            "/tmp/a?b=c#d/",
            "s3://bucket/year=2024/f?.parquet",
            "file:///tmp/t/",
        ] {
            assert_eq!(without_credentials(plain), plain);
        }
    }
}
