//! `supertable_history('t')`: what was done to the table, newest first.
//!
//! One row for each statement that a version committed; the first version, which made the table, has
//! one of its own. The walk back over the versions goes as far as rows are asked for, and ends at
//! the oldest version that vacuum left.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use futures::{StreamExt, TryFutureExt, TryStreamExt};

use crate::error::Result as OwnResult;
use crate::format::manifest::{CommitRecord, ManifestHeader};
use crate::sql::functions::args::{Call, Signature};
use crate::sql::functions::rows::{batch, lazy_stream, moment_type};
use crate::table::VersionInfo;

const SIGNATURE: Signature = Signature {
    function: "supertable_history",
    table: true,
    positional: &[],
    named: &[],
};

/// Versions of one batch: few, so that a `LIMIT` does not read far beyond it.
const VERSIONS_AT_ONCE: usize = 16;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct History;

impl TableFunctionImpl for History {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let lookup = Call::parse(&SIGNATURE, &args)?.table()?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("version", DataType::UInt64, false),
            Field::new("time", moment_type(), false),
            Field::new("operation", DataType::Utf8, false),
            Field::new("rows_inserted", DataType::UInt64, true),
            Field::new("rows_deleted", DataType::UInt64, true),
            Field::new("rows_updated", DataType::UInt64, true),
            Field::new("live_rows", DataType::UInt64, false),
            Field::new("superfiles", DataType::UInt64, false),
            Field::new("duration_ms", DataType::Int64, true),
            Field::new("wal_id", DataType::Utf8, true),
            Field::new("statement", DataType::Utf8, true),
        ]));
        let output = Arc::clone(&schema);
        lazy_stream(schema, move |_| {
            let (lookup, output) = (lookup.clone(), Arc::clone(&output));
            async move {
                let table = lookup.find().await?;
                let current = table.snapshot().await?;
                Ok(table.versions(&current))
            }
            .try_flatten_stream()
            .try_chunks(VERSIONS_AT_ONCE)
            .map(move |versions| {
                let versions = versions.map_err(|e| e.1)?;
                Ok(history_batch(&output, &versions)?)
            })
            .boxed()
        })
    }
}

/// A version, and a statement that it committed; none for the version that made the table.
pub(crate) type Entry<'v> = (&'v ManifestHeader, Option<&'v CommitRecord>);

/// What a version committed.
pub(crate) fn entries(info: &VersionInfo) -> impl Iterator<Item = Entry<'_>> {
    let header = &info.header;
    let creation = header.commits.is_empty().then_some((header, None));
    let commits = header.commits.iter().map(move |c| (header, Some(c)));
    creation.into_iter().chain(commits)
}

/// The kind of a statement.
pub(crate) fn operation(commit: Option<&CommitRecord>) -> &'static str {
    commit.map_or("CREATE", |commit| commit.op.as_str())
}

/// From a statement's beginning to the version that committed it.
pub(crate) fn duration_ms(header: &ManifestHeader, commit: &CommitRecord) -> i64 {
    // Two processes' clocks may disagree.
    header
        .created_at_ms
        .saturating_sub(commit.started_at_ms)
        .max(0)
}

fn history_batch(schema: &SchemaRef, versions: &[VersionInfo]) -> OwnResult<RecordBatch> {
    let rows: Vec<Entry<'_>> = versions.iter().flat_map(entries).collect();
    let numbers = |of: fn(&CommitRecord) -> u64| -> ArrayRef {
        Arc::new(rows.iter().map(|r| r.1.map(of)).collect::<UInt64Array>())
    };
    let header = |of: fn(&ManifestHeader) -> u64| -> ArrayRef {
        Arc::new(rows.iter().map(|r| Some(of(r.0))).collect::<UInt64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        header(|h| h.version),
        Arc::new(
            rows.iter()
                .map(|r| Some(r.0.created_at_ms))
                .collect::<TimestampMillisecondArray>()
                .with_timezone("UTC"),
        ),
        Arc::new(
            rows.iter()
                .map(|r| Some(operation(r.1)))
                .collect::<StringArray>(),
        ),
        numbers(|c| c.rows_inserted),
        numbers(|c| c.rows_deleted),
        numbers(|c| c.rows_updated),
        header(|h| h.totals.live_rows),
        header(|h| h.totals.superfiles),
        Arc::new(
            rows.iter()
                .map(|r| r.1.map(|c| duration_ms(r.0, c)))
                .collect::<Int64Array>(),
        ),
        Arc::new(
            rows.iter()
                .map(|r| r.1.map(|c| c.wal_id.to_string()))
                .collect::<StringArray>(),
        ),
        Arc::new(
            rows.iter()
                .map(|r| r.1.map(|c| c.statement.as_str()))
                .collect::<StringArray>(),
        ),
    ];
    batch(SIGNATURE.function, schema, columns)
}
