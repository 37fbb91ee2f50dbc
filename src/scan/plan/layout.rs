//! How the columns that are wanted map to what the Parquet reader is asked for.
//!
//! Owns that mapping, and what each file of a scan carries for its reader. Does not own which files are read.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use object_store::ObjectMeta;

use crate::format::manifest::{RowIds, SuperfileEntry};
use crate::scan::location::ScanLocation;
use crate::scan::plan::statistics::{ColumnIds, physical};
use crate::scan::plan::subset::Rows;
use crate::scan::row_address::{
    ADDRESS_FILE, ADDRESS_POSITION, FIRST_ROW_ID, HiddenColumns, ROW_ID, file_field,
    first_row_id_field, position_field, row_id_field, row_id_function, stored_row_id_field,
    stored_row_id_name,
};
use crate::scan::tombstones::mark::Tombstoned;

/// How wanted columns map to what the Parquet reader is asked for.
pub(super) struct Layout {
    pub(super) table_schema: TableSchema,
    /// Indices into `table_schema` of the columns to read.
    pub(super) read: Vec<usize>,
    row_id: bool,
    /// The name of the stored row id.
    stored_id: &'static str,
    address: bool,
    visible: usize,
}

impl Layout {
    pub(super) fn new(schema: &SchemaRef, hidden: HiddenColumns, wanted: &[&str]) -> Self {
        let row_id = hidden.row_id && wanted.contains(&ROW_ID);
        let address = hidden.address
            && (wanted.contains(&ADDRESS_FILE) || wanted.contains(&ADDRESS_POSITION));
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        if row_id {
            fields.push(stored_row_id_field(schema));
        }
        let stored_id = stored_row_id_name(schema);
        let file_schema = Arc::new(Schema::new(fields));
        let mut constants = Vec::new();
        if address {
            constants.push(file_field());
        }
        if row_id {
            constants.push(first_row_id_field());
        }
        let mut virtuals = Vec::new();
        if address || row_id {
            virtuals.push(position_field());
        }
        let table_schema = TableSchema::builder(file_schema)
            .with_table_partition_cols(constants)
            .with_virtual_columns(virtuals)
            .build();

        let all = table_schema.table_schema();
        let mut names: Vec<&str> = wanted.to_vec();
        if row_id {
            names.extend([stored_id, FIRST_ROW_ID, ADDRESS_POSITION]);
        }
        let mut read = Vec::new();
        for name in names {
            if let Ok(index) = all.index_of(name)
                && !read.contains(&index)
            {
                read.push(index);
            }
        }
        Self {
            read,
            row_id,
            stored_id,
            address,
            visible: schema.fields().len(),
            table_schema,
        }
    }

    /// The superfile `entry`, with what its reader has to know.
    pub(super) fn file(
        &self,
        ordinal: usize,
        entry: &Arc<SuperfileEntry>,
        rows: Option<&Rows>,
        location: &ScanLocation,
        columns: &ColumnIds,
    ) -> Result<PartitionedFile> {
        let mut file = superfile(entry, location);
        let mut constants = Vec::new();
        if self.address {
            let Ok(ordinal) = i32::try_from(ordinal) else {
                return exec_err!(
                    "a snapshot of more than {} superfiles cannot be changed by one statement",
                    i32::MAX
                );
            };
            constants.push(ScalarValue::Int32(Some(ordinal)));
        }
        if self.row_id {
            // Where ids are stored the span is never consulted; any value will do.
            let first = match &entry.row_ids {
                RowIds::Span(first) => first.as_i128(),
                RowIds::Stored => 0,
            };
            constants.push(ScalarValue::Decimal128(Some(first), 38, 0));
        }
        let mut statistics = physical(entry, columns);
        statistics.column_statistics.resize(
            self.visible + usize::from(self.row_id),
            datafusion::common::ColumnStatistics::new_unknown(),
        );
        file = file
            .with_partition_values(constants)
            .with_statistics(Arc::new(statistics));
        let mark = match rows {
            Some(Rows::At(positions)) => {
                Some(Tombstoned::all_but(Arc::clone(positions), entry.rows))
            }
            Some(Rows::Live) | None => entry
                .tombstones
                .map(|reference| Tombstoned::new(reference, entry.rows)),
        };
        if let Some(mark) = mark {
            file = file.with_extension(Arc::new(mark));
        }
        Ok(file)
    }

    /// Computes row ids and restores the wanted column order.
    pub(super) fn finish(
        &self,
        scan: Arc<dyn ExecutionPlan>,
        wanted: &[&str],
        state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !self.row_id {
            return Ok(scan);
        }
        let schema = scan.schema();
        let column = |name: &str| -> Result<Arc<dyn PhysicalExpr>> {
            Ok(Arc::new(Column::new_with_schema(name, &schema)?))
        };
        let exprs = wanted
            .iter()
            .map(|name| {
                let expr: Arc<dyn PhysicalExpr> = if *name == ROW_ID {
                    let function = row_id_function();
                    let known_as = function.name().to_owned();
                    Arc::new(ScalarFunctionExpr::new(
                        &known_as,
                        function,
                        vec![
                            column(self.stored_id)?,
                            column(FIRST_ROW_ID)?,
                            column(ADDRESS_POSITION)?,
                        ],
                        row_id_field(),
                        Arc::clone(state.config().options()),
                    ))
                } else {
                    column(name)?
                };
                Ok(ProjectionExpr::new(expr, (*name).to_owned()))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(exprs, scan)?))
    }
}

/// The superfile `entry`, with what a reader has to know of it.
pub(super) fn superfile(entry: &SuperfileEntry, location: &ScanLocation) -> PartitionedFile {
    let mut file = PartitionedFile::new_from_meta(ObjectMeta {
        location: location.of(entry),
        // Fixed for the superfile's life, so that footers stay cached across statements.
        last_modified: DateTime::from_timestamp_millis(entry.created_at_ms).unwrap_or_default(),
        size: entry.size,
        e_tag: None,
        version: None,
    });
    if entry.in_place.is_none() {
        file = file.with_extension(entry.id);
    }
    if let Some(checksum) = entry.footer_checksum {
        file = file.with_extension(checksum);
    }
    if let Some(external) = &entry.external {
        file = file.with_extension(Arc::new(external.columns.clone()));
    }
    file
}
