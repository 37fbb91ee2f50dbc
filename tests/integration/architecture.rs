//! The rules of the source tree that the compiler does not check: which layer may use which, what
//! a pure file may not do, and how large and how shaped a file may be.

use std::path::{Path, PathBuf};

/// The layers from left to right; a file uses its own layer and those to its left.
const LAYERS: [&str; 9] = [
    "storage",
    "wal",
    "table",
    "scan",
    "dml",
    "sql",
    "api",
    "distributed",
    "cli",
];

/// Modules at the crate's root that every layer may use.
const COMMON: [&str; 2] = ["error", "config"];

/// The longest file, tests aside.
const LONGEST_FILE: usize = 600;

/// Files, or the folders and files beginning so, of pure decisions, beside everything in `format/`.
const PURE: [&str; 16] = [
    "wal/lease.",
    "wal/machine.",
    "table/apply",
    "table/commit/election.",
    "table/commit/turn.",
    "table/schema/",
    "table/compaction/plan",
    "table/superfile/encoding",
    "table/superfile/footer.",
    "table/vacuum/plan",
    "table/version/descent.",
    "table/version/diff.",
    "table/version/moment.",
    "scan/read/columns.",
    "scan/plan/prune.",
    "scan/tombstones/selection.",
];

/// What a pure file may not mention: I/O, clocks, randomness, waiting.
const IMPURE: [&str; 16] = [
    "async fn",
    ".await",
    "tokio::",
    "std::fs",
    "std::net",
    "std::env",
    "std::time::Instant",
    "SystemTime",
    "Instant::now",
    "Utc::now",
    "Local::now",
    "rand::",
    "new_v4",
    "now_v7",
    "thread::",
    "ObjectStore",
];

/// A source file: its path below `src/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The text without its unit tests, which come last in a file.
    fn code(&self) -> &str {
        let end = self
            .text
            .find("\n#[cfg(test)]\n")
            .unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// The code without comments, strings left as they are.
    fn statements(&self) -> String {
        self.code()
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The layer, or the root module, that the file belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }
}

/// Every source file but those of unit tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    source_texts(&root)
        .into_iter()
        .map(|(path, text)| Source { path, text })
        .collect()
}

/// The paths and texts of the files below `root` that are not unit tests.
pub(crate) fn source_texts(root: &Path) -> Vec<(String, String)> {
    fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    collect(root, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let below = path.strip_prefix(root).unwrap().to_string_lossy();
            let text = std::fs::read_to_string(&path).unwrap();
            (below.replace('\\', "/"), text)
        })
        .filter(|(path, _)| !is_test(path))
        .collect()
}

/// Whether the whole file is unit tests.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs")
}

/// `format` and `storage` stand side by side at the left end.
fn rank(module: &str) -> Option<usize> {
    let module = if module == "format" {
        "storage"
    } else {
        module
    };
    LAYERS.iter().position(|layer| *layer == module)
}

fn may_use(user: &str, used: &str) -> bool {
    if user == used || COMMON.contains(&used) {
        return true;
    }
    // The options take their limits from the formats.
    if user == "config" && used == "format" {
        return true;
    }
    match (rank(user), rank(used)) {
        // Neighbours at the left end know nothing of each other.
        (Some(0), Some(0)) => false,
        (Some(user), Some(used)) => used < user,
        // The crate's root and its binaries see everything; nothing else sees the root's rest.
        _ => rank(user).is_none() && !COMMON.contains(&user),
    }
}

/// The root modules that `crate::…` paths in the code name; a group counts each of its members.
fn modules_used(statements: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in statements.match_indices("crate::") {
        let before = statements[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') || before == Some('$') {
            continue;
        }
        let rest = &statements[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            used.extend(top_level_names(group));
        } else {
            used.push(name_at(rest));
        }
    }
    used
}

fn name_at(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// The first name of each member of a `{a::b, c::{d, e}}` group, from behind its opening brace.
fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut members) = (0_i32, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members
        .into_iter()
        .map(|m| name_at(m.trim()))
        .filter(|m| !m.is_empty())
        .collect()
}

#[test]
fn a_layer_uses_only_itself_and_layers_to_its_left() {
    let mut wrong = Vec::new();
    for source in sources() {
        let user = source.module();
        if matches!(user, "lib" | "unstable" | "bin") {
            continue;
        }
        for used in modules_used(&source.statements()) {
            // A capital names an item that the root re-exports: its home module is the way to it.
            let known = rank(&used).is_some() || COMMON.contains(&used.as_str());
            let root_function =
                matches!(used.as_str(), "register" | "wait_for_background_work") && user == "cli";
            if !root_function && (!known || !may_use(user, &used)) {
                wrong.push(format!("src/{} uses crate::{used}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn relative_paths_do_not_leave_their_layer() {
    let mut wrong = Vec::new();
    for source in sources() {
        let mut depth = source.path.matches('/').count();
        if source.path.ends_with("/mod.rs") {
            depth -= 1;
        }
        let too_far = format!("{}super::", "super::".repeat(depth));
        if !matches!(source.module(), "lib" | "bin") && source.statements().contains(&too_far) {
            wrong.push(source.path);
        }
    }
    assert!(
        wrong.is_empty(),
        "these climb out of their layer with super:: {wrong:#?}"
    );
}

#[test]
fn formats_and_decisions_are_pure() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.module() != "format" && !PURE.iter().any(|pure| source.path.starts_with(pure)) {
            continue;
        }
        let statements = source.statements();
        for word in IMPURE {
            if statements.contains(word) {
                wrong.push(format!("src/{} mentions {word}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = sources()
        .iter()
        .map(|s| (s.code().lines().count(), &s.path))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, path)| format!("src/{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_file_opens_with_its_purpose() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|s| !s.text.starts_with("//!"))
        .map(|s| s.path)
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn a_module_root_holds_only_documentation_and_re_exports() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.path.ends_with("mod.rs")) {
        for item in source.statements().split(';') {
            let mut item = item.trim();
            while item.starts_with("#[") {
                item = item.split_once(']').map_or("", |(_, rest)| rest.trim());
            }
            let item = match item.strip_prefix("pub") {
                Some(rest) if rest.starts_with('(') => rest.split_once(')').unwrap().1,
                Some(rest) => rest,
                None => item,
            };
            let item = item.trim_start();
            if !item.is_empty() && !item.starts_with("mod ") && !item.starts_with("use ") {
                wrong.push(format!(
                    "src/{}: {}",
                    source.path,
                    item.lines().next().unwrap()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_scanner_finds_what_it_looks_for() {
    let code = "use crate::{table::{Table, Snapshot}, error::Error};\nfn f(x: crate::wal::Id) {}";
    assert_eq!(modules_used(code), ["table", "error", "wal"]);
    assert!(may_use("wal", "format") && may_use("cli", "storage") && may_use("dml", "error"));
    assert!(!may_use("format", "storage") && !may_use("wal", "table") && !may_use("error", "wal"));
}
