//! The checksum of a superfile's end: what its footer and its page indexes must hash to.
//!
//! Owns the checksum and its bytes. Does not own reading or writing Parquet, nor where the checksum is kept: a
//! manifest entry has it.
//!
//! Parquet has no checksum of its footer. One flipped bit there is another row count, another offset,
//! another bound by which row groups are skipped: a wrong answer, or lengths that no decoder should
//! believe. So the process that writes a superfile, or takes in an external file, records hashes of its last bytes, and readers
//! compare them *before* a decoder sees the bytes. As lengths are recorded too, a footer is read in one
//! request of exactly its size.
//!
//! ```text
//! a superfile   pages … | page indexes: index_len bytes | footer: footer_len bytes, end of file
//!                        whatever lies between            metadata, its length (4), "PAR1" (4)
//!
//! offset  size  field of a checksum
//! 0       4     footer_len, u32 LE
//! 4       4     index_len, u32 LE: 0 if there are none
//! 8       16    the first half of the footer's blake3
//! 24      16    the first half of the page indexes' blake3
//! ```
//!
//! Half a hash is enough against damage, which is what this is about; a user who can write to the store can
//! replace the manifest as well.
//!
//! The footer of a superfile that this crate wrote holds checksums of all bytes before it ([`super::checksums`]): so
//! pages and Bloom filters are covered, too.

use super::ids::ContentHash;

/// Bytes of a checksum.
pub(crate) const CHECKSUM_LEN: usize = 40;
/// Bytes that are kept of each hash.
const HASH_LEN: usize = 16;
/// What a Parquet file ends with: the length of its metadata, and the magic.
pub(crate) const TRAILER_LEN: usize = 8;
const MAGIC: [u8; 4] = *b"PAR1";

/// What the end of a superfile is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterChecksum {
    footer_len: u32,
    index_len: u32,
    footer: [u8; HASH_LEN],
    index: [u8; HASH_LEN],
}

impl FooterChecksum {
    /// The checksum of a file that ends with these page indexes and this footer; `None` if they are too long.
    pub fn of(index: &[u8], footer: &[u8]) -> Option<Self> {
        Some(Self {
            footer_len: u32::try_from(footer.len()).ok()?,
            index_len: u32::try_from(index.len()).ok()?,
            footer: half_hash(footer),
            index: half_hash(index),
        })
    }

    /// The checksum's bytes.
    pub fn to_bytes(self) -> [u8; CHECKSUM_LEN] {
        let mut bytes = [0; CHECKSUM_LEN];
        let fields = self
            .footer_len
            .to_le_bytes()
            .into_iter()
            .chain(self.index_len.to_le_bytes())
            .chain(self.footer)
            .chain(self.index);
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    /// The inverse of [`Self::to_bytes`]; `None` for what is no checksum.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (footer_len, rest) = bytes.split_first_chunk::<4>()?;
        let (index_len, rest) = rest.split_first_chunk::<4>()?;
        let (footer, index) = rest.split_first_chunk::<HASH_LEN>()?;
        Some(Self {
            footer_len: u32::from_le_bytes(*footer_len),
            index_len: u32::from_le_bytes(*index_len),
            footer: *footer,
            index: index.try_into().ok()?,
        })
    }

    /// Bytes of the footer, the trailer included.
    pub fn footer_len(&self) -> u64 {
        self.footer_len.into()
    }

    /// Bytes before the footer that hold the page indexes.
    pub fn index_len(&self) -> u64 {
        self.index_len.into()
    }

    /// Whether `bytes` are the footer.
    pub fn is_footer(&self, bytes: &[u8]) -> bool {
        self.footer_len() == bytes.len() as u64 && half_hash(bytes) == self.footer
    }

    /// Whether `bytes` are the page indexes.
    pub fn is_index(&self, bytes: &[u8]) -> bool {
        self.index_len() == bytes.len() as u64 && half_hash(bytes) == self.index
    }
}

fn half_hash(bytes: &[u8]) -> [u8; HASH_LEN] {
    let hash = ContentHash::of(bytes);
    let mut half = [0; HASH_LEN];
    for (to, from) in half.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    half
}

/// The length of the footer that ends in `end`, the trailer included; `None` if it is no Parquet file's.
pub(crate) fn footer_len(end: &[u8]) -> Option<u64> {
    let (rest, magic) = end.split_last_chunk::<4>()?;
    let (_, length) = rest.split_last_chunk::<4>()?;
    (*magic == MAGIC).then(|| u64::from(u32::from_le_bytes(*length)) + TRAILER_LEN as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_seal_comes_back_from_its_bytes() {
        let checksum = FooterChecksum::of(b"index", b"the footer").unwrap();
        assert_eq!(
            FooterChecksum::from_bytes(&checksum.to_bytes()),
            Some(checksum)
        );
        assert_eq!((checksum.footer_len(), checksum.index_len()), (10, 5));
    }

    #[test]
    fn a_flipped_bit_or_another_length_is_seen() {
        let (index, footer) = (b"index".as_slice(), b"the footer".as_slice());
        let checksum = FooterChecksum::of(index, footer).unwrap();
        assert!(checksum.is_footer(footer) && checksum.is_index(index));
        for bit in 0..footer.len() * 8 {
            let mut damaged = footer.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!checksum.is_footer(&damaged));
        }
        for end in 0..footer.len() {
            assert!(!checksum.is_footer(&footer[..end]));
        }
        assert!(!checksum.is_index(b"inde") && !checksum.is_index(b"jndex"));
    }

    #[test]
    fn bytes_of_another_length_are_no_checksum() {
        let bytes = FooterChecksum::of(b"", b"f").unwrap().to_bytes();
        for end in 0..CHECKSUM_LEN {
            assert_eq!(FooterChecksum::from_bytes(&bytes[..end]), None);
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert_eq!(FooterChecksum::from_bytes(&longer), None);
    }

    #[test]
    fn a_footer_tells_its_length() {
        assert_eq!(footer_len(b"xx\x07\x01\0\0PAR1"), Some(0x107 + 8));
        assert_eq!(footer_len(b"xx\x07\x01\0\0PARE"), None);
        assert_eq!(footer_len(b"\0\0PAR1"), None);
    }
}
