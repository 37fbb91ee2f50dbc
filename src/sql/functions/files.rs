//! `supertable_files('t')`: the superfiles of the current version, or of another: `supertable_files('t', 7)`.
//!
//! `columns` maps a column's name to its least and greatest value, as text, and its number of NULLs. They
//! hold for all rows of the file, deleted ones included, and long texts are bounds, not values. `clustering` says along
//! what the file was written, if it was along anything.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, MapArray, RecordBatch, StringArray, StructArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};

use crate::error::{Error, Result as OwnResult};
use crate::format::manifest::{SuperfileEntry, field_id};
use crate::format::{ClusterKey, Layout, StatValue, paths};
use crate::sql::functions::args::{Call, Signature};
use crate::sql::functions::rows::{batch, lazy_stream, moment_type};

const SIGNATURE: Signature = Signature {
    function: "supertable_files",
    table: true,
    positional: &["at"],
    named: &[],
};

/// Superfiles of one batch.
const AT_ONCE: usize = 1_024;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Files;

impl TableFunctionImpl for Files {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = Call::parse(&SIGNATURE, &args)?;
        let (lookup, moment) = (call.table()?, call.moment("at")?);
        let schema = Arc::new(Schema::new(vec![
            Field::new("superfile", DataType::Utf8, false),
            Field::new("rows", DataType::UInt64, false),
            Field::new("live_rows", DataType::UInt64, false),
            Field::new("bytes", DataType::UInt64, false),
            Field::new("tombstones", DataType::UInt64, false),
            Field::new("sidecar", DataType::Utf8, true),
            Field::new("created", moment_type(), false),
            Field::new("source", DataType::Utf8, true),
            Field::new("columns", columns_type(), false),
            Field::new("clustering", DataType::Utf8, true),
        ]));
        let output = Arc::clone(&schema);
        lazy_stream(schema, move |_| {
            let (lookup, output) = (lookup.clone(), Arc::clone(&output));
            async move {
                let table = lookup.find().await?;
                let snapshot = match moment {
                    Some(moment) => table.snapshot_of(moment).await?,
                    None => table.snapshot().await?,
                };
                let columns = snapshot.schema();
                let entries: Vec<_> = snapshot.manifest().entries().cloned().collect();
                Ok::<_, Error>(
                    stream::iter(entries)
                        .chunks(AT_ONCE)
                        .map(move |entries| files_batch(&output, &columns, &entries)),
                )
            }
            .try_flatten_stream()
            .err_into()
            .boxed()
        })
    }
}

fn stats_fields() -> Fields {
    Fields::from(vec![
        Field::new("min", DataType::Utf8, true),
        Field::new("max", DataType::Utf8, true),
        Field::new("nulls", DataType::UInt64, true),
    ])
}

fn entry_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Struct(stats_fields()), true),
    ])
}

fn columns_type() -> DataType {
    let entries = Field::new("entries", DataType::Struct(entry_fields()), false);
    DataType::Map(Arc::new(entries), false)
}

fn files_batch(
    schema: &SchemaRef,
    columns: &SchemaRef,
    entries: &[Arc<SuperfileEntry>],
) -> OwnResult<RecordBatch> {
    let numbers = |of: fn(&SuperfileEntry) -> u64| -> ArrayRef {
        Arc::new(entries.iter().map(|e| Some(of(e))).collect::<UInt64Array>())
    };
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(
            entries
                .iter()
                .map(|e| Some(path_of(e)))
                .collect::<StringArray>(),
        ),
        numbers(|e| e.rows),
        numbers(SuperfileEntry::live_rows),
        numbers(|e| e.size),
        numbers(SuperfileEntry::deleted_rows),
        Arc::new(
            entries
                .iter()
                .map(|e| Some(paths::sidecar(&e.tombstones.as_ref()?.sidecar).to_string()))
                .collect::<StringArray>(),
        ),
        Arc::new(
            entries
                .iter()
                .map(|e| Some(e.created_at_ms))
                .collect::<TimestampMillisecondArray>()
                .with_timezone("UTC"),
        ),
        Arc::new(
            entries
                .iter()
                .map(|e| Some(location_of(&e.external.as_ref()?.source)))
                .collect::<StringArray>(),
        ),
        Arc::new(columns_map(columns, entries)?),
        Arc::new(
            entries
                .iter()
                .map(|e| Some(clustering(&e.clustering.as_ref()?.key, columns)))
                .collect::<StringArray>(),
        ),
    ];
    batch(SIGNATURE.function, schema, arrays)
}

/// Its path below the table's root; with a slash before it, from the root of the table's object store.
fn path_of(entry: &SuperfileEntry) -> String {
    match &entry.in_place {
        Some(file) => file.place().to_string(),
        None => paths::superfile(&entry.id).to_string(),
    }
}

/// Where a file was taken in; which state of it is behind that.
fn location_of(source: &str) -> &str {
    source.rsplit_once('#').map_or(source, |(name, _)| name)
}

/// One map for each superfile, from its columns' names to what is known of them.
fn columns_map(columns: &SchemaRef, entries: &[Arc<SuperfileEntry>]) -> OwnResult<MapArray> {
    let (mut names, mut mins, mut maxs, mut nulls) = (vec![], vec![], vec![], vec![]);
    let mut lengths = Vec::with_capacity(entries.len());
    for entry in entries {
        let before = names.len();
        for field in columns.fields() {
            let Some(stats) = field_id(field).and_then(|id| entry.stats.columns.get(&id)) else {
                continue;
            };
            names.push(field.name().clone());
            mins.push(text(stats.min.as_ref(), field.data_type()));
            maxs.push(text(stats.max.as_ref(), field.data_type()));
            nulls.push(stats.null_count);
        }
        lengths.push(names.len() - before);
    }
    let values: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(mins)),
        Arc::new(StringArray::from(maxs)),
        Arc::new(UInt64Array::from(nulls)),
    ];
    let build = || {
        let values = StructArray::try_new(stats_fields(), values, None)?;
        let names: ArrayRef = Arc::new(StringArray::from(names));
        let entries = StructArray::try_new(entry_fields(), vec![names, Arc::new(values)], None)?;
        let DataType::Map(field, sorted) = columns_type() else {
            return Err(arrow::error::ArrowError::SchemaError("not a map".into()));
        };
        let offsets = OffsetBuffer::from_lengths(lengths);
        MapArray::try_new(field, offsets, entries, None, sorted)
    };
    build().map_err(|e| {
        Error::new(
            crate::error::ErrorKind::Corrupt,
            SIGNATURE.function,
            "its rows do not fit its columns",
        )
        .with_source(e)
    })
}

/// Along what a superfile was written, by the names that its columns have in this version.
fn clustering(key: &ClusterKey, columns: &SchemaRef) -> String {
    let name = |id: &i32| {
        let named = columns.fields().iter().find(|f| field_id(f) == Some(*id));
        // A column that is not there any more.
        named.map_or_else(|| "?".to_owned(), |field| field.name().clone())
    };
    let names: Vec<String> = key.columns.iter().map(name).collect();
    match key.layout {
        Layout::ZOrder => format!("zorder({})", names.join(", ")),
        Layout::Hilbert => format!("hilbert({})", names.join(", ")),
        Layout::Declared => format!("order({})", names.join(", ")),
        Layout::Stored => "as stored".to_owned(),
    }
}

/// A bound as a query would print it.
fn text(bound: Option<&StatValue>, data_type: &DataType) -> Option<String> {
    let array = bound?.to_scalar(data_type)?.to_array().ok()?;
    (array.len() == 1).then(|| array_value_to_string(&array, 0).ok())?
}
