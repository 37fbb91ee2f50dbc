//! The tombstone sidecar: the set of deleted row positions of one superfile.
//!
//! Owns the codec. Does not own the question which sidecar is in force: the manifest names it,
//! and records the blake3 of its bytes, because this layout has no checksum of its own.
//!
//! ```text
//! offset      size  field
//! 0           8     magic "INFTOMB\0"
//! 8           4     version, u32 LE = 1
//! 12          1     seal flag: 0 | 1
//! (13         16    when sealed: by, a uuid, big-endian)
//! (29         8     when sealed: at, i64 LE, milliseconds since the Unix epoch)
//! 13 | 37     4     n = length of the bitmap in bytes, u32 LE
//! 17 | 41     n     portable serialisation of the roaring bitmap
//! end
//! ```
//!
//! Invariant: `decode(encode(s)) == s`, and decoding allocates no more than a small multiple of
//! the input's length.

use bytes::Bytes;
use roaring::RoaringBitmap;
use uuid::Uuid;

/// The first eight bytes of every sidecar.
pub(crate) const SIDECAR_MAGIC: [u8; 8] = *b"INFTOMB\0";
/// The version that this code writes, and the newest that it reads.
pub(crate) const SIDECAR_VERSION: u32 = 1;

/// Who closed a sidecar to further replacement, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The process that sealed it.
    pub by: Uuid,
    /// When, by that process's clock: milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// A tombstone sidecar: deleted positions of one superfile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sidecar {
    /// The seal, if the sidecar is sealed.
    pub seal: Option<Seal>,
    /// Positions of deleted rows, counted from the superfile's first row.
    pub deleted: RoaringBitmap,
}

/// How the bytes of a sidecar are malformed.
#[derive(Debug, thiserror::Error)]
pub enum SidecarCodecError {
    /// The bytes end before a field does.
    #[error("truncated in the {field}: {have} bytes left of the {need} it takes")]
    Truncated {
        /// The field that is cut off.
        field: &'static str,
        /// The field's length.
        need: usize,
        /// The bytes that were left.
        have: usize,
    },
    /// The first eight bytes are not the magic.
    #[error("bad magic {got:02x?}")]
    BadMagic {
        /// What stands there instead.
        got: [u8; 8],
    },
    /// The version is not one that this code reads.
    #[error("sidecar version {found} is not supported (this version reads {SIDECAR_VERSION})")]
    UnsupportedVersion {
        /// The version found.
        found: u32,
    },
    /// The seal flag is neither 0 nor 1.
    #[error("the seal flag is {found}, neither 0 nor 1")]
    BadSealFlag {
        /// The flag found.
        found: u8,
    },
    /// There are bytes after the bitmap.
    #[error("{extra} bytes after the bitmap")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// The bitmap's bytes are not a roaring bitmap.
    #[error("the bitmap is malformed")]
    BadBitmap(#[source] std::io::Error),
    /// The bitmap ends before the length that was announced for it.
    #[error("the bitmap ends {unused} bytes before its announced length")]
    BitmapShorterThanAnnounced {
        /// The bytes left over.
        unused: usize,
    },
    /// A position is not a row of the superfile.
    #[error("position {position} is not below the superfile's {rows} rows")]
    PositionOutOfRange {
        /// The largest position.
        position: u32,
        /// The superfile's rows.
        rows: u64,
    },
    /// The bitmap's serialisation does not fit its length field.
    #[error("the bitmap takes {bytes} bytes, more than a sidecar can hold")]
    TooLarge {
        /// The serialised length.
        bytes: usize,
    },
}

impl Sidecar {
    /// An unsealed sidecar with these positions.
    pub fn new(deleted: RoaringBitmap) -> Self {
        Self {
            seal: None,
            deleted,
        }
    }

    /// The sidecar's bytes.
    ///
    /// # Errors
    /// [`SidecarCodecError::TooLarge`] when the bitmap does not fit, which takes more than 4 GiB.
    pub fn encode(&self) -> Result<Bytes, SidecarCodecError> {
        let bitmap_len = self.deleted.serialized_size();
        let announced = u32::try_from(bitmap_len)
            .map_err(|_| SidecarCodecError::TooLarge { bytes: bitmap_len })?;
        let mut out = Vec::with_capacity(41 + bitmap_len);
        out.extend_from_slice(&SIDECAR_MAGIC);
        out.extend_from_slice(&SIDECAR_VERSION.to_le_bytes());
        match &self.seal {
            None => out.push(0),
            Some(seal) => {
                out.push(1);
                out.extend_from_slice(seal.by.as_bytes());
                out.extend_from_slice(&seal.at_ms.to_le_bytes());
            }
        }
        out.extend_from_slice(&announced.to_le_bytes());
        self.deleted
            .serialize_into(&mut out)
            .map_err(SidecarCodecError::BadBitmap)?;
        Ok(out.into())
    }

    /// The sidecar that `bytes` encode.
    ///
    /// # Errors
    /// One variant of [`SidecarCodecError`] for each way the bytes can be malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, SidecarCodecError> {
        let mut input = Input(bytes);
        let magic: [u8; 8] = input.take("magic")?;
        if magic != SIDECAR_MAGIC {
            return Err(SidecarCodecError::BadMagic { got: magic });
        }
        let version = u32::from_le_bytes(input.take("version")?);
        if version != SIDECAR_VERSION {
            return Err(SidecarCodecError::UnsupportedVersion { found: version });
        }
        let [flag] = input.take("seal flag")?;
        let seal = match flag {
            0 => None,
            1 => Some(Seal {
                by: Uuid::from_bytes(input.take("seal")?),
                at_ms: i64::from_le_bytes(input.take("seal time")?),
            }),
            found => return Err(SidecarCodecError::BadSealFlag { found }),
        };
        let announced = u32::from_le_bytes(input.take("bitmap length")?) as usize;
        let rest = input.0;
        let Some((bitmap, trailing)) = rest.split_at_checked(announced) else {
            return Err(SidecarCodecError::Truncated {
                field: "bitmap",
                need: announced,
                have: rest.len(),
            });
        };
        if !trailing.is_empty() {
            return Err(SidecarCodecError::TrailingBytes {
                extra: trailing.len(),
            });
        }
        Ok(Self {
            seal,
            deleted: decode_bitmap(bitmap)?,
        })
    }

    /// [`decode`](Self::decode) for a superfile of `rows` rows: positions past its end are an
    /// error too.
    ///
    /// # Errors
    /// As `decode`, and [`SidecarCodecError::PositionOutOfRange`].
    pub fn decode_for(bytes: &[u8], rows: u64) -> Result<Self, SidecarCodecError> {
        let sidecar = Self::decode(bytes)?;
        check_positions(&sidecar.deleted, rows)?;
        Ok(sidecar)
    }
}

/// The bitmap that `bytes` hold in the portable roaring serialisation, all of them.
///
/// The checked reader is used: the unchecked one would build bitmaps that answer wrongly.
pub(crate) fn decode_bitmap(bytes: &[u8]) -> Result<RoaringBitmap, SidecarCodecError> {
    let mut rest = bytes;
    let bitmap =
        RoaringBitmap::deserialize_from(&mut rest).map_err(SidecarCodecError::BadBitmap)?;
    if rest.is_empty() {
        Ok(bitmap)
    } else {
        Err(SidecarCodecError::BitmapShorterThanAnnounced { unused: rest.len() })
    }
}

/// Refuses positions that are not below `rows`.
pub(crate) fn check_positions(bitmap: &RoaringBitmap, rows: u64) -> Result<(), SidecarCodecError> {
    match bitmap.max() {
        Some(position) if u64::from(position) >= rows => {
            Err(SidecarCodecError::PositionOutOfRange { position, rows })
        }
        _ => Ok(()),
    }
}

/// The rest of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], SidecarCodecError> {
        let Some((head, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(SidecarCodecError::Truncated {
                field,
                need: N,
                have: self.0.len(),
            });
        };
        self.0 = rest;
        Ok(*head)
    }
}
