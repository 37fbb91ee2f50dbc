//! Comparing rows with rows: whether a key is there twice.
//!
//! Owns the plans that find out, within the memory pool: rows are sorted, or joined by the operator that reads its source
//! first, both of which spill. Does not own which rows are compared (`written`, or a statement that declares a key).
//!
//! Invariant: nothing is written. An error names the key, and one of its values that is there twice.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, IsNotNullExpr, IsNullExpr};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr, execute_stream};
use futures::StreamExt;
use roaring::RoaringBitmap;

use super::differ::first_twice;
use crate::dml::provider::TableAccess;
use crate::dml::source_first::rule::joined_source_first;
use crate::dml::write::sort::SortInPartExec;
use crate::error::{Error, ErrorKind};
use crate::format::SuperfileId;
use crate::format::manifest::{SuperfileEntry, UniqueKey, field_id};
use crate::scan::plan::bloom::superfiles_with;
use crate::scan::plan::subset::{Rows, Subset, every_position};
use crate::scan::read::bloom::WantedKeys;
use crate::scan::{HiddenColumns, ScanLocation, ScanRequest, plan_scan};
use crate::table::{Ascending, Snapshot};

/// What the rows of a table are compared by, and in which session.
pub(crate) struct KeyCheck<'a> {
    /// How the statement calls the table.
    pub(crate) table: &'a str,
    /// The table's columns, as a session sees them.
    pub(crate) schema: &'a SchemaRef,
    pub(crate) location: &'a ScanLocation,
    pub(crate) context: &'a Arc<TaskContext>,
    /// Counts the superfiles of the table whose keys new ones are compared with.
    pub(crate) compared: Count,
}

type Plan = Arc<dyn ExecutionPlan>;

impl<'a> KeyCheck<'a> {
    /// For a sink with these metrics, whose statement calls the table so.
    pub(crate) fn of_sink(
        table: &'a str,
        access: &'a TableAccess,
        context: &'a Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Self {
        Self {
            table,
            schema: &access.schema,
            location: &access.location,
            context,
            compared: MetricBuilder::new(metrics).global_counter("key_superfiles"),
        }
    }

    /// The values of columns, by their field ids, in rows of a version.
    pub(crate) fn values_of(
        &self,
        columns: &[i32],
        snapshot: &Arc<Snapshot>,
        rows: &Subset,
    ) -> Result<Plan> {
        let columns = places(columns, self.schema)?;
        let request = ScanRequest {
            projection: Some(&columns),
            subset: Some(rows),
            ..self.request(snapshot)
        };
        plan_scan(&self.state(), request, None)
    }

    /// Those of `candidates`, superfiles of a version, that may have one of these values of a column, by its field id.
    ///
    /// # Errors
    /// The session does not know the table's store.
    pub(crate) async fn superfiles_with(
        &self,
        column: i32,
        values: HashSet<ScalarValue>,
        snapshot: &Arc<Snapshot>,
        candidates: Vec<Arc<SuperfileEntry>>,
    ) -> Result<HashSet<SuperfileId>> {
        let mut fields = self.schema.fields().iter();
        let field = fields.find(|field| field_id(field) == Some(column));
        let Some(wanted) = field.and_then(|field| WantedKeys::of(field, values)) else {
            return Ok(candidates.iter().map(|entry| entry.id).collect());
        };
        superfiles_with(
            &self.state(),
            &self.request(snapshot),
            candidates,
            &[wanted],
        )
        .await
    }

    /// All rows of a version.
    fn request<'r>(&'r self, snapshot: &Arc<Snapshot>) -> ScanRequest<'r> {
        ScanRequest {
            snapshot: Arc::clone(snapshot),
            schema: Arc::clone(self.schema),
            hidden: HiddenColumns::default(),
            projection: None,
            filters: &[],
            limit: None,
            dropped: None,
            subset: None,
            location: self.location,
        }
    }

    fn state(&self) -> SessionState {
        SessionStateBuilder::new()
            .with_config(self.context.session_config().clone())
            .with_runtime_env(self.context.runtime_env())
            .build()
    }

    /// Makes sure that no two of `keys`, which are in memory and not NULL, are equal.
    ///
    /// # Errors
    /// [`ErrorKind::DuplicateKey`].
    pub(crate) fn all_kept_differ(&self, key: &UniqueKey, keys: &[RecordBatch]) -> Result<()> {
        let twice = first_twice(keys)?;
        match twice.and_then(|(batch, row)| Some((keys.get(batch)?, row))) {
            Some((batch, row)) => Err(self.twice(key, batch, row)?.into()),
            None => Ok(()),
        }
    }

    /// Makes sure that no two of `keys` are equal.
    ///
    /// # Errors
    /// [`ErrorKind::DuplicateKey`].
    pub(crate) async fn all_differ(&self, key: &UniqueKey, keys: Plan) -> Result<()> {
        let keys = without_nulls(keys)?;
        let schema = keys.schema();
        let columns = 0..schema.fields().len();
        let order = columns.clone().map(|at| PhysicalSortExpr {
            expr: column(&schema, at),
            options: SortOptions::default(),
        });
        let Some(order) = LexOrdering::new(order) else {
            return internal_err!("a key has no columns");
        };
        let sorted = Arc::new(SortInPartExec::new(keys, order));
        let mut batches = execute_stream(sorted, Arc::clone(self.context))?;
        let mut ascending = Ascending::by(columns.collect());
        while let Some(batch) = batches.next().await.transpose()? {
            if let Some(row) = ascending.add(&batch)? {
                return Err(self.twice(key, &batch, row)?.into());
            }
        }
        Ok(())
    }

    /// Makes sure that none of `new` is one of `old`, which are read where they can be.
    ///
    /// # Errors
    /// [`ErrorKind::DuplicateKey`].
    pub(crate) async fn none_is_there(&self, key: &UniqueKey, new: Plan, old: Plan) -> Result<()> {
        let schema = new.schema();
        let columns = 0..schema.fields().len();
        let on = columns.map(|at| (column(&schema, at), column(&schema, at)));
        let config = self.context.session_config().options();
        let joined = joined_source_first(new, old, on.collect(), config)?;
        let mut batches = execute_stream(joined, Arc::clone(self.context))?;
        while let Some(batch) = batches.next().await.transpose()? {
            if batch.num_rows() > 0 {
                return Err(self.twice(key, &batch, 0)?.into());
            }
        }
        Ok(())
    }

    /// Makes sure that none of `values` is NULL in any column.
    ///
    /// # Errors
    /// [`ErrorKind::Constraint`] names the column, and says `why` that is wrong.
    pub(crate) async fn none_is_null(&self, values: Plan, why: &str) -> Result<()> {
        let schema = values.schema();
        let Some(any) = all(&schema, Operator::Or, |it| Arc::new(IsNullExpr::new(it))) else {
            return Ok(());
        };
        let nulls = Arc::new(FilterExec::try_new(any, values)?);
        let mut batches = execute_stream(nulls, Arc::clone(self.context))?;
        while let Some(batch) = batches.next().await.transpose()? {
            let mut columns = schema.fields().iter().zip(batch.columns());
            if let Some((field, _)) = columns.find(|(_, values)| values.null_count() > 0) {
                let subject = format!("{}.{}", self.table, field.name());
                return Err(Error::new(ErrorKind::Constraint, subject, why).into());
            }
        }
        Ok(())
    }

    fn twice(&self, key: &UniqueKey, batch: &RecordBatch, row: usize) -> Result<Error> {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (at, values_of) in places(&key.columns, self.schema)?
            .into_iter()
            .zip(batch.columns())
        {
            names.push(self.schema.field(at).name().as_str());
            values.push(match ScalarValue::try_from_array(values_of, row)? {
                ScalarValue::Utf8(Some(v))
                | ScalarValue::LargeUtf8(Some(v))
                | ScalarValue::Utf8View(Some(v)) => format!("'{v}'"),
                value => value.to_string(),
            });
        }
        Ok(Error::new(
            ErrorKind::DuplicateKey,
            format!("{}.{}", self.table, key.name),
            format!(
                "two rows would have the key ({}) = ({}); nothing was changed",
                names.join(", "),
                values.join(", ")
            ),
        ))
    }
}

/// The live rows of superfiles of a version, without some; none of superfiles of which nothing is left.
///
/// # Errors
/// Tombstones cannot be read.
pub(crate) async fn live_rows<'e>(
    snapshot: &Snapshot,
    superfiles: impl Iterator<Item = &'e Arc<SuperfileEntry>>,
    without: &BTreeMap<SuperfileId, RoaringBitmap>,
) -> Result<Subset> {
    let mut subset = Subset::default();
    for entry in superfiles {
        let rows = match without.get(&entry.id) {
            None => Rows::Live,
            Some(gone) => {
                let mut left = every_position(entry) - gone;
                if let Some(tombstones) = &entry.tombstones {
                    left -= snapshot.sidecars().positions(tombstones).await?.as_ref();
                }
                if left.is_empty() {
                    continue;
                }
                Rows::At(Arc::new(left))
            }
        };
        subset.insert(entry.id, rows);
    }
    Ok(subset)
}

/// Where columns are among a session's, by their field ids.
///
/// # Errors
/// One is not there, which cannot be.
pub(crate) fn places(columns: &[i32], schema: &SchemaRef) -> Result<Vec<usize>> {
    let fields = schema.fields();
    let place = |id: &i32| fields.iter().position(|f| field_id(f) == Some(*id));
    match columns.iter().map(place).collect() {
        Some(places) => Ok(places),
        None => internal_err!("one of the columns {columns:?} is missing"),
    }
}

fn without_nulls(keys: Plan) -> Result<Plan> {
    let schema = keys.schema();
    Ok(
        match all(&schema, Operator::And, |it| {
            Arc::new(IsNotNullExpr::new(it))
        }) {
            Some(none) => Arc::new(FilterExec::try_new(none, keys)?),
            None => keys,
        },
    )
}

/// A condition on each column that may be NULL, put together; none if there is no such column.
fn all(
    schema: &SchemaRef,
    operator: Operator,
    condition: impl Fn(Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr>,
) -> Option<Arc<dyn PhysicalExpr>> {
    let nullable = schema.fields().iter().enumerate();
    nullable
        .filter(|(_, field)| field.is_nullable())
        .map(|(at, _)| condition(column(schema, at)))
        .reduce(|all, it| Arc::new(BinaryExpr::new(all, operator, it)))
}

fn column(schema: &SchemaRef, at: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(at).name(), at))
}
