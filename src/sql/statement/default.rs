//! `DEFAULT` as a value: the default of the column that it is for, or NULL.

use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::sql::sqlparser::ast::{Expr, Value};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::unparser::expr_to_sql;

use crate::dml::SupertableProvider;

/// Whether a value is the word `DEFAULT`, rather than a column that is quoted so.
pub(super) fn is_default(value: &Expr) -> bool {
    matches!(value, Expr::Identifier(name)
        if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("DEFAULT"))
}

/// What stands for `value`, which is for `column`.
///
/// # Errors
/// The column's default cannot be written as SQL.
pub(super) fn value_or_default(
    value: Expr,
    table: &dyn TableProvider,
    column: &str,
) -> Result<Expr> {
    match is_default(&value) {
        true => default_of(table, column),
        false => Ok(value),
    }
}

/// The default of a column, or NULL.
///
/// # Errors
/// As [`value_or_default`].
pub(super) fn default_of(table: &dyn TableProvider, column: &str) -> Result<Expr> {
    if let Some(own) = table.downcast_ref::<SupertableProvider>() {
        let metadata = own.table().metadata();
        if let Some(sql) = metadata.defaults.get(column) {
            let dialect = GenericDialect {};
            let value = Parser::new(&dialect).try_with_sql(sql)?.parse_expr()?;
            return Ok(Expr::Nested(Box::new(value)));
        }
    }
    match table.get_column_default(column) {
        Some(default) => Ok(Expr::Nested(Box::new(expr_to_sql(default)?))),
        None => Ok(Expr::Value(Value::Null.into())),
    }
}
