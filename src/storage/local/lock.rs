//! Locks that processes take on files, and how files of one name are told apart.
//!
//! Owns taking such a lock. Does not own what it protects.
//!
//! A crash releases it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path as FsPath;

/// Locks the file `path`, shared or exclusively, until the returned file is dropped. It is opened
/// anew each time: locks belong to open files, so threads exclude each other as processes do.
pub(super) fn open_lock(path: &FsPath, shared: bool) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if shared {
            file.lock_shared()?;
        } else {
            file.lock()?;
        }
        // If another process deleted the lock file meanwhile, others lock another one.
        match path.symlink_metadata() {
            Ok(named) if inode(&named) == inode(&file.metadata()?) => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// The file's number, which a file that replaces it does not have; 0 where files have none.
#[cfg(unix)]
pub(super) fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
pub(super) fn inode(_metadata: &Metadata) -> u64 {
    0
}
