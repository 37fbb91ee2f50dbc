//! What the end of a superfile says: its footer, and the checksum of it.
//!
//! Owns: finding page indexes and footer among a file's last bytes, and judging whether they can be decoded. Does not
//! own what a checksum is ([`crate::format::footer`]), nor getting at the bytes (`capture`, or a read).
//! Invariant: bytes that are no footer, damaged or hostile, are a typed error, never a panic. No I/O.

use std::sync::Arc;

use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::format::footer::{FooterChecksum, TRAILER_LEN, footer_len};
use crate::format::thrift;

/// Longest page indexes and footer that are read back to be checked.
pub(super) const LONGEST_END: u64 = 256 << 20;

/// The checksum of a file whose page indexes and footer are `end`.
pub(super) fn checksum_of(end: &[u8]) -> Option<FooterChecksum> {
    let footer = usize::try_from(footer_len(end)?).ok()?;
    let (index, footer) = end.split_at_checked(end.len().checked_sub(footer)?)?;
    FooterChecksum::of(index, footer)
}

/// Where the page indexes begin in a file of `size` bytes that ends in `end`, or its footer if it has none.
pub(super) fn end_of(metadata: &ParquetMetaData, end: &[u8], size: u64) -> Option<u64> {
    let footer = size.checked_sub(footer_len(end)?)?;
    let first = metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
        .flat_map(|column| [column.column_index_offset(), column.offset_index_offset()])
        .flatten()
        .filter_map(|offset| u64::try_from(offset).ok())
        .min();
    Some(first.unwrap_or(footer).min(footer))
}

/// The metadata of the Parquet file of `size` bytes whose last ones are `end`, and the checksum of its end.
///
/// # Errors
/// It is none, or `end` is too short: then as many bytes are needed as the error says.
pub(crate) fn read_end(end: &[u8], size: u64) -> std::result::Result<FileEnd, EndError> {
    let length = footer_len(end).ok_or(EndError::NotParquet)?;
    if length > size {
        return Err(EndError::NotParquet);
    }
    let enough = |length: u64| match usize::try_from(length) {
        Ok(length) if length <= end.len() => Ok(length),
        _ if length > LONGEST_END => Err(EndError::TooLong(length)),
        _ => Err(EndError::Needs(length)),
    };
    let length = enough(length)?;
    let footer = end.get(end.len() - length..).unwrap_or_default();
    let thrift = footer
        .get(..length.saturating_sub(TRAILER_LEN))
        .unwrap_or_default();
    if !thrift::is_plausible(thrift) {
        return Err(EndError::Damaged(None));
    }
    // Thrift that can be walked may still say what no decoder thought of.
    let decoded = std::panic::catch_unwind(|| ParquetMetaDataReader::decode_metadata(thrift));
    let metadata = match decoded {
        Ok(Ok(metadata)) => Arc::new(metadata),
        Ok(Err(e)) => return Err(EndError::Damaged(Some(e))),
        Err(_) => return Err(EndError::Damaged(None)),
    };
    let start = end_of(&metadata, end, size).ok_or(EndError::NotParquet)?;
    let length = match enough(size - start) {
        // Page indexes that are all over a file are not used; see the scan's reader.
        Err(EndError::TooLong(_)) => {
            return Ok(FileEnd {
                metadata,
                checksum: None,
            });
        }
        length => length?,
    };
    let checksum = checksum_of(end.get(end.len() - length..).unwrap_or_default());
    Ok(FileEnd { metadata, checksum })
}

/// What is known of a file from its end.
#[derive(Debug)]
pub(crate) struct FileEnd {
    /// The footer, without page indexes.
    pub(crate) metadata: Arc<ParquetMetaData>,
    /// The checksum, if the end is short enough for one.
    pub(crate) checksum: Option<FooterChecksum>,
}

/// Why the end of a file cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndError {
    /// So many of the file's last bytes are needed.
    #[error("its footer takes {0} bytes")]
    Needs(u64),
    /// Longer than any footer should be.
    #[error("its footer takes {0} bytes, too many to be one")]
    TooLong(u64),
    /// Does not end as a Parquet file does.
    #[error("it does not end as a Parquet file does")]
    NotParquet,
    /// The footer cannot be decoded.
    #[error("its footer is damaged")]
    Damaged(#[source] Option<parquet::errors::ParquetError>),
}
