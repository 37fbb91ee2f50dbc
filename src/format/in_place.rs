//! Where a superfile is that the table reads at its owner's place, and in which state it was taken in.
//!
//! Owns the parsing of what a manifest entry records of it. Does not own what the tag is made of (the scan), nor any
//! I/O.
//!
//! ```text
//! path  "data/a.parquet"     below the table's root, so it moves with the table's directory
//!       "/data/a.parquet"    from the root of the object store that the table is in
//! tag   any text, 1 to 1,024 bytes: two states of an object do not have the same
//! ```
//!
//! Invariant: a path has neither empty segments nor `.` or `..`, one spelling only, and does not lead into the
//! folders below the table's root in which the table's own objects are. So no two paths of one kind are one object,
//! and nothing that deletes by the names of [`paths`] ever meets such a file.
//!
//! A path from the store's root leads out of the table. That gives a user no way to have a reader open what the user cannot
//! read: an entry without the checksum of the file's footer is refused, and a user who knows the hash of a footer
//! has read the file.

use std::fmt;

use object_store::path::Path;

use super::paths;

/// Longest tag, in bytes.
const MAX_TAG_LEN: usize = 1024;

/// A file that is read where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPlace {
    place: ExternalPath,
    tag: String,
}

/// Where a file is that is not the table's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExternalPath {
    /// Below the table's root.
    Below(Path),
    /// Anywhere in the table's object store, seen from its root.
    Store(Path),
}

impl ExternalPath {
    /// The place of the object at `path` in the store in which the table's root is at `root`; `None` among the
    /// table's own objects.
    pub fn new(path: &Path, root: &Path) -> Option<Self> {
        let place = match path.prefix_match(root) {
            Some(below) => Self::Below(below.collect()),
            None => Self::Store(path.clone()),
        };
        // What cannot be written down cannot be read again.
        (Self::parse(&place.to_string()).as_ref() == Some(&place)).then_some(place)
    }

    /// The inverse of its text; `None` for what is not allowed.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('/') {
            Some(rest) => Some(Self::Store(plain(rest)?)),
            None => {
                let path = plain(text)?;
                let first = path.parts().next()?;
                (!is_ours(first.as_ref())).then_some(Self::Below(path))
            }
        }
    }

    /// The object's path in the store, if the table's root is at `root`.
    pub fn resolve(&self, root: &Path) -> Path {
        match self {
            Self::Below(path) => root.parts().chain(path.parts()).collect(),
            Self::Store(path) => path.clone(),
        }
    }
}

impl fmt::Display for ExternalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(path) => write!(f, "{path}"),
            Self::Store(path) => write!(f, "/{path}"),
        }
    }
}

impl InPlace {
    /// A file at `place` in the state that `tag` stands for; `None` if that is no tag.
    pub fn new(place: ExternalPath, tag: String) -> Option<Self> {
        let fits = (1..=MAX_TAG_LEN).contains(&tag.len());
        fits.then_some(Self { place, tag })
    }

    /// From what is recorded.
    pub fn parse(path: &str, tag: &str) -> Option<Self> {
        Self::new(ExternalPath::parse(path)?, tag.to_owned())
    }

    /// Where it is.
    pub fn place(&self) -> &ExternalPath {
        &self.place
    }

    /// The state in which it was taken in.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

/// A path in its one spelling.
fn plain(text: &str) -> Option<Path> {
    // Refuses `..`, `.` and what is empty between slashes.
    let path = Path::parse(text).ok()?;
    (!text.is_empty() && path.as_ref() == text).then_some(path)
}

/// Whether the table's own objects are in a folder of this name below its root.
fn is_ours(folder: &str) -> bool {
    [
        paths::META_PREFIX,
        paths::SUPERFILE_PREFIX,
        paths::WAL_PREFIX,
    ]
    .iter()
    .filter_map(|prefix| prefix.split('/').next())
    .any(|own| own == folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_place_has_one_spelling_and_stays_out_of_the_tables_own_folders() {
        for text in [
            "a.parquet",
            "data/year=2024/a%20b.parquet",
            "superfiles2/x",
            "x/wal/y",
            "/a.parquet",
            "/superfiles/x.parquet",
            "/data/ä/x y.parquet",
        ] {
            assert_eq!(ExternalPath::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "/",
            "//a.parquet",
            "a/",
            "/a/",
            "a//b",
            "../a.parquet",
            "/../a.parquet",
            "a/../../b",
            "/a/./b",
            "./a",
            "_supertable/current",
            "superfiles/x.parquet",
            "superfiles",
            "wal/x",
        ] {
            assert_eq!(ExternalPath::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_below_the_root_moves_with_it_and_the_rest_stays() {
        let (root, moved) = (Path::from("lake/t"), Path::from("other"));
        let resolved = |path: &str, root: &Path| {
            let place = ExternalPath::new(&Path::from(path), &Path::from("lake/t")).unwrap();
            place.resolve(root).to_string()
        };
        assert_eq!(resolved("lake/t/data/a", &root), "lake/t/data/a");
        assert_eq!(resolved("lake/t/data/a", &moved), "other/data/a");
        assert_eq!(resolved("lake/t2/a", &moved), "lake/t2/a");
        let own = Path::from("lake/t/superfiles/a.parquet");
        assert_eq!(ExternalPath::new(&own, &root), None);
        assert_eq!(ExternalPath::new(&root, &root), None);
    }

    #[test]
    fn a_tag_is_neither_empty_nor_endless() {
        for (len, fits) in [(0, false), (1, true), (1024, true), (1025, false)] {
            let found = InPlace::parse("/a", &"x".repeat(len));
            assert_eq!(found.is_some(), fits, "{len}");
        }
    }
}
