//! What is said of names.

use crate::error::{Error, ErrorKind};

/// The error of a name that is taken.
pub(super) fn exists(schema: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("{schema}.{name}"),
        "there is a table of this name already",
    )
}

/// The error of a name without a table.
pub(crate) fn no_such_table(schema: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("{schema}.{name}"),
        "there is no such table",
    )
}
