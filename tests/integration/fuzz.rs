//! Every decoder and parser, on the committed corpus and on mutations of it: none panics, and none takes
//! more memory than a multiple of what it reads.
//!
//! The targets are those of `cargo fuzz` (`tests/fuzz`). Here they run on a stable compiler, from seeds:
//! a failing input is written to the temporary directory, and belongs into the corpus.
//!
//! ```text
//! SUPERTABLE_FUZZ_SECONDS=600 SUPERTABLE_FUZZ_SEED=1 cargo test --features cli --test integration fuzz
//! ```

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Once;
use std::time::{Duration, Instant};

use datafusion_supertable::unstable::fuzzing::TARGETS;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::allocations::most_taken;

/// Mutations of each target's corpus in an ordinary run.
const MUTATIONS: u64 = 3000;

/// The longest input.
const LONGEST: usize = 1 << 16;

/// A target may take so many times the length of its input …
const TIMES: usize = 400;
/// … and so much beside it: serde reserves up to 1 MiB for a sequence, and types lie in each other.
const BESIDE: usize = 4 << 20;

fn corpus_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn corpus() -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut corpus = BTreeMap::new();
    for folder in fs::read_dir(corpus_directory()).unwrap() {
        let folder = folder.unwrap();
        let mut files: Vec<PathBuf> = fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        let inputs = files.iter().map(|file| fs::read(file).unwrap()).collect();
        corpus.insert(folder.file_name().into_string().unwrap(), inputs);
    }
    corpus
}

/// One input made of the others.
fn mutated(inputs: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = inputs[random.random_range(0..inputs.len())].clone();
    for _ in 0..random.random_range(1..=4) {
        let length = input.len();
        let at = random.random_range(0..=length);
        let end = random.random_range(at..=length.min(at + 64));
        match random.random_range(0..9) {
            0 if length > 0 => input[at.min(length - 1)] ^= 1 << random.random_range(0..8),
            1 if length > 0 => input[at.min(length - 1)] = random.random(),
            // Lengths that lie: the greatest, and those next to it.
            2 => {
                for byte in &mut input[at..end.min(at + random.random_range(1..=8))] {
                    *byte = 0xff;
                }
            }
            3 if at + 4 <= length => {
                let lie: u32 = [u32::MAX, i32::MAX as u32, 1 << 30, 1 << 24, length as u32]
                    [random.random_range(0..5)];
                input[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            }
            4 => input.truncate(at),
            5 => drop(input.drain(at..end)),
            6 => {
                let piece = input[at..end].to_vec();
                let to = random.random_range(0..=length);
                input.splice(to..to, piece);
            }
            7 => {
                let other = &inputs[random.random_range(0..inputs.len())];
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let noise: Vec<u8> = (0..random.random_range(1..16))
                    .map(|_| random.random())
                    .collect();
                input.splice(at..at, noise);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

/// Runs a target; what is wrong, if something is.
fn wrong(target: fn(&[u8]), input: &[u8]) -> Option<String> {
    let run = || catch_unwind(AssertUnwindSafe(|| target(input)));
    let (outcome, most) = most_taken(run);
    if outcome.is_err() {
        return Some("it panicked".to_owned());
    }
    let allowed = BESIDE + TIMES * input.len();
    (most > allowed).then(|| format!("it took {most} bytes for an input of {}", input.len()))
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Panics on this thread print nothing from here on. Arrow's decoder panics, which our codec catches; to print
/// where it did would take more memory than any decoder, if backtraces are on.
fn be_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let other = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.with(Cell::get) {
                other(panic);
            }
        }));
    });
    QUIET.with(|quiet| quiet.set(true));
}

#[test]
fn no_decoder_panics_or_takes_more_memory_than_its_input_explains() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let seed = number("SUPERTABLE_FUZZ_SEED").unwrap_or(1);
    let seconds = number("SUPERTABLE_FUZZ_SECONDS").map(Duration::from_secs);
    let corpus = corpus();
    be_quiet();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for name in corpus.keys() {
        assert!(
            names.contains(&name.as_str()),
            "no target has the corpus {name}"
        );
    }
    let begin = Instant::now();
    let mut executions = 0_u64;
    for (at, (name, target)) in TARGETS.iter().enumerate() {
        let inputs = corpus.get(*name).filter(|inputs| !inputs.is_empty());
        let mut inputs = inputs
            .unwrap_or_else(|| panic!("{name} has no corpus"))
            .clone();
        let mut random = StdRng::seed_from_u64(seed);
        let given = inputs.clone();
        let deadline = seconds.map(|all| all * (at as u32 + 1) / TARGETS.len() as u32);
        for round in 0_u64.. {
            let input = match given.get(round as usize) {
                Some(input) => input.clone(),
                None => mutated(&inputs, &mut random),
            };
            if let Some(what) = wrong(*target, &input) {
                QUIET.with(|quiet| quiet.set(false));
                let file = std::env::temp_dir().join(format!("fuzz-{name}-{seed}-{round}"));
                fs::write(&file, &input).unwrap();
                panic!(
                    "{name}, seed {seed}, round {round}: {what}; see {}",
                    file.display()
                );
            }
            executions += 1;
            // Some mutations are the ground for further ones.
            if inputs.len() < 64 && random.random_ratio(1, 20) {
                inputs.push(input);
            }
            let done = match deadline {
                Some(deadline) => begin.elapsed() >= deadline,
                None => round >= MUTATIONS,
            };
            if done {
                break;
            }
        }
    }
    eprintln!(
        "{executions} executions of {} targets, seed {seed}",
        TARGETS.len()
    );
}
