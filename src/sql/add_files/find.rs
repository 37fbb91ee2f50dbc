//! Which files a location names, and whether they can be added: before anything is read of them.
//!
//! Owns the listing, the places of the files seen from the table, and the refusal of what the table has already.
//! Does not own what is in the files (`plan`).
//!
//! Invariant: of the files found, no two are one file, none is in the table, and none is a superfile. On the local
//! disk a file is known by its path without symbolic links.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::foreign::{CONCURRENCY, Foreign, at_and_above};
use super::hive;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::TableMetadata;
use crate::format::paths::{self, ObjectName};
use crate::format::{ExternalPath, InPlace};
use crate::scan::ScanLocation;
use crate::scan::read::in_place::{is_disk, tag_of};
use crate::table::{Snapshot, Table};

/// A file that was written on a disk so short a time ago could be written again without a new time: disks' clocks
/// tick every few milliseconds. It is waited for until it is older.
const TICK: Duration = Duration::from_millis(20);

/// A file to be added.
pub(super) struct Candidate {
    pub(super) meta: ObjectMeta,
    /// The file as a user would name it.
    pub(super) name: String,
    /// Which state of which object it is.
    pub(super) source: String,
    /// Where it is, if the table can refer to it there.
    pub(super) in_place: Option<InPlace>,
    pub(super) hive: Vec<(String, Option<String>)>,
}

/// The files' store, and the table that they go into.
pub(super) struct Places {
    pub(super) from: Arc<dyn ObjectStore>,
    pub(super) from_url: ObjectStoreUrl,
    pub(super) location: ScanLocation,
    pub(super) table: Table,
    /// The table's root without symbolic links, if the files are in the table's store.
    root: Option<Path>,
}

impl Places {
    pub(super) async fn new(
        from: Arc<dyn ObjectStore>,
        from_url: ObjectStoreUrl,
        location: ScanLocation,
        table: Table,
    ) -> Self {
        let root = match from_url == location.store_url {
            false => None,
            true if is_disk(&from_url) => Some(without_links(&location.root).await),
            true => Some(location.root.clone()),
        };
        Self {
            from,
            from_url,
            location,
            table,
            root,
        }
    }

    /// Whether the store itself can copy a file to the table. The local store is this crate's own:
    /// DataFusion's would not make a copy durable.
    pub(super) fn copies(&self) -> bool {
        self.root.is_some() && !is_disk(&self.from_url)
    }

    /// The file's path in its store, without symbolic links.
    async fn real(&self, file: &Path) -> Path {
        match is_disk(&self.from_url) {
            true => without_links(file).await,
            false => file.clone(),
        }
    }

    /// Where the table finds the object; `None` in another store, and among the table's own objects.
    fn place(&self, real: &Path) -> Option<ExternalPath> {
        ExternalPath::new(real, self.root.as_ref()?)
    }

    /// What the store says of a file, once it is so old that another state of it would have another time.
    async fn settled(&self, file: &Path) -> object_store::Result<ObjectMeta> {
        let found = self.from.head(file).await?;
        if !is_disk(&self.from_url) {
            return Ok(found);
        }
        let age = self
            .table
            .env()
            .now_ms()
            .abs_diff(found.last_modified.timestamp_millis());
        if u128::from(age) > TICK.as_millis() {
            return Ok(found);
        }
        tokio::time::sleep(TICK).await;
        self.from.head(file).await
    }
}

/// The path of what is there on the disk; the path as it is if nothing is.
async fn without_links(path: &Path) -> Path {
    let real = tokio::fs::canonicalize(format!("/{path}")).await.ok();
    real.and_then(|real| Path::from_absolute_path(real).ok())
        .unwrap_or_else(|| path.clone())
}

/// A location in which a pattern may be; DataFusion finds one in a local path only.
pub(super) fn parse(location: &str) -> DataFusionResult<ListingTableUrl> {
    let is_url = location.contains("://");
    let pattern = location
        .find(['*', '?', '['])
        .filter(|_| is_url)
        .and_then(|at| location.get(..at)?.rfind('/'))
        .and_then(|slash| location.split_at_checked(slash + 1));
    match pattern {
        Some((directory, pattern)) => ListingTableUrl::parse(directory)?.with_glob(pattern),
        None => ListingTableUrl::parse(location),
    }
}

/// The Parquet files at `url`, none of which the table has.
pub(super) async fn find(
    places: &Places,
    url: &ListingTableUrl,
    snapshot: &Snapshot,
    given: &str,
) -> Result<Vec<Candidate>> {
    let unlisted = |e: object_store::Error| {
        Error::new(ErrorKind::Storage, given, "its files cannot be listed").with_source(e)
    };
    let mut foreign = Foreign::default();
    let mut paths: Vec<Path> = if url.is_collection() || url.get_glob().is_some() {
        let is_wanted = |path: &Path| {
            is_named(url, path) && path.as_ref().ends_with(".parquet") && !is_hidden(url, path)
        };
        places
            .from
            .list(Some(url.prefix()))
            .map_ok(|meta| {
                foreign.note(&meta.location);
                meta.location
            })
            .try_filter(|path| futures::future::ready(is_wanted(path)))
            .try_collect()
            .await
            .map_err(unlisted)?
    } else {
        vec![url.prefix().clone()]
    };
    paths.sort();
    // Not from the listing: some stores write a tag there that is not the one an object has.
    let heads: Vec<_> = paths
        .iter()
        .map(|path| async { (places.real(path).await, places.settled(path).await) })
        .collect();
    let found: Vec<(Path, object_store::Result<ObjectMeta>)> =
        stream::iter(heads).buffered(CONCURRENCY).collect().await;
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            given,
            "there is no file that ends in .parquet",
        ));
    }
    refuse_foreign(places, url, foreign, &paths, &found).await?;
    let mut known = Known::of(snapshot);
    let store = url.object_store();
    paths
        .into_iter()
        .zip(found)
        .map(|(location, (real, meta))| {
            let meta = ObjectMeta {
                location,
                ..meta.map_err(unlisted)?
            };
            let name = format!("{}{}", store.as_str(), meta.location);
            refuse_superfile(&name, &real)?;
            let source = source_of(&name, &meta);
            let place = places.place(&real);
            known.take(&name, &source, place.as_ref())?;
            let tag = tag_of(&meta, &places.from_url);
            let hive = hive_values(url, &meta.location, snapshot.metadata());
            Ok(Candidate {
                meta,
                name,
                source,
                in_place: place.and_then(|place| InPlace::new(place, tag)),
                hive,
            })
        })
        .collect()
}

/// Refuses files of tables whose own records say which of them count. A file is where the listing has it, and where
/// it really is.
async fn refuse_foreign<T>(
    places: &Places,
    url: &ListingTableUrl,
    mut foreign: Foreign,
    paths: &[Path],
    found: &[(Path, T)],
) -> Result<()> {
    let store = places.from.as_ref();
    // What is at and below the location was listed. Where a link leads was not.
    let links = found
        .iter()
        .zip(paths)
        .filter(|((real, _), path)| real != *path);
    let directories: Vec<Path> = links
        .map(|((real, _), _)| real)
        .chain([url.prefix()])
        .filter_map(|file| at_and_above(file).into_iter().nth(1))
        .collect();
    foreign
        .look_above(store, directories.iter())
        .await
        .map_err(|e| {
            let why = "what is at and above the files cannot be listed, so nothing tells whether they are a table's";
            Error::new(ErrorKind::Storage, url.as_str(), why).with_source(e)
        })?;
    let same_store = places.from_url == places.location.store_url;
    let own: Vec<&Path> = match same_store {
        true => places.root.iter().chain([&places.location.root]).collect(),
        false => Vec::new(),
    };
    for ((real, _), path) in found.iter().zip(paths) {
        let name = format!("{}{path}", url.object_store().as_str());
        for file in [path, real] {
            foreign.refuse(store, file, &name, &own).await?;
        }
    }
    Ok(())
}

/// What the table has, and what was found so far.
struct Known {
    sources: HashSet<String>,
    places: HashSet<ExternalPath>,
    /// The places of this call alone.
    found: HashSet<ExternalPath>,
}

impl Known {
    fn of(snapshot: &Snapshot) -> Self {
        let entries = || snapshot.manifest().entries();
        Self {
            sources: entries()
                .filter_map(|entry| Some(entry.external.as_ref()?.source.clone()))
                .collect(),
            places: entries()
                .filter_map(|entry| Some(entry.in_place.as_ref()?.place().clone()))
                .collect(),
            found: HashSet::new(),
        }
    }

    /// Refuses a file that is known. One that was copied is another file when it has changed; one that is
    /// read in place is the same, and what is in the table is what it was.
    fn take(&mut self, name: &str, source: &str, place: Option<&ExternalPath>) -> Result<()> {
        let refuse = |why| Err(Error::new(ErrorKind::InvalidArgument, name, why));
        if self.sources.contains(source) || place.is_some_and(|place| self.places.contains(place)) {
            return refuse("this file was added to the table already; nothing was added");
        }
        if place.is_some_and(|place| !self.found.insert(place.clone())) {
            return refuse("this file is there twice, under another name too; nothing was added");
        }
        Ok(())
    }
}

/// Whether `url` names the file. To DataFusion's patterns a directory `year=2024` is not there; here it
/// may be named, too.
fn is_named(url: &ListingTableUrl, path: &Path) -> bool {
    let below = || -> Option<String> {
        let parts: Vec<&str> = url.strip_prefix(path)?.collect();
        Some(parts.join("/"))
    };
    let by_pattern = url
        .get_glob()
        .as_ref()
        .is_some_and(|pattern| below().is_some_and(|below| pattern.matches(&below)));
    by_pattern || url.contains(path, false)
}

/// Names that begin so are other writers' work in progress or logs.
fn is_hidden(url: &ListingTableUrl, path: &Path) -> bool {
    url.strip_prefix(path)
        .is_some_and(|mut parts| parts.any(|part| part.starts_with('_') || part.starts_with('.')))
}

/// A supertable's files also hold the rows that were deleted from it.
fn refuse_superfile(name: &str, path: &Path) -> Result<()> {
    let parts: Vec<_> = path.parts().collect();
    let last_two: Path = parts
        .iter()
        .skip(parts.len().saturating_sub(2))
        .cloned()
        .collect();
    match paths::parse(&last_two) {
        Some(ObjectName::Superfile(_)) => Err(Error::new(
            ErrorKind::InvalidArgument,
            name,
            "this is a file of a supertable, and may hold rows that were deleted; use INSERT INTO … \
             SELECT from that table instead",
        )),
        _ => Ok(()),
    }
}

/// The object, and which state of it.
fn source_of(name: &str, meta: &ObjectMeta) -> String {
    match &meta.e_tag {
        Some(tag) => format!("{name}#{tag}"),
        None => format!(
            "{name}#{}-{}",
            meta.last_modified.timestamp_micros(),
            meta.size
        ),
    }
}

/// The values in the names of a file's directories: all below `url`, and above it those that are
/// columns of the table.
fn hive_values(
    url: &ListingTableUrl,
    path: &Path,
    metadata: &TableMetadata,
) -> Vec<(String, Option<String>)> {
    let below = url
        .strip_prefix(path)
        .map(|parts| parts.collect::<Path>())
        .unwrap_or_default();
    let below: HashSet<String> = hive::values(&below)
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    hive::values(path)
        .into_iter()
        .filter(|(key, _)| below.contains(key) || metadata.schema.index_of(key).is_ok())
        .collect()
}
