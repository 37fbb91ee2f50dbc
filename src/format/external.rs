//! What a manifest entry says of a file that others wrote, and that a table took in.
//!
//! Owns these values. Does not own their encoding (`manifest::entry_wire`), nor what is read by them (the scan).
//!
//! Such a file carries no field ids that mean anything in the table: its entry says where the values of each field
//! are, by the names of the day when the file was taken in. A field that is not named is not in the file.

use std::collections::BTreeMap;

/// A file that others wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalFile {
    /// Where it was, and which state of the object there: the table takes no state of an object in twice.
    pub source: String,
    /// Where it has the table's fields, by field id.
    pub columns: ExternalColumns,
}

/// Where an external file has the table's fields, by field id.
pub(crate) type ExternalColumns = BTreeMap<i32, ColumnSource>;

/// Where an external file has the values of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnSource {
    /// In the field of this name, of the column or struct that it belongs to.
    Name(String),
    /// Nowhere: all rows have the value that this text casts to, NULL if it is `None`.
    Constant(Option<String>),
}
