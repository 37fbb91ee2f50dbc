//! The checksums of a superfile's bytes, block by block.
//!
//! Owns the table of checksums that a superfile carries in its footer: its bytes, how a writer computes it while
//! the file streams by, and which blocks a reader compares. Does not own the checksum of the footer ([`super::footer`]),
//! which covers the table, nor any reading or writing of files.
//!
//! The footer's checksum says nothing of pages, dictionaries and Bloom filters, and Parquet's writer for Rust writes no
//! checksums of pages. So the writer cuts a superfile into blocks of [`BLOCK_LEN`] bytes, as file systems do, whatever
//! is in them. A reader fetches whole blocks, and compares each before a decoder sees it.
//!
//! ```text
//! a superfile   pages, indexes, footer without its last byte: L bytes | this field | 0 | footer's length (4) | "PAR1"
//!
//! offset  size  what the field is: Thrift's compact encoding of a binary field of `FileMetaData`
//! 0       1     0x08: binary, the field's id follows
//! 1       3     0xfe 0xff 0x03: the id, 32767, as a zigzag varint
//! 4       1…5   M, the length of what follows, a varint
//!
//! then M bytes
//! 0       4·n   CRC-32 (that of gzip, zlib and Parquet's pages) of each block, u32 LE, from the file's start on
//! 4·n     8     L, the bytes that are covered, u64 LE: where the field begins
//! 4·n+8   4     the length of a block, u32 LE: 16384; the last block ends at L
//! 4·n+12  4     n, the blocks, u32 LE: L divided by the length of a block, rounded up
//! 4·n+16  16    d3f1a36b-55c2-4f0e-9a41-b1c6a70e32d7: whose extension this is
//! ```
//!
//! Why there: the Parquet format reserves the field 32767 of each of its structs for extensions ("binary protocol
//! extensions"), which other readers skip. Only the last nine bytes of a file have to be held back until the rest is
//! known, however long the footer is; no offset in the file changes; and the footer's checksum covers the table without
//! knowing of it. Everything is found from the file's end.
//!
//! A file of others has no table, and is read without one.

use std::ops::Range;

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// Bytes of a block.
const BLOCK_LEN: u32 = 16 << 10;

/// The least and the greatest length of a block that a reader accepts: it fetches whole blocks.
const BLOCK_LENS: Range<u32> = 1 << 10..(1 << 20) + 1;

/// What a Parquet file ends with: the end of the footer's struct, the footer's length, and the magic.
pub(crate) const END_LEN: usize = 1 + TRAILER_LEN;

/// The footer's length, and the magic.
const TRAILER_LEN: usize = 8;
const PARQUET: [u8; 4] = *b"PAR1";

/// A binary field with the id 32767.
const FIELD: [u8; 4] = [0x08, 0xfe, 0xff, 0x03];

/// What the table ends with, so that it is told from the extensions of others.
const MAGIC: [u8; 16] = [
    0xd3, 0xf1, 0xa3, 0x6b, 0x55, 0xc2, 0x4f, 0x0e, 0x9a, 0x41, 0xb1, 0xc6, 0xa7, 0x0e, 0x32, 0xd7,
];

/// The algorithm's name where it is needed: that of zlib.
const CRC_32: CrcAlgorithm = CrcAlgorithm::Crc32IsoHdlc;

/// The checksums of one superfile.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BlockChecksums {
    block_len: u32,
    covered: u64,
    crcs: Box<[u32]>,
}

/// Why a footer's table of checksums is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChecksumsError {
    /// The table says that it is longer than the footer.
    #[error("its table of {blocks} checksums is longer than its footer")]
    TooLong {
        /// The blocks that it says to have.
        blocks: u32,
    },
    /// No writer makes blocks of this length.
    #[error("its checksums are of blocks of {0} bytes")]
    BlockLength(u32),
    /// The table does not belong to a file of this length.
    #[error(
        "its {blocks} checksums cover {covered} bytes, which do not end where the table begins"
    )]
    OtherFile {
        /// The blocks of the table.
        blocks: u32,
        /// The bytes that they cover.
        covered: u64,
    },
}

impl BlockChecksums {
    /// The table in `footer`, which ends a file of `file_len` bytes and has been verified; `None` if it has none.
    ///
    /// # Errors
    /// What is there contradicts itself or the length of the file.
    pub(crate) fn of_footer(footer: &[u8], file_len: u64) -> Result<Option<Self>, ChecksumsError> {
        let Some((rest, [0, ..])) = footer.split_last_chunk::<END_LEN>() else {
            return Ok(None);
        };
        let Some((rest, magic)) = rest.split_last_chunk::<16>() else {
            return Ok(None);
        };
        if *magic != MAGIC {
            return Ok(None);
        }
        let cut_off = ChecksumsError::TooLong { blocks: 0 };
        let (rest, blocks) = rest.split_last_chunk::<4>().ok_or(cut_off)?;
        let blocks = u32::from_le_bytes(*blocks);
        let too_long = || ChecksumsError::TooLong { blocks };
        let (rest, block_len) = rest.split_last_chunk::<4>().ok_or_else(too_long)?;
        let (rest, covered) = rest.split_last_chunk::<8>().ok_or_else(too_long)?;
        let (block_len, covered) = (u32::from_le_bytes(*block_len), u64::from_le_bytes(*covered));
        if !BLOCK_LENS.contains(&block_len) {
            return Err(ChecksumsError::BlockLength(block_len));
        }
        let length = usize::try_from(blocks).ok().and_then(|n| n.checked_mul(4));
        let crcs = length
            .and_then(|length| rest.len().checked_sub(length))
            .and_then(|at| rest.split_at_checked(at));
        let (rest, crcs) = crcs.ok_or_else(too_long)?;
        let header = header(crcs.len() as u64 + TABLE_END);
        let end = header.len() as u64 + crcs.len() as u64 + TABLE_END + END_LEN as u64;
        if covered.div_ceil(block_len.into()) != u64::from(blocks)
            || covered.checked_add(end) != Some(file_len)
            || !rest.ends_with(&header)
        {
            return Err(ChecksumsError::OtherFile { blocks, covered });
        }
        let (crcs, _) = crcs.as_chunks::<4>();
        Ok(Some(Self {
            block_len,
            covered,
            crcs: crcs.iter().map(|crc| u32::from_le_bytes(*crc)).collect(),
        }))
    }

    /// The whole blocks that `range` of the file lies in; `None` if they do not cover it.
    pub(crate) fn around(&self, range: &Range<u64>) -> Option<Range<u64>> {
        if range.start > range.end || range.end > self.covered {
            return None;
        }
        let block = u64::from(self.block_len);
        let start = range.start - range.start % block;
        Some(start..range.end.next_multiple_of(block).min(self.covered))
    }

    /// The first block of `range`, whole blocks of the file that are to be `bytes`, which has another checksum; all
    /// of `range` if these are not as many bytes.
    pub(crate) fn first_damaged(&self, range: &Range<u64>, bytes: &[u8]) -> Option<Range<u64>> {
        if range.end.checked_sub(range.start) != Some(bytes.len() as u64) {
            return Some(range.clone());
        }
        let block = u64::from(self.block_len);
        let first = usize::try_from(range.start / block).unwrap_or(usize::MAX);
        let crcs = self.crcs.get(first..).unwrap_or_default().iter();
        // One that there is no checksum of is not the one that was written.
        let crcs = crcs.map(Some).chain(std::iter::repeat(None));
        let blocks = bytes.chunks(self.block_len as usize);
        let starts = (range.start..).step_by(self.block_len as usize);
        let mut read = blocks.zip(starts).zip(crcs);
        read.find_map(|((bytes, start), crc)| {
            (crc != Some(&crc_of(bytes))).then(|| start..start + bytes.len() as u64)
        })
    }

    /// Memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.crcs)
    }
}

/// Bytes of a table after its checksums.
const TABLE_END: u64 = 8 + 4 + 4 + 16;

fn crc_of(block: &[u8]) -> u32 {
    as_crc(checksum(CRC_32, block))
}

/// The crate's answers are as long as its longest.
fn as_crc(checksum: u64) -> u32 {
    (checksum & u64::from(u32::MAX)) as u32
}

/// What the field begins with if `length` bytes follow.
fn header(mut length: u64) -> Vec<u8> {
    let mut bytes = FIELD.to_vec();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes
}

/// The checksums of a Parquet file that streams by, from front to back.
#[derive(Debug)]
pub(crate) struct Checksummer {
    crcs: Vec<u32>,
    block: Digest,
    /// Bytes in `block`.
    in_block: usize,
    covered: u64,
    /// The last bytes, at most [`END_LEN`] of them, which will be others.
    held: Vec<u8>,
}

impl Default for Checksummer {
    fn default() -> Self {
        Self {
            crcs: Vec::new(),
            block: Digest::new(CRC_32),
            in_block: 0,
            covered: 0,
            held: Vec::with_capacity(END_LEN),
        }
    }
}

impl Checksummer {
    /// Takes the next bytes of the file in.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let known = (self.held.len() + bytes.len()).saturating_sub(END_LEN);
        let mut held = std::mem::take(&mut self.held);
        let kept = held.split_off(known.min(held.len()));
        let (sure, last) = bytes.split_at(known - held.len());
        self.cover(&held);
        self.cover(sure);
        self.held = kept;
        self.held.extend_from_slice(last);
    }

    fn cover(&mut self, mut bytes: &[u8]) {
        self.covered += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = BLOCK_LEN as usize - self.in_block;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.update(now);
            self.in_block += now.len();
            bytes = later;
            if self.in_block == BLOCK_LEN as usize {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        self.crcs.push(as_crc(self.block.finalize_reset()));
        self.in_block = 0;
    }

    /// What the last [`END_LEN`] bytes of the file are to be replaced by, so that it has its checksums; `None` if it
    /// does not end as a Parquet file does.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        let [0, a, b, c, d, magic @ ..] = *self.held.as_array::<END_LEN>()? else {
            return None;
        };
        if magic != PARQUET {
            return None;
        }
        if self.in_block > 0 {
            self.end_block();
        }
        let blocks = u32::try_from(self.crcs.len()).ok()?;
        let mut bytes = header(self.crcs.len() as u64 * 4 + TABLE_END);
        bytes.extend(self.crcs.iter().flat_map(|crc| crc.to_le_bytes()));
        bytes.extend(self.covered.to_le_bytes());
        bytes.extend(BLOCK_LEN.to_le_bytes());
        bytes.extend(blocks.to_le_bytes());
        bytes.extend(MAGIC);
        let footer_len = u32::from_le_bytes([a, b, c, d]);
        let footer_len = footer_len.checked_add(u32::try_from(bytes.len()).ok()?)?;
        bytes.push(0);
        bytes.extend(footer_len.to_le_bytes());
        bytes.extend(PARQUET);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const BLOCK: usize = BLOCK_LEN as usize;

    /// A file of `length` bytes that ends as a Parquet file does; nothing else of it is one.
    fn file(length: usize) -> Vec<u8> {
        let bytes = (0..length - END_LEN).map(|i| (i * 7 + i / 251) as u8);
        bytes.chain([0, 5, 0, 0, 0]).chain(PARQUET).collect()
    }

    /// The same with checksums, which `pieces` of it at a time were read for.
    fn with_checksums(file: &[u8], pieces: usize) -> Vec<u8> {
        let mut summing = Checksummer::default();
        file.chunks(pieces).for_each(|piece| summing.add(piece));
        let end = summing.finish().unwrap();
        [&file[..file.len() - END_LEN], &end].concat()
    }

    fn of(file: &[u8]) -> Result<Option<BlockChecksums>, ChecksumsError> {
        BlockChecksums::of_footer(file, file.len() as u64)
    }

    #[test]
    fn the_checksums_are_those_of_zlib() {
        // The check value of the catalogue of CRCs.
        assert_eq!(crc_of(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_table_is_the_bytes_that_its_specification_says() {
        let bytes = with_checksums(&file(BLOCK + 100), 1000);
        let field = &bytes[BLOCK + 91..];
        assert_eq!(field[..5], [0x08, 0xfe, 0xff, 0x03, 40]);
        assert_eq!(field[5..9], crc_of(&bytes[..BLOCK]).to_le_bytes());
        assert_eq!(
            field[9..13],
            crc_of(&bytes[BLOCK..BLOCK + 91]).to_le_bytes()
        );
        assert_eq!(field[13..21], (BLOCK as u64 + 91).to_le_bytes());
        assert_eq!(field[21..29], [0, 0x40, 0, 0, 2, 0, 0, 0]);
        let magic = uuid::uuid!("d3f1a36b-55c2-4f0e-9a41-b1c6a70e32d7");
        assert_eq!(&field[29..45], magic.as_bytes());
        assert_eq!(field[45..], [0, 50, 0, 0, 0, b'P', b'A', b'R', b'1']);
    }

    #[test]
    fn a_table_comes_back_whatever_pieces_the_file_is_written_in() {
        for length in [
            END_LEN,
            10,
            BLOCK,
            BLOCK + END_LEN,
            BLOCK + 10,
            70 * BLOCK + 1,
        ] {
            let file = file(length);
            let bytes = with_checksums(&file, length);
            let table = of(&bytes).unwrap().unwrap();
            assert_eq!(table.covered as usize, length - END_LEN);
            assert_eq!(table.crcs.len(), (length - END_LEN).div_ceil(BLOCK));
            for pieces in [1, 8, 9, 4097, BLOCK] {
                assert_eq!(with_checksums(&file, pieces), bytes, "{length} by {pieces}");
            }
            let all = 0..table.covered;
            assert_eq!(table.around(&all), Some(all.clone()));
            assert_eq!(table.first_damaged(&all, &bytes[..length - END_LEN]), None);
        }
    }

    #[test]
    fn what_does_not_end_as_a_parquet_file_gets_no_table() {
        for end in [
            b"\x01\0\0\0\0PAR1".as_slice(),
            b"\0\0\0\0\0PARE",
            b"\0\0\0\0PAR1",
        ] {
            let mut summing = Checksummer::default();
            summing.add(end);
            assert_eq!(summing.finish(), None);
        }
        let mut summing = Checksummer::default();
        summing.add(b"\0\xff\xff\xff\xffPAR1");
        assert_eq!(summing.finish(), None);
    }

    #[test]
    fn a_file_of_others_has_no_table() {
        assert_eq!(of(&file(BLOCK)), Ok(None));
        assert_eq!(of(b""), Ok(None));
    }

    #[test]
    fn every_flipped_bit_of_a_block_is_found_in_that_block() {
        let bytes = with_checksums(&file(2 * BLOCK + 500), 999);
        let table = of(&bytes).unwrap().unwrap();
        let all = 0..table.covered;
        for at in (0..table.covered as usize).step_by(97) {
            for bit in 0..8 {
                let mut damaged = bytes[..table.covered as usize].to_vec();
                damaged[at] ^= 1 << bit;
                let found = table.first_damaged(&all, &damaged).unwrap();
                assert!(found.contains(&(at as u64)), "{at}: {found:?}");
                assert_eq!(
                    Some(&found),
                    table.around(&(at as u64..at as u64 + 1)).as_ref()
                );
            }
        }
        assert_eq!(table.first_damaged(&all, &bytes[..100]), Some(all.clone()));
        // Blocks that there are no checksums of.
        let beyond = table.covered.next_multiple_of(BLOCK as u64);
        let beyond = beyond..beyond + 3;
        assert_eq!(table.first_damaged(&beyond, b"abc"), Some(beyond.clone()));
    }

    #[test]
    fn a_table_with_a_flipped_bit_or_cut_is_another_an_error_or_none() {
        let bytes = with_checksums(&file(3 * BLOCK), BLOCK);
        let table = of(&bytes).unwrap().unwrap();
        let start = table.covered as usize;
        for bit in start * 8..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A footer is verified before its table is looked for: here is only shown that no bit is ignored but
            // those of the footer's length and the magic, which `of_footer` does not own.
            if bit / 8 < bytes.len() - TRAILER_LEN {
                assert_ne!(
                    of(&damaged),
                    Ok(Some(of(&bytes).unwrap().unwrap())),
                    "{bit}"
                );
            }
        }
        for cut in start..bytes.len() {
            assert_ne!(of(&bytes[..cut]), of(&bytes), "{cut}");
            let front = BlockChecksums::of_footer(&bytes[cut..], bytes.len() as u64);
            assert!(cut == start || front != of(&bytes), "{cut}");
        }
        let longer = BlockChecksums::of_footer(&bytes, bytes.len() as u64 + 1);
        assert!(matches!(longer, Err(ChecksumsError::OtherFile { .. })));
    }

    #[test]
    fn what_a_reader_asks_for_is_rounded_out_to_whole_blocks() {
        let bytes = with_checksums(&file(2 * BLOCK + 500), BLOCK);
        let table = of(&bytes).unwrap().unwrap();
        let (block, covered) = (BLOCK as u64, table.covered);
        for (asked, whole) in [
            (0..0, Some(0..0)),
            (0..1, Some(0..block)),
            (block - 1..block + 1, Some(0..2 * block)),
            (block..2 * block, Some(block..2 * block)),
            (2 * block + 1..covered, Some(2 * block..covered)),
            (covered - 1..covered + 1, None),
        ] {
            assert_eq!(table.around(&asked), whole, "{asked:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_judged_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            blocks: u32, block_len: u32, covered: u64, file_len: u64,
        ) {
            let _ = of(&bytes);
            let table = [
                &bytes, &covered.to_le_bytes()[..], &block_len.to_le_bytes(), &blocks.to_le_bytes(),
                &MAGIC, &[0; 5], &PARQUET,
            ].concat();
            let _ = BlockChecksums::of_footer(&table, file_len);
        }
    }
}
