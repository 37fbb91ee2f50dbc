//! Rows that come in several partitions, written at the same time.
//!
//! Owns how many writers there are, and that each begins a superfile only when it has enough rows for one: what a
//! partition has beyond its superfiles is joined with what others have, so that a statement of few rows leaves one
//! superfile, however many partitions it came in. Does not own the writer, nor what becomes of the superfiles.
//!
//! Invariants: each row is in one of the superfiles; the rows of a partition keep their order, unless there are more
//! partitions than writers. When one writer fails, all others end before the error is returned, so that whoever
//! deletes what was staged deletes all of it. Dropped, nothing goes on.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryLimit;
use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::format::manifest::SuperfileEntry;
use crate::table::{HeldRows, Mutation, SuperfileWriter};

/// Bytes of a bounded memory pool for which there is one writer: a row group as it is encoded, and what is on its way.
const WRITER_BYTES: usize = 192 << 20;
/// Bytes of rows that all writers hold together before they begin superfiles.
const HOLD_BYTES: u64 = 64 << 20;
/// They hold one in so many bytes of a bounded pool, at most.
const HOLD_SHARE: usize = 8;

/// What is done with each batch before it is written.
pub(super) type Prepare = Arc<dyn Fn(&RecordBatch) -> Result<RecordBatch> + Send + Sync>;

/// How many writers rows of so many partitions get.
pub(super) fn writers_for(partitions: usize, threads: usize, pool: &MemoryLimit) -> usize {
    let affordable = match pool {
        MemoryLimit::Finite(bytes) => *bytes / WRITER_BYTES,
        _ => usize::MAX,
    };
    partitions.min(threads).min(affordable).max(1)
}

/// How many bytes each of so many writers holds.
pub(super) fn hold_of(writers: usize, pool: &MemoryLimit) -> u64 {
    let all = match pool {
        MemoryLimit::Finite(bytes) => HOLD_BYTES.min((*bytes / HOLD_SHARE) as u64),
        _ => HOLD_BYTES,
    };
    all / (writers.max(1) as u64)
}

/// What the writers wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// The statement's WAL document is not durable yet: no superfile may be completed.
    Wait,
    Go,
    /// One of them has failed.
    Stop,
}

/// Writes `rows` with `writers`, of which there is at least one; what is too little for each of several goes to one more,
/// which `another` makes.
///
/// # Errors
/// The first one, of reading, preparing or writing. Nothing goes on then.
pub(super) async fn write_partitions(
    rows: Vec<SendableRecordBatchStream>,
    writers: Vec<SuperfileWriter>,
    another: impl FnOnce() -> Result<SuperfileWriter>,
    prepare: &Prepare,
    mutation: &Mutation,
) -> Result<Vec<SuperfileEntry>> {
    let (signal, signals) = watch::channel(Signal::Wait);
    let durable = async {
        let durable = mutation.durable().await;
        signal.send_replace(match durable {
            Ok(()) => Signal::Go,
            Err(_) => Signal::Stop,
        });
        durable
    };
    let mut shares = writers_with_rows(writers, rows);
    if shares.len() == 1
        && let Some((writer, rows)) = shares.pop()
    {
        let written = write_one(writer, rows, Arc::clone(prepare), signals, false);
        let (durable, written) = tokio::join!(durable, written);
        durable?;
        return Ok(written?.0);
    }
    let mut running = JoinSet::new();
    for (index, (writer, rows)) in shares.into_iter().enumerate() {
        let one = write_one(writer, rows, Arc::clone(prepare), signals.clone(), true);
        running.spawn(async move { (index, one.await) }.in_current_span());
    }
    let mut failed = durable.await.err().map(DataFusionError::from);
    let mut written = Vec::new();
    while let Some(ended) = running.join_next().await {
        let error = match ended {
            Ok((index, Ok(part))) => {
                written.push((index, part));
                continue;
            }
            Ok((_, Err(error))) => error,
            Err(error) => DataFusionError::ExecutionJoin(Box::new(error)),
        };
        signal.send_replace(Signal::Stop);
        failed.get_or_insert(error);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    written.sort_unstable_by_key(|(index, _)| *index);
    let (entries, held): (Vec<_>, Vec<_>) = written.into_iter().map(|(_, part)| part).unzip();
    let mut entries = entries.concat();
    let held: Vec<HeldRows> = held.into_iter().flatten().collect();
    entries.extend(write_held(another()?, held).await?);
    Ok(entries)
}

/// Each writer with the rows of its partitions.
fn writers_with_rows(
    writers: Vec<SuperfileWriter>,
    rows: Vec<SendableRecordBatchStream>,
) -> Vec<(SuperfileWriter, BoxStream<'static, Result<RecordBatch>>)> {
    let number = writers.len().max(1);
    let mut shares: Vec<Vec<SendableRecordBatchStream>> = Vec::new();
    shares.resize_with(number, Vec::new);
    for (index, rows) in rows.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(index % number) {
            share.push(rows);
        }
    }
    // All partitions are read at the same time: rows that nobody fetches may hold up the others.
    let streams = shares.into_iter().map(|mut share| match share.len() {
        1 => share.swap_remove(0).boxed(),
        _ => select_all(share).boxed(),
    });
    writers.into_iter().zip(streams).collect()
}

async fn write_one(
    mut writer: SuperfileWriter,
    mut rows: BoxStream<'static, Result<RecordBatch>>,
    prepare: Prepare,
    mut signals: watch::Receiver<Signal>,
    among_others: bool,
) -> Result<(Vec<SuperfileEntry>, Option<HeldRows>)> {
    match fill(&mut writer, &mut rows, &prepare, &mut signals).await {
        Ok(()) if among_others => Ok(writer.finish_without_held().await?),
        Ok(()) => Ok((writer.finish().await?, None)),
        Err(error) => {
            drop(rows);
            writer.abandon().await;
            Err(error)
        }
    }
}

async fn fill(
    writer: &mut SuperfileWriter,
    rows: &mut BoxStream<'static, Result<RecordBatch>>,
    prepare: &Prepare,
    signals: &mut watch::Receiver<Signal>,
) -> Result<()> {
    let stopped = || exec_datafusion_err!("another partition of the statement's rows failed");
    let mut may_write = false;
    loop {
        let batch = tokio::select! {
            biased;
            _ = signals.wait_for(|signal| *signal == Signal::Stop) => return Err(stopped()),
            batch = rows.next() => match batch {
                Some(batch) => prepare(&batch?)?,
                None => return Ok(()),
            },
        };
        if !may_write {
            let signal = signals.wait_for(|signal| *signal != Signal::Wait).await;
            may_write = signal.is_ok_and(|signal| *signal == Signal::Go);
            if !may_write {
                return Err(stopped());
            }
        }
        writer.write(&batch).await?;
    }
}

async fn write_held(
    mut writer: SuperfileWriter,
    held: Vec<HeldRows>,
) -> Result<Vec<SuperfileEntry>> {
    for rows in held {
        for batch in rows.batches() {
            if let Err(error) = writer.write(batch).await {
                writer.abandon().await;
                return Err(error.into());
            }
        }
    }
    Ok(writer.finish().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_writers_as_partitions_threads_and_memory_allow() {
        let finite = |bytes| MemoryLimit::Finite(bytes);
        assert_eq!(writers_for(1, 8, &MemoryLimit::Infinite), 1);
        assert_eq!(writers_for(100, 8, &MemoryLimit::Infinite), 8);
        assert_eq!(writers_for(0, 8, &MemoryLimit::Infinite), 1);
        assert_eq!(writers_for(8, 8, &finite(512 << 20)), 2);
        assert_eq!(writers_for(8, 8, &finite(1 << 20)), 1);
    }

    #[test]
    fn what_writers_hold_together_is_bounded_by_the_pool_and_by_itself() {
        assert_eq!(hold_of(2, &MemoryLimit::Infinite) * 2, HOLD_BYTES);
        assert_eq!(hold_of(4, &MemoryLimit::Finite(64 << 20)) * 4, 8 << 20);
    }
}
