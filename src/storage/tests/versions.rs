//! Versions and their text form.

use object_store::PutResult;
use proptest::prelude::*;

use crate::storage::ObjectVersion;

fn version(e_tag: Option<&str>, version: Option<&str>) -> ObjectVersion {
    ObjectVersion::from_put(&PutResult {
        e_tag: e_tag.map(str::to_owned),
        version: version.map(str::to_owned),
    })
}

#[test]
fn a_version_that_names_no_state_is_an_empty_token() {
    assert_eq!(version(None, None).token(), "");
    assert_eq!(ObjectVersion::parse_token(""), None);
}

#[test]
fn malformed_tokens_are_no_versions() {
    for token in [
        "x",
        "-:",
        ":",
        "5:abc",
        "3:abcx",
        "-:x",
        "99999999999999999999:a",
        "+3:abc",
        "03:abc",
        "1:é",
    ] {
        assert_eq!(ObjectVersion::parse_token(token), None, "{token}");
    }
}

#[test]
fn one_state_is_recognised_by_the_strongest_name_that_both_carry() {
    let full = version(Some("e"), Some("7"));
    assert!(full.same_state(&version(Some("e"), None)));
    assert!(full.same_state(&version(Some("other"), Some("7"))));
    assert!(!full.same_state(&version(Some("e"), Some("8"))));
    assert!(!full.same_state(&version(None, None)));
    assert!(!version(None, None).same_state(&version(None, None)));
}

proptest! {
    #[test]
    fn tokens_round_trip(e_tag in proptest::option::of(".*"), v in proptest::option::of(".*")) {
        let version = version(e_tag.as_deref(), v.as_deref());
        let parsed = ObjectVersion::parse_token(&version.token());
        if e_tag.is_none() && v.is_none() {
            prop_assert_eq!(parsed, None);
        } else {
            prop_assert_eq!(parsed, Some(version));
        }
    }

    #[test]
    fn a_token_has_one_spelling(token in ".{0,12}") {
        if let Some(version) = ObjectVersion::parse_token(&token) {
            prop_assert_eq!(version.token(), token);
        }
    }
}
