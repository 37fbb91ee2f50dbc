//! Reading superfiles: from bytes to the table's columns.

pub(crate) mod bloom;
pub(crate) mod columns;
pub(crate) mod defaults;
#[cfg(test)]
mod disk;
mod guard;
pub(crate) mod in_place;
pub(crate) mod keys;
mod late;
pub(crate) mod leave_out;
#[cfg(feature = "distributed")]
pub(crate) mod leaving;
pub(crate) mod parts;
mod read_ahead;
pub(crate) mod reader;
pub(crate) mod source;
mod verified;
