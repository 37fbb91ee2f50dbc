//! Deterministic simulation: all parts of the protocol at once, on a store and on machines that break in every way.
//!
//! placeholder

mod checker;
mod clock;
mod history;
mod model;
mod process;
mod statements;
mod store;
mod weather;
mod wire;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::history::{Report, live};
use self::store::{Counts, Sabotage};

/// Histories that a plain test run lives through.
const HISTORIES: u64 = 1_500;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

fn print(totals: &BTreeMap<&'static str, u64>) {
    for (what, times) in totals {
        println!("{times:>12} {what}");
    }
}

fn tell(report: &Report) {
    println!("seed {}:", report.seed);
    for violation in &report.violations {
        println!("  {violation}");
    }
}

/// Lives through histories on some threads, until so many were found to break a promise.
fn live_through(first: u64, histories: u64, threads: u64) -> (Counts, Vec<Report>) {
    let next = AtomicU64::new(first);
    let result = Mutex::new((Counts::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + histories {
                        return;
                    }
                    let report = live(seed, None, false);
                    let mut result = result.lock().unwrap();
                    let (totals, failed) = &mut *result;
                    *totals.entry("histories").or_default() += 1;
                    for (what, times) in &report.counts {
                        *totals.entry(what).or_default() += times;
                    }
                    if !report.violations.is_empty() {
                        tell(&report);
                        failed.push(report);
                        if failed.len() >= 20 {
                            return;
                        }
                    }
                }
            });
        }
    });
    result.into_inner().unwrap()
}

#[test]
fn every_history_keeps_every_promise() {
    let first = number("SUPERTABLE_SIMULATION_SEED", 1);
    let histories = number("SUPERTABLE_SIMULATION_HISTORIES", HISTORIES);
    let threads = number("SUPERTABLE_SIMULATION_THREADS", 2);
    let start = std::time::Instant::now();
    let (mut totals, failed) = live_through(first, histories, threads);
    totals.insert("violations", failed.len() as u64);
    print(&totals);
    println!(
        "seeds {first} to {}: {:?}",
        first + histories - 1,
        start.elapsed()
    );
    let log = std::env::var("SUPERTABLE_SIMULATION_LOG").is_ok();
    if let Some(seed) = failed
        .first()
        .map(|report| report.seed)
        .or(log.then_some(first))
    {
        for line in &live(seed, None, true).log {
            println!("{line}");
        }
    }
    assert!(
        failed.is_empty(),
        "seeds {:?}",
        failed.iter().map(|f| f.seed).collect::<Vec<_>>()
    );
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1..=100 {
        let (one, other) = (live(seed, None, false), live(seed, None, true));
        assert_eq!(one.counts, other.counts, "seed {seed}");
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

#[test]
fn a_store_that_breaks_its_word_is_found_out() {
    for sabotage in [
        Sabotage::ReplacesBlindly,
        Sabotage::ForgetsObjects,
        Sabotage::CreatesTwice,
    ] {
        let found =
            (1..=200).filter(|seed| !live(*seed, Some(sabotage), false).violations.is_empty());
        let found = found.count();
        println!("{sabotage:?}: found in {found} of 200 histories");
        assert!(found > 0, "{sabotage:?} is not found");
    }
}
