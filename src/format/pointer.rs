//! The pointer: the one small object that names a table's current manifest.
//!
//! Owns the codec. Does not own the swing (`table::commit`), which is the only commit.
//!
//! The object is one line of JSON without spaces, the keys in this order, all of them required but
//! `new_nodes`:
//!
//! | key | value |
//! | --- | --- |
//! | `format_version` | 1 |
//! | `table_id` | hyphenated uuid |
//! | `version` | the table's version, from 1, one more in each commit |
//! | `manifest` | blake3 hex of the manifest root |
//! | `nonce` | uuid, fresh in every write: stores whose version tokens are content hashes must never see equal bytes twice |
//! | `new_nodes` | blake3 hex of up to 8 nodes below the root that this version brought; absent if there are none |
//! | `checksum` | blake3 hex of the line without this key |
//!
//! `new_nodes` is a hint: whoever knows the version before can fetch them beside the root instead of after it.
//! What the version consists of, the root alone says.
//!
//! Where a table was dropped, a [`Grave`] stands in the pointer's place, for ever: a line of the same kind
//! with the keys `format_version`, `dropped_table`, `version` (the last one), `nonce`, `checksum`.
//!
//! Invariant: one pointer has one spelling. Decoding refuses every other, so any flipped bit is
//! an error even where JSON would read the same value.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::{ContentHash, TableId};

/// The `format_version` that this code writes, and the newest that it reads.
pub const POINTER_VERSION: u32 = 1;

/// No pointer is longer than this; longer bytes are refused unread.
const MAX_POINTER_LEN: usize = 1024;

/// The most nodes that a pointer names besides the root.
pub const MAX_NEW_NODES: usize = 8;

/// What the pointer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The table. A table dropped and created again at one location has another id.
    pub table_id: TableId,
    /// The current version.
    pub version: u64,
    /// The current manifest's root.
    pub manifest: ContentHash,
    /// Fresh in every write.
    pub nonce: Uuid,
    /// Nodes below the root that this version brought; no more than [`MAX_NEW_NODES`] are written.
    pub new_nodes: Vec<ContentHash>,
}

/// What stands in a pointer's place once its table is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grave {
    /// The table that was dropped.
    pub table_id: TableId,
    /// Its last version.
    pub version: u64,
    /// Fresh in every write.
    pub nonce: Uuid,
}

/// What the object under the pointer's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// There is a table.
    Table(Pointer),
    /// There was one.
    Dropped(Grave),
}

impl Head {
    /// What `bytes` say.
    ///
    /// # Errors
    /// [`PointerError`]: any bytes that neither a pointer nor a grave has.
    pub fn decode(bytes: &[u8]) -> Result<Self, PointerError> {
        match Grave::decode(bytes)? {
            Some(grave) => Ok(Self::Dropped(grave)),
            None => Pointer::decode(bytes).map(Self::Table),
        }
    }
}

impl Grave {
    /// The object's bytes.
    ///
    /// # Errors
    /// [`PointerError::Json`], which serde_json does not give for these types.
    pub fn encode(&self) -> Result<Bytes, PointerError> {
        let mut wire = WireGrave {
            format_version: POINTER_VERSION,
            dropped_table: self.table_id,
            version: self.version,
            nonce: self.nonce,
            checksum: None,
        };
        wire.checksum = Some(wire.content_hash()?);
        Ok(serde_json::to_vec(&wire)?.into())
    }

    /// The grave that `bytes` hold; `None` if they are something else.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, PointerError> {
        if bytes.len() > MAX_POINTER_LEN {
            return Err(PointerError::TooLong { len: bytes.len() });
        }
        let Ok(mut wire) = serde_json::from_slice::<WireGrave>(bytes) else {
            return Ok(None);
        };
        if wire.format_version != POINTER_VERSION {
            return Err(PointerError::UnsupportedVersion {
                found: u64::from(wire.format_version),
            });
        }
        let Some(recorded) = wire.checksum.take() else {
            return Err(PointerError::NotCanonical);
        };
        let actual = wire.content_hash()?;
        if actual != recorded {
            return Err(PointerError::ChecksumMismatch { recorded, actual });
        }
        let grave = Self {
            table_id: wire.dropped_table,
            version: wire.version,
            nonce: wire.nonce,
        };
        if grave.encode()? != bytes {
            return Err(PointerError::NotCanonical);
        }
        Ok(Some(grave))
    }
}

/// How the bytes of a pointer are malformed.
#[derive(Debug, thiserror::Error)]
pub enum PointerError {
    /// Longer than any pointer.
    #[error("{len} bytes are too many for a pointer")]
    TooLong {
        /// The length.
        len: usize,
    },
    /// Not JSON, or a key is missing or has a value of the wrong kind.
    #[error("not a pointer")]
    Json(#[from] serde_json::Error),
    /// Written by a newer version of this format.
    #[error("pointer version {found} is not supported (this version reads {POINTER_VERSION})")]
    UnsupportedVersion {
        /// The version found.
        found: u64,
    },
    /// The content does not hash to the pointer's own checksum.
    #[error("the content's checksum is {actual}, the pointer says {recorded}")]
    ChecksumMismatch {
        /// What the pointer says.
        recorded: ContentHash,
        /// What its content hashes to.
        actual: ContentHash,
    },
    /// The same value spelled otherwise than this format spells it.
    #[error("not in the pointer's one spelling")]
    NotCanonical,
}

impl Pointer {
    /// The pointer's bytes.
    ///
    /// # Errors
    /// [`PointerError::Json`], which serde_json does not give for these types.
    pub fn encode(&self) -> Result<Bytes, PointerError> {
        let mut wire = WirePointer {
            format_version: POINTER_VERSION,
            table_id: self.table_id,
            version: self.version,
            manifest: self.manifest,
            nonce: self.nonce,
            new_nodes: self.new_nodes.iter().take(MAX_NEW_NODES).copied().collect(),
            checksum: None,
        };
        wire.checksum = Some(wire.content_hash()?);
        Ok(serde_json::to_vec(&wire)?.into())
    }

    /// The pointer that `bytes` hold.
    ///
    /// # Errors
    /// [`PointerError`]: any bytes that [`encode`](Self::encode) does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, PointerError> {
        if bytes.len() > MAX_POINTER_LEN {
            return Err(PointerError::TooLong { len: bytes.len() });
        }
        let version: WireVersion = serde_json::from_slice(bytes)?;
        if version.format_version != u64::from(POINTER_VERSION) {
            return Err(PointerError::UnsupportedVersion {
                found: version.format_version,
            });
        }
        let mut wire: WirePointer = serde_json::from_slice(bytes)?;
        let Some(recorded) = wire.checksum.take() else {
            return Err(PointerError::NotCanonical);
        };
        let actual = wire.content_hash()?;
        if actual != recorded {
            return Err(PointerError::ChecksumMismatch { recorded, actual });
        }
        let pointer = Self {
            table_id: wire.table_id,
            version: wire.version,
            manifest: wire.manifest,
            nonce: wire.nonce,
            new_nodes: wire.new_nodes,
        };
        if pointer.encode()? != bytes {
            return Err(PointerError::NotCanonical);
        }
        Ok(pointer)
    }
}

#[derive(Deserialize)]
struct WireVersion {
    format_version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePointer {
    format_version: u32,
    table_id: TableId,
    version: u64,
    manifest: ContentHash,
    nonce: Uuid,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    new_nodes: Vec<ContentHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<ContentHash>,
}

impl WirePointer {
    /// The hash of the content; to be called while `checksum` is `None`.
    fn content_hash(&self) -> Result<ContentHash, serde_json::Error> {
        Ok(ContentHash::of(&serde_json::to_vec(self)?))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireGrave {
    format_version: u32,
    dropped_table: TableId,
    version: u64,
    nonce: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<ContentHash>,
}

impl WireGrave {
    /// The hash of the content; to be called while `checksum` is `None`.
    fn content_hash(&self) -> Result<ContentHash, serde_json::Error> {
        Ok(ContentHash::of(&serde_json::to_vec(self)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_grave_is_no_pointer_and_no_bit_of_it_may_flip() {
        let grave = Grave {
            table_id: TableId::from_uuid(Uuid::from_u128(7)),
            version: 41,
            nonce: Uuid::from_u128(9),
        };
        let bytes = grave.encode().unwrap();
        assert_eq!(Head::decode(&bytes).unwrap(), Head::Dropped(grave));
        assert!(Pointer::decode(&bytes).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::decode(&damaged).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(Head::decode(&bytes[..end]).is_err(), "{end} bytes");
        }
    }
}
