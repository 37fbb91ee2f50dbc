//! `ARROW('Timestamp(ms, "Europe/Berlin")')`: a type of a column by its name in Arrow.
//!
//! Owns that SQL understands it, wherever a type stands (`CREATE`, `ALTER TABLE`, `CAST`). `SHOW CREATE TABLE` shows
//! so what DataFusion's SQL has no name for, or one that another session would read as another type. The session's
//! own planner of types, if it has one, is asked first.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::DataType as SqlType;

use super::types::{ARROW, arrow_type};
use crate::error::{Error, ErrorKind};

#[derive(Debug)]
struct ArrowTypes {
    before: Option<Arc<dyn TypePlanner>>,
}

/// Makes a session that has this planner understand types by their names in Arrow, too.
pub(crate) fn understand_arrow_types(planner: &mut Option<Arc<dyn TypePlanner>>) {
    let before = planner.take();
    *planner = Some(Arc::new(ArrowTypes { before }));
}

impl TypePlanner for ArrowTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        if let Some(before) = &self.before
            && let Some(known) = before.plan_type_field(sql_type)?
        {
            return Ok(Some(known));
        }
        let SqlType::Custom(name, arguments) = sql_type else {
            return Ok(None);
        };
        let is_own = |part: &str| part.eq_ignore_ascii_case(ARROW);
        match (name.0.as_slice(), arguments.as_slice()) {
            ([part], [given]) if part.as_ident().is_some_and(|name| is_own(&name.value)) => {
                match arrow_type(given) {
                    Some(data_type) => Ok(Some(Arc::new(Field::new("", data_type, true)))),
                    None => Err(Error::new(
                        ErrorKind::InvalidArgument,
                        sql_type.to_string(),
                        "Arrow has no type of this name; write it as arrow_typeof(…) shows it",
                    )
                    .into()),
                }
            }
            _ => Ok(None),
        }
    }
}
