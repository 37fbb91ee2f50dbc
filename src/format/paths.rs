//! Where each object of a table lives, relative to the table's root.
//!
//! Owns the names; [`parse`] is the inverse of the constructors. Does not own the root itself
//! or what the objects contain.
//!
//! Invariant: every path is built from parsed ids only, so no text out of a stored object can
//! lead outside the table's root; and each object has exactly one path. (Files of others, which are read and nothing
//! else, have no name here: see [`in_place`](super::in_place).)
//!
//! ```text
//! _supertable/current                      pointer()
//! _supertable/manifest/<blake3>            manifest_node()   root, group or leaf
//! superfiles/<uuid>.parquet                superfile()
//! superfiles/<uuid>.tombstones             sidecar()
//! wal/mutations/<wal id>.json              wal_doc()
//! wal/mutations/<wal id>.arrow             wal_arrow()
//! ```

use object_store::path::Path;

use super::ids::{ContentHash, SidecarId, SuperfileId, WalId};

/// The folder of the pointer and the manifest.
pub const META_PREFIX: &str = "_supertable";
/// The folder of manifest nodes.
pub const MANIFEST_PREFIX: &str = "_supertable/manifest";
/// The folder of superfiles and their sidecars.
pub const SUPERFILE_PREFIX: &str = "superfiles";
/// The folder of WAL documents and change sets.
pub const WAL_PREFIX: &str = "wal/mutations";

const POINTER: &str = "_supertable/current";
const PARQUET: &str = ".parquet";
const TOMBSTONES: &str = ".tombstones";
const JSON: &str = ".json";
const ARROW: &str = ".arrow";

/// What one object of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// The pointer to the current manifest.
    Pointer,
    /// A manifest root, group or leaf.
    ManifestNode(ContentHash),
    /// A superfile.
    Superfile(SuperfileId),
    /// A tombstone sidecar.
    Sidecar(SidecarId),
    /// A WAL document.
    WalDoc(WalId),
    /// A change set.
    WalArrow(WalId),
}

impl ObjectName {
    /// The object's path relative to the table's root.
    pub fn path(&self) -> Path {
        match self {
            Self::Pointer => Path::from(POINTER),
            Self::ManifestNode(hash) => Path::from(format!("{MANIFEST_PREFIX}/{hash}")),
            Self::Superfile(id) => Path::from(format!("{SUPERFILE_PREFIX}/{id}{PARQUET}")),
            Self::Sidecar(id) => Path::from(format!("{SUPERFILE_PREFIX}/{id}{TOMBSTONES}")),
            Self::WalDoc(id) => Path::from(format!("{WAL_PREFIX}/{id}{JSON}")),
            Self::WalArrow(id) => Path::from(format!("{WAL_PREFIX}/{id}{ARROW}")),
        }
    }
}

/// The pointer's path.
pub fn pointer() -> Path {
    ObjectName::Pointer.path()
}

/// The path of the manifest node with this hash.
pub fn manifest_node(hash: &ContentHash) -> Path {
    ObjectName::ManifestNode(*hash).path()
}

/// The path of a superfile.
pub fn superfile(id: &SuperfileId) -> Path {
    ObjectName::Superfile(*id).path()
}

/// The path of a tombstone sidecar.
pub fn sidecar(id: &SidecarId) -> Path {
    ObjectName::Sidecar(*id).path()
}

/// The path of a WAL document.
pub fn wal_doc(id: &WalId) -> Path {
    ObjectName::WalDoc(*id).path()
}

/// The path of a mutation's change set.
pub fn wal_arrow(id: &WalId) -> Path {
    ObjectName::WalArrow(*id).path()
}

/// The folder of manifest nodes, for listing.
pub fn manifest_prefix() -> Path {
    Path::from(MANIFEST_PREFIX)
}

/// The folder of superfiles and sidecars, for listing.
pub fn superfile_prefix() -> Path {
    Path::from(SUPERFILE_PREFIX)
}

/// The folder of WAL documents and change sets, for listing.
pub fn wal_prefix() -> Path {
    Path::from(WAL_PREFIX)
}

/// What the object at `path` is; `None` for names that this format does not use.
pub fn parse(path: &Path) -> Option<ObjectName> {
    let text = path.as_ref();
    if text == POINTER {
        return Some(ObjectName::Pointer);
    }
    let (folder, name) = text.rsplit_once('/')?;
    match folder {
        MANIFEST_PREFIX => name.parse().ok().map(ObjectName::ManifestNode),
        SUPERFILE_PREFIX => {
            if let Some(stem) = name.strip_suffix(PARQUET) {
                stem.parse().ok().map(ObjectName::Superfile)
            } else {
                let stem = name.strip_suffix(TOMBSTONES)?;
                stem.parse().ok().map(ObjectName::Sidecar)
            }
        }
        WAL_PREFIX => {
            if let Some(stem) = name.strip_suffix(JSON) {
                stem.parse().ok().map(ObjectName::WalDoc)
            } else {
                let stem = name.strip_suffix(ARROW)?;
                stem.parse().ok().map(ObjectName::WalArrow)
            }
        }
        _ => None,
    }
}
