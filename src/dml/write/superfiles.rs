//! What all statements share that write superfiles: settings, types, order.
//!
//! Owns how a session's and a table's options become a writer's. Does not own the writer ([`SuperfileWriter`]).
//!
//! Invariant: no superfile is completed before the statement's WAL document is durable.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, SortOptions, cast_with_options};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::config::ParquetOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexRequirement, PhysicalSortRequirement};
use futures::StreamExt;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
use parquet::file::metadata::SortingColumn;

use crate::config::{SupertableOptions, WriteOptions};
use crate::dml::provider::TableAccess;
use crate::format::manifest::field_id;
use crate::scan::row_address::stored_row_id_field;
use crate::scan::schema::{embedded_schema, file_schema};
use crate::table::{Free, Mutation, RowIdSource, SuperfileWriter, WriterOptions, check_not_null};

/// The order in which rows are written, if the table declares one: a requirement on the sink's
/// input, which DataFusion meets by a sort where the input does not have it already.
pub(crate) fn write_order(
    access: &TableAccess,
    input: &SchemaRef,
) -> Result<Option<LexRequirement>> {
    let requirements = access
        .table
        .metadata()
        .sort_order
        .iter()
        .map(|column| {
            Ok(PhysicalSortRequirement::new(
                Arc::new(Column::new_with_schema(&column.name, input)?),
                Some(SortOptions {
                    descending: column.descending,
                    nulls_first: column.nulls_first,
                }),
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(LexRequirement::new(requirements))
}

/// A writer of superfiles with the session's Parquet settings and the table's options.
pub(crate) fn superfile_writer(
    access: &TableAccess,
    mutation: &Mutation,
    context: &TaskContext,
    schema: SchemaRef,
    row_ids: RowIdSource,
) -> Result<SuperfileWriter> {
    let session = SupertableOptions::of(context.session_config().options());
    let metadata = access.table.metadata();
    let write = session.write_options(&metadata.properties);
    let max_rows = write.target_file_rows.unwrap_or(session.target_file_rows);
    let max_bytes = write.target_file_bytes.unwrap_or(session.target_file_bytes);
    let mut parquet = datafusion::config::TableOptions::default_from_session_config(
        context.session_config().options(),
    )
    .parquet;
    let file_schema = file_schema(&schema, &metadata.schema);
    let free = free(&write, &parquet.global);
    let looked_up = (metadata.columns_that_are_keys())
        .filter_map(|id| {
            let place = |field: &FieldRef| field_id(field) == Some(id);
            let at = metadata.schema.fields().iter().position(place)?;
            Some(file_schema.fields().get(at)?.name().clone())
        })
        .collect();
    in_the_file(write, &schema, &file_schema).apply(&mut parquet);
    // Others read this one; the sink would embed the types of the batches.
    parquet.global.skip_arrow_metadata = true;
    parquet.key_value_metadata.insert(
        ARROW_SCHEMA_META_KEY.to_owned(),
        Some(encode_arrow_schema(&embedded_schema(&file_schema))),
    );
    let sorting_columns = metadata
        .sort_order
        .iter()
        .map(|column| {
            // A sort by a nested column has no leaf of its own: then no order is recorded.
            let index = leaf_index(&schema, &column.name)?;
            Some(SortingColumn {
                column_idx: index,
                descending: column.descending,
                nulls_first: column.nulls_first,
            })
        })
        .collect::<Option<Vec<_>>>()
        .filter(|columns| !columns.is_empty());
    let table = access.table.clone();
    Ok(SuperfileWriter::new(
        table.storage().object_store(),
        context,
        schema,
        WriterOptions {
            file_schema,
            parquet,
            looked_up,
            free,
            max_rows,
            max_bytes,
            sorting_columns,
        },
        row_ids,
        mutation.ids().clone(),
        table.env().now_ms(),
    )?)
}

/// What neither the session nor the table says, nor DataFusion's settings: those that are as DataFusion made them.
fn free(write: &WriteOptions, parquet: &ParquetOptions) -> Free {
    let default = ParquetOptions::default();
    Free {
        codec: write.compression.is_none() && parquet.compression == default.compression,
        dictionary: write.dictionary.is_none()
            && parquet.dictionary_enabled == default.dictionary_enabled,
        encoding: parquet.encoding == default.encoding,
    }
}

/// `write`, which names columns of `schema`, with the names that they have in a file.
fn in_the_file(mut write: WriteOptions, schema: &Schema, file_schema: &Schema) -> WriteOptions {
    for column in write.bloom_filter_columns.iter_mut().flatten() {
        let at = schema.index_of(column).ok();
        if let Some(field) = at.and_then(|at| file_schema.fields().get(at)) {
            column.clone_from(field.name());
        }
    }
    write
}

/// The first batch of a statement's rows, once the statement's WAL document is durable.
///
/// A superfile may not be completed before: a crash would leave an object that no document leads
/// to. Waiting for both together costs nothing, because the scan is under way meanwhile.
pub(crate) async fn first_batch(
    rows: &mut SendableRecordBatchStream,
    mutation: &Mutation,
) -> Result<Option<RecordBatch>> {
    let first = async { rows.next().await.transpose() };
    let durable = async { Ok(mutation.durable().await?) };
    Ok(futures::try_join!(first, durable)?.0)
}

/// Index of a flat column among the Parquet leaves; none for nested columns and behind them.
fn leaf_index(schema: &SchemaRef, name: &str) -> Option<i32> {
    let at = schema.index_of(name).ok()?;
    let flat = schema
        .fields()
        .iter()
        .take(at + 1)
        .all(|f| !f.data_type().is_nested());
    flat.then(|| i32::try_from(at).ok()).flatten()
}

/// `batch` with exactly the columns' types of `schema`, cast where they differ.
///
/// # Errors
/// A value that the stored type cannot hold is an error, never a null.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                Ok(cast_with_options(column, field.data_type(), &strict)?)
            }
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    check_not_null(schema, &columns)?;
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )?)
}

/// The table's columns followed by the stored row id.
pub(crate) fn with_row_id(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    fields.push(stored_row_id_field(schema));
    Arc::new(Schema::new(fields))
}
