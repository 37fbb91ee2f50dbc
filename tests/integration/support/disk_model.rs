//! What a disk holds after the power went off, as the standard has it: no more than was asked for by syncs.
//!
//! A file's content is what it was when its last sync began. A name is durable once its directory was synced after
//! the name came; a removal likewise. Whatever was not synced may have reached the disk or not, each name on its
//! own, and a file that was not synced may have any part of its content.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;

use super::trace::Event;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Clone, Debug, Default)]
struct File {
    content: Vec<u8>,
    synced: Option<Vec<u8>>,
}

/// What a sync that has not returned will make durable.
#[derive(Clone, Debug)]
enum Sync {
    File(usize, Vec<u8>),
    Directory(PathBuf, BTreeMap<PathBuf, Node>),
}

/// A directory that is there for good, and what is below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    syncs: HashMap<usize, Sync>,
    positions: HashMap<PathBuf, usize>,
}

/// What became of that which was not synced.
pub(crate) enum Rest<'a> {
    /// All of it is lost.
    Lost,
    /// All names and removals were written, and no content.
    NamesOnly,
    /// Some of it was written.
    AtRandom(&'a mut StdRng),
}

fn children(of: &Path, names: &BTreeMap<PathBuf, Node>) -> BTreeMap<PathBuf, Node> {
    let below = names.iter().filter(|(path, _)| path.parent() == Some(of));
    below.map(|(path, node)| (path.clone(), *node)).collect()
}

impl Disk {
    fn file(&self, path: &Path) -> usize {
        match self.live.get(path) {
            Some(Node::File(file)) => *file,
            other => panic!("{} is no file: {other:?}", path.display()),
        }
    }

    pub(crate) fn is_file(&self, path: &Path) -> bool {
        matches!(self.live.get(path), Some(Node::File(_)))
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Opened(path) => {
                self.positions.insert(path.clone(), 0);
                if !self.live.contains_key(path) {
                    self.live.insert(path.clone(), Node::File(self.files.len()));
                    self.files.push(File::default());
                }
            }
            Event::Moved(path, to) => {
                self.positions.insert(path.clone(), *to as usize);
            }
            Event::Wrote(path, bytes) => {
                let file = self.file(path);
                let content = &mut self.files[file].content;
                let at = self.positions.entry(path.clone()).or_default();
                let end = *at + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*at..end].copy_from_slice(bytes);
                *at = end;
            }
            Event::SyncBegan(number, path) => {
                let sync = match self.live.get(path) {
                    Some(Node::File(file)) => Sync::File(*file, self.files[*file].content.clone()),
                    _ => Sync::Directory(path.clone(), children(path, &self.live)),
                };
                self.syncs.insert(*number, sync);
            }
            Event::SyncEnded(number) => match self.syncs.remove(number).unwrap() {
                Sync::File(file, content) => self.files[file].synced = Some(content),
                Sync::Directory(path, names) => {
                    self.durable.retain(|name, _| name.parent() != Some(&path));
                    self.durable.extend(names);
                }
            },
            Event::Renamed(from, to) => {
                let node = self.live.remove(from).unwrap();
                self.live.insert(to.clone(), node);
            }
            Event::Linked(from, to) => {
                self.live.insert(to.clone(), Node::File(self.file(from)));
            }
            Event::Unlinked(path) | Event::RemovedDirectory(path) => {
                self.live.remove(path);
            }
            Event::MadeDirectory(path) => {
                self.live.insert(path.clone(), Node::Directory);
            }
            Event::Said(_) => {}
        }
    }

    /// Names, but for those that `ignored` says nobody needs, whose presence or content is not durable.
    pub(crate) fn unsynced(&self, ignored: impl Fn(&Path) -> bool) -> BTreeSet<PathBuf> {
        let names = self.live.keys().chain(self.durable.keys());
        names
            .filter(|path| !ignored(path))
            .filter(|path| {
                let live = self.live.get(*path);
                let content = match live {
                    Some(Node::File(file)) => {
                        let file = &self.files[*file];
                        file.synced.as_ref() == Some(&file.content)
                    }
                    _ => true,
                };
                !content || live != self.durable.get(*path)
            })
            .cloned()
            .collect()
    }

    /// Writes what is left after a power cut into the directory `to`, which stands for `root`.
    pub(crate) fn cut_power(&self, root: &Path, to: &Path, mut rest: Rest) {
        let mut chosen = self.durable.clone();
        let names: BTreeSet<&PathBuf> = self.live.keys().chain(self.durable.keys()).collect();
        for path in names {
            let written = match &mut rest {
                Rest::Lost => false,
                Rest::NamesOnly => true,
                Rest::AtRandom(rng) => rng.random(),
            };
            match (written, self.live.get(path)) {
                (false, _) => {}
                (true, Some(node)) => drop(chosen.insert(path.clone(), *node)),
                (true, None) => drop(chosen.remove(path)),
            }
        }
        // Parents come before their children.
        for (path, node) in chosen {
            let target = to.join(path.strip_prefix(root).unwrap());
            if !target.parent().unwrap().is_dir() {
                continue;
            }
            match node {
                Node::Directory => std::fs::create_dir(target).unwrap(),
                Node::File(file) => {
                    let File { content, synced } = &self.files[file];
                    let lost = match &mut rest {
                        Rest::AtRandom(rng) => {
                            content[..rng.random_range(0..=content.len())].to_vec()
                        }
                        _ => Vec::new(),
                    };
                    std::fs::write(target, synced.clone().unwrap_or(lost)).unwrap();
                }
            }
        }
    }
}
