//! The public surface is what tests/public-api.txt says: a change of it is a decision, not an accident.
//!
//! `.ci/run` has rustdoc describe the crate as JSON and names the file in `SUPERTABLE_RUSTDOC_JSON`; without it there is
//! nothing to compare. `SUPERTABLE_BLESS_API=1` writes the file anew.

use std::path::Path;

const TYPES_OF_OTHERS: [&str; 6] = [
    "roaring::",
    "postcard::",
    "serde_json::",
    "parquet::",
    "uuid::",
    "datafusion_supertable::unstable",
];

#[test]
fn the_public_surface_is_the_one_that_was_decided() {
    let Some(json) = std::env::var_os("SUPERTABLE_RUSTDOC_JSON") else {
        eprintln!("skipped: SUPERTABLE_RUSTDOC_JSON names no description of the crate");
        return;
    };
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap();
    let found: String = api.items().map(|item| format!("{item}\n")).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public-api.txt");
    if std::env::var_os("SUPERTABLE_BLESS_API").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let decided = std::fs::read_to_string(&file).unwrap();
    for (decided, found) in decided.lines().zip(found.lines()) {
        assert_eq!(decided, found, "the public surface has changed");
    }
    assert_eq!(decided.lines().count(), found.lines().count());
    for foreign in TYPES_OF_OTHERS {
        let leaks: Vec<_> = found.lines().filter(|l| l.contains(foreign)).collect();
        assert!(leaks.is_empty(), "{foreign} is in {leaks:#?}");
    }
}
