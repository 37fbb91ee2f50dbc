//! What stands in the pointer's place, and the errors that say that no table does.
//!
//! Owns: telling a table from a dropped one, from a reservation of the catalog and from nothing. Does not own the
//! bytes (`format`), the reads (`head`), nor the names of tables (the catalog).
//! Invariant: each of these errors has the pointer as its subject, and no other error is taken for one of them. No I/O.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{FormatError, Head, Pointer, paths};

/// What an error says where a directory is kept for a table with another one.
const RESERVED: &str = "this location is kept for a table of a catalog that was renamed, or was to be; \
                        use another location, or the table's name in the catalog";

/// What an error says of a table that is gone.
const DROPPED: &str = "this table was dropped; a new one needs another location";

/// The pointer of a table that can be read.
///
/// # Errors
/// `NotFound` if it is a dropped table's, or a reservation; `Corrupt` or `UnsupportedVersion`.
pub(crate) fn decode(bytes: &[u8]) -> Result<Pointer> {
    match Head::decode(bytes) {
        Ok(Head::Table(pointer)) => Ok(pointer),
        Ok(Head::Dropped(_)) => Err(dropped()),
        Ok(Head::Reserved(_)) => Err(reserved()),
        Err(error) => Err(FormatError::from(error).at(&paths::pointer())),
    }
}

/// The error where there is no pointer.
pub(crate) fn missing() -> Error {
    Error::new(
        ErrorKind::NotFound,
        paths::pointer().as_ref(),
        "there is no supertable at this location; create one with \
         CREATE EXTERNAL TABLE … (columns) STORED AS SUPERTABLE, or correct the location",
    )
}

/// The error where the pointer is another table's than it was.
pub(crate) fn replaced() -> Error {
    Error::new(
        ErrorKind::NotFound,
        paths::pointer().as_ref(),
        "this table was dropped, and another one was created in its place; open it again",
    )
}

/// The error where a table was dropped.
pub(crate) fn dropped() -> Error {
    Error::new(ErrorKind::NotFound, paths::pointer().as_ref(), DROPPED)
}

/// The error where a reservation stands.
pub(crate) fn reserved() -> Error {
    Error::new(ErrorKind::NotFound, paths::pointer().as_ref(), RESERVED)
}

/// The error of a creation where a table is already.
pub(crate) fn exists() -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        paths::pointer().as_ref(),
        "there is a table at this location already",
    )
}

/// Whether an error says that there is no table any more: nothing can be committed to it.
pub(crate) fn is_no_table(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && error.subject() == paths::pointer().as_ref()
}

/// Whether an error says that the table was dropped, which is for ever.
pub fn is_dropped_table(error: &Error) -> bool {
    is_no_table(error) && error.detail() == DROPPED
}

/// Whether an error says that a reservation stands there.
pub(crate) fn is_reservation(error: &Error) -> bool {
    is_no_table(error) && error.detail() == RESERVED
}
