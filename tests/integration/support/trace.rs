//! What a process did to its files, as `strace` saw it.
//!
//! Owns running strace and understanding its lines. Does not own what the calls mean for the disk
//! (`disk_model`). A call that begins in one line and returns in another is put together again: the two moments
//! are told apart, because a sync makes durable what was there when it began, and counts once it has returned.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The calls that change files or names, or make them durable. Those that this store does not make are here so that
/// a store that begins to make them is noticed.
const CALLS: &str = "openat,open,creat,write,writev,pwrite64,pwritev,pwritev2,lseek,fsync,fdatasync,syncfs,\
                     sync_file_range,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,\
                     mkdir,mkdirat,rmdir,truncate,ftruncate,fallocate,copy_file_range,sendfile,splice";

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A file was opened for writing, and created if it was not there.
    Opened(PathBuf),
    Moved(PathBuf, u64),
    Wrote(PathBuf, Vec<u8>),
    /// A sync began, by its number.
    SyncBegan(usize, PathBuf),
    SyncEnded(usize),
    Renamed(PathBuf, PathBuf),
    Linked(PathBuf, PathBuf),
    Unlinked(PathBuf),
    MadeDirectory(PathBuf),
    RemovedDirectory(PathBuf),
    /// Written to a pipe, as the standard output is.
    Said(String),
}

/// Whether there is an strace that may trace.
pub(crate) fn is_possible() -> bool {
    Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What comes before a command to have its trace in the file `output`.
pub(crate) fn command(output: &str) -> Vec<String> {
    let filter = format!("trace={CALLS}");
    // All strings in hexadecimal: then commas and brackets are strace's own.
    [
        "strace", "-f", "-y", "-xx", "-s", "99999999", "-e", &filter, "-o", output,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The events of a trace, in order, of the files below `root` and of pipes.
pub(crate) fn events(trace: &str, root: &str) -> Vec<Event> {
    let mut begun: HashMap<&str, (String, Option<usize>)> = HashMap::new();
    let mut events = Vec::new();
    let mut syncs = 0;
    for line in trace.lines() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(text) = rest.strip_suffix(" <unfinished ...>") {
            let sync = begin_sync(text, root, &mut syncs, &mut events);
            begun.insert(pid, (text.to_owned(), sync));
            continue;
        }
        let (text, sync) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (_, end) = resumed.split_once(" resumed>").unwrap();
                let (start, sync) = begun.remove(pid).unwrap();
                (start + end, sync)
            }
            None => (
                rest.to_owned(),
                begin_sync(rest, root, &mut syncs, &mut events),
            ),
        };
        match sync {
            Some(number) if succeeded(&text) => events.push(Event::SyncEnded(number)),
            Some(_) => {}
            None => events.extend(Call::parse(&text).and_then(|call| call.event(root))),
        }
    }
    events
}

fn succeeded(text: &str) -> bool {
    text.rsplit_once(" = ")
        .is_some_and(|(_, result)| !result.trim().starts_with('-'))
}

fn begin_sync(text: &str, root: &str, syncs: &mut usize, events: &mut Vec<Event>) -> Option<usize> {
    let of = text
        .strip_prefix("fsync(")
        .or_else(|| text.strip_prefix("fdatasync("))?;
    let path = described(of)?;
    if !path.starts_with(root) {
        return None;
    }
    *syncs += 1;
    events.push(Event::SyncBegan(*syncs, PathBuf::from(path)));
    Some(*syncs)
}

/// A call that has returned without an error.
struct Call<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
    result: &'a str,
}

impl<'a> Call<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (call, result) = text.rsplit_once(" = ")?;
        if result.starts_with(['-', '?']) {
            return None;
        }
        let (name, arguments) = call.split_once('(')?;
        let arguments = arguments.trim_end().strip_suffix(')')?;
        Some(Self {
            name,
            arguments: arguments.split(", ").map(str::trim).collect(),
            result,
        })
    }

    fn path(&self, argument: usize) -> String {
        String::from_utf8(quoted(self.arguments[argument])).unwrap()
    }

    fn event(&self, root: &str) -> Option<Event> {
        let below = |path: String| path.starts_with(root).then(|| PathBuf::from(path));
        match self.name {
            "openat" => {
                let flags = self.arguments[2];
                let writes = flags.contains("O_WRONLY") || flags.contains("O_RDWR");
                let path = below(self.path(1)).filter(|_| writes)?;
                assert!(!flags.contains("O_TRUNC") && !flags.contains("O_APPEND"));
                Some(Event::Opened(path))
            }
            "lseek" => {
                let path = below(described(self.arguments[0])?)?;
                Some(Event::Moved(path, self.result.trim().parse().unwrap()))
            }
            "write" => {
                let mut bytes = quoted(self.arguments[1]);
                bytes.truncate(self.result.trim().parse().unwrap());
                let path = described(self.arguments[0])?;
                if path.starts_with("pipe:") {
                    return Some(Event::Said(String::from_utf8_lossy(&bytes).into_owned()));
                }
                Some(Event::Wrote(below(path)?, bytes))
            }
            "rename" => Some(Event::Renamed(below(self.path(0))?, below(self.path(1))?)),
            "renameat" | "renameat2" => {
                Some(Event::Renamed(below(self.path(1))?, below(self.path(3))?))
            }
            "link" => Some(Event::Linked(below(self.path(0))?, below(self.path(1))?)),
            "linkat" => Some(Event::Linked(below(self.path(1))?, below(self.path(3))?)),
            "unlink" => Some(Event::Unlinked(below(self.path(0))?)),
            "unlinkat" => Some(Event::Unlinked(below(self.path(1))?)),
            "mkdir" => Some(Event::MadeDirectory(below(self.path(0))?)),
            "mkdirat" => Some(Event::MadeDirectory(below(self.path(1))?)),
            "rmdir" => Some(Event::RemovedDirectory(below(self.path(0))?)),
            "fsync" | "fdatasync" => None,
            other => {
                let about = |text: &&str| {
                    let name = described(text)
                        .unwrap_or_else(|| String::from_utf8_lossy(&quoted(text)).into_owned());
                    name.starts_with(root)
                };
                assert!(!self.arguments.iter().any(about), "not modelled: {other}");
                None
            }
        }
    }
}

/// The file of a descriptor: `7<\x2f\x74>`.
fn described(text: &str) -> Option<String> {
    let (_, path) = text.split_once('<')?;
    let (path, _) = path.split_once('>')?;
    let path = String::from_utf8_lossy(&hexadecimal(path)).into_owned();
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned())
}

/// The bytes of a string: `"\x2f\x74"`.
fn quoted(text: &str) -> Vec<u8> {
    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    text.map(hexadecimal).unwrap_or_default()
}

fn hexadecimal(text: &str) -> Vec<u8> {
    text.split("\\x")
        .skip(1)
        .map(|byte| u8::from_str_radix(byte.get(..2).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn lines_of_strace_are_understood() {
    let trace = "7 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x72\\x2f\\x61\", O_RDWR|O_CREAT|O_EXCL, 0666) = 9<\\x2f\\x72\\x2f\\x61>\n\
                 7 write(9<\\x2f\\x72\\x2f\\x61>, \"\\x68\\x69\", 2) = 2\n\
                 7 fsync(9<\\x2f\\x72\\x2f\\x61> <unfinished ...>\n\
                 8 unlink(\"\\x2f\\x72\\x2f\\x62\") = -1 ENOENT (No such file or directory)\n\
                 8 linkat(AT_FDCWD<\\x2f>, \"\\x2f\\x72\\x2f\\x61\", AT_FDCWD<\\x2f>, \"\\x2f\\x72\\x2f\\x63\", 0) = 0\n\
                 7 <... fsync resumed>) = 0\n\
                 7 fsync(3<\\x2f\\x72>) = -1 EIO (Input/output error)\n\
                 7 write(1<\\x70\\x69\\x70\\x65\\x3a>, \"\\x6f\\x6b\", 2) = 2\n\
                 7 +++ exited with 0 +++\n";
    let a = || PathBuf::from("/r/a");
    assert_eq!(
        events(trace, "/r"),
        [
            Event::Opened(a()),
            Event::Wrote(a(), b"hi".to_vec()),
            Event::SyncBegan(1, a()),
            Event::Linked(a(), "/r/c".into()),
            Event::SyncEnded(1),
            Event::SyncBegan(2, "/r".into()),
            Event::Said("ok".into()),
        ]
    );
}
