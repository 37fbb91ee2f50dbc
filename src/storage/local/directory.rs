//! One directory of objects: each operation on it, step by step, as a thread does it that may block.
//!
//! Owns the order of steps: stage, publish, sync. Does not own any of them.
//!
//! Invariant and crash behaviour: see the module.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::StreamExt;
use object_store::path::Path;
use object_store::{
    Attributes, Error, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, PutPayload,
    PutResult, Result,
};
use tracing::info;

use super::durable::{Durable, locked};
use super::list;
use super::paths::{generic, io_error, is_absence, resolve};
use super::publish::{Condition, Published, current, e_tag, publish, remove};
use super::stage::{Staged, remove_abandoned};

/// Ranges up to this size are read at once rather than streamed from the file.
const READ_AT_ONCE: u64 = 256 * 1024;
/// How often a process that keeps writing looks for what dead ones left behind.
const CLEANING_INTERVAL: Duration = Duration::from_secs(600);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) root: PathBuf,
    pub(super) durable: Durable,
    last_cleaning: Mutex<Option<Instant>>,
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            durable: Durable::new(root.clone()),
            root,
            last_cleaning: Mutex::default(),
        }
    }

    /// An empty temporary file.
    pub(super) fn stage(&self, key: &Path) -> Result<Staged> {
        let tmp = self.durable.private("tmp");
        self.again_if_directories_vanished(|| {
            self.durable.prepare()?;
            self.clean_now_and_then(&tmp);
            Staged::create(&tmp)
        })
        .map_err(|e| io_error(key, "create a temporary file", e))
    }

    /// Makes the content durable, gives it its name, makes the name durable.
    pub(super) fn finish(
        &self,
        key: &Path,
        staged: &mut Staged,
        condition: &Condition,
    ) -> Result<PutResult> {
        let durable = &self.durable;
        let target = resolve(&self.root, key)?;
        let dir = target.parent().unwrap_or(&self.root);
        durable.file_syncs.fetch_add(1, Ordering::Relaxed);
        staged.sync().map_err(|e| io_error(key, "write", e))?;
        let published = self
            .again_if_directories_vanished(|| {
                durable.ensure_dir(dir)?;
                publish(durable, staged, &target, condition)
            })
            .map_err(|e| io_error(key, "publish", e))?;
        self.outcome(key, &target, condition, published)
    }

    /// Writes a whole object.
    pub(super) fn put(
        &self,
        key: &Path,
        payload: &PutPayload,
        condition: &Condition,
    ) -> Result<PutResult> {
        let target = resolve(&self.root, key)?;
        // No proof of anything, but it spares the loser of a race its file sync.
        let found = current(&target).map_err(|e| io_error(key, "look up", e))?;
        match (condition, found.as_ref().map(e_tag)) {
            (Condition::Nothing, Some(_)) => {
                return self.outcome(key, &target, condition, Published::Exists);
            }
            (Condition::ETag(expected), found) if found.as_ref() != Some(expected) => {
                return self.outcome(key, &target, condition, Published::Differs { found });
            }
            _ => {}
        }
        let mut staged = self.stage(key)?;
        staged
            .write_at(0, payload)
            .map_err(|e| io_error(key, "write", e))?;
        self.finish(key, &mut staged, condition)
    }

    fn outcome(
        &self,
        key: &Path,
        target: &FsPath,
        condition: &Condition,
        published: Published,
    ) -> Result<PutResult> {
        let path = key.to_string();
        let sync = || {
            let synced = self.durable.sync_name(target);
            synced.map_err(|e| io_error(key, "sync its directory", e))
        };
        match published {
            Published::Done { e_tag, replaced } => {
                sync()?;
                replaced.close_later();
                Ok(PutResult {
                    e_tag: Some(e_tag),
                    version: None,
                })
            }
            Published::Exists => {
                // The caller may rely on the object that exists, whose writer may not have synced.
                sync()?;
                Err(Error::AlreadyExists {
                    path,
                    source: "the object exists".into(),
                })
            }
            Published::Differs { found } => Err(Error::Precondition {
                path,
                source: format!("{found:?} does not match {condition:?}").into(),
            }),
        }
    }

    /// Runs a step again, once, if a directory that was there is gone: another process deleted the table's
    /// directory, or the private one in it, while the table was open.
    fn again_if_directories_vanished<T>(
        &self,
        mut step: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        match step() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.durable.forget();
                step()
            }
            other => other,
        }
    }

    fn clean_now_and_then(&self, tmp: &FsPath) {
        let mut last = locked(&self.last_cleaning);
        if last.is_some_and(|last| last.elapsed() < CLEANING_INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        drop(last);
        let removed = remove_abandoned(tmp);
        if removed > 0 {
            info!(
                removed,
                "removed temporary files of processes that are gone"
            );
        }
    }

    /// The object's file, what it is called, and what is known of it.
    pub(super) fn open(&self, key: &Path) -> Result<(File, ObjectMeta, PathBuf)> {
        let path = resolve(&self.root, key)?;
        let absent = || Error::NotFound {
            path: key.to_string(),
            source: "no such object".into(),
        };
        let failed = |error: io::Error| match is_absence(&error) {
            true => absent(),
            false => io_error(key, "open", error),
        };
        // Opening a pipe would block.
        if !path.symlink_metadata().map_err(failed)?.is_file() {
            return Err(absent());
        }
        let file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok((file, list::object_meta(key.clone(), &metadata), path))
    }

    /// One object, or a part of it.
    pub(super) fn get(&self, key: &Path, options: &GetOptions) -> Result<GetResult> {
        if options.version.is_some() {
            return Err(generic("there are no object versions on a local disk"));
        }
        let (mut file, meta, path) = self.open(key)?;
        if options.range.is_none() && !options.head {
            self.wait_until_durable(&file, &path)
                .map_err(|e| io_error(key, "sync its directory", e))?;
        }
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(generic)?,
            None => 0..meta.size,
        };
        let payload = if options.head {
            GetResultPayload::Stream(futures::stream::empty().boxed())
        } else if range.end - range.start <= READ_AT_ONCE {
            let bytes = read_range(&mut file, &range).map_err(|e| io_error(key, "read", e))?;
            GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed())
        } else {
            GetResultPayload::File(file, path)
        };
        Ok(GetResult {
            payload,
            meta,
            range,
            attributes: Attributes::default(),
        })
    }

    /// A published file stays locked until its directory is synced. If the writer has not got
    /// there, the reader does it: what a read returns must not be undone by a power failure.
    fn wait_until_durable(&self, file: &File, path: &FsPath) -> io::Result<()> {
        match file.try_lock_shared() {
            Ok(()) => file.unlock(),
            Err(TryLockError::WouldBlock) => self.durable.sync_name(path),
            // No locks here, so no writers either.
            Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    /// Parts of one object, all of one state.
    pub(super) fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (mut file, meta, _) = self.open(key)?;
        ranges
            .iter()
            .map(|range| {
                let range = GetRange::Bounded(range.clone())
                    .as_range(meta.size)
                    .map_err(generic)?;
                read_range(&mut file, &range).map_err(|e| io_error(key, "read", e))
            })
            .collect()
    }

    /// Removes an object, durably.
    pub(super) fn delete(&self, key: &Path) -> Result<()> {
        let target = resolve(&self.root, key)?;
        let removed = remove(&self.durable, &target).map_err(|e| io_error(key, "delete", e))?;
        // Also if it was gone already: the process that removed it may not have synced.
        self.durable
            .sync_name(&target)
            .map_err(|e| io_error(key, "sync its directory", e))?;
        if let Some(removed) = removed {
            removed.close_later();
            return Ok(());
        }
        Err(Error::NotFound {
            path: key.to_string(),
            source: "no such object".into(),
        })
    }
}

fn read_range(file: &mut File, range: &Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut buffer = vec![0; length];
    #[cfg(unix)]
    std::os::unix::fs::FileExt::read_exact_at(file, &mut buffer, range.start)?;
    #[cfg(not(unix))]
    {
        use std::io::{Read, Seek, SeekFrom};
        file.seek(SeekFrom::Start(range.start))?;
        file.read_exact(&mut buffer)?;
    }
    Ok(buffer.into())
}
