//! `"t@v7"`: an earlier version of a table, by its name.

/// Between a table's name and the number of a version.
const VERSION_MARK: &str = "@v";

/// The two parts of a name such as `t@v7`.
pub(crate) fn table_and_version(name: &str) -> Option<(&str, u64)> {
    let (table, version) = name.rsplit_once(VERSION_MARK)?;
    if table.is_empty() || !version.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((table, version.parse().ok()?))
}
