//! `supertable_recover('t')`: finishes or undoes what crashed statements left behind.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use futures::FutureExt;

use crate::format::WalId;
use crate::sql::functions::args::{Call, Signature};
use crate::sql::functions::rows::{batch, effect_table};
use crate::table::RecoveryReport;

const SIGNATURE: Signature = Signature {
    function: "supertable_recover",
    table: true,
    positional: &[],
    named: &[],
};

/// One row for each WAL document that was looked at: its id, what was done, and why.
#[derive(Debug)]
pub(crate) struct Recover;

impl TableFunctionImpl for Recover {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let lookup = Call::parse(&SIGNATURE, &args)?.table()?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("wal_id", DataType::Utf8, false),
            Field::new("action", DataType::Utf8, false),
            Field::new("detail", DataType::Utf8, true),
        ]));
        let output = Arc::clone(&schema);
        effect_table(schema, move |_| {
            let (lookup, output) = (lookup.clone(), Arc::clone(&output));
            async move {
                let report = lookup.find_for(SIGNATURE.function).await?.recover().await?;
                let rows = recovery_rows(&report);
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(rows.iter().map(|r| Some(&r.0)).collect::<StringArray>()),
                    Arc::new(rows.iter().map(|r| Some(r.1)).collect::<StringArray>()),
                    Arc::new(rows.iter().map(|r| r.2.as_ref()).collect::<StringArray>()),
                ];
                batch(SIGNATURE.function, &output, columns)
            }
            .boxed()
        })
    }
}

/// WAL id, what was done, and details, for each mutation that a recovery looked at.
fn recovery_rows(report: &RecoveryReport) -> Vec<(String, &'static str, Option<String>)> {
    let mut rows: Vec<_> = report
        .committed
        .iter()
        .map(|(id, version)| {
            (
                id.to_string(),
                "committed",
                Some(format!("in version {version}")),
            )
        })
        .collect();
    let groups: [(&[WalId], &'static str); 6] = [
        (&report.retired, "retired"),
        (&report.undone, "undone"),
        (&report.conflicting, "conflicting"),
        (&report.in_flight, "in flight"),
        (&report.orphans, "orphan removed"),
        (&report.left_to_vacuum, "left to vacuum"),
    ];
    for (ids, action) in groups {
        rows.extend(ids.iter().map(|id| (id.to_string(), action, None)));
    }
    rows.extend(
        report
            .failed
            .iter()
            .map(|(id, why)| (id.to_string(), "failed", Some(why.to_string()))),
    );
    rows.sort();
    rows
}
