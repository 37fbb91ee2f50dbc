//! What every provider of one table shares.

use std::collections::HashMap;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::Expr;

use crate::dml::keys::declared::DeclaredKeys;
use crate::dml::opaque::Opaque;
use crate::dml::write::check::Conditions;
use crate::error::{Error, ErrorKind};
use crate::scan::ScanLocation;
use crate::table::Table;

/// What every provider of one table shares.
#[derive(Debug)]
pub struct TableAccess {
    /// The table.
    pub table: Table,
    /// Where a session's object stores find it.
    pub location: ScanLocation,
    /// The visible columns.
    pub schema: SchemaRef,
    /// Defaults of columns that an `INSERT` leaves out.
    pub column_defaults: Opaque<HashMap<String, Expr>>,
    /// Conditions that every row meets.
    pub conditions: Conditions,
    /// The declared keys.
    pub keys: DeclaredKeys,
}

/// The table has other columns than a statement was planned with.
pub(super) fn columns_changed(access: &TableAccess) -> Error {
    Error::new(
        ErrorKind::Conflict,
        access.location.root.to_string(),
        "the table's columns have changed since the statement was planned; run it again",
    )
}
