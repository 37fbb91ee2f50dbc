//! Temporary files: bytes that are on disk before they get a name.
//!
//! Owns [`Staged`] and the removal of what dead processes left behind. Does not own publishing.
//!
//! Invariant: the process that writes a temporary file holds an exclusive lock on it until the
//! object that it becomes is durable, or until it is removed. So a file that a cleaner can lock has
//! no owner; and a published file that cannot be locked is not durable yet.
//!
//! A crash leaves the file behind, unlocked.

use std::fs::{self, File, FileTimes, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path as FsPath, PathBuf};
use std::time::{Duration, SystemTime};

use object_store::PutPayload;
use tracing::{debug, warn};
use uuid::Uuid;

/// A temporary file of this process. Removed when dropped, unless it was renamed.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) file: File,
    pub(super) path: PathBuf,
    renamed: bool,
}

impl Staged {
    /// An empty temporary file in `dir`.
    pub(super) fn create(dir: &FsPath) -> io::Result<Self> {
        // A cleaner that looks between creation and locking takes the file for abandoned.
        for _ in 0..16 {
            let path = dir.join(Uuid::new_v4().simple().to_string());
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)?;
            let staged = Self {
                file,
                path,
                renamed: false,
            };
            match staged.file.try_lock() {
                Ok(()) if staged.path.symlink_metadata().is_ok() => return Ok(staged),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "temporary files vanish as soon as they are created",
        ))
    }

    pub(super) fn write_at(&mut self, offset: u64, payload: &PutPayload) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        payload
            .iter()
            .try_for_each(|chunk| self.file.write_all(chunk))
    }

    /// Makes the content durable. The modification time is part of the ETag: it is set here, with
    /// all the precision there is, rather than taken from the kernel's coarse clock.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.set_modified(SystemTime::now())?;
        self.file.sync_all()
    }

    /// Moves the modification time past `previous`, as the file system stores it.
    pub(super) fn make_newer_than(&mut self, previous: SystemTime) -> io::Result<()> {
        // File systems keep time in steps of 1 ns up to 2 s.
        for step in [1, 100, 1_000, 1_000_000, 1_000_000_000, 2_000_000_000] {
            if self.file.metadata()?.modified()? > previous {
                return Ok(());
            }
            self.set_modified(previous + Duration::from_nanos(step))?;
        }
        if self.file.metadata()?.modified()? > previous {
            return Ok(());
        }
        Err(io::Error::other(
            "the file system does not keep modification times",
        ))
    }

    /// Gives the file the name `target`, whatever is there.
    pub(super) fn rename_to(&mut self, target: &FsPath) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.renamed = true;
        Ok(())
    }

    fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.file.set_times(FileTimes::new().set_modified(time))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.renamed
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            debug!(%error, "a temporary file stays until a later process removes it");
        }
    }
}

/// Removes the temporary files in `dir` whose processes are gone; returns how many.
pub(super) fn remove_abandoned(dir: &FsPath) -> usize {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let mut removed = 0;
    for entry in entries.flatten() {
        let path = entry.path();
        // Opening a planted link or pipe would lead out, or block.
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if file.try_lock().is_err() {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => removed += 1,
            Err(error) => warn!(%error, "cannot remove an abandoned temporary file"),
        }
    }
    removed
}
