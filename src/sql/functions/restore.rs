//! `supertable_restore('t', 7)`: makes the table what it was in an earlier version, in a new version.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use futures::FutureExt;

use crate::sql::functions::args::{Call, Signature, required};
use crate::sql::functions::rows::{batch, effect_table};

const SIGNATURE: Signature = Signature {
    function: "supertable_restore",
    table: true,
    positional: &["at"],
    named: &[],
};

/// One row: the version that was restored, the one that was made, and the rows that the table has now.
#[derive(Debug)]
pub(crate) struct Restore;

impl TableFunctionImpl for Restore {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = Call::parse(&SIGNATURE, &args)?;
        let lookup = call.table()?;
        let moment = required(SIGNATURE.function, "at", call.moment("at")?)?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("restored", DataType::UInt64, false),
            Field::new("version", DataType::UInt64, false),
            Field::new("live_rows", DataType::UInt64, false),
        ]));
        let output = Arc::clone(&schema);
        effect_table(schema, move |_| {
            let (lookup, output) = (lookup.clone(), Arc::clone(&output));
            async move {
                let done = lookup
                    .find_for(SIGNATURE.function)
                    .await?
                    .restore(moment)
                    .await?;
                let columns = [done.from, done.version, done.live_rows]
                    .map(|number| Arc::new(UInt64Array::from(vec![number])) as ArrayRef);
                batch(SIGNATURE.function, &output, columns.to_vec())
            }
            .boxed()
        })
    }
}
