//! Values of columns that a superfile does not hold.
//!
//! Owns what a row reads in a column that was added after the row's superfile was written: the
//! column's initial default, or NULL; and in one that an external file has in the name of its directory.
//! Adds to DataFusion's own adaptation of expressions
//! to a file: beside that, the casts of times to a finer unit are hidden from its optimiser, which is wrong about them. The cast of a narrower type and the NULL of an absent column are that one's.
//!
//! Invariant: a column that the file holds is never replaced.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::CastExpr;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
    replace_columns_with_literals,
};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::Error;
use crate::format::manifest::{TableMetadata, field_id};
use crate::scan::read::columns::{CONSTANTS_KEY, Constants};
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
        let coarser = has_coarser_times(&logical_file_schema, &physical_file_schema);
        let inner = DefaultPhysicalExprAdapterFactory
            .create(logical_file_schema, Arc::clone(&physical_file_schema))?;
        let inner = match coarser {
            false => inner,
            true => Arc::new(Widening {
                file: physical_file_schema,
                inner,
            }),
        };
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

/// Whether a file has times in a coarser unit than the table, as only files have that others wrote.
fn has_coarser_times(table: &Schema, file: &Schema) -> bool {
    file.fields().iter().any(|stored| {
        table
            .field_with_name(stored.name())
            .is_ok_and(|field| is_coarser(stored.data_type(), field.data_type()))
    })
}

fn is_coarser(stored: &DataType, wanted: &DataType) -> bool {
    match (stored, wanted) {
        (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) => a < b,
        _ => false,
    }
}

/// Hides the casts of times to a finer unit from the optimiser. It takes `CAST(ms AS ns) < 1500000` for
/// `ms < 1`, and would leave out rows that are there.
#[derive(Debug)]
struct Widening {
    file: SchemaRef,
    inner: Arc<dyn PhysicalExprAdapter>,
}

impl PhysicalExprAdapter for Widening {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let adapted = self.inner.rewrite(expr)?.transform_up(|part| {
            let Some(cast) = part.downcast_ref::<CastExpr>() else {
                return Ok(Transformed::no(part));
            };
            let stored = cast.expr().data_type(&self.file)?;
            if !is_coarser(&stored, cast.cast_type()) {
                return Ok(Transformed::no(part));
            }
            let to = cast.cast_type().clone();
            let nullable = cast.expr().nullable(&self.file)?;
            let finer = ScalarUDF::new_from_impl(Finer {
                to: to.clone(),
                signature: Signature::any(1, Volatility::Immutable),
            });
            Ok(Transformed::yes(Arc::new(ScalarFunctionExpr::new(
                "__supertable_finer",
                Arc::new(finer),
                vec![Arc::clone(cast.expr())],
                Arc::new(Field::new("finer", to, nullable)),
                Arc::new(ConfigOptions::default()),
            )) as Arc<dyn PhysicalExpr>))
        })?;
        Ok(adapted.data)
    }
}

/// A cast that is no cast to the optimiser.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Finer {
    to: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Finer {
    fn name(&self) -> &str {
        "__supertable_finer"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [times] = args.args.as_slice() else {
            return exec_err!("{} takes one argument", self.name());
        };
        // A time that the finer unit cannot hold is an error.
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        times.cast_to(&self.to, Some(&strict))
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
