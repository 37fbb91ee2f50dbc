//! Values of columns that a superfile does not hold.
//!
//! Owns what a row reads in a column that was added after the row's superfile was written: the
//! column's initial default, or NULL. Adds one step to DataFusion's own adaptation of expressions
//! to a file; the cast of a narrower type and the NULL of an absent column are that one's.
//!
//! Invariant: a column that the file holds is never replaced.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
    replace_columns_with_literals,
};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::Error;
use crate::format::manifest::{TableMetadata, field_id};
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
        let absent = absent(&self.0, &physical_file_schema);
        let inner =
            DefaultPhysicalExprAdapterFactory.create(logical_file_schema, physical_file_schema)?;
        Ok(match absent.is_empty() {
            true => inner,
            false => Arc::new(WithDefaults { absent, inner }),
        })
    }
}

fn absent(
    defaults: &HashMap<String, ScalarValue>,
    file: &Schema,
) -> HashMap<String, ScalarValue> {
    defaults
        .iter()
        .filter(|(name, _)| file.index_of(name).is_err())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
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
