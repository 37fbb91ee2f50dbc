//! A scan that is about to leave the process.
//!
//! Written down by DataFusion alone, a scan would lose its tombstones. Owns the question whether the codec of this crate
//! is there to write it down: an expression that only that codec knows.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, ErrorKind};

/// See the module documentation.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CodecProbe;

impl fmt::Display for CodecProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("supertable")
    }
}

impl PhysicalExpr for CodecProbe {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Null)
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, _batch: &RecordBatch) -> Result<ColumnarValue> {
        internal_err!("a probe has no value")
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a scan does not leave.
pub(crate) fn without_codec() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "scan",
        "a plan with a scan of a supertable is written down without the codec for it, and would read deleted rows; \
         register datafusion_supertable::distributed::SupertableCodec (feature `distributed`) at both ends",
    )
}
