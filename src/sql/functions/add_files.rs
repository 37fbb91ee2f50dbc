//! `supertable_add_files('t', 's3://bucket/data/*.parquet')`: Parquet files that others have written
//! become part of the table, without being decoded. One file, a directory, or a pattern. Those in the table's own
//! store stay where they are, unless `copy => true`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use futures::FutureExt;

use crate::sql::add_files::execute::{Added, add_files};
use crate::sql::functions::args::{Call, Signature, required};
use crate::sql::functions::rows::{batch, effect_table};

const SIGNATURE: Signature = Signature {
    function: "supertable_add_files",
    table: true,
    positional: &["location"],
    named: &["copy"],
};

/// One row for each file that was added: where it was, its rows and bytes, its superfile, and whether it is
/// read there or was copied.
#[derive(Debug)]
pub(crate) struct AddFiles;

impl TableFunctionImpl for AddFiles {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = Call::parse(&SIGNATURE, &args)?;
        let lookup = call.table()?;
        let location = required(SIGNATURE.function, "location", call.text("location")?)?;
        let copy = call.bool("copy")?.unwrap_or(false);
        let context = args.session().task_ctx();
        let schema = Arc::new(Schema::new(vec![
            Field::new("file", DataType::Utf8, false),
            Field::new("rows", DataType::UInt64, false),
            Field::new("bytes", DataType::UInt64, false),
            Field::new("superfile", DataType::Utf8, true),
            Field::new("placed", DataType::Utf8, false),
        ]));
        let output = Arc::clone(&schema);
        effect_table(schema, move |_| {
            let (lookup, location) = (lookup.clone(), location.clone());
            let (context, output) = (Arc::clone(&context), Arc::clone(&output));
            async move {
                let provider = lookup.provider_for(SIGNATURE.function).await?;
                let place = provider.access().location.clone();
                let added = add_files(&context, provider.table(), &place, &location, copy).await?;
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(added.iter().map(|a| Some(&a.file)).collect::<StringArray>()),
                    Arc::new(added.iter().map(|a| a.rows).collect::<UInt64Array>()),
                    Arc::new(added.iter().map(|a| a.bytes).collect::<UInt64Array>()),
                    Arc::new(
                        added
                            .iter()
                            .map(|a| a.superfile.map(|id| id.to_string()))
                            .collect::<StringArray>(),
                    ),
                    Arc::new(added.iter().map(placed).map(Some).collect::<StringArray>()),
                ];
                batch(SIGNATURE.function, &output, columns)
            }
            .boxed()
        })
    }
}

fn placed(added: &Added) -> &'static str {
    match (added.superfile, added.in_place) {
        (None, _) => "no rows",
        (Some(_), true) => "in place",
        (Some(_), false) => "copied",
    }
}
