//! Listing: the files below the root as objects.
//!
//! Owns the walk and the metadata of an object. Does not own which files are whole: a file that has
//! a key for a name always is.
//!
//! Invariant: nothing is listed that a read would refuse: no private directory, no symbolic link,
//! nothing that is neither file nor directory, no name that cannot be a key. Entries that vanish
//! during the walk are left out.

use std::collections::VecDeque;
use std::fs::{Metadata, ReadDir};
use std::path::{Path as FsPath, PathBuf};
use std::time::SystemTime;

use futures::stream::{BoxStream, StreamExt};
use object_store::path::{Path, PathPart};
use object_store::{ListResult, ObjectMeta, Result};

use super::blocking::blocking;
use super::paths::{PRIVATE, io_error, is_absence, resolve_prefix};
use super::publish::e_tag;

/// How many objects one visit to the disk returns.
const BATCH: usize = 1024;

/// The metadata of the object `location`.
pub(super) fn object_meta(location: Path, metadata: &Metadata) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).into(),
        size: metadata.len(),
        e_tag: Some(e_tag(metadata)),
        version: None,
    }
}

enum Entry {
    File(Path, PathBuf),
    Directory(Path, PathBuf),
}

/// A directory being read, and the key that it has.
struct Level {
    key: Path,
    entries: ReadDir,
}

impl Level {
    /// `None` if there is no such directory.
    fn open(key: Path, dir: &FsPath) -> Result<Option<Self>> {
        match std::fs::read_dir(dir) {
            Ok(entries) => Ok(Some(Self { key, entries })),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(io_error(&key, "list", error)),
        }
    }

    /// The next entry that can be an object or hold some.
    fn next(&mut self) -> Result<Option<Entry>> {
        for entry in self.entries.by_ref() {
            let entry = entry.map_err(|e| io_error(&self.key, "list", e))?;
            let name = entry.file_name();
            let Some(part) = name.to_str().and_then(|name| PathPart::parse(name).ok()) else {
                continue;
            };
            if part.as_ref() == PRIVATE {
                continue;
            }
            let key = self.key.clone().join(part);
            match entry.file_type() {
                Ok(kind) if kind.is_file() => return Ok(Some(Entry::File(key, entry.path()))),
                Ok(kind) if kind.is_dir() => return Ok(Some(Entry::Directory(key, entry.path()))),
                Ok(_) => {}
                Err(error) if is_absence(&error) => {}
                Err(error) => return Err(io_error(&key, "look up", error)),
            }
        }
        Ok(None)
    }
}

fn metadata_of(key: &Path, path: &FsPath) -> Result<Option<Metadata>> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(_) => Ok(None),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(io_error(key, "look up", error)),
    }
}

struct Walk {
    root: PathBuf,
    /// The prefix, until the walk has begun.
    start: Option<Path>,
    offset: Option<Path>,
    levels: Vec<Level>,
}

impl Walk {
    fn next(&mut self) -> Result<Option<ObjectMeta>> {
        if let Some(prefix) = self.start.take() {
            let dir = resolve_prefix(&self.root, &prefix)?;
            self.levels.extend(Level::open(prefix, &dir)?);
        }
        while let Some(level) = self.levels.last_mut() {
            match level.next()? {
                None => {
                    self.levels.pop();
                }
                Some(Entry::Directory(key, path)) => {
                    self.levels.extend(Level::open(key, &path)?);
                }
                Some(Entry::File(key, path)) => {
                    // Before the look-up, which is most of the cost.
                    if self.offset.as_ref().is_some_and(|offset| key <= *offset) {
                        continue;
                    }
                    if let Some(metadata) = metadata_of(&key, &path)? {
                        return Ok(Some(object_meta(key, &metadata)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn batch(&mut self) -> Result<VecDeque<ObjectMeta>> {
        let mut batch = VecDeque::new();
        while batch.len() < BATCH {
            match self.next()? {
                Some(object) => batch.push_back(object),
                None => break,
            }
        }
        Ok(batch)
    }
}

/// The objects below `prefix` whose keys sort after `offset`.
pub(super) fn walk(
    root: PathBuf,
    prefix: Option<Path>,
    offset: Option<Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let walk = Walk {
        root,
        start: Some(prefix.unwrap_or_default()),
        offset,
        levels: Vec::new(),
    };
    futures::stream::try_unfold(
        (walk, VecDeque::new()),
        |(mut walk, mut batch)| async move {
            if batch.is_empty() {
                (walk, batch) = blocking(move || {
                    let batch = walk.batch()?;
                    Ok((walk, batch))
                })
                .await?;
            }
            Ok(batch.pop_front().map(|object| (object, (walk, batch))))
        },
    )
    .boxed()
}

/// The objects and the directories right below `prefix`.
pub(super) fn one_level(root: &FsPath, prefix: &Path) -> Result<ListResult> {
    let mut listed = ListResult {
        common_prefixes: Vec::new(),
        objects: Vec::new(),
    };
    let dir = resolve_prefix(root, prefix)?;
    let Some(mut level) = Level::open(prefix.clone(), &dir)? else {
        return Ok(listed);
    };
    while let Some(entry) = level.next()? {
        match entry {
            Entry::Directory(key, _) => listed.common_prefixes.push(key),
            Entry::File(key, path) => {
                if let Some(metadata) = metadata_of(&key, &path)? {
                    listed.objects.push(object_meta(key, &metadata));
                }
            }
        }
    }
    listed.common_prefixes.sort();
    listed.objects.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(listed)
}
