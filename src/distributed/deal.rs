//! How many workers a scan has work for, and how its superfiles are dealt out to them.
//!
//! Owns both decisions for scans of supertables. Invariants: each piece of a superfile is in one group of one worker;
//! a group of a scan that promises an order stays as it is; all workers have as many groups, some of them maybe empty.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use datafusion::common::{Result, plan_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileGroupPartitioner, FileScanConfig};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedConfig, DistributedLeafExec,
    ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse,
};

use crate::dml::write::partitioned_sink::PartitionedSinkExec;
use crate::scan::read::source::SupertableSource;

/// A piece of a superfile that is not worth cutting.
const PIECE_BYTES: u64 = 1 << 20;

/// The scan that `plan` is, if it is one of a supertable.
pub(super) fn scan_of(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    let scan = plan.downcast_ref::<DataSourceExec>()?;
    let config = scan.data_source().downcast_ref::<FileScanConfig>()?;
    config.file_source.downcast_ref::<SupertableSource>()?;
    Some(config)
}

/// How many workers a node has work for; none, if that is not this crate's to say.
pub(super) fn task_count(
    event: DesiredTaskCountEvent<'_>,
) -> Option<Result<DesiredTaskCountEventResponse>> {
    // One process commits.
    if event.plan.is::<DataSinkExec>() || event.plan.is::<PartitionedSinkExec>() {
        return Some(Ok(DesiredTaskCountEventResponse::maximum(1)));
    }
    let scan = scan_of(event.plan)?;
    // What stands above a scan of one partition may rely on seeing all its rows.
    if event.plan.output_partitioning().partition_count() < 2 {
        return Some(Ok(DesiredTaskCountEventResponse::maximum(1)));
    }
    let config = match DistributedConfig::from_session_config(event.session_config) {
        Ok(config) => config,
        Err(error) => return Some(Err(error)),
    };
    let per_task = config
        .file_scan_config_bytes_per_partition
        .max(1)
        .saturating_mul(event.session_config.target_partitions().max(1)) as u64;
    let wanted = bytes(&scan.file_groups).div_ceil(per_task).max(1);
    // An order keeps groups whole.
    let at_most = match scan.output_ordering.is_empty() {
        true => u64::MAX,
        false => scan.file_groups.len() as u64,
    };
    let wanted = usize::try_from(wanted.min(at_most)).unwrap_or(usize::MAX);
    Some(Ok(DesiredTaskCountEventResponse::desired(wanted)))
}

/// The scan, dealt out to as many workers as the engine found; none, if it is not of a supertable.
pub(super) fn scaled_up(
    event: ScaleUpLeafNodeEvent<'_>,
) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let scan = scan_of(event.plan)?;
    Some(dealt_to(event.plan, scan, event.task_count).map(ScaleUpLeafNodeEventResponse::new))
}

fn dealt_to(
    plan: &Arc<dyn ExecutionPlan>,
    scan: &FileScanConfig,
    tasks: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    if tasks <= 1 {
        return Ok(Arc::clone(plan));
    }
    if plan.output_partitioning().partition_count() < 2 {
        return plan_err!("a scan of one partition was to be dealt out to {tasks} workers");
    }
    let dealt = dealt(scan, tasks);
    if dealt.iter().map(|groups| bytes(groups)).sum::<u64>() != bytes(&scan.file_groups) {
        return plan_err!("a scan's superfiles were not dealt out as a whole");
    }
    let variants = dealt.into_iter().map(|file_groups| {
        let mut variant = scan.clone();
        variant.file_groups = file_groups;
        DataSourceExec::from_data_source(variant) as Arc<dyn ExecutionPlan>
    });
    let leaf = DistributedLeafExec::try_new(Arc::clone(plan), variants.collect::<Vec<_>>())?;
    Ok(Arc::new(leaf))
}

/// The groups of each of `tasks` workers.
pub(super) fn dealt(scan: &FileScanConfig, tasks: usize) -> Vec<Vec<FileGroup>> {
    let groups = &scan.file_groups;
    if !scan.output_ordering.is_empty() || scan.preserve_order {
        return whole_groups(groups, tasks);
    }
    let partitions = groups.len().max(1);
    let wanted = partitions.saturating_mul(tasks);
    let cut = (bytes(groups) / wanted as u64 >= PIECE_BYTES)
        .then(|| {
            FileGroupPartitioner::new()
                .with_target_partitions(wanted)
                .with_repartition_file_min_size(0)
                .repartition_file_groups(groups)
        })
        .flatten();
    let pieces = cut.as_deref().unwrap_or(groups).iter();
    balanced(pieces.flat_map(FileGroup::iter), tasks, partitions)
}

/// Groups as they are, dealt out in turn.
fn whole_groups(groups: &[FileGroup], tasks: usize) -> Vec<Vec<FileGroup>> {
    let each = groups.len().div_ceil(tasks.max(1)).max(1);
    let mut dealt = vec![Vec::new(); tasks];
    for (group, task) in groups.iter().zip((0..tasks).cycle()) {
        if let Some(of_task) = dealt.get_mut(task) {
            of_task.push(group.clone());
        }
    }
    for of_task in &mut dealt {
        of_task.resize_with(each, || FileGroup::new(Vec::new()));
    }
    dealt
}

/// Files, the largest first, each to the group that has least.
fn balanced<'a>(
    files: impl Iterator<Item = &'a PartitionedFile>,
    tasks: usize,
    partitions: usize,
) -> Vec<Vec<FileGroup>> {
    let mut files: Vec<&PartitionedFile> = files.collect();
    files.sort_by_key(|file| Reverse(file.effective_size()));
    // Groups take turns between workers, so that few files go to as many workers as there are.
    let mut heap: BinaryHeap<Reverse<(u64, usize, usize)>> = (0..partitions)
        .flat_map(|partition| (0..tasks).map(move |task| Reverse((0, partition, task))))
        .collect();
    let mut dealt = vec![vec![Vec::new(); partitions]; tasks];
    for file in files {
        let Some(Reverse((bytes, partition, task))) = heap.pop() else {
            break;
        };
        if let Some(group) = dealt.get_mut(task).and_then(|t| t.get_mut(partition)) {
            group.push(file.clone());
        }
        // An empty file is work, too.
        let bytes = bytes.saturating_add(file.effective_size().max(1));
        heap.push(Reverse((bytes, partition, task)));
    }
    let groups = |of_task: Vec<Vec<PartitionedFile>>| {
        let groups = of_task.into_iter().map(FileGroup::new);
        groups.collect::<Vec<_>>()
    };
    dealt.into_iter().map(groups).collect()
}

fn bytes(groups: &[FileGroup]) -> u64 {
    let files = groups.iter().flat_map(FileGroup::iter);
    files.map(PartitionedFile::effective_size).sum()
}
