//! Whether the lengths inside a Parquet footer can be believed, before a decoder believes them.
//!
//! Owns one walk over Thrift's compact protocol that decodes nothing. Parquet's decoder reserves room for
//! as many row groups as a footer claims to have: in a damaged one that can be more memory than there is,
//! which ends the process. A superfile's footer is known by its checksum ([`super::footer`]); this is for files
//! of others, which have none.
//!
//! ```text
//! field      (delta << 4 | type), or type and a zigzag varint id; 0 ends a struct
//! type       1 true · 2 false · 3 byte · 4..6 varint · 7 8 bytes · 8 varint length, bytes
//!            9, 10 list: (size << 4 | type), 0xf_ and a varint size if it is 15 or more
//!            11 map: varint size, (key type << 4 | value type) if it is not 0 · 12 struct
//! ```
//!
//! Invariant: nothing is allocated, and the time is that of reading the bytes once.

/// How deep structs may lie in each other; Parquet's take far less.
const MAX_DEPTH: u8 = 32;

/// Whether `bytes` begin with a struct that is all there, in which no list claims to have more elements
/// than there are bytes left for them.
pub(crate) fn is_plausible(bytes: &[u8]) -> bool {
    structure(&mut { bytes }, 0).is_some()
}

fn structure(rest: &mut &[u8], depth: u8) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    loop {
        let header = byte(rest)?;
        let kind = header & 0x0f;
        if kind == 0 {
            return Some(());
        }
        if header >> 4 == 0 {
            varint(rest)?;
        }
        // A field that is a truth value has it in its type.
        if kind > 2 {
            value(rest, kind, depth)?;
        }
    }
}

fn value(rest: &mut &[u8], kind: u8, depth: u8) -> Option<()> {
    match kind {
        1..=3 => byte(rest).map(drop),
        4..=6 => varint(rest).map(drop),
        7 => skip(rest, 8),
        8 => {
            let length = varint(rest)?;
            skip(rest, length)
        }
        9 | 10 => {
            let header = byte(rest)?;
            let size = match header >> 4 {
                15 => varint(rest)?,
                size => size.into(),
            };
            elements(rest, size, &[header & 0x0f], depth)
        }
        11 => match varint(rest)? {
            0 => Some(()),
            size => {
                let kinds = byte(rest)?;
                elements(rest, size, &[kinds >> 4, kinds & 0x0f], depth)
            }
        },
        12 => structure(rest, depth + 1),
        _ => None,
    }
}

/// `size` times the values of `kinds`. Each takes a byte at least.
fn elements(rest: &mut &[u8], size: u64, kinds: &[u8], depth: u8) -> Option<()> {
    if depth > MAX_DEPTH || size > rest.len() as u64 {
        return None;
    }
    for _ in 0..size {
        for kind in kinds {
            value(rest, *kind, depth + 1)?;
        }
    }
    Some(())
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    Some(*first)
}

fn skip(rest: &mut &[u8], length: u64) -> Option<()> {
    let (_, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = tail;
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let next = byte(rest)?;
        value |= u64::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::format::footer::{TRAILER_LEN, footer_len};

    fn footer() -> Vec<u8> {
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from_iter_values(0..20)) as _),
            (
                "name",
                Arc::new(StringArray::from_iter_values(
                    (0..20).map(|i| i.to_string()),
                )) as _,
            ),
        ]);
        let batch = batch.unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.flush().unwrap();
        writer.write(&batch).unwrap();
        let file = writer.into_inner().unwrap();
        let length = footer_len(&file).unwrap() as usize;
        file[file.len() - length..file.len() - TRAILER_LEN].to_vec()
    }

    #[test]
    fn a_real_footer_is_plausible_and_no_part_of_it_is() {
        let footer = footer();
        assert!(is_plausible(&footer));
        for end in 0..footer.len() {
            assert!(!is_plausible(&footer[..end]), "{end}");
        }
    }

    #[test]
    fn a_list_longer_than_the_rest_is_not() {
        // Field 4 is a list of 2^31 - 1 structs.
        assert!(!is_plausible(&[
            0x49, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0
        ]));
        // One of two empty ones is.
        assert!(is_plausible(&[0x49, 0x2c, 0, 0, 0]));
    }

    #[test]
    fn structs_in_each_other_without_end_are_refused() {
        assert!(!is_plausible(&[0x1c; 4096]));
        assert!(!is_plausible(&[0x19; 4096]));
    }
}
