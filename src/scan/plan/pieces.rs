//! How the files of a scan are given out to its partitions.
//!
//! Owns the cut of large files into pieces. Does not own orders ([`ordering`](super::ordering)).
//!
//! Invariant: the pieces of a file are the whole file.

use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;

use crate::format::manifest::SuperfileEntry;

/// Rows of one piece of a file that has tombstones: those of one row group, by default.
const PIECE_ROWS: u64 = 1 << 20;

/// `files` in as many groups as there are partitions, at least one.
///
/// How much of a file is left to read is known only when its tombstones are, so a large file that has
/// some is given out in small pieces, of which a partition takes another when it is done with one.
/// Files without are split by DataFusion's optimizer, unless a file of the scan is in pieces already.
pub(super) fn in_pieces(
    files: Vec<PartitionedFile>,
    entries: &[Arc<SuperfileEntry>],
    partitions: usize,
) -> Vec<FileGroup> {
    let is_large = |entry: &SuperfileEntry| entry.rows > PIECE_ROWS;
    let has_pieces = entries
        .iter()
        .any(|entry| entry.tombstones.is_some() && is_large(entry));
    if !has_pieces {
        let mut groups = FileGroup::new(files).split_files(partitions);
        if groups.is_empty() {
            groups.push(FileGroup::new(vec![]));
        }
        return groups;
    }
    let pieces = files
        .into_iter()
        .zip(entries)
        .flat_map(|(file, entry)| split(file, entry));
    dealt_out(&pieces.collect::<Vec<_>>(), partitions)
}

/// `pieces` in as many groups as there are partitions, one after the other: partitions take them from the groups
/// as if those were one, so that a file is read in its order.
fn dealt_out(pieces: &[PartitionedFile], partitions: usize) -> Vec<FileGroup> {
    let groups = pieces.len().min(partitions.max(1));
    let start = |k: usize| pieces.len() * k / groups;
    (0..groups)
        .filter_map(|k| pieces.get(start(k)..start(k + 1)))
        .map(|group| FileGroup::new(group.to_vec()))
        .collect()
}

/// A file as pieces of about equal bytes, which leave nothing of it out.
fn split(file: PartitionedFile, entry: &SuperfileEntry) -> Vec<PartitionedFile> {
    let pieces = entry.rows.div_ceil(PIECE_ROWS);
    let (Ok(size), Ok(pieces)) = (i64::try_from(entry.size), i64::try_from(pieces)) else {
        return vec![file];
    };
    if pieces < 2 {
        return vec![file];
    }
    let bound = |k: i64| if k == pieces { size } else { size / pieces * k };
    (0..pieces)
        .map(|k| file.clone().with_range(bound(k), bound(k + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_dealt_out_evenly_to_all_partitions_in_their_order(
            pieces in 1_usize..40,
            partitions in 0_usize..20,
        ) {
            let pieces: Vec<_> = (0..pieces).map(|k| PartitionedFile::new("f", k as u64)).collect();
            let groups = dealt_out(&pieces, partitions);
            prop_assert_eq!(groups.len(), pieces.len().min(partitions.max(1)));
            let sizes = groups.iter().map(FileGroup::len);
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            let dealt = groups.iter().flat_map(FileGroup::iter).map(|file| file.object_meta.size);
            prop_assert!(dealt.eq(0..pieces.len() as u64));
        }
    }
}
