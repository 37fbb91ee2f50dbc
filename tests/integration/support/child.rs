//! Child processes of a test: this test binary again, running one function.
//!
//! A *role* is a function that a child runs. To add one, write `fn(&Args)` in a test module and list
//! it in [`ROLES`]; start it with [`Child::spawn`]. How it works: the child runs the ignored test
//! [`runs_a_role`], which finds the role's name and arguments in environment variables. What the role
//! reports with [`report`] comes back line by line. A role that panics makes the child fail, and
//! [`Child::finish`] then panics with what the child wrote to its error output.
//!
//! Children never outlive the test process: each watches its standard input and exits when it closes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

/// What a child runs.
type Role = fn(&Args);

/// Every role a child can have.
const ROLES: &[(&str, Role)] = &[
    ("concurrent: write", crate::concurrent::write_in_a_process),
    ("kill: run SQL", super::kill::run_sql),
    (
        "power cut: run statements",
        crate::power_cut::run_statements,
    ),
    (
        "overload: many files",
        crate::overload::use_a_table_of_many_files,
    ),
    (
        "storage: add to a counter",
        crate::storage::add_to_a_counter,
    ),
    ("renames: rename", crate::renames::rename_in_a_process),
    ("storage: create objects", crate::storage::create_objects),
    (
        "storage: write until killed",
        crate::storage::write_until_killed,
    ),
];

const ROLE: &str = "SUPERTABLE_TEST_ROLE";
const ARGUMENTS: &str = "SUPERTABLE_TEST_ARGUMENTS";
const PREFIX: &str = "child reports: ";

/// The arguments of a role, in the order given to [`Child::spawn`].
pub(crate) struct Args(Vec<String>);

impl Args {
    pub(crate) fn text(&self, index: usize) -> &str {
        &self.0[index]
    }

    pub(crate) fn number(&self, index: usize) -> usize {
        self.0[index].parse().unwrap()
    }
}

/// Sends a line from a child to its parent.
pub(crate) fn report(line: impl std::fmt::Display) {
    // In one write, so that a kill cannot cut it in the middle.
    let line = format!("\n{PREFIX}{line}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// A running child.
pub(crate) struct Child {
    process: std::process::Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    // The child exits when this closes.
    _alive: ChildStdin,
}

impl Child {
    /// Starts a child in the role `role`.
    pub(crate) fn spawn<A: ToString>(role: &str, arguments: &[A]) -> Self {
        Self::spawn_below(&[], role, arguments)
    }

    /// The same, with at most so many open files.
    pub(crate) fn spawn_with_files<A: ToString>(files: u32, role: &str, arguments: &[A]) -> Self {
        let limit = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        Self::spawn_below(&["sh".to_owned(), "-c".to_owned(), limit], role, arguments)
    }

    /// As [`spawn`](Self::spawn), as the child of a command that runs a command, such as a tracer.
    pub(crate) fn spawn_below<A: ToString>(below: &[String], role: &str, arguments: &[A]) -> Self {
        assert!(
            ROLES.iter().any(|(name, _)| *name == role),
            "no role {role}"
        );
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let mut command = below.to_vec();
        command.push(std::env::current_exe().unwrap().display().to_string());
        let mut process = Command::new(&command[0])
            .args(&command[1..])
            .args([
                "support::child::runs_a_role",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(ROLE, role)
            .env(ARGUMENTS, serde_json::to_string(&arguments).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            lines: BufReader::new(process.stdout.take().unwrap()).lines(),
            _alive: process.stdin.take().unwrap(),
            process,
        }
    }

    /// The next line that the child reports; `None` once it has ended.
    pub(crate) fn next_report(&mut self) -> Option<String> {
        for line in self.lines.by_ref() {
            if let Some(report) = line.unwrap().strip_prefix(PREFIX) {
                return Some(report.to_owned());
            }
        }
        None
    }

    /// Waits until the child ends well; the lines that it still reports.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let mut reports = Vec::new();
        while let Some(report) = self.next_report() {
            reports.push(report);
        }
        let status = self.process.wait().unwrap();
        if !status.success() {
            let mut errors = String::new();
            let mut stderr = self.process.stderr.take().unwrap();
            stderr.read_to_string(&mut errors).unwrap();
            panic!("a child failed with {status}: {errors}");
        }
        reports
    }

    /// Kills the child as a power switch would, and returns the lines that it had reported.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        let mut reports = Vec::new();
        while let Some(report) = self.next_report() {
            reports.push(report);
        }
        self.process.wait().unwrap();
        reports
    }
}

#[test]
#[ignore = "only children run this"]
fn runs_a_role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let arguments = serde_json::from_str(&std::env::var(ARGUMENTS).unwrap()).unwrap();
    let (_, run) = ROLES.iter().find(|(name, _)| *name == role).unwrap();
    run(&Args(arguments));
}
