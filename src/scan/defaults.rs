//! Values of columns that a superfile does not hold.
//!
//! Owns what a row reads in a column that was added after the row's superfile was written: the
//! column's initial default, or NULL; and in one that an adopted file has in the name of its directory.
//! Adds one step to DataFusion's own adaptation of expressions
//! to a file; the cast of a narrower type and the NULL of an absent column are that one's.
//!
//! Invariant: a column that the file holds is never replaced.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
    replace_columns_with_literals,
};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::Error;
use crate::format::manifest::{TableMetadata, field_id};
use crate::scan::columns::{CONSTANTS_KEY, Constants};
use crate::table::evolution::initial_value;

/// The initial defaults of a table's columns, by their names of today.
///
/// # Errors
/// One of them is not of its column's type.
pub(crate) fn initial_defaults(
    metadata: &TableMetadata,
) -> Result<HashMap<String, ScalarValue>, Error> {
    let mut defaults = HashMap::new();
    for field in metadata.schema.fields() {
        if let Some(text) = field_id(field).and_then(|id| metadata.initial_default(id)) {
            let value = initial_value(field.name(), text, field.data_type())?;
            defaults.insert(field.name().clone(), value);
        }
    }
    Ok(defaults)
}

/// Adapts expressions to files that lack columns with initial defaults.
#[derive(Debug)]
pub(crate) struct InitialDefaults(pub(crate) HashMap<String, ScalarValue>);

impl PhysicalExprAdapterFactory for InitialDefaults {
    fn create(
        &self,
        logical_file_schema: SchemaRef,
        physical_file_schema: SchemaRef,
    ) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let absent = self.absent(&logical_file_schema, &physical_file_schema)?;
        let inner =
            DefaultPhysicalExprAdapterFactory.create(logical_file_schema, physical_file_schema)?;
        Ok(match absent.is_empty() {
            true => inner,
            false => Arc::new(WithDefaults { absent, inner }),
        })
    }
}

impl InitialDefaults {
    /// The values of the columns that `file` does not hold.
    fn absent(&self, table: &Schema, file: &Schema) -> Result<HashMap<String, ScalarValue>> {
        let mut absent = HashMap::new();
        for (name, value) in &self.0 {
            if file.index_of(name).is_err() {
                absent.insert(name.clone(), value.clone());
            }
        }
        let Some(json) = file.metadata().get(CONSTANTS_KEY) else {
            return Ok(absent);
        };
        let constants: Constants = serde_json::from_str(json)
            .map_err(|e| exec_datafusion_err!("a superfile's constant columns: {e}"))?;
        for (name, text) in constants {
            let Ok(field) = table.field_with_name(&name) else {
                continue; // not read by this scan
            };
            let value = match text {
                Some(text) => initial_value(&name, &text, field.data_type())?,
                None => ScalarValue::try_from(field.data_type())?,
            };
            absent.insert(name, value);
        }
        Ok(absent)
    }
}

#[derive(Debug)]
struct WithDefaults {
    absent: HashMap<String, ScalarValue>,
    inner: Arc<dyn PhysicalExprAdapter>,
}

impl PhysicalExprAdapter for WithDefaults {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        self.inner
            .rewrite(replace_columns_with_literals(expr, &self.absent)?)
    }
}
