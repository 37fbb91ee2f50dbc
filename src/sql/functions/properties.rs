//! `supertable_properties('t')`: what the table is, as keys and values.
//!
//! Values of properties whose key sounds like a credential are not shown.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use futures::FutureExt;

use crate::format::manifest::SortColumn;
use crate::sql::functions::args::{Call, Signature};
use crate::sql::functions::rows::{batch, lazy_table};
use crate::table::Snapshot;

const SIGNATURE: Signature = Signature {
    function: "supertable_properties",
    table: true,
    positional: &[],
    named: &[],
};

/// Words in a key that make its value a secret.
const SECRETS: [&str; 5] = ["secret", "password", "token", "credential", "access_key"];

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Properties;

impl TableFunctionImpl for Properties {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let lookup = Call::parse(&SIGNATURE, &args)?.table()?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Utf8, false),
        ]));
        let output = Arc::clone(&schema);
        lazy_table(schema, move || {
            let (lookup, output) = (lookup.clone(), Arc::clone(&output));
            async move {
                let rows = properties(&*lookup.find().await?.snapshot().await?);
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(rows.iter().map(|r| Some(&r.0)).collect::<StringArray>()),
                    Arc::new(rows.iter().map(|r| Some(&r.1)).collect::<StringArray>()),
                ];
                batch(SIGNATURE.function, &output, columns)
            }
            .boxed()
        })
    }
}

fn properties(snapshot: &Snapshot) -> Vec<(String, String)> {
    let header = snapshot.manifest().header();
    let metadata = snapshot.metadata();
    let order: Vec<String> = metadata.sort_order.iter().map(sort_column).collect();
    let mut rows: Vec<(String, String)> = [
        ("table_id", metadata.table_id.to_string()),
        ("version", header.version.to_string()),
        ("schema_changed_at", header.schema_changed_at.to_string()),
        ("live_rows", header.totals.live_rows.to_string()),
        ("rows", header.totals.rows.to_string()),
        ("superfiles", header.totals.superfiles.to_string()),
        ("bytes", header.totals.bytes.to_string()),
        ("sort_order", order.join(", ")),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    rows.extend(metadata.keys.iter().map(|key| {
        let kind = if key.is_primary {
            "PRIMARY KEY"
        } else {
            "UNIQUE"
        };
        let columns = metadata.columns_of(key).join(", ");
        (format!("key.{}", key.name), format!("{kind} ({columns})"))
    }));
    let defaults = metadata.defaults.iter();
    rows.extend(defaults.map(|(column, sql)| (format!("column.default.{column}"), sql.clone())));
    rows.extend(metadata.properties.iter().map(|(key, value)| {
        let lower = key.to_ascii_lowercase();
        let secret = SECRETS.iter().any(|word| lower.contains(word));
        let shown = if secret { "(hidden)" } else { value.as_str() };
        (key.clone(), shown.to_owned())
    }));
    rows
}

fn sort_column(column: &SortColumn) -> String {
    let direction = if column.descending { "DESC" } else { "ASC" };
    let nulls = if column.nulls_first { "FIRST" } else { "LAST" };
    format!("{} {direction} NULLS {nulls}", column.name)
}
