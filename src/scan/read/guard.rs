//! Where a superfile's bytes turn into rows, and what becomes of the decoder's failures.
//!
//! Owns a wrapper around the planners and streams of DataFusion's Parquet opener. What the decoders say
//! about bytes they do not understand names no file; here it gets the name. And no panic of theirs gets
//! out: they are not written for every damage that a page can have (those of files of others have no
//! checksums), and a session must outlive a damaged file.
//!
//! Invariant: whatever else goes wrong (the store, the memory pool, an expression) passes unchanged.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use parquet::errors::ParquetError;

use crate::error::{Error, ErrorKind};

/// A planner of one superfile.
pub(super) struct Guarded {
    inner: Box<dyn MorselPlanner>,
    path: Path,
}

impl Guarded {
    pub(super) fn over(inner: Box<dyn MorselPlanner>, path: Path) -> Box<dyn MorselPlanner> {
        Box::new(Self { inner, path })
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl MorselPlanner for Guarded {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, path } = *self;
        let planned = std::panic::catch_unwind(AssertUnwindSafe(|| inner.plan()));
        let Some(mut plan) = settled(planned, &path)? else {
            return Ok(None);
        };
        let morsels = plan.take_morsels().into_iter().map(|inner| {
            let path = path.clone();
            Box::new(GuardedMorsel { inner, path }) as Box<dyn Morsel>
        });
        let planners = plan.take_ready_planners().into_iter();
        let mut guarded = MorselPlan::new()
            .with_morsels(morsels.collect())
            .with_planners(planners.map(|p| Self::over(p, path.clone())).collect());
        if let Some(pending) = plan.take_pending_planner() {
            guarded.set_pending_planner(async move {
                let planner = AssertUnwindSafe(pending).catch_unwind().await;
                Ok(Self::over(settled(planner, &path)?, path))
            });
        }
        Ok(Some(guarded))
    }
}

struct GuardedMorsel {
    inner: Box<dyn Morsel>,
    path: Path,
}

impl fmt::Debug for GuardedMorsel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Morsel for GuardedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, path } = *self;
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.into_stream())) {
            Ok(stream) => AssertUnwindSafe(stream)
                .catch_unwind()
                .map(move |batch| settled(batch, &path))
                .boxed(),
            Err(panic) => {
                let failed = settled(Err(panic), &path);
                futures::stream::iter([failed]).boxed()
            }
        }
    }
}

/// What came of a step, under the name of the file.
fn settled<T>(
    outcome: std::result::Result<Result<T>, Box<dyn Any + Send>>,
    path: &Path,
) -> Result<T> {
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Corrupt, path.as_ref(), "cannot be decoded").with_source(source)
    };
    match outcome {
        Ok(Err(e)) if is_decoders(&e) => Err(damaged(Box::new(e)).into()),
        Ok(outcome) => outcome,
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a decoder panicked")
                .to_owned();
            Err(damaged(said.into()).into())
        }
    }
}

/// Whether the error is a decoder's own, not one that it passes on.
fn is_decoders(error: &DataFusionError) -> bool {
    if Error::find_in(error).is_some() {
        return false;
    }
    match error {
        DataFusionError::ParquetError(e) => !matches!(**e, ParquetError::External(_)),
        DataFusionError::ArrowError(e, _) => matches!(**e, ArrowError::ParquetError(_)),
        DataFusionError::Context(_, inner) => is_decoders(inner),
        _ => false,
    }
}
