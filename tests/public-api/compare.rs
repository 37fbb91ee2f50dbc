//! The public surface is what `tests/public-api.txt` says: a change of it is a decision, not an accident.
//!
//! `public-api RUSTDOC.json EXPECTED.txt` compares; with a third argument, `write`, it writes the file anew. `.ci/run`
//! has rustdoc describe the crate as JSON first (`tests/rustdoc-json.sh`).

use std::process::ExitCode;

/// Crates whose types are nobody's business but ours.
const HIDDEN: [&str; 6] = [
    "roaring::",
    "postcard::",
    "serde_json::",
    "parquet::",
    "uuid::",
    "::unstable",
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [json, expected, rest @ ..] = args.as_slice() else {
        eprintln!("usage: public-api RUSTDOC.json EXPECTED.txt [write]");
        return ExitCode::FAILURE;
    };
    match compare(
        json,
        expected,
        rest.first().is_some_and(|word| word == "write"),
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn compare(json: &str, expected: &str, write: bool) -> Result<(), String> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .map_err(|error| format!("{json}: {error}"))?;
    let found: Vec<String> = api.items().map(ToString::to_string).collect();
    for line in &found {
        if let Some(of) = HIDDEN.iter().find(|of| line.contains(*of)) {
            return Err(format!("a type of {of} is public: {line}"));
        }
    }
    if write {
        let text = found.join("\n") + "\n";
        return std::fs::write(expected, text).map_err(|error| format!("{expected}: {error}"));
    }
    let decided =
        std::fs::read_to_string(expected).map_err(|error| format!("{expected}: {error}"))?;
    let decided: Vec<&str> = decided.lines().collect();
    let gone = decided
        .iter()
        .filter(|line| !found.iter().any(|f| f == *line))
        .map(|l| format!("- {l}"));
    let new = found
        .iter()
        .filter(|line| !decided.contains(&line.as_str()))
        .map(|l| format!("+ {l}"));
    let changes: Vec<String> = gone.chain(new).collect();
    match changes.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "the public surface differs from {expected}:\n{}",
            changes.join("\n")
        )),
    }
}
