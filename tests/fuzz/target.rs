//! One fuzz target for `cargo fuzz`: the one of `datafusion_supertable::unstable::fuzzing` that has the binary's name.
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz manifest_payload -- -max_total_time=600
//! ```
//!
//! The corpus is committed; what libFuzzer adds to it is not, unless it shows something new.
#![no_main]

use std::sync::LazyLock;

use datafusion_supertable::unstable::fuzzing::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    TARGETS
        .iter()
        .find(|(name, _)| *name == env!("CARGO_BIN_NAME"))
        .map(|(_, target)| *target)
        .expect("the crate has a target of this name")
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
