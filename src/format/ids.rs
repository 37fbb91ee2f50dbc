//! The names of things: mutations, rows, superfiles, sidecars, tables, and bytes.
//!
//! Owns the id types, their textual forms and their parsing. Does not own how fresh ids come
//! about: clock and randomness are arguments, given by `wal::env`.
//!
//! Invariant: each id has exactly one textual form. Parsing accepts that form and no other, so a
//! name that parses is a name we could have written, and no two names mean one object. For
//! [`WalId`], [`RowId`] and [`SuperfileId`] the order of the ids is the order of their names,
//! which is the order of the times at which they were minted.
//!
//! ```text
//! WalId, RowId   i128, 32 lowercase hex digits of the big-endian bytes
//!   bits 127..64   milliseconds since the Unix epoch
//!   bits  63..24   worker (40 bits, random per process or per span)
//!   bits  23..0    sequence
//!
//! IdBlock        a UUIDv7 whose low 24 bits are zero; its k-th id is base + k
//!   bits 127..80   milliseconds since the Unix epoch
//!   bits  79..76   0111 (version 7)
//!   bits  75..64   random
//!   bits  63..62   10 (RFC variant)
//!   bits  61..24   random
//!   bits  23..0    k
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The most rows a superfile may hold: the 24-bit sequence of a [`RowId`] numbers them.
pub(crate) const MAX_SUPERFILE_ROWS: u64 = 1 << 24;

/// The number of ids in one [`IdBlock`].
pub(crate) const ID_BLOCK_LEN: u32 = 1 << 24;

const SEQ_BITS: u32 = 24;
const SEQ_MASK: u128 = (1 << SEQ_BITS) - 1;
const WORKER_BITS: u32 = 40;
const WORKER_MASK: u128 = (1 << WORKER_BITS) - 1;

/// A text that is not the one textual form of an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdParseError {
    expected: &'static str,
    text: String,
}

impl IdParseError {
    fn new(expected: &'static str, text: &str) -> Self {
        // The text may come from a damaged object: show enough to find it, not all of it.
        Self {
            expected,
            text: text.chars().take(64).collect(),
        }
    }
}

/// Lowercase hex of `bytes`.
fn to_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// The `N` bytes that `text` spells in lowercase hex; `None` for any other text.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    fn digit(c: u8) -> Option<u8> {
        match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        }
    }
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(out)
}

macro_rules! snowflake_id {
    ($name:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Snowflake shape: 64 bits of milliseconds, 40 bits of worker, 24 bits of sequence.
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(i128);

        impl $name {
            /// The id minted at `ms` (milliseconds since the epoch) by `worker` (low 40 bits
            /// used) with sequence `seq` (low 24 bits used).
            pub const fn new(ms: u64, worker: u64, seq: u32) -> Self {
                Self(
                    (((ms as u128) << (WORKER_BITS + SEQ_BITS))
                        | ((worker as u128 & WORKER_MASK) << SEQ_BITS)
                        | (seq as u128 & SEQ_MASK)) as i128,
                )
            }

            /// The id with this value.
            pub const fn from_i128(value: i128) -> Self {
                Self(value)
            }

            /// The id's value.
            pub const fn as_i128(self) -> i128 {
                self.0
            }

            /// When the id was minted, by the minter's clock: milliseconds since the epoch.
            pub const fn millis(self) -> u64 {
                (self.0 as u128 >> (WORKER_BITS + SEQ_BITS)) as u64
            }

            /// The sequence within one millisecond of one worker.
            pub const fn seq(self) -> u32 {
                (self.0 as u128 & SEQ_MASK) as u32
            }
        }

        // By the unsigned value, so that ids sort as their names do.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                (self.0 as u128).cmp(&(other.0 as u128))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                to_hex(&self.0.to_be_bytes(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                from_hex(text)
                    .map(|bytes| Self(i128::from_be_bytes(bytes)))
                    .ok_or_else(|| {
                        IdParseError::new(concat!($what, " (32 lowercase hex digits)"), text)
                    })
            }
        }

        text_serde!($name);
    };
}

macro_rules! uuid_id {
    ($name:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The id that is this uuid.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The id's uuid.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                parse_uuid(text)
                    .map(Self)
                    .ok_or_else(|| IdParseError::new(concat!($what, " (a hyphenated uuid)"), text))
            }
        }

        text_serde!($name);
    };
}

/// Serialises as the textual form where the format is for people (JSON). The binary formats of
/// this crate have wire structs of their own and do not serialise ids.
macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The uuid that `text` spells hyphenated and in lower case; `None` for any other text.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    let mut buffer = Uuid::encode_buffer();
    (uuid.hyphenated().encode_lower(&mut buffer) == text).then_some(uuid)
}

snowflake_id!(WalId, "a WAL id", "The name of one mutation.");
snowflake_id!(
    RowId,
    "a row id",
    "The identity of one row, kept by an `UPDATE` and by a compaction."
);
uuid_id!(
    SuperfileId,
    "a superfile id",
    "The name of one superfile: an immutable Parquet file of the table."
);
uuid_id!(
    SidecarId,
    "a sidecar id",
    "The name of one tombstone sidecar: an immutable set of deleted positions of one superfile."
);
uuid_id!(
    TableId,
    "a table id",
    "The identity of one table, whatever its location is called."
);

impl RowId {
    /// The id `offset` rows further; `None` past the end of the id space.
    pub const fn checked_add(self, offset: u64) -> Option<Self> {
        match (self.0 as u128).checked_add(offset as u128) {
            Some(value) => Some(Self(value as i128)),
            None => None,
        }
    }
}

/// A block of 2^24 consecutive UUIDv7-shaped ids that one mutation may use for what it stages.
///
/// All objects of one mutation lie in its block, so the process that undoes the mutation finds them by
/// listing one range of names, also when nothing else records them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdBlock(Uuid);

impl IdBlock {
    /// The block minted at `ms` (milliseconds since the epoch, low 48 bits used) with `random`
    /// (low 50 bits used).
    pub const fn new(ms: u64, random: u64) -> Self {
        let random = random as u128;
        let high = random >> 38 & 0xfff;
        let low = random & ((1 << 38) - 1);
        Self(Uuid::from_u128(
            ((ms as u128 & 0xffff_ffff_ffff) << 80)
                | (0x7 << 76)
                | (high << 64)
                | (0b10 << 62)
                | (low << SEQ_BITS),
        ))
    }

    /// The block that starts at `base`; `None` unless its low 24 bits are zero.
    pub const fn from_uuid(base: Uuid) -> Option<Self> {
        if base.as_u128() & SEQ_MASK == 0 {
            Some(Self(base))
        } else {
            None
        }
    }

    /// The block that `id` lies in.
    pub const fn containing(id: Uuid) -> Self {
        Self(Uuid::from_u128(id.as_u128() & !SEQ_MASK))
    }

    /// The block's first id, which is also its name.
    pub const fn base(&self) -> Uuid {
        self.0
    }

    /// The block's `k`-th id; `None` when `k` is not below [`ID_BLOCK_LEN`], because wrapping
    /// around would name one object twice.
    pub const fn nth(&self, k: u32) -> Option<Uuid> {
        if k < ID_BLOCK_LEN {
            Some(Uuid::from_u128(self.0.as_u128() | k as u128))
        } else {
            None
        }
    }

    /// Whether `id` is one of the block's ids.
    pub const fn contains(&self, id: Uuid) -> bool {
        id.as_u128() & !SEQ_MASK == self.0.as_u128()
    }
}

impl fmt::Display for IdBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for IdBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdBlock({self})")
    }
}

impl FromStr for IdBlock {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        parse_uuid(text).and_then(Self::from_uuid).ok_or_else(|| {
            IdParseError::new("an id block (a uuid whose low 24 bits are zero)", text)
        })
    }
}

text_serde!(IdBlock);

/// The blake3 hash of some bytes: their name where they are content-addressed, their checksum
/// elsewhere. Textual form: 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The hash with this value.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash's value.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        to_hex(&self.0, f)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

impl FromStr for ContentHash {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        from_hex(text)
            .map(Self)
            .ok_or_else(|| IdParseError::new("a blake3 hash (64 lowercase hex digits)", text))
    }
}

text_serde!(ContentHash);
