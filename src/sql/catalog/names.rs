//! From names of schemas and tables to names of directories, and back.
//!
//! Letters, digits, `_` and `-` of ASCII stand for themselves; every other byte is `=` and two hex digits.
//! (`=` is what neither URLs nor object stores escape again.)
//! A table's directory ends in `.` and a number where it is not the first of its name.
//!
//! Invariant: every name has one spelling; a directory spelled otherwise is not ours.

use crate::error::{Error, ErrorKind, Result};

/// Directory names longer than this are refused: file systems do.
const MAX_LEN: usize = 200;

/// The directory of a name.
///
/// # Errors
/// The name is empty or too long.
pub(super) fn encode(name: &str) -> Result<String> {
    use std::fmt::Write;
    let mut directory = String::with_capacity(name.len());
    for byte in name.bytes() {
        if is_plain(byte) {
            directory.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(directory, "={byte:02x}");
        }
    }
    if directory.is_empty() || directory.len() > MAX_LEN {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            name,
            "a name in a catalog has at least one character and not more than about 200",
        ));
    }
    Ok(directory)
}

/// The name of a directory; `None` if no name has it.
pub(super) fn decode(directory: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(directory.len());
    let mut rest = directory.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            byte if is_plain(byte) => bytes.push(byte),
            _ => return None,
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (encode(&name).ok()? == directory).then_some(name)
}

/// The directory of the `number`th table of a name, from 1.
///
/// # Errors
/// As [`encode`].
pub(super) fn table_directory(name: &str, number: u32) -> Result<String> {
    let directory = encode(name)?;
    Ok(match number {
        0 | 1 => directory,
        number => format!("{directory}.{number}"),
    })
}

/// The name and number of a table's directory; `None` if it is none.
pub(super) fn table_of(directory: &str) -> Option<(String, u32)> {
    match directory.split_once('.') {
        None => Some((decode(directory)?, 1)),
        Some((name, digits)) => {
            let number: u32 = digits.parse().ok()?;
            (number >= 2 && number.to_string() == digits)
                .then(|| decode(name))
                .flatten()
                .map(|name| (name, number))
        }
    }
}

/// The name of whatever stands in a directory's place.
///
/// # Errors
/// `Corrupt` if no name has it.
pub(super) fn name_of(slot: &str) -> Result<String> {
    match table_of(slot) {
        Some((name, _)) => Ok(name),
        None => Err(Error::new(
            ErrorKind::Corrupt,
            slot,
            "a table says that it stands in this directory's place, which is not one of a table",
        )),
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_directory() {
        for name in [
            "t",
            "Flights_2024",
            "a b",
            "a.b",
            "../x",
            "~",
            "ä/ö",
            "-",
            "%2e",
        ] {
            let directory = encode(name).unwrap();
            assert!(!directory.contains(['/', '.', '%', ' ']), "{directory}");
            assert_eq!(decode(&directory).as_deref(), Some(name));
            for number in [1, 2, 41] {
                let directory = table_directory(name, number).unwrap();
                assert_eq!(table_of(&directory), Some((name.to_owned(), number)));
            }
        }
        assert!(encode("").is_err() && encode(&"x".repeat(300)).is_err());
    }

    #[test]
    fn other_directories_are_no_tables() {
        for other in [
            "", "a b", "t.1", "t.02", "t.x", "t.", ".2", "=2", "=zz", "=41", "=2E", "t.2.3",
        ] {
            assert_eq!(table_of(other), None, "{other}");
        }
    }
}
