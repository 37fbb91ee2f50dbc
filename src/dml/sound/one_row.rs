//! The function that stands between a scalar subquery's first row and the statement.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error::{Error, ErrorKind};

#[derive(Debug, PartialEq, Eq, Hash)]
struct AtMostOneRow {
    signature: Signature,
}

/// [`at_most_one_row`].
#[cfg(feature = "distributed")]
pub(super) fn at_most_one_row_function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(AtMostOneRow {
        signature: Signature::any(2, Volatility::Immutable),
    }))
}

/// `first`, unless it is one of several `rows`.
pub(super) fn at_most_one_row(first: Expr, rows: Expr) -> Expr {
    let function = AtMostOneRow {
        signature: Signature::any(2, Volatility::Immutable),
    };
    ScalarUDF::new_from_impl(function).call(vec![first, rows])
}

impl ScalarUDFImpl for AtMostOneRow {
    fn name(&self) -> &str {
        "at_most_one_row"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first() {
            Some(first) => Ok(first.clone()),
            None => internal_err!("at_most_one_row has no argument"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields.first() {
            Some(first) => Ok(Arc::new(first.as_ref().clone().with_nullable(true))),
            None => internal_err!("at_most_one_row has no argument"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [first, rows] = args.args.as_slice() else {
            return internal_err!("at_most_one_row has two arguments");
        };
        let rows = rows.clone().into_array(args.number_rows)?;
        let counts = rows.as_primitive::<Int64Type>();
        if counts.iter().flatten().any(|rows| rows > 1) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "subquery",
                "a subquery that stands for one value has more than one row; use LIMIT 1, an aggregate, or IN",
            )
            .into());
        }
        Ok(first.clone())
    }
}
