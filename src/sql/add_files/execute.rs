//! Takes the files of a statement into the table, and commits them.
//!
//! Owns the order of things: every footer is read and judged before anything is copied; copies are
//! made only once the mutation's document is durable. Of a file that stays where it is, what is committed is what
//! its footer said in one state of the file, which the entry names; of a copy, what the *copy's* footer says. Does not
//! own which files they are (`find`), nor the judgement (`plan`).
//!
//! Invariant: all files are committed in one version, or none. A file of others is read, and nothing else: not written,
//! not deleted. A crash leaves copies in the mutation's id block, which recovery removes.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::Count;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, WriteMultipart};

use super::find::{Candidate, Places, find, parse};
use super::foreign::CONCURRENCY;
use crate::dml::keys::check::KeyCheck;
use crate::dml::keys::written::{Rewritten, WrittenKeys};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ids::SuperfileId;
use crate::format::keys::AbsentKeys;
use crate::format::manifest::{RowIds, SuperfileEntry, TableMetadata};
use crate::format::paths;
use crate::format::{ExternalFile, FooterChecksum, InPlace, OpKind};
use crate::scan::ScanLocation;
use crate::scan::read::in_place::{InPlaceStore, own};
use crate::scan::schema::session_schema;
use crate::sql::add_files::plan::{FilePlan, check_table, plan_file};
use crate::sql::location::refuse_credentials;
use crate::table::{
    AttemptEnd, Attempts, Effect, EndError, FileEnd, Mutation, Snapshot, Table, read_end,
};

/// The size of the pieces in which a file is uploaded where the store cannot copy it.
const PART_BYTES: usize = 8 << 20;

/// Bytes at a file's end that are read at first: most footers are shorter.
const FIRST_READ: u64 = 64 << 10;

/// One file that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    /// Where it was.
    pub(crate) file: String,
    /// Its rows.
    pub(crate) rows: u64,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// What it is in the table; nothing, if it has no rows.
    pub(crate) superfile: Option<SuperfileId>,
    /// Whether the table reads it where it is.
    pub(crate) in_place: bool,
}

/// A file that was judged by its footer.
struct CheckedFile<'c> {
    candidate: &'c Candidate,
    plan: FilePlan,
    /// Where the table is to refer to it; it is copied, if nowhere.
    stays: Option<Staying>,
}

/// A file that stays where it is.
struct Staying {
    file: InPlace,
    checksum: FooterChecksum,
}

/// Adds the Parquet files at `url` to `table`, which is at `location` in the session's stores. `copy`: also those
/// that could stay where they are are copied.
///
/// # Errors
/// A file does not fit the table, or was added already; or the store's. Nothing is added then.
pub(crate) async fn add_files(
    context: &Arc<TaskContext>,
    table: &Table,
    location: &ScanLocation,
    url: &str,
    copy: bool,
) -> Result<Vec<Added>> {
    refuse_credentials(url)?;
    let invalid = |why: &str| Error::new(ErrorKind::InvalidArgument, url, why);
    let parsed = parse(url).map_err(|e| invalid("is not a location").with_source(e))?;
    let from = context.runtime_env().object_store(&parsed).map_err(|e| {
        Error::new(
            ErrorKind::Storage,
            url,
            "the session has no object store registered for it",
        )
        .with_source(e)
    })?;
    let places = Places::new(from, parsed.object_store(), location.clone(), table.clone()).await;
    let mut attempts = Attempts::of(url, table);
    loop {
        let snapshot = table.snapshot().await?;
        check_table(snapshot.metadata())?;
        let candidates = find(&places, &parsed, &snapshot, url).await?;
        let judged = judge(&places, &candidates, snapshot.metadata(), copy).await?;
        if judged.iter().all(|file| file.plan.rows == 0) {
            return Ok(judged.iter().map(without_rows).collect());
        }
        let statement = format!("supertable_add_files {url}");
        let mutation = table.begin(OpKind::Insert, Arc::clone(&snapshot), statement);
        let taken = async {
            let (mut effect, added) = take_in(&places, judged, &snapshot, &mutation).await?;
            let absent = check_keys(context, location, &snapshot, &effect.add).await;
            effect.absent_keys = absent.map_err(|e| Error::of_engine(url, e))?;
            Ok((effect, added))
        };
        let (effect, added) = match taken.await {
            Ok(done) => done,
            Err(e) => {
                // What it died of is the news; a failure to clean up is recovery's.
                let _ = mutation.abort().await;
                return Err(e);
            }
        };
        match AttemptEnd::of(mutation.commit(effect).await)? {
            AttemptEnd::Committed { .. } => return Ok(added),
            AttemptEnd::Nothing => return Ok(Vec::new()),
            AttemptEnd::Lost(why) => attempts.after_loss(why).await?,
        }
    }
}

/// Makes sure that no row of the files has a key that another one has, and tells which keys were absent.
async fn check_keys(
    context: &Arc<TaskContext>,
    location: &ScanLocation,
    snapshot: &Arc<Snapshot>,
    added: &[SuperfileEntry],
) -> DataFusionResult<Vec<AbsentKeys>> {
    let schema = session_schema(&snapshot.schema());
    let keys = WrittenKeys::of(snapshot, &schema, context.memory_pool(), |_| true)?;
    keys.know_nothing();
    let table = location.root.to_string();
    let check = KeyCheck {
        table: &table,
        schema: &schema,
        location,
        context,
        compared: Count::new(),
    };
    let rewritten = Rewritten {
        snapshot,
        added,
        deleted: &BTreeMap::new(),
        dropped: &[],
    };
    keys.check(&check, &rewritten).await
}

/// Judges every file by its footer.
async fn judge<'c>(
    places: &Places,
    candidates: &'c [Candidate],
    metadata: &TableMetadata,
    copy: bool,
) -> Result<Vec<CheckedFile<'c>>> {
    let judged: Vec<_> = candidates
        .iter()
        .map(|candidate| judge_one(places, candidate, metadata, copy))
        .collect();
    stream::iter(judged)
        .buffered(CONCURRENCY)
        .try_collect()
        .await
}

async fn judge_one<'c>(
    places: &Places,
    candidate: &'c Candidate,
    metadata: &TableMetadata,
    copy: bool,
) -> Result<CheckedFile<'c>> {
    let meta = &candidate.meta;
    let in_place = candidate.in_place.as_ref().filter(|_| !copy);
    let store: Arc<dyn ObjectStore> = match in_place {
        // Of the state that is recorded, whatever becomes of the file meanwhile.
        Some(file) => Arc::new(InPlaceStore::one(
            Arc::clone(&places.from),
            &places.from_url,
            &meta.location,
            file,
        )),
        None => Arc::clone(&places.from),
    };
    let end = footer(&store, meta, &candidate.name).await?;
    let plan = judged(&end, meta.size, candidate, metadata)?;
    // Without a checksum nothing tells later whether it is the file that was meant.
    let stays = in_place.zip(end.checksum).map(|(file, checksum)| Staying {
        file: file.clone(),
        checksum,
    });
    Ok(CheckedFile {
        candidate,
        plan,
        stays,
    })
}

/// [`plan_file`], of a footer that may say what no decoder thought of.
fn judged(
    end: &FileEnd,
    size: u64,
    candidate: &Candidate,
    metadata: &TableMetadata,
) -> Result<FilePlan> {
    let judge = || {
        plan_file(
            &end.metadata,
            size,
            &candidate.name,
            metadata,
            &candidate.hive,
        )
    };
    std::panic::catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::InvalidArgument,
            &candidate.name,
            "its footer is damaged; nothing was added",
        ))
    })
}

/// Reads the end of a file. Nobody vouches for it, so it is looked at before it is decoded.
async fn footer(store: &Arc<dyn ObjectStore>, meta: &ObjectMeta, name: &str) -> Result<FileEnd> {
    if meta.size == 0 {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            name,
            "has 0 bytes, so it is not a Parquet file; nothing was added. Remove it, or name the others by a pattern",
        ));
    }
    let mut wanted = FIRST_READ;
    loop {
        let start = meta.size.saturating_sub(wanted);
        let bytes = store
            .get_range(&meta.location, start..meta.size)
            .await
            .map_err(|e| match own(e) {
                Ok(own) => Error::new(
                    ErrorKind::Conflict,
                    name,
                    "this file changes while it is added; nothing was added (copy => true would take what is there)",
                )
                .with_source(own),
                Err(e) => {
                    Error::new(ErrorKind::Storage, name, "its footer cannot be read").with_source(e)
                }
            })?;
        match read_end(&bytes, meta.size) {
            Ok(end) => return Ok(end),
            Err(EndError::Needs(more)) if more > wanted => wanted = more,
            Err(e) => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    name,
                    "is not a Parquet file that can be read; nothing was added",
                )
                .with_source(e));
            }
        }
    }
}

/// Copies the files that cannot stay, and says what is to be committed.
async fn take_in(
    places: &Places,
    files: Vec<CheckedFile<'_>>,
    snapshot: &Snapshot,
    mutation: &Mutation,
) -> Result<(Effect, Vec<Added>)> {
    mutation.durable().await?;
    let metadata = snapshot.metadata();
    let mut jobs = Vec::new();
    for file in files {
        let id = match file.plan.rows {
            0 => None,
            _ => Some(mutation.ids().superfile()?),
        };
        jobs.push(async move {
            let Some(id) = id else {
                return Ok((None, without_rows(&file)));
            };
            let (entry, added) = take_in_one(places, file, id, metadata).await?;
            Ok::<_, Error>((Some(entry), added))
        });
    }
    let taken: Vec<(Option<SuperfileEntry>, Added)> = stream::iter(jobs)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let (entries, added): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
    let entries: Vec<SuperfileEntry> = entries.into_iter().flatten().collect();
    let mut metadata: TableMetadata = metadata.as_ref().clone();
    metadata.adoptions = metadata.adoptions.saturating_add(1);
    let effect = Effect {
        rows_inserted: entries.iter().map(|entry| entry.rows).sum(),
        add: entries,
        metadata: Some(metadata),
        ..Effect::default()
    };
    Ok((effect, added))
}

/// A file that gives the table nothing, and is not remembered.
fn without_rows(file: &CheckedFile<'_>) -> Added {
    Added {
        file: file.candidate.name.clone(),
        rows: 0,
        bytes: file.candidate.meta.size,
        superfile: None,
        in_place: false,
    }
}

async fn take_in_one(
    places: &Places,
    file: CheckedFile<'_>,
    id: SuperfileId,
    metadata: &TableMetadata,
) -> Result<(SuperfileEntry, Added)> {
    let CheckedFile {
        candidate,
        plan,
        stays,
    } = file;
    let in_place = stays.is_some();
    let (plan, size, checksum, file) = match stays {
        Some(Staying { file, checksum }) => (plan, candidate.meta.size, Some(checksum), Some(file)),
        None => {
            let (size, checksum, plan) = copy_one(places, candidate, id, metadata).await?;
            (plan, size, checksum, None)
        }
    };
    let FilePlan {
        rows,
        columns,
        stats,
    } = plan;
    let env = places.table.env();
    let added = Added {
        file: candidate.name.clone(),
        rows,
        bytes: size,
        superfile: Some(id),
        in_place,
    };
    let row_ids = RowIds::Span(env.ids.row_span());
    let entry = SuperfileEntry {
        footer_checksum: checksum,
        in_place: file,
        external: Some(ExternalFile {
            source: candidate.source.clone(),
            columns,
        }),
        stats,
        ..SuperfileEntry::new(id, rows, size, env.now_ms(), row_ids)
    };
    Ok((entry, added))
}

/// Copies a file into the table; what the copy is.
async fn copy_one(
    places: &Places,
    candidate: &Candidate,
    id: SuperfileId,
    metadata: &TableMetadata,
) -> Result<(u64, Option<FooterChecksum>, FilePlan)> {
    let own = places.table.storage().object_store();
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
    let copied = match places.copies() {
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
    let end = footer(&own, &copy, &candidate.name).await?;
    let plan = judged(&end, copy.size, candidate, metadata)?;
    Ok((copy.size, end.checksum, plan))
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
