//! The frame around every binary object of our own: what it is, which version, how long, intact.
//!
//! Owns the frame. Does not own the payloads, which are postcard-encoded wire structs private to
//! their codecs.
//!
//! ```text
//! offset   size  field
//! 0        8     magic, says which kind of object this is
//! 8        4     format version, u32 LE
//! 12       4     n = payload length, u32 LE
//! 16       n     payload (postcard)
//! 16+n     32    blake3 of everything before
//! end
//! ```
//!
//! Invariant: `open` gives back exactly the payload that `encode` was given, or an error.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ids::ContentHash;

const HEADER_LEN: usize = 16;
const HASH_LEN: usize = 32;

/// What a kind of object is called in its first eight bytes, and its newest version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectFormat {
    /// The first eight bytes.
    pub magic: [u8; 8],
    /// The version that this code writes, and the newest that it reads.
    pub version: u32,
}

/// How a framed object is malformed.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes are not those that the object's name or reference promises.
    #[error("the bytes hash to {actual}, expected {expected}")]
    HashMismatch {
        /// The promised hash.
        expected: ContentHash,
        /// The hash of the bytes.
        actual: ContentHash,
    },
    /// Too short to be a framed object.
    #[error("{len} bytes are too few")]
    TooShort {
        /// The length.
        len: usize,
    },
    /// Another kind of object, or none of ours.
    #[error("bad magic {got:02x?}")]
    BadMagic {
        /// The first eight bytes.
        got: [u8; 8],
    },
    /// Written by a newer version of this format.
    #[error("format version {found} is not supported (this version reads {supported})")]
    UnsupportedVersion {
        /// The version found.
        found: u32,
        /// The version that this code reads.
        supported: u32,
    },
    /// The length field does not match the bytes.
    #[error("the payload should take {announced} bytes, there are {actual}")]
    LengthMismatch {
        /// The length field.
        announced: u32,
        /// The bytes between header and checksum.
        actual: usize,
    },
    /// The checksum at the end does not match the bytes before it.
    #[error("the checksum does not match")]
    ChecksumMismatch,
    /// The payload is longer than the length field can say.
    #[error("a payload of {len} bytes is too large")]
    TooLarge {
        /// The payload's length.
        len: usize,
    },
    /// The payload is not what its kind of object holds.
    #[error("malformed payload")]
    Payload(#[source] postcard::Error),
    /// Bytes are left over after the payload's last field.
    #[error("{extra} bytes after the payload's last field")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
}

/// `value` in its frame.
pub(crate) fn encode<T: Serialize>(
    format: ObjectFormat,
    value: &T,
) -> Result<(ContentHash, Bytes), EnvelopeError> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&format.magic);
    out.extend_from_slice(&format.version.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let mut out = postcard::to_extend(value, out).map_err(EnvelopeError::Payload)?;
    let payload_len = out.len().saturating_sub(HEADER_LEN);
    let announced =
        u32::try_from(payload_len).map_err(|_| EnvelopeError::TooLarge { len: payload_len })?;
    if let Some(field) = out.get_mut(12..HEADER_LEN) {
        field.copy_from_slice(&announced.to_le_bytes());
    }
    let checksum = ContentHash::of(&out);
    out.extend_from_slice(checksum.as_bytes());
    Ok((ContentHash::of(&out), out.into()))
}

/// `payload`, whatever it is, in a frame that is right.
pub(crate) fn frame(format: ObjectFormat, payload: &[u8]) -> (ContentHash, Vec<u8>) {
    let mut out = Vec::with_capacity(HEADER_LEN + payload.len() + HASH_LEN);
    out.extend_from_slice(&format.magic);
    out.extend_from_slice(&format.version.to_le_bytes());
    let announced = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&announced.to_le_bytes());
    out.extend_from_slice(payload);
    let checksum = ContentHash::of(&out);
    out.extend_from_slice(checksum.as_bytes());
    (ContentHash::of(&out), out)
}

/// The value in a framed object whose bytes must hash to `expected`.
pub(crate) fn open<T: DeserializeOwned>(
    format: ObjectFormat,
    bytes: &[u8],
    expected: &ContentHash,
) -> Result<T, EnvelopeError> {
    // Damage is found here, before the version: a flipped version bit is damage, not the future.
    let actual = ContentHash::of(bytes);
    if actual != *expected {
        return Err(EnvelopeError::HashMismatch {
            expected: *expected,
            actual,
        });
    }
    decode_payload(payload(format, bytes)?)
}

/// The payload's bytes, with the frame verified by its own checksum only.
pub(crate) fn payload(format: ObjectFormat, bytes: &[u8]) -> Result<&[u8], EnvelopeError> {
    let too_short = || EnvelopeError::TooShort { len: bytes.len() };
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(too_short)?;
    if *magic != format.magic {
        return Err(EnvelopeError::BadMagic { got: *magic });
    }
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(too_short)?;
    let (announced, rest) = rest.split_first_chunk::<4>().ok_or_else(too_short)?;
    let (payload, checksum) = rest.split_last_chunk::<HASH_LEN>().ok_or_else(too_short)?;
    let version = u32::from_le_bytes(*version);
    if version != format.version {
        return Err(EnvelopeError::UnsupportedVersion {
            found: version,
            supported: format.version,
        });
    }
    let announced = u32::from_le_bytes(*announced);
    if usize::try_from(announced) != Ok(payload.len()) {
        return Err(EnvelopeError::LengthMismatch {
            announced,
            actual: payload.len(),
        });
    }
    let covered = bytes
        .split_at_checked(HEADER_LEN + payload.len())
        .map_or(bytes, |(covered, _)| covered);
    if ContentHash::of(covered).as_bytes() != checksum {
        return Err(EnvelopeError::ChecksumMismatch);
    }
    Ok(payload)
}

/// The value that `payload` encodes, all of it. Postcard takes strings and byte strings from the
/// input without allocating ahead, and serde reserves at most 1 MiB for a sequence of announced
/// length, so a lying length cannot exhaust memory.
pub(crate) fn decode_payload<T: DeserializeOwned>(payload: &[u8]) -> Result<T, EnvelopeError> {
    let (value, rest) = postcard::take_from_bytes(payload).map_err(EnvelopeError::Payload)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(EnvelopeError::TrailingBytes { extra: rest.len() })
    }
}
