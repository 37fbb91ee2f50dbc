//! `supertable_wal('t')`: the mutations in flight, oldest first, with their owners and ages.
//!
//! A document that cannot be read is a row too: `problem` says what is wrong with it. Nothing is changed;
//! `supertable_recover` ends what dead writers left.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};

use crate::error::{Error, Result as OwnResult};
use crate::format::{StateDoc, WalId};
use crate::sql::functions::args::{Call, Signature};
use crate::sql::functions::rows::{batch, lazy_stream, moment_type};
use crate::wal::{Standing, WalError, WalResult};

const SIGNATURE: Signature = Signature {
    function: "supertable_wal",
    table: true,
    positional: &[],
    named: &[],
};

/// Documents of one batch.
const AT_ONCE: usize = 256;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Wal;

impl TableFunctionImpl for Wal {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let lookup = Call::parse(&SIGNATURE, &args)?.table()?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("wal_id", DataType::Utf8, false),
            Field::new("operation", DataType::Utf8, true),
            Field::new("state", DataType::Utf8, true),
            Field::new("owner", DataType::Utf8, true),
            Field::new("created", moment_type(), true),
            Field::new("age_ms", DataType::Int64, true),
            Field::new("lease_expires", moment_type(), true),
            Field::new("lease_expired", DataType::Boolean, true),
            Field::new("base_version", DataType::UInt64, true),
            Field::new("new_rows", DataType::UInt64, true),
            Field::new("statement", DataType::Utf8, true),
            Field::new("problem", DataType::Utf8, true),
        ]));
        let output = Arc::clone(&schema);
        lazy_stream(schema, move |_| {
            let (lookup, output) = (lookup.clone(), Arc::clone(&output));
            async move {
                let table = lookup.find().await?;
                let ids = table.wal().list_wal_ids().await?;
                let concurrency = table.limits().concurrency;
                let env = table.env().clone();
                Ok::<_, Error>(
                    stream::iter(ids)
                        .map(move |id| {
                            let table = table.clone();
                            async move { (id, table.observe_document(&id).await) }
                        })
                        .buffered(concurrency)
                        // What ended since the listing is not in flight.
                        .filter(|(_, doc)| {
                            let gone = matches!(doc, Err(WalError::NotFound { .. }));
                            std::future::ready(!gone)
                        })
                        .chunks(AT_ONCE)
                        .map(move |documents| wal_batch(&output, &documents, env.now())),
                )
            }
            .try_flatten_stream()
            .err_into()
            .boxed()
        })
    }
}

fn wal_batch(
    schema: &SchemaRef,
    documents: &[(WalId, WalResult<(StateDoc, Standing)>)],
    now: DateTime<Utc>,
) -> OwnResult<RecordBatch> {
    let seen = || documents.iter().map(|(_, seen)| seen.as_ref().ok());
    let docs = || seen().map(|seen| seen.map(|(doc, _)| doc));
    let texts = |of: &dyn Fn(&StateDoc) -> Option<String>| -> ArrayRef {
        Arc::new(docs().map(|doc| of(doc?)).collect::<StringArray>())
    };
    let moments = |of: &dyn Fn(&StateDoc) -> Option<DateTime<Utc>>| -> ArrayRef {
        let array: TimestampMillisecondArray = docs()
            .map(|doc| Some(of(doc?)?.timestamp_millis()))
            .collect();
        Arc::new(array.with_timezone("UTC"))
    };
    let numbers = |of: &dyn Fn(&StateDoc) -> Option<u64>| -> ArrayRef {
        Arc::new(docs().map(|doc| of(doc?)).collect::<UInt64Array>())
    };
    let age = |doc: &StateDoc| now.signed_duration_since(doc.created_at).num_milliseconds();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            documents
                .iter()
                .map(|(id, _)| Some(id.to_string()))
                .collect::<StringArray>(),
        ),
        texts(&|doc| Some(doc.op_kind.to_string())),
        texts(&|doc| Some(doc.state.to_string())),
        texts(&|doc| Some(doc.lease.as_ref()?.owner.clone())),
        moments(&|doc| Some(doc.created_at)),
        Arc::new(docs().map(|doc| Some(age(doc?))).collect::<Int64Array>()),
        moments(&|doc| Some(doc.lease.as_ref()?.expires_at)),
        Arc::new(
            seen()
                .map(|seen| Some(seen?.1 == Standing::Abandoned))
                .collect::<BooleanArray>(),
        ),
        numbers(&|doc| Some(doc.base_version)),
        numbers(&|doc| doc.new_row_count),
        texts(&|doc| Some(doc.predicate_repr.clone())),
        Arc::new(
            documents
                .iter()
                .map(|(_, doc)| doc.as_ref().err().map(problem))
                .collect::<StringArray>(),
        ),
    ];
    batch(SIGNATURE.function, schema, columns)
}

/// What is wrong, with the cause that the error holds.
fn problem(error: &WalError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
