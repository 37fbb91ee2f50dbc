//! The keys of the rows that one attempt at a statement writes.
//!
//! Owns what is kept of them while they pass, in bounded memory, and from it which comparisons are spared:
//!
//! | what is known | what it spares |
//! | --- | --- |
//! | so many different hashes as rows, or each superfile ascends and their bounds lie apart | comparing new rows with each other |
//! | a superfile of the table cannot hold one of the keys | comparing new rows with its |
//! | the keys are kept in memory | reading them back |
//!
//! Does not own the comparison (`check`), nor what absent keys are to a commit (`format::keys`).
//!
//! Invariant: after [`WrittenKeys::check`] no two rows of the version with the statement's effect have one key, and what
//! it returns says of every key that was added that it was absent.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::ExecutionPlan;
use roaring::RoaringBitmap;

use super::check::{KeyCheck, live_rows, places};
use super::gather::{gather, whole_rows};
use crate::format::SuperfileId;
use crate::format::keys::{AbsentKeys, KeyGatherer, compare};
use crate::format::manifest::{SuperfileEntry, UniqueKey, select};
use crate::format::stats::{RowStats, StatValue};
use crate::scan::plan::subset::{Rows, Subset};
use crate::table::{KeyOrders, Snapshot};

/// So few keys are looked for by Bloom filters; more of them are in most superfiles.
const FEW_KEYS: usize = 64;

/// Bytes of keys that are kept, for each declared key, if the memory pool has them.
const KEPT_BYTES: usize = 32 << 20;

/// The keys of the rows that an attempt writes.
pub(crate) struct WrittenKeys {
    keys: Vec<KeyRows>,
    orders: Arc<KeyOrders>,
}

/// The rows as one key sees them.
struct KeyRows {
    key: UniqueKey,
    /// Where its columns are in the rows, in the order of its declaration.
    places: Vec<usize>,
    /// Which of those is which, by ascending field id.
    by_id: Vec<usize>,
    gathered: Mutex<Gathered>,
}

struct Gathered {
    gatherer: KeyGatherer,
    /// Rows whose key has no NULL.
    rows: usize,
    /// All of them, while there is memory for them.
    kept: Option<Vec<RecordBatch>>,
    memory: MemoryReservation,
}

/// The keys of one column that are kept, if they are few.
fn few_values(kept: &Option<Vec<RecordBatch>>) -> Result<Option<HashSet<ScalarValue>>> {
    let Some(kept) = kept else { return Ok(None) };
    if kept.iter().map(RecordBatch::num_rows).sum::<usize>() > FEW_KEYS {
        return Ok(None);
    }
    let mut values = HashSet::new();
    for column in kept.iter().filter_map(|batch| batch.columns().first()) {
        for row in 0..column.len() {
            values.insert(ScalarValue::try_from_array(column, row)?);
        }
    }
    values.retain(|value| !value.is_null());
    Ok(Some(values))
}

/// What a statement does to the version that it reads, apart from metadata.
pub(crate) struct Rewritten<'a> {
    pub(crate) snapshot: &'a Arc<Snapshot>,
    pub(crate) added: &'a [SuperfileEntry],
    pub(crate) deleted: &'a BTreeMap<SuperfileId, RoaringBitmap>,
    pub(crate) dropped: &'a [SuperfileId],
}

impl WrittenKeys {
    /// For those keys of a version that rows which are written may break; `schema` are the columns that rows begin with.
    pub(crate) fn of(
        snapshot: &Snapshot,
        schema: &SchemaRef,
        pool: &Arc<dyn MemoryPool>,
        may_break: impl Fn(&UniqueKey) -> bool,
    ) -> Result<Self> {
        let keys = snapshot.metadata().keys.iter().filter(|key| may_break(key));
        let keys = keys
            .map(|key| KeyRows::new(key.clone(), schema, pool))
            .collect::<Result<Vec<_>>>()?;
        let orders = keys.iter().map(|key| key.places.clone()).collect();
        Ok(Self {
            orders: Arc::new(KeyOrders::of(orders)),
            keys,
        })
    }

    /// What the writers of the rows find out.
    pub(crate) fn orders(&self) -> &Arc<KeyOrders> {
        &self.orders
    }

    /// Takes rows that are written in.
    pub(crate) fn add(&self, rows: &RecordBatch) -> Result<()> {
        self.keys.iter().try_for_each(|key| key.add(rows))
    }

    /// The rows do not pass: they are in files that others wrote.
    pub(crate) fn know_nothing(&self) {
        for key in &self.keys {
            let mut gathered = key.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.gatherer.add_unread();
            gathered.rows = usize::MAX;
            gathered.kept = None;
        }
    }

    /// Makes sure that no two rows have one key, and tells which keys were absent.
    ///
    /// # Errors
    /// [`ErrorKind::DuplicateKey`](crate::error::ErrorKind::DuplicateKey).
    pub(crate) async fn check(
        &self,
        check: &KeyCheck<'_>,
        rewritten: &Rewritten<'_>,
    ) -> Result<Vec<AbsentKeys>> {
        let mut all = Vec::new();
        for (index, key) in self.keys.iter().enumerate() {
            if rewritten.added.is_empty() {
                break;
            }
            let ascends = |entry: &SuperfileEntry| self.orders.ascends(entry.id, index);
            let one_by_one = rewritten.added.iter().all(ascends);
            all.extend(key.check(check, rewritten, one_by_one).await?);
        }
        Ok(all)
    }
}

impl KeyRows {
    fn new(key: UniqueKey, schema: &SchemaRef, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let places = places(&key.columns, schema)?;
        let mut ids: Vec<(i32, usize)> = key.columns.iter().copied().zip(0..).collect();
        ids.sort_unstable();
        let (ids, by_id) = ids.into_iter().unzip();
        Ok(Self {
            key,
            places,
            by_id,
            gathered: Mutex::new(Gathered {
                gatherer: KeyGatherer::new(ids),
                rows: 0,
                kept: Some(Vec::new()),
                memory: MemoryConsumer::new("supertable keys").register(pool),
            }),
        })
    }

    fn add(&self, rows: &RecordBatch) -> Result<()> {
        let mut keys = rows.project(&self.places)?;
        if let Some(whole) = whole_rows(keys.columns())? {
            keys = filter_record_batch(&keys, &whole)?;
        }
        let columns: Vec<ArrayRef> = (self.by_id.iter())
            .filter_map(|at| keys.columns().get(*at).cloned())
            .collect();
        let gathered = self.gathered.lock();
        let mut gathered = gathered.unwrap_or_else(PoisonError::into_inner);
        gathered.rows += keys.num_rows();
        gather(&mut gathered.gatherer, &columns)?;
        let bytes = keys.get_array_memory_size();
        let fits = gathered.kept.is_some()
            && gathered.memory.size() + bytes <= KEPT_BYTES
            && gathered.memory.try_grow(bytes).is_ok();
        match &mut gathered.kept {
            Some(kept) if fits => kept.push(keys),
            kept => {
                *kept = None;
                gathered.memory.free();
            }
        }
        Ok(())
    }

    async fn check(
        &self,
        check: &KeyCheck<'_>,
        rewritten: &Rewritten<'_>,
        one_by_one: bool,
    ) -> Result<Option<AbsentKeys>> {
        let added = rewritten.added;
        let (absent, differ, kept, _memory) = {
            let gathered = self.gathered.lock();
            let mut gathered = gathered.unwrap_or_else(PoisonError::into_inner);
            let nothing = KeyGatherer::new(self.key.column_set().into_iter().collect());
            let mut gatherer = std::mem::replace(&mut gathered.gatherer, nothing);
            let differ = gatherer.different() == Some(gathered.rows)
                || (one_by_one && lie_apart(&self.key, added));
            gatherer.complete(added.iter().map(|entry| &entry.stats));
            let (kept, memory) = (gathered.kept.take(), gathered.memory.take());
            (gatherer.finish(false), differ, kept, memory)
        };
        let Some(absent) = absent else {
            return Ok(None);
        };
        let snapshot = rewritten.snapshot;
        let dropped: HashSet<&SuperfileId> = rewritten.dropped.iter().collect();
        let may_hold = |rows: &RowStats<'_>| absent.may_be_in(rows.columns, rows.rows);
        let old = select(snapshot.manifest(), |all| {
            all.iter().map(may_hold).collect()
        });
        let mut old: Vec<Arc<SuperfileEntry>> = (old.into_iter())
            .map(|(_, entry)| Arc::clone(entry))
            .filter(|entry| !dropped.contains(&entry.id))
            .collect();
        if let ([column], Some(values)) = (self.key.columns.as_slice(), few_values(&kept)?) {
            let with = check.superfiles_with(*column, values, snapshot, old.clone());
            let with = with.await?;
            old.retain(|entry| with.contains(&entry.id));
        }
        let old = old.iter();
        let old = live_rows(snapshot, old, rewritten.deleted).await?;
        if differ && old.is_empty() {
            return Ok(Some(absent));
        }
        // A scan is a plan to be executed once: its partitions share out its files.
        let new = || -> Result<Arc<dyn ExecutionPlan>> {
            if let Some(kept) = &kept {
                let schema = Arc::new(check.schema.project(&self.places)?);
                let kept =
                    MemorySourceConfig::try_new_exec(std::slice::from_ref(kept), schema, None)?;
                return Ok(kept);
            }
            let staged = Arc::new(snapshot.with_staged(added)?);
            let mut rows = Subset::default();
            (added.iter()).for_each(|entry| rows.insert(entry.id, Rows::Live));
            check.values_of(&self.key.columns, &staged, &rows)
        };
        match &kept {
            _ if differ => {}
            Some(kept) => check.all_kept_differ(&self.key, kept)?,
            None => check.all_differ(&self.key, new()?).await?,
        }
        if !old.is_empty() {
            check.compared.add(old.len());
            let old = check.values_of(&self.key.columns, snapshot, &old)?;
            check.none_is_there(&self.key, new()?, old).await?;
        }
        Ok(Some(absent))
    }
}

/// Whether no key can be in two of these superfiles.
fn lie_apart(key: &UniqueKey, superfiles: &[SuperfileEntry]) -> bool {
    let first_column = |entry| {
        let stats: &SuperfileEntry = entry;
        let column = stats.stats.columns.get(key.columns.first()?)?;
        Some((column.min.as_ref()?, column.max.as_ref()?))
    };
    if superfiles.len() < 2 {
        return true;
    }
    let Some(mut bounds) = (superfiles.iter().map(first_column)).collect::<Option<Vec<_>>>() else {
        return false;
    };
    bounds.sort_by(|a, b| compare(a.0, b.0).unwrap_or(Ordering::Equal));
    let follows = |pair: &[(&StatValue, &StatValue)]| match pair {
        [(_, max), (min, _)] => compare(max, min) == Some(Ordering::Less),
        _ => true,
    };
    bounds.windows(2).all(follows)
}
