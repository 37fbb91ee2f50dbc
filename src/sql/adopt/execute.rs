//! Finds the files of an adoption, copies them into the table, and commits them.
//!
//! Owns the order of things: every footer is read and judged before anything is copied; copies are
//! made only once the mutation's document is durable; what is committed is what the *copies'* footers
//! say. Does not own the judgement (`plan`).
//!
//! Invariant: all files are committed in one version, or none. A crash leaves copies in the
//! mutation's id block, which recovery removes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, WriteMultipart};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use crate::error::{Error, ErrorKind, Result};
use crate::format::OpKind;
use crate::format::ids::SuperfileId;
use crate::format::manifest::{RowIds, SuperfileEntry, TableMetadata};
use crate::format::paths::{self, ObjectName};
use crate::scan::ScanLocation;
use crate::sql::adopt::hive;
use crate::sql::adopt::plan::{Adoption, adopt, check_table};
use crate::table::{CommitOutcome, Effect, Mutation, Snapshot, Table};

/// How often an adoption is tried on a newer version.
const MAX_RUNS: usize = 10;

/// Files that are read, or copied, at the same time.
const CONCURRENCY: usize = 8;

/// The size of the pieces in which a file is uploaded where the store cannot copy it.
const PART_BYTES: usize = 8 << 20;

/// The property that counts adoptions. Two of them at once would not see each other's files, and
/// might add the same one twice: as both change it, one of them runs again.
const ADOPTIONS: &str = "adoptions";

/// One file that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    /// Where it was.
    pub(crate) file: String,
    /// Its rows.
    pub(crate) rows: u64,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// What it is in the table.
    pub(crate) superfile: SuperfileId,
}

/// A file to be added.
struct Candidate {
    meta: ObjectMeta,
    /// The file as a user would name it.
    name: String,
    /// Which state of which object it is.
    source: String,
    hive: Vec<(String, Option<String>)>,
}

/// The files' store, and the table that they go into.
struct Places {
    from: Arc<dyn ObjectStore>,
    /// Whether the store itself can copy a file to the table.
    same_store: bool,
    location: ScanLocation,
    table: Table,
}

/// Adds the Parquet files at `url` to `table`, which is at `location` in the session's stores.
///
/// # Errors
/// A file does not fit the table, or was added already; or the store's. Nothing is added then.
pub(crate) async fn add_files(
    runtime: &RuntimeEnv,
    table: &Table,
    location: &ScanLocation,
    url: &str,
) -> Result<Vec<Added>> {
    let invalid = |why: &str| Error::new(ErrorKind::InvalidArgument, url, why);
    let parsed = parse(url).map_err(|e| invalid("is not a location").with_source(e))?;
    let from = runtime.object_store(&parsed).map_err(|e| {
        Error::new(
            ErrorKind::Storage,
            url,
            "the session has no object store registered for it",
        )
        .with_source(e)
    })?;
    let places = Places {
        from,
        // The local store is this crate's own: DataFusion's would not make a copy durable.
        same_store: parsed.object_store() == location.store_url && parsed.scheme() != "file",
        location: location.clone(),
        table: table.clone(),
    };
    let mut lost = None;
    for _ in 0..MAX_RUNS {
        let snapshot = table.snapshot().await?;
        check_table(snapshot.metadata())?;
        let candidates = find(&places, &parsed, &snapshot, url).await?;
        let footers = judge(&places, &candidates, snapshot.metadata()).await?;
        if footers.iter().all(|adoption| adoption.rows == 0) {
            return Ok(Vec::new());
        }
        let statement = format!("supertable_add_files {url}");
        let mutation = table.begin(OpKind::Insert, Arc::clone(&snapshot), statement);
        let (effect, added) =
            match copy_all(&places, &candidates, &footers, &snapshot, &mutation).await {
                Ok(done) => done,
                Err(e) => {
                    // What it died of is the news; a failure to clean up is recovery's.
                    let _ = mutation.abort().await;
                    return Err(e);
                }
            };
        match mutation.commit(effect).await? {
            CommitOutcome::Committed { .. } => return Ok(added),
            CommitOutcome::NothingToCommit => return Ok(Vec::new()),
            CommitOutcome::Conflict(conflict) => lost = Some(conflict),
        }
    }
    let why = lost.map(|c| c.to_string()).unwrap_or_default();
    Err(Error::new(
        ErrorKind::Conflict,
        url,
        format!("other statements kept changing the table first ({why}); nothing was changed"),
    ))
}

/// A location in which a pattern may be; DataFusion finds one in a local path only.
fn parse(location: &str) -> DataFusionResult<ListingTableUrl> {
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
async fn find(
    places: &Places,
    url: &ListingTableUrl,
    snapshot: &Snapshot,
    given: &str,
) -> Result<Vec<Candidate>> {
    let unlisted = |e: object_store::Error| {
        Error::new(ErrorKind::Storage, given, "its files cannot be listed").with_source(e)
    };
    let mut paths: Vec<Path> = if url.is_collection() || url.get_glob().is_some() {
        let is_wanted = |path: &Path| {
            is_named(url, path) && path.as_ref().ends_with(".parquet") && !is_hidden(url, path)
        };
        places
            .from
            .list(Some(url.prefix()))
            .map_ok(|meta| meta.location)
            .try_filter(|path| futures::future::ready(is_wanted(path)))
            .try_collect()
            .await
            .map_err(unlisted)?
    } else {
        vec![url.prefix().clone()]
    };
    paths.sort();
    // Not from the listing: some stores write a tag there that is not the one an object has.
    let heads: Vec<_> = paths.iter().map(|path| places.from.head(path)).collect();
    let metas: Vec<ObjectMeta> = stream::iter(heads)
        .buffered(CONCURRENCY)
        .try_collect()
        .await
        .map_err(unlisted)?;
    if metas.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            given,
            "there is no file that ends in .parquet",
        ));
    }
    let known: HashSet<&str> = snapshot
        .manifest()
        .entries()
        .filter_map(|entry| entry.stats.source())
        .collect();
    let store = url.object_store();
    paths
        .into_iter()
        .zip(metas)
        .map(|(location, meta)| {
            let meta = ObjectMeta { location, ..meta };
            let name = format!("{}{}", store.as_str(), meta.location);
            refuse_superfile(&name, &meta.location)?;
            let source = source_of(&name, &meta);
            if known.contains(source.as_str()) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    name,
                    "this file was added to the table already; nothing was added",
                ));
            }
            let hive = hive_values(url, &meta.location, snapshot.metadata());
            Ok(Candidate {
                meta,
                name,
                source,
                hive,
            })
        })
        .collect()
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

/// Judges every file by its footer.
async fn judge(
    places: &Places,
    candidates: &[Candidate],
    metadata: &TableMetadata,
) -> Result<Vec<Adoption>> {
    let judged: Vec<_> = candidates
        .iter()
        .map(|candidate| judge_one(places, candidate, metadata))
        .collect();
    stream::iter(judged)
        .buffered(CONCURRENCY)
        .try_collect()
        .await
}

async fn judge_one(
    places: &Places,
    candidate: &Candidate,
    metadata: &TableMetadata,
) -> Result<Adoption> {
    let footer = footer(&places.from, &candidate.meta, &candidate.name).await?;
    adopt(
        &footer,
        candidate.meta.size,
        &candidate.name,
        metadata,
        &candidate.hive,
    )
}

async fn footer(
    store: &Arc<dyn ObjectStore>,
    meta: &ObjectMeta,
    name: &str,
) -> Result<Arc<ParquetMetaData>> {
    DFParquetMetadata::new(store.as_ref(), meta)
        .with_page_index_policy(Some(PageIndexPolicy::Skip))
        .fetch_metadata()
        .await
        .map_err(|e| {
            Error::new(
                ErrorKind::InvalidArgument,
                name,
                "is not a Parquet file that can be read; nothing was added",
            )
            .with_source(e)
        })
}

/// Copies the files that have rows, and says what is to be committed.
async fn copy_all(
    places: &Places,
    candidates: &[Candidate],
    footers: &[Adoption],
    snapshot: &Snapshot,
    mutation: &Mutation,
) -> Result<(Effect, Vec<Added>)> {
    mutation.durable().await?;
    let metadata = snapshot.metadata();
    let mut jobs = Vec::new();
    for (candidate, adoption) in candidates.iter().zip(footers) {
        if adoption.rows > 0 {
            jobs.push((candidate, mutation.next_superfile_id()?));
        }
    }
    let copies: Vec<_> = jobs
        .iter()
        .map(|(candidate, id)| copy_one(places, candidate, *id, metadata))
        .collect();
    let entries: Vec<SuperfileEntry> = stream::iter(copies)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let by_id: HashMap<SuperfileId, &Candidate> = jobs
        .iter()
        .map(|(candidate, id)| (*id, *candidate))
        .collect();
    let added = entries
        .iter()
        .filter_map(|entry| {
            let candidate = by_id.get(&entry.id)?;
            Some(Added {
                file: candidate.name.clone(),
                rows: entry.rows,
                bytes: entry.size,
                superfile: entry.id,
            })
        })
        .collect();
    let mut metadata: TableMetadata = metadata.as_ref().clone();
    let count = metadata
        .properties
        .get(ADOPTIONS)
        .and_then(|count| count.parse::<u64>().ok())
        .unwrap_or(0);
    metadata
        .properties
        .insert(ADOPTIONS.to_owned(), count.saturating_add(1).to_string());
    let effect = Effect {
        rows_inserted: entries.iter().map(|entry| entry.rows).sum(),
        add: entries,
        metadata: Some(metadata),
        ..Effect::default()
    };
    Ok((effect, added))
}

async fn copy_one(
    places: &Places,
    candidate: &Candidate,
    id: SuperfileId,
    metadata: &TableMetadata,
) -> Result<SuperfileEntry> {
    let table = &places.table;
    let own = table.storage().object_store();
    let path = paths::superfile(&id);
    let failed = |e: object_store::Error| {
        Error::new(
            ErrorKind::Storage,
            &candidate.name,
            "the file cannot be copied; nothing was added",
        )
        .with_source(e)
    };
    let to = places.location.resolve(&path);
    let copied = match places.same_store {
        true => places
            .from
            .copy(&candidate.meta.location, &to)
            .await
            .is_ok(),
        false => false,
    };
    // Not every store copies, nor files of every size.
    if !copied {
        stream_to(places, candidate, own.as_ref(), &path)
            .await
            .map_err(failed)?;
    }
    // What counts is what is there now, whatever has become of the original meanwhile.
    // A store with a prefix answers with the whole path.
    let copy = ObjectMeta {
        location: path.clone(),
        ..own.head(&path).await.map_err(failed)?
    };
    let footer = footer(&own, &copy, &candidate.name).await?;
    let Adoption { rows, mut stats } = adopt(
        &footer,
        copy.size,
        &candidate.name,
        metadata,
        &candidate.hive,
    )?;
    stats.set_source(candidate.source.clone());
    Ok(SuperfileEntry {
        id,
        rows,
        size: copy.size,
        created_at_ms: table.env().now_ms(),
        row_ids: RowIds::Span(table.env().ids.row_span()),
        stats,
        tombstones: None,
        moved_at: 0,
        touched: 0,
    })
}

/// Copies a file through this process, in bounded memory.
async fn stream_to(
    places: &Places,
    candidate: &Candidate,
    to: &dyn ObjectStore,
    path: &Path,
) -> Result<(), object_store::Error> {
    let mut bytes = places
        .from
        .get(&candidate.meta.location)
        .await?
        .into_stream();
    let upload = to.put_multipart(path).await?;
    let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    while let Some(piece) = bytes.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(e) => {
                let _ = writer.abort().await;
                return Err(e);
            }
        };
        writer.wait_for_capacity(2).await?;
        writer.put(piece);
    }
    writer.finish().await?;
    Ok(())
}
