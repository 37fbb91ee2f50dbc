//! The functions of statements that another process may have by their names.
//!
//! Owns which those are: the ones that are the same whatever they were made for.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use super::{key, one_row};

/// All of them.
pub(crate) fn travelling_functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        key::independent_function(),
        key::row_key_function(),
        one_row::at_most_one_row_function(),
    ]
}
