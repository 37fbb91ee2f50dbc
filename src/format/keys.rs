//! Keys: what a `MERGE` found absent and inserted, and what can be known of the keys that others add meanwhile.
//!
//! A *key* is a row's values of the columns that a `MERGE` compares by `=`. A key with a NULL equals none, and is
//! nowhere recorded.
//!
//! Owns the values, when two of them may share a key, and how they are gathered. Does not own their encoding
//! (`manifest::keys_wire`), nor what follows for a commit (`table::apply`).
//!
//! Invariants: two that share a key *may* meet, always; two that may meet need not share one. What is dropped or
//! widened (hashes, bounds) only makes more of them meet, so that what met once meets for ever.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ids::SuperfileId;
use super::stats::{ColumnStats, StatValue, SuperfileStats, outer};

/// The most ranges of one change set's absent keys; so few keys are a range each.
pub(crate) const MAX_RANGES: usize = 64;
/// The most hashes of one change set's absent keys.
pub(crate) const MAX_HASHES: usize = 1 << 15;
/// The most hashes that a version keeps of one change set, and of all.
const MAX_KEPT_OF_ONE: usize = 1024;
const MAX_KEPT: usize = 4096;
/// For so many versions a version keeps them.
const KEPT_VERSIONS: u64 = 32;
/// The most records of dropped superfiles in one version; the oldest become one.
const MAX_DROPPED: usize = 8;
/// The most columns of one of them, and the most bytes of a bound.
const MAX_DROPPED_COLUMNS: usize = 16;
const MAX_DROPPED_BOUND: usize = 16;
/// The most bytes of a bound of absent keys.
const MAX_BOUND: usize = 64;

/// No value of a column is smaller or greater; `None`: no bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// The lower one.
    pub min: Option<StatValue>,
    /// The upper one.
    pub max: Option<StatValue>,
}

impl Bounds {
    fn at(value: &StatValue, max_len: usize) -> Self {
        Self {
            min: Some(value.clone().lower_bound(max_len).0),
            max: value.clone().upper_bound(max_len).map(|(max, _)| max),
        }
    }

    fn of(stats: &ColumnStats) -> Self {
        Self {
            min: stats.min.clone(),
            max: stats.max.clone(),
        }
    }

    fn shortened(self, max_len: usize) -> Self {
        Self {
            min: self.min.map(|min| min.lower_bound(max_len).0),
            max: self.max.and_then(|max| Some(max.upper_bound(max_len)?.0)),
        }
    }

    /// Makes it hold for all values of `other`, too.
    fn widen(&mut self, other: &Self) {
        self.min = outer(self.min.take(), other.min.as_ref(), Ordering::Less);
        self.max = outer(self.max.take(), other.max.as_ref(), Ordering::Greater);
    }

    fn meets(&self, other: &Self) -> bool {
        let apart = |max: &Option<StatValue>, min: &Option<StatValue>| match (max, min) {
            (Some(max), Some(min)) => compare(max, min) == Some(Ordering::Less),
            _ => false,
        };
        !apart(&self.max, &other.min) && !apart(&other.max, &self.min)
    }
}

/// The order of two values of one column. `None` if it is not known. Zeros of floats are equal, as keys they are.
pub(crate) fn compare(one: &StatValue, other: &StatValue) -> Option<Ordering> {
    match (one, other) {
        (StatValue::Float(a), StatValue::Float(b)) => a.partial_cmp(b),
        _ => one.compare(other),
    }
}

/// The keys that a change set found absent in its base, and adds.
#[derive(Clone, Debug, PartialEq)]
pub struct AbsentKeys {
    /// The field ids of the key columns, ascending. None: nothing is known of the keys.
    pub columns: Vec<i32>,
    /// Each key is in one of these, which have bounds for each key column.
    pub ranges: Vec<Vec<Bounds>>,
    /// The hashes of all of them, ascending, if they are few.
    pub hashes: Option<Vec<u64>>,
    /// Whether the change set may add rows with keys that are neither these nor in the table before.
    pub adds_others: bool,
}

impl AbsentKeys {
    /// Keys of which nothing is known: any added row may have one of them.
    pub fn unknown() -> Self {
        Self {
            columns: Vec::new(),
            ranges: vec![Vec::new()],
            hashes: None,
            adds_others: true,
        }
    }

    /// Keys of one column; `None` if there are none.
    pub fn of_column(field_id: i32, keys: impl IntoIterator<Item = StatValue>) -> Option<Self> {
        let mut gatherer = KeyGatherer::new(vec![field_id]);
        keys.into_iter()
            .for_each(|key| gatherer.add(vec![Some(key)]));
        gatherer.finish(false)
    }

    /// Whether it is one that writers make.
    pub(crate) fn is_well_formed(&self) -> bool {
        let ascends = |ids: &[i32]| ids.is_sorted_by(|a, b| a < b);
        let hashes = self.hashes.as_deref().unwrap_or_default();
        ascends(&self.columns)
            && (1..=MAX_RANGES).contains(&self.ranges.len())
            && self.ranges.iter().all(|r| r.len() == self.columns.len())
            && hashes.len() <= MAX_HASHES
            && hashes.is_sorted_by(|a, b| a < b)
            && !self.hashes.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether one of `rows` rows with these statistics may have one of the keys.
    pub(crate) fn may_be_in(&self, stats: &SuperfileStats, rows: u64) -> bool {
        self.meets(|id| match stats.columns.get(&id) {
            Some(column) if column.null_count == Some(rows) => None,
            Some(column) => Some(Bounds::of(column)),
            None => Some(Bounds::default()),
        })
    }

    /// Whether one of the dropped rows may have had one of the keys.
    pub(crate) fn may_have_been_in(&self, dropped: &DroppedRows) -> bool {
        self.meets(|id| Some(dropped.columns.get(&id).cloned().unwrap_or_default()))
    }

    /// Whether a range meets the bounds of each column; a column that is `None` has no value but NULL.
    fn meets(&self, bounds: impl Fn(i32) -> Option<Bounds>) -> bool {
        let Some(bounds) = self.columns.iter().map(|id| bounds(*id)).collect() else {
            return false;
        };
        let bounds: Vec<Bounds> = bounds;
        let meets = |range: &Vec<Bounds>| range.iter().zip(&bounds).all(|(r, b)| r.meets(b));
        self.ranges.iter().any(meets)
    }

    /// Whether a key with this hash may be one of them.
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        (self.hashes.as_ref()).is_none_or(|hashes| hashes.binary_search(&hash).is_ok())
    }

    /// Whether one of them may be one of those that were `added`.
    pub(crate) fn may_share(&self, added: &AddedKeys) -> bool {
        self.columns != added.columns || added.hashes.iter().any(|hash| self.may_have(*hash))
    }

    /// All keys that its change set adds and that were not in the table before, if they are known.
    pub(crate) fn added(
        &self,
        version: u64,
        superfiles: impl Iterator<Item = SuperfileId>,
    ) -> Option<AddedKeys> {
        let hashes = self.hashes.as_ref().filter(|_| !self.adds_others)?;
        Some(AddedKeys {
            version,
            superfiles: superfiles.collect(),
            columns: self.columns.clone(),
            hashes: hashes.clone(),
        })
    }

    /// The hash of the key that all rows with these statistics have whose key has no NULL, if they have one key.
    pub(crate) fn only_key(&self, stats: &SuperfileStats) -> Option<u64> {
        let values = self.columns.iter().map(|id| {
            let column = stats.columns.get(id)?;
            let only = column.min_exact && column.max_exact && column.min == column.max;
            column.min.clone().filter(|_| only)
        });
        hash_of(&values.collect::<Option<Vec<_>>>()?)
    }
}

/// The keys of the rows that one change set added, and that were not in the table before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedKeys {
    /// The version that committed it.
    pub version: u64,
    /// The superfiles that it added.
    pub superfiles: Vec<SuperfileId>,
    /// The field ids of the key columns, ascending.
    pub columns: Vec<i32>,
    /// The hashes of the keys, ascending.
    pub hashes: Vec<u64>,
}

/// Of `all`, the oldest first, what version `version` is to keep.
pub(crate) fn kept_keys(version: u64, all: Vec<Arc<AddedKeys>>) -> Vec<Arc<AddedKeys>> {
    let mut left = MAX_KEPT;
    let mut kept: Vec<_> = (all.into_iter().rev())
        .filter(|keys| keys.hashes.len() <= MAX_KEPT_OF_ONE)
        .take_while(|keys| {
            let fits = left.checked_sub(keys.hashes.len());
            left = fits.unwrap_or_default();
            fits.is_some() && keys.version.saturating_add(KEPT_VERSIONS) > version
        })
        .collect();
    kept.reverse();
    kept
}

/// What is known of rows that were in superfiles which a version dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DroppedRows {
    /// The last version in which a row came into one of them.
    pub added_at: u64,
    /// Bounds of columns, by field id; of the others, nothing is known.
    pub columns: BTreeMap<i32, Bounds>,
}

impl DroppedRows {
    /// What is known of the rows of one superfile.
    pub(crate) fn of(stats: &SuperfileStats, rows: u64, added_at: u64) -> Self {
        // A column without values has no bounds; nothing is known of it then.
        let columns = (stats.columns.iter())
            .filter(|(_, column)| column.null_count != Some(rows))
            .take(MAX_DROPPED_COLUMNS)
            .map(|(id, column)| (*id, Bounds::of(column).shortened(MAX_DROPPED_BOUND)))
            .collect();
        Self { added_at, columns }
    }

    /// Makes it hold for the rows of `other`, too.
    pub(crate) fn join(&mut self, other: &Self) {
        self.added_at = self.added_at.max(other.added_at);
        self.columns
            .retain(|id, bounds| match other.columns.get(id) {
                Some(others) => {
                    bounds.widen(others);
                    true
                }
                None => false,
            });
    }

    /// Of `all`, as many as a version may have; those with the oldest rows become one.
    pub(crate) fn at_most(mut all: Vec<Self>) -> Vec<Self> {
        all.sort_by_key(|dropped| dropped.added_at);
        let surplus = all.len().saturating_sub(MAX_DROPPED);
        let mut all = all.into_iter();
        let mut kept = Vec::with_capacity(MAX_DROPPED);
        if let Some(mut oldest) = all.next() {
            all.by_ref().take(surplus).for_each(|it| oldest.join(&it));
            kept.push(oldest);
        }
        kept.extend(all);
        kept
    }
}

/// The hash of a key. Keys of one table and schema that are equal have one hash; none if that cannot be said of them.
fn hash_of(key: &[StatValue]) -> Option<u64> {
    let mut hasher = blake3::Hasher::new();
    for value in key {
        let bytes = match value {
            // Two zeros, and values that are equal after a cast: not worth a rule.
            StatValue::Float(_) => return None,
            StatValue::Bool(v) => &[u8::from(*v)][..],
            StatValue::Decimal(v) => &v.to_le_bytes(),
            StatValue::Int(_) | StatValue::UInt(_) => &value.integer()?.to_le_bytes(),
            StatValue::Utf8(v) => v.as_bytes(),
            StatValue::Binary(v) => v,
        };
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    let hash = hasher.finalize();
    Some(u64::from_le_bytes(*hash.as_bytes().first_chunk()?))
}

/// Gathers the keys of one change set, one after the other.
#[derive(Debug)]
pub(crate) struct KeyGatherer {
    columns: Vec<i32>,
    /// As many different keys as there may be ranges.
    few: Option<Vec<Vec<Bounds>>>,
    hull: Option<Vec<Bounds>>,
    hashes: Option<BTreeSet<u64>>,
}

impl KeyGatherer {
    /// For keys of these columns, whose field ids ascend.
    pub(crate) fn new(columns: Vec<i32>) -> Self {
        Self {
            columns,
            few: Some(Vec::new()),
            hull: None,
            hashes: Some(BTreeSet::new()),
        }
    }

    /// Whether there are more keys than are gathered one by one.
    pub(crate) fn is_full(&self) -> bool {
        self.hashes.is_none()
    }

    /// How many different keys there are, at least; `None` if that is not known.
    pub(crate) fn different(&self) -> Option<usize> {
        match &self.hull {
            Some(_) => Some(self.hashes.as_ref()?.len()),
            None => Some(0),
        }
    }

    /// Adds a key, whose values are in the order of the columns; `None` is a value of which nothing is known.
    pub(crate) fn add(&mut self, key: Vec<Option<StatValue>>) {
        let range: Vec<Bounds> = (key.iter())
            .map(|value| match value {
                Some(value) => Bounds::at(value, MAX_BOUND),
                None => Bounds::default(),
            })
            .collect();
        let hash = (key.into_iter().collect::<Option<Vec<_>>>()).and_then(|key| hash_of(&key));
        match hash {
            Some(hash) => {
                if let Some(few) = &mut self.few
                    && !few.contains(&range)
                {
                    few.push(range.clone());
                }
                if let Some(hashes) = &mut self.hashes {
                    hashes.insert(hash);
                }
            }
            None => (self.few, self.hashes) = (None, None),
        }
        self.few.take_if(|few| few.len() > MAX_RANGES);
        self.hashes.take_if(|hashes| hashes.len() > MAX_HASHES);
        self.widen(range);
    }

    /// From here on keys are not gathered one by one, but by the statistics of their superfiles.
    pub(crate) fn add_unread(&mut self) {
        (self.few, self.hashes) = (None, None);
    }

    /// Adds keys of which only these statistics are known.
    fn add_all(&mut self, stats: &SuperfileStats) {
        (self.few, self.hashes) = (None, None);
        let bounds = |id| stats.columns.get(id).map(Bounds::of).unwrap_or_default();
        self.widen(self.columns.iter().map(bounds).collect());
    }

    /// If not all keys were gathered one by one: adds what the statistics of their superfiles tell of them.
    pub(crate) fn complete<'s>(&mut self, stats: impl Iterator<Item = &'s SuperfileStats>) {
        if self.is_full() {
            stats.for_each(|stats| self.add_all(stats));
        }
    }

    /// Adds keys of which nothing is known.
    pub(crate) fn add_unknown(&mut self) {
        self.add_all(&SuperfileStats::default());
    }

    fn widen(&mut self, range: Vec<Bounds>) {
        match &mut self.hull {
            Some(hull) => hull.iter_mut().zip(&range).for_each(|(h, r)| h.widen(r)),
            None => self.hull = Some(range),
        }
    }

    /// What was gathered; `None` if nothing was. `adds_others`: see [`AbsentKeys`].
    pub(crate) fn finish(self, adds_others: bool) -> Option<AbsentKeys> {
        let hull = self.hull?;
        Some(AbsentKeys {
            columns: self.columns,
            ranges: self.few.unwrap_or_else(|| vec![hull]),
            hashes: self.hashes.map(|hashes| hashes.into_iter().collect()),
            adds_others,
        })
    }
}
