//! The rows that a statement has changed, as a relation: what `RETURNING` reads.
//!
//! Owns the plan node, the operator and where the rows are kept meanwhile. A statement's sink hands over the rows that
//! it writes, or for a `DELETE` those that it deletes; the operator runs the statement to its end, and only then
//! yields them. Does not own the list of `RETURNING`, which is an ordinary projection.
//!
//! Invariants: rows are those of the attempt that was committed, because each attempt begins with none; nothing is
//! yielded of a statement that failed; the rows are accounted for in the session's memory pool, and what does not fit
//! fails the statement before it is committed. A `DELETE` whose rows are wanted conflicts with every change of
//! the table's rows, so that none of them is another statement's.

use std::cmp::Ordering;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference, internal_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    DmlStatement, Expr, Extension, LogicalPlan, TableScanBuilder, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::dml::opaque::Opaque;
use crate::scan::scan_method::scan_method;

/// The rows that `statement` changes, under the name of its table and with that one's columns.
///
/// # Errors
/// Two columns have one name.
pub(crate) fn changed_rows(
    table: TableReference,
    schema: SchemaRef,
    statement: LogicalPlan,
) -> Result<LogicalPlan> {
    let qualified = DFSchema::try_from_qualified_schema(table.clone(), &schema)?;
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(ChangedRows {
            table,
            columns: schema,
            schema: Arc::new(qualified),
            statement,
        }),
    }))
}

/// The plan node; the planning rule puts a scan of [`ChangedRowsProvider`] in its place.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ChangedRows {
    table: TableReference,
    columns: SchemaRef,
    schema: DFSchemaRef,
    statement: LogicalPlan,
}

impl PartialOrd for ChangedRows {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self == other {
            true => Some(Ordering::Equal),
            false => None,
        }
    }
}

impl UserDefinedLogicalNodeCore for ChangedRows {
    fn name(&self) -> &str {
        "ChangedRows"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.statement]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ChangedRows: {}", self.table)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[_; 1]>::try_from(inputs) {
            Ok([statement]) => Ok(Self {
                table: self.table.clone(),
                columns: Arc::clone(&self.columns),
                schema: Arc::clone(&self.schema),
                statement,
            }),
            Err(inputs) => internal_err!("ChangedRows has not {} inputs", inputs.len()),
        }
    }
}

/// A plan node that is the rows of a statement becomes a scan that carries it out, as `rewrite` plans it.
pub(crate) fn rewrite_changed_rows(
    extension: Extension,
    rewrite: impl FnOnce(DmlStatement) -> Result<Transformed<LogicalPlan>>,
) -> Result<Transformed<LogicalPlan>> {
    let Some(rows) = extension.node.as_any().downcast_ref::<ChangedRows>() else {
        return Ok(Transformed::no(LogicalPlan::Extension(extension)));
    };
    let LogicalPlan::Dml(dml) = rows.statement.clone() else {
        return internal_err!("{} changes no rows", rows.statement.display());
    };
    let provider = ChangedRowsProvider {
        schema: Arc::clone(&rows.columns),
        statement: Opaque::new(rewrite(dml)?.data),
    };
    let scan = TableScanBuilder::new(rows.table.clone(), provider_as_source(Arc::new(provider)))
        .build()?;
    Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
}

/// The rows that a statement changes; a scan carries it out.
#[derive(Debug)]
struct ChangedRowsProvider {
    schema: SchemaRef,
    statement: Opaque<LogicalPlan>,
}

#[async_trait]
impl TableProvider for ChangedRowsProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    scan_method!(|this, state, projection, _filters, _limit| {
        let schema = Arc::clone(&this.schema);
        let statement = this.statement.clone();
        Box::pin(async move {
            let statement = statement.get().clone();
            let plan = state.create_physical_plan(&statement).await?;
            let rows = ChangedRowsExec::new(plan, schema, projection.cloned())?;
            Ok(Arc::new(rows) as Arc<dyn ExecutionPlan>)
        })
    });
}

/// Carries a statement out, and yields the rows that it has changed.
#[derive(Debug)]
struct ChangedRowsExec {
    statement: Arc<dyn ExecutionPlan>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl ChangedRowsExec {
    fn new(
        statement: Arc<dyn ExecutionPlan>,
        columns: SchemaRef,
        projection: Option<Vec<usize>>,
    ) -> Result<Self> {
        let schema = match &projection {
            Some(projection) => Arc::new(columns.project(projection)?),
            None => columns,
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            statement,
            projection,
            properties: Arc::new(properties),
        })
    }
}

impl DisplayAs for ChangedRowsExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                f.write_str(self.name())?;
                let plan = DisplayableExecutionPlan::new(self.statement.as_ref());
                let verbose = matches!(t, DisplayFormatType::Verbose);
                // It is no input; see `children`.
                for line in plan.indent(verbose).to_string().lines() {
                    write!(f, "\n    {line}")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => Ok(()),
        }
    }
}

impl ExecutionPlan for ChangedRowsExec {
    fn name(&self) -> &'static str {
        "ChangedRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    // The statement's plan is complete: to optimise it again would fail, or undo what was decided.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("{} has no inputs", self.name()),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.statement.metrics()
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("{} has one partition", self.name());
        }
        let kept = Arc::new(KeptRows::new(&context));
        let config = context.session_config().clone();
        let context = TaskContext::new(
            context.task_id(),
            context.session_id(),
            config.with_extension(Arc::clone(&kept)),
            context.scalar_functions().clone(),
            context.higher_order_functions().clone(),
            context.aggregate_functions().clone(),
            context.window_functions().clone(),
            context.runtime_env(),
        );
        let mut counts = self.statement.execute(0, Arc::new(context))?;
        let projection = self.projection.clone();
        let rows = stream::once(async move {
            while counts.try_next().await?.is_some() {}
            let (rows, memory) = kept.take();
            // The memory is given back when the last row is gone.
            let rows = rows.into_iter().map(move |batch| {
                let _held = &memory;
                match &projection {
                    Some(projection) => Ok(batch.project(projection)?),
                    None => Ok(batch),
                }
            });
            Ok::<_, datafusion::error::DataFusionError>(stream::iter(rows))
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            rows.boxed(),
        )))
    }
}

/// The rows of a statement's current attempt, if they are wanted.
#[derive(Debug)]
pub(crate) struct KeptRows(Mutex<(Vec<RecordBatch>, MemoryReservation)>);

impl KeptRows {
    fn new(context: &TaskContext) -> Self {
        let consumer = MemoryConsumer::new("supertable RETURNING");
        Self(Mutex::new((
            Vec::new(),
            consumer.register(context.memory_pool()),
        )))
    }

    /// Where a statement's attempt that begins keeps its rows; none if the caller does not want them.
    pub(crate) fn begin(context: &TaskContext) -> Option<Arc<Self>> {
        let kept = context.session_config().get_extension::<Self>()?;
        {
            let mut held = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.0.clear();
            held.1.free();
        }
        Some(kept)
    }

    /// Keeps the leading `columns` columns of `rows`.
    ///
    /// # Errors
    /// They do not fit into memory.
    pub(crate) fn add(&self, rows: &RecordBatch, columns: usize) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = rows.project(&(0..columns).collect::<Vec<_>>())?;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.1.try_grow(rows.get_array_memory_size())?;
        held.0.push(rows);
        Ok(())
    }

    fn take(&self) -> (Vec<RecordBatch>, MemoryReservation) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = std::mem::take(&mut held.0);
        let memory = held.1.take();
        (rows, memory)
    }
}
