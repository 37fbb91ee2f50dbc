//! Random programs, one for each seed, run by as many threads as there are cores.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often each thing happened.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Plans of random statements nest deeply.
const STACK_BYTES: usize = 16 << 20;

/// Runs `program` for the seeds from `first` on, prints what it counted, and returns it.
///
/// # Panics
/// A program failed; the message is that of the first failure, all of them are printed.
pub(crate) fn run_programs(
    first: u64,
    programs: u64,
    program: impl Fn(u64, &mut Counts) -> Result<(), String> + Sync,
) -> Counts {
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let tally = Mutex::new(Counts::new());
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..workers.min(8) {
            let run = || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + programs {
                        return;
                    }
                    let mut counts = Counts::new();
                    if let Err(failure) = program(seed, &mut counts) {
                        eprintln!("{failure}");
                        failures.lock().unwrap().push(failure);
                    }
                    let mut tally = tally.lock().unwrap();
                    for (what, n) in counts {
                        *tally.entry(what).or_default() += n;
                    }
                }
            };
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, run)
                .unwrap();
        }
    });
    let tally = tally.into_inner().unwrap();
    for (what, n) in &tally {
        println!("{n:6} {what}");
    }
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {programs} programs failed, for example: {}",
        failures.len(),
        failures[0]
    );
    tally
}

/// The number in an environment variable.
pub(crate) fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
        Err(_) => default,
    }
}
