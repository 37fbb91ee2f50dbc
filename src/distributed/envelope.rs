//! The bytes around what this crate adds to a plan that travels.
//!
//! Owns the version, the check that bytes arrive as they left, and what kind of thing they are. Does not own their
//! content. Invariant: no decoder sees damaged bytes.
//!
//! ```text
//! offset  size  field
//! 0       4     "STPL"
//! 4       1     version: 1
//! 5       1     kind: 1 a scan, 2 the operator that gathers addresses, 3 a node of the user's codec, 4 functions
//! 6       16    the first half of the content's blake3
//! 22      …     the content
//! ```

use datafusion::common::Result;

use crate::error::{Error, ErrorKind};

const MAGIC: [u8; 4] = *b"STPL";
const VERSION: u8 = 1;
const HASH_LEN: usize = 16;

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Scan,
    GatherAddresses,
    Inner,
    Functions,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Scan => 1,
            Self::GatherAddresses => 2,
            Self::Inner => 3,
            Self::Functions => 4,
        }
    }
}

/// Appends `content` in its envelope.
pub(super) fn seal(kind: Kind, content: &[u8], into: &mut Vec<u8>) {
    into.extend(MAGIC);
    into.extend([VERSION, kind.code()]);
    into.extend(half_hash(content));
    into.extend(content);
}

/// What the envelope holds.
///
/// # Errors
/// `Corrupt` if the bytes are not those that were sealed, `UnsupportedVersion` if another version of this crate did.
pub(super) fn open(bytes: &[u8]) -> Result<(Kind, &[u8]), Error> {
    let short = || damaged("they are too short");
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    if *magic != MAGIC {
        return Err(damaged("they do not begin as such"));
    }
    let ([version, kind], rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (hash, content) = rest.split_first_chunk::<HASH_LEN>().ok_or_else(short)?;
    if *version != VERSION {
        return Err(Error::new(
            ErrorKind::UnsupportedVersion,
            "plan",
            format!(
                "a part of it is of version {version}, this process knows {VERSION}; run the coordinator and its \
                 workers from one version of datafusion-supertable"
            ),
        ));
    }
    if *hash != half_hash(content) {
        return Err(damaged("they do not hash to what they should"));
    }
    let kinds = [
        Kind::Scan,
        Kind::GatherAddresses,
        Kind::Inner,
        Kind::Functions,
    ];
    match kinds.into_iter().find(|known| known.code() == *kind) {
        Some(kind) => Ok((kind, content)),
        None => Err(damaged("they are of no known kind")),
    }
}

fn half_hash(content: &[u8]) -> [u8; HASH_LEN] {
    let mut half = [0; HASH_LEN];
    for (to, from) in half.iter_mut().zip(blake3::hash(content).as_bytes()) {
        *to = *from;
    }
    half
}

/// That what arrived is not what left.
pub(super) fn damaged(why: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "plan",
        format!("the bytes of a supertable's part of it cannot be read: {why}"),
    )
}
