//! Processes that are killed by SIGKILL at a storage operation, on the local disk.
//!
//! A child opens a table by SQL, runs a statement, and says so when the statement was acknowledged. Its
//! session finds the table under a scheme of its own, so that every request of the protocol and of the
//! scans goes through a [`FaultStore`] around the real [`LocalStore`]. At the k-th request (before it,
//! in the middle of it, or after it took effect) the child reports where it is and stands still, and
//! the parent kills it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use datafusion_supertable::unstable::storage::LocalStore;
use tempfile::TempDir;
use url::Url;

use super::child::{Args, Child, report};
use super::disk::copy;
use super::fault_store::{Crash, FaultStore, Plan};
use super::session::{Session, Time, on_one_thread};
use super::sql::context;

/// Of the child: where its session finds the table.
const KILLED: &str = "killed://t/";
const ROLE: &str = "kill: run SQL";
/// Set, each operation of each statement is a point of death in three ways, and each one of a recovery.
const THOROUGH: &str = "SUPERTABLE_TEST_THOROUGH";

/// The ways to die at an operation.
pub(crate) const MOMENTS: [&str; 3] = ["before", "during", "after"];

/// Whether every operation is to be a point of death, in all ways.
pub(crate) fn thorough() -> bool {
    std::env::var_os(THOROUGH).is_some()
}

// The child.

/// Role: opens the table, runs statements, reports `acknowledged`; then every operation it made. At a
/// crash it reports `dying` and the operation instead.
pub(crate) fn run_sql(arguments: &Args) {
    let (dir, sql) = (arguments.text(0), arguments.text(1));
    let (at, nth) = (arguments.text(3), arguments.number(4) as u64);
    let crash = match arguments.text(2) {
        "before" => Some(Crash::Before(nth)),
        "during" => Some(Crash::During(nth)),
        "after" => Some(Crash::After(nth)),
        _ => None,
    };
    let time = match arguments.number(5) {
        0 => Time::Now,
        minutes => Time::Later(minutes as u32),
    };
    let plan = Plan::mortal(crash, at, |operation| {
        report(format!("dying {}", operation.describe()));
    });
    let store = FaultStore::new(Arc::new(LocalStore::new(dir).unwrap()), Arc::clone(&plan));
    on_one_thread(|| async {
        let ctx = context();
        ctx.register_object_store(&Url::parse(KILLED).unwrap(), Arc::new(store));
        let session = match arguments.text(6) {
            "catalog" => Session::catalog(ctx, KILLED),
            _ => Session::open(ctx, KILLED, time).await,
        };
        session.run_script(sql).await;
        report("acknowledged");
        session.settle().await;
    })
    .unwrap();
    for operation in plan.log() {
        report(format!("did {}", operation.describe()));
    }
}

// The parent.

/// What a child is to do, and where it is to be killed.
#[derive(Clone)]
pub(crate) struct Kill {
    /// Statements, between which there are semicolons.
    sql: String,
    time: Time,
    /// Whether the child has a catalog `lake` in the directory rather than a table `t`.
    catalog: bool,
    /// One of [`MOMENTS`]; or `never`.
    moment: &'static str,
    /// The description of the operation.
    at: String,
    /// Which of the operations so described, from 1.
    nth: usize,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.moment, self.at, self.nth)
    }
}

/// What is known of a child that has ended.
#[derive(Default)]
pub(crate) struct Death {
    /// Whether it came to the operation at which it was killed.
    pub killed: bool,
    pub acknowledged: bool,
    /// The operations of a child that came to its end.
    pub did: Vec<String>,
}

impl Kill {
    /// A child that nobody kills, and that judges others by `time`.
    pub(crate) fn never(sql: &str, time: Time) -> Self {
        Self {
            sql: sql.to_owned(),
            time,
            catalog: false,
            moment: "never",
            at: String::new(),
            nth: 0,
        }
    }

    /// As [`never`](Self::never), with the directory as a catalog.
    pub(crate) fn never_in_catalog(sql: &str) -> Self {
        Self {
            catalog: true,
            ..Self::never(sql, Time::Now)
        }
    }

    /// The same child, killed.
    pub(crate) fn at(&self, moment: &'static str, point: &(String, usize)) -> Self {
        Self {
            moment,
            at: point.0.clone(),
            nth: point.1,
            ..self.clone()
        }
    }

    /// The same child, which nobody kills.
    pub(crate) fn unharmed(&self) -> Self {
        self.at("never", &(String::new(), 0))
    }

    /// Carries it out; the child must come to where it is killed, unless that is a read: how many of
    /// those there are varies.
    pub(crate) fn carry_out_surely(&self, dir: &Path) -> Death {
        let death = self.carry_out(dir);
        assert!(
            death.killed || !changes_something(&self.at),
            "came to its end"
        );
        death
    }

    pub(crate) fn carry_out(&self, dir: &Path) -> Death {
        let minutes = match self.time {
            Time::Now => 0,
            Time::Later(minutes) => minutes,
        };
        let arguments = [
            dir.to_str().unwrap(),
            &self.sql,
            self.moment,
            &self.at,
            &self.nth.to_string(),
            &minutes.to_string(),
            if self.catalog { "catalog" } else { "table" },
        ];
        let mut child = Child::spawn(ROLE, &arguments);
        let mut death = Death::default();
        while let Some(line) = child.next_report() {
            death.hear(&line);
            if death.killed {
                // What it says until the signal arrives counts.
                child.kill().iter().for_each(|line| death.hear(line));
                return death;
            }
        }
        child.finish();
        assert!(death.acknowledged);
        death
    }

    /// Runs this child in a copy of `base`, unharmed. Its operations: description, and which of those
    /// so described.
    pub(crate) fn operations(&self, base: &Path) -> Vec<(String, usize)> {
        let dir = TempDir::new().unwrap();
        copy(base, dir.path());
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let operations = self.carry_out(dir.path()).did.into_iter();
        operations
            .map(|at| {
                let nth = seen.entry(at.clone()).or_default();
                *nth += 1;
                (at, *nth)
            })
            .collect()
    }

    /// This child, killed at its operations in the ways that `ways` chooses: by the operation's number, from
    /// 0 among those that change something or among those that do not, and by which it is. Thorough, at
    /// all operations and in all ways.
    pub(crate) fn everywhere(
        &self,
        base: &Path,
        ways: impl Fn(usize, bool) -> Vec<usize>,
    ) -> Vec<Self> {
        let mut kills = Vec::new();
        let mut numbers = [0, 0];
        for point in self.operations(base) {
            let changes = changes_something(&point.0);
            let number = &mut numbers[usize::from(changes)];
            let ways = match thorough() {
                true => vec![0, 1, 2],
                false => ways(*number, changes),
            };
            *number += 1;
            kills.extend(ways.into_iter().map(|way| self.at(MOMENTS[way], &point)));
        }
        kills
    }
}

/// At each operation that changes something, in one way.
pub(crate) fn one_way(i: usize, changes: bool) -> Vec<usize> {
    match changes {
        true => vec![i % 3],
        false => vec![],
    }
}

impl Death {
    fn hear(&mut self, line: &str) {
        if line == "acknowledged" {
            self.acknowledged = true;
        } else if line.starts_with("dying ") {
            self.killed = true;
        } else if let Some(operation) = line.strip_prefix("did ") {
            self.did.push(operation.to_owned());
        }
    }
}

/// Whether the operation so described changes anything.
pub(crate) fn changes_something(at: &str) -> bool {
    !["get ", "head ", "list "]
        .iter()
        .any(|read| at.starts_with(read))
}

/// Runs jobs, three at a time, each in a directory of its own; panics with all failures, each with the
/// directory that shows it.
pub(crate) fn run_all<J: Sync, T: Send>(
    jobs: &[J],
    describe: impl Fn(&J) -> String + Sync,
    run: impl AsyncFn(&J, &Path) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let (results, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::<String>::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let dir = TempDir::new().unwrap();
                    match on_one_thread(|| run(job, dir.path())) {
                        Ok(result) => results.lock().unwrap().push(result),
                        Err(panic) => {
                            let why = panic
                                .downcast_ref::<String>()
                                .cloned()
                                .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                            let dir = dir.keep();
                            let failure = format!("{} {why:?} {}", describe(job), dir.display());
                            failures.lock().unwrap().push(failure);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    results.into_inner().unwrap()
}
