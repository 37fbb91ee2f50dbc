//! Whether a superfile may have keys, by its Bloom filters, asked before it is opened for its rows.
//!
//! Owns the question, and what is done about a filter that nobody has read. Does not own the filters ([`ColumnFilter`])
//! nor who asks: the plan of a scan, or the scan once another part of its plan has found the keys.
//!
//! Invariant: a superfile that has one of the keys may have them. A filter that cannot be read says nothing: whoever reads
//! the superfile's rows hears of it.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::physical_expr::split_conjunction;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet};
use datafusion_datasource::morsel::{MorselPlan, MorselPlanner};

use crate::config::WriteOptions;
use crate::format::manifest::{TableMetadata, field_id};
use crate::format::{ExternalColumns, SuperfileId};
use crate::scan::read::keys::KeyFilter;
use crate::scan::read::reader::SuperfileReaders;
use crate::table::{ColumnFilter, Sidecars, stored_type};

/// The columns, by their ids, of which superfiles may have Bloom filters.
pub(crate) fn filtered_columns(metadata: &TableMetadata) -> HashSet<i32> {
    let named = WriteOptions::of_properties(&metadata.properties).bloom_filter_columns;
    let named = named.into_iter().flatten();
    let id = |name: String| field_id(metadata.schema.field_with_name(&name).ok()?);
    named
        .filter_map(id)
        .chain(metadata.columns_that_are_keys())
        .collect()
}

/// A column that equals one of these values in each row that is wanted.
#[derive(Debug)]
pub(crate) struct WantedKeys {
    field_id: i32,
    name: String,
    data_type: DataType,
    values: HashSet<ScalarValue>,
}

impl WantedKeys {
    /// These values of a table's column; `None` if filters do not tell such values apart.
    pub(crate) fn of(field: &Field, values: HashSet<ScalarValue>) -> Option<Self> {
        stored_type(field.data_type())?;
        let typed = |value: &ScalarValue| value.data_type() == *field.data_type();
        Some(Self {
            field_id: field_id(field)?,
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            values: values.iter().all(typed).then_some(values)?,
        })
    }

    /// The column's field id.
    pub(crate) fn field_id(&self) -> i32 {
        self.field_id
    }

    /// Those that a scan's predicate knows by now because another part of the plan found them; of columns of `schema`.
    pub(super) fn learnt(predicate: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Vec<Self> {
        let learnt = |condition: &Arc<dyn PhysicalExpr>| {
            let filter = condition.downcast_ref::<KeyFilter>()?;
            let column = filter.column().downcast_ref::<Column>()?;
            Self::of(
                schema.field_with_name(column.name()).ok()?,
                filter.values()?,
            )
        };
        let conditions = split_conjunction(predicate).into_iter();
        conditions.filter_map(learnt).collect()
    }
}

/// Whether the superfile may have a row with one of the values of each of `wanted`.
pub(crate) async fn may_have(
    file: &PartitionedFile,
    wanted: &[WantedKeys],
    readers: &SuperfileReaders,
    sidecars: &Sidecars,
) -> bool {
    // What others wrote has values of other types, perhaps, than the table.
    let is_others = file.extension::<Arc<ExternalColumns>>().is_some();
    let Some(id) = file.extension::<SuperfileId>().filter(|_| !is_others) else {
        return true;
    };
    for keys in wanted {
        let filter = match sidecars.kept().filter(id, keys.field_id) {
            Some(filter) => filter,
            None => match read(file, id, keys, readers, sidecars).await {
                Ok(filter) => filter,
                Err(error) => {
                    tracing::debug!(superfile = %id, %error, "a Bloom filter cannot be read");
                    return true;
                }
            },
        };
        if !filter.may_hold(&keys.values, &keys.data_type) {
            return false;
        }
    }
    true
}

async fn read(
    file: &PartitionedFile,
    id: &SuperfileId,
    keys: &WantedKeys,
    readers: &SuperfileReaders,
    sidecars: &Sidecars,
) -> Result<Arc<ColumnFilter>> {
    sidecars.check_superfile(id)?;
    let metrics = ExecutionPlanMetricsSet::new();
    let mut reader = readers.create_reader(0, file.clone(), None, &metrics)?;
    let metadata = reader.get_metadata(None).await?;
    let filter = ColumnFilter::read(reader.as_mut(), &metadata, &keys.name).await?;
    let filter = Arc::new(filter);
    (sidecars.kept()).keep_filter(*id, keys.field_id, Arc::clone(&filter));
    Ok(filter)
}

/// The planner of a superfile that is asked first whether it may have keys.
pub(super) struct AskFirst {
    pub(super) file: PartitionedFile,
    pub(super) wanted: Arc<Vec<WantedKeys>>,
    pub(super) readers: Arc<SuperfileReaders>,
    pub(super) sidecars: Arc<Sidecars>,
    /// Counts superfiles that have none.
    pub(super) left_out: Count,
    /// Of those that may have some.
    pub(super) inner: Box<dyn MorselPlanner>,
}

impl fmt::Debug for AskFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskFirst")
            .field("file", &self.file.object_meta.location)
            .finish_non_exhaustive()
    }
}

impl MorselPlanner for AskFirst {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_pending_planner(async move {
            let may_have = may_have(&self.file, &self.wanted, &self.readers, &self.sidecars);
            if may_have.await {
                return Ok(self.inner);
            }
            self.left_out.add(usize::from(is_first_piece(&self.file)));
            Ok(Box::new(super::leave_out::LeftOut) as Box<dyn MorselPlanner>)
        })))
    }
}

/// Whether it is the first of the pieces in which a superfile is read: of them, that one counts.
pub(super) fn is_first_piece(file: &PartitionedFile) -> bool {
    file.range.as_ref().is_none_or(|range| range.start == 0)
}
