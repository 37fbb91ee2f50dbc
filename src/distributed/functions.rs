//! The functions of this crate that stand in physical plans, and that workers know by their names.
//!
//! Owns which those are. Others of this crate depend on what they were made for; a plan with one of them is not sent.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use crate::dml::sound::travelling_functions;
use crate::scan::row_address::row_id_function;

/// All of them.
pub(super) fn own_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = travelling_functions();
    functions.push(row_id_function());
    functions
}

/// The function of this name, if it is one of them.
pub(super) fn own_function(name: &str) -> Option<Arc<ScalarUDF>> {
    let mut functions = own_functions().into_iter();
    functions.find(|function| function.name() == name)
}
