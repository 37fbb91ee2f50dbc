//! Small inputs that once went wrong, each with its right output: `tests/cases/NN-name.sql` and `.expected`.
//!
//! A case runs in the command line (`supertable -q --format csv --maxrows inf -f`). In its script `__L__` is
//! a directory of its own, and a line `-- @session [flags]` begins another process. In what is expected
//! `!text` is a line of an error that contains the text, `~text` any line that contains it, and `...` any lines.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Begins another process, with flags of its own.
const SESSION: &str = "-- @session";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Runs one process; its output and its errors in the order in which they were written.
fn session(home: &Path, number: usize, flags: &str, script: &str) -> String {
    let path = home.join(format!("session{number}.sql"));
    fs::write(&path, script).unwrap();
    let output = home.join(format!("session{number}.out"));
    let file = File::create(&output).unwrap();
    Command::new(env!("CARGO_BIN_EXE_supertable"))
        .current_dir(home)
        // No start-up file and no credentials of whoever runs the tests.
        .env("HOME", home)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .args(["-q", "--format", "csv", "--maxrows", "inf"])
        .args(flags.split_whitespace())
        .arg("-f")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .status()
        .unwrap();
    String::from_utf8_lossy(&fs::read(&output).unwrap()).into_owned()
}

/// What the case `name` prints.
fn printed(name: &str) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let tables = home.path().join("tables");
    fs::create_dir(&tables).unwrap();
    let script = fs::read_to_string(directory().join(format!("{name}.sql"))).unwrap();
    let script = script.replace("__L__", tables.to_str().unwrap());
    let mut sessions = vec![(String::new(), String::new())];
    for line in script.lines() {
        match line.strip_prefix(SESSION) {
            Some(flags) => sessions.push((flags.to_owned(), String::new())),
            None => {
                let (_, text) = sessions.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    sessions
        .iter()
        .enumerate()
        .filter(|(_, (_, text))| !text.trim().is_empty())
        .flat_map(|(number, (flags, text))| {
            let output = session(home.path(), number, flags, text);
            output.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// Whether `lines` are what is `expected`.
fn matches(expected: &[&str], lines: &[String]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, line) => line.is_none(),
        (Some((&"...", rest)), line) => {
            matches(rest, lines) || line.is_some_and(|(_, behind)| matches(expected, behind))
        }
        (Some((wanted, rest)), Some((line, behind))) => {
            let fits = match wanted.strip_prefix(['!', '~']) {
                Some(part) => line.contains(part) && (!wanted.starts_with('!') || is_error(line)),
                None => line == wanted,
            };
            fits && matches(rest, behind)
        }
        (Some(_), None) => false,
    }
}

/// An error is a sentence with a colon behind its subject; a row of these cases has none.
fn is_error(line: &str) -> bool {
    line.contains(": ")
}

fn holds(name: &str) {
    let expected = fs::read_to_string(directory().join(format!("{name}.expected"))).unwrap();
    let lines = printed(name);
    assert!(
        matches(&expected.lines().collect::<Vec<_>>(), &lines),
        "{name}: expected\n{expected}\nbut got\n{}",
        lines.join("\n")
    );
}

/// A test for each case, and one that no case is forgotten.
macro_rules! cases {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                holds($name);
            }
        )*

        #[test]
        fn every_case_is_run() {
            let mut found: Vec<String> = fs::read_dir(directory())
                .unwrap()
                .filter_map(|entry| {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    name.strip_suffix(".sql").map(str::to_owned)
                })
                .collect();
            found.sort();
            assert_eq!(found, [$($name),*]);
        }
    };
}

cases! {
    names_of_columns_mean_the_same_in_every_statement: "01-merge-uppercase-columns",
    correlated_exists_over_aggregates_and_offset: "92-correlated-exists-over-aggregates-and-offset",
    casts_that_are_unwrapped: "93-casts-that-are-unwrapped",
    simplifications_that_forget_null: "94-simplifications-that-forget-null",
    order_by_limit_on_an_ordered_table: "95-order-by-limit-on-an-ordered-table",
    a_list_beside_is_null_with_filter_pushdown: "96-list-predicate-beside-is-null-with-filter-pushdown",
    the_change_feed_with_views_expanded: "97-change-feed-with-views-expanded-at-output",
    exclusive_or_and_casts: "98-xor-and-casts-delete-wrong-rows",
    alter_without_normalisation_of_names: "99-normalisation-off-and-alter",
}

#[test]
fn expected_lines_are_lines_parts_of_lines_or_any() {
    let lines: Vec<String> = ["n", "1", "Error: no id here", "x", "y"]
        .map(str::to_owned)
        .into();
    assert!(matches(&["n", "1", "!id", "..."], &lines));
    assert!(matches(&["...", "x", "~y"], &lines));
    assert!(matches(&["n", "...", "y"], &lines));
    assert!(!matches(&["n", "1", "!id", "x"], &lines));
    assert!(!matches(&["n", "1", "!no such", "..."], &lines));
    assert!(!matches(&["...", "!y"], &lines));
}
