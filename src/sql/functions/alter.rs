//! `supertable_alter('t', 'ADD COLUMN x INT, …')`: what `ALTER TABLE t ADD COLUMN x INT, …` does.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::execution::SessionState;
use futures::FutureExt;

use crate::error::{Error, ErrorKind};
use crate::sql::alter::run::alter;
use crate::sql::functions::args::{Call, Signature, required};
use crate::sql::functions::rows::{batch, effect_table};

const SIGNATURE: Signature = Signature {
    function: "supertable_alter",
    table: true,
    positional: &["changes"],
    named: &["if_exists"],
};

/// One row: the table's version after the changes, and how many columns it has. None if there is no such table and
/// that is fine (`if_exists`).
#[derive(Debug)]
pub(crate) struct Alter;

impl TableFunctionImpl for Alter {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = Call::parse(&SIGNATURE, &args)?;
        let lookup = call.table()?;
        let changes = required(SIGNATURE.function, "changes", call.text("changes")?)?;
        let if_exists = call.bool("if_exists")?.unwrap_or(false);
        // Types and defaults mean what they mean in the session.
        let Some(state) = args.session().as_any().downcast_ref::<SessionState>() else {
            return plan_err!("this session cannot plan the columns of a table");
        };
        let state = Arc::new(state.clone());
        let schema = Arc::new(Schema::new(vec![
            Field::new("version", DataType::UInt64, false),
            Field::new("columns", DataType::UInt64, false),
        ]));
        let output = Arc::clone(&schema);
        effect_table(schema, move |_| {
            let (lookup, changes) = (lookup.clone(), changes.clone());
            let (state, output) = (Arc::clone(&state), Arc::clone(&output));
            async move {
                let altered = match alter(&state, &lookup, &changes).await {
                    Err(error) if if_exists && is_missing(&error) => None,
                    altered => Some(altered?),
                };
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(UInt64Array::from_iter_values(
                        altered.iter().map(|altered| altered.version),
                    )),
                    Arc::new(UInt64Array::from_iter_values(
                        altered.iter().map(|altered| altered.columns),
                    )),
                ];
                batch(SIGNATURE.function, &output, columns)
            }
            .boxed()
        })
    }
}

/// Whether there is no such table, and not just one that cannot be opened.
fn is_missing(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && std::error::Error::source(error).is_none()
}
