//! The SQL dialect of a session.

use datafusion::common::Result as DataFusionResult;
use datafusion::sql::sqlparser::dialect::Dialect;

/// How a session reads SQL.
pub(crate) fn dialect_of(name: &datafusion::config::Dialect) -> DataFusionResult<Box<dyn Dialect>> {
    datafusion::sql::sqlparser::dialect::dialect_from_str(name).ok_or_else(|| {
        datafusion::common::plan_datafusion_err!("the session's SQL dialect is not known")
    })
}
