//! The functions, by name.

use std::sync::Arc;

use datafusion::catalog::TableFunctionImpl;

use crate::sql::functions::recover::Recover;

/// How the name of every function of this crate begins.
pub(crate) const FUNCTION_PREFIX: &str = "supertable_";

/// All functions, for a session's registry.
pub(crate) fn table_functions() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    vec![("supertable_recover", Arc::new(Recover))]
}
