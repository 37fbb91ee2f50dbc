//! `TRUNCATE`: a change that reads no row.
//!
//! Owns the sink behind DataFusion's hook for it.
//!
//! Invariant: it removes the rows of one version, all of them.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};

use crate::config::SupertableOptions;
use crate::dml::provider::TableAccess;
use crate::dml::write::receipt::{Receipt, commit};
use crate::format::state_doc::OpKind;
use crate::table::{AttemptEnd, Attempts, Effect};

/// The physical plan of a `TRUNCATE`.
///
/// # Errors
/// None today; the signature leaves room for a refusal.
pub(crate) fn plan_truncate(access: &Arc<TableAccess>) -> Result<Arc<dyn ExecutionPlan>> {
    let input = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
    let sink = TruncateSink {
        access: Arc::clone(access),
        schema: input.schema(),
    };
    Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
}

struct TruncateSink {
    access: Arc<TableAccess>,
    schema: SchemaRef,
}

impl fmt::Debug for TruncateSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TruncateSink")
    }
}

impl DisplayAs for TruncateSink {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SupertableTruncate")
    }
}

#[async_trait]
impl DataSink for TruncateSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        _data: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        SupertableOptions::of(context.session_config().options()).check_writable("TRUNCATE")?;
        let table = &self.access.table;
        let mut attempts = Attempts::of("TRUNCATE", table);
        loop {
            let snapshot = table.snapshot().await?;
            let effect = Effect {
                drop: snapshot.manifest().entries().map(|e| e.id).collect(),
                rows_deleted: snapshot.manifest().entries().map(|e| e.live_rows()).sum(),
                ..Effect::default()
            };
            let mutation = table.begin(OpKind::Truncate, snapshot, "TRUNCATE".to_owned());
            match AttemptEnd::of(commit(mutation, effect, context).await)? {
                AttemptEnd::Committed { rows_affected, .. } => return Ok(rows_affected),
                AttemptEnd::Nothing => return Ok(0),
                AttemptEnd::Lost(why) => {
                    attempts.after_loss(why).await?;
                    Receipt::add_rerun(context);
                }
            }
        }
    }
}
