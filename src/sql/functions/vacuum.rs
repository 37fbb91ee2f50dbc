//! `supertable_vacuum('t', retain => INTERVAL '7 days', dry_run => true)`: deletes what no retained
//! version refers to.
//!
//! Owns the rows that tell of it. Does not own the vacuum.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use futures::FutureExt;

use crate::sql::functions::args::{Call, Signature};
use crate::sql::functions::rows::{batch, effect_table};
use crate::table::{Removed, VacuumOptions, VacuumReport};

const SIGNATURE: Signature = Signature {
    function: "supertable_vacuum",
    table: true,
    positional: &[],
    named: &["retain", "dry_run"],
};

/// One row for each kind of object: what was done, how many, how many bytes.
#[derive(Debug)]
pub(crate) struct Vacuum;

impl TableFunctionImpl for Vacuum {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = Call::parse(&SIGNATURE, &args)?;
        let lookup = call.table()?;
        let defaults = VacuumOptions::default();
        let options = VacuumOptions {
            retain: call.interval("retain")?.unwrap_or(defaults.retain),
            dry_run: call.bool("dry_run")?.unwrap_or(defaults.dry_run),
        };
        let schema = Arc::new(Schema::new(vec![
            Field::new("what", DataType::Utf8, false),
            Field::new("action", DataType::Utf8, false),
            Field::new("objects", DataType::UInt64, true),
            Field::new("bytes", DataType::UInt64, true),
        ]));
        let output = Arc::clone(&schema);
        effect_table(schema, move |_| {
            let (lookup, output) = (lookup.clone(), Arc::clone(&output));
            async move {
                let table = match options.dry_run {
                    true => lookup.find().await?,
                    false => lookup.find_for(SIGNATURE.function).await?,
                };
                let report = table.vacuum(options).await?;
                let rows = report_rows(&report);
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(rows.iter().map(|r| Some(r.0)).collect::<StringArray>()),
                    Arc::new(
                        rows.iter()
                            .map(|r| Some(r.1.as_str()))
                            .collect::<StringArray>(),
                    ),
                    Arc::new(rows.iter().map(|r| r.2).collect::<UInt64Array>()),
                    Arc::new(rows.iter().map(|r| r.3).collect::<UInt64Array>()),
                ];
                batch(SIGNATURE.function, &output, columns)
            }
            .boxed()
        })
    }
}

type Row = (&'static str, String, Option<u64>, Option<u64>);

fn report_rows(report: &VacuumReport) -> Vec<Row> {
    let deleted = match report.dry_run {
        true => "would be deleted",
        false => "deleted",
    };
    let row = |what, action: &str, removed: Removed| {
        (
            what,
            action.to_owned(),
            Some(removed.objects),
            Some(removed.bytes),
        )
    };
    let mut rows = vec![
        row("superfiles", deleted, report.superfiles),
        row("sidecars", deleted, report.sidecars),
        row("manifest nodes", deleted, report.manifest_nodes),
        (
            "mutations",
            match report.dry_run {
                true => "would be ended".to_owned(),
                false => "ended".to_owned(),
            },
            Some(report.wal_objects),
            None,
        ),
        row(
            "unused objects",
            "kept: a statement is under way",
            report.in_flight,
        ),
        row("unused objects", "kept: too young", report.young),
        (
            "versions",
            format!(
                "{} to {} remain",
                report.oldest_version, report.current_version
            ),
            Some(report.current_version - report.oldest_version + 1),
            None,
        ),
    ];
    if report.unreadable_documents > 0 {
        rows.push((
            "WAL documents",
            "cannot be read; what they may need is kept".to_owned(),
            Some(report.unreadable_documents),
            None,
        ));
    }
    rows
}
