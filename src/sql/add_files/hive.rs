//! Columns whose values are in the names of a file's directories: `year=2024/month=01/a.parquet`.
//!
//! Owns reading the names. Does not own what a value becomes in a column's type (`plan`).

use object_store::path::Path;

/// The value that stands for NULL in a directory's name.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The values in the names of the directories of `path`, outermost first; `None` is NULL.
pub(crate) fn values(path: &Path) -> Vec<(String, Option<String>)> {
    let mut parts: Vec<_> = path.parts().collect();
    parts.pop();
    parts
        .iter()
        .filter_map(|part| {
            let (column, value) = part.as_ref().split_once('=')?;
            let value = decoded(value);
            Some((decoded(column), (value != NULL).then_some(value)))
        })
        .collect()
}

/// Writers put `%` and two hex digits for what a path cannot hold.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| behind.split_at_checked(2))
            .flatten()
            .and_then(|(digits, behind)| {
                let digits = std::str::from_utf8(digits).ok()?;
                let byte = u8::from_str_radix(digits, 16).ok()?;
                (!digits.starts_with('+')).then_some((byte, behind))
            });
        match escaped {
            Some((byte, behind)) => {
                bytes.push(byte);
                rest = behind;
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn directories_name_columns_and_values() {
        let path = Path::parse(
            "data/year=2024/city=New%20York/x=/m=__HIVE_DEFAULT_PARTITION__/a=b.parquet",
        );
        assert_eq!(
            values(&path.unwrap()),
            vec![
                ("year".to_owned(), Some("2024".to_owned())),
                ("city".to_owned(), Some("New York".to_owned())),
                ("x".to_owned(), Some(String::new())),
                ("m".to_owned(), None),
            ]
        );
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
        assert_eq!(decoded("%+1"), "%+1");
        assert_eq!(decoded("%C3%A4"), "ä");
    }
}
