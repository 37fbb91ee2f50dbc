//! Whether a history keeps the table's promises.
//!
//! Owns: the chain of versions as the pointer went through them, each compared with the model at the moment of its
//! swing, and the verdict about what callers were told. Does not own the model itself (`model`).
//!
//! What is checked, and when:
//!
//! - at each swing of the pointer: the version follows the one before; all that it names is in the store;
//!   its rows are those of the one before with the statements that it commits applied in their order, each
//!   whole, each for the first time, none against the rules about rows, with the counts that are reported;
//! - at each deletion: no version that can be reached from the pointer needs the object; the history is
//!   cut only below what a vacuum may cut, by its clock and by the documents that it must have seen;
//! - at each answer: a commit lies between the statement's call and its answer, so that versions agree
//!   with real time; a read is of a version that was current during the call; a conflict has a cause;
//! - at the end: see [`State::check_endings`], and `history` for what is left in the store.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datafusion_supertable::unstable::format::manifest::{Manifest, ManifestHeader, ManifestLoader};
use datafusion_supertable::unstable::format::paths::{self, ObjectName};
use datafusion_supertable::unstable::format::{
    ContentHash, Head, OpKind, Sidecar, StateDoc, WalId, WalState,
};
use datafusion_supertable::{Error, ErrorKind};
use object_store::path::Path;
use tokio::time::Instant;

use super::clock::SkewedClock;
use super::model::{Ending, OWNERS, Rows, Statement, decode, path_of};
use super::store::State;

/// One version, as it came into force.
#[derive(Debug)]
pub(super) struct Version {
    pub manifest: Manifest,
    root: ContentHash,
    pub at: Instant,
    pub needed: BTreeSet<Path>,
    pub rows: Arc<Rows>,
    /// The value of the property that `ALTER` sets.
    property: Option<u64>,
    changes_rows: bool,
}

impl Version {
    pub(super) fn number(&self) -> u64 {
        self.manifest.version()
    }

    pub(super) fn header(&self) -> &ManifestHeader {
        self.manifest.header()
    }
}

/// A vacuum that one process ran, or runs.
#[derive(Debug)]
struct Vacuum {
    started: Instant,
    retain_ms: i64,
    clock: SkewedClock,
}

/// The versions of a history.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub versions: Vec<Arc<Version>>,
    /// The oldest version that the pointer leads to.
    pub floor: u64,
    vacuums: BTreeMap<u64, Vec<Vacuum>>,
    committed: HashSet<WalId>,
}

impl Chain {
    /// The number of the current version; 0 before there is a table.
    pub(super) fn current(&self) -> u64 {
        self.versions.last().map_or(0, |version| version.number())
    }

    pub(super) fn get(&self, number: u64) -> Option<&Arc<Version>> {
        self.versions
            .get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// Whether a version may be gone.
    pub(super) fn may_lack(&self, number: u64) -> bool {
        number < self.floor
    }

    pub(super) fn vacuum_begins(&mut self, process: u64, retain_ms: i64, clock: &SkewedClock) {
        self.vacuums.entry(process).or_default().push(Vacuum {
            started: Instant::now(),
            retain_ms,
            clock: clock.clone(),
        });
    }
}

impl State {
    /// The pointer was written.
    pub(super) fn pointer_swung(&mut self) {
        let bytes = &self.objects[&paths::pointer()].bytes;
        let pointer = match Head::decode(bytes) {
            Ok(Head::Table(pointer)) => pointer,
            other => return self.violation(format!("the pointer is {other:?}")),
        };
        let last = self.chain.versions.last().cloned();
        let current = self.chain.current();
        if pointer.version == current {
            self.count("pointer fenced", 1);
            if last.is_some_and(|last| last.root != pointer.manifest) {
                self.violation(format!("version {current} has two manifests"));
            }
            return;
        }
        if pointer.version != current + 1 {
            let found = pointer.version;
            return self.violation(format!("version {found} follows version {current}"));
        }
        match self.version(&pointer.manifest, last.as_deref()) {
            Ok(version) => {
                let header = version.header();
                let commits: Vec<WalId> = header.commits.iter().map(|c| c.wal_id).collect();
                self.count("versions", 1);
                self.count("commits", commits.len() as u64);
                if commits.len() > 1 {
                    self.count("versions of several statements", 1);
                }
                for id in commits {
                    if !self.chain.committed.insert(id) {
                        self.violation(format!(
                            "{id} is committed a second time in {}",
                            current + 1
                        ));
                    }
                }
                self.chain.floor = self.chain.floor.max(1);
                self.chain.versions.push(Arc::new(version));
            }
            Err(why) => self.violation(format!("version {}: {why}", current + 1)),
        }
    }

    /// The version with this root, if it is what it should be.
    fn version(&mut self, root: &ContentHash, last: Option<&Version>) -> Result<Version, String> {
        let manifest = self.manifest(root, last.map(|last| &last.manifest))?;
        let needed = needed(root, &manifest);
        if let Some(missing) = needed.iter().find(|path| !self.objects.contains_key(path)) {
            return Err(format!("{missing} is missing"));
        }
        let header = manifest.header().clone();
        if header.parent != last.map(|last| last.root) {
            return Err("its parent is another version".to_owned());
        }
        let rows = self.rows_of(&manifest)?;
        let mut expected = last.map_or_else(Rows::new, |last| last.rows.as_ref().clone());
        let mut property = last.and_then(|last| last.property);
        let mut changes_rows = false;
        for record in &header.commits {
            let says = |why| format!("{} {}: {why}", record.op.as_str(), record.wal_id);
            if record.op == OpKind::Restore {
                if header.commits.len() > 1 {
                    return Err(says("a restore is not alone".to_owned()));
                }
                let from = restored(&record.statement).and_then(|from| self.chain.get(from));
                let Some(from) = from else {
                    return Err(says(format!("restores {}", record.statement)));
                };
                expected = from.rows.as_ref().clone();
                changes_rows = true;
                self.count("RESTORE committed", 1);
                continue;
            }
            let Some(statement) = self.statements.get(&record.wal_id).cloned() else {
                return Err(says("nobody began it".to_owned()));
            };
            if let Some((_, ending)) = &statement.ended
                && !matches!(ending, Ending::Failed(ErrorKind::OutcomeUnknown))
            {
                return Err(says(format!("it ended before: {ending:?}")));
            }
            if statement.op != record.op || statement.base >= header.version {
                return Err(says(format!("it is {statement:?}")));
            }
            let reported = statement.apply(&mut expected).map_err(says)?;
            if reported != record.rows_affected() {
                let recorded = record.rows_affected();
                return Err(says(format!("{reported} rows, recorded {recorded}")));
            }
            let between = self.chain.versions.iter();
            let mut between = between.filter(|version| version.number() > statement.base);
            if statement.serializable && (changes_rows || between.any(|v| v.changes_rows)) {
                return Err(says("what it read has changed".to_owned()));
            }
            if let Some(value) = statement.property {
                property = Some(value);
            }
            changes_rows |= !statement.removes.is_empty() || !statement.adds.is_empty();
            self.count(committed_as(record.op), 1);
        }
        if rows != expected {
            let (lost, extra) = (difference(&expected, &rows), difference(&rows, &expected));
            return Err(format!("lacks {lost:?} and has {extra:?} of {header:?}"));
        }
        let found = header.metadata.properties.get("p");
        if found != property.map(|p| p.to_string()).as_ref() {
            return Err(format!("the property is {found:?}, not {property:?}"));
        }
        Ok(Version {
            root: *root,
            at: Instant::now(),
            needed,
            rows: Arc::new(rows),
            property,
            changes_rows,
            manifest,
        })
    }

    /// A manifest as the store has it.
    fn manifest(&self, root: &ContentHash, known: Option<&Manifest>) -> Result<Manifest, String> {
        let node = |hash: &ContentHash| {
            let object = self.objects.get(&paths::manifest_node(hash));
            object
                .map(|object| object.bytes.clone())
                .ok_or(format!("node {hash} is missing"))
        };
        let damaged = |error| format!("a node is damaged: {error:?}");
        let mut loader = ManifestLoader::new(root, &node(root)?, known).map_err(damaged)?;
        loop {
            let wanted = loader.wanted();
            if wanted.is_empty() {
                return loader.finish().map_err(damaged);
            }
            for hash in wanted {
                loader.supply(&hash, &node(&hash)?).map_err(damaged)?;
            }
        }
    }

    /// The live rows of a manifest as the store has them.
    fn rows_of(&self, manifest: &Manifest) -> Result<Rows, String> {
        let mut rows = Rows::new();
        for entry in manifest.entries() {
            let stored = decode(&self.objects[&path_of(entry)].bytes)?;
            if stored.len() as u64 != entry.rows {
                return Err(format!("{} has another number of rows", entry.id));
            }
            let deleted = match &entry.tombstones {
                None => Default::default(),
                Some(tombstones) => {
                    let bytes = &self.objects[&paths::sidecar(&tombstones.sidecar)].bytes;
                    if ContentHash::of(bytes) != tombstones.hash {
                        return Err(format!("{} has other bytes", tombstones.sidecar));
                    }
                    Sidecar::decode(bytes).map_err(|e| e.to_string())?.deleted
                }
            };
            for (position, (key, value)) in (0..).zip(stored) {
                if !deleted.contains(position) && rows.insert(key, value).is_some() {
                    return Err(format!("row {key} is there twice"));
                }
            }
        }
        if rows.len() as u64 != manifest.totals().live_rows {
            return Err("its total of live rows is wrong".to_owned());
        }
        Ok(rows)
    }

    /// Whether this is the root of a version that was made unreachable.
    pub(super) fn is_cut_root(&self, path: &Path) -> bool {
        let chain = &self.chain;
        let mut versions = chain.versions.iter();
        versions.any(|v| v.number() < chain.floor && paths::manifest_node(&v.root) == *path)
    }

    /// An object was deleted by `process`.
    pub(super) fn object_deleted(&mut self, process: u64, path: &Path) {
        if *path == paths::pointer() {
            return self.violation("the pointer was deleted".to_owned());
        }
        if path.as_ref().starts_with(OWNERS) {
            return self.violation(format!("{path} was deleted, which is not the table's own"));
        }
        let chain = &self.chain;
        let mut reachable = chain.versions.iter().rev();
        let needs = reachable
            .by_ref()
            .take_while(|version| version.number() >= chain.floor)
            .find(|version| version.needed.contains(path))
            .cloned();
        let Some(version) = needs else {
            return;
        };
        let number = version.number();
        if number == chain.current() || paths::manifest_node(&version.root) != *path {
            return self.violation(format!("{path} was deleted, which version {number} needs"));
        }
        if let Err(why) = self.may_cut(process, number) {
            self.violation(format!("the history was cut at {number}: {why}"));
        }
        self.count("history cut", 1);
        self.chain.floor = number + 1;
    }

    /// Whether a vacuum of this process was free to make a version unreachable.
    fn may_cut(&self, process: u64, number: u64) -> Result<(), String> {
        let vacuums = self.chain.vacuums.get(&process);
        let vacuums = vacuums.map_or(&[][..], Vec::as_slice);
        let successor = self
            .chain
            .get(number + 1)
            .map(|next| next.header().created_at_ms);
        let mut why = "nobody vacuums".to_owned();
        for vacuum in vacuums {
            let cutoff = vacuum.clock.latest_ms() - vacuum.retain_ms;
            if successor.is_some_and(|created| created > cutoff) {
                why = "it is retained".to_owned();
                continue;
            }
            let reads_it = self.objects.iter().find_map(|(path, object)| {
                let Some(ObjectName::WalDoc(id)) = paths::parse(path) else {
                    return None;
                };
                let doc = StateDoc::decode(&object.bytes).ok()?;
                let live = object.born < vacuum.started
                    && doc.state != WalState::Complete
                    && !self.chain.committed.contains(&id);
                (live && doc.base_version <= number).then_some(id)
            });
            match reads_it {
                None => return Ok(()),
                Some(id) => why = format!("{id} reads it"),
            }
        }
        Err(why)
    }

    /// A statement has its answer.
    pub(super) fn acknowledge(&mut self, id: WalId, ending: Ending) {
        let now = Instant::now();
        let Some(statement) = self.statements.get_mut(&id) else {
            return;
        };
        statement.ended = Some((now, ending.clone()));
        let statement = statement.clone();
        self.count(told(&ending), 1);
        if let Err(why) = self.judge(&id, &statement, &ending) {
            let op = statement.op.as_str();
            self.violation(format!("{op} {id} was told {ending:?}: {why}"));
        }
    }

    fn judge(&self, id: &WalId, statement: &Statement, ending: &Ending) -> Result<(), String> {
        let chain = &self.chain;
        let committed = chain.committed.contains(id);
        let since = statement.base..=chain.current();
        match ending {
            Ending::Committed {
                version,
                rows_affected,
            } => {
                let there = chain.get(*version).ok_or("there is no such version")?;
                let commits = &there.header().commits;
                let record = commits.iter().find(|record| record.wal_id == *id);
                let record = record.ok_or("the version does not commit it")?;
                if record.rows_affected() != *rows_affected {
                    return Err(format!("{} rows are recorded", record.rows_affected()));
                }
                // So what was acknowledged before another statement began has the smaller version.
                if there.at < statement.invoked {
                    return Err("it was committed before it was called".to_owned());
                }
            }
            // Whoever is told so believes that nothing of it will ever be there.
            Ending::Failed(ErrorKind::OutcomeUnknown) => {}
            _ if committed => return Err("it is committed".to_owned()),
            Ending::Nothing => {
                let gone_in = |version: u64| {
                    let rows = chain.get(version).map(|version| &version.rows);
                    rows.is_some_and(|rows| statement.removes.keys().all(|k| !rows.contains_key(k)))
                };
                let needs_no_version = statement.property.is_none() && statement.adds.is_empty();
                if !needs_no_version || !since.into_iter().any(gone_in) {
                    return Err("there was something to commit".to_owned());
                }
            }
            Ending::Conflict if chain.current() <= statement.base => {
                return Err("nobody committed anything since".to_owned());
            }
            Ending::Failed(kind) => self.judge_error(*kind, statement.base)?,
            Ending::Conflict | Ending::Aborted => {}
        }
        Ok(())
    }

    /// Whether an error of this kind can come from what the world does to a process that looks at `version`.
    pub(super) fn judge_error(&self, kind: ErrorKind, version: u64) -> Result<(), String> {
        match kind {
            ErrorKind::Storage | ErrorKind::OutcomeUnknown | ErrorKind::Conflict => Ok(()),
            ErrorKind::NotFound if self.chain.may_lack(version) => Ok(()),
            kind => Err(format!("{kind:?} is no answer to the faults of a store")),
        }
    }

    /// What was read as `version`.
    pub(super) fn check_read(&mut self, version: u64, read: Result<Rows, Error>) {
        match read {
            Ok(rows) => {
                self.count("snapshots read", 1);
                let expected = self
                    .chain
                    .get(version)
                    .map(|version| Arc::clone(&version.rows));
                if expected.as_deref() != Some(&rows) {
                    self.violation(format!("version {version} reads {rows:?}, is {expected:?}"));
                }
            }
            Err(error) => {
                self.count("reads that failed", 1);
                if let Err(why) = self.judge_error(error.kind(), version) {
                    self.violation(format!("reading version {version}: {why}: {error}"));
                }
            }
        }
    }

    /// When all has ended: what callers were told is what the history has.
    pub(super) fn check_endings(&mut self) {
        for (id, statement) in self.statements.clone() {
            let Some((_, ending)) = &statement.ended else {
                continue;
            };
            let may_be = matches!(
                ending,
                Ending::Committed { .. } | Ending::Failed(ErrorKind::OutcomeUnknown)
            );
            if self.chain.committed.contains(&id) && !may_be {
                self.violation(format!("{id} was told {ending:?} and is committed"));
            }
        }
    }
}

/// Every object that a version needs.
pub(super) fn needed(root: &ContentHash, manifest: &Manifest) -> BTreeSet<Path> {
    let mut needed = BTreeSet::from([paths::manifest_node(root)]);
    for group in manifest.groups() {
        needed.extend(group.hash().map(|hash| paths::manifest_node(&hash)));
        let leaves = group.leaves().iter().filter_map(|leaf| leaf.hash());
        needed.extend(leaves.map(|hash| paths::manifest_node(&hash)));
    }
    for entry in manifest.entries() {
        needed.insert(path_of(entry));
        needed.extend(entry.tombstones.map(|t| paths::sidecar(&t.sidecar)));
    }
    needed
}

fn difference(one: &Rows, other: &Rows) -> Rows {
    let missing = one
        .iter()
        .filter(|(key, value)| other.get(key) != Some(value));
    missing.map(|(key, value)| (*key, *value)).collect()
}

/// The version that a restore's text names.
fn restored(statement: &str) -> Option<u64> {
    statement.strip_prefix("RESTORE to version ")?.parse().ok()
}

fn committed_as(op: OpKind) -> &'static str {
    match op {
        OpKind::Insert => "INSERT committed",
        OpKind::Delete => "DELETE committed",
        OpKind::Update => "UPDATE committed",
        OpKind::Merge => "MERGE committed",
        OpKind::Truncate => "TRUNCATE committed",
        OpKind::Overwrite => "OVERWRITE committed",
        OpKind::Compact => "COMPACT committed",
        OpKind::Alter => "ALTER committed",
        _ => "other statements committed",
    }
}

fn told(ending: &Ending) -> &'static str {
    match ending {
        Ending::Committed { .. } => "told: committed",
        Ending::Nothing => "told: nothing to commit",
        Ending::Conflict => "told: conflict",
        Ending::Failed(ErrorKind::OutcomeUnknown) => "told: outcome unknown",
        Ending::Failed(ErrorKind::Conflict) => "told: undone by another",
        Ending::Failed(_) => "told: failed",
        Ending::Aborted => "taken back",
    }
}
