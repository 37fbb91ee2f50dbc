//! From keys to files below the root, and from I/O errors to the store's errors.
//!
//! Owns the confinement to the root. Does not own what happens to the files.
//!
//! Invariant: a resolved path lies below the root and, when it was checked, no component of it
//! below the root was a symbolic link. The root itself may be one. This keeps planted links and
//! hostile keys out; it is no defence against a process that swaps directories while we work.

use std::io;
use std::path::{Component, Path as FsPath, PathBuf};

use object_store::Error;
use object_store::path::Path;

/// The directory below the root that holds temporary files and locks.
pub(super) const PRIVATE: &str = ".supertable-local";

const STORE: &str = "LocalStore";

#[derive(Debug, thiserror::Error)]
#[error("{key}: {action}: {source}")]
struct LocalError {
    key: String,
    action: &'static str,
    source: io::Error,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0}: a key must name something inside the table's directory")]
    NotInside(String),
    #[error("{0}: this name is reserved for temporary files and locks")]
    Reserved(String),
    #[error("{0}: symbolic links inside a table's directory are not followed")]
    SymbolicLink(String),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Error::NotSupported {
            source: Box::new(refused),
        }
    }
}

/// The store's error for an I/O error; it names the key, never a path of this machine.
pub(super) fn io_error(key: &Path, action: &'static str, source: io::Error) -> Error {
    let kind = source.kind();
    let path = key.to_string();
    let source = Box::new(LocalError {
        key: path.clone(),
        action,
        source,
    });
    match kind {
        io::ErrorKind::NotFound => Error::NotFound { path, source },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::PermissionDenied { path, source }
        }
        _ => Error::Generic {
            store: STORE,
            source,
        },
    }
}

pub(super) fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic {
        store: STORE,
        source: source.into(),
    }
}

/// The file that a key names.
pub(super) fn resolve(root: &FsPath, key: &Path) -> object_store::Result<PathBuf> {
    if key.is_root() {
        return Err(Refused::NotInside(key.to_string()).into());
    }
    resolve_prefix(root, key)
}

/// The file or directory that a key names; the root for the empty one.
pub(super) fn resolve_prefix(root: &FsPath, key: &Path) -> object_store::Result<PathBuf> {
    let mut path = root.to_owned();
    // Below something that does not exist there is nothing to check.
    let mut exists = true;
    for part in key.parts() {
        let part = part.as_ref();
        if part == PRIVATE {
            return Err(Refused::Reserved(key.to_string()).into());
        }
        let mut components = FsPath::new(part).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(name)), None) if name == part => path.push(name),
            _ => return Err(Refused::NotInside(key.to_string()).into()),
        }
        if exists {
            match path.symlink_metadata() {
                Ok(found) if found.is_symlink() => {
                    return Err(Refused::SymbolicLink(key.to_string()).into());
                }
                Ok(_) => {}
                Err(error) if is_absence(&error) => exists = false,
                Err(error) => return Err(io_error(key, "look up", error)),
            }
        }
    }
    Ok(path)
}

/// Whether an error means that there is no object of that name.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
