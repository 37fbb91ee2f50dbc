//! Which order a scan's rows come in: the declared one, where it can be promised.
//!
//! Owns the arrangement of superfiles such that each partition of the scan is in the table's declared
//! order. Does not own the order of the rows within a superfile: every writer sorts them.
//!
//! Invariant: an order is announced only if each partition really has it. A partition of several
//! superfiles has it if their bounds do not overlap and no sort column of theirs holds a NULL,
//! which bounds say nothing about. Where that takes more partitions than the session wants,
//! nothing is announced: an order that costs the scan its parallelism is worth less than a sort.

use datafusion::common::Result;
use datafusion::common::stats::Precision;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;

use crate::format::manifest::SortColumn;

/// The table's declared order as expressions over `schema`; none if it declares none, or if a column of
/// it is not there.
pub(crate) fn declared_order(order: &[SortColumn], schema: &SchemaRef) -> Option<LexOrdering> {
    let exprs = order
        .iter()
        .map(|column| {
            let expr = Column::new_with_schema(&column.name, schema).ok()?;
            Some(PhysicalSortExpr::new(
                Arc::new(expr),
                SortOptions {
                    descending: column.descending,
                    nulls_first: column.nulls_first,
                },
            ))
        })
        .collect::<Option<Vec<_>>>()?;
    LexOrdering::new(exprs)
}

/// `files` in at most `partitions` groups, each in `order` as a whole; none if that cannot be had.
///
/// # Errors
/// Fails where DataFusion cannot compare the bounds of a sort column.
pub(crate) fn ordered_groups(
    files: &[PartitionedFile],
    order: &LexOrdering,
    schema: &SchemaRef,
    partitions: usize,
) -> Result<Option<Vec<FileGroup>>> {
    if files.len() <= partitions {
        // One superfile each: nothing has to be compared.
        let groups = files.iter().map(|file| FileGroup::new(vec![file.clone()]));
        return Ok(Some(groups.collect()).filter(|groups: &Vec<_>| !groups.is_empty()));
    }
    if !files.iter().all(|file| is_comparable(file, order)) {
        return Ok(None);
    }
    let groups = FileScanConfig::split_groups_by_statistics_with_target_partitions(
        schema,
        &[FileGroup::new(files.to_vec())],
        order,
        partitions,
    )?;
    Ok(Some(groups).filter(|groups| groups.len() <= partitions))
}

/// Whether the bounds of a file's sort columns enclose all of their values.
fn is_comparable(file: &PartitionedFile, order: &LexOrdering) -> bool {
    let Some(statistics) = &file.statistics else {
        return false;
    };
    order.iter().all(|sort| {
        sort.expr
            .downcast_ref::<Column>()
            .and_then(|column| statistics.column_statistics.get(column.index()))
            .is_some_and(|column| {
                column.null_count == Precision::Exact(0)
                    && column.min_value.get_value().is_some()
                    && column.max_value.get_value().is_some()
            })
    })
}
