//! Random programs: each statement changes exactly the rows for which its predicate is true.
//!
//! What is true says an oracle that evaluates predicates row by row, subqueries by definition, without the
//! optimiser (see `oracle`); for what SQLite understands in the same way, the oracle itself is compared
//! with SQLite. One statement in three is prepared. Sessions have all settings that change plans flipped
//! at random, tables are written with all options and changed in many ways before.
//!
//! - `SUPERTABLE_SOUNDNESS_SEED`: the seed of the first program (a failure prints its own).
//! - `SUPERTABLE_SOUNDNESS_PROGRAMS`: how many programs to run, with consecutive seeds.
//! - `SUPERTABLE_SOUNDNESS_STATEMENTS`: how many statements a program checks.
//! - `SUPERTABLE_SOUNDNESS_REDUCE`: a failing statement is made small, which takes a while.
//! - `SUPERTABLE_SOUNDNESS_VERBOSE`: why statements were skipped.
//!
//! The long form: `SUPERTABLE_SOUNDNESS_STATEMENTS=6 SUPERTABLE_SOUNDNESS_PROGRAMS=20000 cargo test --features cli --test integration soundness -- --nocapture`.
//! It prints how many statements ran, and what was refused, with the message.
//!
//! A `SELECT` that is wrong in the same way over tables in memory is DataFusion's own, and counted only.
//!
//! Not generated, because it has no one answer: sums of floats, `LIMIT` without a total order, floats as
//! groups, equality of floats in subqueries.

mod expected;
mod exprs;
mod layout;
mod oracle;
mod predicates;
mod program;
mod queries;
mod random;
mod reduce;
mod rows;
mod settings;
mod simplify;
mod sqlite;
mod statement;
mod types;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const DEFAULT_SEED: u64 = 1;
const DEFAULT_PROGRAMS: u64 = 300;
const DEFAULT_STATEMENTS: u64 = 2;

#[test]
fn statements_change_exactly_the_rows_that_their_predicates_name() {
    let first = from_environment("SUPERTABLE_SOUNDNESS_SEED", DEFAULT_SEED);
    let programs = from_environment("SUPERTABLE_SOUNDNESS_PROGRAMS", DEFAULT_PROGRAMS);
    let statements = from_environment("SUPERTABLE_SOUNDNESS_STATEMENTS", DEFAULT_STATEMENTS);
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let tally = Mutex::new(BTreeMap::<String, u64>::new());
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..workers.min(8) {
            let worker = std::thread::Builder::new().stack_size(16 << 20);
            let run = || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + programs {
                        return;
                    }
                    let mut counts = BTreeMap::new();
                    if let Err(failure) = program::run(seed, statements, &mut counts) {
                        eprintln!("{failure}");
                        failures.lock().unwrap().push(failure);
                    }
                    let mut tally = tally.lock().unwrap();
                    for (what, n) in counts {
                        *tally.entry(what).or_default() += n;
                    }
                }
            };
            worker.spawn_scoped(scope, run).unwrap();
        }
    });
    let tally = tally.into_inner().unwrap();
    for (what, n) in &tally {
        println!("{n:6} {what}");
    }
    let count = |what: &str| -> u64 {
        let matching = tally.iter().filter(|(name, _)| name.starts_with(what));
        matching.map(|(_, n)| n).sum()
    };
    let (tried, ran) = (count("tried"), count("ran"));
    println!("{ran} of {tried} statements ran and were compared");
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {programs} programs are wrong, for example: {}",
        failures.len(),
        failures[0]
    );
}

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
        Err(_) => default,
    }
}
