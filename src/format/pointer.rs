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
//! `new_nodes` is a hint: a reader that knows the version before can fetch them beside the root instead of after it.
//! What the version consists of, the root alone says.
//!
//! A table of a catalog that was renamed has one more key, `claim`, behind `new_nodes`: an object of `slot`, the
//! directory in whose place the table stands, and `number`, which counts the table's claims from 1.
//!
//! Where a table was dropped, a [`DropMarker`] stands in the pointer's place, for ever: a line of the same kind
//! with the keys `format_version`, `dropped_table`, `version` (the last one), `claim` (as the pointer had it), `nonce`,
//! `checksum`. Where a directory is kept for a table that gets another name, a [`Reservation`] stands:
//! `format_version`, `reserved_for` (the table's directory), `claim` (the number that the claim will have), `nonce`,
//! `checksum`. It may become a marker, of no table and version 0.
//!
//! Invariant: one pointer has one spelling. Decoding refuses every other, so any flipped bit is
//! an error even where JSON would read the same value.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::{ContentHash, TableId};

/// The `format_version` that this code writes, and the newest that it reads.
pub(crate) const POINTER_VERSION: u32 = 1;

/// No pointer is longer than this; longer bytes are refused unread.
const MAX_POINTER_LEN: usize = 1536;

/// No directory of a table has a longer name.
const MAX_DIRECTORY_LEN: usize = 255;

/// The most nodes that a pointer names besides the root.
pub(crate) const MAX_NEW_NODES: usize = 8;

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
    /// Where the table stands in its catalog, if not in its own directory's place. Every write keeps it but one
    /// that makes the next claim.
    pub claim: Option<Claim>,
}

/// In which directory's place a table of a catalog stands: that says its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The directory.
    pub slot: String,
    /// How many claims the table made, this one included: it never falls.
    pub number: u64,
}

/// What stands in a pointer's place once its table is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropMarker {
    /// The table that was dropped.
    pub table_id: TableId,
    /// Its last version.
    pub version: u64,
    /// Its last claim.
    pub claim: Option<Claim>,
    /// Fresh in every write.
    pub nonce: Uuid,
}

/// What stands in a pointer's place where a table is to stand that has its objects elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The table's directory, beside the one that is reserved.
    pub table: String,
    /// The number of the table's claim that takes the place.
    pub number: u64,
    /// Fresh in every write.
    pub nonce: Uuid,
}

/// What the object under the pointer's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// There is a table.
    Table(Pointer),
    /// There was one.
    Dropped(DropMarker),
    /// Another directory's table stands here, or will, or was to.
    Reserved(Reservation),
}

impl Head {
    /// What `bytes` say.
    ///
    /// # Errors
    /// [`PointerError`]: any bytes that neither a pointer nor a marker nor a reservation has.
    pub fn decode(bytes: &[u8]) -> Result<Self, PointerError> {
        if let Some(marker) = DropMarker::decode(bytes)? {
            return Ok(Self::Dropped(marker));
        }
        match Reservation::decode(bytes)? {
            Some(reservation) => Ok(Self::Reserved(reservation)),
            None => Pointer::decode(bytes).map(Self::Table),
        }
    }
}

impl DropMarker {
    /// The object's bytes.
    ///
    /// # Errors
    /// [`PointerError::BadSlot`]; [`PointerError::Json`], which serde_json does not give for these types.
    pub fn encode(&self) -> Result<Bytes, PointerError> {
        with_checksum(WireDropMarker {
            format_version: POINTER_VERSION,
            dropped_table: self.table_id,
            version: self.version,
            claim: self.claim.as_ref().map(WireClaim::of).transpose()?,
            nonce: self.nonce,
            checksum: None,
        })
    }

    /// The marker that `bytes` hold; `None` if they are something else.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, PointerError> {
        let Some(wire) = open::<WireDropMarker>(bytes)? else {
            return Ok(None);
        };
        let marker = Self {
            table_id: wire.dropped_table,
            version: wire.version,
            claim: wire.claim.map(Claim::from),
            nonce: wire.nonce,
        };
        match marker.encode()? == bytes {
            true => Ok(Some(marker)),
            false => Err(PointerError::NotCanonical),
        }
    }
}

impl Reservation {
    /// The object's bytes.
    ///
    /// # Errors
    /// [`PointerError::BadSlot`]; [`PointerError::Json`], which serde_json does not give for these types.
    pub fn encode(&self) -> Result<Bytes, PointerError> {
        check_directory(&self.table)?;
        with_checksum(WireReservation {
            format_version: POINTER_VERSION,
            reserved_for: self.table.clone(),
            claim: self.number,
            nonce: self.nonce,
            checksum: None,
        })
    }

    /// The reservation that `bytes` hold; `None` if they are something else.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, PointerError> {
        let Some(wire) = open::<WireReservation>(bytes)? else {
            return Ok(None);
        };
        let reservation = Self {
            table: wire.reserved_for,
            number: wire.claim,
            nonce: wire.nonce,
        };
        match reservation.encode()? == bytes {
            true => Ok(Some(reservation)),
            false => Err(PointerError::NotCanonical),
        }
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
    /// A claim or reservation names what cannot be a table's directory.
    #[error("{slot:?} is no directory of a table")]
    BadSlot {
        /// The name found.
        slot: String,
    },
}

impl Pointer {
    /// The pointer's bytes.
    ///
    /// # Errors
    /// [`PointerError::BadSlot`]; [`PointerError::Json`], which serde_json does not give for these types.
    pub fn encode(&self) -> Result<Bytes, PointerError> {
        with_checksum(WirePointer {
            format_version: POINTER_VERSION,
            table_id: self.table_id,
            version: self.version,
            manifest: self.manifest,
            nonce: self.nonce,
            new_nodes: self.new_nodes.iter().take(MAX_NEW_NODES).copied().collect(),
            claim: self.claim.as_ref().map(WireClaim::of).transpose()?,
            checksum: None,
        })
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
        verify(&mut wire)?;
        let pointer = Self {
            table_id: wire.table_id,
            version: wire.version,
            manifest: wire.manifest,
            nonce: wire.nonce,
            new_nodes: wire.new_nodes,
            claim: wire.claim.map(Claim::from),
        };
        if pointer.encode()? != bytes {
            return Err(PointerError::NotCanonical);
        }
        Ok(pointer)
    }
}

/// A line of JSON with a checksum.
trait Wire: Serialize {
    fn format_version(&self) -> u32;
    fn checksum(&mut self) -> &mut Option<ContentHash>;
}

/// The bytes of a line that has no checksum yet.
fn with_checksum<W: Wire>(mut wire: W) -> Result<Bytes, PointerError> {
    let hash = ContentHash::of(&serde_json::to_vec(&wire)?);
    *wire.checksum() = Some(hash);
    Ok(serde_json::to_vec(&wire)?.into())
}

/// Checks the checksum, and takes it out.
fn verify<W: Wire>(wire: &mut W) -> Result<(), PointerError> {
    let Some(recorded) = wire.checksum().take() else {
        return Err(PointerError::NotCanonical);
    };
    let actual = ContentHash::of(&serde_json::to_vec(wire)?);
    match actual == recorded {
        true => Ok(()),
        false => Err(PointerError::ChecksumMismatch { recorded, actual }),
    }
}

/// What `bytes` hold, verified; `None` if they have other keys.
fn open<W: Wire + for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<Option<W>, PointerError> {
    if bytes.len() > MAX_POINTER_LEN {
        return Err(PointerError::TooLong { len: bytes.len() });
    }
    let Ok(mut wire) = serde_json::from_slice::<W>(bytes) else {
        return Ok(None);
    };
    if wire.format_version() != POINTER_VERSION {
        return Err(PointerError::UnsupportedVersion {
            found: u64::from(wire.format_version()),
        });
    }
    verify(&mut wire)?;
    Ok(Some(wire))
}

/// Refuses what could lead out of a schema's directory. Which names a catalog gives, it says itself.
fn check_directory(slot: &str) -> Result<(), PointerError> {
    let fits = (1..=MAX_DIRECTORY_LEN).contains(&slot.len());
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b'"');
    match fits && !slot.starts_with('.') && slot.bytes().all(plain) {
        true => Ok(()),
        false => Err(PointerError::BadSlot {
            slot: slot.to_owned(),
        }),
    }
}

#[derive(Deserialize)]
struct WireVersion {
    format_version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireClaim {
    slot: String,
    number: u64,
}

impl WireClaim {
    fn of(claim: &Claim) -> Result<Self, PointerError> {
        check_directory(&claim.slot)?;
        Ok(Self {
            slot: claim.slot.clone(),
            number: claim.number,
        })
    }
}

impl From<WireClaim> for Claim {
    fn from(wire: WireClaim) -> Self {
        Self {
            slot: wire.slot,
            number: wire.number,
        }
    }
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<WireClaim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<ContentHash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireDropMarker {
    format_version: u32,
    dropped_table: TableId,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<WireClaim>,
    nonce: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<ContentHash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireReservation {
    format_version: u32,
    reserved_for: String,
    claim: u64,
    nonce: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<ContentHash>,
}

macro_rules! wire {
    ($($wire:ty),*) => {$(
        impl Wire for $wire {
            fn format_version(&self) -> u32 {
                self.format_version
            }

            fn checksum(&mut self) -> &mut Option<ContentHash> {
                &mut self.checksum
            }
        }
    )*};
}

wire!(WirePointer, WireDropMarker, WireReservation);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn claim() -> Option<Claim> {
        Some(Claim {
            slot: "a=20b.12".to_owned(),
            number: 3,
        })
    }

    fn marker() -> DropMarker {
        DropMarker {
            table_id: TableId::from_uuid(Uuid::from_u128(7)),
            version: 41,
            claim: None,
            nonce: Uuid::from_u128(9),
        }
    }

    fn reservation() -> Reservation {
        Reservation {
            table: "t.2".to_owned(),
            number: 4,
            nonce: Uuid::from_u128(9),
        }
    }

    #[test]
    fn neither_a_drop_marker_nor_a_reservation_is_a_pointer_and_no_bit_of_them_may_flip() {
        let dropped = |claim| DropMarker { claim, ..marker() };
        for head in [
            Head::Dropped(dropped(None)),
            Head::Dropped(dropped(claim())),
            Head::Reserved(reservation()),
        ] {
            let bytes = match &head {
                Head::Dropped(marker) => marker.encode().unwrap(),
                Head::Reserved(reservation) => reservation.encode().unwrap(),
                Head::Table(pointer) => pointer.encode().unwrap(),
            };
            assert_eq!(Head::decode(&bytes).unwrap(), head);
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

    #[test]
    fn newer_versions_of_all_three_are_told_apart_from_damage() {
        let pointer = crate::format::tests::samples::pointer();
        for bytes in [
            marker().encode().unwrap(),
            reservation().encode().unwrap(),
            Pointer {
                claim: claim(),
                ..pointer
            }
            .encode()
            .unwrap(),
        ] {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let newer = text.replace("\"format_version\":1", "\"format_version\":2");
            assert_ne!(newer, text);
            assert!(matches!(
                Head::decode(newer.as_bytes()),
                Err(PointerError::UnsupportedVersion { found: 2 })
            ));
        }
    }

    #[test]
    fn what_is_no_directory_can_neither_be_written_nor_read() {
        let other = |slot: &str| Reservation {
            table: slot.to_owned(),
            ..reservation()
        };
        let long = "x".repeat(MAX_DIRECTORY_LEN + 1);
        for slot in [
            "",
            "..",
            ".t",
            "a/b",
            "a b",
            "ä",
            "a\\b",
            "a\"b",
            long.as_str(),
        ] {
            assert!(
                matches!(other(slot).encode(), Err(PointerError::BadSlot { .. })),
                "{slot}"
            );
            let wire = WireReservation {
                format_version: POINTER_VERSION,
                reserved_for: slot.to_owned(),
                claim: 1,
                nonce: Uuid::from_u128(9),
                checksum: None,
            };
            assert!(matches!(
                Head::decode(&with_checksum(wire).unwrap()),
                Err(PointerError::BadSlot { .. })
            ));
        }
    }
}
