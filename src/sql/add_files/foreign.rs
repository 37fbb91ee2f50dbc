//! Tables of other formats, and of this one: directories of Parquet files in which not every file, nor every row, counts.
//!
//! Owns the marks by which such a directory is known, and the search for them at and above the files of a statement.
//! Does not own the listing of the files (`find`).
//!
//! | mark | what is there |
//! | --- | --- |
//! | `_delta_log/` | a Delta table |
//! | `metadata/….metadata.json` | an Iceberg table |
//! | `.hoodie/` | a Hudi table |
//! | `_supertable/` | a supertable, or a table of infino, which the pointer tells apart |
//! | `_catalog/current` | a catalog of infino |
//!
//! Invariant: no file is taken that lies at or below such a directory, unless it is the root of the table itself, in
//! which files may lie that the table reads where they are. Marks below the location come with the listing and cost
//! nothing; for those above it each directory is asked. What may not be listed above the location is taken to be no
//! mark.

use std::collections::BTreeMap;
use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt};

use crate::error::{Error, ErrorKind, Result};

/// Files that are looked at, read, or copied at the same time.
pub(super) const CONCURRENCY: usize = 8;

const DELTA: &str = "_delta_log";
const HUDI: &str = ".hoodie";
const SUPERTABLE: &str = "_supertable";
const ICEBERG: &str = "metadata";
const ICEBERG_FILE: &str = ".metadata.json";
const CATALOG: &str = "_catalog";
const CURRENT: &str = "current";

/// What the pointer of a table of infino begins with; a supertable's is JSON.
const INFINO_POINTER: &[u8] = b"manifest_id=";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Delta,
    Iceberg,
    Hudi,
    Supertable,
    Infino,
    InfinoCatalog,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delta => "a Delta table (it has _delta_log/)",
            Self::Iceberg => "an Iceberg table (it has metadata/*.metadata.json)",
            Self::Hudi => "a Hudi table (it has .hoodie/)",
            Self::Supertable => "a supertable (it has _supertable/)",
            Self::Infino => "a table of infino (it has _supertable/)",
            Self::InfinoCatalog => "a catalog of infino (it has _catalog/current)",
        })
    }
}

/// The directories that are tables, as far as they were seen.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    roots: BTreeMap<Path, Kind>,
}

impl Foreign {
    /// Takes note of an object that a listing has.
    pub(super) fn note(&mut self, object: &Path) {
        if let Some((root, kind)) = mark(object) {
            self.roots.entry(root).or_insert(kind);
        }
    }

    /// Looks for marks in `directories` and all that are above them.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn look_above(
        &mut self,
        store: &dyn ObjectStore,
        directories: impl Iterator<Item = &Path>,
    ) -> object_store::Result<()> {
        let mut all: Vec<Path> = directories.flat_map(at_and_above).collect();
        all.sort();
        all.dedup();
        let looks: Vec<_> = all.iter().map(|d| found_in(store, d)).collect();
        let found: Vec<Option<Kind>> = stream::iter(looks)
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let found = all.into_iter().zip(found);
        self.roots
            .extend(found.filter_map(|(root, kind)| Some((root, kind?))));
        Ok(())
    }

    /// Refuses `file`, called `name`, if it belongs to a table; `own` are the names of the root of the table that
    /// takes the files.
    ///
    /// # Errors
    /// Says what was found, and what to do instead.
    pub(super) async fn refuse(
        &self,
        store: &dyn ObjectStore,
        file: &Path,
        name: &str,
        own: &[&Path],
    ) -> Result<()> {
        let above = at_and_above(file);
        let found = above
            .iter()
            .filter(|root| !own.contains(root))
            .find_map(|root| Some((root, *self.roots.get(root)?)));
        let Some((root, kind)) = found else {
            return Ok(());
        };
        let kind = match kind {
            Kind::Supertable => by_its_pointer(store, root).await,
            kind => kind,
        };
        Err(Error::new(
            ErrorKind::InvalidArgument,
            name,
            format!(
                "this file is in {kind} at {root:?}, whose own records say which files and rows of it count; nothing \
                 was added. Read that table in its own format, and use INSERT INTO … SELECT instead",
                root = format!("/{root}")
            ),
        ))
    }
}

/// The directory in which `object` is a mark, and of what.
fn mark(object: &Path) -> Option<(Path, Kind)> {
    let parts: Vec<PathPart<'_>> = object.parts().collect();
    let (last, folders) = parts.split_last()?;
    let name = last.as_ref();
    let in_folder = folders
        .iter()
        .position(|folder| [DELTA, HUDI, SUPERTABLE].contains(&folder.as_ref()));
    let (at, kind) = match in_folder {
        Some(at) => match folders.get(at)?.as_ref() {
            DELTA => (at, Kind::Delta),
            HUDI => (at, Kind::Hudi),
            _ => (at, Kind::Supertable),
        },
        None => {
            let at = folders.len().checked_sub(1)?;
            match folders.get(at)?.as_ref() {
                ICEBERG if name.ends_with(ICEBERG_FILE) => (at, Kind::Iceberg),
                CATALOG if name == CURRENT => (at, Kind::InfinoCatalog),
                _ => return None,
            }
        }
    };
    Some((folders.iter().take(at).cloned().collect(), kind))
}

/// `path` and all directories above it, the nearest first.
pub(super) fn at_and_above(path: &Path) -> Vec<Path> {
    let parts: Vec<PathPart<'_>> = path.parts().collect();
    (0..=parts.len())
        .rev()
        .map(|length| parts.iter().take(length).cloned().collect())
        .collect()
}

/// What `directory` is marked as.
async fn found_in(store: &dyn ObjectStore, directory: &Path) -> object_store::Result<Option<Kind>> {
    let below = |folder: &str| directory.clone().join(folder);
    for (folder, kind) in [
        (DELTA, Kind::Delta),
        (HUDI, Kind::Hudi),
        (SUPERTABLE, Kind::Supertable),
    ] {
        let first = store.list(Some(&below(folder))).next().await;
        if allowed(first.transpose())?.flatten().is_some() {
            return Ok(Some(kind));
        }
    }
    let metadata = store.list_with_delimiter(Some(&below(ICEBERG))).await;
    let is_iceberg = allowed(metadata)?.is_some_and(|listed| {
        let mut files = listed.objects.iter().filter_map(|o| o.location.filename());
        files.any(|name| name.ends_with(ICEBERG_FILE))
    });
    if is_iceberg {
        return Ok(Some(Kind::Iceberg));
    }
    let catalog = store.head(&below(CATALOG).join(CURRENT)).await;
    Ok(allowed(catalog)?.map(|_| Kind::InfinoCatalog))
}

/// `None` for what is not there, and for what may not be seen.
fn allowed<T>(found: object_store::Result<T>) -> object_store::Result<Option<T>> {
    use object_store::Error as E;
    match found {
        Ok(found) => Ok(Some(found)),
        Err(E::NotFound { .. } | E::PermissionDenied { .. } | E::Unauthenticated { .. }) => {
            Ok(None)
        }
        Err(e) if is_unseen_on_disk(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The local disk says so in the cause only.
fn is_unseen_on_disk(error: &object_store::Error) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |cause| cause.source())
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| {
            use std::io::ErrorKind as K;
            // What has a mark's name may be a file.
            matches!(cause.kind(), K::PermissionDenied | K::NotADirectory)
        })
}

/// Whose table it is that has a pointer at `root`.
async fn by_its_pointer(store: &dyn ObjectStore, root: &Path) -> Kind {
    let pointer = root.clone().join(SUPERTABLE).join(CURRENT);
    let bytes = match store.get(&pointer).await {
        Ok(found) => found.bytes().await.unwrap_or_default(),
        Err(_) => return Kind::Supertable,
    };
    match bytes.starts_with(INFINO_POINTER) {
        true => Kind::Infino,
        false => Kind::Supertable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_the_directory_that_it_marks() {
        for (object, expected) in [
            ("t/_delta_log/00.json", Some(("t", Kind::Delta))),
            ("t/_delta_log/_last_checkpoint", Some(("t", Kind::Delta))),
            (
                "a/t/metadata/v1.metadata.json",
                Some(("a/t", Kind::Iceberg)),
            ),
            ("t/metadata/snap-1.avro", None),
            ("t/metadata/x/v1.metadata.json", None),
            ("t/.hoodie/hoodie.properties", Some(("t", Kind::Hudi))),
            ("_supertable/current", Some(("", Kind::Supertable))),
            ("l/_catalog/current", Some(("l", Kind::InfinoCatalog))),
            ("l/_catalog/other", None),
            ("t/metadata.json", None),
            ("t/_delta_log", None),
            ("t/a.parquet", None),
        ] {
            let found = mark(&Path::from(object));
            let expected = expected.map(|(root, kind)| (Path::from(root), kind));
            assert_eq!(found, expected, "{object}");
        }
    }

    #[test]
    fn the_nearest_directory_comes_first_and_the_root_last() {
        let above: Vec<String> = at_and_above(&Path::from("a/b/c.parquet"))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(above, ["a/b/c.parquet", "a/b", "a", ""]);
    }
}
