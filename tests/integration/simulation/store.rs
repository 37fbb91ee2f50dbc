//! The store that outlives every process, and everything that is known of a history.
//!
//! Owns: the objects, what a request does to them when it lands, and the record of all that landed. Does not own
//! when a request lands (`wire`), nor whether what it does is right (`checker`, which looks at each landing).
//! Invariant: an effect is atomic and takes no time; a listing is atomic for each of its pages only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use datafusion_supertable::unstable::format::paths::{self, ObjectName};
use datafusion_supertable::unstable::format::{
    ContentHash, StateDoc, SuperfileId, WalId, WalState,
};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, PutMode, Result};
use tokio::time::Instant;

use super::checker::Chain;
use super::clock::DAWN_MS;
use super::model::Statement;
use super::weather::{Weather, mix, mix_text};

/// How often what happened.
pub(super) type Counts = BTreeMap<&'static str, u64>;

/// How the store, or a statement, breaks its word, to see whether that is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// A replacement succeeds whatever the object's state is.
    ReplacesBlindly,
    /// Now and then an object that was acknowledged is not there.
    ForgetsObjects,
    /// Upserts do not say which keys they found absent.
    HidesAbsentKeys,
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub bytes: Bytes,
    pub etag: String,
    pub modified: DateTime<Utc>,
    /// When the first of its states landed.
    pub born: Instant,
}

/// Everything there is, and everything that is known of it.
#[derive(Debug)]
pub(super) struct State {
    pub objects: BTreeMap<Path, Object>,
    next_etag: u64,
    /// Requests on their way.
    pub in_flight: u64,
    pub trace: u64,
    pub counts: Counts,
    pub chain: Chain,
    pub statements: BTreeMap<WalId, Statement>,
    /// The rows of superfiles, also of those that are gone.
    pub superfiles: HashMap<SuperfileId, Arc<Vec<(u64, u64)>>>,
    pub violations: Vec<String>,
    /// What landed, for people.
    pub log: Vec<String>,
    next_number: u64,
}

/// One history's world.
#[derive(Debug)]
pub(super) struct World {
    state: Mutex<State>,
    pub weather: Weather,
    pub start: Instant,
    pub sabotage: Option<Sabotage>,
    pub verbose: bool,
}

impl World {
    pub(super) fn new(weather: Weather, sabotage: Option<Sabotage>, verbose: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                objects: BTreeMap::new(),
                next_etag: 0,
                in_flight: 0,
                trace: 0,
                counts: Counts::new(),
                chain: Chain::default(),
                statements: BTreeMap::new(),
                superfiles: HashMap::new(),
                violations: Vec::new(),
                log: Vec::new(),
                next_number: 0,
            }),
            weather,
            start: Instant::now(),
            sabotage,
            verbose,
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, what: &'static str) {
        self.state().count(what, 1);
    }

    pub(super) fn violation(&self, what: String) {
        self.state().violation(what);
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            let at = self.start.elapsed().as_millis();
            self.state().log.push(format!("{at:>8} {}", what()));
        }
    }

    /// A row's key or value: never the same twice.
    pub(super) fn fresh(&self) -> u64 {
        let mut state = self.state();
        state.next_number += 1;
        state.next_number
    }

    /// Whether an inserted superfile is a file of others: in a quarter of all histories every second one is. Does not
    /// depend on dice, so other histories are as they ever were.
    pub(super) fn adds_external(&self, id: &SuperfileId) -> bool {
        let last = u64::try_from(id.as_uuid().as_u128() & 0xffff_ffff).unwrap();
        self.weather.seed % 4 == 3 && mix(&[last]).is_multiple_of(2)
    }

    fn landed(&self, state: &mut State, process: u64, kind: &str, path: &Path, result: &str) {
        let at = self.start.elapsed().as_millis();
        // A sum, so that what lands in the same millisecond counts alike in any order.
        state.trace = state.trace.wrapping_add(mix(&[
            u64::try_from(at).unwrap(),
            process,
            mix_text(kind),
            mix_text(path.as_ref()),
            mix_text(result),
        ]));
        state.count("requests", 1);
        if kind == "list" {
            state.count("requests: pages of listings", 1);
        }
        if self.verbose {
            let line = format!("{at:>8} p{process} {kind} {path}: {result}");
            state.log.push(line);
        }
    }

    pub(super) fn get(&self, process: u64, path: &Path) -> Option<Object> {
        let mut state = self.state();
        let found = state.objects.get(path).cloned();
        let result = found.as_ref().map_or("missing", |object| &object.etag);
        self.landed(&mut state, process, "get", path, result);
        found
    }

    /// Writes an object; its ETag.
    pub(super) fn put(
        &self,
        process: u64,
        path: &Path,
        bytes: Bytes,
        mode: &PutMode,
    ) -> Result<String> {
        let mut state = self.state();
        let now = state.objects.get(path);
        let (kind, allowed) = match mode {
            PutMode::Overwrite => ("put", true),
            PutMode::Create => ("create", now.is_none()),
            PutMode::Update(expected) => (
                "replace",
                now.is_some_and(|now| {
                    Some(&now.etag) == expected.e_tag.as_ref()
                        || self.sabotage == Some(Sabotage::ReplacesBlindly)
                }),
            ),
        };
        if !allowed {
            self.landed(&mut state, process, kind, path, "refused");
            return Err(refused(path, mode));
        }
        let now_missing = now.is_none();
        let born = now.map_or_else(Instant::now, |now| now.born);
        state.next_etag += 1;
        let etag = match self.weather.content_etags {
            true => format!("\"{}\"", &ContentHash::of(&bytes).to_string()[..16]),
            false => format!("\"{}\"", state.next_etag),
        };
        self.landed(&mut state, process, kind, path, &etag);
        if let Some(now) = state.objects.get(path).cloned() {
            self.check_taking(&mut state, path, &now, &bytes);
        }
        let forgets = self.sabotage == Some(Sabotage::ForgetsObjects)
            && mix(&[self.weather.seed, state.next_etag]).is_multiple_of(40)
            && *path != paths::pointer();
        if forgets {
            return Ok(etag);
        }
        let object = Object {
            bytes,
            etag: etag.clone(),
            modified: self.store_time(),
            born,
        };
        state.objects.insert(path.clone(), object);
        if *path == paths::pointer() {
            state.pointer_swung();
        } else if now_missing && state.is_cut_root(path) {
            // So the pointer leads to versions again whose files are gone.
            state.count("root that landed after it was cut", 1);
        }
        Ok(etag)
    }

    pub(super) fn delete(&self, process: u64, path: &Path) {
        let mut state = self.state();
        let there = state.objects.contains_key(path);
        let result = if there { "deleted" } else { "missing" };
        self.landed(&mut state, process, "delete", path, result);
        if there {
            state.objects.remove(path);
            state.object_deleted(process, path);
        }
    }

    /// One page of a listing.
    pub(super) fn page(
        &self,
        process: u64,
        prefix: &Path,
        after: Option<&Path>,
    ) -> Vec<ObjectMeta> {
        let mut state = self.state();
        let page: Vec<ObjectMeta> = state
            .objects
            .iter()
            .filter(|(path, _)| path.prefix_matches(prefix) && after.is_none_or(|at| *path > at))
            .take(self.weather.page)
            .map(|(path, object)| meta(path, object))
            .collect();
        let result = page.len().to_string();
        self.landed(&mut state, process, "list", prefix, &result);
        page
    }

    /// An INTENT may be taken from its owner only if it stood unchanged for a lease. An owner that lives renews it in
    /// that time, so none is undone, whatever the clocks of others say.
    fn check_taking(&self, state: &mut State, path: &Path, now: &Object, next: &Bytes) {
        let Some(ObjectName::WalDoc(id)) = paths::parse(path) else {
            return;
        };
        let (Ok(held), Ok(next)) = (StateDoc::decode(&now.bytes), StateDoc::decode(next)) else {
            return;
        };
        let both_intents = held.state == WalState::Intent && next.state == WalState::Intent;
        let owner = |doc: &StateDoc| doc.lease.as_ref().map(|lease| lease.owner.clone());
        if !both_intents || owner(&held) == owner(&next) {
            return;
        }
        state.count("INTENT taken from its owner", 1);
        let stood = self.store_time() - now.modified;
        let lease = TimeDelta::from_std(self.weather.lease).unwrap();
        if stood < lease {
            state.violation(format!(
                "{id} was taken from its owner after {stood} of {lease}"
            ));
        }
    }

    fn store_time(&self) -> DateTime<Utc> {
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        DateTime::from_timestamp_millis(DAWN_MS + elapsed).unwrap()
    }
}

impl State {
    pub(super) fn count(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }

    pub(super) fn violation(&mut self, what: String) {
        self.log.push(format!("VIOLATION {what}"));
        self.violations.push(what);
    }

    /// Paths of WAL documents and change sets.
    pub(super) fn wal(&self) -> Vec<Path> {
        let is_wal = |path: &&Path| {
            matches!(
                paths::parse(path),
                Some(ObjectName::WalDoc(_) | ObjectName::WalArrow(_))
            )
        };
        self.objects.keys().filter(is_wal).cloned().collect()
    }
}

pub(super) fn meta(path: &Path, object: &Object) -> ObjectMeta {
    ObjectMeta {
        location: path.clone(),
        last_modified: object.modified,
        size: object.bytes.len() as u64,
        e_tag: Some(object.etag.clone()),
        version: None,
    }
}

/// What a store answers to a conditional write whose condition does not hold.
pub(super) fn refused(path: &Path, mode: &PutMode) -> Error {
    let path = path.to_string();
    match mode {
        PutMode::Create => Error::AlreadyExists {
            path,
            source: "409".into(),
        },
        _ => Error::Precondition {
            path,
            source: "412".into(),
        },
    }
}
