//! Memory for sorting what is written: a part of the session's pool, so that there is some left to write with.
//!
//! Owns that part. Does not own the pool, nor when the sort spills: that is DataFusion's, which takes what it can get, and
//! the encoders that wait for its rows take theirs later.
//!
//! Invariant: what the sort holds is counted in the session's pool, too, and is never more than its part of it. Nothing
//! is written, so a crash leaves nothing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

/// The sort has one in so many bytes of the pool.
const SHARE: usize = 2;
/// Bytes of a sort in a pool without a bound: more make it little faster, and whoever has no bound still has a machine.
const UNBOUNDED: usize = 256 << 20;
/// Bytes for which there is one of several sorts that go on side by side.
const ENOUGH: usize = 64 << 20;
/// Of those it keeps one in so many for merging what it spilled, at most.
const MERGE: usize = 4;

/// A part of a pool.
#[derive(Debug)]
struct Part {
    whole: Arc<dyn MemoryPool>,
    limit: usize,
    used: AtomicUsize,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, limit) = (self.reserved(), self.limit);
        write!(
            f,
            "a sort's part ({used} of {limit} bytes) of {}",
            self.whole
        )
    }
}

impl MemoryPool for Part {
    fn name(&self) -> &str {
        "supertable sort"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.whole.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.whole.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.whole.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.whole.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let fits = |used: usize| {
            used.checked_add(additional)
                .filter(|sum| *sum <= self.limit)
        };
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|used| {
                resources_datafusion_err!(
                    "the sort of rows to be written has {used} of its {} bytes, which is its part of the memory pool, and \
                     needs {additional} more for {}",
                    self.limit,
                    reservation.consumer().name()
                )
            })?;
        self.whole
            .try_grow(reservation, additional)
            .inspect_err(|_| {
                self.used.fetch_sub(additional, Ordering::Relaxed);
            })
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

/// The context in which a compaction sorts; as it is where memory is not bounded.
pub(crate) fn for_sorting(context: &Arc<TaskContext>) -> Result<Arc<TaskContext>> {
    match context.memory_pool().memory_limit() {
        MemoryLimit::Finite(bytes) => part_of(context, bytes / SHARE),
        _ => Ok(Arc::clone(context)),
    }
}

/// The contexts in which so many partitions are sorted: one for each, or one for all of them.
pub(crate) fn sorting_parts(
    context: &Arc<TaskContext>,
    partitions: usize,
) -> Result<Vec<Arc<TaskContext>>> {
    let bytes = match context.memory_pool().memory_limit() {
        MemoryLimit::Finite(bytes) => bytes / SHARE,
        _ if context.runtime_env().disk_manager.tmp_files_enabled() => UNBOUNDED,
        // Nothing can be spilled.
        _ => return Ok(vec![Arc::clone(context); partitions.max(1)]),
    };
    let parts = match partitions {
        1.. if bytes / partitions >= ENOUGH => partitions,
        _ => 1,
    };
    (0..parts)
        .map(|_| part_of(context, bytes / parts))
        .collect()
}

/// `context` with a part of `limit` bytes of its memory pool.
fn part_of(context: &Arc<TaskContext>, limit: usize) -> Result<Arc<TaskContext>> {
    let part = Part {
        whole: Arc::clone(context.memory_pool()),
        limit,
        used: AtomicUsize::new(0),
    };
    let mut config = context.session_config().clone();
    let execution = &mut config.options_mut().execution;
    execution.sort_spill_reservation_bytes =
        execution.sort_spill_reservation_bytes.min(limit / MERGE);
    let runtime = RuntimeEnvBuilder::from_runtime_env(&context.runtime_env())
        .with_memory_pool(Arc::new(part))
        .build_arc()?;
    Ok(Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        config,
        context.scalar_functions().clone(),
        Default::default(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        runtime,
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    #[test]
    fn a_part_ends_where_it_or_the_whole_ends_and_gives_back_what_it_had() {
        let whole: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&whole))
            .build_arc()
            .unwrap();
        let session = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
        let context = for_sorting(&session.task_ctx()).unwrap();
        let options = context.session_config().options();
        assert_eq!(options.execution.sort_spill_reservation_bytes, 12);
        let part = context.memory_pool();
        let sort = MemoryConsumer::new("sort").register(part);
        sort.try_grow(40).unwrap();
        assert!(sort.try_grow(11).is_err(), "more than the part");
        let writer = MemoryConsumer::new("writer").register(&whole);
        writer.try_grow(55).unwrap();
        assert!(sort.try_grow(6).is_err(), "more than the whole");
        assert_eq!((part.reserved(), whole.reserved()), (40, 95));
        sort.try_grow(5).unwrap();
        drop(sort);
        assert_eq!((part.reserved(), whole.reserved()), (0, 55));
    }

    #[test]
    fn partitions_are_sorted_side_by_side_while_each_has_enough() {
        let context = SessionContext::new().task_ctx();
        let limits = |context: &Arc<TaskContext>, partitions| {
            let parts = sorting_parts(context, partitions).unwrap();
            let limit = |part: &Arc<TaskContext>| match part.memory_pool().memory_limit() {
                MemoryLimit::Finite(bytes) => bytes,
                _ => usize::MAX,
            };
            parts.iter().map(limit).collect::<Vec<_>>()
        };
        assert_eq!(limits(&context, 2), [UNBOUNDED / 2; 2]);
        assert_eq!(limits(&context, 100), [UNBOUNDED]);
        assert_eq!(limits(&context, 0), [UNBOUNDED]);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(64 << 20)))
            .build_arc()
            .unwrap();
        let session = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
        assert_eq!(limits(&session.task_ctx(), 2), [32 << 20]);
    }

    #[test]
    fn without_a_bound_the_context_is_the_session_s() {
        let context = SessionContext::new().task_ctx();
        assert!(Arc::ptr_eq(&for_sorting(&context).unwrap(), &context));
    }
}
