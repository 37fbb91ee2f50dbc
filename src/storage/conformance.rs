//! The suite that every backend passes: what the rest of the crate relies on, as checks.
//!
//! Owns the checks, for unit tests and for integration tests against real servers. Does not own
//! starting a backend, nor faults. Not part of the public API.
//!
//! Invariant: each check works below a fresh prefix of its own, so that runs do not meet.
//!
//! A crash leaves the objects below `conformance/` behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt, PutPayload};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{CasOutcome, Fetched, ObjectVersion, Storage, StorageError};

/// What a backend did that it must not do.
#[derive(Debug, thiserror::Error)]
#[error("{check}: {detail}")]
pub struct Violation {
    check: &'static str,
    detail: String,
}

/// The result of a check.
pub type CheckResult<T = ()> = Result<T, Violation>;

/// The context of one check: its name, its storage and its own prefix.
#[derive(Clone, Debug)]
struct Check {
    name: &'static str,
    storage: Storage,
    prefix: Path,
}

impl Check {
    fn new(name: &'static str, storage: &Storage) -> Self {
        let run = Uuid::new_v4().simple().to_string();
        Self {
            name,
            storage: storage.clone(),
            prefix: Path::from_iter(["conformance", name, run.as_str()]),
        }
    }

    fn key(&self, name: &str) -> Path {
        self.prefix
            .parts()
            .chain(Path::from(name).parts())
            .collect()
    }

    fn violation(&self, detail: impl Into<String>) -> Violation {
        Violation {
            check: self.name,
            detail: detail.into(),
        }
    }

    fn that(&self, holds: bool, detail: impl Into<String>) -> CheckResult {
        if holds {
            return Ok(());
        }
        Err(self.violation(detail))
    }

    fn run<T>(&self, outcome: Result<T, StorageError>) -> CheckResult<T> {
        outcome.map_err(|e| self.violation(chain(&e)))
    }

    fn store<T>(&self, outcome: object_store::Result<T>) -> CheckResult<T> {
        outcome.map_err(|e| self.violation(chain(&e)))
    }

    fn committed(
        &self,
        what: &str,
        outcome: Result<CasOutcome, StorageError>,
    ) -> CheckResult<ObjectVersion> {
        match self.run(outcome)? {
            CasOutcome::Committed(version) => Ok(version),
            CasOutcome::Lost => Err(self.violation(format!("{what} lost, alone as it was"))),
        }
    }

    fn lost(&self, what: &str, outcome: Result<CasOutcome, StorageError>) -> CheckResult {
        match self.run(outcome)? {
            CasOutcome::Committed(_) => Err(self.violation(format!("{what} was committed"))),
            CasOutcome::Lost => Ok(()),
        }
    }

    async fn holds(&self, key: &Path, expected: &Bytes) -> CheckResult<ObjectVersion> {
        match self.run(self.storage.get(key).await)? {
            Some((found, version)) if found == *expected => Ok(version),
            Some((found, _)) => {
                Err(self.violation(format!("{key} holds {found:?}, not {expected:?}")))
            }
            None => Err(self.violation(format!("{key} is missing"))),
        }
    }

    async fn names(&self, prefix: Option<&Path>) -> CheckResult<BTreeSet<String>> {
        let listed = self.storage.list(prefix).map_ok(|o| o.location.to_string());
        self.run(listed.try_collect().await)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// A body that no other write has.
fn fresh(text: &str) -> Bytes {
    Bytes::from(format!("{text} {}", Uuid::new_v4()))
}

/// Everything that one caller at a time can observe.
///
/// # Errors
/// The first [`Violation`].
pub async fn contract(storage: &Storage) -> CheckResult {
    creating(storage).await?;
    replacing(storage).await?;
    reading_what_changed(storage).await?;
    deleting(storage).await?;
    immutable_objects(storage).await?;
    listing(storage).await?;
    streaming(storage).await?;
    tokens(storage).await
}

async fn creating(storage: &Storage) -> CheckResult {
    let check = Check::new("creating", storage);
    let key = check.key("a/b/object.json");
    check.that(
        check.run(storage.get(&key).await)?.is_none(),
        "an object exists that was never created",
    )?;
    let (first, second) = (fresh("first"), fresh("second"));
    let version = check.committed("a create", storage.create(&key, first.clone()).await)?;
    check.that(
        check.holds(&key, &first).await? == version,
        "a read returns another version than the create",
    )?;
    check.lost("a second create", storage.create(&key, second).await)?;
    check.holds(&key, &first).await?;

    let empty = check.key("empty");
    check.committed(
        "an empty create",
        storage.create(&empty, Bytes::new()).await,
    )?;
    check.holds(&empty, &Bytes::new()).await?;

    let large = Bytes::from(Uuid::new_v4().as_bytes().repeat(1 << 16));
    let key = check.key("large");
    check.committed(
        "a create of 1 MiB",
        storage.create(&key, large.clone()).await,
    )?;
    check.holds(&key, &large).await?;

    for name in [
        "with space",
        "ünïcode",
        "percent%41",
        "hash#1",
        "a+b&c=d",
        "~tilde",
    ] {
        let (key, body) = (check.key(name), fresh(name));
        check.committed(name, storage.create(&key, body.clone()).await)?;
        check.holds(&key, &body).await?;
        check.that(
            check
                .names(Some(&check.prefix))
                .await?
                .contains(key.as_ref()),
            format!("{key} is not listed"),
        )?;
    }
    Ok(())
}

async fn replacing(storage: &Storage) -> CheckResult {
    let check = Check::new("replacing", storage);
    let key = check.key("object");
    let bodies: Vec<Bytes> = (0..20).map(|_| fresh("body of one length")).collect();
    let mut seen = Vec::new();
    for body in &bodies {
        let version = match seen.last() {
            None => check.committed("a create", storage.create(&key, body.clone()).await)?,
            Some(known) => check.committed(
                "a replace",
                storage.replace(&key, known, body.clone()).await,
            )?,
        };
        check.holds(&key, body).await?;
        check.that(!seen.contains(&version), "a version came back")?;
        seen.push(version);
    }
    let Some((current, stale)) = seen.split_last() else {
        return Ok(());
    };
    for version in stale {
        let outcome = storage.replace(&key, version, fresh("stale")).await;
        check.lost("a replace from a stale version", outcome)?;
    }
    let missing = check.key("missing");
    let outcome = storage.replace(&missing, current, fresh("missing")).await;
    check.lost("a replace of a missing object", outcome)?;
    check.that(
        check.run(storage.get(&missing).await)?.is_none(),
        "a lost replace created the object",
    )?;
    // A version that was read is as good as one that was written.
    let Some((_, read)) = check.run(storage.get(&key).await)? else {
        return Err(check.violation("the object vanished"));
    };
    let last = fresh("last");
    check.committed(
        "a replace from a version read",
        storage.replace(&key, &read, last.clone()).await,
    )?;
    check.holds(&key, &last).await?;
    Ok(())
}

async fn reading_what_changed(storage: &Storage) -> CheckResult {
    let check = Check::new("reading_what_changed", storage);
    let key = check.key("object");
    let (first, second) = (fresh("1"), fresh("2"));
    let v1 = check.committed("a create", storage.create(&key, first).await)?;
    check.that(
        check.run(storage.get_if_changed(&key, &v1).await)? == Fetched::Unchanged,
        "an unchanged object is reported as changed",
    )?;
    let v2 = check.committed(
        "a replace",
        storage.replace(&key, &v1, second.clone()).await,
    )?;
    check.that(
        check.run(storage.get_if_changed(&key, &v1).await)? == Fetched::Changed(second, v2.clone()),
        "a change is not reported",
    )?;
    check.run(storage.delete(&key).await)?;
    check.that(
        check.run(storage.get_if_changed(&key, &v2).await)? == Fetched::Missing,
        "a deleted object is not reported as missing",
    )
}

async fn deleting(storage: &Storage) -> CheckResult {
    let check = Check::new("deleting", storage);
    let key = check.key("deep/er/object");
    check.run(storage.delete(&key).await)?;
    let version = check.committed("a create", storage.create(&key, fresh("1")).await)?;
    check.run(storage.delete(&key).await)?;
    check.run(storage.delete(&key).await)?;
    check.that(
        check.run(storage.get(&key).await)?.is_none(),
        "a deleted object is still there",
    )?;
    let outcome = storage.replace(&key, &version, fresh("2")).await;
    check.lost("a replace of a deleted object", outcome)?;
    let body = fresh("3");
    check.committed(
        "a create after a delete",
        storage.create(&key, body.clone()).await,
    )?;
    let outcome = storage.replace(&key, &version, fresh("4")).await;
    check.lost("a replace from before the delete", outcome)?;
    check.holds(&key, &body).await?;
    Ok(())
}

async fn immutable_objects(storage: &Storage) -> CheckResult {
    let check = Check::new("immutable_objects", storage);
    let key = check.key("object");
    let body = fresh("first");
    check.run(storage.put_immutable(&key, body.clone()).await)?;
    check.run(storage.put_immutable(&key, body.clone()).await)?;
    check.run(storage.put_immutable(&key, fresh("other")).await)?;
    check.holds(&key, &body).await?;
    Ok(())
}

async fn listing(storage: &Storage) -> CheckResult {
    let check = Check::new("listing", storage);
    let names = [
        "a",
        "a-b",
        "dir/1",
        "dir/2",
        "dir/sub/3",
        "dir-other/4",
        "dirt/5",
    ];
    for name in names {
        check.committed(name, storage.create(&check.key(name), fresh(name)).await)?;
    }
    let full = |wanted: &[&str]| -> BTreeSet<String> {
        wanted
            .iter()
            .map(|name| check.key(name).to_string())
            .collect()
    };
    let all = check.names(Some(&check.prefix)).await?;
    check.that(all == full(&names), format!("lists {all:?}"))?;
    let below = check.names(Some(&check.key("dir"))).await?;
    check.that(
        below == full(&["dir/1", "dir/2", "dir/sub/3"]),
        format!("below `dir` lists {below:?}"),
    )?;
    let mut listed = storage.list(Some(&check.key("absent")));
    let asked_twice = (listed.next().await, listed.next().await);
    check.that(
        matches!(asked_twice, (None, None)),
        "an ended listing goes on".to_owned(),
    )?;
    let none = check.names(Some(&check.key("absent"))).await?;
    check.that(none.is_empty(), format!("an absent prefix lists {none:?}"))?;
    let whole = check.names(None).await?;
    check.that(
        whole.is_superset(&all),
        "without a prefix objects are left out",
    )?;
    let flat = check.key("flat");
    for name in ["flat/1", "flat/10", "flat/2", "flat/3"] {
        check.committed(name, storage.create(&check.key(name), fresh(name)).await)?;
    }
    let after = storage.list_from(&flat, &check.key("flat/10"));
    let after = after.map_ok(|o| o.location.to_string());
    let after: BTreeSet<String> = check.run(after.try_collect().await)?;
    check.that(
        after == full(&["flat/2", "flat/3"]),
        format!("after `flat/10` lists {after:?}"),
    )?;
    let after = storage.list_from(&check.prefix, &check.key("dir/1"));
    let after = after.map_ok(|o| o.location.to_string());
    let after: BTreeSet<String> = check.run(after.try_collect().await)?;
    check.that(
        !after.contains(check.key("dir-other/4").as_ref()),
        format!("after `dir/1` lists {after:?}"),
    )?;
    let sizes: Vec<u64> = check.run(
        storage
            .list(Some(&check.key("dir/sub")))
            .map_ok(|o| o.size)
            .try_collect()
            .await,
    )?;
    check.that(
        sizes == [fresh("dir/sub/3").len() as u64],
        format!("lists sizes {sizes:?}"),
    )
}

async fn streaming(storage: &Storage) -> CheckResult {
    let check = Check::new("streaming", storage);
    let store = storage.object_store();
    let key = check.key("superfiles/object.parquet");
    // S3 wants 5 MiB for every part but the last.
    let part = Bytes::from(Uuid::new_v4().as_bytes().repeat(5 * (1 << 16)));
    let tail = fresh("tail");
    let mut upload = check.store(store.put_multipart(&key).await)?;
    let mut parts = Vec::new();
    for bytes in [&part, &part, &tail] {
        parts.push(upload.put_part(PutPayload::from_bytes(bytes.clone())));
    }
    for part in parts {
        check.store(part.await)?;
    }
    check.that(
        check.run(storage.get(&key).await)?.is_none(),
        "an upload is visible before it is completed",
    )?;
    check.store(upload.complete().await)?;
    let whole: Bytes = [part.as_ref(), part.as_ref(), tail.as_ref()]
        .concat()
        .into();
    check.holds(&key, &whole).await?;

    let size = whole.len() as u64;
    for range in [0..1, 7..5_000_000, size - 1..size, size - 5..size + 5] {
        let found = check.store(store.get_range(&key, range.clone()).await)?;
        let end = range.end.min(size);
        check.that(
            found == whole.slice(range.start as usize..end as usize),
            format!("the range {range:?} reads other bytes"),
        )?;
    }
    let ranges = [3..9, 100..200, size - 8..size];
    let found = check.store(store.get_ranges(&key, &ranges).await)?;
    let expected: Vec<Bytes> = ranges
        .iter()
        .map(|r| whole.slice(r.start as usize..r.end as usize))
        .collect();
    check.that(found == expected, "several ranges read other bytes")?;
    let options = GetOptions::new().with_range(Some(GetRange::Offset(size - 10)));
    let found = check.store(store.get_opts(&key, options).await)?;
    check.that(
        check.store(found.bytes().await)? == whole.slice(whole.len() - 10..),
        "an open range reads other bytes",
    )?;
    let head = check.store(store.head(&key).await)?;
    check.that(head.size == size, "the size is wrong")?;

    let aborted = check.key("superfiles/aborted.parquet");
    let mut upload = check.store(store.put_multipart(&aborted).await)?;
    check.store(upload.put_part(PutPayload::from_bytes(tail)).await)?;
    check.store(upload.abort().await)?;
    let listed = check.names(Some(&check.prefix)).await?;
    check.that(
        listed == BTreeSet::from([key.to_string()]),
        format!("after an aborted upload lists {listed:?}"),
    )
}

async fn tokens(storage: &Storage) -> CheckResult {
    let check = Check::new("tokens", storage);
    let key = check.key("object");
    let version = check.committed("a create", storage.create(&key, fresh("1")).await)?;
    let parsed = ObjectVersion::parse_token(&version.token());
    check.that(
        parsed.as_ref() == Some(&version),
        format!("{version:?} does not survive its text form"),
    )?;
    check.that(
        ObjectVersion::parse_token("").is_none(),
        "an empty text is a version",
    )
}

/// In each of `rounds` rounds `racers` tasks replace one object from one version: exactly one is
/// committed, and its body stands.
///
/// # Errors
/// The first [`Violation`].
pub async fn racing_replaces(storage: &Storage, racers: usize, rounds: usize) -> CheckResult {
    let check = Check::new("racing_replaces", storage);
    let key = check.key("object");
    let mut version = check.committed("a create", storage.create(&key, fresh("start")).await)?;
    for round in 0..rounds {
        let expected = Some(version);
        version = race(&check, &key, expected, racers, round).await?;
    }
    Ok(())
}

/// In each of `rounds` rounds `racers` tasks create one object: exactly one is committed, and its
/// body stands.
///
/// # Errors
/// The first [`Violation`].
pub async fn racing_creates(storage: &Storage, racers: usize, rounds: usize) -> CheckResult {
    let check = Check::new("racing_creates", storage);
    for round in 0..rounds {
        // Every other round meets again where an object was deleted.
        let key = check.key(&format!("object-{}", round / 2));
        race(&check, &key, None, racers, round).await?;
        if round % 2 == 0 {
            check.run(storage.delete(&key).await)?;
        }
    }
    Ok(())
}

async fn race(
    check: &Check,
    key: &Path,
    expected: Option<ObjectVersion>,
    racers: usize,
    round: usize,
) -> CheckResult<ObjectVersion> {
    let start = Arc::new(Barrier::new(racers));
    let mut tasks = JoinSet::new();
    for racer in 0..racers {
        let (check, key, expected) = (check.clone(), key.clone(), expected.clone());
        let start = Arc::clone(&start);
        tasks.spawn(async move {
            let body = fresh(&format!("round {round} racer {racer:2}"));
            start.wait().await;
            let outcome = match &expected {
                None => check.storage.create(&key, body.clone()).await,
                Some(version) => check.storage.replace(&key, version, body.clone()).await,
            };
            (check.run(outcome), body)
        });
    }
    let mut winners = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        let (outcome, body) = joined.map_err(|e| check.violation(e.to_string()))?;
        if let CasOutcome::Committed(version) = outcome? {
            winners.push((version, body));
        }
    }
    match winners.as_slice() {
        [(version, body)] => {
            let found = check.holds(key, body).await?;
            check.that(found == *version, "the winner was told another version")?;
            Ok(found)
        }
        _ => Err(check.violation(format!("round {round} has {} winners", winners.len()))),
    }
}

/// Tasks that each add one to a number in one object, by read and replace until committed: every
/// addition counts once. Readers meanwhile see whole states only, and never an older one than before.
///
/// # Errors
/// The first [`Violation`].
pub async fn counting(storage: &Storage, writers: usize, additions: usize) -> CheckResult {
    let check = Check::new("counting", storage);
    let key = check.key("counter");
    check.committed("a create", storage.create(&key, count_body(0)).await)?;
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let (check, key) = (check.clone(), key.clone());
        tasks.spawn(async move {
            for _ in 0..additions {
                add_one(&check, &key).await?;
            }
            Ok(())
        });
    }
    for _ in 0..2 {
        let (check, key) = (check.clone(), key.clone());
        let goal = (writers * additions) as u64;
        tasks.spawn(async move {
            let mut last = 0;
            while last < goal {
                let (now, _) = read_count(&check, &key).await?;
                check.that(now >= last, format!("{now} was read after {last}"))?;
                last = now;
                tokio::task::yield_now().await;
            }
            Ok(())
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.map_err(|e| check.violation(e.to_string()))??;
    }
    let (total, _) = read_count(&check, &key).await?;
    check.that(
        total == (writers * additions) as u64,
        format!("{writers} times {additions} additions make {total}"),
    )
}

async fn add_one(check: &Check, key: &Path) -> CheckResult {
    loop {
        let (count, version) = read_count(check, key).await?;
        let outcome = check
            .storage
            .replace(key, &version, count_body(count + 1))
            .await;
        if let CasOutcome::Committed(_) = check.run(outcome)? {
            return Ok(());
        }
    }
}

/// The number, a nonce, and the same again at the end, so that a mixture of two states shows.
fn count_body(count: u64) -> Bytes {
    let nonce = Uuid::new_v4();
    Bytes::from(format!("{count} {nonce} {count} {nonce}"))
}

async fn read_count(check: &Check, key: &Path) -> CheckResult<(u64, ObjectVersion)> {
    let Some((bytes, version)) = check.run(check.storage.get(key).await)? else {
        return Err(check.violation("the counter vanished"));
    };
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        [a, b, c, d] if a == c && b == d => match a.parse() {
            Ok(count) => Ok((count, version)),
            Err(_) => Err(check.violation(format!("the counter holds {text}"))),
        },
        _ => Err(check.violation(format!("the counter holds {text}"))),
    }
}
