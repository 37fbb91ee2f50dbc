//! Directory syncs, shared by the tasks that wait for them, and directories that last.
//!
//! Owns when a directory is synced and how a new one becomes durable. Does not own file syncs
//! (`stage.rs`), only their count.
//!
//! Invariants: a sync that a caller asks for starts after it asked. Once a sync of a directory has
//! failed, every later one fails too: the kernel may have dropped what it could not write and would
//! report success. A directory that exists is durable once the `directories` lock is free.
//!
//! A crash leaves behind at most an empty directory.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::lock::open_lock;
use super::paths::{PRIVATE, is_absence};

/// How many syncs were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Syncs of files.
    pub files: u64,
    /// Syncs of directories; those that several callers shared count once.
    pub directories: u64,
}

/// The durability side of one root.
#[derive(Debug)]
pub(super) struct Durable {
    root: PathBuf,
    groups: Mutex<HashMap<PathBuf, Arc<Group>>>,
    /// Directories that this process knows to be durable.
    lasting: Mutex<HashSet<PathBuf>>,
    prepared: AtomicBool,
    pub(super) file_syncs: AtomicU64,
    directory_syncs: AtomicU64,
}

#[derive(Debug, Default)]
struct Group {
    state: Mutex<GroupState>,
    finished: Condvar,
}

#[derive(Debug, Default)]
struct GroupState {
    /// Syncs run one after another; these count those that started and those that ended.
    started: u64,
    ended: u64,
    failed: Option<(io::ErrorKind, String)>,
}

impl Durable {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            groups: Mutex::default(),
            lasting: Mutex::default(),
            prepared: AtomicBool::new(false),
            file_syncs: AtomicU64::new(0),
            directory_syncs: AtomicU64::new(0),
        }
    }

    pub(super) fn counts(&self) -> SyncCounts {
        SyncCounts {
            files: self.file_syncs.load(Ordering::Relaxed),
            directories: self.directory_syncs.load(Ordering::Relaxed),
        }
    }

    pub(super) fn private(&self, name: &str) -> PathBuf {
        self.root.join(PRIVATE).join(name)
    }

    /// Waits until every change made to `dir` so far is durable.
    pub(super) fn sync(&self, dir: &FsPath) -> io::Result<()> {
        let group = Arc::clone(locked(&self.groups).entry(dir.to_owned()).or_default());
        let mut state = locked(&group.state);
        // One that has started already may have missed the caller's change.
        let covering = state.started + 1;
        loop {
            if let Some((kind, message)) = &state.failed {
                return Err(io::Error::new(*kind, message.clone()));
            }
            if state.ended >= covering {
                return Ok(());
            }
            if state.started > state.ended {
                state = group
                    .finished
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.started += 1;
            drop(state);
            let outcome = self.sync_now(dir);
            state = locked(&group.state);
            group.finished.notify_all();
            match outcome {
                Ok(()) => state.ended = state.started,
                // Nothing was attempted: there is no such directory (any more).
                Err(error) if is_absence(&error) => {
                    state.started = state.ended;
                    return Err(error);
                }
                Err(error) => {
                    state.ended = state.started;
                    let message = format!(
                        "a sync of the directory failed, so what was written since is not known to \
                         be on disk; open the table again: {error}"
                    );
                    state.failed = Some((error.kind(), message));
                }
            }
        }
    }

    /// Waits until the present state of the name `path` is durable, its absence included: syncs
    /// the nearest directory above it that exists.
    pub(super) fn sync_name(&self, path: &FsPath) -> io::Result<()> {
        for dir in path.ancestors().skip(1) {
            match self.sync(dir) {
                Err(error) if is_absence(&error) => {}
                other => return other,
            }
        }
        Ok(())
    }

    fn sync_now(&self, dir: &FsPath) -> io::Result<()> {
        // Other systems cannot sync directories, and order their metadata themselves.
        if !cfg!(unix) {
            return Ok(());
        }
        let handle = File::open(dir)?;
        self.directory_syncs.fetch_add(1, Ordering::Relaxed);
        handle.sync_all()
    }

    /// Makes the root and the private directories exist.
    pub(super) fn prepare(&self) -> io::Result<()> {
        if self.prepared.load(Ordering::Acquire) {
            return Ok(());
        }
        let (locks, tmp) = (self.private("locks"), self.private("tmp"));
        if !(locks.is_dir() && tmp.is_dir()) {
            // The private directory is created after the root is durable, so a process that does not find
            // it cannot rely on the root.
            self.create_lasting(&self.root)?;
            if let Some(parent) = self.root.parent() {
                self.sync(parent)?;
            }
            fs::create_dir_all(&locks)?;
            fs::create_dir_all(&tmp)?;
        }
        self.prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes `dir`, which lies at or below the root, exist durably.
    pub(super) fn ensure_dir(&self, dir: &FsPath) -> io::Result<()> {
        self.prepare()?;
        if locked(&self.lasting).contains(dir) {
            return Ok(());
        }
        if dir.is_dir() {
            // The process that creates a directory holds the lock until it is durable.
            drop(open_lock(&self.private("locks/directories"), true)?);
        } else {
            let _creating = open_lock(&self.private("locks/directories"), false)?;
            self.create_lasting(dir)?;
        }
        locked(&self.lasting).insert(dir.to_owned());
        Ok(())
    }

    /// Forgets which directories exist: one of them turned out to be missing.
    pub(super) fn forget(&self) {
        self.prepared.store(false, Ordering::Release);
        locked(&self.lasting).clear();
    }

    fn create_lasting(&self, dir: &FsPath) -> io::Result<()> {
        let missing: Vec<&FsPath> = dir.ancestors().take_while(|d| !d.is_dir()).collect();
        for new in missing.into_iter().rev() {
            match fs::create_dir(new) {
                Ok(()) => {}
                // Someone else was quicker, and may not have synced it yet.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !new.is_dir() {
                        // Not `AlreadyExists`: nobody created the object.
                        return Err(io::ErrorKind::NotADirectory.into());
                    }
                }
                Err(error) => return Err(error),
            }
            if let Some(parent) = new.parent()
                && let Err(error) = self.sync(parent)
            {
                // Others take a directory that exists for durable.
                let _ = fs::remove_dir(new);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The data of a mutex whose holders leave it valid at every point, even if one of them panics.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
