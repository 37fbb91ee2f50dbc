//! The values of several columns as one value that is never NULL.
//!
//! Rows are joined where outer values are the same, and there a NULL is the same as another. DataFusion 55 has
//! joins in which NULLs are equal, but moves a filter's equality `a.x = b.x` into such a join, where it then
//! holds for NULLs (see [`faults`](super::faults)). So the values are put into one, in arrow's row format, and
//! joined by plain equality.
//!
//! Invariant: two keys of columns of the same types are equal if and only if the values are, bit for bit, or NULL
//! in the same places.

use std::sync::Arc;

use arrow::array::{AsArray, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use super::refuse::unsupported;

#[derive(Debug, PartialEq, Eq, Hash)]
struct RowKey {
    signature: Signature,
}

/// `values`, over the columns of `schema`, as one key.
///
/// # Errors
/// `Unsupported` names a type that has no place in a key.
pub(super) fn row_key(values: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
    for value in &values {
        let data_type = value.get_type(schema)?;
        if !RowConverter::supports_fields(&[SortField::new(data_type.clone())]) {
            return Err(unsupported(&format!("an outer value of type {data_type}")));
        }
    }
    let function = RowKey {
        signature: Signature::any(values.len(), Volatility::Immutable),
    };
    Ok(ScalarUDF::new_from_impl(function).call(values))
}

/// An outer value as a column of a domain. Rows are grouped by it, where the two zeros of floats would become one: it
/// is kept in its bits.
pub(super) fn domain_value(value: Expr, schema: &DFSchema) -> Result<Expr> {
    match has_float(&value.get_type(schema)?) {
        true => row_key(vec![value], schema),
        false => Ok(value),
    }
}

/// The outer value of type `data_type` that a column of a domain stands for.
pub(super) fn outer_value(key: Expr, data_type: &DataType) -> Expr {
    if !has_float(data_type) {
        return key;
    }
    let function = RowValue {
        data_type: data_type.clone(),
        signature: Signature::any(1, Volatility::Immutable),
    };
    ScalarUDF::new_from_impl(function).call(vec![key])
}

/// The field of a domain's column for an outer value of `field`.
pub(super) fn domain_field(field: &FieldRef) -> FieldRef {
    match has_float(field.data_type()) {
        true => Arc::new(Field::new(field.name(), DataType::Binary, false)),
        false => Arc::clone(field),
    }
}

fn has_float(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => has_float(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_float(field.data_type())),
        DataType::Dictionary(_, value) => has_float(value),
        other => other.is_floating(),
    }
}

/// [`row_key`] of any number of values.
#[cfg(feature = "distributed")]
pub(super) fn row_key_function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(RowKey {
        signature: Signature::variadic_any(Volatility::Immutable),
    }))
}

/// [`independent`].
#[cfg(feature = "distributed")]
pub(super) fn independent_function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Independent {
        signature: Signature::any(1, Volatility::Immutable),
    }))
}

/// `value` itself, of which the engine does not know what it depends on.
pub(super) fn independent(value: Expr) -> Expr {
    let function = Independent {
        signature: Signature::any(1, Volatility::Immutable),
    };
    ScalarUDF::new_from_impl(function).call(vec![value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Independent {
    signature: Signature,
}

impl ScalarUDFImpl for Independent {
    fn name(&self) -> &str {
        "independent"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [data_type] => Ok(data_type.clone()),
            _ => internal_err!("independent has one argument"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields {
            [field] => Ok(Arc::clone(field)),
            _ => internal_err!("independent has one argument"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.into_iter().next() {
            Some(value) => Ok(value),
            None => internal_err!("independent has one argument"),
        }
    }
}

/// The inverse of a key of one value.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowValue {
    data_type: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for RowValue {
    fn name(&self) -> &str {
        "row_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let converter = RowConverter::new(vec![SortField::new(self.data_type.clone())])?;
        let keys = ColumnarValue::values_to_arrays(&args.args)?;
        let [keys] = keys.as_slice() else {
            return internal_err!("row_value has one argument");
        };
        let parser = converter.parser();
        let keys = keys.as_binary::<i32>();
        // A key is NULL where an outer join has found none.
        let null = converter.convert_columns(&[new_null_array(&self.data_type, 1)])?;
        let null = null.row(0);
        let rows = keys.iter().map(|key| match key {
            Some(bytes) => parser.parse(bytes),
            None => null,
        });
        let values = converter.convert_rows(rows)?;
        match values.into_iter().next() {
            Some(values) => Ok(ColumnarValue::Array(values)),
            None => internal_err!("a key has no value"),
        }
    }
}

/// Whether `expr` is such a key.
pub(super) fn is_row_key(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if f.func.inner().is::<RowKey>())
}

impl ScalarUDFImpl for RowKey {
    fn name(&self) -> &str {
        "row_key"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Binary, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let fields = columns
            .iter()
            .map(|column| SortField::new(column.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let rows = converter.convert_columns(&columns)?;
        Ok(ColumnarValue::Array(Arc::new(rows.try_into_binary()?)))
    }
}
