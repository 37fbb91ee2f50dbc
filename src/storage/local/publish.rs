//! The one moment at which an object appears, changes or disappears.
//!
//! Owns the directory locks, the comparison of versions and the link, rename or removal. Does not
//! own staging before nor syncing after it.
//!
//! Invariant: a process that replaces, overwrites or deletes a name holds its directory's lock. A create
//! links, which fails if the name exists, so it cannot come between another's check and rename.
//! Successive versions of an object exist at the same time for a moment, so their inodes differ;
//! later ones, which may reuse an inode, have a later modification time. So versions differ.
//!
//! A crash releases the lock and leaves either state.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path as FsPath;
use std::time::SystemTime;

use tokio::runtime::Handle;

use super::durable::Durable;
use super::lock::{inode, open_lock};
use super::paths::is_absence;
use super::stage::Staged;

/// What must be there for a staged file to take a name.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    Anything,
    Nothing,
    ETag(String),
}

/// What became of an attempt to publish.
#[derive(Debug)]
pub(super) enum Published {
    Done { e_tag: String, replaced: Gone },
    Exists,
    Differs { found: Option<String> },
}

/// A file that has just lost its name, still open. Freeing what it occupies can take as long as a
/// sync, and the last one to close it pays for that: so not under the lock, and not the caller.
#[derive(Debug)]
pub(super) struct Gone(Option<File>);

impl Gone {
    fn about_to_go(target: &FsPath) -> Self {
        Self(File::open(target).ok())
    }

    /// Closes the file when a thread has time for it.
    pub(super) fn close_later(self) {
        if let (Some(file), Ok(runtime)) = (self.0, Handle::try_current()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

/// Publishes `staged`, whose content is durable already, under the name `target`.
pub(super) fn publish(
    durable: &Durable,
    staged: &mut Staged,
    target: &FsPath,
    condition: &Condition,
) -> io::Result<Published> {
    if matches!(condition, Condition::Nothing) {
        match fs::hard_link(&staged.path, target) {
            Ok(()) => {
                return Ok(Published::Done {
                    e_tag: e_tag(&staged.file.metadata()?),
                    replaced: Gone(None),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(Published::Exists);
            }
            // Not every file system has hard links; on one without, all writers end up below.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                ) => {}
            Err(error) => return Err(error),
        }
    }
    let _exclusive = lock_directory_of(durable, target)?;
    let found = current(target)?;
    match (condition, &found) {
        (Condition::Nothing, Some(_)) => return Ok(Published::Exists),
        (Condition::ETag(expected), _) => {
            let found = found.as_ref().map(e_tag);
            if found.as_ref() != Some(expected) {
                return Ok(Published::Differs { found });
            }
        }
        (Condition::Nothing, None) | (Condition::Anything, _) => {}
    }
    let mut replaced = Gone(None);
    if let Some(old) = &found {
        staged.make_newer_than(old.modified()?)?;
        replaced = Gone::about_to_go(target);
    }
    let e_tag = e_tag(&staged.file.metadata()?);
    staged.rename_to(target)?;
    Ok(Published::Done { e_tag, replaced })
}

/// Removes the name `target`; `None` if it was not there.
pub(super) fn remove(durable: &Durable, target: &FsPath) -> io::Result<Option<Gone>> {
    if current(target)?.is_none() {
        return Ok(None);
    }
    durable.prepare()?;
    let _exclusive = lock_directory_of(durable, target)?;
    if current(target)?.is_none() {
        return Ok(None);
    }
    let removed = Gone::about_to_go(target);
    fs::remove_file(target)?;
    Ok(Some(removed))
}

/// The metadata of the object `target`, if there is one.
pub(super) fn current(target: &FsPath) -> io::Result<Option<Metadata>> {
    match target.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "the name is taken by something that is not a file",
        )),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The version of a file's content: inode, modification time in nanoseconds, size.
pub(super) fn e_tag(metadata: &Metadata) -> String {
    let nanos = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos());
    format!("{:x}-{nanos:x}-{:x}", inode(metadata), metadata.len())
}

fn lock_directory_of(durable: &Durable, target: &FsPath) -> io::Result<File> {
    let locks = durable.private("locks");
    let dir = target.parent().unwrap_or(target);
    // Relative to the root, so that processes that reach it by different paths share the lock.
    let dir = locks
        .parent()
        .and_then(FsPath::parent)
        .and_then(|root| dir.strip_prefix(root).ok())
        .unwrap_or(dir);
    let name = blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex();
    open_lock(&locks.join(name.as_str()), false)
}
