//! `supertable_alter('t', 'ADD COLUMN x INT, …')`: what `ALTER TABLE t ADD COLUMN x INT, …` does.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::execution::SessionState;
use futures::FutureExt;

use crate::sql::alter::run::alter;
use crate::sql::functions::args::{Call, Signature, required};
use crate::sql::functions::rows::{batch, lazy_table};

const SIGNATURE: Signature = Signature {
    function: "supertable_alter",
    table: true,
    positional: &["changes"],
    named: &[],
};

/// One row: the table's version after the changes, and how many columns it has.
#[derive(Debug)]
pub(crate) struct Alter;

impl TableFunctionImpl for Alter {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = Call::parse(&SIGNATURE, &args)?;
        let lookup = call.table()?;
        let changes = required(SIGNATURE.function, "changes", call.text("changes")?)?;
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
        lazy_table(schema, move || {
            let (lookup, changes) = (lookup.clone(), changes.clone());
            let (state, output) = (Arc::clone(&state), Arc::clone(&output));
            async move {
                let altered = alter(
                    &state,
                    &lookup.find_for(SIGNATURE.function).await?,
                    &changes,
                )
                .await?;
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(UInt64Array::from(vec![altered.version])),
                    Arc::new(UInt64Array::from(vec![altered.columns])),
                ];
                batch(SIGNATURE.function, &output, columns)
            }
            .boxed()
        })
    }
}
