//! The keys of a table, as they are declared.
//!
//! Owns what can be a key, and what DataFusion is told of keys. Does not own their enforcement.
//!
//! Invariant: the engine is told only of keys without NULLs: to those that may be NULL, its rules apply what holds for
//! rows that differ. And only its planner of SQL is told: see `plan::analyzer`.

use arrow::datatypes::DataType;
use datafusion::common::{Constraint, Constraints};

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{TableMetadata, UniqueKey, field_id};

/// The keys of one state of a table's columns.
#[derive(Debug, Clone, Default)]
pub struct DeclaredKeys {
    keys: Vec<UniqueKey>,
    /// Those of which the engine is told.
    told: Vec<UniqueKey>,
    constraints: Constraints,
}

impl DeclaredKeys {
    /// Those that `metadata` declares.
    pub fn of(metadata: &TableMetadata) -> Self {
        let fields = metadata.schema.fields();
        let (mut told, mut constraints) = (Vec::new(), Vec::new());
        for key in &metadata.keys {
            let place = |id: &i32| {
                let at = fields.iter().position(|f| field_id(f) == Some(*id))?;
                (!fields.get(at)?.is_nullable()).then_some(at)
            };
            if let Some(places) = key.columns.iter().map(place).collect() {
                told.push(key.clone());
                constraints.push(match key.is_primary {
                    true => Constraint::PrimaryKey(places),
                    false => Constraint::Unique(places),
                });
            }
        }
        Self {
            keys: metadata.keys.clone(),
            told,
            constraints: Constraints::new_unverified(constraints),
        }
    }

    /// What the engine is told.
    pub(crate) fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// Whether these are the keys of `metadata`.
    pub(crate) fn are_those_of(&self, metadata: &TableMetadata) -> bool {
        self.keys == metadata.keys
    }

    /// Whether what the engine was told holds for rows of a version with this metadata.
    pub(crate) fn hold_in(&self, metadata: &TableMetadata) -> bool {
        self.told.iter().all(|told| {
            let columns = told.column_set();
            let implies = |key: &UniqueKey| key.column_set().is_subset(&columns);
            metadata.keys.iter().any(implies)
        })
    }
}

/// Checks that a column of this type can be part of a key: equal values are one value, and have an order.
///
/// # Errors
/// `Unsupported` names the column.
pub(crate) fn check_key_column(name: &str, data_type: &DataType) -> Result<()> {
    use DataType as T;
    match data_type {
        T::Boolean
        | T::Utf8
        | T::LargeUtf8
        | T::Utf8View
        | T::Binary
        | T::LargeBinary
        | T::BinaryView
        | T::FixedSizeBinary(_)
        | T::Date32
        | T::Date64
        | T::Time32(_)
        | T::Time64(_)
        | T::Timestamp(..)
        | T::Duration(_) => Ok(()),
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => Ok(()),
        integer if integer.is_integer() => Ok(()),
        other => Err(Error::new(
            ErrorKind::Unsupported,
            name,
            format!(
                "a column of the type {other} cannot be part of a key; use one of integers, decimals, text, bytes, \
                 dates or times"
            ),
        )),
    }
}

/// What a key is called that was given no name: the primary key so, another one by its columns.
pub(crate) fn default_name(is_primary: bool, columns: &[&str]) -> String {
    match is_primary {
        true => "primary_key".to_owned(),
        false => format!("{}_key", columns.join("_")),
    }
}
